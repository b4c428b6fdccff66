/** The everyday constructors, over the operators of the same names. */
import { ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { DTYPE_NAMES, type DType } from './dtype.js';
import { ops } from './ops.js';
import { checkPlace, type Tensor } from './tensor.js';

/** Where and as what a new tensor is made. Default: float32 on the CPU, not recorded. */
export interface FactoryOptions {
  dtype?: DType;
  device?: string;
  requiresGrad?: boolean;
}

function made(shape: readonly number[], options: FactoryOptions | undefined, make: (shape: number[], keywords: { dtype: DType; device?: string }) => Tensor): Tensor {
  const lengths = check.shape('shape', shape);
  const { dtype = 'float32', device, requiresGrad = false } = check.options('options', options, ['dtype', 'device', 'requiresGrad']);
  check.oneOf('options.dtype', dtype, DTYPE_NAMES);
  checkPlace(dtype, device, requiresGrad);
  const result = make(lengths, { dtype, device });
  if (requiresGrad) result.requiresGrad = true;
  return result;
}

/** Zeros of the given shape. */
export function zeros(shape: readonly number[], options?: FactoryOptions): Tensor {
  return made(shape, options, (lengths, keywords) => ops.aten.zeros(lengths, keywords));
}
/** Ones of the given shape. */
export function ones(shape: readonly number[], options?: FactoryOptions): Tensor {
  return made(shape, options, (lengths, keywords) => ops.aten.ones(lengths, keywords));
}
/** The given shape filled with `value`. @throws ArgumentTypeError naming it, when it is left out, too */
export function full(shape: readonly number[], value: number, options?: FactoryOptions): Tensor {
  if (!['number', 'bigint', 'boolean'].includes(typeof value)) throw new ArgumentTypeError('value', 'a number', describe(value));
  return made(shape, options, (lengths, keywords) => ops.aten.full(lengths, value, keywords));
}
/** Uniform numbers in [0, 1), from LibTorch's generator ({@link manualSeed}). */
export function rand(shape: readonly number[], options?: FactoryOptions): Tensor {
  return made(shape, options, (lengths, keywords) => ops.aten.rand(lengths, keywords));
}
/** Standard normal numbers, from LibTorch's generator ({@link manualSeed}). */
export function randn(shape: readonly number[], options?: FactoryOptions): Tensor {
  return made(shape, options, (lengths, keywords) => ops.aten.randn(lengths, keywords));
}
