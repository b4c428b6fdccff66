/** Common corruptions of images, generated natively: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness" (ICLR 2019). */
import { availableParallelism } from 'node:os';
import type { TensorHandle } from '../runtime/addon.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { job, type JobOptions } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { checkImages } from '../tensor/check.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import { Tensor, tensor } from '../tensor/tensor.js';
import { Split, toFloat } from './dataset.js';
import { loadSharp } from './sharp.js';

/** The fifteen corruptions, in the order and under the names of CIFAR-10-C's files, with dashes. */
export const CORRUPTIONS = [
  'gaussian-noise', 'shot-noise', 'impulse-noise', 'defocus-blur', 'glass-blur', 'motion-blur', 'zoom-blur', 'snow', 'frost', 'fog', 'brightness',
  'contrast', 'elastic-transform', 'pixelate', 'jpeg-compression',
] as const;
export type CorruptionName = (typeof CORRUPTIONS)[number];

/** How strong: 1 to 5. */
export type Severity = 1 | 2 | 3 | 4 | 5;
export const SEVERITIES = [1, 2, 3, 4, 5] as const satisfies readonly Severity[];

export interface CorruptOptions {
  type: CorruptionName;
  severity: Severity;
  /** What is random follows from it and from an image's row. Default 0. */
  seed?: number;
  /** The row that the first image counts as, for a tensor that is a part of a larger set. Default 0. */
  first?: number;
}

/** Stands beside numbers of generated frost. @internal */
export const FROST_NOTE =
  "Generated frost is a procedural texture in place of the authors' photographs: these numbers, and means over them, compare models with each other, not with published ones.";

const JPEG_QUALITY = [80, 65, 58, 50, 40] as const;
const LEAST_SIDE = 8;

/**
 * Images with a common corruption, made off the main thread. The parameters are those of CIFAR-10-C whatever the size of the images, and results are
 * bytes rounded down as its files are. Each image is a function of (seed, its row, type, severity) and of its bytes: no batch or thread count changes it.
 * Frost is a procedural texture in place of the authors' photographs; JPEG is sharp's.
 * @param images a split, which gives a split with the same labels, its owner's to dispose; or a tensor [N, 1 or 3, H, W] with sides of at least 8, uint8
 * or float32 in [0, 1] (rounded to bytes first), which gives one of its type
 * @throws ArgumentRangeError, ArgumentTypeError naming the argument; the signal's reason when aborted
 * @example
 * ```ts
 * const data = proceduralDataset({ train: 10, test: 20 });
 * using foggy = await corrupt(data.test, { type: 'fog', severity: 3, seed: 1 });   // a Split
 * using image = await corrupt(rand([1, 3, 32, 32]), { type: 'shot-noise', severity: 5 });   // float32 [1, 3, 32, 32]
 * ```
 */
export async function corrupt(images: Split, options: CorruptOptions & JobOptions): Promise<Split>;
export async function corrupt(images: Tensor, options: CorruptOptions & JobOptions): Promise<Tensor>;
export async function corrupt(images: Split | Tensor, options: CorruptOptions & JobOptions): Promise<Split | Tensor> {
  const { type, severity, seed = 0, first = 0, signal } = check.options('options', options, ['type', 'severity', 'seed', 'first', 'signal']);
  check.oneOf('options.type', type, CORRUPTIONS);
  check.integer('options.severity', severity, { min: 1, max: SEVERITIES.length });
  check.integer('options.seed', seed, { min: 0 });
  check.integer('options.first', first, { min: 0 });
  check.signal('options.signal', signal)?.throwIfAborted();
  if (!(images instanceof Split) && !(images instanceof Tensor)) throw new ArgumentTypeError('images', 'a Split or a tensor', describe(images));
  if (images instanceof Split) return Split.own(await corruptBytes('images', images.pixels, { type, severity, seed, first }, signal), images.labels());
  if (images.dtype === 'uint8') return corruptBytes('images', images, { type, severity, seed, first }, signal);
  checkImages('images', images);
  return scope(async () => {
    const within = ops.aten.logical_and(ops.aten.ge(images, 0), ops.aten.le(images, 1));
    if (ops.aten.all(within).item() === 0) throw new ArgumentRangeError('images', 'values from 0 to 1', 'others, or NaN');
    const bytes = ops.aten.round(ops.aten.mul(images, 255)).to({ dtype: 'uint8' });
    return toFloat(await corruptBytes('images', bytes, { type, severity, seed, first }, signal)).to({ dtype: images.dtype });
  });
}

/** @internal uint8 [N, 1 or 3, H, W] to the same; the options are checked already. */
export async function corruptBytes(argument: string, pixels: Tensor, options: Required<CorruptOptions>, signal?: AbortSignal): Promise<Tensor> {
  checkCorruptible(argument, pixels);
  const count = pixels.shape[0]!;
  const { type, severity, seed, first } = options;
  if (type === 'jpeg-compression') return jpeg(pixels, JPEG_QUALITY[severity - 1]!, signal);
  const start = () => scope(() => {
    const samples = tensor(BigInt64Array.from({ length: count }, (_, row) => BigInt(first + row)), { shape: [count] });
    return native().corrupt(pixels.handle, samples.handle, { type, severity, seed });
  });
  return Tensor.wrap(await job<TensorHandle>(start, signal));
}

/** @internal Throws unless images of this shape can be corrupted. */
export function checkCorruptible(argument: string, { shape }: Tensor): void {
  const [, channels, height, width] = shape as [number, number, number, number];
  if (shape.length !== 4 || (channels !== 1 && channels !== 3) || height < LEAST_SIDE || width < LEAST_SIDE)
    throw new ArgumentRangeError(argument, `shape [images, 1 or 3, height, width] with sides of at least ${LEAST_SIDE}`, `[${shape.join(', ')}]`);
}

/** Each image through libjpeg and back: its standard tables at `quality`, chroma halved, as Pillow writes them. */
async function jpeg(pixels: Tensor, quality: number, signal?: AbortSignal): Promise<Tensor> {
  const sharp = await loadSharp();
  const [count, channels, height, width] = pixels.shape as [number, number, number, number];
  const raw = { height, width, channels: channels as 1 | 3 };
  const plane = height * width, size = channels * plane;
  const bytes = pixels.toTypedArray() as Uint8Array;
  const through = async (image: Uint8Array) => {
    const interleaved = new Uint8Array(size);
    for (let c = 0, from = 0; c < channels; c++) for (let to = c; to < size; to += channels) interleaved[to] = image[from++]!;
    const file = await sharp(interleaved, { raw }).jpeg({ quality, chromaSubsampling: '4:2:0', mozjpeg: false }).toBuffer();
    const data = await sharp(file).toColourspace(channels === 1 ? 'b-w' : 'srgb').raw().toBuffer();
    for (let c = 0, to = 0; c < channels; c++) for (let from = c; from < size; from += channels) image[to++] = data[from]!;
  };
  let next = 0;
  const worker = async () => {
    for (let k = next++; k < count; k = next++) {
      signal?.throwIfAborted();
      await through(bytes.subarray(k * size, (k + 1) * size));
    }
  };
  await Promise.all(Array.from({ length: 2 * availableParallelism() }, worker));
  return tensor(bytes, { shape: [count, channels, height, width] });
}
