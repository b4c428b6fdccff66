/** The L2 attack of Carlini & Wagner. */
import type { AttackModel } from '../model/predict.js';
import { check } from '../runtime/errors.js';
import type { JobOptions, StepProgress } from '../runtime/job.js';
import type { Tensor } from '../tensor/tensor.js';
import { type Watch, runLabelled } from './attack.js';

export interface CarliniWagnerOptions extends JobOptions {
  /** Euclidean distance from the image beyond which an adversary does not count, in units of pixels in [0, 1]. Default null: every adversary counts. */
  epsilon?: number | null;
  /** Steps of Adam for each constant. Default 1000. */
  steps?: number;
  /** How many constants to try; from 10 on the last is the smallest that succeeded. Default 9. */
  searchSteps?: number;
  /** The first constant c, the weight of misclassification against distance. Default 0.001. */
  initialC?: number;
  /** Adam's, in the space of w. Default 0.01. */
  learningRate?: number;
  /** By how much, at least 0, the logit of the adversary's class must beat the label's. Default 0. */
  confidence?: number;
  /** Leave a constant, for each sample by itself, once a tenth of the steps has not lowered the loss by 0.01 %. Default true. */
  abortEarly?: boolean;
  /** Read `labels` as classes to reach instead of classes to leave. Default false. */
  targeted?: boolean;
  /** Images a forward pass. Default 256. */
  batchSize?: number;
  onProgress?: (progress: StepProgress) => void;
}

/** {@link CarliniWagnerOptions} with every value decided. */
export type ResolvedCarliniWagnerOptions = Required<Omit<CarliniWagnerOptions, keyof Watch>>;

const KNOWN = [
  'epsilon', 'steps', 'searchSteps', 'initialC', 'learningRate', 'confidence', 'abortEarly', 'targeted', 'batchSize', 'signal', 'onProgress',
] as const satisfies readonly (keyof CarliniWagnerOptions)[];

/** @internal */
export function resolveCarliniWagnerOptions(options: CarliniWagnerOptions | undefined): ResolvedCarliniWagnerOptions {
  const given = check.options('options', options, KNOWN);
  check.function('options.onProgress', given.onProgress);
  return {
    epsilon: given.epsilon === undefined || given.epsilon === null ? null : check.finite('options.epsilon', given.epsilon, { min: 0 }),
    steps: check.integer('options.steps', given.steps ?? 1000, { min: 1, max: 1e6 }),
    searchSteps: check.integer('options.searchSteps', given.searchSteps ?? 9, { min: 1, max: 100 }),
    initialC: check.finite('options.initialC', given.initialC ?? 1e-3, { above: 0 }),
    learningRate: check.finite('options.learningRate', given.learningRate ?? 0.01, { above: 0 }),
    confidence: check.finite('options.confidence', given.confidence ?? 0, { min: 0 }),
    abortEarly: check.boolean('options.abortEarly', given.abortEarly ?? true),
    targeted: check.boolean('options.targeted', given.targeted ?? false),
    batchSize: check.integer('options.batchSize', given.batchSize ?? 256, { min: 1 }),
  };
}

/**
 * The L2 attack of Carlini & Wagner (IEEE S&P 2017): seeks the adversary nearest to the image by Adam on
 * `|x' - x|^2 + c max(margin + confidence, 0)`, where x' = (tanh(w) + 1)/2 keeps to the box, with a binary search for each sample's c. It has no ball:
 * the distance it ends at is the result, and `epsilon` only tells from where on an adversary no longer counts. Runs off the main thread, on the model in
 * eval mode.
 * @param images `[N, C, H, W]`, float32 or float64, in [0, 1]: normalisation belongs inside the model.
 * @param labels int64 `[N]`.
 * @returns `[N, C, H, W]` of the dtype of `images`: the nearest adversary found, or the image itself where none was found (or none was needed).
 * @throws {@link ArgumentRangeError}, {@link ArgumentTypeError} naming the argument; {@link NonFiniteError} naming the first sample whose logits or gradient
 * are NaN or infinite; the signal's reason when aborted; whatever a function model throws.
 * @example
 * ```ts
 * using model = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * using images = rand([4, 3, 32, 32]);
 * using labels = tensor([0, 1, 2, 3], { dtype: 'int64' });
 * using nearest = await carliniWagner(model, images, labels, { steps: 3, searchSteps: 2, initialC: 1 });
 * ```
 */
export async function carliniWagner(model: AttackModel, images: Tensor, labels: Tensor, options?: CarliniWagnerOptions): Promise<Tensor> {
  return runLabelled(model, images, labels, { attack: 'carlini-wagner', ...resolveCarliniWagnerOptions(options) }, options);
}
