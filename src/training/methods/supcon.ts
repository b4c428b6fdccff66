/** Supervised contrastive learning (Khosla et al., NeurIPS 2020): SimCLR's step where every row of an image's class is a positive. */
import { z } from 'zod';
import { shared } from '../schema.js';
import type { Method } from './method.js';
import { scaledObjective, twoViews } from './simclr.js';

export const supconConfig = shared.extend({ method: z.literal('supcon'), objective: scaledObjective })
  .refine(({ batchSize }) => batchSize >= 2, { path: ['batchSize'], error: 'expected at least 2' });
export type SupconConfig = z.infer<typeof supconConfig>;

export const supcon: Method<SupconConfig> = {
  step: 'simclr',
  smallestBatch: () => 2,
  begin: ({ config, data }) => ({ ...twoViews(config), inputs: (rows) => ({ labels: data.train.gatherLabels(rows) }) }),
};
