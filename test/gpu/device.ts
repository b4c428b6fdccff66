/** Where the tests of a GPU compute. A_INFONCE_TEST_DEVICE=cpu tries the tests themselves where there is none. */
import { cuda, Encoder, ops, scope, Tensor, tensor, type AInfoNCEOptions, aInfoNCE, type DType } from 'a-infonce';

export const device = process.env['A_INFONCE_TEST_DEVICE'] ?? 'cuda';
if (device !== 'cpu' && !cuda.isAvailable()) throw new Error('these tests need a CUDA device and the library of CUDA kernels: a-infonce doctor says what is missing');

export const numbers = (x: Tensor): Float64Array => Float64Array.from(x.toTypedArray() as ArrayLike<number>, Number);
export const there = (x: Tensor): Tensor => x.to({ device });
export const integers = (length: number, of: (i: number) => number = (i) => i): Tensor => tensor(BigInt64Array.from({ length }, (_, i) => BigInt(of(i))));

/** The largest difference of two tensors, on any devices. */
export function apart(a: Tensor, b: Tensor): number {
  const [x, y] = [numbers(a), numbers(b)];
  if (x.length !== y.length) throw new RangeError(`${x.length} and ${y.length} elements`);
  return x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i]!)), 0);
}

/** Value and gradient of a loss of features that are put on a device. */
export function on(place: string, features: Float64Array, shape: readonly number[], loss: AInfoNCEOptions | ((x: Tensor) => Tensor), dtype: DType = 'float64'): { loss: number; gradient: Float64Array } {
  return scope(() => {
    const x = tensor(features, { shape, dtype }).to({ device: place }).detach();
    x.requiresGrad = true;
    const value = typeof loss === 'function' ? loss(x) : aInfoNCE(x, loss);
    value.backward();
    return { loss: value.item(), gradient: numbers(x.grad!) };
  });
}

/** A small network with branches, the same each time. */
export const small = (width = 8): Encoder => Encoder.create({ width, branches: ['normal', 'pgd', 'pgd_ce'], projector: { hidden: [32], output: 16, batchNorm: true }, seed: 3 });

export const { aten, a_infonce } = ops;
