import { createHash } from 'node:crypto';
import {
  aInfoNCE, FixedViews, ArgumentRangeError, ArgumentTypeError, manualSeed, memory, noGrad, NonFiniteError, OperatorError, ops, randn, runtimeInfo, scope, setInstructionSet, setThreads, tensor,
  type AInfoNCEOptions, type DType, type InstructionSet,
} from 'a-infonce';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { distance, evaluate, goldenCases, normal, relative, unitRows, type Result } from './fixtures.js';
import { densePaper } from './reference.js';
import { live } from '../fixtures/live.js';
import { initial, restoreSettings } from '../fixtures/settings.js';

const sets = runtimeInfo().instructionSets as InstructionSet[];
beforeEach(() => (manualSeed(1), setThreads(1)));
afterEach(restoreSettings);

const adversarial = { views: 3, adversarialView: 2 };
const forms: Record<string, AInfoNCEOptions> = {
  'paper': adversarial,
  'paper, IP': { ...adversarial, inferiorPositive: { alpha: 0.2, weight: 1.3, positiveWeight: 0.7 } },
  'paper, HN': { ...adversarial, hardNegative: { beta: 1, tauPlus: 0.05 } },
  'paper, IP+HN': { ...adversarial, inferiorPositive: { alpha: 0.3 }, hardNegative: { beta: 0.7, tauPlus: 0.01 } },
  'advcl': { form: 'advcl', views: 3, normalize: true },
  'advcl, IP': { form: 'advcl', views: 3, normalize: true, inferiorPositive: { alpha: 0.2, weight: 1.2 } },
  'advcl, IP+HN': { form: 'advcl', views: 3, normalize: true, inferiorPositive: { alpha: 0.2 }, hardNegative: { beta: 1, tauPlus: 0.01 } },
  'advcl, HN, general beta': { form: 'advcl', views: 3, normalize: true, hardNegative: { beta: 0.6, tauPlus: 0.01 } },
  'rocl': { form: 'rocl', views: 3 },
  'rocl, IP': { form: 'rocl', views: 3, inferiorPositive: { alpha: 0.2 } },
  'rocl, IP+HN': { form: 'rocl', views: 3, inferiorPositive: { alpha: 0.2 }, hardNegative: { beta: 1, tauPlus: 0.1 } },
  'rocl, attack': { form: 'rocl', views: 2 },
};
const named = Object.entries(forms).map(([name, options]) => ({ name, options }));

describe('golden cases', () => {
  const cases = goldenCases();
  it('are all there', () => expect(cases.length).toBe(46));
  for (const set of sets)
    it.each(cases)(`$name on ${set}`, ({ options, shape, features, loss, gradient }) => {
      setInstructionSet(set);
      const wide = evaluate(features, shape, options);
      expect(relative(wide.loss, loss)).toBeLessThan(1e-12);
      expect(distance(wide.gradient, gradient)).toBeLessThan(1e-12);
      const narrow = evaluate(features, shape, options, 'float32');
      expect(relative(narrow.loss, loss)).toBeLessThan(1e-5);
      expect(distance(narrow.gradient, gradient)).toBeLessThan(1e-4);
    });
});

it('labels may be numbers, bigints or a Tensor', () => {
  using features = randn([6, 4]);
  const loss = (labels: AInfoNCEOptions['labels']) => scope(() => aInfoNCE(features, { views: 2, labels: labels! }).item());
  const expected = loss([0, 1, 1]);
  for (const labels of [BigInt64Array.of(0n, 1n, 1n), [0n, 1n, 1n], Uint8Array.of(0, 1, 1), tensor(BigInt64Array.of(0n, 1n, 1n))]) expect(loss(labels)).toBe(expected);
  expect(() => loss([0n, 1n, 2n ** 40n])).toThrow(/^options\.labels\[2\]: expected an int32/);
});

describe('form paper against the dense formula', () => {
  const shapes = [[2, 1], [3, 2], [5, 3], [7, 127], [13, 129], [3, 300], [67, 20], [130, 9], [200, 65]] as const; // the last ones have 3 and 4 blocks of rows
  it.each(shapes)('batch %i, dim %i: any size', (batch, dim) => {
    const x = normal([3 * batch, dim]);
    for (const { options } of named.slice(0, 4)) {
      const dense = evaluate(x, [3 * batch, dim], (features) => densePaper(features, options));
      const fused = evaluate(x, [3 * batch, dim], options);
      expect(relative(fused.loss, dense.loss)).toBeLessThan(1e-12);
      if (dim > 1) expect(distance(fused.gradient, dense.gradient)).toBeLessThan(1e-11); // in one dimension a unit row cannot move
      const narrow = evaluate(x, [3 * batch, dim], options, 'float32');
      expect(relative(narrow.loss, dense.loss)).toBeLessThan(1e-5);
      if (dim > 1) expect(distance(narrow.gradient, dense.gradient)).toBeLessThan(1e-4);
    }
  });
  it('with one to five views, and rows that are not normalised', () => {
    for (const views of [2, 4, 5])
      for (const normalize of [true, false]) {
        const options = { views, adversarialView: 1, normalize, temperature: 0.9, inferiorPositive: { alpha: 0.1 }, hardNegative: { beta: 2, tauPlus: 0.001 } };
        const x = normal([views * 11, 6]);
        const dense = evaluate(x, [views * 11, 6], (features) => densePaper(features, options));
        const fused = evaluate(x, [views * 11, 6], options);
        expect(relative(fused.loss, dense.loss)).toBeLessThan(1e-12);
        expect(distance(fused.gradient, dense.gradient)).toBeLessThan(1e-11);
      }
  });
  const labels = [4, 0, 7, 4, 4, 2, 0, 4, 2, 9]; // classes of 1, 2 and 4 images
  it.each([
    { views: 1 }, { views: 2 }, { views: 1, hardNegative: { beta: 1, tauPlus: 0.1 } },
    { ...adversarial, inferiorPositive: { alpha: 0.15, weight: 1.4, positiveWeight: 0.6 } },
    { ...adversarial, inferiorPositive: { alpha: 0.35, weight: 0.8 }, hardNegative: { beta: 0.5, tauPlus: 0.05 } },
  ])('supervised %j', (given) => {
    const shape = [given.views * 10, 12];
    const x = normal(shape);
    for (const temperature of [0.5, 0.02]) {
      const options = { ...given, labels, temperature };
      const dense = evaluate(x, shape, (features) => densePaper(features, options));
      for (const set of sets) {
        setInstructionSet(set);
        const fused = evaluate(x, shape, options);
        expect(relative(fused.loss, dense.loss)).toBeLessThan(1e-12);
        expect(distance(fused.gradient, dense.gradient)).toBeLessThan(1e-11);
        expect(distance(evaluate(x, shape, options, 'float32').gradient, dense.gradient)).toBeLessThan(temperature < 0.1 ? 1e-3 : 1e-4);
      }
    }
  });
  it('supervised by distinct labels is unsupervised', () => {
    const x = normal([2 * 9, 5]);
    const distinct = Array.from({ length: 9 }, (_, i) => 100 - i);
    const [a, b] = [evaluate(x, [18, 5], { labels: distinct }), evaluate(x, [18, 5], {})];
    expect(relative(a.loss, b.loss)).toBeLessThan(1e-13);
    expect(distance(a.gradient, b.gradient)).toBeLessThan(1e-12);
  });
});

describe('gradients', () => {
  // Detached columns make the released forms' gradients no derivative of their value, and so does alpha other than 0.5.
  it.each([
    ['paper', { views: 2 }], ['supervised', { views: 1, labels: [0, 1, 0, 1, 2, 2] }],
    ['paper, HN', { ...adversarial, hardNegative: { beta: 1.5, tauPlus: 0.02 } }],
    ['paper, alpha 0.5', { ...adversarial, inferiorPositive: { alpha: 0.5, weight: 0.6, positiveWeight: 1.5 } }],
    ['advcl', { form: 'advcl', views: 4, normalize: true }], ['advcl, HN', { form: 'advcl', views: 4, normalize: true, temperature: 1, hardNegative: { beta: 0.5, tauPlus: 0 } }],
    ['small temperature', { views: 2, temperature: 0.02 }],
  ] as [string, AInfoNCEOptions][])('agree with finite differences: %s', (_name, options) => {
    const shape = [(options.views ?? 2) * (options.labels ? 6 : 4), 4];
    const x = normal(shape);
    const { gradient } = evaluate(x, shape, options);
    const h = 1e-5;
    const numeric = x.map((value, k) => {
      const at = (v: number) => scope(() => noGrad(() => aInfoNCE(tensor(Float64Array.from(x, (u, i) => (i === k ? v : u)), { shape }), options).item()));
      return (8 * (at(value + h) - at(value - h)) - (at(value + 2 * h) - at(value - 2 * h))) / (12 * h);
    });
    expect(distance(gradient, numeric)).toBeLessThan(1e-7);
  });

  it('keep their precision when positives are tight', () => {
    const [batch, dim] = [48, 32];
    const image = unitRows([batch, dim]);
    for (const [temperature, limit] of [[0.5, 1e-5], [0.1, 1e-5], [0.07, 1e-5], [0.05, 1e-5], [0.02, 1e-3]] as const)
      for (const views of [2, 3]) {
        const noise = normal([views * batch, dim]);
        const x = Float64Array.from(new Float32Array(noise.map((e, k) => image[k % image.length]! + 0.01 * e))); // the same numbers in both precisions
        for (const { name, options } of [{ name: 'paper', options: {} }, { name: 'advcl', options: { form: 'advcl', normalize: true } },
          { name: 'labels', options: { labels: Array.from({ length: batch }, (_, i) => i) } }] as { name: string; options: AInfoNCEOptions }[]) {
          const at = { ...options, views, temperature };
          const [wide, narrow] = [evaluate(x, [views * batch, dim], at), evaluate(x, [views * batch, dim], at, 'float32')];
          expect(distance(narrow.gradient, wide.gradient), `${name} t=${temperature} views=${views}`).toBeLessThan(limit);
          expect(relative(narrow.loss, wide.loss), `${name} t=${temperature} views=${views}`).toBeLessThan(Math.max(1e-5, limit / 10));
        }
      }
  });

  it('keep their precision where rows lie about the centre of their class, and a few about that of another', () => {
    const [classes, each] = [10, 150], batch = classes * each, labels = Array.from({ length: batch }, (_, i) => i % classes);
    for (const [temperature, dim, spread, astray] of [[0.07, 33, 0.48, 0], [0.1, 128, 0.03, 0.02], [0.07, 64, 0.04, 0.02]] as const) {
      const centres = unitRows([classes, dim]), noise = normal([batch, dim]);
      const centre = (i: number) => (i % classes + (i < astray * batch ? 1 : 0)) % classes;
      const x = Float64Array.from(new Float32Array(noise.map((e, k) => centres[centre(Math.floor(k / dim)) * dim + k % dim]! + (spread / Math.sqrt(dim)) * e)));
      const at = { labels, views: 1, temperature };
      const [wide, narrow] = [evaluate(x, [batch, dim], at), evaluate(x, [batch, dim], at, 'float32')];
      expect(distance(narrow.gradient, wide.gradient), `t=${temperature} dim=${dim}`).toBeLessThan(1e-5);
    }
  });
});

describe('properties', () => {
  const shape = [3 * 20, 16];
  const ip = (alpha: number): AInfoNCEOptions => ({ ...adversarial, temperature: 0.3, inferiorPositive: { alpha } });

  it('alpha changes gradients and never the value; 0.5 is the plain loss', () => {
    const x = normal(shape);
    const plain = evaluate(x, shape, { ...adversarial, temperature: 0.3 });
    for (const alpha of [0, 0.2, 0.5, 1]) {
      const { loss, gradient } = evaluate(x, shape, ip(alpha));
      expect(relative(loss, plain.loss)).toBeLessThan(1e-14);
      if (alpha === 0.5) expect(distance(gradient, plain.gradient)).toBeLessThan(1e-14);
      else expect(distance(gradient, plain.gradient)).toBeGreaterThan(0.05);
    }
    const rocl = { form: 'rocl', views: 3 } as const;
    const [a, b] = [evaluate(x, shape, rocl), evaluate(x, shape, { ...rocl, inferiorPositive: { alpha: 0.5, weight: 2 } })];
    expect([relative(b.loss, a.loss), distance(b.gradient, a.gradient)].every((error) => error < 1e-13)).toBe(true);
  });
  it('alpha 0 leaves clean rows unmoved by adversaries, alpha 1 adversaries by clean rows', () => {
    // Clean rows in the first three dimensions, adversaries in the last three: a gradient across comes from the other kind.
    const x = normal([2 * 8, 6]).map((v, k) => (k % 6 < 3 === k < 8 * 6 ? v : 0));
    const across = (alpha: number) => {
      const { gradient } = evaluate(x, [16, 6], { views: 2, adversarialView: 1, normalize: false, inferiorPositive: { alpha }, hardNegative: { beta: 1, tauPlus: 0 } });
      const sum = (clean: boolean) => gradient.reduce((total, g, k) => total + (k < 8 * 6 === clean && k % 6 < 3 !== clean ? Math.abs(g) : 0), 0);
      return [sum(true), sum(false)];
    };
    const [clean, moved] = across(0.5);
    expect(across(0)).toEqual([0, expect.closeTo(2 * moved!, 10)]);
    expect(across(1)).toEqual([expect.closeTo(2 * clean!, 10), 0]);
  });
  it.each(named)('$name: permuting images permutes gradients', ({ options }) => {
    const views = options.views!;
    const size = [views * 20, 16];
    const x = normal(size);
    const order = Array.from({ length: 20 }, (_, i) => (i * 7 + 3) % 20);
    const permute = (from: Float64Array) => from.map((_, k) => from[(Math.floor(k / 320) * 20 + order[Math.floor(k / 16) % 20]!) * 16 + (k % 16)]!);
    const [a, b] = [evaluate(x, size, options), evaluate(permute(x), size, options)];
    expect(relative(b.loss, a.loss)).toBeLessThan(1e-13);
    expect(distance(b.gradient, permute(a.gradient))).toBeLessThan(1e-12);
  });
  it('weight counts the clean-adversarial terms, with inferior positives or without', () => {
    const x = normal(shape), at = (options: AInfoNCEOptions) => evaluate(x, shape, { ...adversarial, ...options });
    expect(at({ weight: 1.7, inferiorPositive: { alpha: 0.5 } })).toEqual(at({ inferiorPositive: { alpha: 0.5, weight: 1.7 } }));
    expect(distance(at({ weight: 1.7 }).gradient, at({ weight: 1.7, inferiorPositive: { alpha: 0.5 } }).gradient)).toBeLessThan(1e-14);
    // The released code's (w + w^2): 2 at weight 1, 6 at weight 2.
    const released = (weight: number) => evaluate(x, shape, { form: 'advcl', views: 3, normalize: true, weight }).loss;
    const across = released(1) - released(0);
    expect(across).toBeGreaterThan(0);
    expect(relative(released(2) - released(0), 3 * across)).toBeLessThan(1e-13);
    const refused = (options: AInfoNCEOptions) => expect(() => scope(() => aInfoNCE(randn(shape), options))).toThrow(/^options\.weight: /);
    for (const options of [{ views: 3, weight: 2 }, { form: 'rocl', views: 3, weight: 2 }, { ...adversarial, weight: -1 }, { ...adversarial, weight: 2, inferiorPositive: { weight: 3 } }] as const) refused(options);
  });
  it('beta 0 and tauPlus 0 with two views give plain InfoNCE back', () => {
    const x = normal(shape);
    const [a, b] = [evaluate(x, shape, { views: 2, hardNegative: { beta: 0, tauPlus: 0 } }), evaluate(x, shape, { views: 2 })];
    expect([relative(a.loss, b.loss), distance(a.gradient, b.gradient)].every((error) => error < 1e-13)).toBe(true);
  });
  it('larger beta moves gradient to closer negatives', () => {
    // One anchor, its positive, a close and a far negative (with partners elsewhere): the share of the push that comes from the close one grows.
    const axis = (i: number, other = 0) => Array.from({ length: 8 }, (_, k) => (k === 0 ? other : k === i ? Math.sqrt(1 - other * other) : 0));
    const x = Float64Array.from([axis(0, 1), axis(1, 0.8), axis(2, 0.1), axis(0, 1), axis(3, 0), axis(4, 0)].flat());
    const share = (beta: number) => {
      const { gradient } = evaluate(x, [6, 8], { views: 2, normalize: false, hardNegative: { beta, tauPlus: 0 } });
      return gradient[1]! / gradient[2]!; // of row 0 along the close and the far negative
    };
    expect(share(0.5)).toBeGreaterThan(share(0) * 1.3);
    expect(share(1)).toBeGreaterThan(share(0.5) * 1.3);
  });
  it.each(named)('$name: a step along the gradient raises the loss', ({ options }) => {
    const size = [options.views! * 20, 16];
    const x = normal(size);
    const { loss, gradient } = evaluate(x, size, options);
    expect(evaluate(x.map((v, k) => v + 0.01 * Math.sign(gradient[k]!)), size, options).loss).toBeGreaterThan(loss);
  });
});

describe('one result', () => {
  it.each(named)('$name: instruction sets agree, thread counts give the same bits', ({ options }) => {
    const size = [options.views! * 83, 37];
    const x = normal(size);
    for (const dtype of ['float64', 'float32'] as const) {
      const best = evaluate(x, size, options, dtype);
      for (const set of sets) {
        setInstructionSet(set);
        const one = evaluate(x, size, options, dtype);
        setThreads(2);
        const two = evaluate(x, size, options, dtype);
        setThreads(1);
        expect([two.loss, Buffer.from(two.gradient.buffer).equals(Buffer.from(one.gradient.buffer))]).toEqual([one.loss, true]);
        expect(relative(one.loss, best.loss)).toBeLessThan(dtype === 'float64' ? 1e-13 : 2e-6);
        expect(distance(one.gradient, best.gradient)).toBeLessThan(dtype === 'float64' ? 1e-12 : 1e-5);
      }
      setInstructionSet(initial.instructionSet);
    }
  });
  it('has the same bits at 1, 2, 3 and 7 threads with 5 and 6 blocks of rows', () => {
    const same = (results: Result[], message: string) => {
      const bits = results.map(({ loss, gradient }) => [loss, createHash('sha256').update(new Uint8Array(gradient.buffer)).digest('hex')]);
      for (const result of bits) expect(result, message).toEqual(bits[0]);
    };
    const dim = 24;
    for (const blocks of [5, 6]) {
      const rows = 192 * blocks - 96;
      const x = normal([rows, dim]);
      for (const options of [forms['paper, IP+HN']!, forms['advcl, IP+HN']!, forms['rocl']!, { ...adversarial, temperature: 0.004 }]) {
        const results = [1, 2, 3, 7].map((count) => (setThreads(count), evaluate(x, [rows, dim], options, 'float32')));
        same(results, JSON.stringify(options));
      }
    }
    // The view that moves has 3 blocks, the others 5.
    const [batch, all] = [400, normal([3 * 400, dim])];
    for (const options of [forms['paper, IP+HN']!, forms['advcl, IP']!, forms['rocl']!])
      scope(() => {
        using fixed = new FixedViews(tensor(all.slice(batch * dim), { shape: [2 * batch, dim], dtype: 'float32' }), options);
        const results = [1, 2, 3, 7].map((count) => (setThreads(count), evaluate(all.slice(0, batch * dim), [batch, dim], (moved) => fixed.loss(moved), 'float32')));
        same(results, JSON.stringify(options));
      });
    setThreads(1);
  });
  it('takes many views as the dense formula does, in a time that grows with their square', () => {
    const shape = [40 * 3, 6];
    const x = normal(shape);
    for (const temperature of [0.5, 0.004]) {
      const options = { views: 40, adversarialView: 1, temperature, inferiorPositive: { alpha: 0.3, weight: 0.7, positiveWeight: 1.3 }, hardNegative: { beta: 1, tauPlus: 0.01 } };
      for (const at of [options, { ...options, hardNegative: undefined }] as AInfoNCEOptions[]) {
        const [dense, fused] = [evaluate(x, shape, (features) => densePaper(features, at)), evaluate(x, shape, at)];
        expect(relative(fused.loss, dense.loss)).toBeLessThan(1e-12);
        expect(distance(fused.gradient, dense.gradient)).toBeLessThan(1e-11);
      }
    }
    const seconds = (views: number) => Math.min(...[0, 1, 2].map(() => {
      const features = normal([views * 2, 4]), from = process.cpuUsage();
      evaluate(features, [views * 2, 4], { views, normalize: true });
      const { user, system } = process.cpuUsage(from);
      return (user + system) / 1e6;
    }));
    expect(seconds(512) / seconds(128)).toBeLessThan(40); // 16 and a little; a cube has 64
  });
  it('holds at every temperature: no overflow, no underflow', () => {
    const size = [2 * 40, 24];
    const x = normal(size);
    for (const temperature of [1e-3, 0.004, 0.011, 0.02, 0.023, 0.04, 0.06, 3, 100])
      for (const options of [{}, { hardNegative: { beta: 1, tauPlus: 0 } }, { form: 'advcl', normalize: true }, { form: 'rocl' }] as AInfoNCEOptions[]) {
        const [wide, narrow] = [evaluate(x, size, { ...options, temperature }), evaluate(x, size, { ...options, temperature }, 'float32')];
        expect(relative(narrow.loss, wide.loss), `${temperature} ${JSON.stringify(options)}`).toBeLessThan(1e-4);
        expect(distance(narrow.gradient, wide.gradient), `${temperature} ${JSON.stringify(options)}`).toBeLessThan(temperature < 0.01 ? 5e-3 : 1e-3);
      }
  });
  it.each(sets)('float32 follows float64 from 0.01 to 10, in 2 to 4096 dimensions: %s', (set) => {
    setInstructionSet(set);
    for (const [batch, dim] of [[1, 2], [2, 3], [90, 2], [40, 129], [5, 4096]] as const)
      for (const temperature of [0.01, 0.018, 0.03, 0.1, 1, 10])
        for (const options of [{}, { form: 'advcl', normalize: true }, { form: 'rocl' }] as AInfoNCEOptions[]) {
          const [x, size, at] = [normal([2 * batch, dim]), [2 * batch, dim], { ...options, temperature }];
          const [wide, narrow] = [evaluate(x, size, at), evaluate(x, size, at, 'float32')];
          expect(Math.abs(narrow.loss - wide.loss), `${batch} ${dim} ${JSON.stringify(at)}`).toBeLessThan(1e-5 * Math.max(1, wide.loss));
          if (batch > 1) expect(distance(narrow.gradient, wide.gradient), `${batch} ${dim} ${JSON.stringify(at)}`).toBeLessThan(temperature < 0.1 ? 1e-4 : 1e-5); // one image has no negatives
        }
  });
  it('hard negatives keep theirs where the square of an exponential leaves the range, and the exponential does not', () => {
    // Images orthogonal to one another: every negative has s = 0.
    const [batch, dim] = [8, 16];
    const x = new Float64Array(2 * batch * dim);
    for (let b = 0; b < batch; ++b) x[b * dim + b] = x[(batch + b) * dim + 8 + b] = 1;
    const expected = Math.log(2 * batch - 1); // of s = 0 throughout
    const hardNegative = { beta: 1, tauPlus: 0 };
    const check = (temperature: number, dtype: DType) => {
      const at = { views: 2, temperature, hardNegative };
      const message = `${temperature} ${dtype}`;
      const plain = evaluate(x, [2 * batch, dim], at, dtype);
      expect(relative(plain.loss, expected), message).toBeLessThan(1e-6);
      expect(Math.hypot(...plain.gradient) * temperature, message).toBeGreaterThan(0.1);
      expect(relative(evaluate(x, [2 * batch, dim], { ...at, labels: [0, 1, 2, 3, 4, 5, 6, 7] }, dtype).loss, expected), message).toBeLessThan(1e-6);
      scope(() => {
        using fixed = new FixedViews(tensor(x.slice(batch * dim), { shape: [batch, dim], dtype }), at);
        expect(relative(fixed.loss(tensor(x.slice(0, batch * dim), { shape: [batch, dim], dtype })).item(), expected), message).toBeLessThan(1e-6);
      });
    };
    for (const set of sets) {
      setInstructionSet(set);
      for (let temperature = 0.01; temperature < 0.016; temperature += 0.0004) check(temperature, 'float32');
      for (const temperature of [0.0014, 0.0016, 0.0018, 0.002]) check(temperature, 'float64');
    }
    setInstructionSet(initial.instructionSet);
    const random = normal([128, 512]);
    for (const temperature of [0.0115, 0.012, 0.011, 0.01]) {
      const at = { views: 2, temperature, hardNegative };
      const [wide, narrow] = [evaluate(random, [128, 512], at), evaluate(random, [128, 512], at, 'float32')];
      expect(relative(narrow.loss, wide.loss), `${temperature}`).toBeLessThan(1e-5);
      expect(distance(narrow.gradient, wide.gradient), `${temperature}`).toBeLessThan(1e-3);
    }
  });
  it('released hard negatives in float32 and bf16 follow float64 wherever float32 has no range for them', () => {
    const shape = [3 * 64, 128];
    const x = normal(shape);
    for (const form of ['rocl', 'advcl'] as const)
      for (const [temperature, beta] of [[0.5, 1], [0.04, 1], [0.03, 1], [0.015, 1], [0.01, 1], [0.005, 1], [0.1, 9], [0.5, 40], [0.01, 0]] as const) {
        const at: AInfoNCEOptions = { form, views: 3, normalize: true, temperature, hardNegative: { beta, tauPlus: 0.1 } };
        const wide = evaluate(x, shape, at), message = JSON.stringify(at);
        for (const precision of ['full', 'bf16'] as const) {
          const narrow = evaluate(x, shape, { ...at, precision }, 'float32');
          const exact = precision === 'full' || (temperature < 0.03 && form === 'rocl');
          expect(relative(narrow.loss, wide.loss), message).toBeLessThan(exact ? 1e-6 : 3e-2);
          expect(distance(narrow.gradient, wide.gradient), message).toBeLessThan(exact ? 2e-5 : 3e-2);
        }
      }
  });
  it('leaves no tensors behind', async () => {
    using features = randn([60, 8], { requiresGrad: true });
    const { tensors: before } = await live();
    scope(() => aInfoNCE(features, { views: 3, labels: Array.from({ length: 20 }, (_, i) => i % 4) }).backward());
    expect(memory().tensors).toBe(before);
  });
  it('keeps dtype and works without grad, on views of memory that are not contiguous', () => {
    scope(() => {
      const wide = randn([8, 40], { dtype: 'float64' });
      const options = { views: 2, temperature: 0.2 };
      const loss = noGrad(() => aInfoNCE(ops.aten.t(wide), options));
      expect([loss.dtype, loss.shape, loss.requiresGrad]).toEqual(['float64', [], false]);
      expect(loss.item()).toBe(aInfoNCE(ops.aten.contiguous(ops.aten.t(wide)), options).item());
    });
  });
});

describe('fixed views', () => {
  const batch = 70;
  const split = (x: Float64Array, views: number, moving: number, dim: number) => {
    const from = moving * batch * dim;
    return [x.slice(from, from + batch * dim), Float64Array.from([...x.slice(0, from), ...x.slice(from + batch * dim)])] as const;
  };
  it.each([
    ...named.filter(({ name }) => !/(advcl|rocl).*HN/.test(name)), { name: 'none adversarial', options: { views: 4 } }, { name: 'cold', options: { ...adversarial, temperature: 0.004 } },
  ])('give the loss and the gradient of the view that moves: $name', ({ options }) => {
    const views = options.views!;
    const moving = options.form === 'advcl' ? 0 : options.form === 'rocl' ? (views === 3 ? 2 : 0) : (options.adversarialView ?? 0);
    const x = normal([views * batch, 37]);
    const [moved, fixed] = split(x, views, moving, 37);
    for (const set of sets)
      for (const [dtype, limit] of [['float64', 1e-13], ['float32', 1e-5]] as const) {
        setInstructionSet(set);
        const whole = evaluate(x, [views * batch, 37], options, dtype);
        scope(() => {
          using step = new FixedViews(tensor(fixed, { shape: [(views - 1) * batch, 37], dtype }), options);
          for (const count of [1, 2]) {  // a second step is like the first
            setThreads(count);
            const part = evaluate(moved, [batch, 37], (rows) => step.loss(rows), dtype);
            expect(relative(part.loss, whole.loss)).toBeLessThan(limit / 10);
            expect(distance(part.gradient, split(whole.gradient, views, moving, 37)[0])).toBeLessThan(limit);
          }
        });
      }
  });
  it('are those that were given, whatever becomes of their memory', () => {
    scope(() => {
      const [clean, rows] = [randn([8, 4]), randn([4, 4])];
      using fixed = new FixedViews(clean, { views: 3 });
      const before = fixed.loss(rows).item();
      ops.aten.fill_(clean, 1);
      expect(fixed.loss(rows).item()).toBe(before);
    });
  });
  it('refuse what they cannot do', () => {
    const attempt = (clean: number[], options: object, moved: number[] = [4, 3]) => () => scope(() => new FixedViews(randn(clean), options as AInfoNCEOptions).loss(randn(moved)));
    expect(attempt([8, 3], { views: 4 })).toThrow(/^clean: .*options\.views - 1/);
    expect(attempt([8, 3], { views: 3 }, [5, 3])).toThrow(/^adversaries: /);
    expect(attempt([8, 3], { views: 3 }, [4, 2])).toThrow(/^adversaries: /);
    expect(attempt([8, 3], { views: 3, form: 'rocl', hardNegative: {} })).toThrow(/^options\.hardNegative: /);
    expect(attempt([8, 3], { views: 3, labels: [1, 1, 2, 2] })).toThrow(/^options\.labels: /);
    expect(() => scope(() => new FixedViews(tensor([1, NaN], { shape: [2, 1] })))).toThrow(/^clean: .*row 1/);
    expect(() => scope(() => new FixedViews(randn([2, 2])).loss(tensor([1, 2, NaN, 3], { shape: [2, 2] })))).toThrow(/^adversaries: .*row 1/);
  });
});

describe('products in bf16', () => {
  const narrow = { precision: 'bf16' } as const;
  describe.for(sets.filter((set) => /bf16/.test(set)))('with %s', (set) => {
    beforeEach(() => setInstructionSet(set));
    it.each(goldenCases())('stay close to $name', ({ options, shape, features, loss, gradient }) => {
      const result = evaluate(features, shape, { ...options, ...narrow }, 'float32');
      expect(relative(result.loss, loss)).toBeLessThan(1e-4);
      expect(distance(result.gradient, gradient)).toBeLessThan(1e-3);
    });
    it.each(named)('$name: any size, the same bits at any thread count, and not those of full precision', ({ options }) => {
      for (const [batch, dim, temperature] of [[83, 37, 1], [3, 1, 0.5], [130, 128, 0.5]] as const) {
        const [shape, at] = [[options.views! * batch, dim], { ...options, temperature }];
        const x = normal(shape);
        const full = evaluate(x, shape, at, 'float32');
        const one = evaluate(x, shape, { ...at, ...narrow }, 'float32');
        setThreads(2);
        expect(evaluate(x, shape, { ...at, ...narrow }, 'float32')).toEqual(one);
        setThreads(1);
        if (dim === 1) continue; // in one dimension a unit row cannot move
        expect(distance(one.gradient, full.gradient)).toBeLessThan(6e-4);
        expect(distance(one.gradient, full.gradient)).toBeGreaterThan(1e-6);
      }
    });
    it('keep a gradient to 1e-3 at any temperature, around a mean row too, when positives are tight', () => {
      const [batch, dim] = [130, 128];
      const image = unitRows([batch, dim]);
      const mean = unitRows([1, dim]);
      for (const { name, options } of named.filter(({ name }) => !/advcl.*HN/.test(name))) // their floor is a kink of the loss, and random rows sit on it
        for (const temperature of [0.5, 0.1, 0.07, 0.05, 0.02])
          for (const shift of [0, 3]) {
            const shape = [options.views! * batch, dim];
            const x = Float64Array.from(normal(shape), (e, k) => image[k % image.length]! + 0.01 * e + shift * mean[k % dim]!); // similarity of positives: above .99
            const [wide, rounded] = [evaluate(x, shape, { ...options, temperature }), evaluate(x, shape, { ...options, temperature, ...narrow }, 'float32')];
            expect(distance(rounded.gradient, wide.gradient), `${name}, ${temperature}, ${shift}`).toBeLessThan(1e-3);
          }
    });
    it.each(goldenCases())('split in two, as exact as float32 on $name', ({ options, shape, features, loss, gradient }) => {
      const result = evaluate(features, shape, { ...options, precision: 'bf16x3' }, 'float32');
      expect(relative(result.loss, loss)).toBeLessThan(1e-5);
      expect(distance(result.gradient, gradient)).toBeLessThan(1e-5);
    });
    it.each(named)('split in two, $name: any size, tight positives too, and the same bits at any thread count', ({ name, options }) => {
      for (const [batch, dim, temperature] of [[83, 37, 0.5], [130, 128, 0.5], [70, 130, 0.1], [70, 128, 0.01]] as const) {
        const [shape, at] = [[options.views! * batch, dim], { ...options, temperature }];
        const image = unitRows([batch, dim]);
        const x = Float64Array.from(new Float32Array(normal(shape).map((e, k) => image[k % image.length]! + 0.01 * e)));
        const wide = evaluate(x, shape, at);
        const one = evaluate(x, shape, { ...at, precision: 'bf16x3' }, 'float32');
        setThreads(2);
        expect(evaluate(x, shape, { ...at, precision: 'bf16x3' }, 'float32')).toEqual(one);
        setThreads(1);
        expect(distance(one.gradient, wide.gradient), `${batch}, ${dim}, ${temperature}`).toBeLessThan(temperature < 0.02 ? 1e-3 : 1e-5);
        if (temperature === 0.5 && dim === 128 && !/advcl.*HN/.test(name)) expect(one).not.toEqual(evaluate(x, shape, at, 'float32'));
      }
    });
    it('keep what they promise in few dimensions and with the default hard negatives', () => {
      const settings: AInfoNCEOptions[] = [
        { views: 3 }, { form: 'rocl', views: 3 }, { views: 3, hardNegative: {} }, { views: 3, hardNegative: { beta: 2, tauPlus: 0.01 } },
        { form: 'rocl', views: 3, hardNegative: { beta: 1, tauPlus: 0.1 } }, { form: 'advcl', views: 3, normalize: true, inferiorPositive: { alpha: 0.2 }, hardNegative: { beta: 1, tauPlus: 0.1 } },
      ];
      for (const dim of [16, 33, 128])
        for (const noise of [1, 0.1]) {
          const shape = [300, dim], image = normal([100, dim]);
          const x = Float64Array.from(new Float32Array(normal(shape).map((e, k) => image[k % image.length]! + noise * e)));
          for (const options of settings)
            for (const temperature of [0.05, 0.07, 0.1, 0.2, 0.5]) {
              const at = { ...options, temperature }, wide = evaluate(x, shape, at);
              const error = (precision: 'full' | 'bf16' | 'bf16x3') => distance(evaluate(x, shape, { ...at, precision }, 'float32').gradient, wide.gradient);
              const full = error('full'), message = JSON.stringify([at, dim, noise, full]);
              expect(error('bf16x3'), message).toBeLessThan(Math.max(1e-5, 1.01 * full)); // near the floor of the debiased sum float32 has no 1e-5 either
              if (!(options.form === 'advcl' && temperature === 0.5)) expect(error('bf16'), message).toBeLessThan(1.5e-3); // on the kink
            }
        }
    });
    it('follow positives around a far mean', () => {
      const shape = [900, 128], image = normal([300, 128]), mean = normal([1, 128]);
      const x = Float64Array.from(new Float32Array(normal(shape).map((e, k) => image[k % image.length]! + 0.05 * e + 10 * mean[k % 128]!)));
      const options: AInfoNCEOptions = { form: 'rocl', views: 3, temperature: 0.5 };
      expect(distance(evaluate(x, shape, { ...options, ...narrow }, 'float32').gradient, evaluate(x, shape, options).gradient)).toBeLessThan(1e-4);
    });
    it('move the adversaries alone as they move them beside the others', () => {
      const batch = 100;
      const x = normal([3 * batch, 128]);
      for (const { options } of named.filter(({ options }) => options.form === undefined)) {
        const whole = evaluate(x, [3 * batch, 128], { ...options, ...narrow }, 'float32').gradient.slice(2 * batch * 128);
        scope(() => {
          using fixed = new FixedViews(tensor(x.slice(0, 2 * batch * 128), { shape: [2 * batch, 128], dtype: 'float32' }), { ...options, ...narrow });
          expect(distance(evaluate(x.slice(2 * batch * 128), [batch, 128], (rows) => fixed.loss(rows), 'float32').gradient, whole)).toBeLessThan(3e-4);
        });
      }
    });
    it('give way to full ones where rounded similarities would be too coarse: cold, steep, in few dimensions, for long rows', () => {
      const same = (shape: number[], options: AInfoNCEOptions, size = 1) => {
        const x = unitRows(shape).map((value) => value * size);
        expect(evaluate(x, shape, { ...options, ...narrow }, 'float32')).toEqual(evaluate(x, shape, options, 'float32'));
      };
      for (const temperature of [0.2, 0.01, 0.001]) same([60, 128], { temperature });
      same([60, 128], { hardNegative: { beta: 2 } });
      same([60, 16], {});
      same([60, 128], { normalize: false }, 2);
    });
  });
  it('are full ones elsewhere and in float64', () => {
    const x = normal([60, 16]);
    for (const precision of ['bf16', 'bf16x3'] as const) {
      setInstructionSet(sets.filter((set) => !/bf16/.test(set)).at(-1)!);
      expect(evaluate(x, [60, 16], { precision, temperature: 2 }, 'float32')).toEqual(evaluate(x, [60, 16], { temperature: 2 }, 'float32'));
      setInstructionSet(initial.instructionSet);
      expect(evaluate(x, [60, 16], { precision, temperature: 2 })).toEqual(evaluate(x, [60, 16], { temperature: 2 }));
    }
  });
});

describe('bad input', () => {
  const rejects = (make: () => unknown, error: new (...args: never[]) => Error, argument: RegExp) => {
    let thrown: unknown;
    try {
      scope(make);
    } catch (caught) {
      thrown = caught;
    }
    expect(thrown).toBeInstanceOf(error);
    expect((thrown as Error).message).toMatch(argument);
  };
  const loss = (options: object, shape = [12, 4]) => () => aInfoNCE(randn(shape), options as AInfoNCEOptions);
  it.each([
    [{ views: 1 }, /^options\.views:.*got 1/], [{ views: 5 }, /^features:.*options\.views/], [{ temperature: 0 }, /^options\.temperature/],
    [{ temperature: NaN }, /^options\.temperature/], [{ adversarialView: 2 }, /^options\.adversarialView/], [{ form: 'paper2' }, /^options\.form/],
    [{ inferiorPositive: {} }, /^options\.adversarialView/], [{ adversarialView: 1, inferiorPositive: { alpha: 1.1 } }, /^options\.inferiorPositive\.alpha/],
    [{ adversarialView: 1, inferiorPositive: { weight: -1 } }, /weight/], [{ adversarialView: 1, inferiorPositive: { positiveWeight: 0 } }, /positiveWeight/],
    [{ adversarialView: 1, inferiorPositive: { gamma: 1 } }, /^options\.inferiorPositive\.gamma/], [{ hardNegative: { beta: -1 } }, /beta/], [{ hardNegative: { tauPlus: 1 } }, /tauPlus/],
    [{ tau: 1 }, /^options\.tau:.*known/], [{ views: 12, hardNegative: {} }, /^options\.hardNegative:.*batch/], [{ form: 'advcl' }, /^features:.*normalize: true/],
    [{ form: 'advcl', normalize: true, adversarialView: 1 }, /^options\.adversarialView/], [{ form: 'advcl', normalize: true, inferiorPositive: { positiveWeight: 2 } }, /positiveWeight/],
    [{ form: 'rocl', views: 4 }, /^options\.views/], [{ form: 'rocl', normalize: false }, /^options\.normalize/], [{ form: 'rocl', views: 3, adversarialView: 0 }, /adversarialView/],
    [{ form: 'rocl', views: 2, inferiorPositive: {} }, /^options\.inferiorPositive/], [{ form: 'rocl', views: 2, hardNegative: {} }, /^options\.hardNegative/],
    [{ form: 'rocl', views: 2, adversarialView: 1 }, /^options\.adversarialView/], [{ form: 'rocl', labels: [1, 2, 3, 4, 5, 6] }, /^options\.labels/],
    [{ labels: [1, 2] }, /^options\.labels: expected shape \[6\], a label an image, got \[2\]$/], [{ views: 1, labels: Array.from({ length: 12 }, (_, i) => i) }, /^options\.labels:.*no row with a positive/],
    [{ views: 1, labels: Array(12).fill(3), hardNegative: {} }, /^options\.hardNegative/], [{ labels: [1.5, 1, 1, 1, 1, 1] }, /^options\.labels\[0\]/],
    [{ precision: 'half' }, /^options\.precision/], [{ precision: 'bf16', labels: [1, 1, 2, 2, 3, 3] }, /^options\.precision/],
    [{ precision: 'bf16x3', labels: [1, 1, 2, 2, 3, 3] }, /^options\.precision.*bf16x3/],
  ] as [object, RegExp][])('%j', (options, argument) => rejects(loss(options), ArgumentRangeError, argument));
  it('released hard negatives that leave the range of float64, and sums of other options', () => {
    rejects(loss({ form: 'rocl', views: 3, temperature: 0.0013, hardNegative: {} }), ArgumentRangeError, /^options\.temperature: .*beta 1/);
    rejects(loss({ form: 'advcl', views: 3, normalize: true, hardNegative: { beta: 300 } }), ArgumentRangeError, /^options\.temperature: .*beta 300/);
    const { clean_sums, adversarial_loss } = ops.a_infonce;
    const [rows, clean] = [randn([4, 3]), randn([8, 3])];
    for (const of of [clean_sums(clean, 3, { temperature: 0.1 }), clean_sums(clean, 3, { normalize: false }), clean_sums(randn([8, 3]), 3)])
      rejects(() => adversarial_loss(rows, clean, of, 3), ArgumentRangeError, /^sums: .*same options.*other rows or options/);
    rejects(() => adversarial_loss(rows, clean, clean_sums(clean, 3, { beta: 1 }), 3, { beta: 2 }), ArgumentRangeError, /^sums: /);
    rejects(() => adversarial_loss(randn([4, 3]), randn([8, 3]), clean_sums(randn([8, 3]), 3), 3, { beta: 1 }), ArgumentRangeError, /^sums: .*\[2, 8\].*\[1, 8\]/);
    rejects(() => adversarial_loss(randn([4, 3]), randn([8, 3]), ops.aten.zeros([0, 8], { dtype: 'float64' }), 3), ArgumentRangeError, /^sums: .*\[1, 8\].*\[0, 8\]/);
  });
  it('of another type or shape', () => {
    rejects(() => aInfoNCE([1, 2] as never), ArgumentTypeError, /^features/);
    rejects(loss({ views: '2' }), ArgumentTypeError, /^options\.views/);
    rejects(loss({ normalize: 1 }), ArgumentTypeError, /^options\.normalize/);
    rejects(loss({ labels: 'abcdef' }), ArgumentTypeError, /^options\.labels/);
    rejects(loss({ labels: tensor([1, 2, 3, 4, 5, 6]) }), ArgumentTypeError, /^options\.labels/);
    rejects(loss({ labels: tensor([[0, 1, 2, 0, 1, 2]], { dtype: 'int64' }) }), ArgumentRangeError, /^options\.labels: expected shape \[6\], a label an image, got \[1, 6\]$/);
    rejects(() => aInfoNCE(randn([4, 4], { dtype: 'float16' })), ArgumentTypeError, /^features:.*float16/);
    rejects(loss({}, [4]), ArgumentRangeError, /^features/);
    rejects(loss({}, [0, 4]), ArgumentRangeError, /^features/);
    rejects(loss({}, [4, 0]), ArgumentRangeError, /^features/);
  });
  it.each(named)('NaN and infinity, named by row: $name', ({ options }) => {
    for (const bad of [NaN, Infinity, -Infinity]) {
      const values = normal([options.views! * 4, 5]);
      values[2 * 5 + 3] = bad;
      rejects(() => aInfoNCE(tensor(values, { shape: [options.views! * 4, 5] }), options), NonFiniteError, /features: .*row 2/);
    }
  });
  it('a loss that leaves the range of numbers', () => {
    rejects(() => aInfoNCE(tensor(Float64Array.from(Array(8).fill(1e200)), { shape: [4, 2] }), { normalize: false }), NonFiniteError, /overflow/);
  });
  it.each([...named, { name: 'labels', options: { views: 2, labels: [1, 1, 2, 2] } }])('temperatures at which similarities have no precision left: $name', ({ options }) => {
    for (const [dtype, coldest] of [['float32', 1e-9], ['float64', 1e-17]] as const)
      for (const temperature of [coldest, 1e-30, 1e-300])
        rejects(() => aInfoNCE(randn([options.views! * 4, 5], { dtype }), { ...options, temperature }), ArgumentRangeError, /^options\.temperature: /);
    rejects(() => aInfoNCE(tensor(Array(8).fill(3e20), { shape: [4, 2] }), { normalize: false }), ArgumentRangeError, /^options\.temperature: expected at least .*float32/);
    rejects(() => new FixedViews(randn([4, 5]), { temperature: 1e-9 }), ArgumentRangeError, /^options\.temperature: /);
    rejects(() => ops.a_infonce.queue_loss(randn([4, 5]), randn([4, 5]), randn([4, 5]), { temperature: 1e-9 }), ArgumentRangeError, /^options\.temperature: /);
    const cold = evaluate(normal([8, 5]), [8, 5], { temperature: 1e-6 }, 'float32');
    expect([cold.loss, ...cold.gradient].every(Number.isFinite)).toBe(true);
  });
  it('a concentration at which the gradient has no precision left', () => {
    const x = normal([64, 16]), options = (beta: number) => ({ views: 2, temperature: 0.5, hardNegative: { beta, tauPlus: 0 } });
    rejects(() => aInfoNCE(randn([64, 16]), options(3000)), ArgumentRangeError, /^options\.hardNegative\.beta: expected at most 2\.04e\+03 at this temperature .*float32\), got 3000$/);
    rejects(() => aInfoNCE(randn([64, 16]), { ...options(3000), labels: Array.from({ length: 32 }, (_, i) => i % 3) }), ArgumentRangeError, /^options\.hardNegative\.beta: /);
    rejects(() => ops.a_infonce.queue_loss(randn([4, 5]), randn([4, 5]), randn([4, 5]), { beta: 3000 }), ArgumentRangeError, /^options\.hardNegative\.beta: /);
    expect(evaluate(x, [64, 16], options(2040), 'float32').loss).toBeGreaterThan(0);
    for (const beta of [100, 1000]) expect(distance(evaluate(x, [64, 16], options(beta), 'float32').gradient, evaluate(x, [64, 16], options(beta), 'float64').gradient)).toBeLessThan(beta * beta * 1e-7);
  });
  it('a share of positives without hard negatives, which nothing would take', () => {
    rejects(() => ops.a_infonce.queue_loss(randn([4, 5]), randn([4, 5]), randn([4, 5]), { tau_plus: 0.1 }), ArgumentRangeError, /^tau_plus: expected 0 where there is no beta, got 0\.1$/);
    rejects(() => ops.a_infonce.loss(randn([4, 5]), 2, { tau_plus: -5 }), ArgumentRangeError, /^tau_plus: /);
  });
  it('codes of a public operator that are none, and a scale without precision', () => {
    const codes = (...values: number[]) => tensor(Int32Array.from(values));
    rejects(() => ops.a_infonce.log_moments(randn([3, 2]), codes(0, -2, 2), 1, [1], 3), ArgumentRangeError, /^codes: .*got -2/);
    rejects(() => ops.a_infonce.log_moments(randn([3, 2]), codes(0, 2, 4), 1e12, [1], 3), ArgumentRangeError, /^scale: /);
  });
  it('a second derivative', () => {
    for (const options of [{}, { form: 'rocl' }, { labels: [1, 1, 2, 2] }] as AInfoNCEOptions[])
      rejects(() => {
        const x = randn([8, 4], { requiresGrad: true });
        ops.aten._backward(aInfoNCE(x, { ...options, views: 2 }), [x], null, { create_graph: true, retain_graph: true });
      }, OperatorError, /differentiable once/);
  });
});

describe('memory', () => {
  it('does not grow with the number of losses', async () => {
    using features = randn([48, 16], { requiresGrad: true });
    const losses = (count: number) => {
      for (let i = 0; i < count; ++i) scope(() => { aInfoNCE(features, forms['paper, IP+HN']!).backward(); });
      features.grad = null;
    };
    losses(500);
    const before = await live(), { rss } = process.memoryUsage();
    losses(2000);
    expect(memory()).toEqual(before);
    expect(process.memoryUsage().rss - rss).toBeLessThan(20e6);
  });
  it('goes with the backward pass, not with the loss; a graph that is retained keeps it', () => {
    scope(() => {
      const features = randn([1024, 1024], { requiresGrad: true }), codes = tensor(Int32Array.from({ length: 1024 }, (_, i) => 2 * i));
      const losses = [() => aInfoNCE(features), () => ops.aten.sum(ops.a_infonce.log_moments(features, codes, 1e-3, [1], 3)[0])];
      const all: ReturnType<typeof aInfoNCE>[] = [];
      const run = (count: number) => {
        for (let i = 0; i < count; ++i) for (const make of losses) all[all.push(make()) - 1]!.backward(), (features.grad = null);
      };
      run(2);
      const { rss } = process.memoryUsage();
      run(8);
      expect(process.memoryUsage().rss - rss).toBeLessThan(100e6); // bytes; the packed rows of 16 losses are 134 MB
    });
    scope(() => {
      const features = randn([8, 4], { requiresGrad: true });
      for (const make of [() => aInfoNCE(features), () => ops.aten.sum(ops.a_infonce.log_moments(features, tensor(Int32Array.from({ length: 8 }, (_, i) => 2 * i)), 1, [1], 3)[0])]) {
        const loss = make();
        loss.backward(undefined, { retainGraph: true });
        const once = features.grad!.toArray();
        features.grad = null;
        loss.backward();
        expect(features.grad!.toArray()).toEqual(once);
        features.grad = null;
        expect(() => loss.backward()).toThrow(/second time/);
      }
    });
  });
  it('is O(n d): 20,000 rows take a small part of one n x n matrix', async () => {
    const { readFileSync, writeFileSync } = await import('node:fs');
    const peak = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) / 1024;
    writeFileSync('/proc/self/clear_refs', '5'); // forgets the peak so far
    const before = peak();
    setThreads(initial.threads);
    scope(() => aInfoNCE(randn([20_000, 32], { requiresGrad: true })).backward());
    expect(peak() - before).toBeLessThan(100); // MB; a float32 n x n matrix has 1600
  });
});
