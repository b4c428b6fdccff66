import { ArgumentTypeError, keep, memory, noGrad, ops, randn, scope, tensor, zeros, type Tensor } from 'a-infonce';
import { describe, expect, it } from 'vitest';
import { live } from '../fixtures/live.js';

const pause = (ms = 1) => new Promise((resolve) => setTimeout(resolve, ms));

describe('scope', () => {
  it('frees all but what is returned, in any container', async () => {
    const { tensors: before } = await live();
    const out = scope(() => {
      const a = zeros([2]);
      zeros([3]);
      return { list: [a, [zeros([4])]], map: new Map([['k', zeros([5])]]), n: 3 };
    });
    expect(memory().tensors).toBe(before + 3);
    expect((out.list[0] as Tensor).shape).toEqual([2]);
    for (const t of [out.list[0] as Tensor, (out.list[1] as Tensor[])[0]!, out.map.get('k')!]) t.dispose();
    expect(memory().tensors).toBe(before);
  });
  it('hands results to the enclosing scope', async () => {
    const { tensors: before } = await live();
    scope(() => {
      const inner = scope(() => ops.aten.add(zeros([2]), 1));
      expect(memory().tensors).toBe(before + 1);
      expect(inner.disposed).toBe(false);
    });
    expect(memory().tensors).toBe(before);
  });
  it('frees when the body throws, synchronously or not', async () => {
    const { tensors: before } = await live();
    expect(() => scope(() => { zeros([2]); throw new Error('x'); })).toThrow('x');
    await expect(scope(async () => { zeros([2]); await pause(); zeros([2]); throw new Error('y'); })).rejects.toThrow('y');
    expect(memory().tensors).toBe(before);
  });
  it('keeps scopes that await at the same time apart', async () => {
    const { tensors: before } = await live();
    const work = (n: number) => scope(async () => {
      const made: Tensor[] = [];
      for (let i = 0; i < 5; ++i) { made.push(zeros([n])); await pause(n); }
      expect(made.every((t) => !t.disposed)).toBe(true);
      return made[0]!;
    });
    const [a, b] = await Promise.all([work(1), work(3)]);
    expect([a!.shape, b!.shape]).toEqual([[1], [3]]);
    expect(memory().tensors).toBe(before + 2);
    a!.dispose();
    b!.dispose();
  });
  it('keep lets one outlive it', () => {
    let kept: Tensor | undefined;
    scope(() => { kept = keep(zeros([2])); });
    expect(kept!.disposed).toBe(false);
    kept!.dispose();
  });
  it('stays flat over thousands of operations in one synchronous loop', async () => {
    const before = await live();
    const x = randn([64, 64]);
    for (let i = 0; i < 3000; ++i) scope(() => { ops.aten.relu(ops.aten.add(x, i)); });
    expect(memory().tensors).toBe(before.tensors + 1);
    x.dispose();
    expect(memory()).toEqual(before);
  });
  it('wants a function', () => expect(() => scope(3 as unknown as () => void)).toThrow(ArgumentTypeError));
});

describe('noGrad', () => {
  it('records nothing, and records again afterwards, also after a throw', () => {
    using x = tensor([1, 2], { requiresGrad: true });
    using y = noGrad(() => ops.aten.mul(x, 2));
    expect(y.requiresGrad).toBe(false);
    expect(() => noGrad(() => { throw new Error('z'); })).toThrow('z');
    using z = ops.aten.mul(x, 2);
    expect(z.requiresGrad).toBe(true);
    expect(() => noGrad(async () => 1)).toThrow(/a synchronous function/);
    expect(() => noGrad(() => ({ then: (resolve: () => void) => resolve() }))).toThrow(/a synchronous function/);
  });
});
