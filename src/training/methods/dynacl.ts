/** DynACL (Luo et al., ICLR 2023): ACL whose augmentation fades from strong to none while the adversarial stream gains weight. */
import { z } from 'zod';
import type { Pipeline } from '../../data/augment.js';
import { count } from '../schema.js';
import { dualStream, needsStreams, originals, streamOptions, streams } from './acl.js';
import type { Method } from './method.js';

export const dynaclConfig = dualStream.extend({
  method: z.literal('dynacl'),
  /**
   * Strength and weight change every `period` epochs; `reweighting` is lambda, what the adversarial stream gains over the run, of 1. `early`: the weight rises in the last
   * epoch before the strength falls, as in DynACL's code, which counts epochs from 1 there; left out: with it, `1 + lambda (1 - strength)`, as in AIR's.
   */
  annealing: z.strictObject({ period: count, reweighting: z.number().min(0).max(1), early: z.boolean().optional() }),
}).refine(streams, needsStreams).refine(({ batchSize }) => batchSize >= 2, { path: ['batchSize'], error: 'expected at least 2' });
export type DynaclConfig = z.infer<typeof dynaclConfig>;

/** Strength of the augmentation in an epoch from 0: 1 at first, down by period / epochs every `period` epochs. */
export const strengthAt = (epoch: number, epochs: number, period: number): number => 1 - (Math.floor(epoch / period) * period) / epochs;

/** The weight of the adversarial stream, of 2, in an epoch from 0. */
export const weightAt = (epoch: number, epochs: number, { period, reweighting, early = false }: DynaclConfig['annealing']): number =>
  Math.min(1 + (1 - strengthAt(early ? epoch + 1 : epoch, epochs, period)) * reweighting, 2);

/** The pipeline at a strength in [0, 1]: the crop's least area, the factors and the probabilities of color fade; the flip stays. */
export function fade(views: Pipeline, strength: number): Pipeline {
  const { resizedCrop, jitter, grayscale } = views;
  return {
    ...views,
    ...(resizedCrop && { resizedCrop: { ...resizedCrop, scale: [resizedCrop.scale[0] + (1 - resizedCrop.scale[0]) * (1 - strength), resizedCrop.scale[1]] as const } }),
    ...(jitter && { jitter: Object.fromEntries(Object.entries(jitter).map(([name, value]) => [name, value * strength])) as NonNullable<Pipeline['jitter']> }),
    ...(grayscale !== undefined && { grayscale: grayscale * strength }),
  };
}

export const dynacl: Method<DynaclConfig> = {
  step: 'acl',
  smallestBatch: () => 2,
  begin: ({ config }) => {
    const { views, epochs, annealing } = config;
    return {
      views: (epoch) => {
        const faded = fade(views, strengthAt(epoch, epochs, annealing.period));
        return { view1: faded, view2: faded, ...originals(config) };
      },
      options: ({ epoch }) => ({ ...streamOptions(config, epoch), adversarialWeight: weightAt(epoch, epochs, annealing) }),
    };
  },
};
