import { join } from 'node:path';
import { Argument, Option } from 'commander';
import type { CorruptionReport, CorruptionScore, PublishedCorruption, Severity } from '../../index.js';
import { define } from '../command.js';
import { dataOptions, openData, recordedRun, requireChannels, type DataOptions } from '../data.js';
import { Interrupted } from '../interrupt.js';
import { Keeper } from '../keeper.js';
import { measuredOf, record } from '../measuring.js';
import { dataOf, loadModel } from '../model.js';
import { atOnce, firstTestImages, list } from '../options.js';
import { percent, table } from '../output.js';
import { Progress } from '../progress.js';

interface Options extends DataOptions {
  published?: string;
  types?: PublishedCorruption[];
  severities: Severity[];
  batchSize?: number;
  limit?: number;
  again?: boolean;
}

export const corruptions = define<Options>({
  name: 'corruptions',
  summary: 'measure accuracy under common corruptions',
  description: 'Measures how many test images a classifier gets right under the fifteen common corruptions of Hendrycks and Dietterich (noise, blur, weather,\n' +
    'color, geometry) at five severities. They are made here, or read from a folder of CIFAR-10-C or CIFAR-100-C. Each number of a classifier in the folder\n' +
    'of a run is added to its results.jsonl at once, and not measured again unless the classifier or the images are others.',
  arguments: [new Argument('<classifier>', 'the folder of a run, a classifier as .safetensors, or a TorchScript model as .pt')],
  options: [
    ...dataOptions("the run's"),
    new Option('--published <folder>', 'read them there (gaussian_noise.npy, ..., labels.npy) instead of making them'),
    new Option('--types <names>', 'some of them, as fog,jpeg-compression; default: all fifteen').argParser(list() as (text: string) => PublishedCorruption[]),
    new Option('--severities <numbers>', 'some of 1 to 5, with commas between').argParser((text) => list(['1', '2', '3', '4', '5'])(text).map(Number) as Severity[])
      .default([1, 2, 3, 4, 5], '1,2,3,4,5'),
    atOnce(),
    firstTestImages(),
    new Option('--again', 'measure also what results.jsonl has already'),
  ],
  examples: [
    ['a-infonce corruptions runs/iphn', 'all of them, made here'],
    ['a-infonce corruptions runs/iphn --published CIFAR-10-C', 'the published images'],
    ['a-infonce corruptions runs/iphn --types fog,snow --severities 3 --limit 1000', 'some of them'],
  ],
  async action(context, options, path) {
    const { output, signal, call } = context;
    const { published, types, severities, batchSize, limit, again, seed } = options;
    using loaded = await loadModel(context, path!);
    const { model } = loaded, run = await recordedRun(path!);
    using data = await openData(context, options, dataOf(model, run));
    requireChannels(data, model);
    const { evaluateCorruptions, readResults } = await import('../../index.js');
    const done: CorruptionScore[] = [];
    const measured = run && measuredOf(loaded, data);
    if (run && measured && !again)
      for (const result of await readResults(run.folder)) {
        const { corruption, severity } = result.settings;
        if (result.model === measured.model && result.sha256 === measured.sha256 && result.dataSha256 === measured.dataSha256 && typeof corruption === 'string')
          done.push({ type: corruption, severity, ...result } as unknown as CorruptionScore);
      }
    const keeper = new Keeper(output), { checkResults } = await import('../../evaluation/results.js');
    if (run) await keeper.keep(run.folder, () => checkResults(run.folder));
    using progress = new Progress(output, { label: 'Corrupting', rate: (images) => `${images.toFixed(images < 10 ? 1 : 0)} images/s` });
    const stopped = (error: unknown): never => {
      if (error instanceof Interrupted && run && keeper.problem === undefined) error.message = `stopped. What was measured is in ${join(run.folder, 'results.jsonl')}; go on from there with:\n  ${call}`;
      throw error;
    };
    const { FROST_NOTE } = await import('../../data/corrupt.js');
    const report = await evaluateCorruptions(model, data.test, {
      types, severities, source: published ?? 'generated', seed, limit, batchSize, done, signal,
      onScore: async (score) => { if (run) await keeper.keep(run.folder, () => record(run.folder, measured!, { [`${score.type}-${score.severity}`]: score })); },
      onProgress: ({ name, done: images, total }) => progress.outOf(total).update(images, name),
    }).catch(stopped);
    progress.stop();
    output.result({ model: path, data: data.name, source: published ?? 'generated', ...report, ...keeper.document }, lines(report, severities, published === undefined && report.types.frost !== undefined ? FROST_NOTE : undefined));
  },
});

function lines({ clean, scores, types, mean, relative, meanWithoutFrost }: CorruptionReport, severities: readonly Severity[], note: string | undefined): string[] {
  const rows = Object.entries(types).map(([type, average]) => [
    type, ...severities.map((severity) => percent(scores.find((score) => score.type === type && score.severity === severity)!.accuracy)), percent(average),
  ]);
  return [
    ...table([['corruption', ...severities.map((severity) => `severity ${severity}`), 'mean'], ...rows]),
    '',
    ...table([['mean', percent(mean)], ...(meanWithoutFrost === undefined ? [] : [['mean without frost', percent(meanWithoutFrost)]]), ['clean', percent(clean.accuracy)], ['mean / clean', percent(relative)]]),
    '',
    `${clean.total} images of each.`,
    ...(note === undefined ? [] : [note]),
  ];
}
