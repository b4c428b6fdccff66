/** FAB-T, Square Attack and Carlini & Wagner against the authors' implementations and against what they claim. */
import { readFileSync } from 'node:fs';
import {
  ArgumentRangeError, ArgumentTypeError, NonFiniteError, carliniWagner, fab, getThreads, manualSeed, ops, pgd, rand, randn, scope, setThreads, square, tensor,
  type CarliniWagnerOptions, type FabOptions, type Model, type SquareOptions, type StepProgress, type Tensor,
} from 'a-infonce';
import { beforeAll, describe, expect, it } from 'vitest';
import { difference, equal, functionNet, int64, largest, loadNet, reference, rows } from './fixtures.js';

interface Search {
  projections: Record<'points' | 'weights' | 'offsets' | 'linf' | 'l2', string>;
  fab: { norm: 'linf' | 'l2'; epsilon: number; steps: number; adversaries: string }[];
  square: { norm: 'linf' | 'l2'; epsilon: number; size: number; queries: number; image: string; numbers: string; seen: string }[];
  sides: Record<string, number[]>;
  carliniWagner: {
    binary_search_steps: number; steps: number; initial_const: number; abort_early: boolean; confidence?: number; stepsize?: number; targeted: boolean;
    adversaries: string;
  }[];
}
const search = JSON.parse(readFileSync(new URL('../fixtures/attack/search.json', import.meta.url), 'utf8')) as Search;
const unpack = (text: string, shape: number[]) => aten.view(tensor(new Float64Array(new Uint8Array(Buffer.from(text, 'base64')).buffer)), shape);

const { aten, a_infonce } = ops;
const { images, labels } = reference();
const shifted = aten.remainder(aten.add(labels, 1), 4) as Tensor;
let net: Model;
beforeAll(async () => {
  net = await loadNet();
});
const predicted = (model: (images: Tensor) => Tensor, batch: Tensor) => [...(aten.argmax(model(batch), 1).toTypedArray() as BigInt64Array)].map(Number);
const wanted = [...(labels.toTypedArray() as BigInt64Array)].map(Number);
const apart = (a: Tensor, b: Tensor) => largest(difference(a, b).flatMap((row) => [...row]));
const changed = (adversaries: Tensor, from = images) => difference(adversaries, from).map((row) => largest(row) > 0);
const lengths = (adversaries: Tensor, norm: 'linf' | 'l2', from = images) => difference(adversaries, from).map((row) => (norm === 'linf' ? largest(row) : Math.hypot(...row)));

describe('the projection onto a hyperplane within the box', () => {
  const points = unpack(search.projections.points, [40, 12]), weights = unpack(search.projections.weights, [40, 12]);
  const offsets = unpack(search.projections.offsets, [40]);
  const values = aten.sub(aten.sum(aten.mul(points, weights), [1]), offsets);
  // With no share of the image and no overshoot, an iteration of FAB is the projection of its point.
  const project = (l2: boolean, x = points, w = weights, f = values) => a_infonce.fab_step_(x.clone(), x, w, f, l2, 1, 0) as Tensor;

  it.each(['linf', 'l2'] as const)("is the authors' (%s)", (norm) => scope(() => {
    expect(apart(project(norm === 'l2'), aten.add(points, unpack(search.projections[norm], [40, 12])))).toBeLessThan(1e-13);
  }));

  it.each(['linf', 'l2'] as const)('lands on the hyperplane, or in the corner where the box does not reach it, by a step that bisection finds too (%s)', (norm) => scope(() => {
    const landed = rows(project(norm === 'l2')), x = rows(points), w = rows(weights), f = rows(aten.view(values, [-1, 1]));
    let corners = 0;
    landed.forEach((z, i) => {
      const sign = f[i]![0]! >= 0 ? 1 : -1;
      const at = (length: number) => x[i]!.map((value, k) => {
        const weight = w[i]![k]!;
        return weight === 0 ? value : Math.min(1, Math.max(0, value - sign * length * (norm === 'l2' ? weight : Math.sign(weight))));
      });
      const value = (y: Float64Array) => f[i]![0]! + y.reduce((sum, entry, k) => sum + w[i]![k]! * (entry - x[i]![k]!), 0);
      let low = 0, high = 1e6;
      if (sign * value(at(high)) > 1e-12) ++corners;
      for (let round = 0; round < 200; ++round) sign * value(at((low + high) / 2)) > 0 ? (low = (low + high) / 2) : (high = (low + high) / 2);
      at(high).forEach((entry, k) => expect(Math.abs(z[k]! - entry)).toBeLessThan(1e-9));
    });
    expect(corners).toBeGreaterThan(3);
    expect(corners).toBeLessThan(37);
  }));

  it('stays put where there is no gradient, and on the hyperplane', () => scope(() => {
    for (const l2 of [false, true]) {
      expect(equal(project(l2, points, aten.zeros_like(points)), points)).toBe(true);
      expect(equal(project(l2, points, weights, aten.zeros_like(values)), points)).toBe(true);
    }
  }));

  it('has the same bits at any thread count, and float32 follows float64', () => scope(() => {
    manualSeed(1);
    const threads = getThreads(), x = rand([5, 3, 20, 20], { dtype: 'float64' }), w = randn([5, 3, 20, 20], { dtype: 'float64' }), f = aten.mul(randn([5], { dtype: 'float64' }), 20);
    const z = aten.clamp(aten.add(x, aten.mul(randn([5, 3, 20, 20], { dtype: 'float64' }), 0.05)), 0, 1);
    for (const l2 of [false, true]) {
      const run = (dtype: 'float32' | 'float64') => a_infonce.fab_step_(z.to({ dtype }).clone(), x.to({ dtype }), w.to({ dtype }), f.to({ dtype }), l2) as Tensor;
      setThreads(1);
      const one = run('float64');
      setThreads(2);
      expect(equal(run('float64'), one)).toBe(true);
      expect(apart(run('float32'), one)).toBeLessThan(2e-6);
      setThreads(threads);
    }
  }));

  it('names what is wrong', () => scope(() => {
    const bad = weights.clone();
    aten.fill_(aten.select(aten.select(bad, 0, 3), 0, 5), NaN);
    expect(() => project(false, points, bad)).toThrow(NonFiniteError);
    expect(() => project(true, points, bad)).toThrow('sample 3');
    for (const [argument, call] of [
      ['w', () => project(false, points, rand([40, 11], { dtype: 'float64' }))],
      ['f', () => project(false, points, weights, rand([40]))],
      ['alpha_max', () => a_infonce.fab_step_(points.clone(), points, weights, values, false, 1, 1.5)],
      ['z', () => a_infonce.fab_step_(aten.t(rand([12, 40], { dtype: 'float64' })), points, weights, values, false)],
    ] as const) {
      expect(call).toThrow(ArgumentRangeError);
      expect(call).toThrow(expect.objectContaining({ argument }));
    }
  }));
});

describe('fab', () => {
  it.each(search.fab)("follows the authors' implementation: $norm, epsilon $epsilon, $steps steps", async ({ norm, epsilon, steps, adversaries }) => {
    const expected = unpack(adversaries, images.shape as number[]);
    for (const model of [net, functionNet(net)]) {
      using found = await fab(model, images, labels, { norm, epsilon, steps, targets: 3 });
      expect(apart(found, expected)).toBeLessThan(1e-10);
    }
  });

  it('gives adversaries within epsilon, or the image', async () => {
    const single = images.to({ dtype: 'float32' }), model = functionNet(net), asFloat = (x: Tensor) => model(x.to({ dtype: 'float64' })).to({ dtype: 'float32' });
    for (const [norm, epsilon] of [['linf', 0.03], ['l2', 0.3]] as const) {
      using found = await fab(asFloat, single, labels, { norm, epsilon, steps: 10 });
      const moved = changed(found, single), classes = predicted(asFloat, found);
      lengths(found, norm, single).forEach((length, i) => {
        expect(length).toBeLessThanOrEqual(epsilon);
        expect(classes[i] !== wanted[i]).toBe(moved[i]);
      });
      expect(new Set(moved).size).toBe(2);
      for (const row of rows(found)) expect(Math.min(...row) >= 0 && Math.max(...row) <= 1).toBe(true);
    }
  });

  it('comes nearer with more steps, restarts and targets find no less, and batches change nothing', async () => {
    const run = (options: FabOptions) => fab(net, images, labels, { norm: 'l2', epsilon: 0.35, steps: 8, seed: 2, ...options });
    using far = await fab(net, images, labels, { norm: 'l2', epsilon: 9, steps: 2 });
    using near = await fab(net, images, labels, { norm: 'l2', epsilon: 9, steps: 20 });
    lengths(near, 'l2').forEach((length, i) => expect(length).toBeLessThanOrEqual(lengths(far, 'l2')[i]!));
    using one = await run({ targets: 1 });
    using all = await run({});
    using restarted = await run({ restarts: 3 });
    const count = (found: Tensor) => changed(found).filter(Boolean).length;
    expect(count(one)).toBeGreaterThan(0);
    expect(count(all)).toBeGreaterThanOrEqual(count(one));
    expect(count(restarted)).toBeGreaterThanOrEqual(count(all));
    for (const batchSize of [1, 5]) expect(apart(await run({ restarts: 3, batchSize }), restarted)).toBeLessThan(1e-9);
  });

  it('leaves misclassified images alone', async () => {
    using found = await fab(net, images, shifted, { epsilon: 0.3, steps: 3 });
    expect(equal(found, images)).toBe(true);
  });
});

describe('the proposals of square', () => {
  it.each(search.square)("are the authors', from the same random numbers: $norm, $size x $size", ({ norm, epsilon, size, queries, image, numbers, seen }) => scope(() => {
    const x = unpack(image, [1, 2, size, size]), drawn = unpack(numbers, [1, -1]), expected = unpack(seen, [queries + 1, 2, size, size]);
    const l2 = norm === 'l2', tiles = Math.floor(size / Math.floor(size / 5)) ** 2, tolerance = l2 ? epsilon * 2 ** -32 : 1e-15;
    let next = l2 ? tiles * 3 : 2 * size;
    const start = (l2 ? a_infonce.square_start_l2 : a_infonce.square_start_linf)(x, aten.slice(drawn, 1, 0, next), epsilon) as Tensor;
    expect(apart(start, aten.slice(expected, 0, 0, 1))).toBeLessThanOrEqual(tolerance);
    for (let query = 0; query < queries; ++query) {
      // every proposal was accepted, and they come with the sides of the schedule
      const best = aten.slice(expected, 0, query, query + 1), side = sideOf(norm, size, (query / queries) * 10000);
      const proposal = (l2 ? a_infonce.square_step_l2 : a_infonce.square_step_linf)(best, x, aten.slice(drawn, 1, next, next += l2 ? 7 : 4), epsilon, side) as Tensor;
      expect(apart(proposal, aten.slice(expected, 0, query + 1, query + 2))).toBeLessThanOrEqual(tolerance);
    }
    expect(next).toBe(drawn.shape[1]);
  }));

  it.each(['float32', 'float64'] as const)('stay in the ball and the box (%s)', (dtype) => scope(() => {
    manualSeed(3);
    const x = aten.cat([rand([3, 3, 12, 12], { dtype }), aten.round(rand([1, 3, 12, 12], { dtype }))]);
    for (const [norm, epsilon] of [['linf', 8 / 255], ['linf', 0], ['l2', 0.5], ['l2', 3]] as const) {
      const l2 = norm === 'l2', exact = (y: Tensor) => lengths(y.to({ dtype: 'float64' }), norm, x.to({ dtype: 'float64' }));
      let best = (l2 ? a_infonce.square_start_l2 : a_infonce.square_start_linf)(x, rand([4, l2 ? 36 * 4 : 36], { dtype }), epsilon) as Tensor;
      for (const side of [12, 9, 5, 3]) {
        expect(Math.max(...exact(best))).toBeLessThanOrEqual(epsilon);
        expect(aten.logical_and(aten.ge(best, 0), aten.le(best, 1)).toTypedArray()).not.toContain(0);
        best = (l2 ? a_infonce.square_step_l2 : a_infonce.square_step_linf)(best, x, rand([4, l2 ? 8 : 5], { dtype }), epsilon, side) as Tensor;
      }
      if (epsilon === 0) expect(equal(best, x)).toBe(true);
    }
  }));

  it('name what is wrong', () => scope(() => {
    const x = rand([2, 1, 8, 8]);
    for (const [argument, call] of [
      ['side', () => a_infonce.square_step_linf(x, x, rand([2, 3]), 0.1, 9)],
      ['u', () => a_infonce.square_step_linf(x, x, rand([2, 4]), 0.1, 3)],
      ['best', () => a_infonce.square_step_l2(rand([2, 1, 8, 9]), x, rand([2, 6]), 0.1, 3)],
      ['epsilon', () => a_infonce.square_start_linf(x, rand([2, 8]), -1)],
      ['x', () => a_infonce.square_start_l2(rand([2, 1, 4, 8]), rand([2, 2]), 0.1)],
    ] as const) {
      expect(call).toThrow(ArgumentRangeError);
      expect(call).toThrow(expect.objectContaining({ argument }));
    }
  }));
});

/** Side of the squares at a place of the schedule for 10000 queries. */
function sideOf(norm: 'linf' | 'l2', size: number, place: number): number {
  const p = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000].reduce((share, after) => (Math.trunc(place) > after ? share / 2 : share), 0.8);
  const side = Math.round(Math.sqrt(p) * size);
  return norm === 'linf' ? Math.min(Math.max(side, 1), size) : Math.min(Math.max(side, 3) | 1, size);
}

describe('square', () => {
  it.each(Object.entries(search.sides))("shrinks its squares as the authors' schedule does: %s", async (name, sides) => {
    const [norm, rescale, queries] = name.split(' ') as ['linf' | 'l2', string, string];
    const every = Number(queries) / 40, seen: number[] = [];
    // Nothing lowers a constant margin, so that the best stays the start; over 24 channels every pixel of a window changes in one.
    const x = aten.full([1, 24, 32, 32], 0.5, { dtype: 'float32' });
    let start = new Float32Array(), query = -2;  // the first two calls are for the image and the start
    const constant = (batch: Tensor) => {
      if (query === -1) start = (batch.toTypedArray() as Float32Array).slice();
      else if (query >= 0 && query % every === 0) {
        // l2 takes the perturbation out of a second window, back to 0.5, and rounds the rest
        const changes = (value: number, i: number) => (norm === 'linf' ? value !== start[i] : Math.abs(value - start[i]!) > 1e-4 && Math.abs(value - 0.5) > 1e-6);
        const touched = [...(batch.toTypedArray() as Float32Array)].flatMap((value, i) => (changes(value, i) ? [Math.floor(i / 32) % 32] : []));
        seen.push(Math.max(...new Set(touched)) - Math.min(...new Set(touched)) + 1);
      }
      ++query;
      return tensor([[1, 0]]);
    };
    using found = await square(constant, x, int64([0]), { norm, epsilon: norm === 'linf' ? 0.1 : 3, queries: Number(queries), rescaleSchedule: rescale === 'True' });
    expect(equal(found, x)).toBe(true);
    expect(seen).toEqual(sides);
  });

  it('fools without gradients, within the ball, and whatever the batches', async () => {
    const run = (options: SquareOptions) => square(net, images, labels, { queries: 100, seed: 4, ...options });
    for (const [norm, epsilon] of [['linf', 0.06], ['l2', 0.6]] as const) {
      using found = await run({ norm, epsilon });
      const moved = changed(found), classes = predicted((x) => net.forward(x), found);
      lengths(found, norm).forEach((length, i) => {
        expect(length).toBeLessThanOrEqual(epsilon);
        expect(classes[i] !== wanted[i]).toBe(moved[i]);
      });
      expect(moved.filter(Boolean).length).toBeGreaterThan(3);
      expect(moved.filter(Boolean).length).toBeLessThan(16);
      for (const batchSize of [1, 5]) expect(equal(await run({ norm, epsilon, batchSize }), found)).toBe(true);
      const asked = (await run({ norm, epsilon, seed: 5 }));
      expect(equal(asked, found)).toBe(false);
      // A model that gives no gradient at all.
      using blind = await square((x) => net.forward(x).detach(), images, labels, { queries: 100, seed: 4, norm, epsilon });
      expect(equal(blind, found)).toBe(true);
    }
  });

  it('asks only for the samples that still stand, at most queries + 2 times a restart, and counts its steps', async () => {
    const sizes: number[] = [], progress: StepProgress[] = [], model = functionNet(net);
    const watched = (x: Tensor) => {
      sizes.push(x.shape[0]!);
      return model(x);
    };
    using found = await square(watched, images, labels, { epsilon: 0.05, queries: 30, restarts: 2, onProgress: (step) => progress.push(step) });
    expect(sizes.length).toBe(1 + 2 * 31);
    const restarts = [sizes.slice(1, 32), sizes.slice(32)];
    for (const asked of restarts) for (let i = 1; i < asked.length; ++i) expect(asked[i]!).toBeLessThanOrEqual(asked[i - 1]!);
    const standing = 16 - changed(found).filter(Boolean).length;
    expect(standing).toBeGreaterThan(0);
    expect(restarts[1]!.at(-1)).toBeGreaterThanOrEqual(standing);
    await new Promise(setImmediate);
    expect(progress.at(-1)).toEqual({ done: 60, total: 60 });
  });

  it('finds what pgd finds, given the queries', async () => {
    using white = await pgd(net, images, labels, { epsilon: 0.05, steps: 40 });
    using black = await square(net, images, labels, { epsilon: 0.05, queries: 800 });
    const fooledBy = (found: Tensor) => predicted((x) => net.forward(x), found).filter((label, i) => label !== wanted[i]).length;
    expect(Math.abs(fooledBy(white) - fooledBy(black))).toBeLessThanOrEqual(2);
  });
});

describe('carliniWagner', () => {
  it.each(search.carliniWagner)('follows foolbox: $binary_search_steps x $steps steps, abort early $abort_early, targeted $targeted', async (given) => {
    const { binary_search_steps: searchSteps, steps, initial_const: initialC, abort_early: abortEarly, confidence = 0, stepsize: learningRate = 0.01, targeted } = given;
    const expected = unpack(given.adversaries, images.shape as number[]), goal = targeted ? shifted : labels;
    for (const batchSize of [16, 3]) {
      using found = await carliniWagner(net, images, goal, { searchSteps, steps, initialC, abortEarly, confidence, learningRate, targeted, batchSize });
      expect(apart(found, expected)).toBeLessThan(1e-9);
    }
  });

  it('beats the label by the confidence, and ends as near as fab does', async () => {
    const options: CarliniWagnerOptions = { steps: 60, searchSteps: 6, initialC: 0.1, learningRate: 0.02 };
    using found = await carliniWagner(net, images, labels, { ...options, confidence: 1 });
    rows(net.forward(found)).forEach((logits, i) => {
      const others = Math.max(...logits.filter((_, k) => k !== wanted[i]));
      expect(others - logits[wanted[i]!]!).toBeGreaterThan(1);
    });
    using near = await carliniWagner(net, images, labels, options);
    using nearFab = await fab(net, images, labels, { norm: 'l2', epsilon: 9, steps: 60 });
    // Two searches for the same minimum.
    lengths(near, 'l2').forEach((length, i) => expect(length / lengths(nearFab, 'l2')[i]!).toBeGreaterThan(0.9));
    lengths(near, 'l2').forEach((length, i) => expect(length / lengths(nearFab, 'l2')[i]!).toBeLessThan(1.1));
    const cut = lengths(near, 'l2').toSorted((a, b) => a - b)[8]!;
    using within = await carliniWagner(net, images, labels, { ...options, epsilon: cut });
    expect(lengths(within, 'l2').map((length) => length > 0)).toEqual(lengths(near, 'l2').map((length) => length <= cut));
  });

  it('gives back images that need nothing, and images that nothing fools', async () => {
    using misclassified = await carliniWagner(net, images, shifted, { steps: 2 });
    expect(equal(misclassified, images)).toBe(true);
    const certain = (x: Tensor) => aten.add(aten.mul(aten.view(aten.sum(x, [1, 2, 3]), [-1, 1]), 1e-6), tensor([[9, 0]], { dtype: 'float64' })) as Tensor;
    using none = await carliniWagner(certain, images, int64(Array<number>(16).fill(0)), { steps: 3, searchSteps: 3 });
    expect(equal(none, images)).toBe(true);
  });
});

describe('all three', () => {
  const attacks = [['fab', fab, { steps: 2 }], ['square', square, { queries: 3 }], ['carliniWagner', carliniWagner, { steps: 2, searchSteps: 1 }]] as const;
  type Call = (model: unknown, images: unknown, labels: unknown, options?: unknown) => Promise<Tensor>;

  it.each(attacks)('%s names bad arguments', async (_, attack, options) => {
    const call = attack as Call;
    await expect(call(net, images, labels, { ...options, step: 3 })).rejects.toThrow(ArgumentRangeError);
    await expect(call(net, images, int64([1]), options)).rejects.toThrow(expect.objectContaining({ argument: 'labels' }));
    await expect(call(net, aten.mul(images, 255), labels, options)).rejects.toThrow(/\[0, 1\]/);
    await expect(call({}, images, labels, options)).rejects.toThrow(ArgumentTypeError);
    await expect(call(net, images, labels, { ...options, epsilon: -1 })).rejects.toThrow(expect.objectContaining({ argument: 'options.epsilon' }));
    await expect(call(net, images, labels, { ...options, batchSize: 0 })).rejects.toThrow(expect.objectContaining({ argument: 'options.batchSize' }));
    await expect(call(net, images, aten.add(labels, 4), options)).rejects.toThrow(expect.objectContaining({ argument: 'labels' }));
  });

  it.each(attacks)('%s: NaN in the logits names the sample; no images, no work; an abort stops it', async (_, attack, options) => {
    const call = attack as Call;
    const broken = (x: Tensor) => {
      const logits = functionNet(net)(x).clone();
      aten.fill_(aten.select(logits, 0, x.shape[0]! - 1), NaN);
      return logits;
    };
    await expect(call(broken, images, labels, options)).rejects.toThrow(NonFiniteError);
    await expect(call(broken, images, labels, options)).rejects.toThrow('sample 15');
    expect((await call(net, aten.slice(images, 0, 0, 0), int64([]), options)).shape).toEqual([0, 1, 8, 8]);
    const controller = new AbortController();
    const running = call(net, images, labels, { ...options, onProgress: () => controller.abort(new Error('enough')), signal: controller.signal, ...(attack === square ? { queries: 1e6, epsilon: 0.001 } : { steps: 1e5 }) });
    await expect(running).rejects.toThrow('enough');
  });
});
