import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Argument, Option } from 'commander';
import type { Classifier, Dataset, Encoder, FinetuneOptions, PresetName } from '../../index.js';
import { define, type Context } from '../command.js';
import { dataOptions, openData, recordedRun, type DataOptions } from '../data.js';
import { CommandError } from '../failure.js';
import { integer, setting } from '../options.js';
import { counted, duration, percent } from '../output.js';
import { Progress } from '../progress.js';
import { beside, checkPlace, typed } from '../run-folder.js';
import { limited } from './pretrain.js';

interface Options extends DataOptions {
  mode: 'slf';
  preset?: string;
  out?: string;
  randomEncoder?: boolean;
  epochs?: number;
  batchSize?: number;
  limit?: number;
  branch?: string;
  set?: Record<string, unknown>;
}

export const finetune = define<Options>({
  name: 'finetune',
  summary: 'put a classifier on an encoder',
  description: 'Trains a linear classifier on the features of an encoder (slf: the encoder stays as it is, images are clean).',
  arguments: [new Argument('<encoder>', 'the folder of a run, or an encoder as .safetensors')],
  options: [
    ...dataOptions("the run's"),
    new Option('--mode <name>', 'what is trained, on what').choices(['slf']).default('slf'),
    new Option('--out <file>', 'the classifier; default: classifier.safetensors in the folder of the run'),
    new Option('--random-encoder', 'a baseline: an encoder of the same shape with random weights (default file: random-classifier.safetensors)'),
    new Option('--preset <name>', "whose values of fine-tuning to take; default: the run's, else rocl-cifar10"),
    new Option('--epochs <n>', 'passes over the training images').argParser(integer({ min: 1 })),
    new Option('--batch-size <n>', 'images a step').argParser(integer({ min: 1 })),
    new Option('--limit <n>', 'train on so many images, classes balanced').argParser(integer({ min: 1 })),
    new Option('--branch <name>', "the encoder's BatchNorm branch; default: its first"),
    new Option('--set <key=value>', 'any other value, as schedule.rate=0.01; may be repeated').argParser(setting),
  ],
  examples: [
    ['a-infonce finetune runs/iphn', 'a linear classifier in runs/iphn/classifier.safetensors'],
    ['a-infonce finetune runs/iphn --random-encoder', 'the baseline to compare with'],
  ],
  async action(context, options, from) {
    const out = options.out ?? beside(from!, options.randomEncoder ? 'random-classifier.safetensors' : 'classifier.safetensors');
    await checkPlace(out, [from!, join(from!, 'encoder.safetensors')]);
    if (existsSync(join(from!, 'config.json')) && !existsSync(join(from!, 'encoder.safetensors')))
      throw new CommandError(`the run in ${from} is not finished. Go on with it:\n  a-infonce pretrain --out ${typed(from!)} --resume`);
    const run = await recordedRun(from!);
    const { Encoder, randomEncoder } = await import('../../index.js');
    using loaded = await Encoder.load(from!);
    using data = limited(await openData(context, options, run?.data), options.limit);
    using encoder = options.randomEncoder ? await randomEncoder(loaded, data, { seed: options.seed, signal: context.signal }) : undefined;
    const { preset, mode, epochs, batchSize, branch, seed, set } = options;
    const fitted = await fitHead(context, encoder ?? loaded, data, { mode, preset: (preset ?? run?.preset) as PresetName, epochs, batchSize, branch, seed, overrides: set });
    using classifier = fitted.classifier;
    await classifier.save(out);
    context.output.result({ classifier: out, mode, ...fitted.last }, [
      `${out}: ${percent(fitted.last.accuracy)} of the training images right, after ${counted(fitted.last.epochs, 'epoch')} (${duration(fitted.seconds)})`,
    ]);
    context.output.note(`\nNext: a-infonce evaluate ${typed(options.out === undefined && !options.randomEncoder ? from! : out)}`);
  },
});

/** Fine-tunes and shows it. */
export async function fitHead(
  { output, signal }: Context, encoder: Encoder, data: Dataset, options: FinetuneOptions, label = 'Fine-tuning',
): Promise<{ classifier: Classifier; last: { epochs: number; loss: number; accuracy: number }; seconds: number }> {
  const { finetune: run } = await import('../../index.js');
  const began = performance.now();
  let last = { epochs: 0, loss: NaN, accuracy: NaN };
  using progress = new Progress(output, { label });
  const classifier = await run(encoder, data, {
    ...options, signal,
    onEpoch: ({ epoch, epochs, loss, accuracy }) => {
      last = { epochs: epoch, loss, accuracy };
      progress.outOf(epochs).update(epoch, `epoch ${epoch}/${epochs}`, `loss ${loss.toFixed(4)}`, `accuracy ${percent(accuracy)}`);
    },
  });
  return { classifier, last, seconds: (performance.now() - began) / 1000 };
}
