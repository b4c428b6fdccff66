import { FixedViews, manualSeed, scope, tensor, type AInfoNCEOptions, type Tensor } from 'a-infonce';
import { beforeEach, describe, expect, it } from 'vitest';
import { distance, goldenCases, normal, relative, unitRows } from '../objective/fixtures.js';
import { a_infonce, aten, device, numbers, on, there } from './device.js';

beforeEach(() => manualSeed(1));

describe('golden cases', () => {
  it.each(goldenCases())('$name', ({ options, shape, features, loss, gradient }) => {
    const wide = on(device, features, shape, options);
    expect(relative(wide.loss, loss)).toBeLessThan(1e-12);
    expect(distance(wide.gradient, gradient)).toBeLessThan(1e-11);
    const narrow = on(device, features, shape, options, 'float32');
    expect(relative(narrow.loss, loss)).toBeLessThan(1e-5);
    expect(distance(narrow.gradient, gradient)).toBeLessThan(1e-4);
  });
});

const forms: Record<string, AInfoNCEOptions> = {
  'paper': { views: 3, adversarialView: 2 },
  'paper, IP+HN': { views: 3, adversarialView: 2, inferiorPositive: { alpha: 0.3, weight: 1.3, positiveWeight: 0.7 }, hardNegative: { beta: 0.7, tauPlus: 0.01 } },
  'paper, small temperature': { views: 3, adversarialView: 2, temperature: 0.01 },
  'advcl': { form: 'advcl', views: 3, normalize: true },
  'advcl, IP+HN': { form: 'advcl', views: 3, normalize: true, inferiorPositive: { alpha: 0.2, weight: 1.2 }, hardNegative: { beta: 1, tauPlus: 0.01 } },
  'rocl': { form: 'rocl', views: 3 },
  'rocl, IP+HN': { form: 'rocl', views: 3, inferiorPositive: { alpha: 0.2 }, hardNegative: { beta: 1, tauPlus: 0.1 } },
};
const shapes = [[2, 3], [3, 2], [13, 129], [64, 64], [67, 20], [130, 128], [700, 100]] as const;  // up to eleven blocks of rows, odd ones too

describe.each(Object.entries(forms))('form %s is the CPU\'s', (_, options) => {
  it.each(shapes)('batch %i, dim %i', (batch, dim) => {
    const shape = [3 * batch, dim], x = normal(shape), expected = on('cpu', x, shape, options);
    const wide = on(device, x, shape, options), narrow = on(device, x, shape, options, 'float32');
    expect(relative(wide.loss, expected.loss)).toBeLessThan(1e-11);
    expect(distance(wide.gradient, expected.gradient)).toBeLessThan(1e-10);
    expect(relative(narrow.loss, expected.loss)).toBeLessThan(2e-5);
    expect(distance(narrow.gradient, expected.gradient)).toBeLessThan(2e-4);
  });
  it('has the same bits each time', () => {
    const shape = [3 * 400, 128], x = normal(shape);
    for (const precision of ['full', 'bf16x3', 'bf16'] as const) {
      const first = on(device, x, shape, { ...options, precision }, 'float32');
      for (let again = 0; again < 3; again++) expect(on(device, x, shape, { ...options, precision }, 'float32')).toEqual(first);
    }
  });
  it('is near in products of bfloat16', () => {
    const shape = [3 * 200, 128], x = unitRows(shape), expected = on('cpu', x, shape, options);
    for (const [precision, limit] of [['bf16', 1e-2], ['bf16x3', 1e-4]] as const) {
      const found = on(device, x, shape, { ...options, precision }, 'float32');
      expect(relative(found.loss, expected.loss), precision).toBeLessThan(limit);
      expect(distance(found.gradient, expected.gradient), precision).toBeLessThan(10 * limit);
    }
  });
});

it('fixed views are the CPU\'s', () => {
  const shape = [2 * 150, 40], x = normal(shape);
  const loss = (rows: Tensor) => {
    using clean = tensor(normal([2 * 300, 40]), { shape: [600, 40], dtype: rows.dtype, device: rows.device });
    using fixed = new FixedViews(clean, { views: 3, adversarialView: 2 });
    return fixed.loss(rows);
  };
  const [expected, found] = ['cpu', device].map((place) => (manualSeed(2), on(place, x, shape, loss))) as [ReturnType<typeof on>, ReturnType<typeof on>];
  expect(relative(found.loss, expected.loss)).toBeLessThan(1e-11);
  expect(distance(found.gradient, expected.gradient)).toBeLessThan(1e-10);
});

const across = { adversarialView: 1, inferiorPositive: { alpha: 0.3, weight: 0.7, positiveWeight: 1.3 } };
describe.each(Object.entries({ 'labels': {}, 'labels, IP': across, 'labels, IP+HN': { ...across, hardNegative: { beta: 0.6, tauPlus: 0.01 } }, 'labels, small temperature': { temperature: 0.01 } } as Record<string, AInfoNCEOptions>))('%s', (_, options) => {
  it.each([[2, 3], [97, 129], [150, 40]] as const)('of %i images are the CPU\'s, dim %i', (batch, dim) => {
    const shape = [2 * batch, dim], x = normal(shape), all = { views: 2, ...options, labels: Array.from({ length: batch }, (_, i) => (i % 11 === 10 ? i : i % 7)) };
    const expected = on('cpu', x, shape, all), wide = on(device, x, shape, all), narrow = on(device, x, shape, all, 'float32');
    expect(relative(wide.loss, expected.loss)).toBeLessThan(1e-11);
    expect(distance(wide.gradient, expected.gradient)).toBeLessThan(1e-10);
    expect(relative(narrow.loss, expected.loss)).toBeLessThan(2e-5);
    expect(distance(narrow.gradient, expected.gradient)).toBeLessThan(options.temperature ? 1e-3 : 2e-4);
  });
  it('have the same bits each time', () => {
    const shape = [2 * 400, 128], x = normal(shape), all = { views: 2, ...options, labels: Array.from({ length: 400 }, (_, i) => i % 10) };
    const first = on(device, x, shape, all, 'float32');
    for (let again = 0; again < 3; again++) expect(on(device, x, shape, all, 'float32')).toEqual(first);
  });
});

it('tight classes keep their precision', () => {
  const centres = unitRows([12, 32]), shape = [96, 32], x = Float64Array.from(new Float32Array(normal(shape).map((e, k) => centres[32 * (Math.floor(k / 32) % 12) + (k % 32)]! + 0.01 * e)));
  const options = { views: 2, temperature: 0.1, labels: Array.from({ length: 48 }, (_, i) => i % 12) };
  expect(distance(on(device, x, shape, options, 'float32').gradient, on('cpu', x, shape, options).gradient)).toBeLessThan(1e-5);
});

it.each([{ temperature: 0.2 }, { temperature: 0.3, beta: 1, tau_plus: 0.05 }, { temperature: 0.005 }])('queues are the CPU\'s, whoever gets a gradient: %j', (keywords) => {
  for (const [n, size, dim] of [[7, 200, 16], [200, 500, 130]] as const)
    for (const wanted of [[true, false, false], [true, true, true]]) {
      const values = [normal([n, dim]), normal([n, dim]), normal([size, dim])];
      const run = (place: string, dtype: 'float32' | 'float64') => scope(() => {
        const inputs = values.map((x, k) => {
          const there = tensor(x, { shape: [x.length / dim, dim], dtype }).to({ device: place }).detach();
          there.requiresGrad = wanted[k]!;
          return there;
        }) as [Tensor, Tensor, Tensor];
        const loss = a_infonce.queue_loss(...inputs, keywords);
        loss.backward();
        return { loss: loss.item(), gradients: inputs.filter((_, k) => wanted[k]).map((x) => numbers(x.grad!)) };
      });
      const expected = run('cpu', 'float64');
      for (const [dtype, limit] of [['float64', 1e-10], ['float32', keywords.temperature < 0.1 ? 1e-3 : 2e-4]] as const) {
        const found = run(device, dtype);
        expect(relative(found.loss, expected.loss)).toBeLessThan(limit);
        found.gradients.forEach((gradient, k) => expect(distance(gradient, expected.gradients[k]!)).toBeLessThan(limit));
      }
    }
});

it('row moments are the CPU\'s, and so are their gradients', () => {
  const values = unitRows([250, 33]), codes = tensor(Int32Array.from({ length: 250 }, (_, i) => i % 50));
  for (const selection of [1, 3, 14])
    for (const scale of [2, 300])
      for (const dtype of ['float64', 'float32'] as const) {
        const run = (place: string, dtype: 'float32' | 'float64') => scope(() => {
          const z = tensor(values, { shape: [250, 33], dtype }).to({ device: place }).detach();
          z.requiresGrad = true;
          const [full, detached] = a_infonce.log_moments(z, place === 'cpu' ? codes : there(codes), scale, [1, 2], selection, 0.4, 1.6);
          aten.sum(aten.add(full, aten.mul(detached, 0.5))).backward();
          return [numbers(full), numbers(detached), numbers(z.grad!)];
        });
        const expected = run('cpu', 'float64'), found = run(device, dtype);
        for (const [i, x] of expected.entries()) expect(distance(found[i]!, x)).toBeLessThan(dtype === 'float64' ? 1e-10 : scale > 2 ? 1e-3 : 1e-4);
      }
});

it('rows that are not numbers are told', () => {
  const x = normal([6, 4]);
  x[5] = NaN;
  expect(() => on(device, x, [6, 4], { views: 2 })).toThrow(expect.objectContaining({ code: 'ERR_NON_FINITE' }));
});
