import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Argument, Option } from 'commander';
import type { Analysis, Encoder, EvaluateOptions } from '../../index.js';
import { define, type Context } from '../command.js';
import { dataOptions, openData, recordedRun, type DataOptions, type RecordedRun } from '../data.js';
import { CommandError } from '../failure.js';
import { Keeper } from '../keeper.js';
import { attackOptions, measure, measuredOf, record } from '../measuring.js';
import { loadModel, unchanged } from '../model.js';
import { integer, real, type CommonOptions } from '../options.js';
import { counted, percent, rounded, table } from '../output.js';
import { Progress } from '../progress.js';
import { typed, unfinished, withoutReproductions } from '../run-folder.js';

interface Options extends DataOptions {
  classifier?: string;
  branch?: string;
  space?: 'projection' | 'features';
  norm?: 'linf' | 'l2';
  epsilon?: number;
  stepSize?: number;
  steps?: number;
  temperature?: number;
  batchSize?: number;
  limit: number;
  curves?: boolean;
}

/** The curves' points: radii with 20 steps, and steps at the radius of --epsilon. */
const EPSILONS = [0, 1, 2, 4, 6, 8, 12, 16, 32, 64].map((each) => each / 255);
const STEPS = [1, 2, 5, 10, 20, 50];

export const analyze = define<Options>({
  name: 'analyze',
  summary: 'measure what encoders make of adversaries: similarities, identity confusion, maps',
  description: "Attacks an encoder with the method's own contrastive attack, and its classifier if there is one, on test images, and measures how often an " +
    "adversary's nearest neighbour in embedding space is another image, how similar positives, negatives and adversaries are, alignment and uniformity. " +
    'Leaves analysis.json and analysis.safetensors in each folder; report shows them.',
  arguments: [new Argument('<runs...>', 'folders of runs')],
  options: [
    ...dataOptions("each run's"),
    new Option('--limit <n>', 'the first images of the test set').argParser(integer({ min: 20 })).default(1000),
    new Option('--classifier <file>', "the classifier's name in each folder; default: classifier.safetensors where it is"),
    new Option('--branch <name>', "the encoder's BatchNorm branch; default: pgd where there is one, else the first"),
    new Option('--space <name>', 'where to compare; default: projection, where the objective acts').choices(['projection', 'features']),
    ...attackOptions().filter(({ long }) => long !== '--restarts'),
    new Option('--steps <n>', 'steps of the attacks; default: 20').argParser(integer({ min: 0, max: 1e6 })),
    new Option('--temperature <number>', 'of the contrastive attack; default: 0.5').argParser(real({ above: 0 })),
    new Option('--curves', "also measure the classifier's accuracy against epsilon and against steps, into results.jsonl"),
  ],
  examples: [
    ['a-infonce analyze runs/* --limit 1000', 'a table of runs side by side'],
    ['a-infonce analyze runs/iphn --curves --limit 200', 'and accuracy against epsilon and steps'],
  ],
  async action(context, options, ...paths) {
    const runs = await checkRuns(paths as string[], options, (message) => context.output.warn(message));
    const found: [string, Analysis][] = [], keeper = new Keeper(context.output);
    const { requireWritable } = await import('../../runtime/files.js'), { checkResults } = await import('../../evaluation/results.js');
    for (const { folder } of runs) {
      if (options.curves) await checkResults(folder);  // they are nowhere else
      await keeper.keep(folder, () => requireWritable(folder));
    }
    for (const run of runs) found.push([run.folder, await analyzeRun(context, options, run, keeper)]);
    context.output.result(Object.fromEntries(found), lines(found));
    if (keeper.problem === undefined) context.output.note(`\nNext: a-infonce report ${runs.map(({ folder }) => typed(folder)).join(' ')}`);
  },
});

/** The runs that can be analysed, all looked at before the first takes its time. Among several, one that is not over is passed over. */
async function checkRuns(paths: string[], { classifier, curves }: Options, warn: (message: string) => void): Promise<RecordedRun[]> {
  const runs: RecordedRun[] = [];
  const open: string[] = [];
  for (const path of await withoutReproductions(paths, warn)) {
    const run = await recordedRun(path), file = classifier ?? 'classifier.safetensors', why = await unfinished(path);
    if (run?.folder !== path) throw new CommandError(`${path}: there is no run in it (no config.json of ours). Name folders that pretrain has made`);
    if (why !== undefined) open.push(why);
    else if ((classifier !== undefined || curves) && !existsSync(join(path, file))) throw new CommandError(`${path}: there is no ${file}. Type: a-infonce finetune ${typed(path)}`);
    else runs.push(run);
  }
  if (runs.length === 0) throw new CommandError(open[0]!);
  for (const why of open) warn(`passed over: ${why}`);
  return runs;
}

async function analyzeRun(context: Context, options: Options & CommonOptions, run: RecordedRun, keeper: Keeper): Promise<Analysis> {
  const { output, signal } = context, path = run.folder;
  const { analyze: measureEmbeddings, saveAnalysis } = await import('../../index.js');
  const { norm, epsilon, stepSize, steps, temperature, batchSize, limit, space, seed } = options;
  const file = options.classifier ?? 'classifier.safetensors';
  const there = existsSync(join(path, file));
  using ofEncoder = await unchanged(join(path, 'encoder.safetensors'), () => loadEncoder(context, path, options.branch));
  using ofClassifier = there ? await loadModel(context, join(path, file)) : undefined;
  const encoder = ofEncoder.model, classifier = ofClassifier?.model;
  using data = await openData(context, options, run.data);
  using progress = new Progress(output, { label: `Attacking ${basename(path)}`, rate: (each) => `${each.toFixed(1)} steps/s` });
  using result = await measureEmbeddings(encoder, data.test, {
    classifier, limit, space, norm, epsilon, stepSize, steps, temperature, batchSize, seed, signal, onProgress: ({ done, total }) => progress.outOf(total).update(done),
  });
  progress.stop();
  await keeper.keep(path, () => saveAnalysis(path, result, {
    data: data.name, classes: [...data.classes], encoder: 'encoder.safetensors', encoderSha256: ofEncoder.sha256, ...(ofClassifier && { classifierFile: file, classifierSha256: ofClassifier.sha256 }),
  }));
  if (ofClassifier && options.curves) {
    const measured = measuredOf(ofClassifier, data);
    const add = async (settings: EvaluateOptions, what: string) =>
      measure(context, ofClassifier.model, data.test, {
        norm, batchSize, limit, seed, ...settings, onScore: (name, score) => record(path, measured, { [name]: score }),
      }, `${basename(path)}, ${what}`);
    for (const each of EPSILONS) {
      const radius = each * (norm === 'l2' ? 16 : 1); // by which the default radii differ, nearly
      await add({ attacks: ['pgd20'], epsilon: radius, stepSize: radius / 4 }, `epsilon ${radius.toPrecision(3)}`);
    }
    await add({ attacks: STEPS.map((each) => `pgd${each}` as const), epsilon, stepSize }, 'steps');
  }
  return result.values;
}

async function loadEncoder({ device }: Context, path: string, branch: string | undefined): Promise<Encoder> {
  const { Encoder } = await import('../../index.js');
  const whole = await Encoder.load(path, { device });
  const wanted = branch ?? (whole.config.branches.length > 1 && whole.config.branches.includes('pgd') ? 'pgd' : undefined);
  if (wanted === undefined) return whole;
  whole.dispose();
  return Encoder.load(path, { branch: wanted, device });
}

/** One column a run. */
function lines(found: [string, Analysis][]): string[] {
  const [, { attack: { norm, epsilon, steps } }] = found[0]!;
  const ball = `${norm} ${rounded(epsilon)}, ${counted(steps, 'step')}`;
  return [
    `Adversaries within ${ball}. Shares are identity confusion:`,
    'how often the nearest neighbour is another image, of a view or its adversary',
    'among the other views, of the adversary of an image (contrastive, or of the',
    'classifier) among the images. Then mean cosine similarities.', '',
    ...turned([
      ['run', 'images', 'view', 'its adversary', 'image, contrastive', 'image, classifier', 'positive', 'adversarial', 'negative', 'alignment', 'uniformity'],
      ...found.map(([path, { images, confusion, classifier, similarity, alignment, uniformity }]) => [
        path, String(images), percent(confusion.views.clean.identity), percent(confusion.views.adversarial.identity), percent(confusion.images.identity),
        classifier ? percent(classifier.confusion.identity) : '-',
        ...[similarity.positive, similarity.adversarialPositive, similarity.negative].map(({ mean }) => mean.toFixed(3)), alignment.clean.toFixed(3), uniformity.clean.toFixed(3),
      ]),
    ]),
  ];
}

/** A table with its rows as columns, below each other where they are too many for a terminal. */
function turned([head, ...rows]: string[][], most = 80): string[] {
  const width = (row: string[]) => Math.max(...row.map(({ length }) => length)) + 3, blocks: string[][][] = [];
  for (const row of rows) {
    const last = blocks.at(-1);
    if (last && [head!, ...last, row].reduce((sum, each) => sum + width(each), -3) <= most) last.push(row);
    else blocks.push([row]);
  }
  return blocks.flatMap((block, at) => [...(at > 0 ? [''] : []), ...table(head!.map((name, line) => [name, ...block.map((row) => row[line]!)]))]);
}
