/** AdvCL (Fan et al., NeurIPS 2021) and its asymmetric variants; the step is native/training/advcl.h. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { resolve as absolute } from 'node:path';
import { z } from 'zod';
import { ArgumentRangeError, FileError } from '../../runtime/errors.js';
import { ops } from '../../tensor/ops.js';
import { keep, scope } from '../../tensor/scope.js';
import type { Tensor } from '../../tensor/tensor.js';
import { count, hardNegative, pipeline, positive, share, shared, trainingAttack } from '../schema.js';
import { deriveSeed } from '../seeds.js';
import { readPseudoLabels } from '../pseudo-labels.js';
import { attackOptions, type Method } from './method.js';

/** The BatchNorm branches of the clean views, of the contrastive adversary and of the labels' adversary. */
const BRANCHES = ['normal', 'pgd', 'pgd_ce'];

export const advclConfig = shared.extend({
  method: z.literal('advcl'),
  /** The view that is attacked, and whose high frequencies are the fourth view. */
  weakView: pipeline,
  /** Radius of the disc that is taken out of the spectrum of the weak view. */
  highFrequencyRadius: z.number().min(0),
  /** Of the contrastive adversary, which ascends the loss without inferior positives and hard negatives, and of the labels'. */
  attack: trainingAttack,
  objective: z.strictObject({
    form: z.enum(['advcl', 'paper']), temperature: positive,
    inferiorPositive: z.strictObject({
      /** Fixed; with `adaptive` the least value. */
      alpha: share, weight: z.number().min(0),
      /**
       * Alpha follows the mean distance d between the features of an image and its adversary: `alpha` for `warmupEpochs` epochs, whose mean d is
       * d_max; afterwards `alpha` from d_max up, 0.5 below `dMin`, linear between.
       */
      adaptive: z.strictObject({ warmupEpochs: count, dMin: z.number().min(0) }).optional(),
    }).optional(),
    hardNegative: hardNegative.optional(),
  }),
  /**
   * Clusters of the training images as labels, a linear head for each number of `classes`: the mean cross-entropy of the heads on adversaries of its own is
   * added with `weight`. `path` names the file that `a-infonce cluster` writes: safetensors with an int64 tensor [images] named `k<classes>` for each,
   * with its SHA-256. With weight 0 there are neither heads nor labels.
   */
  pseudoLabels: z.strictObject({ classes: z.array(count).min(1), weight: z.number().min(0), path: z.string().optional(), sha256: z.string().optional() }),
}).refine(({ batchSize }) => batchSize >= 2, { path: ['batchSize'], error: 'expected at least two images' })
  .refine(({ encoder }) => BRANCHES.every((branch) => encoder.branches.includes(branch)), { path: ['encoder', 'branches'], error: `expected ${BRANCHES.join(', ')} among them` });

export type AdvclConfig = z.infer<typeof advclConfig>;

export const advcl: Method<AdvclConfig> = {
  step: 'advcl',
  heads: ({ pseudoLabels: { classes, weight } }) => (weight > 0 ? classes : []),
  smallestBatch: () => 2,
  async resolve(config, recorded) {
    const { pseudoLabels } = config;
    if (pseudoLabels.weight === 0) return config;
    const path = pseudoLabels.path ?? recorded?.pseudoLabels?.path;
    if (path === undefined) throw new ArgumentRangeError('pseudoLabels.path', 'the file that `a-infonce cluster` writes (pseudoLabels.weight 0 needs none)', 'none');
    const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      throw new FileError(path, error.code === 'ENOENT' ? 'no such file' : `cannot be read (${error.code})`, { cause: error });
    });
    return { ...config, pseudoLabels: { ...pseudoLabels, path: absolute(path), sha256: createHash('sha256').update(bytes).digest('hex') } };
  },
  async begin({ config: { seed, data, views, weakView, attack, objective: { inferiorPositive, ...objective }, highFrequencyRadius, pseudoLabels } }) {
    const labels = pseudoLabels.weight > 0 ? await readLabels(pseudoLabels, data) : undefined;
    const adaptive = inferiorPositive?.adaptive;
    // Of the warm-up: the sum of d over its images and their number.
    const numbers = { distanceSum: 0, distanceCount: 0 };
    const warm = (epoch: number) => epoch < adaptive!.warmupEpochs;
    return {
      views: () => ({ aug1: views, aug2: views, org: weakView }),
      ...(labels && { inputs: (rows) => ({ labels: ops.aten.index_select(labels, 1, rows) }), dispose: () => labels.dispose() }),
      options: ({ epoch }) => ({
        seed: deriveSeed(seed, 'attack', epoch), attack: attackOptions(attack), highFrequencyRadius, labelWeight: pseudoLabels.weight,
        objective: { ...objective, inferiorPositive },
        ...(adaptive && { adaptive: { dMin: adaptive.dMin, dMax: warm(epoch) || numbers.distanceCount === 0 ? undefined : numbers.distanceSum / numbers.distanceCount } }),
      }),
      ...(adaptive && {
        state: { numbers },
        learned({ distance }, images, { epoch }) {
          if (!warm(epoch)) return;
          numbers.distanceSum += distance! * images;
          numbers.distanceCount += images;
        },
      }),
    };
  },
};

/** int64 [heads, images]. @throws {@link FileError} naming the file and what is wrong with it */
async function readLabels({ path, classes }: AdvclConfig['pseudoLabels'], { images, sha256 }: AdvclConfig['data']): Promise<Tensor> {
  using found = await readPseudoLabels(path!, { images: images!, sha256 });
  const missing = classes.find((k) => !found.labels.has(k));
  if (missing !== undefined) throw new FileError(path!, `labels: expected those of ${classes.join(', ')} clusters, got ${[...found.labels.keys()].join(', ')}`);
  return keep(scope(() => ops.aten.stack(classes.map((k) => found.labels.get(k)!))));
}
