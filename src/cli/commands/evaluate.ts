import { existsSync, statSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { Argument, Option } from 'commander';
import type { AttackName, AttackSettings, Classifier, Dataset, EvaluateOptions, Model, Result, Score, Split } from '../../index.js';
import { checkLines, examine } from '../checks.js';
import { define, type Context } from '../command.js';
import { dataOptions, openData, recordedRun, requireChannels, type DataOptions, type RecordedData, type RecordedRun } from '../data.js';
import { CommandError, UsageError } from '../failure.js';
import { Interrupted } from '../interrupt.js';
import { Keeper } from '../keeper.js';
import { atOnce, countOption, firstTestImages, list, real } from '../options.js';
import { percent, table, type Output } from '../output.js';
import { Progress } from '../progress.js';
import { checkSource, typed } from '../run-folder.js';

interface Options extends DataOptions {
  attacks: AttackName[];
  norm?: 'linf' | 'l2';
  epsilon?: number;
  stepSize?: number;
  restarts?: number;
  batchSize?: number;
  limit?: number;
  state?: string;
  check?: boolean;
}

/** Attacks by name. */
export const ATTACKS = 'pgd<steps>, fgsm, mim<steps>, apgd-ce, apgd-dlr, apgd-t, fab-t, square, cw (with --norm l2), autoattack';

/** The ball and the steps of an attack. */
export const attackOptions = (defaults = { epsilon: '8/255 (l2: 0.5)', stepSize: 'a quarter of epsilon' }): Option[] => [
  new Option('--norm <name>', 'how a change is measured; default: linf').choices(['linf', 'l2']),
  new Option('--epsilon <number>', `the largest change, pixels being in [0, 1]; default: ${defaults.epsilon}`).argParser(real({ min: 0 })),
  new Option('--step-size <number>', `of one step of PGD; default: ${defaults.stepSize}`).argParser(real({ min: 0 })),
  countOption('restarts', 'from so many random starts; default: 1'),
  atOnce(),
];

export const evaluate = define<Options>({
  name: 'evaluate',
  summary: 'measure accuracy, clean and under attack',
  description: 'Measures how many test images a classifier gets right: as they are (clean) and under attack (pgd20: 20 steps of PGD;\n' +
    'autoattack: the standard AutoAttack, of which the worst case counts). An image counts as right under attack only if it is right without it too. Scores of a classifier in the folder of a run are added to its results.jsonl.',
  arguments: [new Argument('<classifier>', 'the folder of a run, a classifier as .safetensors, or a TorchScript model as .pt')],
  options: [
    ...dataOptions("the run's"),
    new Option('--attacks <names>', `clean, ${ATTACKS}; with commas between`).argParser(list() as (text: string) => AttackName[]).default(['clean', 'pgd20'], 'clean,pgd20'),
    ...attackOptions({ epsilon: "the run's, else 8/255 (l2: 0.5)", stepSize: "the run's with its epsilon, else a quarter of epsilon" }),
    firstTestImages(),
    new Option('--state <file>', 'where autoattack keeps what it has found: the same command goes on there after an interruption'),
    new Option('--check', 'look too for what makes such numbers wrong: masked gradients, BatchNorm in train mode, inputs in other units; exit code 1 if found'),
  ],
  examples: [
    ['a-infonce evaluate runs/iphn', 'clean and PGD-20 accuracy'],
    ['a-infonce evaluate runs/iphn --attacks clean,pgd20,autoattack --state runs/iphn/autoattack.safetensors', "AutoAttack too; long, but it can be interrupted"],
    ['a-infonce evaluate runs/iphn --attacks pgd20,pgd100 --epsilon 4/255', 'other attacks'],
    ['a-infonce evaluate model.pt --data cifar10 --limit 1000 --check', 'a TorchScript model, and whether to believe the result'],
  ],
  async action(context, options, path) {
    if (options.state !== undefined && !options.attacks.includes('autoattack')) throw new UsageError('--state is of autoattack: name it among --attacks');
    using loaded = await loadModel(context, path!);
    const { model } = loaded, run = await recordedRun(path!);
    using data = await openData(context, options, dataOf(model, run));
    requireChannels(data, model);
    const { attacks, norm, epsilon, stepSize, restarts, batchSize, limit, seed, state } = options;
    const recorded = recordedPgd(run, options);
    const keeper = new Keeper(context.output), { checkResults } = await import('../../evaluation/results.js');
    if (run) await keeper.keep(run.folder, () => checkResults(run.folder));
    // The checks are short and refuse what cannot be: before hours of attacks.
    const checked = options.check && await examine(context, model, data.test, {
      norm, epsilon: epsilon ?? recorded?.epsilon, stepSize: stepSize ?? recorded?.stepSize, batchSize, limit, seed,
    });
    let scores: Record<string, Score> = {};
    const kept: string[] = [], log = run && join(run.folder, 'results.jsonl'), measured = run && measuredOf(loaded, data);
    const show = (rest: { partial?: true; kept?: { in: string; names: string[] } }, ...more: string[]) => context.output.result(
      { model: path, data: data.name, scores, ...rest, ...keeper.document, ...(checked && { check: checked }) }, [...linesOf(scores, context.output), ...more, ...(checked ? checkLines(checked, context.output) : [])],
    );
    try {
      scores = await measure(context, model, data.test, {
        attacks, norm, epsilon, stepSize, restarts, batchSize, limit, seed, state,
        pgd: recorded && attacks.some((name) => name.startsWith('pgd')) ? { epsilon: recorded.epsilon, stepSize: stepSize ?? recorded.stepSize, randomStart: recorded.randomStart } : undefined,
        onScore: async (name, score) => {
          scores[name] = score;
          if (!run) return;
          if (await keeper.keep(run.folder, () => record(run.folder, measured!, { [name]: score }))) kept.push(name);
        },
      });
    } catch (error) {
      if (attacks.includes('autoattack')) sayWhatIsKept(error, state, context.call);
      const names = Object.keys(scores);
      if (names.length > 0)
        show({ partial: true, ...(kept.length > 0 && { kept: { in: log!, names: kept } }) },
          `Not measured: ${attacks.filter((name) => !(name in scores)).join(', ') || 'nothing else'}.`, kept.length > 0 ? `Kept in ${log}: ${kept.join(', ')}.` : 'Kept nowhere but here.');
      throw error;
    }
    show({});
    return checked && !checked.ok ? 1 : 0;
  },
});

/** Says of an interruption where AutoAttack's state is, and what to type to go on there. */
export function sayWhatIsKept(error: unknown, state: string | undefined, call: string): void {
  if (!(error instanceof Interrupted)) return;
  if (state === undefined) error.message = 'stopped. What AutoAttack has found is kept only with --state <file>';
  else if (existsSync(state)) error.message = `stopped. What AutoAttack has found is kept in ${state}. Go on with:\n  ${call}`;
}

/** A row a score and a row an attack of AutoAttack, and what is to be said of them. */
function linesOf(scores: Record<string, Score>, output: Output): string[] {
  return [
    ...table([
      ['attack', 'accuracy', 'right', 'images', 'norm', 'epsilon', 'step', 'steps', 'start'],
      ...Object.entries(scores).flatMap(([name, { accuracy, correct, total, settings, autoAttack }]) => [
        [name, percent(accuracy), String(correct), String(total), ...columns(settings)],
        ...(autoAttack?.attacks ?? []).map((step) => [
          `  after ${step.attack}`, percent(step.accuracy), String(Math.round(step.accuracy * total)), String(total), ...columns(step.settings),
        ]),
      ]),
    ]),
    ...Object.values(scores).flatMap(({ autoAttack }) => (autoAttack ? [`AutoAttack took ${Number(autoAttack.secondsPerImage.toPrecision(2))} s an image.`] : [])),
    ...warningsOf(scores).map((warning) => output.warning(warning)),
  ];
}

/** The data that a classifier was fine-tuned on, else those of the run. */
export const dataOf = (model: Model, run: RecordedRun | undefined): RecordedData | undefined =>
  ('finetuning' in model ? ((model as Classifier).finetuning?.data as RecordedData | undefined) : undefined) ?? run?.data;

/** What the run says of PGD, which is of PGD alone; a ball of another kind or size has steps of its own. */
export const recordedPgd = (run: RecordedRun | undefined, { norm, epsilon }: { norm?: string | undefined; epsilon?: number | undefined }) =>
  (norm === 'l2' || epsilon !== undefined ? undefined : run?.evaluation?.pgd20);

/** What lines of results.jsonl say of a classifier and of the data. */
export const measuredOf = ({ file, sha256, model }: Pick<Loaded<Model>, 'file' | 'sha256' | 'model'>, data: Dataset): Pick<Result, 'model' | 'sha256' | 'mode' | 'data' | 'dataSha256'> => ({
  model: basename(file), sha256, mode: 'finetuning' in model ? (model as Classifier).finetuning?.mode : undefined, data: data.name, dataSha256: data.test.sha256(),
});

/** Adds the scores of a classifier in a run's folder to its results.jsonl. */
export async function record(folder: string, measured: ReturnType<typeof measuredOf>, scores: Record<string, Pick<Score, 'accuracy' | 'correct' | 'total' | 'warnings'> & { settings: object }>): Promise<void> {
  const { recordResult } = await import('../../index.js');
  for (const [name, { accuracy, correct, total, settings, warnings = [] }] of Object.entries(scores))
    await recordResult(folder, { ...measured, name, accuracy, correct, total, settings: { ...settings }, ...(warnings.length > 0 && { warnings }) });
}

/** Each warning once, with the attacks that it is of. */
function warningsOf(scores: Record<string, Score>): string[] {
  const names = new Map<string, string[]>();
  for (const [name, { warnings = [] }] of Object.entries(scores)) for (const warning of warnings) names.set(warning, [...(names.get(warning) ?? []), name]);
  return [...names].map(([warning, of]) => `${of.join(', ')}: ${warning}`);
}

/** The settings of a score, as the table shows them. */
function columns(settings: Score['settings'] | AttackSettings): string[] {
  if (settings.attack === 'clean') return ['-', '-', '-', '-', '-'];
  const round = (value: number) => String(Number(value.toPrecision(4)));
  const ball = [settings.norm, settings.epsilon === null ? '-' : round(settings.epsilon)];
  if (settings.attack === 'autoattack') return [...ball, '-', '-', '-'];
  const restarts = 'restarts' in settings && settings.restarts > 1 ? ` x ${settings.restarts}` : '';
  const start = settings.attack === 'cw' || settings.attack === 'fab' || ('randomStart' in settings && !settings.randomStart) ? 'image' : 'random';
  return [...ball, 'stepSize' in settings ? round(settings.stepSize) : '-', String('queries' in settings ? settings.queries : settings.steps), start + restarts];
}

/** A model, and the file that it was read from. */
export interface Loaded<Of extends Model> extends Disposable {
  model: Of;
  file: string;
  /** Of the very bytes that were read: what was loaded is what is measured, whatever lies at its name by then. */
  sha256: string | undefined;
}

/** Loads from a file that has the same bytes before and after it. */
export async function unchanged<Of extends Model>(file: string, load: () => Promise<Of>): Promise<Loaded<Of>> {
  const { fileSha256 } = await import('../../runtime/files.js');
  const sha256 = await fileSha256(file), model = await load();
  if (await fileSha256(file) === sha256) return { model, file, sha256, [Symbol.dispose]: () => model.dispose() };
  model.dispose();
  throw new CommandError(`${file}: it was written while it was read. Type the same command again`);
}

/** What can be attacked and evaluated, in eval mode. */
export async function loadModel({ signal }: Context, path: string): Promise<Loaded<Model>> {
  await checkSource(path, 'the folder of a run, a classifier as .safetensors, or a TorchScript model as .pt');
  const { Classifier, Encoder, loadTorchScript } = await import('../../index.js');
  const file = statSync(path).isDirectory() ? join(path, 'classifier.safetensors') : path;
  return await unchanged<Model>(file, async () => {
    if (extname(path) === '.pt') return (await loadTorchScript(path, { signal })).eval();
    try {
      return await Classifier.load(path);
    } catch (error) {
      const encoder = await Encoder.load(path).catch(() => undefined);
      if (encoder === undefined) throw error;
      encoder.dispose();
      throw new CommandError(`${path}: there is an encoder here, but no classifier yet. Type: a-infonce finetune ${typed(path)}`, { cause: error });
    }
  });
}

/** Evaluates and shows it. */
export async function measure(
  { output, signal }: Context, model: Model, split: Split, options: EvaluateOptions, label = 'Evaluating',
): Promise<Record<string, Score>> {
  const { evaluate: run } = await import('../../index.js');
  const names = options.attacks!;
  using progress = new Progress(output, { label, rate: (images) => `${images.toFixed(images < 10 ? 1 : 0)} images/s` });
  // Each attack goes over all of the images: what is done is counted over all of the attacks.
  const done = new Map<string, number>();
  return await run(model, split, {
    ...options, signal,
    onProgress: ({ attack, done: images, total }) => {
      done.set(attack, images);
      progress.outOf(total * names.length).update([...done.values()].reduce((sum, each) => sum + each, 0), attack);
    },
  });
}
