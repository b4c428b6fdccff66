import { ArgumentRangeError, NonFiniteError, manualSeed, ops, rand, randn, runtimeInfo, scope, setInstructionSet, setThreads, tensor, type Tensor } from 'a-infonce';
import { afterEach, describe, expect, it } from 'vitest';
import { equal, int64, rows } from './fixtures.js';
import { restoreSettings } from '../fixtures/settings.js';

const { aten, a_infonce } = ops;
type Step = (adversary: Tensor, grad: Tensor, x: Tensor, epsilon: number, stepSize: number, clampThenProject?: boolean) => Tensor;
const steps: [string, Step][] = [['linf', a_infonce.pgd_step_linf_ as Step], ['l2', a_infonce.pgd_step_l2_ as Step]];
const orders = [false, true];
const numbers = (n: number) => int64([...Array(n).keys()]);
afterEach(restoreSettings);

/** The eager sequence, in the dtype of x. */
const eager = {
  linf(adversary: Tensor, grad: Tensor, x: Tensor, epsilon: number, stepSize: number, clampThenProject = false): Tensor {
    const project = (y: Tensor) => aten.maximum(aten.minimum(y, aten.add(x, epsilon)), aten.sub(x, epsilon));
    const clamp = (y: Tensor) => aten.clamp(y, 0, 1);
    const moved = aten.add(adversary, aten.mul(aten.sign(grad), stepSize));
    return clampThenProject ? project(clamp(moved)) : clamp(project(moved));
  },
  l2(adversary: Tensor, grad: Tensor, x: Tensor, epsilon: number, stepSize: number, clampThenProject = false): Tensor {
    const norm = (y: Tensor) => aten.view(aten.linalg_vector_norm(aten.flatten(y, 1), 2, [1]), [-1, 1, 1, 1]);
    const project = (y: Tensor) => aten.add(x, aten.mul(aten.sub(y, x), aten.clamp(aten.mul(aten.reciprocal(norm(aten.sub(y, x))), epsilon), { max: 1 })));
    const clamp = (y: Tensor) => aten.clamp(y, 0, 1);
    const moved = aten.add(adversary, aten.mul(aten.div(grad, norm(grad)), stepSize));
    return clampThenProject ? project(clamp(moved)) : clamp(project(moved));
  },
};

/** Numbers on a grid of 2^-12, where nothing rounds. */
const onGrid = (shape: number[], dtype: 'float32' | 'float64') => aten.div(aten.randint(0, 4097, shape, { dtype }), 4096);

describe('the linf step', () => {
  it.each(['float32', 'float64'] as const)('is the eager sequence, bit for bit (%s)', (dtype) => scope(() => {
    manualSeed(1);
    for (const order of orders) {
      const x = onGrid([5, 3, 9, 7], dtype);
      let expected = x.clone();
      const adversary = x.clone();
      for (let step = 0; step < 8; ++step) {
        const grad = aten.mul(randn([5, 3, 9, 7], { dtype }), aten.gt(rand([5, 3, 9, 7], { dtype }), 0.2));  // zeros among them
        expected = eager.linf(expected, grad, x, 2 ** -5, 2 ** -7, order);
        a_infonce.pgd_step_linf_(adversary, grad, x, 2 ** -5, 2 ** -7, order);
        expect(equal(adversary, expected)).toBe(true);
      }
      expect(equal(adversary, x)).toBe(false);
    }
  }));
});

describe('the l2 step', () => {
  it.each(['float32', 'float64'] as const)('takes steps and radii whose squares no number holds (%s)', (dtype) => scope(() => {
    manualSeed(7);
    const x = rand([3, 3, 8, 8], { dtype }), grad = randn([3, 3, 8, 8], { dtype });
    const step = (epsilon: number, stepSize: number) => a_infonce.pgd_step_l2_(x.clone(), grad, x, epsilon, stepSize);
    const corners = aten.to(aten.gt(grad, 0), { dtype });
    for (const huge of [1e19, 1e39, 1e160, 1e308]) {
      expect(equal(step(huge, huge), corners)).toBe(true);
      expect(equal(step(0, huge), x)).toBe(true);
      expect(aten.allclose(step(0.01, huge), step(0.01, 1e6), { rtol: 0, atol: 1e-7 })).toBe(true);
      expect(aten.allclose(step(0.01, -huge), step(0.01, -1e6), { rtol: 0, atol: 1e-7 })).toBe(true);
      const started = a_infonce.pgd_start_l2(x, numbers(3), huge, 1);
      expect(aten.all(aten.ge(started, 0)).item() && aten.all(aten.le(started, 1)).item()).toBeTruthy();
    }
  }));
  it.each([['float32', 1e-6], ['float64', 3e-10]] as const)('is the eager sequence to rounding, and keeps a sample with a zero gradient (%s)', (dtype, near) => scope(() => {
    manualSeed(2);
    const exact = (t: Tensor) => t.to({ dtype: 'float64' }), apart = (a: Tensor, b: Tensor) => aten.max(aten.abs(aten.sub(exact(a), exact(b)))).item();
    for (const order of orders) for (const size of [1, 5, 32]) {
      const x = rand([4, 3, size, size], { dtype });
      let expected = exact(x).clone();
      const adversary = x.clone();
      for (let step = 0; step < 6; ++step) {
        const grad = aten.mul(randn([4, 3, size, size], { dtype }), 1e-3);
        expected = eager.l2(expected, exact(grad), exact(x), 0.3, 0.1, order);
        a_infonce.pgd_step_l2_(adversary, grad, x, 0.3, 0.1, order);
        expect(apart(adversary, expected)).toBeLessThan(near);  // the margin of the radius: 0.3 * 2^-20, 0.3 * 2^-32
      }
      const before = adversary.clone();
      a_infonce.pgd_step_l2_(adversary, aten.zeros_like(x), x, 0.3, 0.1, order);
      expect(apart(adversary, before)).toBeLessThan(near);
    }
  }));
  it.each([['float32', [1e-44, 1e-40, 1e-30, 1, 1e25, 1e38]], ['float64', [1e-310, 1e-200, 1, 1e200, 1e307]]] as const)('normalises gradients whose squares leave the range (%s)', (dtype, sizes) => scope(() => {
    const x = tensor([[0.5, 0.5, 0.5, 0.5]], { dtype });
    for (const size of sizes) {
      const adversary = x.clone();
      a_infonce.pgd_step_l2_(adversary, tensor([[size, -size, size, 0]], { dtype }), x, 0.25, 0.125);
      const [row] = rows(adversary);
      for (const [i, sign] of [1, -1, 1, 0].entries()) expect(row![i]).toBeCloseTo(0.5 + (sign * 0.125) / Math.sqrt(3), dtype === 'float64' ? 9 : 6);
    }
  }));
});

describe('adversaries', () => {
  const radii = [0, 1e-12, 1e-7, 0.00314, 0.0314, 8 / 255, 2 / 255, 0.3, 1, 4];
  it.each(['float32', 'float64'] as const)('never leave the ball nor the box, as computed in doubles and in the dtype (%s)', (dtype) => {
    manualSeed(3);
    for (const epsilon of radii) scope(() => {
      const x = aten.cat([rand([6, 1, 24, 24], { dtype }), aten.mul(rand([1, 1, 24, 24], { dtype }), 1e-6), aten.round(rand([1, 1, 24, 24], { dtype }))]);
      for (const [norm, step] of steps) for (const clampStart of orders) {
        const start = (norm === 'linf' ? a_infonce.pgd_start_linf : a_infonce.pgd_start_l2)(x, numbers(8), epsilon, 5, 0, clampStart) as Tensor;
        const states = [start];
        for (let i = 0; i < 3; ++i) states.push(step(states.at(-1)!.clone(), randn([8, 1, 24, 24], { dtype }), x, epsilon, epsilon / 2 + 0.01, i === 1));
        for (const [i, state] of states.entries()) {
          if (i > 0 || clampStart) expect(aten.logical_and(aten.ge(state, 0), aten.le(state, 1)).toTypedArray()).not.toContain(0);
          const inDtype = aten.sub(state, x), exact = aten.sub(state.to({ dtype: 'float64' }), x.to({ dtype: 'float64' }));
          for (const delta of [inDtype, exact]) {
            const size = norm === 'linf' ? aten.abs(delta) : aten.linalg_vector_norm(aten.flatten(delta, 1), 2, [1]);
            expect(aten.max(size.to({ dtype: 'float64' })).item()).toBeLessThanOrEqual(epsilon);
          }
          if (epsilon === 0) expect(equal(state, x)).toBe(true);
        }
        if (epsilon === 0.3) expect(equal(states.at(-1)!, x)).toBe(false);
      }
    });
  });
  it('reach the rim of the ball', () => scope(() => {
    const x = rand([4, 1, 30, 30]);
    const centre = aten.add(aten.mul(x, 0.5), 0.25), grad = randn([4, 1, 30, 30]);
    const linf = a_infonce.pgd_step_linf_(centre.clone(), grad, centre, 8 / 255, 1) as Tensor;
    expect(aten.min(aten.abs(aten.sub(linf, centre))).item()).toBeGreaterThan(8 / 255 - 1e-7);
    const l2 = a_infonce.pgd_step_l2_(centre.clone(), grad, centre, 0.5, 1) as Tensor;
    expect(aten.min(aten.linalg_vector_norm(aten.flatten(aten.sub(l2, centre), 1), 2, [1])).item()).toBeGreaterThan(0.5 * (1 - 1e-5));
  }));
});

describe('bits', () => {
  it('are the same on every instruction set and at any thread count, whatever the memory format', () => scope(() => {
    manualSeed(4);
    const x = rand([37, 3, 23, 19]), grad = randn([37, 3, 23, 19]), doubles = { dtype: 'float64' } as const;
    const run = () => steps.flatMap(([norm, step]) => [x, x.to(doubles)].flatMap((images) => {
      const start = (norm === 'linf' ? a_infonce.pgd_start_linf : a_infonce.pgd_start_l2)(images, numbers(37), 0.2, 9) as Tensor;
      const gradient = grad.to({ dtype: images.dtype });
      return [start, ...orders.map((order) => step(start.clone(), gradient, images, 0.2, 0.07, order))];
    }));
    setInstructionSet('portable');
    setThreads(1);
    const expected = run();
    for (const set of runtimeInfo().instructionSets) for (const count of [1, 2]) {
      setInstructionSet(set as 'portable');
      setThreads(count);
      run().forEach((result, i) => expect(equal(result, expected[i]!)).toBe(true));
    }
    const last = { memory_format: 'channels_last' } as const;
    for (const [, step] of steps) {
      const plain = step(x.clone(), grad, x, 0.2, 0.07);
      expect(equal(step(x.clone(), aten.contiguous(grad, last), x, 0.2, 0.07), plain)).toBe(true);
      const wide = aten.zeros([37, 3, 23, 38], { dtype: 'float32' }), strided = aten.slice(wide, 3, 0, 38, 2);
      aten.copy_(strided, x);
      step(strided, grad, x, 0.2, 0.07);
      expect(equal(strided, plain)).toBe(true);
      expect(aten.count_nonzero(aten.slice(wide, 3, 1, 38, 2)).item()).toBe(0);
    }
  }));
});

describe('random starts', () => {
  it('are uniform: in the cube, and in direction and radius', () => scope(() => {
    const x = aten.full([3000, 8], 0.5, { dtype: 'float64' }), samples = numbers(3000);
    const cube = Float64Array.from(aten.div(aten.sub(a_infonce.pgd_start_linf(x, samples, 0.25, 1) as Tensor, x), 0.25).toTypedArray() as Float64Array);
    const mean = (values: ArrayLike<number>, of = (value: number) => value) => Array.from(values).reduce((sum, value) => sum + of(value), 0) / values.length;
    expect(Math.abs(mean(cube))).toBeLessThan(4 * Math.sqrt(1 / 3 / 24000));
    expect(Math.abs(mean(cube, (value) => value ** 2) - 1 / 3)).toBeLessThan(4 * Math.sqrt(4 / 45 / 24000));
    const ball = aten.div(aten.sub(a_infonce.pgd_start_l2(x, samples, 0.25, 1) as Tensor, x), 0.25);
    const radius = aten.linalg_vector_norm(ball, 2, [1]).toTypedArray() as Float64Array;
    expect(Math.abs(mean(radius) - 1 / 2)).toBeLessThan(4 * Math.sqrt(1 / 12 / 3000));
    expect(Math.abs(mean(radius, (value) => value ** 2) - 1 / 3)).toBeLessThan(4 * Math.sqrt(4 / 45 / 3000));
    const direction = aten.mean(aten.div(ball, aten.linalg_vector_norm(ball, 2, [1], true)), [0]).toTypedArray() as Float64Array;
    for (const value of direction) expect(Math.abs(value)).toBeLessThan(4.5 * Math.sqrt(1 / 8 / 3000));
  }));
  it('in l2 point where Box and Muller send the words of Philox4x32-10', () => scope(() => {
    const low = (value: bigint) => value & 0xffffffffn, seed = (5n << 32n) | 9n;
    const words = (stream: bigint, block: bigint): number[] => {
      let [a, b, c, d] = [low(block), block >> 32n, low(stream), stream >> 32n], keys = [low(seed), seed >> 32n] as const;
      for (let round = 0; round < 10; ++round) {
        const p = 0xd2511f53n * a, q = 0xcd9e8d57n * c;
        [a, b, c, d] = [(q >> 32n) ^ b ^ keys[0], low(q), (p >> 32n) ^ d ^ keys[1], low(p)];
        keys = [low(keys[0] + 0x9e3779b9n), low(keys[1] + 0xbb67ae85n)];
      }
      return [a, b, c, d].map(Number);
    };
    const size = 4 * 300 + 2;
    const expected = [0n, 1n, 2n].map((sample) => {
      const normals = Array.from({ length: 301 }, (_, block) => words(sample, BigInt(block))).flat().slice(0, size).map((_, i, all) => {
        const radius = Math.sqrt(-2 * Math.log((all[i - (i % 2)]! + 0.5) / 2 ** 32)), angle = (2 * Math.PI * all[i - (i % 2) + 1]!) / 2 ** 32;
        return radius * (i % 2 ? Math.sin(angle) : Math.cos(angle));
      });
      const whole = Math.hypot(...normals);
      return normals.map((normal) => normal / whole);
    });
    for (const [dtype, error] of [['float64', 1e-16], ['float32', 4e-8]] as const)
      rows(a_infonce.pgd_start_l2(aten.zeros([3, size], { dtype }), numbers(3), 0.25, seed, 0, false)).forEach((move, sample) => {
        const length = Math.hypot(...move);
        move.forEach((value, i) => expect(Math.abs(value / length - expected[sample]![i]!)).toBeLessThan(error));
      });
  }));
  it('depend on seed, sample number and restart alone', () => scope(() => {
    const x = aten.full([6, 2, 3, 3], 0.5, { dtype: 'float32' });
    for (const start of [a_infonce.pgd_start_linf, a_infonce.pgd_start_l2] as ((...args: unknown[]) => Tensor)[]) {
      const all = start(x, numbers(6), 0.1, 7);
      expect(equal(start(aten.slice(x, 0, 2, 4), int64([2, 3]), 0.1, 7), aten.slice(all, 0, 2, 4))).toBe(true);
      expect(equal(start(x, numbers(6), 0.1, 7), all)).toBe(true);
      expect(equal(start(x, numbers(6), 0.1, 8), all)).toBe(false);
      expect(equal(start(x, numbers(6), 0.1, 7, 1), all)).toBe(false);
      expect(new Set(rows(all).map(String)).size).toBe(6);
    }
  }));
});

describe('bad input', () => {
  it.each(steps)('%s: a NaN or infinite gradient names its sample', (_, step) => scope(() => {
    for (const bad of [NaN, Infinity, -Infinity]) {
      const grad = aten.ones([4, 1, 50, 50], { dtype: 'float32' });
      aten.fill_(aten.select(aten.select(grad, 0, 2), 1, 7), bad);
      expect(() => step(aten.full([4, 1, 50, 50], 0.5), grad, aten.full([4, 1, 50, 50], 0.5), 0.1, 0.1)).toThrow(NonFiniteError);
      expect(() => step(aten.full([4, 1, 50, 50], 0.5), grad, aten.full([4, 1, 50, 50], 0.5), 0.1, 0.1)).toThrow('sample 2');
    }
  }));
  it.each(steps)('%s: shapes, dtypes, radii and autograd are checked by name', (_, step) => scope(() => {
    const x = rand([2, 1, 3, 3]);
    const fails = (argument: string, call: () => unknown) => {
      expect(call).toThrow(ArgumentRangeError);
      expect(call).toThrow(expect.objectContaining({ argument }));
    };
    fails('grad', () => step(x.clone(), rand([2, 1, 3, 4]), x, 0.1, 0.1));
    fails('x_adv', () => step(rand([2, 1, 3, 3], { dtype: 'float64' }), x, x, 0.1, 0.1));
    fails('x', () => step(x.clone(), x, x.to({ dtype: 'float16' }), 0.1, 0.1));
    fails('epsilon', () => step(x.clone(), x, x, -0.1, 0.1));
    fails('epsilon', () => step(x.clone(), x, x, NaN, 0.1));
    fails('step_size', () => step(x.clone(), x, x, 0.1, Infinity));
    fails('x_adv', () => step(rand([2, 1, 3, 3], { requiresGrad: true }), x, x, 0.1, 0.1));
    expect(() => step(aten.expand(rand([1, 1, 3, 3]), [2, 1, 3, 3]), x, x, 0.1, 0.1)).toThrow(/memory/);
    const there = x.to({ device: 'meta' });  // a device without kernels
    fails('grad', () => step(x.clone(), there, x, 0.1, 0.1));
    expect(() => step(there, there, there, 0.1, 0.1)).toThrow(/^x: expected a tensor on the CPU or a CUDA device, got meta$/);
    fails('samples', () => a_infonce.pgd_start_linf(x, numbers(2).to({ device: 'meta' }), 0.1, 0));
    fails('samples', () => a_infonce.pgd_start_linf(x, int64([0]), 0.1, 0));
    fails('restart', () => a_infonce.pgd_start_linf(x, int64([0, 1]), 0.1, 0, -1));
    expect(step(rand([0, 1, 3, 3]), rand([0, 1, 3, 3]), rand([0, 1, 3, 3]), 0.1, 0.1).shape).toEqual([0, 1, 3, 3]);
  }));
});
