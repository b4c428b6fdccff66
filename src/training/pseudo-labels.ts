/** Files of pseudo-labels: ours, and those that others made. */
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { readNpy } from '../data/npy.js';
import { readSafetensors, writeSafetensors } from '../model/safetensors.js';
import { check, FileError } from '../runtime/errors.js';
import { ops } from '../tensor/ops.js';
import { keep, scope } from '../tensor/scope.js';
import { type Tensor, tensor } from '../tensor/tensor.js';

/** One class for every training image, by the number of classes. */
export interface PseudoLabels extends Disposable {
  /** K to int64 [N], each from 0 to K - 1. */
  readonly labels: ReadonlyMap<number, Tensor>;
  /** N. */
  readonly images: number;
  /** Where they come from, as far as that is known. */
  readonly source: {
    /** The data set's name. */
    readonly data?: string | undefined;
    /** SHA-256 of the training pixels in order, as a run records it in config.json. */
    readonly sha256?: string | undefined;
    readonly encoder?: string | undefined;
    readonly seed?: number | undefined;
  };
  dispose(): void;
}

export interface ReadPseudoLabelsOptions {
  /** How many images the labels must be for. */
  images: number;
  /** SHA-256 of the training pixels: a file that records another is refused. */
  sha256?: string | undefined;
  /** The number of classes, for a file with one list of labels that does not say it. Default: the largest label plus 1. */
  k?: number | undefined;
}

/** How many of the labels are each of `k` classes. @internal */
export const classSizes = (labels: Tensor, k: number): number[] => scope(() => Array.from(ops.aten.bincount(labels, null, k).toTypedArray(), Number));

const SOURCE = 'a_infonce.pseudo_labels';

/**
 * Writes a safetensors file with one int64 tensor [N] for each K, named `k<K>`, and where the labels come from among the metadata.
 * @throws {@link FileError} when it cannot be written
 */
export async function writePseudoLabels(path: string, { labels, images, source }: PseudoLabels): Promise<void> {
  await writeSafetensors(path, [...labels].map(([k, tensor]) => [`k${k}`, tensor] as const), { [SOURCE]: JSON.stringify({ images, ...source }) });
}

/**
 * Reads pseudo-labels, ours or anyone's: `.safetensors` (integer tensors [N]), `.npy` (integers [N]) or `.json` (an array of integers, or an object of
 * such arrays). A tensor or array named `k10` (or `10`) has 10 classes; under another name it has `options.k`, or its largest label plus 1.
 * @throws {@link FileError} naming the file, what was expected of it and what it holds: another number of labels, a label that is no class, labels of other images
 * @example
 * ```ts
 * import { writeFileSync } from 'node:fs';
 * writeFileSync('labels.json', JSON.stringify({ k2: [0, 1, 1, 0], k3: [0, 2, 1, 0] }));
 * using found = await readPseudoLabels('labels.json', { images: 4 });
 * console.log([...found.labels.keys()]);   // [2, 3]
 * ```
 */
export async function readPseudoLabels(path: string, options: ReadPseudoLabelsOptions): Promise<PseudoLabels> {
  check.string('path', path);
  const { images, sha256, k } = check.options('options', options, ['images', 'sha256', 'k']);
  check.integer('options.images', images, { min: 1 });
  if (sha256 !== undefined) check.string('options.sha256', sha256);
  if (k !== undefined) check.integer('options.k', k, { min: 1 });
  const { lists, source } = await read(path);
  const fail = (what: string, expected: string, received: string) => new FileError(path, `${what}: expected ${expected}, got ${received}`);
  if (lists.length === 0) throw fail('labels', 'at least one list of them', 'none');
  if (k !== undefined && lists.length > 1) throw fail('labels', 'one list, since the number of classes is given', `${lists.length}`);
  if (source.images !== undefined && source.images !== images) throw fail('labels', `those of ${images} images`, `those of ${source.images}`);
  if (sha256 !== undefined && source.sha256 !== undefined && source.sha256 !== sha256)
    throw fail('labels', `those of images with SHA-256 ${sha256}`, `those of ${source.data ?? 'others'} with ${source.sha256}`);

  const checked = new Map<number, BigInt64Array>();
  for (const { name, shape, values } of lists) {
    if (shape.length !== 1 || shape[0] !== images) throw fail(name, `labels of ${images} images, shape [${images}]`, `shape [${shape.join(', ')}]`);
    const own = values.map((value, row) => {
      if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) throw fail(`${name}[${row}]`, 'an integer', JSON.stringify(value) ?? String(value));
      return BigInt(value as number | bigint);
    });
    const named = /^k?([1-9]\d{0,8})$/.exec(name)?.[1];
    const largest = own.reduce((most, label) => (label > most ? label : most), 0n);
    const classes = named !== undefined ? Number(named) : k ?? Number(largest) + 1;
    const wrong = own.findIndex((label) => label < 0n || label >= classes);
    if (wrong >= 0) throw fail(`${name}[${wrong}]`, `a label from 0 to ${classes - 1}`, String(own[wrong]));
    if (checked.has(classes)) throw fail(name, 'another number of classes than the lists before', `${classes} again`);
    checked.set(classes, BigInt64Array.from(own));
  }
  const labels = new Map([...checked].map(([classes, values]) => [classes, keep(tensor(values))]));
  const dispose = () => labels.forEach((tensor) => tensor.dispose());
  const { images: _, ...rest } = source;
  return { labels, images, source: rest, dispose, [Symbol.dispose]: dispose };
}

interface List {
  name: string;
  shape: readonly number[];
  values: unknown[];
}
type Source = PseudoLabels['source'] & { images?: number };

async function read(path: string): Promise<{ lists: List[]; source: Source }> {
  switch (extname(path).toLowerCase()) {
    case '.safetensors': {
      const { tensors, metadata } = await readSafetensors(path);
      try {
        return { lists: [...tensors].map(([name, tensor]) => listOf(path, name, tensor, tensor.toTypedArray())), source: sourceOf(path, metadata[SOURCE]) };
      } finally {
        for (const tensor of tensors.values()) tensor.dispose();
      }
    }
    case '.npy': {
      const array = await readNpy(path);
      return { lists: [listOf(path, 'labels', array, array.data)], source: {} };
    }
    case '.json': {
      const value = await readJson(path);
      const lists = Array.isArray(value) ? [['labels', value] as const] : typeof value === 'object' && value !== null ? Object.entries(value) : [];
      return {
        lists: lists.map(([name, values]) => {
          if (!Array.isArray(values)) throw new FileError(path, `${name}: expected an array of integers, got ${JSON.stringify(values).slice(0, 60)}`);
          return { name, shape: [values.length], values };
        }),
        source: {},
      };
    }
    default:
      throw new FileError(path, `expected a .safetensors, .npy or .json file, got '${extname(path)}'`);
  }
}

function listOf(path: string, name: string, { dtype, shape }: { dtype: string; shape: readonly number[] }, values: ArrayLike<unknown>): List {
  if (!/^u?int/.test(dtype)) throw new FileError(path, `${name}: expected integers, got ${dtype}`);
  return { name, shape, values: Array.from(values) };
}

function sourceOf(path: string, text: string | undefined): Source {
  if (text === undefined) return {};
  try {
    const { images, data, sha256, encoder, seed } = JSON.parse(text) as Source;
    return { images, data, sha256, encoder, seed };
  } catch (error) {
    throw new FileError(path, `its metadata ${SOURCE} are not valid JSON (${(error as Error).message})`, { cause: error });
  }
}

async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new FileError(path, error.code === 'ENOENT' ? 'no such file' : `cannot be read (${error.code})`, { cause: error });
  });
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FileError(path, `not valid JSON (${(error as Error).message})`, { cause: error });
  }
}
