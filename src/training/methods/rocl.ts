/** RoCL (Kim, Tack and Hwang, NeurIPS 2020) and its asymmetric variants; the step is native/training/rocl.h. */
import { z } from 'zod';
import { deriveSeed } from '../seeds.js';
import { count, hardNegative, positive, share, shared, trainingAttack } from '../schema.js';
import { attackOptions, type Method } from './method.js';

export const roclConfig = shared.extend({
  method: z.literal('rocl'),
  /**
   * How many processes the batch stands for: the attack and the regulariser contrast rows of one group only (the released runs had 2 x 256). Groups
   * are runs of neighbours whose sizes differ by at most one, the larger ones first.
   */
  groups: count,
  attack: trainingAttack,
  objective: z.strictObject({
    form: z.enum(['rocl', 'paper']), temperature: positive,
    inferiorPositive: z.strictObject({ alpha: share, weight: z.number().min(0) }).optional(),
    hardNegative: hardNegative.optional(),
  }),
  /** `weight` times NT-Xent(adversary, view 2); `sharedForward` reads it off the one forward instead of the released code's second one. */
  regularizer: z.strictObject({ weight: z.number().min(0), sharedForward: z.boolean() }),
}).refine(({ batchSize, groups }) => batchSize >= 2 * groups, { path: ['batchSize'], error: 'expected at least two images a group' });

export type RoclConfig = z.infer<typeof roclConfig>;

export const rocl: Method<RoclConfig> = {
  step: 'rocl',
  smallestBatch: ({ groups }) => 2 * groups,
  begin: ({ config: { seed, groups, views, attack, objective, regularizer } }) => ({
    views: () => ({ view1: views, view2: views }),
    options: ({ epoch }) => ({
      seed: deriveSeed(seed, 'attack', epoch), groups, objective, attack: attackOptions(attack),
      regularizerWeight: regularizer.weight, sharedForward: regularizer.sharedForward,
    }),
  }),
};
