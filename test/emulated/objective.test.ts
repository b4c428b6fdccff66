// The objective as a CUDA device computes it: liba_infonce_cuda.so's sources run on the CPU (test/native/cuda) and take the place of the CPU's own from `beforeAll` on.
import { aInfoNCE, FixedViews, manualSeed, noGrad, ops, scope, setThreads, tensor, type AInfoNCEOptions, type DType } from 'a-infonce';
import { beforeAll, describe, expect, it } from 'vitest';
import { distance, evaluate, goldenCases, normal, relative, unitRows, type Result } from '../objective/fixtures.js';
import { emulatedLibrary } from './build.js';

interface Case { name: string; shape: [number, number]; options: AInfoNCEOptions; dtype: DType; limits: [loss: number, gradient: number]; fixed?: boolean; x?: Float64Array }
const cases: Case[] = [];
const emulator = () => (ops as unknown as { a_infonce_emulated: { launches(): number; set_capability(capability: number): void; set_backward(backward: boolean): void } }).a_infonce_emulated;

manualSeed(7);
setThreads(1);
const hard = { hardNegative: { beta: 1, tauPlus: 0.05 } }, general = { hardNegative: { beta: 0.6, tauPlus: 0.01 } };
const ip = { inferiorPositive: { alpha: 0.2, weight: 1.3 } };
const forms: Record<string, AInfoNCEOptions> = {
  'paper': { views: 2 }, 'paper, IP': { views: 3, adversarialView: 2, inferiorPositive: { alpha: 0.2, weight: 1.3, positiveWeight: 0.7 } }, 'paper, HN': { views: 4, ...hard },
  'paper, IP+HN': { views: 3, adversarialView: 1, ...ip, ...general }, 'paper, six views': { views: 6, adversarialView: 0, ...ip },
  'advcl': { form: 'advcl', views: 4, normalize: true }, 'advcl, IP': { form: 'advcl', views: 3, normalize: true, ...ip }, 'advcl, HN': { form: 'advcl', views: 3, normalize: true, ...general },
  'advcl, IP+HN': { form: 'advcl', views: 4, normalize: true, ...ip, ...hard }, 'advcl, IP+HN, five views': { form: 'advcl', views: 5, normalize: true, ...ip, ...hard },
  'rocl': { form: 'rocl', views: 3 }, 'rocl, attack': { form: 'rocl', views: 2 }, 'rocl, IP': { form: 'rocl', views: 3, ...ip }, 'rocl, IP+HN': { form: 'rocl', views: 3, ...ip, ...hard },
};
const wide = [1e-13, 1e-12] as const, narrow = [1e-6, 1e-5] as const;
for (const [name, options] of Object.entries(forms)) {
  const views = options.views!, released = options.form !== undefined && options.hardNegative !== undefined;
  for (const [temperature, limit] of [[0.5, 1e-5], [0.02, 1e-4], [0.004, 3e-4]] as const)
    for (const dtype of ['float64', 'float32'] as const)
      cases.push({ name: `${name}, t = ${temperature}, ${dtype}`, shape: [views * 23, 21], options: { ...options, temperature }, dtype, limits: dtype === 'float64' ? [...wide] : [1e-6, limit] });
  for (const [precision, limit] of [['bf16', 1.5e-3], ['bf16x3', 1e-5]] as const)
    cases.push({ name: `${name}, ${precision}`, shape: [views * 40, 128], options: { ...options, temperature: 0.7, precision }, dtype: 'float32', limits: [limit / 3, limit] });
  if (!released)
    for (const temperature of [0.5, 0.004])
      for (const dtype of ['float64', 'float32'] as const)
        cases.push({ name: `${name}, fixed views, t = ${temperature}, ${dtype}`, shape: [views * 70, 19], options: { ...options, temperature }, dtype, limits: dtype === 'float64' ? [...wide] : [1e-6, temperature < 0.1 ? 3e-4 : 1e-5], fixed: true });
}
for (const batch of [1, 2, 97, 193]) cases.push({ name: `batch ${batch}`, shape: [2 * batch, 7], options: { views: 2 }, dtype: 'float64', limits: [...wide] });
// Of many views, where threads share what the terms need beside them.
for (const name of ['paper, six views', 'advcl, IP+HN, five views']) cases.push({ name: `${name}, batch 130`, shape: [forms[name]!.views! * 130, 5], options: { ...forms[name]!, temperature: 0.5 }, dtype: 'float32', limits: [...narrow] });
for (const dim of [1, 63, 64, 65, 200]) cases.push({ name: `dim ${dim}`, shape: [2 * 20, dim], options: { views: 2 }, dtype: 'float32', limits: dim === 1 ? [1e-6, Infinity] : [...narrow] });
for (const temperature of [0.9, 0.05])
  cases.push({ name: `rows of any length, t = ${temperature}`, shape: [3 * 30, 9], options: { views: 3, normalize: false, temperature, adversarialView: 1, ...ip, ...general }, dtype: 'float64', limits: [...wide] });
for (const [temperature, limit] of [[0.5, 1e-5], [0.1, 1e-5], [0.07, 1e-5], [0.05, 1e-5], [0.02, 1e-3]] as const)
  for (const form of ['paper', 'advcl'] as const) {
    const image = unitRows([48, 32]);
    const x = Float64Array.from(new Float32Array(normal([3 * 48, 32]).map((e, k) => image[k % image.length]! + 0.01 * e)));
    cases.push({ name: `tight positives, ${form}, t = ${temperature}`, shape: [3 * 48, 32], options: { form, views: 3, normalize: true, temperature }, dtype: 'float32', limits: [Math.max(1e-5, limit / 10), limit], x });
  }
// Where tensor cores cut sums, long rows that are alike lose the same of every similarity.
for (const precision of ['full', 'bf16x3'] as const)
  cases.push({ name: `long rows that are alike, ${precision}`, shape: [96, 512], options: { views: 2, temperature: precision === 'full' ? 0.1 : 0.5, precision }, dtype: 'float32', limits: [5e-7, 2e-6], x: Float64Array.from(Float32Array.from(normal([96, 512]), (v) => v + 2)) });
{ // released hard negatives: an image that appears twice, and rows a little longer than others
  const x = unitRows([3 * 20, 24]);
  x.copyWithin(24 * 5, 24 * 45, 24 * 46);
  for (let k = 24 * 7; k < 24 * 8; ++k) x[k]! *= 1.0009;
  cases.push({ name: 'larger similarities than of a row with itself', shape: [3 * 20, 24], options: { form: 'advcl', views: 3, ...hard }, dtype: 'float64', limits: [...wide], x });
}
for (const each of cases) each.x ??= normal(each.shape);

// Rows of a class are positives of one another: classes of one image, of most and of all; clean rows and adversarial ones, where positives across kinds weigh otherwise or not.
const classes: Record<string, (i: number, batch: number) => number> = {
  'few classes': (i) => (7 * i) % 5 - 2, 'classes of one, and a large one': (i) => (i % 3 === 0 ? -1 : i), 'one class': () => 3, 'every image its own': (i, batch) => batch - i,
};
const labelled: Record<string, AInfoNCEOptions> = {
  'one view': { views: 1 }, 'three views': { views: 3 }, 'IP': { views: 3, adversarialView: 0, inferiorPositive: { alpha: 0.2, weight: 1.3, positiveWeight: 0.7 } }, 'weight 0': { views: 2, adversarialView: 1, weight: 0 },
  'HN': { views: 2, ...general }, 'IP+HN': { views: 2, adversarialView: 1, inferiorPositive: { alpha: 0.3, weight: 0.7, positiveWeight: 1.3 }, ...hard }, 'rows of any length': { views: 2, normalize: false, adversarialView: 1, ...ip },
};
Object.entries(labelled).forEach(([name, options], o) => {
  const left = Object.entries(classes).filter(([of]) => (of === 'one class' ? !options.hardNegative : of !== 'every image its own' || (options.views !== 1 && options.weight !== 0))); // that have negatives or positives
  left.forEach(([of, label], c) => (['float64', 'float32'] as const).forEach((dtype, t) => { // temperatures take turns, so that each meets all classes and all options in both types
    const batch = options.views === 1 ? 67 : 71;
    const long = options.normalize === false, [temperature, limit] = ([[0.5, 1e-5], [0.05, 1e-4], [0.004, 1e-3]] as const)[!long ? (c + o + t) % 3 : c < 2 ? 0 : 1 + (c + t) % 2]!; // rows too long
    const x = long ? normal([options.views! * batch, 11]).map((v) => v / 4) : normal([options.views! * batch, 11]);
    cases.push({ name: `labels, ${of}, ${name}, t = ${temperature}, ${dtype}`, shape: [options.views! * batch, 11], options: { ...options, temperature, labels: Array.from({ length: batch }, (_, i) => label(i, batch)) }, dtype, x,
      limits: dtype === 'float64' ? [1e-12, 1e-11] : [1e-5, limit] });
  }));
});
for (const batch of [2, 96, 97, 193]) // ragged: blocks of 192 rows, strips of 64
  cases.push({ name: `labels, batch ${batch}`, shape: [2 * batch, 70], x: normal([2 * batch, 70]), options: { views: 2, adversarialView: 1, ...ip, labels: Array.from({ length: batch }, (_, i) => i % 4) }, dtype: 'float64', limits: [1e-12, 1e-11] });
for (const [temperature, limit] of [[0.5, 1e-5], [0.1, 1e-5], [0.07, 1e-5], [0.05, 1e-5], [0.02, 1e-3]] as const)
  for (const options of [{}, { adversarialView: 1, inferiorPositive: { alpha: 0.3, weight: 0.7, positiveWeight: 1.3 } }, { hardNegative: { beta: 0.5 } }] as AInfoNCEOptions[]) {
    const centre = unitRows([12, 32]), labels = Array.from({ length: 48 }, (_, i) => i % 12);
    const x = Float64Array.from(new Float32Array(normal([2 * 48, 32]).map((e, k) => centre[32 * (Math.floor(k / 32) % 12) + (k % 32)]! + 0.01 * e)));
    cases.push({ name: `labels, tight positives, ${Object.keys(options).join(' and ')}, t = ${temperature}`, shape: [2 * 48, 32], options: { views: 2, ...options, temperature, labels }, dtype: 'float32', limits: [Math.max(1e-5, limit / 10), limit], x });
  }

/** What moves is the adversarial view, or the first. */
const mover = ({ form, views, adversarialView }: AInfoNCEOptions) => (form === 'advcl' ? 0 : form === 'rocl' ? (views === 3 ? 2 : 0) : (adversarialView ?? 0));
function run({ shape: [n, dim], options, dtype, fixed, x }: Case): Result {
  if (!fixed) return evaluate(x!, [n, dim], options, dtype);
  const batch = n / options.views!, from = mover(options) * batch * dim, to = from + batch * dim;
  return scope(() => {
    using step = new FixedViews(tensor(Float64Array.from([...x!.slice(0, from), ...x!.slice(to)]), { shape: [n - batch, dim], dtype }), options);
    return evaluate(x!.slice(from, to), [batch, dim], (rows) => step.loss(rows), dtype);
  });
}

const wrong: { name: string; call: () => unknown }[] = [];
const refused = (name: string, x: Float64Array, options: AInfoNCEOptions, dtype: DType = 'float64') => wrong.push({ name, call: () => evaluate(x, [12, 9], options, dtype) });
const with_ = (index: number, value: number) => normal([12, 9]).map((v, k) => (k === index ? value : v));
refused('NaN', with_(64, NaN), { views: 3 });
refused('infinity', with_(0, Infinity), { form: 'rocl', views: 3, ...hard });
refused('rows of another length', with_(0, 1), { form: 'advcl', views: 3 });
refused('no precision left', with_(0, 1), { views: 3, temperature: 1e-9 }, 'float32');
refused('a square that overflows', with_(0, 1e200), { views: 2, normalize: false });
wrong.push({ name: 'sums of other rows', call: () => scope(() => {
  const rows = (scale: number) => tensor(normal([12, 9]).map((v) => scale * v), { shape: [12, 9], requiresGrad: true });
  return ops.a_infonce.adversarial_loss(rows(1), rows(1), ops.a_infonce.clean_sums(rows(2), 2, { temperature: 0.5 }), 2, { temperature: 0.5 }).item();
}) });
const messageOf = (call: () => unknown) => {
  try {
    return `no error: ${JSON.stringify(call())}`;
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
};

let expected: Result[], messages: string[];
beforeAll(() => {
  expected = cases.map((each) => run({ ...each, dtype: 'float64', options: { ...each.options, precision: 'full' } }));
  messages = wrong.map(({ call }) => messageOf(call));
  process.dlopen({ exports: {} }, emulatedLibrary);
});

it.each(goldenCases())('$name', ({ options, shape, features, loss, gradient }) => {
  const [exact, single] = [evaluate(features, shape, options), evaluate(features, shape, options, 'float32')];
  expect(relative(exact.loss, loss)).toBeLessThan(1e-12);
  expect(distance(exact.gradient, gradient)).toBeLessThan(1e-12);
  expect(relative(single.loss, loss)).toBeLessThan(1e-5);
  expect(distance(single.gradient, gradient)).toBeLessThan(1e-4);
});
it.each(cases.map((each, index) => ({ ...each, index })))('$name', (each) => {
  for (const capability of each.options.precision === 'bf16' ? [80, 90] : [80]) { // only its kernels know the newer one
    emulator().set_capability(capability);
    const { loss, gradient } = run(each);
    expect(relative(loss, expected[each.index]!.loss)).toBeLessThanOrEqual(each.limits[0]);
    expect(distance(gradient, expected[each.index]!.gradient)).toBeLessThanOrEqual(each.limits[1]);
  }
});
it.each(wrong.map((each, index) => ({ ...each, index })))('refuses as the CPU does: $name', ({ call, index }) => {
  expect(messages[index]).not.toMatch(/^no error/);
  expect(messageOf(call)).toBe(messages[index]);
});

describe('one loss', () => {
  const shape = [3 * 30, 64] as const, x = normal(shape);
  const bits = ({ loss, gradient }: Result) => Buffer.from(Float64Array.of(loss, ...gradient).buffer).toString('hex');
  it.each(Object.entries(forms).filter(([, { views }]) => views === 3))('%s: the same bits in whatever order threads run', (_name, options) => {
    for (const precision of ['full', 'bf16'] as const) {
      const one = () => bits(evaluate(x, shape, { ...options, temperature: 0.7, precision }, 'float32')), forward = one();
      emulator().set_backward(true);
      expect(one()).toBe(forward);
      emulator().set_backward(false);
    }
  });
  it('is differentiable once, again where its graph is kept, and gives up its rows', () => {
    scope(() => {
      const rows = tensor(x, { shape, requiresGrad: true }), loss = aInfoNCE(rows, { views: 3 });
      loss.backward(undefined, { retainGraph: true });
      const once = rows.grad!.toTypedArray();
      loss.backward();
      expect(rows.grad!.toTypedArray()).toEqual(once.map((g) => (2 * (g as number)) as never));
      expect(() => loss.backward()).toThrow(/second time/);
    });
  });
  it('without a gradient, of rows that are not contiguous', () => {
    scope(() => {
      const rows = ops.aten.t(tensor(x.slice(0, 64 * 30), { shape: [30, 64] })), loss = noGrad(() => aInfoNCE(rows, { views: 2 }));
      expect([loss.dtype, loss.requiresGrad, loss.item()]).toEqual(['float64', false, aInfoNCE(ops.aten.contiguous(rows), { views: 2 }).item()]);
    });
  });
  it('takes few launches', () => {
    const count = (options: AInfoNCEOptions) => {
      const before = emulator().launches();
      evaluate(x, shape, options, 'float32');
      return emulator().launches() - before;
    };
    expect(count({ views: 3 })).toBeLessThan(16);
    expect(count({ views: 3, precision: 'bf16' })).toBeLessThan(22);
    expect(count({ form: 'advcl', views: 3, normalize: true, ...ip, ...hard })).toBeLessThan(30);
    expect(count({ views: 3 })).toBeGreaterThan(0);
  });
});
