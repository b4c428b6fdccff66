import { checkFunction } from '../attack/attack.js';
import type { Dataset } from '../data/dataset.js';
import { Classifier } from '../model/classifier.js';
import { Encoder } from '../model/encoder.js';
import { ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { job, type JobOptions } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { keep } from '../tensor/scope.js';
import { Tensor } from '../tensor/tensor.js';
import { optimizerValues } from './optimizer.js';
import { checkFinetuneConfig, mergeConfig, presets, type FinetuneConfig, type Overrides, type PresetName } from './presets.js';
import { learningRate } from './schedule.js';
import { deriveSeed } from './seeds.js';

export interface FinetuneOptions extends JobOptions {
  /** `'slf'`, standard linear fine-tuning: a linear head on features of clean images; the encoder stays as it is. */
  mode: 'slf';
  /** Whose fine-tuning values to take. Default `'rocl-cifar10'`: 150 epochs of 1,024 images, rate .1, a tenth from epochs 31, 51 and 101, weight decay 5e-4. */
  preset?: PresetName;
  epochs?: number;
  batchSize?: number;
  /** Any other value of the preset's. */
  overrides?: Overrides<FinetuneConfig>;
  /** The encoder's BatchNorm branch to use; default its first. */
  branch?: string;
  /** Of the head's first values and the order of the images. Default 0. */
  seed?: number;
  /** Hears of every epoch: `epoch` counts those done, `loss` and `accuracy` are means over its training images. */
  onEpoch?: (event: { epoch: number; epochs: number; loss: number; accuracy: number; learningRate: number }) => void;
}

/**
 * Puts a linear classifier on an encoder and trains it on the training images of a data set, as they are (no augmentation), so that features are
 * computed once: the encoder is in eval mode and BatchNorm uses its running statistics. The baseline to compare with is {@link randomEncoder}.
 *
 * The classifier shares the encoder: its weights, and its mode, which is eval afterwards. Same seed, machine and thread count: the same bits.
 * @throws {@link ArgumentTypeError} or {@link ArgumentRangeError} naming the argument; the reason of `signal` when it is aborted.
 */
export async function finetune(encoder: Encoder, data: Dataset, options: FinetuneOptions): Promise<Classifier> {
  if (!(encoder instanceof Encoder)) throw new ArgumentTypeError('encoder', 'an Encoder', describe(encoder));
  if (typeof data?.train !== 'object') throw new ArgumentTypeError('data', 'a Dataset', describe(data));
  if (options === undefined) throw new ArgumentTypeError('options', 'an object', 'undefined');
  const { mode, preset = 'rocl-cifar10', epochs, batchSize, overrides = {}, branch, seed = 0, onEpoch, signal } =
    check.options('options', options, ['mode', 'preset', 'epochs', 'batchSize', 'overrides', 'branch', 'seed', 'onEpoch', 'signal']);
  check.oneOf('mode', mode, ['slf']);
  check.oneOf('preset', preset, Object.keys(presets) as PresetName[]);
  check.integer('seed', seed, { min: 0 });
  checkFunction('onEpoch', onEpoch);
  const config = checkFinetuneConfig(mergeConfig(mergeConfig(presets[preset].finetuning[mode], overrides), { epochs, batchSize }));
  check.signal('options.signal', signal)?.throwIfAborted();

  const classifier = Classifier.create({ encoder, classes: data.classes.length, branch, seed: deriveSeed(seed, 'head') });
  const held: Tensor[] = [];
  const hold = (tensor: Tensor) => (held.push(keep(tensor)), tensor);
  try {
    const { train } = data;
    const features = hold(Tensor.wrap(await job(() => native().encode(encoder.handle, train.pixels.handle, classifier.config.branch, 256), signal)));
    const labels = hold(train.labels());
    const trainer = native().create_trainer(classifier.handle, optimizerValues(config.optimizer), 'head.');
    for (let epoch = 0; epoch < config.epochs; epoch++) {
      using order = keep(Tensor.wrap(native().permutation(train.length, deriveSeed(seed, 'probe'), epoch)));
      const rate = learningRate(config.schedule, { epoch, epochs: config.epochs, step: 0, stepsPerEpoch: 1 });
      const values = await job(() => native().probe_epoch(trainer, features.handle, labels.handle, order.handle, config.batchSize, rate), signal);
      onEpoch?.({ epoch: epoch + 1, epochs: config.epochs, ...values, learningRate: rate });
    }
    return classifier.eval();
  } catch (error) {
    classifier.dispose();
    throw error;
  } finally {
    held.forEach((tensor) => tensor.dispose());
  }
}
