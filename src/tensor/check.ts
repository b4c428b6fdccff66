/** Checks of the tensors that attacks and evaluations take. */
import { ArgumentRangeError, ArgumentTypeError, describe } from '../runtime/errors.js';
import { Tensor } from './tensor.js';

/** @internal */
export function checkImages(argument: string, images: unknown): asserts images is Tensor {
  if (!(images instanceof Tensor)) throw new ArgumentTypeError(argument, 'a Tensor', describe(images));
  const { dtype, shape } = images;
  if (dtype !== 'float32' && dtype !== 'float64') throw new ArgumentTypeError(argument, 'a float32 or float64 Tensor', dtype);
  if (shape.length !== 4) throw new ArgumentRangeError(argument, 'shape [N, C, H, W]', `[${shape.join(', ')}]`);
}

/** @internal */
export function checkLabels(argument: string, labels: unknown, count: number): asserts labels is Tensor {
  if (!(labels instanceof Tensor)) throw new ArgumentTypeError(argument, 'a Tensor', describe(labels));
  const { dtype, shape } = labels;
  if (dtype !== 'int64') throw new ArgumentTypeError(argument, "an int64 Tensor (pass { dtype: 'int64' } to tensor())", dtype);
  if (shape.length !== 1 || shape[0] !== count) throw new ArgumentRangeError(argument, `shape [${count}]`, `[${shape.join(', ')}]`);
}
