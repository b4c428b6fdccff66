/** What gives logits, a model or a function, and the classes that follow from them. */
import type { NativeModel, TensorHandle } from '../runtime/addon.js';
import { ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { type JobOptions, type StepProgress, job } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { checkImages } from '../tensor/check.js';
import { scope } from '../tensor/scope.js';
import { Tensor } from '../tensor/tensor.js';
import { Model } from './model.js';

/**
 * What can be attacked and evaluated: a native model, or any function from images `[n, C, H, W]` to logits `[n, classes]` built of differentiable
 * operators. Tensors that the function makes are freed when it returns.
 */
export type AttackModel = Model | ((images: Tensor) => Tensor | Promise<Tensor>);

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
  check.function('options.onProgress', onProgress);
  checkImages('images', images);
  const target = nativeModel(model);
  const { predicted, logits } = await job(() => native().predict(target, images.handle, batchSize, onProgress as never), signal);
  return { predicted: Tensor.wrap(predicted), logits: Tensor.wrap(logits) };
}

/** The model as native calls take it. @internal */
export function nativeModel(model: AttackModel): NativeModel {
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
