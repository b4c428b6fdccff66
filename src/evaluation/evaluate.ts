/** Clean and robust accuracy over a data set. */
import { type AutoAttackReport, beginAutoAttack } from '../attack/autoAttack.js';
import { doubts, warningsOf } from '../attack/doubts.js';
import { type AttackSettings, type NamedAttack, type NamedAttackOptions, type SingleAttack, checkOptions, checkValues, namedAttack, refuseSteps } from '../attack/named.js';
import { type EvaluationData, agreeing, checkData, checkInside, readSamples, rowsOf, select } from '../attack/samples.js';
import { type AttackModel, predict } from '../model/predict.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import type { JobOptions } from '../runtime/job.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';

export type { EvaluationData };

/** `'clean'`: no attack. `'autoattack'`: {@link autoAttack}. The others are single attacks; `'pgd20'` is 8/255 with steps of 2/255 from a random start unless told. */
export type AttackName = 'clean' | SingleAttack | 'autoattack';

/** Progress of an evaluation: `done` of `total` samples, in fractions while an attack is under way. */
export interface EvaluationProgress {
  attack: AttackName;
  done: number;
  total: number;
}

export interface EvaluateOptions<Names extends readonly AttackName[] = readonly AttackName[]> extends NamedAttackOptions, JobOptions {
  /** What to report, each once. Default `['clean', 'pgd20']`. */
  attacks?: Names;
  /**
   * Values for pgd alone, in place of those above: `evaluation.pgd20` of a run's configuration less its `steps`, beside attacks with their own. Its norm, if it
   * says one, must be that above. Refused where no pgd is asked for.
   */
  pgd?: { norm?: 'linf' | 'l2' | undefined; epsilon?: number | undefined; stepSize?: number | undefined; randomStart?: boolean | undefined } | undefined;
  /** Evaluate the first samples only. Default: all. */
  limit?: number | undefined;
  /** A file in which AutoAttack keeps its state, so that a later call goes on where this one stopped: see {@link autoAttack}. */
  state?: string | undefined;
  /** By which to know a function model again in `state`: see {@link autoAttack}. */
  stateKey?: string | undefined;
  /** Gets each score once it is measured, one attack after the other, and is waited for: the place to keep it. */
  onScore?: ((name: AttackName, score: Score) => void | Promise<void>) | undefined;
  onProgress?: ((progress: EvaluationProgress) => void) | undefined;
}

/** One number and everything needed to obtain it again. */
export interface Score {
  /** correct / total. */
  accuracy: number;
  /** Samples classified right: without an attack, and for a robust score under the attack too. */
  correct: number;
  total: number;
  settings: { limit: number } & ({ attack: 'clean'; batchSize: number } | AttackSettings | ({ attack: 'autoattack'; attacks: AttackSettings[] } & AutoAttackReport['settings']));
  /**
   * What makes a robust score doubtful, a sentence each, seen on the first 256 samples; left out when nothing does. Outputs that vary from call to call; outputs
   * that are probabilities (not of `'square'`, which needs no gradients); a cross-entropy without a gradient for some samples (of the attacks that ascend it: pgd,
   * fgsm, mim, apgd-ce). Of AutoAttack what it warns of.
   */
  warnings?: string[];
  /** Of AutoAttack: what each attack did, what broke which sample, and the time it took. */
  autoAttack?: Pick<AutoAttackReport, 'attacks' | 'brokenBy' | 'secondsPerImage'>;
}

const KNOWN = [
  'attacks', 'norm', 'epsilon', 'stepSize', 'restarts', 'randomStart', 'graph', 'seed', 'batchSize', 'pgd', 'limit', 'state', 'stateKey', 'onScore', 'onProgress', 'signal',
] as const satisfies readonly (keyof EvaluateOptions)[];

/**
 * Accuracy of a classifier on a data set, clean and under attacks. The model is in eval mode throughout. A sample counts as robust only if it is
 * classified right both without the attack and under it; with epsilon 0 robust and clean accuracy are equal. Each attack is made against
 * the samples that are right without it; the rest cannot count; with `graph`, one that counts is attacked again in the place of each, so that batches keep their size. Options, and whether AutoAttack can run and keep its state, are checked before the first attack.
 * Runs off the main thread.
 * @param model a Classifier, a TorchScriptModel or a function, from images in [0, 1] to logits: normalisation belongs inside.
 * @returns one {@link Score} an attack, with its settings.
 * @throws {@link ArgumentRangeError}, {@link ArgumentTypeError} naming the argument, also when `data` does not give what it was asked for: one image a
 * sample, and one label that is a class of the model; {@link NonFiniteError} when logits or gradients are NaN or infinite; {@link FileError} about `state`, as
 * {@link autoAttack}; the signal's reason when aborted. What was measured until then, `onScore` has had.
 * @example
 * ```ts
 * using classifier = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * const data = proceduralDataset({ train: 10, test: 20 });
 * const { clean, pgd2 } = await evaluate(classifier, data.test, { attacks: ['clean', 'pgd2'] });
 * console.log(clean.accuracy, pgd2.accuracy, pgd2.settings);
 * ```
 */
export async function evaluate<const Names extends readonly AttackName[] = ['clean', 'pgd20']>(
  model: AttackModel, data: EvaluationData, options?: EvaluateOptions<Names>,
): Promise<{ [Name in Names[number]]: Score }> {
  return await measureScores(model, data, options, true);
}

/** The same; with `warn` false nothing is looked for that {@link Score}`.warnings` could tell, for those who measure again and again. @internal */
export async function measureScores<const Names extends readonly AttackName[] = ['clean', 'pgd20']>(
  model: AttackModel, data: EvaluationData, options: EvaluateOptions<Names> | undefined, warn: boolean,
): Promise<{ [Name in Names[number]]: Score }> {
  refuseSteps('options', options);
  const given = check.options('options', options, KNOWN);
  checkData(data);
  check.function('options.onProgress', given.onProgress);
  const limit = Math.min(data.length, given.limit === undefined ? Infinity : check.integer('options.limit', given.limit, { min: 1 }));
  check.function('options.onScore', given.onScore);
  const { attacks = ['clean', 'pgd20'], state, signal, onScore, onProgress } = given;
  const batchSize = check.integer('options.batchSize', given.batchSize ?? 256, { min: 1 });
  if (!Array.isArray(attacks)) throw new ArgumentTypeError('options.attacks', 'an array of names', describe(attacks));
  if (attacks.length === 0) throw new ArgumentRangeError('options.attacks', 'at least one name', '[]');
  checkValues(given);
  const others = ['clean', 'autoattack'], ofPgd = pgdValues(given);
  const plans = attacks.map((name: AttackName, i) => {
    if (attacks.indexOf(name) < i) throw new ArgumentRangeError(`options.attacks[${i}]`, 'each name once', describe(name));
    return { name, attack: others.includes(name) ? undefined : namedAttack(name, /^pgd/.test(name) ? ofPgd : given, `options.attacks[${i}]`, others) };
  });
  if (given.pgd !== undefined && !plans.some(({ attack }) => attack?.settings.attack === 'pgd'))
    throw new ArgumentRangeError('options.pgd', 'left out, since no pgd is among options.attacks', describe(given.pgd));
  checkOptions(attacks, given);
  const named = (name: AttackName) => plans.some((plan) => plan.name === name);
  if (state !== undefined && !named('autoattack')) throw new ArgumentRangeError('options.state', "'autoattack' among options.attacks, which keeps it", describe(attacks));

  const { norm, epsilon, seed, stateKey } = given;
  using auto = named('autoattack') ? await beginAutoAttack(model, data, {
    norm, epsilon, seed, batchSize, limit, state, stateKey, signal, onProgress: onProgress && (({ share: part }) => onProgress({ attack: 'autoattack', done: limit * part, total: limit })),
  }) : undefined;
  const scores = new Map<AttackName, Score>();
  const done = async (name: AttackName, score: Score) => {
    scores.set(name, score);
    await onScore?.(name, score);
  };
  const share = (correct: number, settings: Score['settings'], warnings: string[] = []): Score => ({ accuracy: correct / limit, correct, total: limit, settings, ...(warnings.length > 0 && { warnings }) });
  const batches = Array.from({ length: Math.ceil(limit / batchSize) }, (_, at) => ({ at, start: at * batchSize, end: Math.min(limit, (at + 1) * batchSize) }));
  /** By batch, the rows that are right without an attack. */
  const right: number[][] = [];
  if (plans.some(({ name }) => name !== 'autoattack')) {
    for (const { start, end } of batches) {
      await scope(async () => {
        const { images, labels } = await readSamples(data, start, end), { predicted, logits } = await predict(model, images, { batchSize, signal });
        right.push(agreeing(predicted, labels, { classes: logits.shape[1]!, start }));
      });
      if (named('clean')) onProgress?.({ attack: 'clean', done: end, total: limit });
    }
    if (named('clean')) await done('clean', share(right.reduce((sum, { length }) => sum + length, 0), { limit, attack: 'clean', batchSize }));
  }

  if (plans.some(({ attack }) => byGraph(attack)))  // whether it can be, on no images: before the first attack
    await scope(async () => {
      const { images, labels } = await readSamples(data, 0, 1);
      await plans.find(({ attack }) => byGraph(attack))!.attack!.run(model, select(images, []), select(labels, []), undefined, { signal });
    });
  const asked = [...plans.flatMap(({ attack }) => attack ?? []), ...(auto?.attacks ?? [])].map(({ settings }) => settings);
  const found = warn ? await doubts(model, data, asked, { limit, batchSize, signal }) : [];
  for (const { name, attack } of plans) {
    if (!attack) continue;
    let correct = 0;
    for (const { at, start, end } of batches) {
      const rows = right[at]!, report = (part: number) => onProgress?.({ attack: name, done: start + (end - start) * part, total: limit });
      if (rows.length > 0)
        await scope(async () => {
          const { images, labels } = await readSamples(data, start, end);
          // For a graph all batches have one size: one that counts stands in for each that does not.
          const counts = new Set(rows), taken = byGraph(attack) ? Array.from({ length: end - start }, (_, row) => (counts.has(row) ? row : rows[0]!)) : rows;
          const numbers = taken.map((row) => start + row), attacking = select(images, taken);
          const adversaries = await attack.run(model, attacking, select(labels, taken), rowsOf(numbers),
            { signal, onProgress: ({ done: steps, total }) => steps < total && report(steps / total) });
          checkInside(name, attack.settings, attacking, adversaries, numbers);
          // Among the other images again, so that an adversary equal to its image gets the very same logits.
          const attacked = ops.aten.index_copy(images, 0, rowsOf(rows, images), taken === rows ? adversaries : select(adversaries, rows));
          const standing = new Set(agreeing((await predict(model, attacked, { batchSize, signal })).predicted, labels));
          correct += rows.filter((row) => standing.has(row)).length;
        });
      report(1);
    }
    await done(name, share(correct, { limit, ...attack.settings }, warningsOf(attack.settings, found)));
  }

  if (auto) {
    const { correct, settings, attacks, brokenBy, warnings, secondsPerImage } = await auto.run(found);
    await done('autoattack', {
      ...share(correct, { attack: 'autoattack', ...settings, attacks: attacks.map((step) => step.settings) }, warnings), autoAttack: { attacks, brokenBy, secondsPerImage },
    });
  }
  return Object.fromEntries(attacks.map((name) => [name, scores.get(name)!])) as { [Name in Names[number]]: Score };
}

const byGraph = (attack: NamedAttack | undefined): boolean => attack !== undefined && 'graph' in attack.settings && attack.settings.graph;

/** The options with those of `pgd` in their place. */
function pgdValues({ pgd, ...given }: EvaluateOptions): NamedAttackOptions {
  refuseSteps('options.pgd', pgd);
  const { norm = given.norm ?? 'linf', ...own } = check.options('options.pgd', pgd, ['norm', 'epsilon', 'stepSize', 'randomStart']);
  const values = { ...given, norm, ...Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined)) };
  checkValues(values, 'options.pgd');
  if (norm !== (given.norm ?? 'linf')) throw new ArgumentRangeError('options.pgd.norm', `'${given.norm ?? 'linf'}', as options.norm`, describe(norm));
  return values;
}
