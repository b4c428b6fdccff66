/** MoCo (He et al., CVPR 2020) as its demonstration on CIFAR-10 runs it. The step is native/training/moco.h. */
import { z } from 'zod';
import { native } from '../../runtime/native.js';
import { keep, scope } from '../../tensor/scope.js';
import { Tensor } from '../../tensor/tensor.js';
import { count, pairObjective, share, shared } from '../schema.js';
import { deriveSeed } from '../seeds.js';
import type { Method } from './method.js';

export const mocoConfig = shared.extend({
  method: z.literal('moco'),
  /** Parts of the batch whose BatchNorm statistics are taken apart, queries in order and keys shuffled: the devices of a distributed run. */
  groups: count,
  objective: pairObjective,
  queue: z.strictObject({
    /** Keys of earlier images that are negatives. */
    size: count,
    /** How slowly the network that makes the keys follows. */
    momentum: share,
  }),
}).refine(({ batchSize, groups }) => batchSize >= 2 * groups, { path: ['batchSize'], error: 'expected at least two images a group' })
  .refine(({ batchSize, queue }) => queue.size >= batchSize, { path: ['queue', 'size'], error: 'expected at least the batch size' });
export type MocoConfig = z.infer<typeof mocoConfig>;

export const moco: Method<MocoConfig> = {
  step: 'moco',
  smallestBatch: ({ groups }) => 2 * groups,
  begin: ({ config: { seed, groups, views, objective, projector, queue: { size, momentum } }, encoder }) => {
    const keys = encoder.clone();
    const queue = keep(scope(() => Tensor.wrap(native().random_directions(size, projector.output, deriveSeed(seed, 'queue'))).to({ device: encoder.device })));
    const weights = [...keys.state()].map(([name, tensor]) => [`keys.${name}`, keep(tensor)] as const);
    const numbers = { pointer: 0 };
    return {
      views: () => ({ view1: views, view2: views }),
      options: ({ epoch, step, stepsPerEpoch }) => ({
        objective, groups, momentum, pointer: numbers.pointer, seed: deriveSeed(seed, 'shuffle', epoch * stepsPerEpoch + step), keys: keys.handle, queue: queue.handle,
      }),
      learned: (_, images) => void (numbers.pointer = (numbers.pointer + images) % size),
      state: { numbers, tensors: { queue, ...Object.fromEntries(weights) } },
      dispose: () => {
        for (const [, tensor] of weights) tensor.dispose();
        queue.dispose();
        keys.dispose();
      },
    };
  },
};
