/** ACL, dual stream (Jiang et al., NeurIPS 2020): views and their adversaries, each stream by itself. The step is native/training/acl.h. */
import { z } from 'zod';
import type { Pipeline } from '../../data/augment.js';
import { pairObjective, shared, trainingAttack } from '../schema.js';
import { deriveSeed } from '../seeds.js';
import { attackOptions, type Method } from './method.js';

/** What ACL and DynACL share. */
export const dualStream = shared.extend({
  attack: trainingAttack,
  objective: pairObjective,
  /**
   * Adversarial invariant regularisation (Xu et al., NeurIPS 2023): the weights lambda 1 and 2 of the clean and the adversarial term, as released. A
   * third forward, of the unaugmented images.
   */
  invariance: z.strictObject({ standard: z.number().min(0), adversarial: z.number().min(0) }).optional(),
});
type DualStream = z.infer<typeof dualStream>;

export const streams = ({ encoder: { branches } }: DualStream): boolean => ['normal', 'pgd'].every((branch) => branches.includes(branch));
export const needsStreams = { path: ['encoder', 'branches'], error: "expected 'normal' and 'pgd' among them" };

export const aclConfig = dualStream.extend({ method: z.literal('acl') }).refine(streams, needsStreams)
  .refine(({ batchSize }) => batchSize >= 2, { path: ['batchSize'], error: 'expected at least 2' });
export type AclConfig = z.infer<typeof aclConfig>;

/** The inputs of the native step, and its options but for the weight of the adversarial stream. */
export const originals = ({ invariance }: DualStream): Record<string, Pipeline> => (invariance ? { original: {} } : {});
export const streamOptions = ({ seed, objective, attack, invariance }: DualStream, epoch: number) =>
  ({ seed: deriveSeed(seed, 'attack', epoch), objective, attack: attackOptions(attack), invariance });

export const acl: Method<AclConfig> = {
  step: 'acl',
  smallestBatch: () => 2,
  begin: ({ config }) => ({
    views: () => ({ view1: config.views, view2: config.views, ...originals(config) }),
    options: ({ epoch }) => ({ ...streamOptions(config, epoch), adversarialWeight: 1 }),
  }),
};
