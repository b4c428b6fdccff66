/** Clean and robust accuracy over a data set. */
import { type AttackModel, checkFunction, checkImages, checkLabels, predict } from '../attack/attack.js';
import { type ResolvedPgdOptions, resolvePgdOptions, runPgd } from '../attack/pgd.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import type { JobOptions } from '../runtime/job.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import { type Tensor, tensor } from '../tensor/tensor.js';

/** The part of a data set that evaluation reads. */
export interface EvaluationData {
  /** Number of samples. */
  readonly length: number;
  /** Images start to end-1: float32 `[end - start, C, H, W]` in [0, 1]. */
  images(start: number, end: number): Tensor | Promise<Tensor>;
  /** Their classes: int64 `[end - start]`. */
  labels(start: number, end: number): Tensor | Promise<Tensor>;
}

/** `'clean'`: no attack. `'pgd<steps>'` (`'pgd20'`): {@link pgd} with that many steps, 8/255 with steps of 2/255 from a random start unless told. */
export type AttackName = 'clean' | `pgd${number}`;

/** Progress of an evaluation: `done` of `total` samples, in fractions while an attack is under way. */
export interface EvaluationProgress {
  attack: AttackName;
  done: number;
  total: number;
}

export interface EvaluateOptions<Names extends readonly AttackName[] = readonly AttackName[]> extends JobOptions {
  /** What to report. Default `['clean', 'pgd20']`. */
  attacks?: Names;
  /** Settings of every pgd, as in {@link pgd}. Default `norm: 'linf'`, `epsilon: 8/255`, `stepSize: 2/255`; RoCL's tables used .0314 and .00314. */
  norm?: 'linf' | 'l2';
  epsilon?: number;
  stepSize?: number;
  restarts?: number;
  randomStart?: boolean;
  seed?: number;
  /** Images a forward pass. Default 256. */
  batchSize?: number;
  /** Evaluate the first samples only. Default: all. */
  limit?: number;
  onProgress?: (progress: EvaluationProgress) => void;
}

/** One number and everything needed to obtain it again. */
export interface Score {
  /** correct / total. */
  accuracy: number;
  /** Samples classified right: without an attack, and for a robust score under the attack too. */
  correct: number;
  total: number;
  settings: { attack: 'clean'; batchSize: number; limit: number } | ({ attack: 'pgd'; limit: number } & ResolvedPgdOptions);
}

const KNOWN = [
  'attacks', 'norm', 'epsilon', 'stepSize', 'restarts', 'randomStart', 'seed', 'batchSize', 'limit', 'onProgress', 'signal',
] as const satisfies readonly (keyof EvaluateOptions)[];

/**
 * Accuracy of a classifier on a data set, clean and under attacks. The model is in eval mode throughout. A sample counts as robust only if it is
 * classified right both without the attack and under it; with epsilon 0 robust and clean accuracy are equal. Each attack is made against
 * the samples that are right without it; the rest cannot count. Runs off the main thread.
 * @param model a Classifier, a TorchScriptModel or a function, from images in [0, 1] to logits: normalisation belongs inside.
 * @returns one {@link Score} an attack, with its settings.
 * @throws {@link ArgumentRangeError}, {@link ArgumentTypeError} naming the argument, also when `data` does not give what it was asked for: one image a
 * sample, and one label that is a class of the model; {@link NonFiniteError} when logits or gradients are NaN or infinite; the signal's reason when
 * aborted.
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
  const given = check.options('options', options, KNOWN);
  if (data === null || typeof data !== 'object' || typeof data.images !== 'function' || typeof data.labels !== 'function')
    throw new ArgumentTypeError('data', 'a data set with length, images() and labels()', describe(data));
  check.integer('data.length', data.length, { min: 1 });
  checkFunction('options.onProgress', given.onProgress);
  const limit = Math.min(data.length, given.limit === undefined ? Infinity : check.integer('options.limit', given.limit, { min: 1 }));
  const { attacks = ['clean', 'pgd20'], norm = 'linf', epsilon, stepSize = norm === 'linf' && epsilon === undefined ? 2 / 255 : undefined } = given;
  const { restarts, randomStart, seed, batchSize, signal, onProgress } = given;
  if (!Array.isArray(attacks)) throw new ArgumentTypeError('options.attacks', 'an array of names', describe(attacks));
  if (attacks.length === 0) throw new ArgumentRangeError('options.attacks', 'at least one name', '[]');
  const plans = attacks.map((name: AttackName, i) => ({
    name, correct: 0, steps: stepsOf(name, `options.attacks[${i}]`),
  })).map((plan) => ({ ...plan, settings: resolvePgdOptions({ norm, epsilon, stepSize, restarts, randomStart, seed, batchSize, steps: plan.steps }) }));
  const size = plans[0]!.settings.batchSize;

  for (let start = 0; start < limit; start += size) {
    const end = Math.min(limit, start + size);
    await scope(async () => {
      const images = await data.images(start, end), labels = await data.labels(start, end);
      const count = end - start;
      checkImages('data.images', images);
      if (images.shape[0] !== count) throw new ArgumentRangeError('data.images', `${count} images for samples ${start} to ${end - 1}`, `[${images.shape.join(', ')}]`);
      checkLabels('data.labels', labels, count);
      const { predicted, classes } = await predict(model, images, size, { signal });
      const wanted = labels.toTypedArray() as BigInt64Array;
      const foreign = wanted.findIndex((label) => label < 0n || label >= classes);
      if (foreign >= 0)
        throw new ArgumentRangeError('data.labels', `classes from 0 to ${classes - 1}, as the model has`, `${wanted[foreign]} for sample ${start + foreign}`);
      const right = correct(predicted, labels);
      for (const plan of plans) {
        const report = (share: number) => onProgress?.({ attack: plan.name, done: start + (end - start) * share, total: limit });
        if (plan.name === 'clean') plan.correct += right.length;
        else if (right.length > 0) {
          const rows = tensor(BigInt64Array.from(right, BigInt));
          const samples = tensor(BigInt64Array.from(right, (row) => BigInt(start + row)));
          const adversaries = await runPgd(model, ops.aten.index_select(images, 0, rows), ops.aten.index_select(labels, 0, rows), plan.settings,
            { signal, onProgress: ({ done, total }) => done < total && report(done / total) }, samples);
          // Among the other images again, so that an adversary equal to its image gets the very same logits.
          const attacked = ops.aten.index_copy(images, 0, rows, adversaries);
          const standing = new Set(correct((await predict(model, attacked, size, { signal })).predicted, labels));
          plan.correct += right.filter((row) => standing.has(row)).length;
        }
        report(1);
      }
    });
  }

  const scores = plans.map(({ name, correct, settings }) => [name, {
    accuracy: correct / limit, correct, total: limit,
    settings: name === 'clean' ? { attack: 'clean', batchSize: size, limit } : { attack: 'pgd', limit, ...settings },
  } satisfies Score]);
  return Object.fromEntries(scores) as { [Name in Names[number]]: Score };
}

/** Steps of 'pgd<steps>'; 0 for 'clean'. */
function stepsOf(name: unknown, argument: string): number {
  if (typeof name !== 'string') throw new ArgumentTypeError(argument, 'a name', describe(name));
  const steps = name === 'clean' ? '0' : /^pgd([1-9]\d{0,4})$/.exec(name)?.[1];
  if (steps === undefined) throw new ArgumentRangeError(argument, "'clean' or 'pgd<steps>', as in 'pgd20'", describe(name));
  return Number(steps);
}

/** The rows where both agree. */
function correct(predicted: Tensor, labels: Tensor): number[] {
  const classes = predicted.toTypedArray(), wanted = labels.toTypedArray();
  return Array.from(wanted.keys()).filter((row) => classes[row] === wanted[row]);
}
