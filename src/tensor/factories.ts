/** The everyday constructors, over the operators of the same names. */
import { check } from '../runtime/errors.js';
import type { DType } from './dtype.js';
import { ops } from './ops.js';
import type { Tensor } from './tensor.js';

/** Where and as what a new tensor is made. Default: float32 on the CPU, not recorded. */
export interface FactoryOptions {
  dtype?: DType;
  device?: string;
  requiresGrad?: boolean;
}

function made(options: FactoryOptions | undefined, make: (keywords: { dtype: DType; device: string }) => Tensor): Tensor {
  const { dtype = 'float32', device = 'cpu', requiresGrad = false } = check.options('options', options, ['dtype', 'device', 'requiresGrad']);
  const result = make({ dtype, device });
  if (requiresGrad) result.requiresGrad = true;
  return result;
}

function checkedShape(shape: readonly number[]): number[] {
  return shape.map((length, i) => check.integer(`shape[${i}]`, length, { min: 0 }));
}

/** Zeros of the given shape. */
export function zeros(shape: readonly number[], options?: FactoryOptions): Tensor {
  return made(options, (keywords) => ops.aten.zeros(checkedShape(shape), keywords));
}
/** Ones of the given shape. */
export function ones(shape: readonly number[], options?: FactoryOptions): Tensor {
  return made(options, (keywords) => ops.aten.ones(checkedShape(shape), keywords));
}
/** The given shape filled with `value`. */
export function full(shape: readonly number[], value: number, options?: FactoryOptions): Tensor {
  return made(options, (keywords) => ops.aten.full(checkedShape(shape), value, keywords));
}
/** Uniform numbers in [0, 1), from LibTorch's generator ({@link manualSeed}). */
export function rand(shape: readonly number[], options?: FactoryOptions): Tensor {
  return made(options, (keywords) => ops.aten.rand(checkedShape(shape), keywords));
}
/** Standard normal numbers, from LibTorch's generator ({@link manualSeed}). */
export function randn(shape: readonly number[], options?: FactoryOptions): Tensor {
  return made(options, (keywords) => ops.aten.randn(checkedShape(shape), keywords));
}
