// What no operator of the package reaches alone: BatchNorm in bfloat16, through operators of the tests' own library.
import { OperatorError, manualSeed, ops, randn, runtimeInfo, tensor, type Tensor } from 'a-infonce';
import { beforeAll, describe, expect, it } from 'vitest';
import { emulatedLibrary } from './build.js';

const { aten } = ops;
const native = (ops as unknown as { a_infonce_emulated: { norm(x: Tensor, weight: Tensor, bias: Tensor): Tensor; replayed(images: Tensor): Tensor[] } }).a_infonce_emulated;
const bfloat16 = (shape: number[]) => aten.contiguous(randn(shape).to({ dtype: 'bfloat16' }), { memory_format: 'channels_last' });
beforeAll(() => {
  process.dlopen({ exports: {} }, emulatedLibrary);
  manualSeed(2);
});

describe.runIf(/bf16/.test(runtimeInfo().instructionSet))('BatchNorm in bfloat16', () => {
  it('in train mode has a gradient and no second one', () => {
    const x = bfloat16([4, 16, 3, 3]), [weight, bias] = [0.5, 1].map((first) => tensor(Array.from({ length: 16 }, (_, c) => first + c / 16), { requiresGrad: true }));
    x.requiresGrad = true;
    const loss = () => aten.sum(aten.square(native.norm(x, weight!, bias!)));
    loss().backward();
    for (const leaf of [x, weight!, bias!]) expect(aten.count_nonzero(leaf.grad!).item()).toBeGreaterThan(0);
    expect(() => aten._backward(loss(), [x], null, { create_graph: true, retain_graph: true })).toThrow(OperatorError);
    expect(() => aten._backward(loss(), [x], null, { create_graph: true, retain_graph: true })).toThrow(/differentiable once/);
  });

  it('in eval mode, folded into a convolution, follows statistics that a tape moves within one step', () => {
    const [before, recorded, replayed, anew] = native.replayed(bfloat16([4, 16, 5, 5])) as [Tensor, Tensor, Tensor, Tensor];
    expect(aten.equal(recorded, before)).toBe(true);
    expect(aten.equal(replayed, before)).toBe(false);
    expect(aten.equal(replayed, anew)).toBe(true);
  });
});
