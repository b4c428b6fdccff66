// Row moments, queues and labels as a CUDA device computes them: the same calls before and after the emulated kernels take the place of the CPU's.
import { aInfoNCE, manualSeed, ops, randn, scope, setThreads, tensor, type AInfoNCEOptions, type DType, type Tensor } from 'a-infonce';
import { beforeAll, describe, expect, it } from 'vitest';
import { distance, normal, relative, unitRows } from '../objective/fixtures.js';
import { emulatedLibrary } from './build.js';

const { aten, a_infonce } = ops;
const emulator = () => (ops as unknown as { a_infonce_emulated: { launches(): number; set_backward(backward: boolean): void; set_capturing(capturing: boolean): void } }).a_infonce_emulated;
manualSeed(11);
setThreads(1);

interface Data { shape: readonly [number, number]; x: Float64Array; wanted: boolean }
interface Case { name: string; inputs: Data[]; loss: (inputs: Tensor[]) => Tensor; dtype: DType; limits: readonly [value: number, gradient: number] }
const data = (shape: readonly [number, number], wanted = true, x = normal(shape)): Data => ({ shape, x, wanted });
function run({ inputs, loss, dtype }: Pick<Case, 'inputs' | 'loss' | 'dtype'>) {
  return scope(() => {
    const leaves = inputs.map(({ shape, x, wanted }) => tensor(x, { shape, dtype, requiresGrad: wanted })), value = loss(leaves);
    value.backward();
    return { loss: value.item(), gradients: leaves.map((leaf) => (leaf.grad === null ? null : Float64Array.from(leaf.grad.toTypedArray() as Float64Array))) };
  });
}

const cases: Case[] = [];
type Keywords = Parameters<typeof a_infonce.queue_loss>[3] & object;
const queued = (keywords: Keywords) => ([queries, keys, queue]: Tensor[]) => a_infonce.queue_loss(queries!, keys!, queue!, keywords);
// Every shape with every option, in both types; who gets a gradient takes turns over these, so that it also meets each of them.
const gradients = [[true, false, false], [true, true, true], [false, true, false], [false, false, true]] as const;
([{}, { temperature: 0.07 }, { temperature: 0.3, beta: 1, tau_plus: 0.05 }, { temperature: 1, beta: 0, tau_plus: 0.01 }, { temperature: 0.004 }, { temperature: 0.004, beta: 0.7 }] as Keywords[]).forEach((keywords, k) =>
  ([[1, 1, 3], [7, 200, 16], [193, 250, 37], [3, 400, 130], [192, 192, 64]] as const).forEach(([rows, size, dim], s) => {
    const wanted = gradients[(k + s) % gradients.length]!;
    for (const dtype of ['float64', 'float32'] as const)
      cases.push({ name: `queue ${rows} ${size} ${dim}, ${JSON.stringify(keywords)}, gradients of ${wanted}, ${dtype}`, inputs: [data([rows, dim], wanted[0]), data([rows, dim], wanted[1]), data([size, dim], wanted[2])],
        loss: queued(keywords), dtype, limits: dtype === 'float64' ? [1e-12, 1e-11] : [1e-5, keywords.temperature === 0.004 ? 1e-3 : 2e-5] });
  }));
{ // queries that are their keys, keys that are in the queue, a queue of one row
  const [rows, one] = [unitRows([40, 9]), unitRows([1, 9])];
  for (const dtype of ['float64', 'float32'] as const) {
    const limits = dtype === 'float64' ? [1e-11, 1e-10] as const : [1e-4, 1e-4] as const;
    cases.push({ name: `queue of the keys, ${dtype}`, inputs: [data([40, 9], true, rows), data([40, 9], true, rows), data([40, 9], true, rows)], loss: queued({ temperature: 0.2 }), dtype, limits });
    cases.push({ name: `queue of rows that are alike, ${dtype}`, inputs: [data([40, 9], true, rows), data([40, 9], true), data([200, 9], true, Float64Array.from({ length: 1800 }, (_, k) => one[k % 9]!))], loss: queued({ temperature: 0.2, beta: 0.5 }), dtype, limits });
  }
}

/** A function of all that log_moments gives, -infinity left out, by weights of either sign. */
const weighed = (codes: readonly number[], scale: number, powers: readonly number[], selection: number, factors: readonly number[], both: readonly boolean[]) => ([z]: Tensor[]) => {
  const given = a_infonce.log_moments(z!, tensor(Int32Array.from(codes)), scale, powers, selection, ...(factors as [number, number]));
  const terms = given.filter((_, end) => both[end]).map((sums, end) => {
    const weights = tensor(Float64Array.from({ length: powers.length * codes.length }, (_, k) => Math.cos(3 * k + end)), { shape: [powers.length, codes.length] });
    return aten.sum(aten.mul(aten.where(aten.isinf(sums), 0, sums), weights));
  });
  return terms.reduce((a, b) => aten.add(a, b));
};
const groups = [['few groups', (i: number) => (7 * i) % 13, 15], ['one group', (i: number) => i % 2, 12], ['groups of one', (i: number) => 2 * i, 1]] as const; // and what selects some of their pairs
// All that is asked for with each scale and type, of 65 rows; groups in which it selects pairs and other sizes take turns over these. Sums that run, of scale 300, take long: one of each size.
([
  [3, [1], [1, 1], [true, true]], [15, [2, 0.5], [0.4, 1.6], [true, true]], [4, [1, 2], [1, 1], [true, false]], [8, [0.7], [0, 2], [false, true]], [12, [1], [1, 1], [true, true]], [1, [1, 1.3], [1, 1], [false, true]], [2, [3], [0.5, 1.5], [true, false]],
] as const).forEach(([selection, powers, factors, both], a) => {
  const add = (n: number, scale: number, dtype: DType, [of, code]: (typeof groups)[number]) => cases.push({
    name: `moments of ${n} rows, ${of}, selection ${selection}, powers ${powers.join(' and ')}, scale ${scale}, ${dtype}`, inputs: [data([n, 33], true, unitRows([n, 33]))],
    loss: weighed(Array.from({ length: n }, (_, i) => code(i)), scale, powers, selection, factors, both), dtype, limits: dtype === 'float64' ? [1e-11, 1e-10] : [3e-5, scale > 2 ? 2e-3 : 2e-5] });
  const selected = groups.filter(([, , selections]) => selections & selection);
  (['float64', 'float32'] as const).forEach((dtype, b) => {
    [2, 300].forEach((scale, c) => add(65, scale, dtype, selected[(a + b + c) % selected.length]!));
    add(1 + (a + b) % 2, 2, dtype, groups[0]), add(1 + (a + b) % 2, 300, dtype, groups[0]);
    add([193, 250][(a + b) % 2]!, 2, dtype, groups[0]);
    if (selection === 15) add(193, 300, dtype, groups[0]), add(250, 300, dtype, groups[0]);
  });
});

const wrong: { name: string; call: () => unknown }[] = [];
const messageOf = (call: () => unknown) => scope(() => {
  try {
    return `no error: ${JSON.stringify(call())}`;
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
});
const spoilt = (value: number) => aten.index_fill(randn([12, 5]), 0, tensor(BigInt64Array.of(7n)), value);
for (const at of [0, 1, 2])
  wrong.push({ name: `${['queries', 'keys', 'queue'][at]} that are not finite`, call: () => {
    const inputs = [0, 1, 2].map((k) => (k === at ? spoilt(NaN) : randn([12, 5]))) as [Tensor, Tensor, Tensor];
    return a_infonce.queue_loss(...inputs).item();
  } });
const codes = (...values: number[]) => tensor(Int32Array.from(values));
wrong.push({ name: 'moments of rows that are not finite', call: () => a_infonce.log_moments(spoilt(Infinity), codes(...Array(12).keys()), 1, [1], 3)[0].toTypedArray() });
wrong.push({ name: 'moments of rows whose square overflows', call: () => a_infonce.log_moments(aten.mul(spoilt(1e30).to({ dtype: 'float64' }), 1e130), codes(...Array(12).keys()), 1, [1], 3)[0].toTypedArray() });
wrong.push({ name: 'codes that are negative', call: () => a_infonce.log_moments(randn([3, 2]), codes(0, -2, 2), 1, [1], 3)[0].toTypedArray() });
wrong.push({ name: 'a scale without precision', call: () => a_infonce.log_moments(aten.ones([3, 2]), codes(0, 2, 4), 1e12, [1], 3)[0].toTypedArray() });
wrong.push({ name: 'labels none of which is there twice', call: () => aInfoNCE(randn([12, 5]), { views: 1, labels: [...Array(12).keys()] }).item() });
wrong.push({ name: 'hard negatives of one class', call: () => aInfoNCE(randn([12, 5]), { views: 2, labels: Array(6).fill(4), hardNegative: {} }).item() });
wrong.push({ name: 'labelled rows that are not finite', call: () => aInfoNCE(spoilt(NaN), { views: 2, labels: [5, 4, 3, 5, 4, 3] }).item() });

let expected: ReturnType<typeof run>[], messages: string[];
beforeAll(() => {
  expected = cases.map((each) => run({ ...each, dtype: 'float64' }));
  messages = wrong.map(({ call }) => messageOf(call));
  process.dlopen({ exports: {} }, emulatedLibrary);
});

it.each(cases.map((each, index) => ({ ...each, index })))('$name', (each) => {
  const before = emulator().launches(), given = run(each), known = expected[each.index]!;
  expect(emulator().launches()).toBeGreaterThan(before);
  expect(Math.abs(given.loss - known.loss)).toBeLessThanOrEqual(each.limits[0] * Math.max(1, Math.abs(known.loss)));
  given.gradients.forEach((gradient, k) => {
    expect(gradient === null).toBe(known.gradients[k] === null);
    const size = Math.hypot(...(known.gradients[k] ?? []));
    if (gradient && size > 1e-3) expect(distance(gradient, known.gradients[k]!)).toBeLessThanOrEqual(each.limits[1]);
    else if (gradient) expect(Math.hypot(...gradient)).toBeLessThanOrEqual(size + each.limits[1]);
  });
});
it.each(wrong.map((each, index) => ({ ...each, index })))('refuses as the CPU does: $name', ({ call, index }) => {
  expect(messages[index]).not.toMatch(/^no error/);
  expect(messageOf(call)).toBe(messages[index]);
});

const shape = [2 * 100, 24] as const, labels = Array.from({ length: 100 }, (_, i) => i % 7);
const labelled: AInfoNCEOptions = { views: 2, adversarialView: 1, inferiorPositive: { alpha: 0.5, weight: 1.3, positiveWeight: 0.7 }, hardNegative: { beta: 0.6, tauPlus: 0.01 }, labels };
const losses: [string, (inputs: Tensor[]) => Tensor, Data[]][] = [
  ['labels', ([x]) => aInfoNCE(x!, labelled), [data(shape)]], ['queue', queued({ temperature: 0.2, beta: 0.5 }), [data([30, 24]), data([30, 24]), data([400, 24])]],
  ['log moments', weighed(Array.from({ length: 200 }, (_, i) => i % 9), 2, [1, 2], 7, [1, 1], [true, false]), [data(shape, true, unitRows(shape))]],
];
describe.each(losses)('%s', (_name, loss, inputs) => {
  it('has the gradient that finite differences give', () => {
    const { gradients } = run({ inputs, loss, dtype: 'float64' }), step = 1e-5;
    inputs.forEach(({ shape, x }, input) => {
      const direction = normal(shape);
      const at = (by: number) => run({ inputs: inputs.map((each, k) => (k === input ? { ...each, x: x.map((v, i) => v + by * direction[i]!) } : each)), loss, dtype: 'float64' }).loss;
      const slope = gradients[input]!.reduce((sum, g, i) => sum + g * direction[i]!, 0);
      expect(relative((at(step) - at(-step)) / (2 * step), slope)).toBeLessThan(1e-6);
    });
  });
  it('has the same bits in whatever order threads run, and again', () => {
    for (const dtype of ['float32', 'float64'] as const) {
      const forward = run({ inputs, loss, dtype });
      expect(run({ inputs, loss, dtype })).toEqual(forward);
      emulator().set_backward(true);
      expect(run({ inputs, loss, dtype })).toEqual(forward);
      emulator().set_backward(false);
    }
  });
  it('is differentiable once, again where its graph is kept', () => {
    scope(() => {
      const leaves = inputs.map(({ shape, x }) => tensor(x, { shape, requiresGrad: true })), value = loss(leaves);
      value.backward(undefined, { retainGraph: true });
      const once = leaves.map((leaf) => leaf.grad!.toTypedArray());
      value.backward();
      leaves.forEach((leaf, k) => expect(leaf.grad!.toTypedArray()).toEqual((once[k] as Float64Array).map((g) => 2 * g)));
      expect(() => value.backward()).toThrow(/second time/);
    });
  });
  it('takes few launches', () => {
    const before = emulator().launches();
    run({ inputs, loss, dtype: 'float32' });
    expect(emulator().launches() - before).toBeLessThan(60);
  });
});

it('a queue may be overwritten before the gradient is asked for, unless it gets one', () => {
  for (const keywords of [{}, { beta: 1 }, { temperature: 0.004 }] as Keywords[])
    scope(() => {
      const [keys, queue, values] = [randn([5, 4]), randn([300, 4]), normal([5, 4])];
      const gradient = (overwrite: boolean) => {
        const queries = tensor(values, { shape: [5, 4], dtype: 'float32', requiresGrad: true }), columns = aten.clone(queue), loss = a_infonce.queue_loss(queries, keys, columns, keywords);
        if (overwrite) aten.fill_(columns, 1);
        loss.backward();
        return queries.grad!.toTypedArray();
      };
      expect(gradient(true)).toEqual(gradient(false));
      const fixed = aten.mul(randn([300, 4], { requiresGrad: true }), 1), loss = a_infonce.queue_loss(randn([5, 4], { requiresGrad: true }), keys, fixed, keywords);
      scope(() => aten.fill_(fixed.detach(), 1));
      expect(() => loss.backward()).toThrow(/inplace/);
    });
});

it('labels and codes on the CPU are not for a graph', () => {
  scope(() => {
    const x = randn([6, 4]);
    emulator().set_capturing(true);
    try {
      expect(() => aInfoNCE(x, { views: 2, labels: [0, 1, 0] })).toThrow(/labels on the CPU cannot be captured/);
      expect(() => a_infonce.log_moments(x, codes(0, 2, 4, 0, 2, 4), 1, [1], 3)).toThrow(/codes on the CPU cannot be captured/);
      expect(() => a_infonce.queue_loss(aten.mul(x, NaN), x, x)).not.toThrow(); // nobody looks
    } finally {
      emulator().set_capturing(false);
    }
  });
});
