/** The targeted Fast Adaptive Boundary attack. */
import type { AttackModel } from '../model/predict.js';
import { check } from '../runtime/errors.js';
import type { JobOptions, StepProgress } from '../runtime/job.js';
import type { Tensor } from '../tensor/tensor.js';
import { type BallOptions, type Watch, resolveBall, runLabelled } from './attack.js';

export interface FabOptions extends BallOptions, JobOptions {
  /** Against each target. Default 100. */
  steps?: number;
  /** Runs of each target on the samples that still stand: the first from the image, the others from a random point epsilon/2 away. Default 1. */
  restarts?: number;
  /** How many classes to try, the likeliest wrong ones of the image first. Default 9; never more than there are wrong classes. */
  targets?: number;
  /** Largest share, from 0 to 1, of the step that starts from the image instead of the current point. Default 0.1. */
  alphaMax?: number;
  /** By how much, above 0, steps go past the linearised boundary (1: onto it). Default 1.05. */
  eta?: number;
  /** After success the search goes on from this share, from 0 to 1, of the way from the image to the adversary. Default 0.9. */
  beta?: number;
  /** The random starts of a sample depend on the seed, its place in `images`, the target's rank and the restart alone. Default 0. */
  seed?: number;
  /** Images a forward pass. Default 256. */
  batchSize?: number;
  onProgress?: (progress: StepProgress) => void;
}

/** {@link FabOptions} with every value decided. */
export type ResolvedFabOptions = Required<{ [Key in Exclude<keyof FabOptions, keyof Watch>]: NonNullable<FabOptions[Key]> }>;

const KNOWN = [
  'norm', 'epsilon', 'steps', 'restarts', 'targets', 'alphaMax', 'eta', 'beta', 'seed', 'batchSize', 'signal', 'onProgress',
] as const satisfies readonly (keyof FabOptions)[];

/** @internal */
export function resolveFabOptions(options: FabOptions | undefined): ResolvedFabOptions {
  const given = check.options('options', options, KNOWN);
  check.function('options.onProgress', given.onProgress);
  return {
    ...resolveBall(given),
    steps: check.integer('options.steps', given.steps ?? 100, { min: 1, max: 1e6 }),
    restarts: check.integer('options.restarts', given.restarts ?? 1, { min: 1, max: 1e4 }),
    targets: check.integer('options.targets', given.targets ?? 9, { min: 1, max: 1e3 }),
    alphaMax: check.finite('options.alphaMax', given.alphaMax ?? 0.1, { min: 0, max: 1 }),
    eta: check.finite('options.eta', given.eta ?? 1.05, { above: 0 }),
    beta: check.finite('options.beta', given.beta ?? 0.9, { min: 0, max: 1 }),
    seed: check.integer('options.seed', given.seed ?? 0, { min: 0 }),
    batchSize: check.integer('options.batchSize', given.batchSize ?? 256, { min: 1 }),
  };
}

/**
 * FAB-T, the targeted Fast Adaptive Boundary attack (Croce & Hein, ICML 2020) as AutoAttack runs it: against each of the likeliest wrong classes it
 * walks along the decision boundary towards the image, projecting exactly onto the linearised boundary within the box [0, 1], and keeps the
 * nearest adversary of the first class that gives one within epsilon. Iteration for iteration the authors' implementation, with the projections in
 * double precision. Runs off the main thread, on the model in eval mode.
 * @param images `[N, C, H, W]`, float32 or float64, in [0, 1]: normalisation belongs inside the model.
 * @param labels int64 `[N]`.
 * @returns `[N, C, H, W]` of the dtype of `images`: an adversary within epsilon, or the image itself where none was found (or none was needed).
 * @throws {@link ArgumentRangeError}, {@link ArgumentTypeError} naming the argument; {@link NonFiniteError} naming the first sample whose logits or gradient
 * are NaN or infinite; the signal's reason when aborted; whatever a function model throws.
 * @example
 * ```ts
 * using model = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * using images = rand([4, 3, 32, 32]);
 * using labels = tensor([0, 1, 2, 3], { dtype: 'int64' });
 * using adversarial = await fab(model, images, labels, { epsilon: 8 / 255, targets: 2, steps: 2 });
 * ```
 */
export async function fab(model: AttackModel, images: Tensor, labels: Tensor, options?: FabOptions): Promise<Tensor> {
  return runLabelled(model, images, labels, { attack: 'fab', ...resolveFabOptions(options) }, options);
}
