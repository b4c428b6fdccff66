/** What every attack shares: the ball, the native call. */
import { type AttackModel, nativeModel } from '../model/predict.js';
import type { NativeAttack } from '../runtime/addon.js';
import { ArgumentRangeError, check } from '../runtime/errors.js';
import { type JobOptions, type StepProgress, job } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { checkImages, checkLabels } from '../tensor/check.js';
import { Tensor } from '../tensor/tensor.js';

/** The ball that adversaries stay in. */
export interface BallOptions {
  /** Largest change of a pixel (`'linf'`, default) or Euclidean length of the change of an image (`'l2'`). */
  norm?: 'linf' | 'l2' | undefined;
  /** Its radius, in units of pixels in [0, 1]: at most 1 for linf. Default 8/255 for linf, 0.5 for l2. */
  epsilon?: number | undefined;
}

/** @internal */
export interface Watch extends JobOptions {
  onProgress?: ((progress: StepProgress) => void) | undefined;
}

/** Errors name values of `at`. @internal */
export function resolveBall(given: BallOptions, at = 'options'): { norm: 'linf' | 'l2'; epsilon: number } {
  const norm = check.oneOf(`${at}.norm`, given.norm ?? 'linf', ['linf', 'l2']);
  const epsilon = check.finite(`${at}.epsilon`, given.epsilon ?? (norm === 'linf' ? 8 / 255 : 0.5), { min: 0 });
  if (norm === 'linf' && epsilon > 1) throw new ArgumentRangeError(`${at}.epsilon`, 'a number from 0 to 1 (pixels are in [0, 1]: 8/255, not 8)', String(epsilon));
  return { norm, epsilon };
}

/** The length of a step in that ball, by default a quarter of its radius. @internal */
export function resolveStep(given: number | undefined, { norm, epsilon }: { norm: 'linf' | 'l2'; epsilon: number }, at = 'options'): number {
  const stepSize = check.finite(`${at}.stepSize`, given ?? epsilon / 4, { min: 0 });
  if (norm === 'linf' && stepSize > 1) throw new ArgumentRangeError(`${at}.stepSize`, 'a number from 0 to 1 (pixels are in [0, 1]: 2/255, not 2)', String(stepSize));
  return stepSize;
}

/** The native attack, off the main thread. The caller has checked `images` and completed `options`. @internal */
export async function runAttack(model: AttackModel, images: Tensor, options: NativeAttack, { signal, onProgress }: Watch = {}): Promise<Tensor> {
  const target = nativeModel(model);
  return Tensor.wrap(await job(() => native().attack(target, images.handle, options, onProgress as never), signal));
}

type Unlabelled<Attack = NativeAttack> = Attack extends unknown ? Omit<Attack, 'labels' | 'samples'> : never;

/** The same on images and labels, which are checked here. `samples`: int64 [N], the numbers of the samples in the whole set, for what they draw. @internal */
export async function runLabelled(
  model: AttackModel, images: Tensor, labels: Tensor, options: Unlabelled, watch?: Watch, samples?: Tensor,
): Promise<Tensor> {
  checkImages('images', images);
  checkLabels('labels', labels, images.shape[0]!);
  return runAttack(model, images, { ...options, labels: labels.handle, samples: samples?.handle } as NativeAttack, watch);
}
