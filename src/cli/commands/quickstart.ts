import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Option } from 'commander';
import type { Classifier, Encoder, PresetName, PretrainConfig, Score } from '../../index.js';
import { define } from '../command.js';
import { openData, recordedRun } from '../data.js';
import { UsageError } from '../failure.js';
import { Interrupted } from '../interrupt.js';
import { measure, measuredOf, record } from '../measuring.js';
import { duration, percent, table } from '../output.js';
import { freshFolder, takeThreads, typed } from '../run-folder.js';
import { fitHead } from './finetune.js';
import { changesOf, train, trainingOptions, type TrainingOptions } from './pretrain.js';

interface Options extends TrainingOptions {
  out?: string;
  resume?: boolean;
}

const PRESET = 'quickstart' satisfies PresetName;

export const quickstart = define<Options>({
  name: 'quickstart',
  summary: 'the whole protocol in a few minutes, on images made on the spot',
  description: 'Pre-trains a small encoder without labels (RoCL-IP+HN, on images made on the spot), puts a linear classifier on it, and compares its ' +
    'accuracy, clean and under attack, with that of the same classifier on an encoder with random weights.',
  options: [new Option('--out <folder>', 'the folder of the run; default: runs/quickstart, with a number after it if it is there already'), new Option('--resume', 'go on with the one in --out'), ...trainingOptions()],
  examples: [
    ['a-infonce quickstart', 'some minutes on two cores'],
    ['a-infonce quickstart --epochs 20', 'longer, and better'],
    ['a-infonce quickstart --out runs/quickstart --resume', 'go on after an interruption'],
  ],
  async action(context, { out: wanted, resume, set, limit, epochs, batchSize, seed: given, threads, checkpointEvery }) {
    const { Encoder, limitDataset, randomEncoder, resolveConfig } = await import('../../index.js');
    if (resume && wanted === undefined) throw new UsageError('--resume needs the folder of the run: --out <folder>');
    const { output } = context;
    const began = performance.now();
    const out = wanted ?? freshFolder(join('runs', PRESET)), recorded = resume ? await recordedRun(out) : undefined;
    if (resume && recorded?.preset !== PRESET) throw new UsageError(`there is no quickstart in ${out} to go on with`);
    if (resume) await takeThreads(output, out, threads);
    const config = (recorded?.config as PretrainConfig | undefined) ?? resolveConfig(PRESET, changesOf({ set, epochs, batchSize })), seed = given ?? config.seed;
    using data = limitDataset(await openData(context, {}, config.data), limit ?? recorded?.data.images);
    const again = `a-infonce quickstart --out ${typed(out)} --resume${context.onDevice}`;
    await train(context, { preset: recorded ? undefined : PRESET, out, data, resume, seed: given, epochs, batchSize, overrides: set, checkpointEvery }, again, false);

    const compare = async (encoder: Encoder, name: string, file: string): Promise<Record<string, Score>> => {
      const { classifier } = await fitHead(context, encoder, data, { mode: 'slf', preset: config, seed }, `Classifier on the ${name} encoder`);
      using fitted: Classifier = classifier;
      await fitted.save(join(out, file));
      const { epsilon, stepSize } = config.evaluation.pgd20;
      const { fileSha256 } = await import('../../runtime/files.js');
      const measured = measuredOf({ file, sha256: await fileSha256(join(out, file)), model: fitted }, data);
      return await measure(context, fitted, data.test, {
        attacks: ['clean', 'pgd20'], epsilon, stepSize, seed, onScore: (attack, score) => record(out, measured, { [attack]: score }),
      }, `Attacking the ${name} one`);
    };
    using trained = await Encoder.load(out, { device: context.device });
    const stopped = (error: unknown): never => {
      if (error instanceof Interrupted) error.message = `stopped; the encoder is kept in ${out}. Go on with:\n  ${again}`;
      throw error;
    };
    using random = await randomEncoder(trained, data, { seed, signal: context.signal }).catch(stopped);
    const scores = {
      pretrained: await compare(trained, 'pre-trained', 'classifier.safetensors').catch(stopped),
      random: await compare(random, 'random', 'random-classifier.safetensors').catch(stopped),
    };
    const seconds = (performance.now() - began) / 1000;
    const result = { out, seconds, scores };
    await writeFile(join(out, 'quickstart.json'), `${JSON.stringify(result, null, 2)}\n`);
    const row = (name: string, { clean, pgd20 }: Record<string, Score>) => [name, percent(clean!.accuracy), percent(pgd20!.accuracy)];
    output.result(result, [
      '',
      ...table([['linear classifier on', 'clean', 'PGD-20'], row(`${methodName(config)} encoder`, scores.pretrained), row('random encoder', scores.random)])
        .map((line, at) => (at === 0 ? output.style('bold', line) : line)),
      '',
      `${data.test.length} test images, epsilon ${config.evaluation.pgd20.epsilon}; ${duration(seconds)} in all. Everything is in ${out}:`,
      '  config.json              the configuration, everything resolved',
      '  metrics.jsonl            loss and rate, step by step',
      '  encoder.safetensors      the encoder',
      '  classifier.safetensors   with its linear classifier',
    ]);
    const next = [
      [`a-infonce evaluate ${typed(out)} --attacks clean,pgd100`, 'a stronger attack'],
      [`a-infonce attack ${typed(out)} --limit 64`, 'the adversarial images themselves'],
      ['a-infonce data cifar10', 'the images of the paper'],
      ['a-infonce pretrain --preset rocl-iphn-cifar10', 'its run'],
    ] as const;
    const width = Math.max(...next.map(([call]) => call.length));
    output.note(['', 'Next:', ...next.map(([call, effect]) => `  ${call.padEnd(width)}   ${effect}`)].join('\n'));
  },
});

/** RoCL, RoCL-IP, RoCL-HN or RoCL-IP+HN. */
function methodName({ objective }: PretrainConfig): string {
  const { hardNegative } = objective;
  const parts = [...('inferiorPositive' in objective && objective.inferiorPositive ? ['IP'] : []), ...(hardNegative ? ['HN'] : [])].join('+');
  return parts ? `RoCL-${parts}` : 'RoCL';
}
