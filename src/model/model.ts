import type { ModelHandle } from '../runtime/addon.js';
import { checkDevice } from '../runtime/cuda.js';
import { ArgumentTypeError, check } from '../runtime/errors.js';
import { native } from '../runtime/native.js';
import { tensorOf } from '../tensor/check.js';
import { Tensor } from '../tensor/tensor.js';

/**
 * What attacks, fine-tuning and evaluation work on: {@link Encoder}, {@link Classifier} and {@link TorchScriptModel}.
 * A model owns native memory until `dispose()` (or `using`).
 */
export abstract class Model implements Disposable {
  #handle: ModelHandle | undefined;

  /** @internal */
  protected constructor(handle: ModelHandle) {
    this.#handle = handle;
  }

  /** The native handle, for the facade. Throws {@link ArgumentTypeError} when the model is disposed. @internal */
  get handle(): ModelHandle {
    if (this.#handle === undefined) throw new ArgumentTypeError('model', `a live ${this.constructor.name}`, `a disposed ${this.constructor.name}`);
    return this.#handle;
  }

  /**
   * The model's output for a batch, recorded by autograd when grad mode is on.
   * @param images `[N, channels, height, width]`, float32 in [0, 1].
   * @returns `[N, ...]`: features of an encoder, logits of a classifier.
   * @throws {@link ArgumentRangeError} on a wrong shape, dtype or device, and while a job uses the model; {@link OperatorError} when a TorchScript module refuses the batch.
   */
  forward(images: Tensor): Tensor {
    return Tensor.wrap(native().model_forward(this.handle, tensorOf('images', images).handle));
  }

  /** Train mode: BatchNorm normalises with the batch's statistics and updates the running ones. @throws {@link ArgumentRangeError} while a job uses the model, an attack for one */
  train(): this {
    native().model_set_training(this.handle, true);
    return this;
  }

  /** Eval mode: BatchNorm uses the running statistics. @throws {@link ArgumentRangeError} as `train` */
  eval(): this {
    native().model_set_training(this.handle, false);
    return this;
  }

  get training(): boolean {
    return native().model_training(this.handle);
  }

  /** Parameters and buffers by name, in PyTorch's order. They are the model's own tensors: writing into them changes the model. */
  state(): Map<string, Tensor> {
    return new Map(native().model_state(this.handle, false).map(({ name, tensor }) => [name, Tensor.wrap(tensor)]));
  }

  /** The tensors that training changes, in the order of {@link state}; each a leaf with `requiresGrad`. */
  parameters(): Tensor[] {
    return native().model_state(this.handle, true).map(({ tensor }) => Tensor.wrap(tensor));
  }

  /** The number of trained values. */
  get parameterCount(): number {
    let count = 0;
    for (const parameter of this.parameters()) {
      count += parameter.shape.reduce((product, size) => product * size, 1);
      parameter.dispose();
    }
    return count;
  }

  /** Where its tensors are, and images are to be: `'cpu'` or `'cuda:<index>'`. */
  get device(): string {
    return native().model_device(this.handle);
  }

  /**
   * Moves the model, with the parts that it shares with others; returns it. Its tensors stay the same ones, without their gradients. Attacks, evaluations and
   * fine-tuning compute where the model is.
   * @param device `'cpu'`, `'cuda'` or `'cuda:<index>'`
   * @throws {@link ArgumentRangeError} when there is no such device, or a running job uses the model
   */
  to(device: string): this {
    native().model_to(this.handle, checkDevice('device', device));
    return this;
  }

  get disposed(): boolean {
    return this.#handle === undefined;
  }

  /** Gives the memory back now; parts that another model shares stay. Harmless when repeated. */
  dispose(): void {
    if (this.#handle !== undefined) native().model_dispose(this.#handle);
    this.#handle = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A seed for first values: an integer from 0 to 2^53 - 1. */
export function seedOf(value: unknown): number {
  return check.integer('seed', value, { min: 0, max: Number.MAX_SAFE_INTEGER });
}
