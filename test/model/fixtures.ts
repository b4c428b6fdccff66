import { fileURLToPath } from 'node:url';
import { ops, readSafetensors, scope, type Tensor } from 'a-infonce';
import { expect, test as unscoped } from 'vitest';

/** A test whose tensors are freed at its end, so that counts of live tensors mean something. */
export const test = (name: string, body: () => unknown) => unscoped(name, () => scope(async () => void (await body())));

export const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/model/${name}`, import.meta.url));

/** A reference file: `state` is what the model is loaded from, `test(name)` an input (as float32) or what PyTorch computed. */
export async function reference(name: string) {
  const { tensors } = await readSafetensors(fixture(name));
  const state = new Map([...tensors].filter(([key]) => !/^(test|after)\./.test(key)));
  const test = (key: string): Tensor => {
    const tensor = tensors.get(`test.${key}`)!;
    return tensor.dtype === 'float16' ? tensor.to({ dtype: 'float32' }) : tensor;
  };
  const after = [...tensors].filter(([key]) => key.startsWith('after.')).map(([key, tensor]) => [key.slice(6), tensor] as const);
  return { tensors, state, test, after };
}

/** Every element within `tolerance` of the largest expected one. */
export function expectClose(actual: Tensor, expected: Tensor, tolerance = 2e-6): void {
  expect(actual.shape).toEqual(expected.shape);
  const a = actual.toTypedArray() as Float32Array, b = expected.toTypedArray() as Float32Array;
  const scale = b.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  const worst = a.reduce((max, value, i) => Math.max(max, Math.abs(value - b[i]!)), 0);
  expect(worst).toBeLessThanOrEqual(tolerance * scale);
}

export function equal(a: Tensor, b: Tensor): boolean {
  return ops.aten.equal(a, b) as boolean;
}
