/** What the commands share that measure under attack: how attacks are asked for, run and shown, and how scores are kept. */
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { Option } from 'commander';
import type { Classifier, Dataset, EvaluateOptions, Model, Result, Score, Split } from '../index.js';
import type { Context } from './command.js';
import type { RecordedRun } from './data.js';
import { UsageError } from './failure.js';
import { Interrupted } from './interrupt.js';
import type { Loaded } from './model.js';
import { atOnce, countOption, real } from './options.js';
import { Progress } from './progress.js';

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

/** Steps of PGD as a CUDA graph, and that there is a card for it. */
export const graphOption = (): Option => new Option('--graph', 'on a GPU, for small batches: the steps of PGD as a CUDA graph');
export function checkGraph(device: string, graph: boolean | undefined): void {
  if (graph && device === 'cpu') throw new UsageError('--graph is of a GPU: type --device cuda too, or leave it out');
}

/** What the run says of PGD, which is of PGD alone; a ball of another kind or size has steps of its own. */
export const recordedPgd = (run: RecordedRun | undefined, { norm, epsilon }: { norm?: string | undefined; epsilon?: number | undefined }) =>
  (norm === 'l2' || epsilon !== undefined ? undefined : run?.evaluation?.pgd20);

/** Evaluates and shows it. */
export async function measure(
  { output, signal }: Context, model: Model, split: Split, options: EvaluateOptions, label = 'Evaluating',
): Promise<Record<string, Score>> {
  const { evaluate: run } = await import('../index.js');
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

/** Says of an interruption where AutoAttack's state is, and what to type to go on there. */
export function sayWhatIsKept(error: unknown, state: string | undefined, call: string): void {
  if (!(error instanceof Interrupted)) return;
  if (state === undefined) error.message = 'stopped. What AutoAttack has found is kept only with --state <file>';
  else if (existsSync(state)) error.message = `stopped. What AutoAttack has found is kept in ${state}. Go on with:\n  ${call}`;
}

/** What lines of results.jsonl say of a classifier and of the data. */
export const measuredOf = ({ file, sha256, model }: Pick<Loaded<Model>, 'file' | 'sha256' | 'model'>, data: Dataset): Pick<Result, 'model' | 'sha256' | 'mode' | 'data' | 'dataSha256'> => ({
  model: basename(file), sha256, mode: 'finetuning' in model ? (model as Classifier).finetuning?.mode : undefined, data: data.name, dataSha256: data.test.sha256(),
});

/** Adds the scores of a classifier in a run's folder to its results.jsonl. */
export async function record(folder: string, measured: ReturnType<typeof measuredOf>, scores: Record<string, Pick<Score, 'accuracy' | 'correct' | 'total' | 'warnings'> & { settings: object }>): Promise<void> {
  const { recordResult } = await import('../index.js');
  for (const [name, { accuracy, correct, total, settings, warnings = [] }] of Object.entries(scores))
    await recordResult(folder, { ...measured, name, accuracy, correct, total, settings: { ...settings }, ...(warnings.length > 0 && { warnings }) });
}
