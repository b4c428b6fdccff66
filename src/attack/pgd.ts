/** Projected gradient descent on the images of a batch. */
import type { AttackModel } from '../model/predict.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import type { JobOptions, StepProgress } from '../runtime/job.js';
import { checkImages, checkLabels } from '../tensor/check.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';
import { resolveBall, resolveStep, runAttack } from './attack.js';

export interface PgdOptions extends JobOptions {
  /** The ball: largest change of a pixel (`'linf'`, default) or Euclidean length of the change of an image (`'l2'`). */
  norm?: 'linf' | 'l2';
  /** Radius of the ball, in units of pixels in [0, 1]: at most 1 for linf. Default 8/255 for linf, 0.5 for l2. */
  epsilon?: number;
  /** Length of a step, in the same units, at most 1 for linf; 0 only where epsilon or `steps` is. Default epsilon/4. */
  stepSize?: number;
  /** Steps; 0 gives the start. Default 20. */
  steps?: number;
  /** Runs from different starts; of each sample the first adversary that fools the model is kept, else the one with the highest loss. Default 1. */
  restarts?: number;
  /** Start at a random point of the ball: linf uniform in the cube, l2 a uniform direction and a radius uniform on [0, epsilon]. Default true. */
  randomStart?: boolean;
  /** Clamp the random start onto [0, 1] (default), or only the steps (AdvCL's code). */
  clampStart?: boolean;
  /** Clamp onto [0, 1] before the projection onto the ball (RoCL's code) instead of after. For linf both give the same bits. Default false. */
  clampThenProject?: boolean;
  /** The share of the steps before in the direction of a step, as in {@link mim}; gradients then count by their direction alone. Default 0. */
  momentum?: number;
  /** Leave a batch once all of its samples fool the model. Default false. */
  earlyStop?: boolean;
  /** Read `labels` as classes to reach instead of classes to leave. Default false. */
  targeted?: boolean;
  /** Attack in train mode: batch statistics, and running statistics that move. For training only; evaluation wants false, the default. */
  trainMode?: boolean;
  /** The start of a sample depends on the seed, its place in `images` and the restart alone. Default 0. */
  seed?: number;
  /** Images a forward pass. Default 256. */
  batchSize?: number;
  /**
   * On a GPU: record a step as a CUDA graph, so that the processor queues one thing a step instead of each kernel, for batches that are too small to keep the card busy. Recorded is the
   * fourth step of the first batch of a shape; the model keeps the graph, and the memory that a step takes, for later batches and calls with the same `norm`, `epsilon`,
   * `stepSize`, `clampThenProject`, `momentum` and objective, of four shapes and options at most, until it moves (`model.to`), one of its tensors does, an attack by a
   * graph fails, or it is disposed; its weights may change meanwhile. Fooled samples stay in the batch over restarts. Not with a function as model, `earlyStop` or `trainMode`. Default false.
   */
  graph?: boolean;
  /**
   * What the attack raises: `'cross-entropy'` at the labels (default), or RoCL's contrastive loss, which takes no labels: the two-view NT-Xent
   * ({@link aInfoNCE} in form `rocl`) between a batch of adversaries and `contrastive`, other views of the same images `[N, C, H, W]`. Embeddings are the
   * model's output, of an {@link Encoder} with a projector its projection. Images of a batch are one another's negatives, so `batchSize` matters.
   */
  objective?: 'cross-entropy' | { contrastive: Tensor; temperature?: number };
  /** Called after every step of every batch and restart. */
  onProgress?: (progress: StepProgress) => void;
}

/** {@link PgdOptions} with every value decided. */
export type ResolvedPgdOptions = Required<Omit<PgdOptions, 'signal' | 'onProgress' | 'objective'>>;

const KNOWN = [
  'norm', 'epsilon', 'stepSize', 'steps', 'restarts', 'randomStart', 'clampStart', 'clampThenProject', 'momentum', 'earlyStop', 'targeted', 'trainMode', 'seed',
  'batchSize', 'graph', 'objective', 'signal', 'onProgress',
] as const satisfies readonly (keyof PgdOptions)[];

/** Errors name values of `at`. @internal */
export function resolvePgdOptions(options: PgdOptions | undefined, at = 'options'): ResolvedPgdOptions {
  const given = check.options(at, options, KNOWN);
  const flag = (name: 'randomStart' | 'clampStart' | 'clampThenProject' | 'earlyStop' | 'targeted' | 'trainMode' | 'graph', fallback: boolean) =>
    check.boolean(`${at}.${name}`, given[name] === undefined ? fallback : given[name]);
  const { norm, epsilon } = resolveBall(given, at);
  const stepSize = resolveStep(given.stepSize, { norm, epsilon }, at);
  const steps = check.integer(`${at}.steps`, given.steps ?? 20, { min: 0, max: 1e6 });
  if (stepSize === 0 && steps > 0 && epsilon > 0) // it would report the accuracy at the start as robust
    throw new ArgumentRangeError(`${at}.stepSize`, 'a number above 0 (a step of 0 attacks nothing)', '0');
  check.function(`${at}.onProgress`, given.onProgress);
  return {
    norm, epsilon, stepSize, steps,
    restarts: check.integer(`${at}.restarts`, given.restarts ?? 1, { min: 1, max: 1e6 }),
    randomStart: flag('randomStart', true),
    clampStart: flag('clampStart', true),
    clampThenProject: flag('clampThenProject', false),
    momentum: check.finite(`${at}.momentum`, given.momentum ?? 0, { min: 0 }),
    earlyStop: flag('earlyStop', false),
    targeted: flag('targeted', false),
    trainMode: flag('trainMode', false),
    graph: flag('graph', false),
    seed: check.integer(`${at}.seed`, given.seed ?? 0, { min: 0 }),
    batchSize: check.integer(`${at}.batchSize`, given.batchSize ?? 256, { min: 1 }),
  };
}

/**
 * Adversaries of `images` that raise the cross-entropy of the model at `labels` (lower it at target labels, if `targeted`), found by projected
 * gradient descent (Madry et al., ICLR 2018). Every adversary lies in [0, 1] and in the ball exactly, also as computed in floating point.
 * Runs off the main thread (a function model is called on it). A native model is attacked in eval mode and gets back the mode it had; parameters and
 * their gradients are not touched.
 * @param images `[N, C, H, W]`, float32 or float64, in [0, 1]: normalisation belongs inside the model.
 * @param labels int64 `[N]`; null with a contrastive objective.
 * @returns `[N, C, H, W]` of the dtype of `images`.
 * @throws {@link ArgumentRangeError}, {@link ArgumentTypeError} naming the argument; {@link NonFiniteError} naming the first sample whose
 * gradient is NaN or infinite; {@link OperatorError} where `graph` is asked for and a step cannot be recorded: the model waits for the card, say; the signal's reason when aborted; whatever a function model throws.
 * @example
 * ```ts
 * using model = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * using images = rand([4, 3, 32, 32]);
 * using labels = tensor([0, 1, 2, 3], { dtype: 'int64' });
 * using adversarial = await pgd(model, images, labels, { epsilon: 8 / 255, stepSize: 2 / 255, steps: 2 });
 * ```
 */
export async function pgd(model: AttackModel, images: Tensor, labels: Tensor | null, options?: PgdOptions): Promise<Tensor> {
  return runPgd(model, images, labels, resolvePgdOptions(options), options);
}

/** `samples`: int64 [N], the numbers of the samples in the whole set, for their random starts. @internal */
export async function runPgd(
  model: AttackModel, images: Tensor, labels: Tensor | null, options: ResolvedPgdOptions, { signal, onProgress, objective }: PgdOptions = {}, samples?: Tensor,
): Promise<Tensor> {
  checkImages('images', images);
  if (options.graph && typeof model === 'function') throw new ArgumentRangeError('options.graph', 'false with a function as model, which is called at every step', 'true');
  return runAttack(model, images, { attack: 'pgd', ...options, ...goalOf(objective, images, labels, options), samples: samples?.handle }, { signal, onProgress });
}

/** Bool, of the shape of `images`: where the cross-entropy has a gradient that is not zero (at the image, moved a little into the box). @internal */
export async function hasGradient(model: AttackModel, images: Tensor, labels: Tensor, batchSize: number, signal?: AbortSignal): Promise<Tensor> {
  const step = 2 ** -10;
  return scope(async () => {
    const inside = ops.aten.clamp(images, 2 * step, 1 - 2 * step);
    const options = resolvePgdOptions({ epsilon: 2 * step, stepSize: step, steps: 1, randomStart: false, batchSize });
    return ops.aten.ne(await runPgd(model, inside, labels, options, { signal }), inside);
  });
}

/** The objective as the native call takes it. */
function goalOf(objective: PgdOptions['objective'] = 'cross-entropy', images: Tensor, labels: unknown, { targeted }: ResolvedPgdOptions) {
  if (typeof objective !== 'object' || objective === null) {
    check.oneOf('options.objective', objective, ['cross-entropy']);
    checkLabels('labels', labels, images.shape[0]!);
    return { labels: labels.handle };
  }
  const { contrastive, temperature = 0.5 } = check.options('options.objective', objective, ['contrastive', 'temperature']);
  checkImages('options.objective.contrastive', contrastive);
  if (contrastive.dtype !== images.dtype || String(contrastive.shape) !== String(images.shape))
    throw new ArgumentRangeError('options.objective.contrastive', `${images.dtype} [${images.shape.join(', ')}]`, `${contrastive.dtype} [${contrastive.shape.join(', ')}]`);
  if (labels !== null) throw new ArgumentTypeError('labels', 'null with a contrastive objective', describe(labels));
  if (targeted) throw new ArgumentRangeError('options.targeted', 'false with a contrastive objective', 'true');
  return { positives: contrastive.handle, temperature: check.finite('options.objective.temperature', temperature, { above: 0 }) };
}
