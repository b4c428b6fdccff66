import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { InvalidArgumentError, Option } from 'commander';
import type { Dataset, PretrainConfig, PretrainEvent, PretrainOptions, PresetName } from '../../index.js';
import type { RecordedData } from '../../data/open.js';
import { CLUSTERS } from '../../training/names.js';
import { define, type Context } from '../command.js';
import { dataOptions, openData, recordedRun, type DataOptions } from '../data.js';
import { UsageError } from '../failure.js';
import { Interrupted } from '../interrupt.js';
import { countOption, setting } from '../options.js';
import { counted, duration, table } from '../output.js';
import { checkPreset } from '../presets.js';
import { Progress } from '../progress.js';
import { takeThreads, typed } from '../run-folder.js';

export interface TrainingOptions {
  epochs?: number;
  batchSize?: number;
  limit?: number;
  set?: Record<string, unknown>;
  checkpointEvery?: PretrainOptions['checkpointEvery'];
}

interface Options extends DataOptions, TrainingOptions {
  preset?: string;
  presets?: boolean;
  out?: string;
  resume?: boolean;
  pseudoLabels?: string;
}

/** What every command that trains lets one change. */
export const trainingOptions = (example = 'attack.steps=3', limit = ''): Option[] => [
  countOption('epochs', 'passes over the training images'),
  countOption('batch-size', 'images a step'),
  countOption('limit', `train on so many images, classes balanced${limit}`),
  new Option('--set <key=value>', `any other value of the preset, as ${example}; may be repeated`).argParser(setting),
  new Option('--checkpoint-every <n>', 'save after so many steps (500) or seconds (300s); default: 300s').argParser(interval),
];

/** The changes of a configuration that were typed. */
export const changesOf = ({ set, epochs, batchSize }: TrainingOptions): Record<string, unknown> =>
  ({ ...set, ...(epochs !== undefined && { epochs }), ...(batchSize !== undefined && { batchSize }) });

function interval(text: string): PretrainOptions['checkpointEvery'] {
  const [, count, unit] = /^([1-9]\d*)(s?)$/.exec(text) ?? [];
  if (count === undefined) throw new InvalidArgumentError('Expected a number of steps (500) or of seconds (300s).');
  return unit ? { seconds: Number(count) } : { steps: Number(count) };
}

const DEFAULT_PRESET = 'rocl-iphn-cifar10';

export const pretrain = define<Options>({
  name: 'pretrain',
  summary: 'train an encoder without labels',
  description: 'Trains an encoder by adversarial contrastive learning. Everything is left in a folder, from which an interrupted run goes on.\n' +
    'With --json: one line of JSON an event (start, step, epoch, checkpoint, end).',
  options: [
    new Option('--preset <name>', `a run of the paper; default: ${DEFAULT_PRESET}`),
    new Option('--presets', 'list the presets and end'),
    ...dataOptions("the preset's"),
    new Option('--out <folder>', 'the folder of the run; default: runs/<preset>'),
    new Option('--resume', 'go on with the run in --out'),
    new Option('--pseudo-labels <file>', 'what AdvCL learns from besides: a file that a-infonce cluster wrote'),
    ...trainingOptions(),
  ],
  examples: [
    ['a-infonce pretrain --preset rocl-iphn-cifar10 --out runs/iphn', "the paper's run"],
    ['a-infonce pretrain --preset advcl-iphn-cifar10 --pseudo-labels labels.safetensors', 'its AdvCL sibling'],
    ['a-infonce pretrain --out runs/iphn --resume', 'go on after an interruption'],
    ['a-infonce pretrain --limit 5000 --epochs 20 --set encoder.width=16', 'something smaller'],
    ['a-infonce pretrain --set precision=bf16', 'another result, sooner, on a processor with AVX512_BF16'],
    ['a-infonce pretrain --device cuda', 'on a GPU'],
    ['a-infonce pretrain --presets', 'what there is'],
  ],
  async action(context, options) {
    if (options.presets) return listPresets(context);
    if (options.resume && options.out === undefined) throw new UsageError('--resume needs the folder of the run: --out <folder>');
    const preset = options.preset ?? (options.resume ? undefined : DEFAULT_PRESET);
    const { limitDataset, presets, resolveConfig } = await import('../../index.js');
    checkPreset(preset, Object.keys(presets));
    const set = options.pseudoLabels === undefined ? options.set : { ...options.set, pseudoLabels: { ...options.set?.['pseudoLabels'] as object, path: options.pseudoLabels } };
    // What can be said before the data is read.
    if (preset !== undefined && options.pseudoLabels !== undefined && presets[preset as PresetName].method !== 'advcl')
      throw new UsageError(`--pseudo-labels: ${preset} learns from none; the advcl-* presets do`);
    const config = preset === undefined ? undefined : resolveConfig(preset as PresetName, changesOf({ ...options, set }));
    if (config?.method === 'advcl' && !options.resume) requireLabels(config, options.data ?? config.data.name, options.limit);
    if (options.resume) await takeThreads(context.output, options.out!, options.threads);
    const asked = config?.data;
    const out = options.out ?? join('runs', preset!);
    const recorded = options.resume ? (await recordedRun(out))?.data : undefined;
    const planned: RecordedData | undefined = recorded ?? (asked && { ...asked, name: options.data ?? asked.name });
    if (planned === undefined && options.data === undefined) throw new UsageError(`there is no run in ${out} to go on with; start one with --preset`);
    using data = limitDataset(await openData(context, options, planned, recorded?.size), options.limit ?? recorded?.images);
    await train(context, { ...options, preset, out, data, overrides: set }, `a-infonce pretrain --out ${typed(out)} --resume${context.onDevice}`);
    context.output.note(`\nNext: a-infonce finetune ${typed(out)}`);
  },
});

/** Trains and shows it; returns the path of the encoder. `again` is what to type to go on after an interruption; `events`: print them with --json. */
export async function train(
  context: Context,
  { preset, out, data, resume, seed, epochs, batchSize, overrides, checkpointEvery }: {
    preset: string | undefined; out: string; data: Dataset; resume?: boolean; seed?: number; epochs?: number; batchSize?: number;
    overrides?: Record<string, unknown> | undefined; checkpointEvery?: PretrainOptions['checkpointEvery'];
  },
  again: string,
  events = true,
): Promise<string> {
  const { pretrain: run } = await import('../../index.js');
  const { RunFolder } = await import('../../training/run.js');
  const { output, signal, device } = context;
  if (!resume) RunFolder.requireIdle(out);
  if (!resume && existsSync(join(out, 'config.json'))) throw new UsageError(`there is a run in ${out} already. Choose another --out, or go on with it:\n  ${again}`);
  const began = performance.now();
  let config: PretrainConfig | undefined;
  let progress: Progress | undefined;
  let saved: Extract<PretrainEvent, { type: 'checkpoint' }> | undefined;
  let path = '';
  try {
    for await (const event of run({ preset: preset as PresetName, out, data, resume, device, seed, epochs, batchSize, overrides, checkpointEvery, signal })) {
      if (events) output.event(event);
      switch (event.type) {
        case 'start':
          config = event.config;
          output.note(`${config.preset}: ${counted(data.train.length, 'image')} of ${config.data.name}, ${counted(config.epochs, 'epoch')} of ${counted(event.stepsPerEpoch, 'step')}; ` +
            `${config.encoder.architecture} of width ${config.encoder.width}, ${(event.parameters / 1e6).toFixed(event.parameters < 1e6 ? 2 : 1)} M parameters`);
          output.note(`In ${out} (ctrl-C stops; what is done is kept)`);
          if (event.step > 0) output.note(`Going on after step ${event.step} of ${event.steps}.`);
          progress = new Progress(output, { label: 'Pre-training', total: event.steps, from: event.step, rate: (steps) => `${Math.round(steps * config!.batchSize)} images/s` });
          break;
        case 'warning': output.warn(event.message); break;
        case 'step': progress!.update(event.step, `epoch ${event.epoch + 1}/${config!.epochs}`, `loss ${event.loss.toFixed(4)}`); break;
        case 'epoch':
          progress!.update(event.step, `epoch ${event.epoch + 1}/${config!.epochs}`, `loss ${event.loss.toFixed(4)}`);
          progress!.print();
          break;
        case 'checkpoint': saved = event; break;
        case 'end': path = event.path;
      }
    }
  } catch (error) {
    if (error instanceof Interrupted)
      error.message = saved ? `stopped after step ${saved.step}, which is saved. Go on with:\n  ${again}` : 'stopped before the first step';
    throw error;
  } finally {
    progress?.stop();
  }
  output.note(`Pre-trained in ${duration((performance.now() - began) / 1000)}: ${join(out, basename(path))}`);
  return path;
}

/** Throws what to type when there is no file of pseudo-labels for a run that learns from them. */
function requireLabels({ preset, pseudoLabels: { path, weight, classes } }: Extract<PretrainConfig, { method: 'advcl' }>, data: string, limit: number | undefined): void {
  if (weight === 0 || (path !== undefined && existsSync(path))) return;
  const counts = classes.filter((k) => k <= (limit ?? Infinity));
  const part = `${limit === undefined ? '' : ` --limit ${limit}`}${String(counts) === String(CLUSTERS) || counts.length === 0 ? '' : ` --k ${counts.join(',')}`}`;
  throw new UsageError(`${path === undefined ? `${preset} learns from pseudo-labels: --pseudo-labels <file>` : `--pseudo-labels: there is no ${path}`}. Make one from the features of an encoder:\n` +
    `  a-infonce cluster <encoder> --data ${typed(data)}${part} --out ${typed(path ?? 'labels.safetensors')}\nor go without: --set pseudoLabels.weight=0`);
}

async function listPresets({ output }: Context): Promise<void> {
  const { presets } = await import('../../index.js');
  const rows = Object.values<PretrainConfig>(presets).map(({ preset, encoder, epochs, batchSize, objective }) => {
    const { hardNegative: hn } = objective, ip = 'inferiorPositive' in objective ? objective.inferiorPositive : undefined;
    return [preset, encoder.architecture, String(epochs), String(batchSize), ip ? `${ip.alpha}${'adaptive' in ip && ip.adaptive ? '-0.5' : ''}` : '-', ip ? String(ip.weight) : '-', ...(hn ? [hn.beta, hn.tauPlus].map(String) : ['-', '-'])];
  });
  output.result(presets, table([['preset', 'encoder', 'epochs', 'batch', 'alpha', 'weight', 'beta', 'tau+'], ...rows]));
}
