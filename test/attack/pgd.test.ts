import { ArgumentRangeError, ArgumentTypeError, Classifier, Encoder, NonFiniteError, memory, noGrad, ops, pgd, rand, randn, scope, tensor, type Model, type PgdOptions, type StepProgress, type Tensor } from 'a-infonce';
import { beforeAll, describe, expect, it } from 'vitest';
import { difference, equal, functionNet, int64, largest, loadNet, reference, rows } from './fixtures.js';
import { live } from '../fixtures/live.js';

const { aten } = ops;
const { images, labels, cases } = reference();
const shifted = aten.remainder(aten.add(labels, 1), 4) as Tensor;
let net: Model;
beforeAll(async () => {
  net = await loadNet();
});

const losses = (model: Model, batch: Tensor, wanted: Tensor) => rows(aten.view(aten.cross_entropy_loss(model.forward(batch), wanted, null, 0), [-1, 1])).map((row) => row[0]!);
const hits = (model: Model, batch: Tensor, wanted: Tensor) => aten.sum(aten.eq(aten.argmax(model.forward(batch), 1), wanted)).item();
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

describe('pgd', () => {
  it.each(cases)('finds the adversaries of eager PyTorch: $norm, epsilon $epsilon, targeted $targeted', async (given) => {
    const { norm, epsilon, stepSize, steps, targeted, adversaries, predictedLabels } = given;
    const wanted = targeted ? shifted : labels;
    using found = await pgd(net, images, wanted, { norm, epsilon, stepSize, steps, targeted, randomStart: false });
    const worst = largest((found.toTypedArray() as Float64Array).map((value, i) => value - adversaries[i]!));
    expect(worst).toBeLessThan(norm === 'linf' ? 1e-15 : 1e-9);
    expect(hits(net, found, wanted)).toBe(predictedLabels);
  });

  it('raises the loss with every step on average, lowers it toward a target, and fools the classifier', async () => {
    for (const norm of ['linf', 'l2'] as const) for (const targeted of [false, true]) {
      const wanted = targeted ? shifted : labels, curve: number[] = [];
      for (let steps = 0; steps <= 6; ++steps) {
        using found = await pgd(net, images, wanted, { norm, steps, targeted, randomStart: false });
        curve.push((targeted ? -1 : 1) * mean(losses(net, found, wanted)));
      }
      for (let step = 1; step < curve.length; ++step) expect(curve[step]!).toBeGreaterThan(curve[step - 1]!);
    }
    expect(hits(net, images, labels)).toBe(16);
    using found = await pgd(net, images, labels, { norm: 'l2', epsilon: 0.7 });
    expect(hits(net, found, labels)).toBeLessThan(4);
  });

  it('stays in the ball and the box, in float32 too', async () => {
    using single = images.to({ dtype: 'float32' });
    const model = functionNet(net), asFloat = (x: Tensor) => model(x.to({ dtype: 'float64' })).to({ dtype: 'float32' });
    for (const epsilon of [8 / 255, 0.0314]) {
      using linf = await pgd(asFloat, single, labels, { epsilon, steps: 6, restarts: 2 });
      expect(linf.dtype).toBe('float32');
      for (const delta of difference(linf, single)) expect(largest(delta)).toBeLessThanOrEqual(epsilon);
      using l2 = await pgd(asFloat, single, labels, { norm: 'l2', epsilon, steps: 6 });
      for (const delta of difference(l2, single)) expect(Math.hypot(...delta)).toBeLessThanOrEqual(epsilon);
      for (const found of [linf, l2]) for (const row of rows(found)) expect(Math.min(...row) >= 0 && Math.max(...row) <= 1).toBe(true);
    }
  });

  it('returns the images themselves for epsilon 0, and the start for 0 steps', async () => {
    for (const norm of ['linf', 'l2'] as const) {
      using zero = await pgd(net, images, labels, { norm, epsilon: 0, stepSize: 0.1, steps: 3, restarts: 2 });
      expect(equal(zero, images)).toBe(true);
      using clean = await pgd(net, images, labels, { norm, steps: 0, randomStart: false });
      expect(equal(clean, images)).toBe(true);
      using start = await pgd(net, images, labels, { norm, steps: 0, seed: 3 });
      using standing = await pgd(net, images, labels, { norm, steps: 0, stepSize: 0, seed: 3 });
      expect(equal(standing, start)).toBe(true);
      const samples = int64([...Array(16).keys()]);
      const expected = norm === 'linf' ? ops.a_infonce.pgd_start_linf(images, samples, 8 / 255, 3) : ops.a_infonce.pgd_start_l2(images, samples, 0.5, 3);
      expect(equal(start, expected as Tensor)).toBe(true);
    }
    using none = await pgd(net, aten.slice(images, 0, 0, 0), int64([]));
    expect(none.shape).toEqual([0, 1, 8, 8]);
  });

  it('depends on the seed and not on the batch size', async () => {
    const run = (options: PgdOptions) => pgd(net, images, labels, { steps: 4, ...options });
    using one = await run({ seed: 1 });
    expect(equal(await run({ seed: 1 }), one)).toBe(true);
    expect(equal(await run({ seed: 2 }), one)).toBe(false);
    for (const batchSize of [1, 5, 16]) expect(largest((aten.sub(await run({ seed: 1, batchSize }), one) as Tensor).toTypedArray() as Float64Array)).toBeLessThan(1e-15);
  });

  it('restarts on the samples that still stand', async () => {
    const model = functionNet(net), seen: number[] = [];
    using once = await pgd(net, images, labels, { steps: 3, seed: 2 });
    const standing = (aten.eq(aten.argmax(net.forward(once), 1), labels).toTypedArray() as Uint8Array).filter(Boolean).length;
    expect(standing).toBeGreaterThan(0);
    expect(standing).toBeLessThan(16);
    using twice = await pgd((x) => (seen.push(x.shape[0]!), model(x)), images, labels, { steps: 3, restarts: 2, seed: 2 });
    expect(seen).toEqual([16, 16, 16, 16, ...Array(4).fill(standing)]); // three steps and a look, each time
    using all = await pgd((x) => (seen.push(x.shape[0]!), model(x)), images, labels, { steps: 3, restarts: 3, seed: 2, epsilon: 0.3 });
    expect(seen.slice(8)).toEqual([16, 16, 16, 16]); // all of them fell
    expect([twice, all].map(({ shape }) => shape)).toEqual([images.shape, images.shape]);
  });

  it('looks at the losses of every restart, whoever is better in the next', async () => {
    let infinite = 0;
    const encoder = Encoder.create({ width: 2, seed: 1 }), few = rand([4, 3, 8, 8]), targets = tensor(BigInt64Array.of(1n, 1n, 1n, 1n));
    for (let exponent = 36.9; exponent < 37.2; exponent += 0.008) {
      using classifier = Classifier.create({ encoder, classes: 3, seed: 1 });  // logits of +-10^exponent times features: some losses leave the range of float32
      noGrad(() => {
        const weight = classifier.state().get('head.weight')!, bias = classifier.state().get('head.bias')!;
        aten.fill_(bias, 0), aten.fill_(weight, 0), aten.fill_(aten.slice(weight, 0, 0, 1), 10 ** exponent), aten.fill_(aten.slice(weight, 0, 1, 2), -(10 ** exponent));
      });
      for (const seed of [1, 2, 3]) {
        const attack = (restarts: number) => pgd(classifier, few, targets, { trainMode: true, targeted: true, steps: 0, epsilon: 0.5, seed, restarts });
        const start = await attack(1);
        classifier.train();
        const losses = noGrad(() => aten.cross_entropy_loss(classifier.forward(start), targets, null, 0)).toTypedArray() as Float32Array;
        if (losses.every(Number.isFinite)) continue;
        infinite++;
        await expect(attack(2)).rejects.toThrow(/^the loss of sample \d is NaN or infinite/);
      }
    }
    expect(infinite).toBeGreaterThan(10);
  });
  it('keeps the worst case of each sample over restarts', async () => {
    const run = (restarts: number, epsilon: number) => pgd(net, images, labels, { steps: 3, epsilon, restarts });
    let better = 0;
    for (const epsilon of [0.01, 8 / 255, 0.06]) {
      const fooled = (batch: Tensor) => aten.ne(aten.argmax(net.forward(batch), 1), labels).toTypedArray() as Uint8Array;
      using one = await run(1, epsilon);
      using four = await run(4, epsilon);
      const before = losses(net, one, labels), after = losses(net, four, labels), was = fooled(one), is = fooled(four);
      before.forEach((loss, i) => {
        expect(is[i]).toBeGreaterThanOrEqual(was[i]!);
        if (was[i]) expect(equal(aten.select(four, 0, i), aten.select(one, 0, i))).toBe(true);
        else if (!is[i]) expect(after[i]).toBeGreaterThanOrEqual(loss);
        if (after[i]! > loss || is[i]! > was[i]!) ++better;
      });
    }
    expect(better).toBeGreaterThan(0);
  });

  it('leaves a batch early only when asked, once all of it is fooled', async () => {
    const seen: number[] = [];
    const options = { norm: 'l2', epsilon: 2, stepSize: 0.5, steps: 20, batchSize: 8 } as const;
    using found = await pgd(net, images, labels, { ...options, earlyStop: true, onProgress: ({ done }) => seen.push(done) });
    expect(hits(net, found, labels)).toBe(0);
    await new Promise(setImmediate);
    expect(seen.length).toBeLessThan(40);
    expect(seen.at(-1)).toBe(40);
    expect(Math.max(...difference(found, images).map((row) => Math.hypot(...row)))).toBeLessThan(2);
  });
});

describe('the contrastive objective', () => {
  // The released code's two-view NT-Xent in eager operators: columns detached, the diagonal out, its two epsilons.
  const loss = (model: (x: Tensor) => Tensor, x: Tensor, y: Tensor, temperature: number): Tensor => {
    const output = aten.cat([model(x), model(y)]), n = output.shape[0]!;
    const z = aten.div(output, aten.add(aten.linalg_vector_norm(output, 2, [1], true), 1e-8));
    const others = aten.rsub(aten.eye(n, { dtype: 'float64' }), 1);
    const e = aten.mul(aten.exp(aten.div(aten.mm(z, aten.t(z.detach())), temperature)), others);
    const positive = aten.cat([aten.diagonal(e, n / 2), aten.diagonal(e, -n / 2)]);
    return aten.neg(aten.mean(aten.log(aten.add(aten.div(positive, aten.add(aten.sum(e, [1]), 1e-8)), 1e-8))));
  };

  it('takes the steps that the gradient of the loss says', async () => {
    const model = functionNet(net), views = aten.flip(images, [3]) as Tensor, temperature = 0.3;
    let expected = images.clone();
    for (let step = 0; step < 4; ++step) {
      const x = expected.detach().clone();
      x.requiresGrad = true;
      loss(model, x, views, temperature).backward();
      expected = ops.a_infonce.pgd_step_linf_(expected, x.grad!, images, 0.05, 0.02) as Tensor;
    }
    const options = { objective: { contrastive: views, temperature }, epsilon: 0.05, stepSize: 0.02, steps: 4, randomStart: false };
    for (const attacked of [net, model]) {
      using found = await pgd(attacked, images, null, options);
      expect(largest(difference(found, expected).flatMap((row) => [...row]))).toBeLessThan(1e-15);
    }
    expect(loss(model, expected, views, temperature).item()).toBeGreaterThan(loss(model, images, views, temperature).item());
    using best = await pgd(net, images, null, { ...options, randomStart: true, restarts: 3 });
    using one = await pgd(net, images, null, { ...options, randomStart: true });
    expect(loss(model, best, views, temperature).item()).toBeGreaterThanOrEqual(loss(model, one, views, temperature).item());
  });

  it('attacks the projection of an encoder that has one', async () => {
    using encoder = Encoder.create({ width: 4, projector: { hidden: [16], output: 8, batchNorm: false } }).eval();
    using x = rand([6, 3, 16, 16]);
    using y = aten.flip(x, [3]) as Tensor;
    using found = await pgd(encoder, x, null, { objective: { contrastive: y }, steps: 3 });
    using expected = await pgd((batch) => encoder.forward(batch, { output: 'projection' }), x, null, { objective: { contrastive: y }, steps: 3 });
    expect(equal(found, expected)).toBe(true);
    expect(equal(found, await pgd((batch) => encoder.forward(batch), x, null, { objective: { contrastive: y }, steps: 3 }))).toBe(false);
  });
});

describe('models', () => {
  it('a function, synchronous or not, gives what the native model gives', async () => {
    const model = functionNet(net);
    for (const norm of ['linf', 'l2'] as const) {
      using expected = await pgd(net, images, labels, { norm, steps: 5, restarts: 2 });
      for (const written of [model, async (x: Tensor) => (await null, model(x))]) {
        using found = await pgd(written, images, labels, { norm, steps: 5, restarts: 2 });
        expect(largest(rows(aten.sub(found, expected) as Tensor).flatMap((row) => [...row]))).toBeLessThan(1e-15);
      }
    }
  });

  it('keep parameters, gradients, statistics and mode', async () => {
    const state = net.state(), before = [...state.values()].map((value) => value.clone());
    const gradients = () => net.parameters().map((value) => [value.requiresGrad, value.grad?.toArray() ?? null]);
    const expected = gradients();
    for (const training of [false, true]) {
      if (training) net.train();
      await pgd(net, images, labels, { steps: 3 });
      expect(net.training).toBe(training);
      expect([...state.values()].every((value, i) => equal(value, before[i]!))).toBe(true);
      await expect(pgd(net, images, int64(Array(16).fill(7)), { steps: 3 })).rejects.toThrow(ArgumentRangeError);
      expect(net.training).toBe(training);
      expect(gradients()).toEqual(expected);
      net.eval();
    }
    const other = await loadNet();
    await pgd(other, images, labels, { steps: 3, trainMode: true });
    const moved = other.state();
    expect(moved.get('1.num_batches_tracked')!.item()).toBe(state.get('1.num_batches_tracked')!.item() + 3);
    expect(equal(moved.get('1.running_mean')!, state.get('1.running_mean')!)).toBe(false);
    expect(other.training).toBe(false);
    // In a function, a leaf of the user's own.
    using scale = tensor(2, { dtype: 'float64', requiresGrad: true });
    await pgd((x) => aten.mul(functionNet(net)(x), scale), images, labels, { steps: 2 });
    expect([scale.requiresGrad, scale.grad]).toEqual([true, null]);
  });

  it('take turns: attacks at once on a model in train mode all run in eval mode, and changing the mode meanwhile is refused', async () => {
    const model = (await loadNet()).train();
    using alone = await pgd(model, images, labels, { steps: 5 });
    const running = Promise.all(Array.from({ length: 4 }, () => pgd(model, images, labels, { steps: 5 })));
    for (const found of await running) expect(equal(found, alone)).toBe(true);
    expect(model.training).toBe(true);
    let refused: unknown;
    await pgd(model, images, labels, {
      steps: 200,
      onProgress: () => {
        try {
          model.eval();
        } catch (error) {
          refused ??= error;
        }
      },
    });
    expect(refused).toBeInstanceOf(ArgumentRangeError);
  });

  it('on one encoder take turns too', async () => {
    using encoder = Encoder.create({ width: 4 });
    const heads = [1, 2].map((seed) => Classifier.create({ encoder, classes: 4, seed }));
    using x = rand([6, 3, 16, 16]);
    // The first ends, and would put the encoder back into train mode, in the middle of the second.
    const attack = (i: number) => pgd(heads[i]!, x, int64([0, 1, 2, 3, 0, 1]), { steps: i === 0 ? 3 : 40 });
    const alone = [await attack(0), await attack(1)];
    for (let round = 0; round < 2; ++round)
      (await Promise.all([attack(0), attack(1)])).forEach((found, i) => expect(equal(found, alone[i]!)).toBe(true));
    expect(encoder.training).toBe(true);
  });

  it('that misbehave reject with a typed error, and the next call works', async () => {
    const model = functionNet(net), failure = new Error('mine');
    const attack = (written: unknown) => pgd(written as never, images, labels, { steps: 2 });
    await expect(attack(() => { throw failure; })).rejects.toBe(failure);
    await expect(attack(async () => { await null; throw failure; })).rejects.toBe(failure);
    await expect(attack(() => { throw 'text'; })).rejects.toThrow('text');
    for (const wrong of [() => undefined, () => 3, async () => [], () => ({}), () => tensor([1]).toArray()])
      await expect(attack(wrong)).rejects.toThrow(expect.objectContaining({ argument: 'model', code: 'ERR_ARGUMENT_TYPE' }));
    for (const wrong of [(x: Tensor) => x, (x: Tensor) => aten.slice(model(x), 0, 0, 3), (x: Tensor) => aten.sum(x), (x: Tensor) => aten.argmax(model(x), 1)])
      await expect(attack(wrong)).rejects.toThrow(expect.objectContaining({ argument: 'model', code: 'ERR_ARGUMENT_RANGE' }));
    await expect(attack((x: Tensor) => model(x.detach()).detach())).rejects.toThrow(/objective: expected a loss that depends on the images/);
    await expect(attack((x: Tensor) => { const y = model(x); y.dispose(); return y; })).rejects.toThrow(ArgumentTypeError);
    for (const bad of [NaN, Infinity])
      await expect(attack((x: Tensor) => aten.mul(model(x), tensor([...Array(16).keys()].map((i) => (i === 11 ? bad : 1)), { shape: [16, 1], dtype: 'float64' }))))
        .rejects.toThrow(/sample 11/);
    await expect(attack((x: Tensor) => aten.mul(model(x), NaN))).rejects.toThrow(NonFiniteError);
    expect((await attack(model)).shape).toEqual(images.shape);
  });
});

describe('a running attack', () => {
  it('reports every step', async () => {
    const seen: StepProgress[] = [];
    await pgd(net, images, labels, { steps: 3, restarts: 2, batchSize: 6, onProgress: (progress) => seen.push({ ...progress }) });
    await new Promise(setImmediate);
    expect(seen).toEqual(Array.from({ length: 18 }, (_, i) => ({ done: i + 1, total: 18 })));
  });

  it('is aborted with the reason of its signal, on a model or a function; the next call works', async () => {
    for (const model of [net, functionNet(net), () => new Promise<Tensor>(() => {})]) {
      const controller = new AbortController(), reason = new Error('enough');
      const running = pgd(model, images, labels, { steps: 100_000, signal: controller.signal });
      setTimeout(() => controller.abort(reason), 30);
      await expect(running).rejects.toBe(reason);
      await expect(pgd(model, images, labels, { signal: controller.signal })).rejects.toBe(reason);
    }
    await expect(pgd(net, images, labels, { steps: 1e5, onProgress: () => { throw new Error('in the callback'); } })).rejects.toThrow('in the callback');
    expect((await pgd(net, images, labels, { steps: 2 })).shape).toEqual(images.shape);
  });

  it('takes no more memory the more attacks there are', async () => {
    using x = rand([2, 1, 4, 4]);
    using y = int64([0, 1]);
    using weight = randn([3, 16]);
    const model = (batch: Tensor) => aten.linear(aten.flatten(batch, 1), weight);
    const attacks = async (count: number) => {
      for (let i = 0; i < count; ++i) (await pgd(model, x, y, { steps: 1, seed: i })).dispose();
    };
    await attacks(300);
    const { tensors } = await live(), { rss } = process.memoryUsage();
    await attacks(1200);
    expect(memory().tensors).toBe(tensors);
    expect(process.memoryUsage().rss - rss).toBeLessThan(20e6);
  });

  it('leaves nothing behind', async () => {
    const model = functionNet(net);
    const round = () => scope(async () => {
      await pgd(net, images, labels, { steps: 1 });
      await pgd(model, images, labels, { norm: 'l2', steps: 1, restarts: 2 });
      await pgd(() => { throw new Error(); }, images, labels, { steps: 1 }).catch(() => {});
    });
    await round();
    const before = await live();
    for (let i = 0; i < 100; ++i) await round();
    expect(memory()).toEqual(before);
  });
});

describe('arguments', () => {
  it('are named in the error', async () => {
    const fails = async (argument: string, type: typeof ArgumentRangeError | typeof ArgumentTypeError, ...[m, x, y, o]: unknown[]) => {
      const running = pgd(m as never, x as never, y as never, o as never);
      await expect(running).rejects.toBeInstanceOf(type);
      await expect(running).rejects.toMatchObject({ argument });
    };
    await fails('model', ArgumentTypeError, {}, images, labels);
    await fails('images', ArgumentTypeError, net, [0], labels);
    await fails('images', ArgumentTypeError, net, images.to({ dtype: 'float16' }), labels);
    await fails('images', ArgumentRangeError, net, aten.flatten(images, 1), labels);
    for (const value of [-1e-6, 1 + 1e-6, NaN, Infinity]) {
      const bad = images.clone();
      aten.fill_(aten.select(aten.flatten(bad), 0, 77), value);
      await fails('images', ArgumentRangeError, net, bad, labels);
    }
    const nan = aten.full([1, 1, 8, 8], NaN);
    await expect(pgd(net, nan, int64([0]))).rejects.toThrow(/images: expected values in \[0, 1\] .*, got NaN$/);
    await expect(pgd(net, images, tensor([0, 1]))).rejects.toThrow("pass { dtype: 'int64' } to tensor()");
    await expect(pgd(net, images, labels, { epsilon: 8 })).rejects.toThrow('8/255, not 8');
    using whole = await pgd(net, images, labels, { epsilon: 1, steps: 1 });
    expect(whole.shape).toEqual(images.shape);
    await fails('labels', ArgumentTypeError, net, images, 0);
    await fails('labels', ArgumentTypeError, net, images, labels.to({ dtype: 'int32' }));
    await fails('labels', ArgumentRangeError, net, images, int64([0]));
    await fails('labels', ArgumentRangeError, net, images, int64(Array(16).fill(4)));
    await fails('labels', ArgumentRangeError, net, images, int64(Array(16).fill(-1)));
    const options: [keyof PgdOptions, unknown, typeof ArgumentRangeError | typeof ArgumentTypeError][] = [
      ['norm', 'l1', ArgumentRangeError], ['epsilon', -1, ArgumentRangeError], ['epsilon', NaN, ArgumentRangeError], ['epsilon', '8/255', ArgumentTypeError],
      ['epsilon', 8, ArgumentRangeError], ['stepSize', 0, ArgumentRangeError],
      ['stepSize', Infinity, ArgumentRangeError], ['steps', 1.5, ArgumentRangeError], ['steps', -1, ArgumentRangeError], ['restarts', 0, ArgumentRangeError],
      ['randomStart', 1, ArgumentTypeError], ['targeted', 'yes', ArgumentTypeError], ['earlyStop', null, ArgumentTypeError], ['graph', null, ArgumentTypeError], ['seed', -1, ArgumentRangeError], ['batchSize', 0, ArgumentRangeError],
      ['onProgress', true, ArgumentTypeError], ['signal', 5, ArgumentTypeError], ['signal', {}, ArgumentTypeError], ['eps' as never, 1, ArgumentRangeError],
    ];
    const views = (contrastive: unknown, other = {}) => [net, images, null, { objective: { contrastive }, ...other }];
    await fails('options.objective.contrastive', ArgumentTypeError, ...views(undefined));
    await fails('options.objective.contrastive', ArgumentRangeError, ...views(aten.slice(images, 0, 1)));
    await fails('options.objective.temperature', ArgumentRangeError, net, images, null, { objective: { contrastive: images, temperature: 0 } });
    await fails('options.targeted', ArgumentRangeError, ...views(images, { targeted: true }));
    await fails('labels', ArgumentTypeError, net, images, labels, { objective: { contrastive: images } });
    await fails('labels', ArgumentTypeError, net, images, null);
    await fails('options.objective', ArgumentRangeError, net, images, labels, { objective: 'dlr' });
    for (const [name, value, type] of options) await fails(`options.${name}`, type, net, images, labels, { [name]: value });
    using disposed = rand([2, 1, 8, 8]);
    disposed.dispose();
    await expect(pgd(net, disposed, labels)).rejects.toThrow('disposed');
  });
});
