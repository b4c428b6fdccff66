/** Square Attack. */
import type { AttackModel } from '../model/predict.js';
import { check } from '../runtime/errors.js';
import type { JobOptions, StepProgress } from '../runtime/job.js';
import type { Tensor } from '../tensor/tensor.js';
import { type BallOptions, type Watch, resolveBall, runLabelled } from './attack.js';

export interface SquareOptions extends BallOptions, JobOptions {
  /** Proposals for each sample, after the start. Default 5000. */
  queries?: number;
  /** Share of the pixels that the first squares cover, above 0 and at most 1. Default 0.8. */
  pInit?: number;
  /**
   * Whether the squares shrink in proportion to `queries`, over which the paper's schedule for 10000 is stretched (default), or at the paper's
   * queries 10, 50, 200, ... whatever their number. The authors' SquareAttack does the former by default, their AutoAttack the latter.
   */
  rescaleSchedule?: boolean;
  /** Runs from different starts, on the samples that still stand. Default 1. */
  restarts?: number;
  /** What a sample draws depends on the seed, its place in `images`, the restart and the query alone. Default 0. */
  seed?: number;
  /** Images a forward pass. Default 256. */
  batchSize?: number;
  /** Called after every query of every batch. */
  onProgress?: (progress: StepProgress) => void;
}

/** {@link SquareOptions} with every value decided. */
export type ResolvedSquareOptions = Required<{ [Key in Exclude<keyof SquareOptions, keyof Watch>]: NonNullable<SquareOptions[Key]> }>;

const KNOWN = [
  'norm', 'epsilon', 'queries', 'pInit', 'rescaleSchedule', 'restarts', 'seed', 'batchSize', 'signal', 'onProgress',
] as const satisfies readonly (keyof SquareOptions)[];

/** @internal */
export function resolveSquareOptions(options: SquareOptions | undefined): ResolvedSquareOptions {
  const given = check.options('options', options, KNOWN);
  check.function('options.onProgress', given.onProgress);
  return {
    ...resolveBall(given),
    queries: check.integer('options.queries', given.queries ?? 5000, { min: 1, max: 1e7 }),
    pInit: check.finite('options.pInit', given.pInit ?? 0.8, { above: 0, max: 1 }),
    rescaleSchedule: check.boolean('options.rescaleSchedule', given.rescaleSchedule ?? true),
    restarts: check.integer('options.restarts', given.restarts ?? 1, { min: 1, max: 1e4 }),
    seed: check.integer('options.seed', given.seed ?? 0, { min: 0 }),
    batchSize: check.integer('options.batchSize', given.batchSize ?? 256, { min: 1 }),
  };
}

/**
 * Square Attack (Andriushchenko et al., ECCV 2020) as AutoAttack runs it: random search over perturbations of square windows, accepting what lowers the
 * margin between the label's logit and the highest other one. A black box: it asks for logits, never for gradients, and the function models may
 * therefore be anything. Each sample draws its own windows; samples that are fooled leave the batch. Runs off the main thread, on the model in eval
 * mode.
 * @param images `[N, C, H, W]`, float32 or float64, in [0, 1]: normalisation belongs inside the model. At least 5 x 5 pixels for l2.
 * @param labels int64 `[N]`.
 * @returns `[N, C, H, W]` of the dtype of `images`: the first adversary found, or the image itself where none was found (or none was needed).
 * @throws {@link ArgumentRangeError}, {@link ArgumentTypeError} naming the argument; {@link NonFiniteError} naming the first sample whose logits are NaN or
 * infinite; the signal's reason when aborted; whatever a function model throws.
 * @example
 * ```ts
 * using model = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * using images = rand([4, 3, 32, 32]);
 * using labels = tensor([0, 1, 2, 3], { dtype: 'int64' });
 * using adversarial = await square(model, images, labels, { epsilon: 8 / 255, queries: 10 });
 * ```
 */
export async function square(model: AttackModel, images: Tensor, labels: Tensor, options?: SquareOptions): Promise<Tensor> {
  return runLabelled(model, images, labels, { attack: 'square', ...resolveSquareOptions(options) }, options);
}
