/** What every attack shares: models, the ball, the native call. */
import type { NativeAttack, NativeModel, TensorHandle } from '../runtime/addon.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { type JobOptions, job } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { Model } from '../model/model.js';
import { scope } from '../tensor/scope.js';
import { Tensor } from '../tensor/tensor.js';

/**
 * What can be attacked and evaluated: a native model, or any function from images `[n, C, H, W]` to logits `[n, classes]` built of differentiable
 * operators. Tensors that the function makes are freed when it returns.
 */
export type AttackModel = Model | ((images: Tensor) => Tensor | Promise<Tensor>);

/** Progress of a long call: `done` of `total` steps. */
export interface StepProgress {
  done: number;
  total: number;
}

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

/** @internal */
export function resolveBall(given: BallOptions): { norm: 'linf' | 'l2'; epsilon: number } {
  const norm = check.oneOf('options.norm', given.norm ?? 'linf', ['linf', 'l2']);
  const epsilon = check.finite('options.epsilon', given.epsilon ?? (norm === 'linf' ? 8 / 255 : 0.5), { min: 0 });
  if (norm === 'linf' && epsilon > 1) throw new ArgumentRangeError('options.epsilon', 'a number from 0 to 1 (pixels are in [0, 1]: 8/255, not 8)', String(epsilon));
  return { norm, epsilon };
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

export interface PredictOptions extends JobOptions {
  /** Images a forward pass. Default 256. */
  batchSize?: number | undefined;
  onProgress?: ((progress: StepProgress) => void) | undefined;
}

/**
 * The classes that the model, in eval mode, gives images, and its logits. Runs off the main thread.
 * @param images `[N, C, H, W]`, float32 or float64, in [0, 1].
 * @returns `predicted`, int64 `[N]`, and `logits`, `[N, classes]`: the caller's.
 * @throws {@link ArgumentTypeError}, {@link ArgumentRangeError} naming the argument; {@link NonFiniteError} naming the first sample whose logits are NaN or
 * infinite; the signal's reason when aborted; whatever a function model throws.
 * @example
 * ```ts
 * using model = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * await scope(async () => {
 *   const { predicted } = await predict(model, rand([4, 3, 32, 32]));
 *   console.log(predicted.toArray());
 * });
 * ```
 */
export async function predict(model: AttackModel, images: Tensor, options?: PredictOptions): Promise<{ predicted: Tensor; logits: Tensor }> {
  const { signal, onProgress, ...given } = check.options('options', options, ['batchSize', 'signal', 'onProgress']);
  const batchSize = check.integer('options.batchSize', given.batchSize ?? 256, { min: 1 });
  checkFunction('options.onProgress', onProgress);
  checkImages('images', images);
  const target = nativeModel(model);
  const { predicted, logits } = await job(() => native().predict(target, images.handle, batchSize, onProgress as never), signal);
  return { predicted: Tensor.wrap(predicted), logits: Tensor.wrap(logits) };
}

/** @internal */
export function checkFunction(argument: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') throw new ArgumentTypeError(argument, 'a function', describe(value));
}

/** @internal */
export function checkImages(argument: string, images: unknown): asserts images is Tensor {
  if (!(images instanceof Tensor)) throw new ArgumentTypeError(argument, 'a Tensor', describe(images));
  const { dtype, shape, device } = images;
  if (dtype !== 'float32' && dtype !== 'float64') throw new ArgumentTypeError(argument, 'a float32 or float64 Tensor', dtype);
  if (shape.length !== 4) throw new ArgumentRangeError(argument, 'shape [N, C, H, W]', `[${shape.join(', ')}]`);
  if (device !== 'cpu') throw new ArgumentRangeError(argument, 'a Tensor on the CPU', device);
}

/** @internal */
export function checkLabels(argument: string, labels: unknown, count: number): asserts labels is Tensor {
  if (!(labels instanceof Tensor)) throw new ArgumentTypeError(argument, 'a Tensor', describe(labels));
  const { dtype, shape } = labels;
  if (dtype !== 'int64') throw new ArgumentTypeError(argument, "an int64 Tensor (pass { dtype: 'int64' } to tensor())", dtype);
  if (shape.length !== 1 || shape[0] !== count) throw new ArgumentRangeError(argument, `shape [${count}]`, `[${shape.join(', ')}]`);
}

function nativeModel(model: AttackModel): NativeModel {
  if (model instanceof Model) return model.handle;
  if (typeof model !== 'function') throw new ArgumentTypeError('model', 'a Model or a function', describe(model));
  return (images: TensorHandle, give: (output: TensorHandle) => void) =>
    scope(() => {
      const deliver = (output: unknown) => {
        if (!(output instanceof Tensor)) throw new ArgumentTypeError('model', 'a function that returns a Tensor', describe(output));
        give(output.handle);
      };
      const output: unknown = model(Tensor.wrap(images));
      return isThenable(output) ? Promise.resolve(output).then(deliver) : deliver(output);
    });
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return value !== null && typeof value === 'object' && 'then' in value && typeof value.then === 'function';
}
