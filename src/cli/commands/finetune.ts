import { existsSync } from 'node:fs';
import { readdir, readFile, realpath } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { Argument, Option } from 'commander';
import type { Classifier, Dataset, Encoder, FinetuneMode, FinetuneOptions, PresetName, PretrainConfig } from '../../index.js';
import type { RecordedData } from '../../data/open.js';
import { classifierFile, isFinetuning, workFolder } from '../../training/names.js';
import { define, type Context } from '../command.js';
import { dataOptions, openData, recordedRun, requireChannels, type DataOptions, type RecordedRun } from '../data.js';
import { CommandError, UsageError } from '../failure.js';
import { Interrupted } from '../interrupt.js';
import { real } from '../options.js';
import { counted, duration, percent } from '../output.js';
import { checkPreset } from '../presets.js';
import { Progress } from '../progress.js';
import { beside, checkPlace, checkSource, takeThreads, typed } from '../run-folder.js';
import { trainingOptions } from './pretrain.js';

interface Options extends DataOptions {
  mode: FinetuneMode;
  preset?: string;
  out?: string;
  resume?: boolean;
  overwrite?: boolean;
  randomEncoder?: boolean;
  labelFraction?: number;
  validation?: number;
  epochs?: number;
  batchSize?: number;
  limit?: number;
  branch?: string;
  set?: Record<string, unknown>;
  checkpointEvery?: FinetuneOptions['checkpointEvery'];
}

export const finetune = define<Options>({
  name: 'finetune',
  summary: 'put a classifier on an encoder',
  description: 'Trains a classifier on an encoder with labelled images. Mode slf: a linear one on features of clean images; alf: the same on adversarial\n' +
    'images; aff: encoder and classifier together, by TRADES. The data may be others than those of pre-training.',
  arguments: [new Argument('<encoder>', 'the folder of a run, or an encoder as .safetensors')],
  options: [
    ...dataOptions("the run's"),
    new Option('--mode <name>', 'what is trained, on what').choices(['slf', 'alf', 'aff']).default('slf'),
    new Option('--label-fraction <share>', 'learn from this share of the labels: .1, .01').argParser(real({ above: 0, max: 1 })),
    new Option('--validation <amount>', 'hold out a share (.1) or a number of the training images, and keep the epoch that is best on them').argParser(real({ above: 0 })),
    new Option('--out <file>', 'the classifier; default: classifier.safetensors, classifier-alf... or classifier-aff... in the folder of the run'),
    new Option('--resume', 'go on after an interruption').conflicts('overwrite'),
    new Option('--overwrite', 'replace a classifier that is there'),
    new Option('--random-encoder', 'a baseline: an encoder of the same shape with random weights (default file: random-classifier.safetensors)'),
    new Option('--preset <name>', "whose values of fine-tuning to take; default: the run's, else rocl-cifar10"),
    new Option('--branch <name>', "the encoder's BatchNorm branch; default: pgd where there is one, else the first"),
    ...trainingOptions('schedule.rate=0.01', "; default: as many as the run's"),
  ],
  examples: [
    ['a-infonce finetune runs/iphn', 'a linear classifier in runs/iphn/classifier.safetensors'],
    ['a-infonce finetune runs/iphn --mode aff --validation .1', 'everything, adversarially; the best epoch on held-out images'],
    ['a-infonce finetune runs/iphn --mode aff --validation .1 --resume', 'go on after an interruption'],
    ['a-infonce finetune runs/iphn --label-fraction .01', 'from one label in a hundred'],
    ['a-infonce finetune runs/iphn --data cifar100 --out transfer.safetensors', 'other data than it was trained on'],
    ['a-infonce finetune runs/iphn --random-encoder', 'the baseline to compare with'],
  ],
  async action(context, options, from) {
    const { preset, mode, epochs, batchSize, branch, seed, labelFraction, validation, resume, overwrite, checkpointEvery } = options;
    const { Encoder, limitDataset, presets, randomEncoder } = await import('../../index.js');
    checkPreset(preset, Object.keys(presets));
    await checkSource(from!, 'the folder of a run, or an encoder as .safetensors');
    const out = options.out ?? beside(from!, `${options.randomEncoder ? 'random-' : ''}${classifierFile(mode)}`);
    await checkPlace(out, 'classifier', [from!, join(from!, 'encoder.safetensors')], classifierFile(mode));
    const work = workFolder(out);
    if (resume) await takeThreads(context.output, work, options.threads);
    else await checkMakesWay(context.call, work, from!, options.data);
    if (!overwrite && (resume ? existsSync(out) && !existsSync(join(work, 'config.json')) : existsSync(out) || existsSync(join(work, 'classifier.safetensors'))))
      throw new UsageError(`there is a classifier in ${existsSync(out) ? out : work} already. Choose another --out, or replace it:\n  ${withFlag(context.call, '--overwrite')}`);
    const run = await recordedRun(from!), recorded = resume ? (await recordedRun(work))?.data : undefined;
    using loaded = await Encoder.load(from!, { device: context.device });
    using data = limitDataset(await openTransfer(context, options, run, recorded, loaded), options.limit ?? (recorded ?? (options.data === undefined ? run?.data : undefined))?.images);
    using encoder = options.randomEncoder ? await randomEncoder(loaded, data, { seed: options.seed, signal: context.signal }) : undefined;
    const fitted = await fitHead(context, encoder ?? loaded, data, {
      mode, preset: (preset as PresetName | undefined) ?? (run?.config as PretrainConfig | undefined), epochs, batchSize, branch, seed, labelFraction, validation,
      overrides: options.set, out: work, resume, overwrite, checkpointEvery,
    });
    using classifier = fitted.classifier;
    await classifier.save(out);
    const { last, seconds, unsaved } = fitted;
    context.output.result({ classifier: out, mode, ...last }, last.epochs === 0 ? [`${out}: all of it was done already`] : [
      `${out}: ${percent(last.accuracy)} of the ${mode === 'alf' ? 'adversaries of the ' : ''}training images right, after ${counted(last.epochs, 'epoch')} (${duration(seconds)})`,
      ...(last.validationAccuracy === undefined ? [] : [`Of epoch ${last.epoch + 1}, whose classifier got ${percent(last.validationAccuracy)} of the held-out images right ${mode === 'slf' ? 'without' : 'under'} attack`]),
    ]);
    if (unsaved) throw new CommandError(`the classifier is in ${out}, but not all that belongs in ${work} could be written: ${unsaved.message}`, { cause: unsaved });
    context.output.note(`\nNext: a-infonce evaluate ${typed(options.out === undefined && !options.randomEncoder && mode === 'slf' ? from! : out)}`);
  },
});

/** The call with that one of --resume and --overwrite. */
const withFlag = (call: string, flag: string): string => `${call.replace(/ --(resume|overwrite)(?= |$)/g, '')} ${flag}`;

/** Throws unless `work` is missing, empty, or the folder of a fine-tuning that is over, and outside of what is read. */
async function checkMakesWay(call: string, work: string, ...inputs: (string | undefined)[]): Promise<void> {
  const names: string[] = await readdir(work).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const { RunFolder } = await import('../../training/run.js');
  RunFolder.requireIdle(work);
  if (names.every((name) => /^(run\.lock|environment\.json)$/.test(name))) return;  // one that was killed as it began
  const config: unknown = await readFile(join(work, 'config.json'), 'utf8').then(JSON.parse).catch(() => undefined);
  if (!isFinetuning(config)) throw new UsageError(`the state of the fine-tuning would lie in ${work}, and that folder is not a fine-tuning's. Choose another --out`);
  if (!names.includes('classifier.safetensors')) throw new UsageError(`an interrupted fine-tuning is in ${work}. Go on with it, or remove that folder:\n  ${withFlag(call, '--resume')}`);
  const place = (await realpath(work)) + sep;
  for (const input of inputs)
    if (input !== undefined && `${await realpath(input).catch(() => '')}${sep}`.startsWith(place)) throw new UsageError(`${input} lies in ${work}, which would be overwritten. Choose another --out`);
}

/** The data of a fine-tuning: those of `recorded` that goes on, else by default the run's, and images of the size that it saw, unless --image-size says otherwise. */
async function openTransfer(context: Context, options: DataOptions, run: RecordedRun | undefined, recorded: RecordedData | undefined, encoder: Encoder): Promise<Dataset> {
  const known = recorded ?? run?.data, size = known?.size;
  const data = await openData(context, options, known, size);
  requireChannels(data, encoder);
  if (recorded !== undefined || size === undefined || data.size === size || options.imageSize === data.size) return data;
  data.dispose();
  throw new UsageError(`--data: the encoder was trained on images of ${size} x ${size}, ${data.name} has ${data.size} x ${data.size}. It takes any size: --image-size ${data.size} to go on`);
}

/** What came out of a fine-tuning: the epochs done, numbers of the one that was kept. */
interface Outcome {
  epochs: number;
  epoch: number;
  loss: number;
  accuracy: number;
  validationAccuracy?: number;
}

/** Fine-tunes and shows it. */
export async function fitHead(
  { output, signal, call }: Context, encoder: Encoder, data: Dataset, options: FinetuneOptions, label = 'Fine-tuning',
): Promise<{ classifier: Classifier; last: Outcome; seconds: number; unsaved: Error | undefined }> {
  const { finetune: run } = await import('../../index.js');
  const began = performance.now();
  let last: Outcome = { epochs: 0, epoch: -1, loss: NaN, accuracy: NaN };
  let saved: number | undefined, unsaved: Error | undefined;
  let progress: Progress | undefined;
  let place = '';
  try {
    const classifier = await run(encoder, data, {
      ...options, signal,
      onEvent: (event) => {
        switch (event.type) {
          case 'start': {
            const { epochs, batchSize } = event.config.config;
            place = `/${epochs}`;
            if (event.step > 0) output.note(`Going on after step ${event.step} of ${event.steps}.`);
            progress = new Progress(output, { label, total: event.steps, from: event.step, rate: (steps) => `${Math.round(steps * batchSize)} images/s` });
            break;
          }
          case 'warning': output.warn(event.message); break;
          case 'step': progress!.update(event.step, `epoch ${event.epoch + 1}${place}`, `loss ${event.loss.toFixed(4)}`, `accuracy ${percent(event.accuracy)}`); break;
          case 'epoch': {
            const { epoch, loss, accuracy, validationAccuracy: held } = event;
            if (last.validationAccuracy === undefined || held! > last.validationAccuracy) last = { ...last, epoch, loss, accuracy, ...(held !== undefined && { validationAccuracy: held }) };
            last.epochs = epoch + 1;
            progress!.update(event.step, `epoch ${epoch + 1}${place}`, `loss ${loss.toFixed(4)}`, `accuracy ${percent(accuracy)}`, ...(held === undefined ? [] : [`held out ${percent(held)}`]));
            if (options.mode === 'aff') progress!.print();
            break;
          }
          case 'checkpoint': saved = event.step; break;
          case 'unsaved': unsaved = event.error; break;
          case 'end': last = { ...last, epoch: event.epoch };
        }
      },
    });
    return { classifier, last, seconds: (performance.now() - began) / 1000, unsaved };
  } catch (error) {
    if (error instanceof Interrupted && saved !== undefined) error.message = `stopped after step ${saved}, which is saved. Go on with:\n  ${withFlag(call, '--resume')}`;
    throw error;
  } finally {
    progress?.stop();
  }
}
