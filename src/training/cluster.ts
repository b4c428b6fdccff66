/** Pseudo-labels: the classes that k-means finds among the features of an encoder, which AdvCL's second adversary is made against. */
import type { Dataset } from '../data/dataset.js';
import { Encoder } from '../model/encoder.js';
import { TorchScriptModel } from '../model/torchscript.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { job, type JobOptions } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { keep } from '../tensor/scope.js';
import { Tensor } from '../tensor/tensor.js';
import { CLUSTERS } from './names.js';
import { classSizes, type PseudoLabels } from './pseudo-labels.js';
import { deriveSeed } from './seeds.js';

export interface ClusterOptions extends JobOptions {
  /** Numbers of clusters, each at least 1 and at most the number of images. Default those of AdvCL, `[2, 10, 50, 100, 500]`. */
  k?: number | readonly number[];
  /** `'mini-batch'` (default; Sculley, WWW 2010), or `'lloyd'`: every pass moves every centre to the mean of all of its rows. */
  algorithm?: 'mini-batch' | 'lloyd';
  /** Rows of a mini-batch. Default 1,024. */
  batchSize?: number;
  /** Runs from seeds of their own, of which the one with the lowest inertia is kept. Default 10. */
  restarts?: number;
  /** Passes over the features, at most. Default 100. */
  maxIterations?: number;
  /** A pass that lowers the inertia by a smaller share than this is the last. Default 1e-4. */
  tolerance?: number;
  /** Default 0. */
  seed?: number;
  /** The encoder's BatchNorm branch; default its first. */
  branch?: string;
  /** What the encoder is called in the file that the labels are written to. */
  encoder?: string;
  /** Images encoded, or passes of k-means: `restart` of `restarts`, counted from 0. */
  onProgress?: (event: ClusterProgress) => void;
}

export type ClusterProgress =
  | { type: 'encode'; done: number; total: number }
  | { type: 'cluster'; k: number; restart: number; restarts: number; iteration: number; inertia: number };

/** What k-means found for one K. */
export interface ClusterScore {
  /** The sum of squared distances between each row and its centre. */
  inertia: number;
  /** Passes over the features, of the restart that was kept. */
  iterations: number;
  /** Of each of them: with `'lloyd'` the inertia, which never rises; with mini-batches the sum of what each row had when its batch came. */
  history: number[];
  /** Rows of every cluster. */
  sizes: number[];
  /** float32 [K, D]. */
  centers: Tensor;
}

/** Pseudo-labels with what k-means says of them. */
export interface Clustering extends PseudoLabels {
  /** By K. */
  readonly scores: ReadonlyMap<number, ClusterScore>;
}

const KNOWN = [
  'k', 'algorithm', 'batchSize', 'restarts', 'maxIterations', 'tolerance', 'seed', 'branch', 'encoder', 'onProgress', 'signal',
] as const satisfies readonly (keyof ClusterOptions)[];

/**
 * K-means on the features of the training images, without augmentation, for several K; the images are encoded once.
 *
 * Centres begin at rows that k-means++ draws (Arthur and Vassilvitskii, SODA 2007; with mini-batches among three batches' rows). An empty cluster takes
 * the row that lies farthest from its centre: a cluster stays empty only where fewer rows differ than clusters are wanted. Every draw is a function of
 * (seed, K, restart): more restarts are never worse, and on given features no bit depends on the number of threads.
 * @param source an {@link Encoder} (its features) or a {@link TorchScriptModel} (its output), used in eval mode; or features, float32 or float64 [N, D].
 * @param data whose training images are meant.
 * @throws {@link ArgumentTypeError} or {@link ArgumentRangeError} naming the argument: more clusters than images, features of another number of rows;
 * {@link NonFiniteError} naming the first row of the features that holds NaN or infinity; the reason of `signal` when it is aborted.
 * @example
 * ```ts
 * using data = await openDataset('procedural', { procedural: { train: 40, test: 8, size: 8 } });
 * using encoder = Encoder.create({ width: 2 });
 * using found = await cluster(encoder, data, { k: [2, 10] });
 * console.log(found.labels.get(10)?.shape, found.scores.get(10)?.inertia);   // [40], ...
 * ```
 */
export async function cluster(source: Encoder | TorchScriptModel | Tensor, data: Dataset, options?: ClusterOptions): Promise<Clustering> {
  if (!(source instanceof Encoder) && !(source instanceof TorchScriptModel) && !(source instanceof Tensor))
    throw new ArgumentTypeError('source', 'an Encoder, a TorchScriptModel or a Tensor of features', describe(source));
  if (typeof data?.train !== 'object') throw new ArgumentTypeError('data', 'a Dataset', describe(data));
  const {
    k: given = CLUSTERS, algorithm = 'mini-batch', batchSize = 1024, restarts = 10, maxIterations = 100, tolerance = 1e-4, seed = 0, branch, encoder, onProgress, signal,
  } = check.options('options', options, KNOWN);
  const images = data.train.length;
  const counts = clusterCounts(given, images);
  check.oneOf('options.algorithm', algorithm, ['mini-batch', 'lloyd']);
  check.integer('options.batchSize', batchSize, { min: 1 });
  check.integer('options.restarts', restarts, { min: 1 });
  check.integer('options.maxIterations', maxIterations, { min: 1 });
  check.finite('options.tolerance', tolerance, { min: 0 });
  check.integer('options.seed', seed, { min: 0 });
  if (encoder !== undefined) check.string('options.encoder', encoder);
  check.function('options.onProgress', onProgress);
  if (branch !== undefined) {
    if (source instanceof Encoder) check.oneOf('options.branch', branch, source.config.branches);
    else throw new ArgumentRangeError('options.branch', 'none: only an Encoder has branches', describe(branch));
  }
  if (source instanceof Tensor && source.shape[0] !== images)
    throw new ArgumentRangeError('source', `features of ${images} images, as data.train has`, `shape [${source.shape.join(', ')}]`);
  check.signal('options.signal', signal)?.throwIfAborted();

  const labels = new Map<number, Tensor>();
  const scores = new Map<number, ClusterScore>();
  const dispose = () => {
    for (const tensor of labels.values()) tensor.dispose();
    for (const { centers } of scores.values()) centers.dispose();
  };
  const encoded = source instanceof Tensor ? undefined : keep(Tensor.wrap(await job(() => native().encode(source.handle, data.train.pixels.handle, branch ?? '', 256,
    onProgress && (({ done, total }) => onProgress({ type: 'encode', done: done!, total: total! }))), signal)));
  try {
    const features = encoded ?? (source as Tensor);
    for (const k of counts) {
      const found = await job(() => native().kmeans(features.handle, {
        k, miniBatch: algorithm === 'mini-batch', batchSize, restarts, maxIterations, tolerance, seed: deriveSeed(seed, 'clusters', k),
      }, onProgress && (({ restart, iteration, inertia }) => onProgress({ type: 'cluster', k, restart: restart!, restarts, iteration: iteration!, inertia: inertia! }))), signal);
      const own = keep(Tensor.wrap(found.labels));
      labels.set(k, own);
      scores.set(k, { inertia: found.inertia, iterations: found.history.length, history: found.history, sizes: classSizes(own, k), centers: keep(Tensor.wrap(found.centers)) });
    }
  } catch (error) {
    dispose();
    throw error;
  } finally {
    encoded?.dispose();
  }
  return { labels, scores, images, source: { data: data.name, sha256: data.train.sha256({ labels: false }), encoder, seed }, dispose, [Symbol.dispose]: dispose };
}

function clusterCounts(given: number | readonly number[], images: number): number[] {
  if (typeof given !== 'number' && !Array.isArray(given)) throw new ArgumentTypeError('options.k', 'an integer or an array of integers', describe(given));
  const counts = typeof given === 'number' ? [given] : [...(given as readonly number[])];
  if (counts.length === 0) throw new ArgumentRangeError('options.k', 'at least one number of clusters', '[]');
  counts.forEach((k, i) => {
    const argument = typeof given === 'number' ? 'options.k' : `options.k[${i}]`;
    check.integer(argument, k, { min: 1 });
    if (k > images) throw new ArgumentRangeError(argument, `at most ${images}, the number of images`, String(k));
  });
  if (new Set(counts).size !== counts.length) throw new ArgumentRangeError('options.k', 'each number once', describe(given));
  return counts;
}
