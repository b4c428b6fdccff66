/** Learning rates as pure functions of the position in a run: a resumed run needs no state to go on. */
import { check } from '../runtime/errors.js';
import { parse, scheduled } from './schema.js';

/** RoCL's: linear warm-up to `multiplier` times the rate, then a cosine whose period is the whole run (so it does not reach zero). */
export interface RoclSchedule {
  readonly kind: 'rocl';
  readonly rate: number;
  readonly multiplier: number;
  readonly warmupEpochs: number;
}

/** AdvCL's, SupCon's and, without a warm-up, MoCo's: a cosine over epochs from `rate` to `rate * final`; the first epochs climb linearly, step by step, from `warmupFrom` onto it. */
export interface CosineSchedule {
  readonly kind: 'cosine';
  readonly rate: number;
  readonly final: number;
  readonly warmupEpochs: number;
  readonly warmupFrom: number;
}

/** A linear warm-up to `rate`, then a cosine over the rest of the run to `rate * final`, by the step (SimCLR's, ACL's, AIR's) or by the epoch (DynACL's). */
export interface WarmupCosineSchedule {
  readonly kind: 'warmup-cosine';
  readonly rate: number;
  readonly final: number;
  readonly warmupEpochs: number;
  readonly by: 'step' | 'epoch';
}

/** Fine-tuning's: `rate`, divided by `divisor` from each of the epochs `at` on. */
export interface StepSchedule {
  readonly kind: 'steps';
  readonly rate: number;
  readonly at: readonly number[];
  readonly divisor: number;
}

export type Schedule = RoclSchedule | CosineSchedule | WarmupCosineSchedule | StepSchedule;

/** Where a run stands: `epoch` of `epochs` and `step` of `stepsPerEpoch` inside it, both from 0. */
export interface Position {
  readonly epoch: number;
  readonly epochs: number;
  readonly step: number;
  readonly stepsPerEpoch: number;
}

/** Numbers of epochs after which something begins or changes, and what a run that is no longer comes to. */
const STAGES = {
  'schedule.warmupEpochs': 'the learning rate climbs to the end',
  'objective.inferiorPositive.adaptive.warmupEpochs': 'alpha keeps its least value',
  'annealing.period': 'the augmentation never fades',
};

/** What a configuration's run of so few epochs never comes to: a text each, for a warning. */
export function unreached(config: { readonly epochs: number; readonly schedule: Schedule }): string[] {
  const { epochs, schedule } = config;
  if (epochs === 1 && learningRate(schedule, { epoch: 0, epochs, step: 0, stepsPerEpoch: 1 }) === 0) return ['schedule ends at 0 and the run has 1 epoch: nothing is learnt'];
  return Object.entries(STAGES).flatMap(([key, effect]) => {
    const length = key.split('.').reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], config);
    return typeof length === 'number' && length >= config.epochs ? [`${key} is ${length} and the run has ${config.epochs === 1 ? 'one epoch' : `${config.epochs} epochs`}: ${effect}`] : [];
  });
}

/**
 * The learning rate of one step.
 *
 * - `rocl`: `rate * ((multiplier - 1) (e + 1) / w + 1)` for `e < w`, then `rate * multiplier / 2 * (1 + cos(pi (e - w) / E))`
 * - `cosine`: `c(e + 1)` with `c(k) = f + (rate - f) (1 + cos(pi k / E)) / 2`, `f = rate * final`; for `e < w` the line from `warmupFrom` to `c(w)`
 * - `warmup-cosine`: with p epochs (or steps) done of T, w of them warm-up: `rate (p + 1) / w` for `p < w`, then
 *   `f + (rate - f) (1 + cos(pi (q - w) / (T - w))) / 2`, `f = rate * final`, where q = p for epochs and p + 1 for steps, as released
 * - `steps`: `rate / divisor ^ (how many of `at` are reached)`
 *
 * @throws {@link ArgumentRangeError} or {@link ArgumentTypeError} naming the key of `schedule` or `position`: unknown, missing, or out of range as an epoch that is not before `epochs`
 */
export function learningRate(schedule: Schedule, position: Position): number {
  parse(scheduled, { schedule }, '');
  const { epoch, epochs, step, stepsPerEpoch } = check.options('position', position, ['epoch', 'epochs', 'step', 'stepsPerEpoch']);
  check.integer('position.epoch', epoch, { min: 0, max: check.integer('position.epochs', epochs, { min: 1 }) - 1 });
  check.integer('position.step', step, { min: 0, max: check.integer('position.stepsPerEpoch', stepsPerEpoch, { min: 1 }) - 1 });
  const { rate } = schedule;
  switch (schedule.kind) {
    case 'rocl': {
      const { multiplier, warmupEpochs } = schedule;
      if (epoch < warmupEpochs) return rate * (((multiplier - 1) * (epoch + 1)) / warmupEpochs + 1);
      return ((rate * multiplier) / 2) * (1 + Math.cos((Math.PI * (epoch - warmupEpochs)) / epochs));
    }
    case 'cosine': {
      const floor = rate * schedule.final;
      const cosine = (k: number) => floor + ((rate - floor) * (1 + Math.cos((Math.PI * k) / epochs))) / 2;
      if (epoch >= schedule.warmupEpochs) return cosine(epoch + 1);
      const done = (epoch + step / stepsPerEpoch) / schedule.warmupEpochs;
      return schedule.warmupFrom + done * (cosine(schedule.warmupEpochs) - schedule.warmupFrom);
    }
    case 'warmup-cosine': {
      const steps = schedule.by === 'step', units = steps ? stepsPerEpoch : 1;
      const done = steps ? epoch * stepsPerEpoch + step : epoch, warmup = schedule.warmupEpochs * units;
      if (done < warmup) return (rate * (done + 1)) / warmup;
      const floor = rate * schedule.final, at = steps ? done + 1 : done;
      return floor + ((rate - floor) * (1 + Math.cos((Math.PI * (at - warmup)) / (epochs * units - warmup)))) / 2;
    }
    case 'steps':
      return rate / schedule.divisor ** schedule.at.filter((at) => epoch >= at).length;
  }
}
