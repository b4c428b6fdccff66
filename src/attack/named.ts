/** The attacks that evaluations and the command line know by name. */
import type { AttackModel } from '../model/predict.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import type { JobOptions, StepProgress } from '../runtime/job.js';
import type { Tensor } from '../tensor/tensor.js';
import { type ResolvedApgdOptions, resolveApgdOptions } from './apgd.js';
import { type BallOptions, type Watch, resolveBall, runLabelled } from './attack.js';
import { type ResolvedCarliniWagnerOptions, resolveCarliniWagnerOptions } from './carlini-wagner.js';
import { doubts, warningsOf } from './doubts.js';
import { type ResolvedFabOptions, resolveFabOptions } from './fab.js';
import { resolveFgsmOptions, resolveMimOptions } from './fgsm.js';
import { type PgdOptions, type ResolvedPgdOptions, resolvePgdOptions, runPgd } from './pgd.js';
import { samplesOf } from './samples.js';
import { type ResolvedSquareOptions, resolveSquareOptions } from './square.js';

/**
 * `'pgd<steps>'` (`'pgd20'`), `'fgsm'`, `'mim<steps>'`: {@link pgd}, {@link fgsm} and {@link mim}. `'apgd-ce'`, `'apgd-dlr'`, `'apgd-t'`: {@link apgd} with
 * 100 steps on the cross-entropy, the DLR loss and the targeted DLR loss. `'fab-t'`: {@link fab}. `'square'`: {@link square} with the schedule of AutoAttack.
 * `'cw'`: {@link carliniWagner}, for l2; what it finds counts within epsilon.
 */
export type SingleAttack = `pgd${number}` | 'fgsm' | `mim${number}` | 'apgd-ce' | 'apgd-dlr' | 'apgd-t' | 'fab-t' | 'square' | 'cw';

/** What may be said of an attack that goes by its name. */
export interface NamedAttackOptions extends BallOptions {
  /** Of pgd. Default epsilon/4. This and the next three are refused where none of the attacks has them. */
  stepSize?: number | undefined;
  /** Of pgd. Default true. */
  randomStart?: boolean | undefined;
  /** Runs from different starts: of pgd, apgd and fab (of each target), square. Default 1. */
  restarts?: number | undefined;
  /** Of pgd on a GPU: its steps as a CUDA graph, as {@link PgdOptions}`.graph`. Default false. */
  graph?: boolean | undefined;
  /** What an attack draws follows from it; fgsm, mim and cw draw nothing and take any, so that attacks may share one. Default 0. */
  seed?: number | undefined;
  /** Images a forward pass. Default 256. */
  batchSize?: number | undefined;
}

/** Options of {@link attack}. */
export interface AttackOptions extends NamedAttackOptions, JobOptions {
  onProgress?: ((progress: StepProgress) => void) | undefined;
}

/** An attack with every value decided. */
export type AttackSettings = ({ attack: 'pgd' | 'fgsm' | 'mim' } & ResolvedPgdOptions) | ({ attack: 'apgd' } & ResolvedApgdOptions)
  | ({ attack: 'fab' } & ResolvedFabOptions) | ({ attack: 'square' } & ResolvedSquareOptions) | ({ attack: 'cw'; norm: 'l2' } & ResolvedCarliniWagnerOptions);

/**
 * Adversaries by the name of an attack, as {@link evaluate} makes them, and every value they were made with. Runs off the main thread, on the model in eval mode.
 * @param images `[N, C, H, W]`, float32 or float64, in [0, 1]: normalisation belongs inside the model.
 * @param labels int64 `[N]`.
 * @returns `adversarial`, `[N, C, H, W]` of the dtype of `images`, the `settings`, and `warnings`: what makes it doubtful that the attack finds what there is, as of a
 * {@link Score}.
 * @throws {@link ArgumentRangeError}, {@link ArgumentTypeError} naming the argument: also for a step size, a random start or restarts where the attack has none; else
 * what the function of the attack throws.
 * @example
 * ```ts
 * using model = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * using images = rand([4, 3, 32, 32]);
 * using labels = tensor([0, 1, 2, 3], { dtype: 'int64' });
 * const { adversarial, settings } = await attack(model, images, labels, 'pgd2', { epsilon: 4 / 255 });
 * console.log(adversarial.shape, settings);
 * adversarial.dispose();
 * ```
 */
export async function attack(
  model: AttackModel, images: Tensor, labels: Tensor, name: SingleAttack, options?: AttackOptions,
): Promise<{ adversarial: Tensor; settings: AttackSettings; warnings: string[] }> {
  refuseSteps('options', options);
  const { signal, onProgress, ...given } = check.options('options', options, ['norm', 'epsilon', 'stepSize', 'randomStart', 'restarts', 'graph', 'seed', 'batchSize', 'signal', 'onProgress']);
  check.function('options.onProgress', onProgress);
  const { settings, run } = onlyAttack(name, given, 'name')!, data = samplesOf(images, labels);
  const found = await doubts(model, data, [settings], { limit: data.length, batchSize: settings.batchSize, signal });
  return { adversarial: await run(model, images, labels, undefined, { signal, onProgress }), settings, warnings: warningsOf(settings, found) };
}

/** An attack and how to run it. @internal */
export interface NamedAttack {
  settings: AttackSettings;
  /** `samples`: int64 [N], the numbers of the samples in the whole set; default: 0 to N-1. */
  run(model: AttackModel, images: Tensor, labels: Tensor, samples: Tensor | undefined, watch: Watch): Promise<Tensor>;
}

const ATTACK_NAMES = "'pgd<steps>' (as in 'pgd20', from 1 to 99999 steps), 'fgsm', 'mim<steps>', 'apgd-ce', 'apgd-dlr', 'apgd-t', 'fab-t', 'square' or 'cw'";

/** Which of these options an attack has. */
const OPTIONS = { pgd: ['stepSize', 'randomStart', 'restarts', 'graph'], apgd: ['restarts'], fab: ['restarts'], square: ['restarts'] } as const;

/** Whether the attack of that name has the option. @internal */
export function hasOption(name: string, option: (typeof OPTIONS)['pgd'][number]): boolean {
  const kind = /^(pgd|apgd|fab|square)(\d|-|$)/.exec(name)?.[1] as keyof typeof OPTIONS | undefined;
  return kind !== undefined && (OPTIONS[kind] as readonly string[]).includes(option);
}

/** Refuses steps beside a name. @internal */
export function refuseSteps(argument: string, options: unknown): void {
  if (options !== null && typeof options === 'object' && 'steps' in options)
    throw new ArgumentRangeError(`${argument}.steps`, "left out, since the name of an attack has its steps in it, as 'pgd20'", describe(options.steps));
}

/** Refuses values that no attack could take, whichever it is. Errors name values of `at`. @internal */
export function checkValues({ norm, epsilon, stepSize, randomStart, restarts, graph, seed, batchSize }: NamedAttackOptions, at = 'options'): void {
  resolvePgdOptions({ norm, epsilon, stepSize, randomStart, restarts, graph, seed, batchSize } as PgdOptions, at);
}

/** The attack of that name with its options, all of them its own; undefined for one of `others`, which have no more than a ball. Errors call the name `argument`. @internal */
export function onlyAttack(name: unknown, given: NamedAttackOptions, argument: string, others: readonly string[] = []): NamedAttack | undefined {
  checkValues(given);
  const attack = others.includes(name as string) ? undefined : namedAttack(name, given, argument, others);
  checkOptions([name as string], given);
  return attack;
}

/** Refuses options that none of the attacks has. @internal */
export function checkOptions(names: readonly string[], given: NamedAttackOptions): void {
  const attacks = names.length > 1 ? names.filter((name) => name !== 'clean') : names;
  for (const option of OPTIONS.pgd)
    if (given[option] !== undefined && !attacks.some((name) => hasOption(name, option)))
      throw new ArgumentRangeError(`options.${option}`, `left out, since ${attacks.map((name) => `'${name}'`).join(', ')} ${attacks.length > 1 ? 'have' : 'has'} none`, describe(given[option]));
}

/** The attack of that name. Errors call the name `argument`, and tell of `others` that may stand there. @internal */
export function namedAttack(name: unknown, given: NamedAttackOptions, argument: string, others: readonly string[] = []): NamedAttack {
  if (typeof name !== 'string') throw new ArgumentTypeError(argument, 'a name', describe(name));
  const { norm, epsilon, stepSize, randomStart, restarts, graph, seed, batchSize } = given;
  const ball = { norm, epsilon, batchSize } as const;
  const descent = (attack: 'pgd' | 'fgsm' | 'mim', settings: ResolvedPgdOptions): NamedAttack => ({
    settings: { attack, ...settings },
    run: (model, images, labels, samples, watch) => runPgd(model, images, labels, settings, watch, samples),
  });
  const labelled = (settings: Extract<AttackSettings, { attack: 'apgd' | 'fab' | 'square' }>): NamedAttack =>
    ({ settings, run: (model, images, labels, samples, watch) => runLabelled(model, images, labels, settings, watch, samples) });
  const auto = (loss: ResolvedApgdOptions['loss']): NamedAttack => labelled({ attack: 'apgd', ...resolveApgdOptions({ ...ball, loss, restarts, seed }) });
  const [, kind, steps] = /^(pgd|mim)([1-9]\d{0,4})$/.exec(name) ?? [];
  if (kind === 'pgd') return descent(kind, resolvePgdOptions({ ...ball, steps: Number(steps), stepSize, randomStart, restarts, graph, seed }));
  if (kind === 'mim') return descent(kind, resolveMimOptions({ ...ball, steps: Number(steps) }));
  switch (name) {
    case 'fgsm': return descent('fgsm', resolveFgsmOptions({ ...ball }));
    case 'apgd-ce': return auto('ce');
    case 'apgd-dlr': return auto('dlr');
    case 'apgd-t': return auto('dlr-targeted');
    case 'fab-t': return labelled({ attack: 'fab', ...resolveFabOptions({ ...ball, restarts, seed }) });
    case 'square': return labelled({ attack: 'square', ...resolveSquareOptions({ ...ball, restarts, seed, rescaleSchedule: false }) });
    case 'cw': {
      if (norm !== 'l2') throw new ArgumentRangeError('options.norm', "'l2' for the attack 'cw'", describe(norm ?? 'linf'));
      const settings = resolveCarliniWagnerOptions({ epsilon: resolveBall(ball).epsilon, batchSize });
      return { settings: { attack: 'cw', norm, ...settings }, run: (model, images, labels, _, watch) => runLabelled(model, images, labels, { attack: 'carlini-wagner', ...settings }, watch) };
    }
    default: throw new ArgumentRangeError(argument, [...others.map((each) => `'${each}'`), ATTACK_NAMES].join(', '), describe(name));
  }
}
