import { FixedViews, manualSeed, scope, tensor, type AInfoNCEOptions } from 'a-infonce';
import { beforeEach, describe, expect, it } from 'vitest';
import { distance, goldenCases, normal, relative, unitRows } from '../objective/fixtures.js';
import { a_infonce, device, numbers, on, there } from './device.js';

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

it('labels, fixed views and queues are the CPU\'s', () => {
  const shape = [2 * 150, 40], x = normal(shape), labels = Array.from({ length: 150 }, (_, i) => i % 7);
  for (const loss of [
    { views: 2, labels },
    (rows: Parameters<typeof a_infonce.queue_loss>[0]) => {
      const [keys, queue] = [normal(shape), normal([500, 40])].map((values, i) => tensor(values, { shape: i ? [500, 40] : shape, dtype: rows.dtype, device: rows.device }));
      return a_infonce.queue_loss(rows, keys!, queue!, { temperature: 0.2 });
    },
    (rows: Parameters<typeof a_infonce.queue_loss>[0]) => {
      using clean = tensor(normal([2 * 300, 40]), { shape: [600, 40], dtype: rows.dtype, device: rows.device });
      using fixed = new FixedViews(clean, { views: 3, adversarialView: 2 });
      return fixed.loss(rows);
    },
  ]) {
    const [expected, found] = ['cpu', device].map((place) => (manualSeed(2), on(place, x, shape, loss))) as [ReturnType<typeof on>, ReturnType<typeof on>];
    expect(relative(found.loss, expected.loss)).toBeLessThan(1e-11);
    expect(distance(found.gradient, expected.gradient)).toBeLessThan(1e-10);
  }
});

it('row moments are the CPU\'s', () => {
  scope(() => {
    const z = tensor(unitRows([250, 33]), { shape: [250, 33] }), codes = tensor(Int32Array.from({ length: 250 }, (_, i) => i % 50));
    for (const selection of [1, 2, 3]) {
      const [expected, found] = [a_infonce.log_moments(z, codes, 2, [1, 2], selection), a_infonce.log_moments(there(z), there(codes), 2, [1, 2], selection)];
      for (const [i, values] of expected.entries()) expect(distance(numbers(found[i]!), numbers(values))).toBeLessThan(1e-12);
    }
  });
});

it('rows that are not numbers are told', () => {
  const x = normal([6, 4]);
  x[5] = NaN;
  expect(() => on(device, x, [6, 4], { views: 2 })).toThrow(expect.objectContaining({ code: 'ERR_NON_FINITE' }));
});
