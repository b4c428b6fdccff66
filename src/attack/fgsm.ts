/** The two attacks that are projected gradient descent with other values: one long step, and steps with momentum. */
import type { AttackModel } from '../model/predict.js';
import { check } from '../runtime/errors.js';
import type { JobOptions, StepProgress } from '../runtime/job.js';
import type { Tensor } from '../tensor/tensor.js';
import type { BallOptions } from './attack.js';
import { type ResolvedPgdOptions, resolvePgdOptions, runPgd } from './pgd.js';

export interface FgsmOptions extends BallOptions, JobOptions {
  /** Read `labels` as classes to reach instead of classes to leave. Default false. */
  targeted?: boolean;
  /** Images a forward pass. Default 256. */
  batchSize?: number;
  /** Called after every batch; for {@link mim} after every step of every batch. */
  onProgress?: (progress: StepProgress) => void;
}

export interface MimOptions extends FgsmOptions {
  /** Default 10. */
  steps?: number;
  /** Length of a step, in units of pixels. Default epsilon / steps. */
  stepSize?: number;
  /** Share of the steps before in the direction of a step. Default 1. */
  momentum?: number;
}

const FGSM = ['norm', 'epsilon', 'targeted', 'batchSize', 'signal', 'onProgress'] as const satisfies readonly (keyof FgsmOptions)[];

/** @internal */
export function resolveFgsmOptions(options: FgsmOptions | undefined): ResolvedPgdOptions {
  const { signal: _, ...given } = check.options('options', options, FGSM);
  const { epsilon } = resolvePgdOptions(given);
  return resolvePgdOptions({ ...given, stepSize: epsilon, steps: 1, randomStart: false });
}

/** @internal */
export function resolveMimOptions(options: MimOptions | undefined): ResolvedPgdOptions {
  const { signal: _, ...given } = check.options('options', options, [...FGSM, 'steps', 'stepSize', 'momentum']);
  const { epsilon, steps, momentum } = resolvePgdOptions({ ...given, steps: given.steps ?? 10, momentum: given.momentum ?? 1 });
  return resolvePgdOptions({ ...given, steps, momentum, stepSize: given.stepSize ?? epsilon / Math.max(1, steps), randomStart: false });
}

/**
 * The fast gradient sign method (Goodfellow et al., ICLR 2015): one step of length epsilon from the image along the sign of the gradient of the
 * cross-entropy (`'l2'`: along the gradient). A weak attack, for comparison; see {@link pgd} for what is checked, returned and thrown.
 * @param images `[N, C, H, W]`, float32 or float64, in [0, 1].
 * @param labels int64 `[N]`.
 * @returns `[N, C, H, W]` of the dtype of `images`.
 * @example
 * ```ts
 * using model = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * using images = rand([4, 3, 32, 32]);
 * using labels = tensor([0, 1, 2, 3], { dtype: 'int64' });
 * using adversarial = await fgsm(model, images, labels, { epsilon: 8 / 255 });
 * ```
 */
export async function fgsm(model: AttackModel, images: Tensor, labels: Tensor, options?: FgsmOptions): Promise<Tensor> {
  return runPgd(model, images, labels, resolveFgsmOptions(options), watch(options));
}

/**
 * The momentum iterative method (Dong et al., CVPR 2018): steps from the image along the accumulated direction `momentum * direction + grad / |grad|_1`
 * (its sign for `'linf'`). See {@link pgd} for what is checked, returned and thrown.
 * @param images `[N, C, H, W]`, float32 or float64, in [0, 1].
 * @param labels int64 `[N]`.
 * @returns `[N, C, H, W]` of the dtype of `images`.
 * @example
 * ```ts
 * using model = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * using images = rand([4, 3, 32, 32]);
 * using labels = tensor([0, 1, 2, 3], { dtype: 'int64' });
 * using adversarial = await mim(model, images, labels, { epsilon: 8 / 255, steps: 2 });
 * ```
 */
export async function mim(model: AttackModel, images: Tensor, labels: Tensor, options?: MimOptions): Promise<Tensor> {
  return runPgd(model, images, labels, resolveMimOptions(options), watch(options));
}

const watch = ({ signal, onProgress }: FgsmOptions = {}) => ({ signal, onProgress });
