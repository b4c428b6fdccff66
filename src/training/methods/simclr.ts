/** SimCLR (Chen et al., ICML 2020): two views, no adversary. The step is native/training/simclr.h. */
import { z } from 'zod';
import { pairObjective, positive, shared } from '../schema.js';
import type { Method } from './method.js';

/** `scale` multiplies the loss; left out: 1. */
export const scaledObjective = pairObjective.extend({ scale: positive.optional() });

export const simclrConfig = shared.extend({ method: z.literal('simclr'), objective: scaledObjective })
  .refine(({ batchSize }) => batchSize >= 2, { path: ['batchSize'], error: 'expected at least 2' });
export type SimclrConfig = z.infer<typeof simclrConfig>;

/** What the step takes, but for labels. */
export const twoViews = ({ views, objective }: Pick<SimclrConfig, 'views' | 'objective'>) => ({
  views: () => ({ view1: views, view2: views }),
  options: () => ({ objective, scale: objective.scale ?? 1 }),
});

export const simclr: Method<SimclrConfig> = {
  step: 'simclr',
  smallestBatch: () => 2,
  begin: ({ config }) => twoViews(config),
};
