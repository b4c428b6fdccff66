import type { OptimizerHandle, TensorHandle } from '../runtime/addon.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { native } from '../runtime/native.js';
import { tensorOf } from '../tensor/check.js';
import { Tensor } from '../tensor/tensor.js';
import type { SharedConfig } from './schema.js';

export interface OptimizerOptions {
  /** Default 0.9. */
  momentum?: number;
  /** Default 0. */
  weightDecay?: number;
  /**
   * LARS around SGD (layer-wise rates), with `trust` 1e-3 and `epsilon` 1e-8 by default; left out: plain SGD. With `rateInMomentum` (default false) the momentum
   * holds each gradient times the rate of its own step, as in ACL's code.
   */
  lars?: { trust?: number; epsilon?: number; rateInMomentum?: boolean };
}

/**
 * SGD with momentum as `torch.optim.SGD` has it, or LARS around it, for training loops of one's own.
 * With weight decay `d` and momentum `m`: `g <- g + d w; v <- m v + g; w <- w - rate v`; LARS multiplies `g + d w` by
 * `trust |w| / (|g| + d |w| + epsilon)` where both norms are positive; with `rateInMomentum` then `v <- m v + rate g; w <- w - v`.
 * @example
 * ```ts
 * const w = tensor([1, 2], { requiresGrad: true });
 * const optimizer = new Optimizer({ w }, { momentum: 0.9 });
 * ops.aten.sum(ops.aten.square(w)).backward();
 * optimizer.step(0.1);      // w is now [0.8, 1.6]
 * optimizer.zeroGrad();
 * ```
 */
export class Optimizer {
  readonly #handle: OptimizerHandle;

  /**
   * @param parameters leaves that require grad, by name; changed in place
   * @throws {@link ArgumentRangeError} for a tensor that is no such leaf, naming it, and for no parameters at all
   */
  constructor(parameters: Record<string, Tensor>, options: OptimizerOptions = {}) {
    const { momentum = 0.9, weightDecay = 0, lars } = check.options('options', options, ['momentum', 'weightDecay', 'lars']);
    const { trust = 1e-3, epsilon = 1e-8, rateInMomentum = false } = check.options('options.lars', lars, ['trust', 'epsilon', 'rateInMomentum']);
    const given = handles('parameters', parameters);
    if (Object.keys(given).length === 0) throw new ArgumentRangeError('parameters', 'at least one parameter', 'none');
    this.#handle = native().create_optimizer(given, {
      momentum: check.finite('momentum', momentum, { min: 0, below: 1 }),
      weightDecay: check.finite('weightDecay', weightDecay, { min: 0 }),
      lars: lars && {
        trust: check.finite('lars.trust', trust, { above: 0 }), epsilon: check.finite('lars.epsilon', epsilon, { min: 0 }),
        rateInMomentum: check.boolean('lars.rateInMomentum', rateInMomentum),
      },
    });
  }

  /** One update from the gradients, which it overwrites; parameters without one stay as they are, as in PyTorch: without any it does nothing. */
  step(learningRate: number): void {
    native().optimizer_step(this.#handle, check.finite('learningRate', learningRate, { min: 0 }));
  }

  /** Forgets the gradients. */
  zeroGrad(): void {
    native().optimizer_zero_grad(this.#handle);
  }

  /** The momentum of every parameter, by name: live tensors, not copies. */
  state(): Record<string, Tensor> {
    return Object.fromEntries(Object.entries(native().optimizer_state(this.#handle)).map(([name, handle]) => [name, Tensor.wrap(handle)]));
  }

  /** Copies momentum in. @throws {@link ArgumentRangeError} on a missing or unknown name or another shape, before anything changes */
  loadState(state: Record<string, Tensor>): void {
    native().load_optimizer_state(this.#handle, handles('state', state));
  }
}

/** What the native optimizer takes, of a configuration's. */
export function optimizerValues(optimizer: SharedConfig['optimizer']) {
  const { momentum, weightDecay } = optimizer;
  if (optimizer.kind === 'sgd') return { momentum, weightDecay };
  const { trust, epsilon, rateInMomentum = false } = optimizer;
  return { momentum, weightDecay, lars: { trust, epsilon, rateInMomentum } };
}

function handles(argument: string, tensors: Record<string, Tensor>): Record<string, TensorHandle> {
  if (typeof tensors !== 'object' || tensors === null) throw new ArgumentTypeError(argument, 'tensors by name', describe(tensors));
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensorOf(`${argument}.${name}`, tensor).handle]));
}
