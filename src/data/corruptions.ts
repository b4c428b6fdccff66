/** The published corrupted test sets, CIFAR-10-C and CIFAR-100-C: https://zenodo.org/records/2535967, https://zenodo.org/records/3555552. */
import { join, resolve } from 'node:path';
import { check, FileError } from '../runtime/errors.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import { tensor } from '../tensor/tensor.js';
import { CORRUPTIONS, SEVERITIES, type CorruptionName, type Severity } from './corrupt.js';
import { Split } from './dataset.js';
import { kindOf } from './files.js';
import { readNpy, readNpyHeader } from './npy.js';

/** Four more that the published sets carry, meant for validation. */
export const EXTRA_CORRUPTIONS = ['speckle-noise', 'gaussian-blur', 'spatter', 'saturate'] as const;
/** A corruption of the published files: one of the fifteen, or one of {@link EXTRA_CORRUPTIONS}. */
export type PublishedCorruption = CorruptionName | (typeof EXTRA_CORRUPTIONS)[number];

const LABELS = 'labels.npy';
/** @internal */
export const publishedFile = (folder: string, type: PublishedCorruption) => join(folder, `${type.replaceAll('-', '_')}.npy`);

/** A folder of published corruptions, as {@link openCorruptions} found it. Nothing but the labels is kept in memory. */
export interface CorruptedSet {
  readonly folder: string;
  /** What there is, in the order of {@link CORRUPTIONS}, then {@link EXTRA_CORRUPTIONS}. */
  readonly types: readonly PublishedCorruption[];
  /** Images of each type and severity. */
  readonly length: number;
  /** Their height and width. */
  readonly size: number;
  /** The class of every image; the same for each type and severity. */
  readonly labels: readonly number[];
  /**
   * Reads the images of a type and severity; the caller disposes the split.
   * @throws FileError when there is no such file; ArgumentRangeError for a type or severity that does not exist
   */
  open(type: PublishedCorruption, severity: Severity): Promise<Split>;
}

/**
 * Opens a folder of CIFAR-10-C or CIFAR-100-C: labels.npy and `<type>.npy`, uint8 [5 n, S, S, 3] with the five severities one after the other.
 * @throws FileError for a file that is missing, damaged, or of another shape or type than the others
 */
export async function openCorruptions(folder: string): Promise<CorruptedSet> {
  const root = resolve(check.string('folder', folder));
  if ((await kindOf(root)) !== 'folder') throw new FileError(root, 'there is no such folder');
  const types: PublishedCorruption[] = [];
  for (const type of [...CORRUPTIONS, ...EXTRA_CORRUPTIONS]) if ((await kindOf(publishedFile(root, type))) === 'file') types.push(type);
  const [first] = types;
  if (first === undefined) throw new FileError(root, `expected files of CIFAR-10-C or CIFAR-100-C (gaussian_noise.npy, ..., ${LABELS}), got none`);

  const [rows, side] = (await readNpyHeader(publishedFile(root, first))).shape as [number, number];
  for (const type of types) {
    const { dtype, shape } = await readNpyHeader(publishedFile(root, type));
    const fits = dtype === 'uint8' && shape.length === 4 && shape[3] === 3 && shape[1] === shape[2] && shape[0]! > 0 && shape[0]! % SEVERITIES.length === 0;
    if (!fits) throw new FileError(publishedFile(root, type), `expected uint8 of shape [5 n, S, S, 3], got ${dtype} of shape [${shape.join(', ')}]`);
    if (shape[0] !== rows || shape[1] !== side)
      throw new FileError(publishedFile(root, type), `expected shape [${rows}, ${side}, ${side}, 3] as in ${first}, got [${shape.join(', ')}]`);
  }
  const length = rows / SEVERITIES.length;
  const labels = await readLabels(join(root, LABELS), length);
  return {
    folder: root, types, length, size: side, labels,
    async open(type, severity) {
      check.oneOf('type', type, [...CORRUPTIONS, ...EXTRA_CORRUPTIONS]);
      check.integer('severity', severity, { min: 1, max: SEVERITIES.length });
      const { data, shape } = await readNpy(publishedFile(root, type), { start: (severity - 1) * length, end: severity * length });
      if (!(data instanceof Uint8Array) || shape.join() !== [length, side, side, 3].join())
        throw new FileError(publishedFile(root, type), 'it is another file than the one that was opened');
      return scope(() => Split.own(
        ops.aten.contiguous(ops.aten.permute(tensor(data, { shape }), [0, 3, 1, 2])),
        tensor(BigInt64Array.from(labels, BigInt), { shape: [length] }),
      ));
    },
  };
}

/** One label an image; the published files repeat them for each severity. */
async function readLabels(path: string, length: number): Promise<number[]> {
  const { data, shape, dtype } = await readNpy(path);
  if (!/^u?int/.test(dtype) || shape.length !== 1 || (shape[0] !== length && shape[0] !== SEVERITIES.length * length))
    throw new FileError(path, `expected ${SEVERITIES.length * length} integers, got ${dtype} of shape [${shape.join(', ')}]`);
  const labels = Array.from(data, Number);
  const bad = labels.findIndex((label, k) => label < 0 || label !== labels[k % length]);
  if (bad >= 0) throw new FileError(path, `expected labels of at least 0, the same for each severity, got ${labels[bad]} at ${bad}`);
  return labels.slice(0, length);
}
