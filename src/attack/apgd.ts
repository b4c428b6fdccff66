/** Auto-PGD. */
import type { AttackModel } from '../model/predict.js';
import { check } from '../runtime/errors.js';
import type { JobOptions, StepProgress } from '../runtime/job.js';
import type { Tensor } from '../tensor/tensor.js';
import { type BallOptions, type Watch, resolveBall, runLabelled } from './attack.js';

export interface ApgdOptions extends BallOptions, JobOptions {
  /**
   * What the attack raises. `'ce'` (default): the cross-entropy at the labels. `'dlr'`: the difference of logits ratio, which no scaling of the logits
   * changes; for at least 3 classes. `'dlr-targeted'`: the same towards the likeliest wrong classes, one after the other; for at least 4 classes.
   */
  loss?: 'ce' | 'dlr' | 'dlr-targeted';
  /** Default 100. */
  steps?: number;
  /** Runs from different starts (of each target), on the samples that still stand. Default 1. */
  restarts?: number;
  /** `'dlr-targeted'`: how many classes to try. Default 9; never more than there are wrong classes. */
  targets?: number;
  /** The step halves where less than this share of the steps since the last checkpoint raised the loss. Default 0.75. */
  rho?: number;
  /** The start of a sample depends on the seed, its place in `images`, the target and the restart alone. Default 0. */
  seed?: number;
  /** Images a forward pass. Default 256. */
  batchSize?: number;
  onProgress?: (progress: StepProgress) => void;
}

/** {@link ApgdOptions} with every value decided. */
export type ResolvedApgdOptions = Required<{ [Key in Exclude<keyof ApgdOptions, keyof Watch>]: NonNullable<ApgdOptions[Key]> }>;

const KNOWN = ['norm', 'epsilon', 'loss', 'steps', 'restarts', 'targets', 'rho', 'seed', 'batchSize', 'signal', 'onProgress'] as const satisfies readonly (keyof ApgdOptions)[];

/** @internal */
export function resolveApgdOptions(options: ApgdOptions | undefined): ResolvedApgdOptions {
  const given = check.options('options', options, KNOWN);
  check.function('options.onProgress', given.onProgress);
  return {
    ...resolveBall(given),
    loss: check.oneOf('options.loss', given.loss ?? 'ce', ['ce', 'dlr', 'dlr-targeted']),
    steps: check.integer('options.steps', given.steps ?? 100, { min: 1, max: 1e6 }),
    restarts: check.integer('options.restarts', given.restarts ?? 1, { min: 1, max: 1e4 }),
    targets: check.integer('options.targets', given.targets ?? 9, { min: 1, max: 1e3 }),
    rho: check.finite('options.rho', given.rho ?? 0.75, { above: 0, max: 1 }),
    seed: check.integer('options.seed', given.seed ?? 0, { min: 0 }),
    batchSize: check.integer('options.batchSize', given.batchSize ?? 256, { min: 1 }),
  };
}

/**
 * Auto-PGD (Croce & Hein, ICML 2020): projected gradient descent with momentum, from a random point of the ball's surface, whose step (2 epsilon at first)
 * halves for each sample by itself, from its best point on, when its loss stops rising. Step for step the authors' implementation, except that
 * the ball is kept exactly and that a sample leaves as soon as it is fooled: its adversary is the first one found. Runs off the main thread, on the model
 * in eval mode.
 * @param images `[N, C, H, W]`, float32 or float64, in [0, 1]: normalisation belongs inside the model.
 * @param labels int64 `[N]`.
 * @returns `[N, C, H, W]` of the dtype of `images`: an adversary, or the image itself where none was found (or none was needed).
 * @throws {@link ArgumentRangeError}, {@link ArgumentTypeError} naming the argument; {@link NonFiniteError} naming the first sample whose logits or gradient
 * are NaN or infinite; the signal's reason when aborted; whatever a function model throws.
 * @example
 * ```ts
 * using model = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * using images = rand([4, 3, 32, 32]);
 * using labels = tensor([0, 1, 2, 3], { dtype: 'int64' });
 * using adversarial = await apgd(model, images, labels, { loss: 'dlr', epsilon: 8 / 255, steps: 2 });
 * ```
 */
export async function apgd(model: AttackModel, images: Tensor, labels: Tensor, options?: ApgdOptions): Promise<Tensor> {
  return runLabelled(model, images, labels, { attack: 'apgd', ...resolveApgdOptions(options) }, options);
}
