import { aInfoNCE, FixedViews, getThreads, manualSeed, memory, NonFiniteError, ops, randn, scope, setThreads, tensor, type Tensor } from 'a-infonce';
import { afterAll, beforeEach, expect, it } from 'vitest';
import { distance, evaluate, normal, relative } from './fixtures.js';
import { densePaper } from './reference.js';

const { aten } = ops, { queue_loss } = ops.a_infonce;
const threads = getThreads();
beforeEach(() => (manualSeed(1), setThreads(1)));
afterAll(() => setThreads(threads));

type Keywords = Parameters<typeof queue_loss>[3] & object;
type Inputs = readonly [Tensor, Tensor, Tensor];

/** The formula composed of operators. */
function dense([queries, keys, queue]: Inputs, { temperature = 0.5, beta, tau_plus: tau = 0 }: Keywords): Tensor {
  const unit = (x: Tensor) => aten.div(x, aten.norm(x, 2, [1], true));
  const [q, k, u] = [unit(queries), unit(keys), unit(queue)], count = queue.shape[0]!;
  const positive = aten.div(aten.sum(aten.mul(q, k), [1]), temperature), s = aten.div(aten.mm(q, aten.t(u)), temperature);
  let negatives = aten.logsumexp(s, [1]);
  if (beta !== undefined && beta !== null) {
    const weighed = aten.add(aten.sub(aten.logsumexp(aten.mul(s, 1 + beta), [1]), aten.logsumexp(aten.mul(s, beta), [1])), Math.log(count));
    const left = aten.div(aten.sub(aten.exp(weighed), aten.mul(aten.exp(positive), tau * count)), 1 - tau);
    negatives = aten.log(aten.clamp(left, count * Math.exp(-1 / temperature)));
  }
  return aten.mean(aten.sub(aten.logaddexp(positive, negatives), positive));
}

/** Value, and the gradients of those that get one. */
function run(data: readonly Float64Array[], dim: number, wanted: readonly boolean[], loss: (inputs: Inputs) => Tensor, dtype: 'float64' | 'float32' = 'float64') {
  return scope(() => {
    const inputs = data.map((x, k) => tensor(x, { shape: [x.length / dim, dim], dtype, requiresGrad: wanted[k]! })) as unknown as Inputs;
    const value = loss(inputs);
    value.backward();
    return { loss: value.item(), gradients: inputs.map((x) => (x.grad === null ? null : Float64Array.from(x.grad.toTypedArray() as Float64Array))) };
  });
}

it.each([
  {}, { temperature: 0.07 }, { temperature: 0.3, beta: 1, tau_plus: 0.05 }, { temperature: 1, beta: 0, tau_plus: 0.01 }, { temperature: 0.004 }, { temperature: 0.004, beta: 1 },
] as Keywords[])('a queue follows the formula, whoever gets a gradient: %j', (keywords) => {
  for (const [rows, size, dim] of [[1, 1, 3], [7, 200, 16], [200, 250, 37], [3, 1800, 8]] as const) {
    const data = [normal([rows, dim]), normal([rows, dim]), normal([size, dim])];
    for (const wanted of [[true, false, false], [true, true, true], [false, true, false], [false, false, true]]) {
      const expected = run(data, dim, wanted, (inputs) => dense(inputs, keywords));
      for (const [dtype, limit] of [['float64', 1e-11], ['float32', keywords.temperature === 0.004 ? 1e-3 : 2e-5]] as const) {
        const given = run(data, dim, wanted, (inputs) => queue_loss(...inputs, keywords), dtype), message = `${rows} ${size} ${wanted} ${dtype}`;
        expect(Math.abs(given.loss - expected.loss) / Math.max(1e-3, expected.loss), message).toBeLessThan(limit);
        given.gradients.forEach((gradient, k) => {
          expect(gradient === null, message).toBe(!wanted[k]);
          const size = Math.hypot(...(expected.gradients[k] ?? []));
          if (gradient && size > 1e-3) expect(distance(gradient, expected.gradients[k]!), message).toBeLessThan(limit);
        });
        setThreads(3);
        expect(run(data, dim, wanted, (inputs) => queue_loss(...inputs, keywords), dtype)).toEqual(given);
        setThreads(1);
      }
    }
  }
});

it('a queue may be overwritten before the gradient is asked for, unless it gets one', () => {
  for (const keywords of [{}, { beta: 1 }, { temperature: 0.004 }] as Keywords[])
    scope(() => {
      const [keys, queue, values] = [randn([5, 4]), randn([300, 4]), normal([5, 4])];
      const gradient = (overwrite: boolean) => {
        const queries = tensor(values, { shape: [5, 4], dtype: 'float32', requiresGrad: true });
        const columns = aten.clone(queue), loss = queue_loss(queries, keys, columns, keywords);
        if (overwrite) aten.fill_(columns, 1);
        loss.backward();
        return queries.grad!.toTypedArray();
      };
      expect(gradient(true)).toEqual(gradient(false));
      const moved = randn([5, 4], { requiresGrad: true }), fixed = aten.mul(randn([300, 4], { requiresGrad: true }), 1);
      const loss = queue_loss(moved, keys, fixed, keywords);
      scope(() => aten.fill_(fixed.detach(), 1));
      expect(() => loss.backward()).toThrow(/inplace/);
      for (const at of [0, 1]) {
        const inputs = [aten.mul(randn([5, 4], { requiresGrad: true }), 1), randn([5, 4])] as const;
        const later = queue_loss(...inputs, queue, keywords);
        scope(() => aten.fill_(inputs[at]!.detach(), 1));
        expect(() => later.backward(), `input ${at}`).toThrow(/inplace/);
      }
    });
});

it('a queue leaves no tensors behind', () => {
  using queries = randn([4, 8], { requiresGrad: true });
  const before = memory().tensors;
  scope(() => queue_loss(queries, randn([4, 8]), randn([500, 8])).backward());
  expect(memory().tensors).toBe(before);
});

it('a queue takes options that are undefined as left out', () =>
  scope(() => {
    const inputs = [randn([4, 8]), randn([4, 8]), randn([9, 8])] as const;
    expect(queue_loss(...inputs, undefined).item()).toBe(queue_loss(...inputs).item());
    expect(() => (queue_loss as (...given: unknown[]) => Tensor)(...inputs, undefined, 0.5)).toThrow(/expected at most 3 positional arguments, got 5/);
  }));

it('what was disposed is called by the name of the argument', () =>
  scope(() => {
    const [gone, x] = [randn([4, 8]), randn([4, 8])];
    gone.dispose();
    const fails = (argument: string, call: () => unknown) => expect(call).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_TYPE', argument, received: 'a disposed Tensor' }));
    fails('features', () => aInfoNCE(gone));
    fails('options.labels', () => aInfoNCE(x, { labels: gone }));
    fails('clean', () => new FixedViews(gone));
    fails('adversaries', () => new FixedViews(x).loss(gone));
  }));

it('a queue names what is not finite', () => {
  for (const [at, name] of ['queries', 'keys', 'queue'].entries())
    scope(() => {
      const inputs = [randn([4, 8]), randn([4, 8]), randn([9, 8])] as const;
      aten.fill_(aten.select(inputs[at]!, 0, 2), NaN);
      expect(() => queue_loss(...inputs)).toThrow(NonFiniteError);
      expect(() => queue_loss(...inputs)).toThrow(new RegExp(`^${name}: .*row 2`));
    });
});

it('tensors on another device are named', () =>
  scope(() => {
    const [x, elsewhere] = [randn([4, 8]), aten.empty([4, 8], { device: 'meta' })];
    const expected = (argument: string, where = 'the CPU or a CUDA device') => new RegExp(`^${argument}: expected a tensor on ${where}, got meta`);
    for (const [at, name] of ['queries', 'keys', 'queue'].entries()) {
      const inputs = [x, x, x].map((each, k) => (k === at ? elsewhere : each)) as unknown as Inputs;
      expect(() => queue_loss(...inputs)).toThrow(expected(name));
    }
    expect(() => aInfoNCE(elsewhere, {})).toThrow(expected('features'));
    expect(() => aInfoNCE(x, { labels: aten.empty([2], { dtype: 'int64', device: 'meta' }) })).toThrow(expected('options\\.labels'));
    expect(() => ops.a_infonce.log_moments(elsewhere, aten.zeros([4], { dtype: 'int32' }), 1, [1], 3)).toThrow(expected('z'));
    expect(() => ops.a_infonce.log_moments(x, aten.empty([4], { dtype: 'int32', device: 'meta' }), 1, [1], 3)).toThrow(expected('codes', 'the CPU'));
  }));

it('labels in many blocks: classes of a row, of most rows and of everything between, the same bits at any thread count', () => {
  const batch = 220, dim = 12, shape = [2 * batch, dim];
  const x = normal(shape);
  for (const labels of [Array.from({ length: batch }, (_, i) => (i % 3 === 0 ? 0 : i % 7)), Array.from({ length: batch }, (_, i) => (i < 10 ? 5 : i < 30 ? i : -1))])
    for (const options of [{}, { adversarialView: 1, inferiorPositive: { alpha: 0.3, weight: 0.7, positiveWeight: 1.3 }, hardNegative: { beta: 1, tauPlus: 0.01 } }])
      for (const temperature of [0.5, 0.004]) {
        const at = { ...options, labels, temperature, views: 2 };
        const expected = evaluate(x, shape, (features) => densePaper(features, at)), given = evaluate(x, shape, at);
        expect(relative(given.loss, expected.loss)).toBeLessThan(1e-12);
        expect(distance(given.gradient, expected.gradient)).toBeLessThan(1e-11);
        const narrow = evaluate(x, shape, at, 'float32');
        expect(distance(narrow.gradient, expected.gradient)).toBeLessThan(temperature < 0.1 ? 1e-3 : 1e-5);
        setThreads(3);
        expect(evaluate(x, shape, at, 'float32')).toEqual(narrow);
        setThreads(1);
      }
  expect(() => scope(() => aInfoNCE(randn(shape), { labels: Array(batch).fill(1), hardNegative: {} }))).toThrow(/^options\.hardNegative/);
});

it('labels at temperatures where a positive is beyond float32, though the negatives outweigh it', () => {
  const third = (2 * Math.PI) / 3;
  const triangle = { x: Float64Array.of(1, 0, Math.cos(third), Math.sin(third), Math.cos(2 * third), Math.sin(2 * third) + 0.01), dim: 2, labels: [0, 0, 1], temperatures: [0.0125, 0.01, 0.008] };
  const many = [16, 64].map((dim) => ({ x: normal([60, dim]), dim, labels: Array.from({ length: 60 }, (_, i) => (i * 7) % 20), temperatures: [0.006, 0.004, 0.002] }));
  for (const { x, dim, labels, temperatures } of [triangle, ...many])
    for (const temperature of temperatures) {
      const at = { views: 1, labels, temperature }, rows = Float64Array.from(Float32Array.from(x));
      const wide = evaluate(rows, [labels.length, dim], at), narrow = evaluate(rows, [labels.length, dim], at, 'float32');
      expect(relative(narrow.loss, wide.loss)).toBeLessThan(1e-5);
      expect(distance(narrow.gradient, wide.gradient), `dim ${dim}, temperature ${temperature}`).toBeLessThan(1e-4);
    }
});
