import type { Dataset } from '../data/dataset.js';
import { Encoder } from '../model/encoder.js';
import { ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { job, type JobOptions } from '../runtime/job.js';
import { native } from '../runtime/native.js';

/**
 * What a trained encoder is compared with: one of the same shape with random weights. BatchNorm's running statistics are those of the data's
 * training images (passes in train mode, no weight moves), since features under the first values, mean 0 and variance 1, shrink to
 * nothing and no linear head learns from them: chance level would flatter the trained one.
 * @returns an encoder in eval mode, without a projector.
 * @throws {@link ArgumentTypeError} or {@link ArgumentRangeError} naming the argument; the reason of `signal` when it is aborted.
 * @example
 * ```ts
 * using data = await openDataset('procedural', { procedural: { train: 64, test: 20, size: 16 } });
 * using trained = Encoder.create({ width: 4, seed: 1 });   // or Encoder.load('runs/...')
 * using random = await randomEncoder(trained, data, { seed: 0 });
 * using classifier = await finetune(random, data, { mode: 'slf', epochs: 1 });
 * ```
 */
export async function randomEncoder(like: Encoder, data: Dataset, options?: { seed?: number } & JobOptions): Promise<Encoder> {
  if (!(like instanceof Encoder)) throw new ArgumentTypeError('like', 'an Encoder', describe(like));
  if (typeof data?.train !== 'object') throw new ArgumentTypeError('data', 'a Dataset', describe(data));
  const { seed = 0, signal } = check.options('options', options, ['seed', 'signal']);
  const encoder = Encoder.create({ ...like.config, projector: undefined, heads: [], seed: check.integer('options.seed', seed, { min: 0 }) }).eval().to(like.device);
  try {
    await job(() => native().estimate_statistics(encoder.handle, data.train.pixels.handle, '', 128), signal);
    return encoder;
  } catch (error) {
    encoder.dispose();
    throw error;
  }
}
