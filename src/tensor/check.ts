/** Checks of tensors that are given. */
import { ArgumentRangeError, ArgumentTypeError, describe } from '../runtime/errors.js';
import { Tensor } from './tensor.js';

/** The argument as a tensor that is alive, or the error that names it. @internal */
export function tensorOf(argument: string, value: unknown): Tensor {
  if (!(value instanceof Tensor)) throw new ArgumentTypeError(argument, 'a Tensor', describe(value));
  if (value.disposed) throw new ArgumentTypeError(argument, 'a live Tensor', 'a disposed Tensor');
  return value;
}

/** @internal */
export function checkImages(argument: string, images: unknown): asserts images is Tensor {
  const { dtype, shape } = tensorOf(argument, images);
  if (dtype !== 'float32' && dtype !== 'float64') throw new ArgumentTypeError(argument, 'a float32 or float64 Tensor', dtype);
  if (shape.length !== 4) throw new ArgumentRangeError(argument, 'shape [N, C, H, W]', `[${shape.join(', ')}]`);
}

/** @internal */
export function checkLabels(argument: string, labels: unknown, count: number): asserts labels is Tensor {
  const { dtype, shape } = tensorOf(argument, labels);
  if (dtype !== 'int64') throw new ArgumentTypeError(argument, "an int64 Tensor (pass { dtype: 'int64' } to tensor())", dtype);
  if (shape.length !== 1 || shape[0] !== count) throw new ArgumentRangeError(argument, `shape [${count}]`, `[${shape.join(', ')}]`);
}
