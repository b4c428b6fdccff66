/** Random views of images, computed natively from bytes on all cores. */
import type { NativePipeline, TensorHandle } from '../runtime/addon.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { job, type JobOptions } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import { Tensor } from '../tensor/tensor.js';
import { Split, type Indices } from './dataset.js';

/** Two numbers, low first. */
export type Range = readonly [low: number, high: number];

/**
 * A pipeline of random operations with torchvision's semantics. Geometry comes first (crop, then flip), color second (jitter, then grayscale); with
 * `colorFirst` the other way round. What is left out does not happen.
 */
export interface Pipeline {
  /** Height and width of the result. Default: those of the images. */
  size?: number;
  /** RandomResizedCrop: a box of `scale` of the area and of an aspect ratio in `ratio` (default 3/4 to 4/3, log-uniform), resized to `size`. */
  resizedCrop?: { scale: Range; ratio?: Range };
  /** RandomCrop: a box of `size` out of the image with this many black pixels around it. Not together with `resizedCrop`. */
  padding?: number;
  /** Probability of a horizontal flip. */
  flip?: number;
  /**
   * ColorJitter with a probability: the four operations in random order, factors uniform in [max(0, 1 - x), 1 + x], hue shifted by [-hue, hue] turns.
   * Gray images take brightness and contrast alone.
   */
  jitter?: { probability: number; brightness?: number; contrast?: number; saturation?: number; hue?: number };
  /** Probability that all three channels become the gray image (0.299 R + 0.587 G + 0.114 B). */
  grayscale?: number;
  /** Color before geometry. */
  colorFirst?: boolean;
}

const crop = (least: number) => ({ scale: [least, 1] as [number, number], ratio: [3 / 4, 4 / 3] as [number, number] });
const jitter = { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };

/** The views of the paper's runs: RoCL's, AdvCL's two strong ones, AdvCL's weak one (also used in fine-tuning), and the plain image. */
export const PIPELINES = {
  'rocl': { jitter, grayscale: 0.2, flip: 0.5, resizedCrop: crop(0.08), colorFirst: true },
  'advcl-strong': { resizedCrop: crop(0.2), flip: 0.5, jitter, grayscale: 0.2 },
  'weak': { padding: 4, flip: 0.5 },
  'none': {},
} as const satisfies Record<string, Pipeline>;

/** The name of a pipeline of {@link PIPELINES}. */
export type PipelineName = keyof typeof PIPELINES;

/** What to draw. The same four values and the same sample give the same bits, in any batch, at any thread count. */
export interface AugmentOptions {
  pipeline: PipelineName | Pipeline;
  /** Default 0. */
  seed?: number;
  /** Default 0. */
  epoch?: number;
  /** Which view of the sample, 0 to 65535. Default 0. */
  view?: number;
}

/**
 * One random view of each image, off the main thread: float32 [n, C, size, size].
 *
 * Each image is one random function of (seed, epoch, its row in `split`, view). Computed in float32 throughout, where torchvision on Pillow images
 * rounds to bytes between the operations; resizing is bilinear with antialiasing, as Pillow does it and torchvision by default.
 * @throws ArgumentRangeError for rows that the split does not have, or a pipeline that cannot work
 * @example
 * ```ts
 * using data = await openDataset('procedural');
 * using view = await augment(data.train, [0, 1, 2], { pipeline: 'rocl', seed: 1, epoch: 0, view: 0 });
 * ```
 */
export async function augment(split: Split, indices: Indices, options: AugmentOptions & JobOptions): Promise<Tensor> {
  const { signal, ...draw } = options;
  const { pipeline, seed, epoch, view } = resolve(split, draw);
  // The rows live until the job has taken them; the result belongs to the caller's scope.
  const start = () => scope(() => native().augment(split.pixels.handle, split.rows(indices).handle, { ...pipeline, seed, epoch, view }));
  return Tensor.wrap(await job<TensorHandle>(start, signal));
}

/** {@link augment} on the calling thread. */
export function augmentSync(split: Split, indices: Indices, options: AugmentOptions): Tensor {
  const drawn = keywords(resolve(split, options));
  return scope(() => ops.a_infonce.augment(split.pixels, split.rows(indices), drawn));
}

/**
 * What {@link augment} would do, as float64 [n, 11]: top, left, height, width of the box; flip; gray; the order of the jitter operations (0 to 23,
 * lexicographic, -1 for none); the factors of brightness, contrast, saturation; the shift of hue in turns.
 */
export function augmentChoices(split: Split, indices: Indices, options: AugmentOptions): Tensor {
  const drawn = keywords(resolve(split, options));
  return scope(() => ops.a_infonce.augment_choices(split.pixels, split.rows(indices), drawn));
}

/**
 * The high-frequency component of square images [..., S, S]: the disc of `radius` (default 8) around the zero frequency is removed from their spectrum.
 * Not clamped to [0, 1]. Differentiable.
 */
export function highFrequency(images: Tensor, radius = 8): Tensor {
  return ops.a_infonce.high_frequency(images, check.finite('radius', radius, { min: 0 }));
}

interface Resolved {
  pipeline: NativePipeline;
  seed: number;
  epoch: number;
  view: number;
}

function resolve(split: Split, options: AugmentOptions): Resolved {
  if (!(split instanceof Split)) throw new ArgumentTypeError('split', 'a Split', describe(split));
  const { pipeline, seed = 0, epoch = 0, view = 0 } = check.options('options', options, ['pipeline', 'seed', 'epoch', 'view']);
  const custom: Pipeline = typeof pipeline === 'string'
    ? PIPELINES[check.oneOf('options.pipeline', pipeline, Object.keys(PIPELINES) as PipelineName[])]
    : required('options.pipeline', pipeline);
  const at = 'options.pipeline';
  check.options(at, custom, ['size', 'resizedCrop', 'padding', 'flip', 'jitter', 'grayscale', 'colorFirst']);
  const { size = split.size, resizedCrop, padding = 0, flip = 0, grayscale = 0, colorFirst = false } = custom;
  if (resizedCrop !== undefined && padding !== 0) throw new ArgumentRangeError(`${at}.padding`, '0 together with resizedCrop', String(padding));
  check.options(`${at}.resizedCrop`, resizedCrop, ['scale', 'ratio']);
  const { probability = 0, brightness = 0, contrast = 0, saturation = 0, hue = 0 } =
    check.options(`${at}.jitter`, custom.jitter, ['probability', 'brightness', 'contrast', 'saturation', 'hue']);
  return {
    seed: check.integer('options.seed', seed, { min: 0 }),
    epoch: check.integer('options.epoch', epoch, { min: 0, max: 2 ** 40 - 1 }),
    view: check.integer('options.view', view, { min: 0, max: 2 ** 16 - 1 }),
    pipeline: {
      size, scale: resizedCrop && range(`${at}.resizedCrop.scale`, resizedCrop.scale),
      ratio: range(`${at}.resizedCrop.ratio`, resizedCrop?.ratio ?? [3 / 4, 4 / 3]),
      padding, flip, jitter: probability, brightness, contrast, saturation, hue, gray: grayscale, colorFirst,
    },
  };
}

function required(argument: string, value: unknown): Pipeline {
  if (typeof value !== 'object' || value === null) throw new ArgumentTypeError(argument, 'the name of a pipeline or an object', describe(value));
  return value;
}

function range(argument: string, value: unknown): Range {
  if (!Array.isArray(value) || value.length !== 2) throw new ArgumentTypeError(argument, 'two numbers, low first', describe(value));
  return [check.finite(`${argument}[0]`, value[0], { above: 0 }), check.finite(`${argument}[1]`, value[1], { min: value[0] as number })];
}

function keywords({ pipeline: p, seed, epoch, view }: Resolved) {
  return {
    seed, epoch, view, size: p.size, scale: p.scale ?? [], ratio: p.ratio, padding: p.padding, flip: p.flip,
    jitter: [p.brightness, p.contrast, p.saturation, p.hue], jitter_probability: p.jitter, gray: p.gray, color_first: p.colorFirst,
  };
}
