import { join } from 'node:path';
import { Argument, Option } from 'commander';
import type { AttackName, AttackSettings, Score } from '../../index.js';
import { checkLines, examine } from '../checks.js';
import { define } from '../command.js';
import { dataOptions, openData, recordedRun, requireChannels, type DataOptions } from '../data.js';
import { UsageError } from '../failure.js';
import { Keeper } from '../keeper.js';
import { ATTACKS, attackOptions, checkGraph, graphOption, measure, measuredOf, record, recordedPgd, sayWhatIsKept } from '../measuring.js';
import { dataOf, loadModel } from '../model.js';
import { firstTestImages, list } from '../options.js';
import { percent, rounded, table, type Output } from '../output.js';

interface Options extends DataOptions {
  attacks: AttackName[];
  norm?: 'linf' | 'l2';
  epsilon?: number;
  stepSize?: number;
  restarts?: number;
  batchSize?: number;
  graph?: boolean;
  limit?: number;
  state?: string;
  check?: boolean;
}

export const evaluate = define<Options>({
  name: 'evaluate',
  summary: 'measure accuracy, clean and under attack',
  description: 'Measures how many test images a classifier gets right: as they are (clean) and under attack (pgd20: 20 steps of PGD;\n' +
    'autoattack: the standard AutoAttack, of which the worst case counts). An image counts as right under attack only if it is right without it too. Scores of a classifier in the folder of a run are added to its results.jsonl.',
  arguments: [new Argument('<classifier>', 'the folder of a run, a classifier as .safetensors, or a TorchScript model as .pt')],
  options: [
    ...dataOptions("the run's"),
    new Option('--attacks <names>', `clean, ${ATTACKS}; with commas between`).argParser(list() as (text: string) => AttackName[]).default(['clean', 'pgd20'], 'clean,pgd20'),
    ...attackOptions({ epsilon: "for pgd the run's, else 8/255 (l2: 0.5)", stepSize: "the run's with its epsilon, else a quarter of epsilon" }),
    graphOption(),
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
    checkGraph(context.device, options.graph);
    using loaded = await loadModel(context, path!);
    const { model } = loaded, run = await recordedRun(path!);
    using data = await openData(context, options, dataOf(model, run));
    requireChannels(data, model);
    const { attacks, norm, epsilon, stepSize, restarts, batchSize, graph, limit, seed, state } = options;
    const recorded = recordedPgd(run, options), others = attacks.filter((name) => name !== 'clean' && !name.startsWith('pgd'));
    if (recorded && recorded.epsilon !== 8 / 255 && others.length > 0 && attacks.some((name) => name.startsWith('pgd')))
      context.output.warn(`pgd has the run's epsilon, ${rounded(recorded.epsilon)}, ${others.join(', ')} the default, 8/255: --epsilon is for all of them`);
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
        attacks, norm, epsilon, stepSize, restarts, batchSize, graph, limit, seed, state,
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

/** Each warning once, with the attacks that it is of. */
function warningsOf(scores: Record<string, Score>): string[] {
  const names = new Map<string, string[]>();
  for (const [name, { warnings = [] }] of Object.entries(scores)) for (const warning of warnings) names.set(warning, [...(names.get(warning) ?? []), name]);
  return [...names].map(([warning, of]) => `${of.join(', ')}: ${warning}`);
}

/** The settings of a score, as the table shows them. */
function columns(settings: Score['settings'] | AttackSettings): string[] {
  if (settings.attack === 'clean') return ['-', '-', '-', '-', '-'];
  const ball = [settings.norm, settings.epsilon === null ? '-' : rounded(settings.epsilon)];
  if (settings.attack === 'autoattack') return [...ball, '-', '-', '-'];
  const restarts = 'restarts' in settings && settings.restarts > 1 ? ` x ${settings.restarts}` : '';
  const start = settings.attack === 'cw' || settings.attack === 'fab' || ('randomStart' in settings && !settings.randomStart) ? 'image' : 'random';
  return [...ball, 'stepSize' in settings ? rounded(settings.stepSize) : '-', String('queries' in settings ? settings.queries : settings.steps), start + restarts];
}
