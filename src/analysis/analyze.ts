/** What an encoder makes of images, other views of them and their adversaries: the quantities that the paper argues with. */
import { z } from 'zod';
import { resolvePgdOptions, runPgd, type ResolvedPgdOptions } from '../attack/pgd.js';
import { select } from '../attack/samples.js';
import { augment, type Pipeline, type PipelineName } from '../data/augment.js';
import { Split } from '../data/dataset.js';
import { Encoder } from '../model/encoder.js';
import { Model } from '../model/model.js';
import { predict, type AttackModel } from '../model/predict.js';
import type { TensorHandle } from '../runtime/addon.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { job, type JobOptions } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { ops } from '../tensor/ops.js';
import { keep, scope } from '../tensor/scope.js';
import { Tensor } from '../tensor/tensor.js';
import { deriveSeed } from '../training/seeds.js';
import { distribution, FINE_BINS, fromCounts, fromValues } from './distribution.js';

const share = z.number().min(0).max(1);
/** Shares of the queries whose nearest neighbour is of another image, and of another class. */
const confusion = z.object({ identity: share, class: share });
const both = <T extends z.ZodType>(each: T) => z.object({ clean: each, adversarial: each });
const points = z.array(z.tuple([z.number(), z.number()]));

/** @internal */
export const analysisSchema = z.object({
  /** How many images: the first of the split. */
  images: z.int().min(2),
  seed: z.int().min(0),
  /** Where similarities are taken: the projector's output, or the features. */
  space: z.enum(['projection', 'features']),
  dimensions: z.int().min(1),
  /** The attacks' common values: the contrastive one and the classifier's. */
  attack: z.object({ norm: z.enum(['linf', 'l2']), epsilon: z.number().min(0), stepSize: z.number().min(0), steps: z.int().min(0), batchSize: z.int().min(1), temperature: z.number().positive() }),
  /** Cosine similarities between view 1 (`positive`, `negative`) or its adversary (`adversarial...`) and view 2 of the same image, of the others. */
  similarity: z.object({ positive: distribution, negative: distribution, adversarialPositive: distribution, adversarialNegative: distribution }),
  /** Mean squared distance of the two views, on the unit sphere (Wang and Isola, ICML 2020); `adversarial`: of view 1's adversary and view 2. */
  alignment: both(z.number().min(0)),
  /** log mean exp(-2 squared distance) over pairs of images, mean of both views; `adversarial`: over the adversaries. */
  uniformity: both(z.number()),
  /**
   * `views`: of view 1 and of its adversary, the nearest neighbour among view 2 of all images. `images`: of the contrastive adversary of an image as it is
   * (raised against view 2), among the images as they are; without an attack nothing would be confused.
   */
  confusion: z.object({ views: both(confusion), images: confusion }),
  /** Of the classifier's adversaries, made of the images as they are. */
  classifier: z.object({
    /** Accuracy on the images, and on those that are right and stay so. */
    accuracy: both(share),
    /** Nearest neighbour of an adversary among the images as they are. */
    confusion,
    /** Between an adversary and its image. */
    similarity: distribution,
  }).optional(),
  /** Images and their contrastive adversaries in two dimensions; row i of each is image i. */
  map: z.object({
    labels: z.array(z.int().min(0)),
    pca: z.object({ explained: z.tuple([share, share]), images: points, adversaries: points }),
    umap: z.object({ neighbours: z.int().min(2), images: points, adversaries: points }),
  }),
  /** Rows of `tensors.examples`: which image, its class, and what the classifier makes of it and of its adversary. */
  examples: z.array(z.object({ image: z.int().min(0), label: z.int().min(0), predicted: z.int().min(0).optional(), adversarial: z.int().min(0).optional() })),
});

/** What {@link analyze} finds, as plain JSON. */
export type Analysis = z.infer<typeof analysisSchema>;

/** {@link Analysis} and the tensors behind it; `dispose()` (or `using`) frees them. */
export interface AnalysisResult extends Disposable {
  values: Analysis;
  /**
   * Embeddings [images, dimensions] float32 of the images as they are, `images`, their contrastive adversaries, `imagesAdversarial`, of `view1`, `view2`,
   * `view1Adversarial` and, with a classifier, of its adversaries, `classifierAdversarial`. `examples` and `examplesAdversarial` (the classifier's
   * adversaries, else the contrastive ones) [examples, C, H, W].
   */
  tensors: Record<string, Tensor>;
}

/** Progress: `done` of `total` attack steps. */
export interface AnalyzeProgress {
  done: number;
  total: number;
}

export interface AnalyzeOptions extends JobOptions {
  /** Adversaries of it as well. */
  classifier?: AttackModel | undefined;
  /** The first images of the split. Default 1000. */
  limit?: number | undefined;
  /** Default: the projector's output, where the objective acts, of an encoder that has one. */
  space?: 'projection' | 'features' | undefined;
  /** How the two views of an image are drawn. Default `'rocl'`. */
  views?: PipelineName | Pipeline | undefined;
  norm?: 'linf' | 'l2' | undefined;
  /** As in {@link pgd}: default 8/255, a quarter of epsilon and 20 steps. */
  epsilon?: number | undefined;
  stepSize?: number | undefined;
  steps?: number | undefined;
  /** Of the contrastive attack. Default 0.5. */
  temperature?: number | undefined;
  /** Images at once; those of a batch are one another's negatives in the contrastive attack. Default 256. */
  batchSize?: number | undefined;
  /** How many images the maps show: the first. Default 400. */
  mapLimit?: number | undefined;
  seed?: number | undefined;
  onProgress?: ((progress: AnalyzeProgress) => void) | undefined;
}

const KNOWN = [
  'classifier', 'limit', 'space', 'views', 'norm', 'epsilon', 'stepSize', 'steps', 'temperature', 'batchSize', 'mapLimit', 'seed', 'onProgress', 'signal',
] as const satisfies readonly (keyof AnalyzeOptions)[];

const NEIGHBOURS = 15;
const EXAMPLES = 10;

/**
 * Measures what the method's argument rests on: how similar two views of an image, an adversary and its other view, and different images are; how
 * often an adversary's nearest neighbour is another image (identity confusion); alignment and uniformity; and maps of the embeddings.
 *
 * Each image has two random views. The contrastive adversary moves view 1, and another the image itself, up the two-view NT-Xent against view 2, which is the
 * method's own attack; with a classifier, adversaries of the image are made against that too. Similarities are cosines of the encoder's output in eval mode, of
 * all pairs, without an n x n matrix. The same seed, machine and number of threads give the same numbers. Runs off the main thread, except UMAP.
 * @param encoder an Encoder, or any model whose output is an embedding `[N, D]`.
 * @param data the images: `[n, C, H, W]` of a split, at least 20.
 * @throws {@link ArgumentTypeError}, {@link ArgumentRangeError} naming the argument; {@link NonFiniteError} when embeddings or gradients are NaN or
 * infinite; the signal's reason when aborted.
 * @example
 * ```ts
 * using encoder = Encoder.create({ width: 2, projector: { hidden: [8], output: 4 } });
 * using data = proceduralDataset({ train: 10, test: 24, size: 8 });
 * using found = await analyze(encoder, data.test, { steps: 1 });
 * console.log(found.values.confusion.views.adversarial.identity, found.values.similarity.negative.mean);
 * ```
 */
export async function analyze(encoder: Model, data: Split, options?: AnalyzeOptions): Promise<AnalysisResult> {
  if (!(encoder instanceof Model)) throw new ArgumentTypeError('encoder', 'an Encoder', describe(encoder));
  if (!(data instanceof Split)) throw new ArgumentTypeError('data', 'a Split', describe(data));
  const { classifier, views = 'rocl', norm, epsilon, stepSize, steps, onProgress, signal, ...given } = check.options('options', options, KNOWN);
  const limit = Math.min(data.length, check.integer('options.limit', given.limit ?? 1000, { min: NEIGHBOURS + 5 }));
  if (limit < NEIGHBOURS + 5) throw new ArgumentRangeError('data', `at least ${NEIGHBOURS + 5} images`, String(limit));
  const mapLimit = Math.min(limit, check.integer('options.mapLimit', given.mapLimit ?? 400, { min: NEIGHBOURS + 5 }));
  const temperature = check.finite('options.temperature', given.temperature ?? 0.5, { above: 0 });
  const seed = check.integer('options.seed', given.seed ?? 0, { min: 0 });
  const attack = resolvePgdOptions({ norm, epsilon, stepSize, steps, batchSize: given.batchSize, seed: deriveSeed(seed, 'attack') });
  check.function('options.onProgress', onProgress);
  const projects = encoder instanceof Encoder && encoder.config.projector !== undefined;
  const space = check.oneOf('options.space', given.space ?? (projects ? 'projection' : 'features'), ['projection', 'features']);
  if (space === 'projection' && !projects) throw new ArgumentRangeError('options.space', "'features': the encoder has no projector", "'projection'");

  return scope(async () => {
    // The contrastive attack ascends the loss of the model's own output: for features, of an encoder that ends there.
    using bare = space === 'features' && projects ? withoutProjector(encoder) : undefined;
    const plan: Plan = { model: bare ?? encoder, attack, temperature, views, seed, limit, mapLimit, signal, report: progressOf(onProgress, classifier ? 3 : 2) };
    const { values, tensors } = await measure(plan, data, classifier);
    for (const each of Object.values(tensors)) keep(each);
    const dispose = () => { for (const each of Object.values(tensors)) each.dispose(); };
    return { values: { ...values, space }, tensors, [Symbol.dispose]: dispose };
  });
}

interface Plan {
  model: Model;
  attack: ResolvedPgdOptions;
  temperature: number;
  views: PipelineName | Pipeline;
  seed: number;
  limit: number;
  mapLimit: number;
  signal: AbortSignal | undefined;
  report(attack: number, part: { done: number; total: number }): void;
}

/** Steps of the attacks, each of which says its own. */
function progressOf(onProgress: AnalyzeOptions['onProgress'], attacks: number): Plan['report'] {
  return (attack, { done, total }) => onProgress?.({ done: attack * total + done, total: attacks * total });
}

async function measure(plan: Plan, data: Split, classifier: AttackModel | undefined): Promise<{ values: Omit<Analysis, 'space'>; tensors: Record<string, Tensor> }> {
  const { attack, seed, limit, mapLimit, temperature, signal } = plan;
  const rows = Array.from({ length: limit }, (_, row) => row);
  const images = data.images(0, limit), labelled = data.labels(0, limit);
  const labels = Array.from(labelled.toTypedArray() as BigInt64Array, Number);
  const draw = (view: number) => augment(data, rows, { pipeline: plan.views, seed: deriveSeed(seed, 'views'), view, signal });
  const [view1, view2] = [await draw(0), await draw(1)];
  const { batchSize } = attack;

  const contrastive = (from: Tensor, at: number) =>
    runPgd(plan.model, from, null, attack, { signal, objective: { contrastive: view2, temperature }, onProgress: (part) => plan.report(at, part) });
  const view1Moved = await contrastive(view1, 0), moved = await contrastive(images, 1);
  const embed = async (from: Tensor) => Tensor.wrap(await job<TensorHandle>(() => native().embed(plan.model.handle, from.handle, batchSize), signal));
  const embeddings = {
    images: await embed(images), imagesAdversarial: await embed(moved), view1: await embed(view1), view2: await embed(view2), view1Adversarial: await embed(view1Moved),
  };
  const own = await attackClassifier(plan, classifier, images, labelled, labels);
  const ownEmbedded = own && await embed(own.adversaries);

  const confused = ({ nearest }: Pairs) => ({ identity: shareOf(nearest, (other, i) => other !== i), class: shareOf(nearest, (other, i) => labels[other] !== labels[i]) });
  const { images: plain, imagesAdversarial, view1: first, view2: second, view1Adversarial: adversary } = embeddings;
  const clean = await pairs(first, second, signal), adversarial = await pairs(adversary, second, signal);
  const uniformity = async (of: Tensor) => (await pairs(of, of, signal, 1, true)).uniformity;
  const classified = own && await pairs(ownEmbedded!, plain, signal);
  const values: Omit<Analysis, 'space'> = {
    images: limit, seed, dimensions: plain.shape[1]!,
    attack: { norm: attack.norm, epsilon: attack.epsilon, stepSize: attack.stepSize, steps: attack.steps, batchSize, temperature },
    similarity: {
      positive: fromValues(clean.own), negative: fromCounts(clean.counts, clean.mean),
      adversarialPositive: fromValues(adversarial.own), adversarialNegative: fromCounts(adversarial.counts, adversarial.mean),
    },
    alignment: { clean: mean(clean.own, (s) => 2 - 2 * s), adversarial: mean(adversarial.own, (s) => 2 - 2 * s) },
    uniformity: { clean: (await uniformity(first) + await uniformity(second)) / 2, adversarial: await uniformity(adversary) },
    confusion: {
      views: { clean: confused(clean), adversarial: confused(adversarial) },
      images: confused(await pairs(imagesAdversarial, plain, signal)),
    },
    ...(classified && { classifier: { accuracy: own.accuracy, confusion: confused(classified), similarity: fromValues(classified.own) } }),
    map: { labels: labels.slice(0, mapLimit), ...(await maps(plain, imagesAdversarial, mapLimit, deriveSeed(seed, 'probe'), signal)) },
    examples: [],
  };

  const shown = firstOfEachClass(labels);
  values.examples = shown.map((image) => ({ image, label: labels[image]!, ...(own && { predicted: own.before[image]!, adversarial: own.after[image]! }) }));
  return {
    values,
    tensors: {
      ...embeddings, ...(ownEmbedded && { classifierAdversarial: ownEmbedded }),
      examples: select(images, shown), examplesAdversarial: select(own?.adversaries ?? moved, shown),
    },
  };
}

/** Adversaries of the classifier, and what it makes of images and adversaries. */
async function attackClassifier({ attack, signal, report }: Plan, classifier: AttackModel | undefined, images: Tensor, labelled: Tensor, labels: number[]) {
  if (classifier === undefined) return undefined;
  const adversaries = await runPgd(classifier, images, labelled, attack, { signal, onProgress: (part) => report(2, part) });
  const classes = async (of: Tensor) => Array.from((await predict(classifier, of, { batchSize: attack.batchSize, signal })).predicted.toTypedArray(), Number);
  const before = await classes(images), after = await classes(adversaries);
  const accuracy = { clean: shareOf(before, (found, i) => found === labels[i]), adversarial: shareOf(before, (found, i) => found === labels[i] && after[i] === labels[i]) };
  return { adversaries, before, after, accuracy };
}

interface Pairs {
  own: Float64Array;
  nearest: number[];
  similarity: Float64Array;
  counts: BigInt64Array;
  mean: number;
  uniformity: number;
}

/** `k` nearest neighbours a row, one after another. */
async function pairs(rows: Tensor, gallery: Tensor, signal: AbortSignal | undefined, k = 1, excludeOwn = false): Promise<Pairs> {
  const found = await job(() => native().similarity_pairs(rows.handle, gallery.handle, k, FINE_BINS, excludeOwn), signal);
  const take = (handle: TensorHandle) => {
    using values = Tensor.wrap(handle);
    return values.toTypedArray();
  };
  return {
    own: take(found.own) as Float64Array, nearest: Array.from(take(found.nearest), Number), similarity: take(found.nearestSimilarity) as Float64Array,
    counts: take(found.counts) as BigInt64Array, mean: found.mean, uniformity: found.uniformity,
  };
}

/** The first `limit` of both in two dimensions: by the principal axes of the images, and by UMAP of both together under the cosine distance. */
async function maps(images: Tensor, adversaries: Tensor, limit: number, seed: number, signal: AbortSignal | undefined): Promise<Omit<Analysis['map'], 'labels'>> {
  const together = ops.aten.cat([images, adversaries].map((each) => ops.aten.slice(each, 0, 0, limit)));
  const unit = ops.aten.div(together, ops.aten.clamp_min(ops.aten.linalg_vector_norm(together, 2, [1], true), 1e-12));
  const { coordinates, explained } = await job(() => native().principal_axes(ops.aten.slice(unit, 0, 0, limit).handle, unit.handle, 2), signal);
  const flat = Tensor.wrap(coordinates).toTypedArray() as Float64Array;
  const { nearest, similarity } = await pairs(together, together, signal, NEIGHBOURS - 1, true);
  const of = (row: number) => (row * (NEIGHBOURS - 1));
  const all = Array.from({ length: 2 * limit }, (_, row) => row);
  const { umap } = await import('./umap.js'); // loaded only here
  const embedded = await umap(
    all.map((row) => [row, ...nearest.slice(of(row), of(row + 1))]),
    all.map((row) => [0, ...Array.from(similarity.subarray(of(row), of(row + 1)), (s) => Math.max(0, 1 - s))]), seed, signal);
  const short = ([x, y]: readonly [number, number]): [number, number] => [Number(x.toPrecision(5)), Number(y.toPrecision(5))];
  const split = (rows: [number, number][]) => ({ images: rows.slice(0, limit).map(short), adversaries: rows.slice(limit).map(short) });
  return {
    pca: { explained: [...(Tensor.wrap(explained).toTypedArray() as Float64Array)] as [number, number], ...split(all.map((row) => [flat[2 * row]!, flat[2 * row + 1]!])) },
    umap: { neighbours: NEIGHBOURS, ...split(embedded) },
  };
}

function withoutProjector(encoder: Encoder): Encoder {
  const bare = Encoder.create({ ...encoder.config, projector: undefined }).eval();
  return scope(() => {
    bare.loadState(encoder.state());
    return bare;
  });
}

const shareOf = (values: readonly number[], holds: (value: number, at: number) => boolean): number => values.filter(holds).length / values.length;
const mean = (values: Float64Array, of: (value: number) => number): number => values.reduce((sum, value) => sum + of(value), 0) / values.length;

/** Rows of the first image of each class, at most ten. */
function firstOfEachClass(labels: readonly number[]): number[] {
  const classes = [...new Set(labels)].sort((a, b) => a - b).slice(0, EXAMPLES);
  return classes.map((label) => labels.indexOf(label));
}
