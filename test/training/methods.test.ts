import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  aInfoNCE, ArgumentRangeError, Encoder, learningRate, memory, NonFiniteError, noGrad, ops, presets, pretrain, proceduralDataset, randn, readSafetensors, resolveConfig, scope, Split, tensor, Tensor,
  type Overrides, type PresetName, type PretrainConfig, type PretrainOptions,
} from 'a-infonce';
import { job } from '../../src/runtime/job.js';
import { native } from '../../src/runtime/native.js';
import { fade, strengthAt, weightAt } from '../../src/training/methods/dynacl.js';
import { all, steps, temporary } from '../fixtures/runs.js';
import { live } from '../fixtures/live.js';

const { aten } = ops;
const rate = 0.1;
const images = (seed: number, n = 6) => {
  const values = Float32Array.from({ length: n * 3 * 64 }, (_, i) => Math.abs(Math.sin((i + 1) * 12.9898 + seed) * 43758.5453) % 1);
  return tensor(values, { shape: [n, 3, 8, 8] });
};
const integers = (...values: number[]) => tensor(BigInt64Array.from(values, BigInt));
const make = () => Encoder.create({ width: 4, branches: ['normal', 'pgd'], projector: { hidden: [16], output: 8, batchNorm: true }, seed: 3 });

/** One native step of plain gradient descent. */
function step(encoder: Encoder, method: string, inputs: Record<string, Tensor>, options: object) {
  const handles = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, value.handle]));
  const trainer = native().create_trainer(encoder.handle, { momentum: 0, weightDecay: 0 }, '');
  return job(() => native().training_step(trainer, method, handles, { learningRate: rate, ...options }));
}
function descend(encoder: Encoder, loss: Tensor) {
  loss.backward();
  noGrad(() => {
    for (const weight of encoder.parameters()) {
      if (weight.grad) aten.sub_(weight, weight.grad, { alpha: rate });
      weight.grad = null;
    }
  });
}
const state = (encoder: Encoder) => new Map([...encoder.state()].map(([name, value]) => [name, Float64Array.from(value.toTypedArray() as ArrayLike<unknown>, Number)]));
function same(encoder: Encoder, expected: Encoder, before: Map<string, Float64Array>) {
  const [ours, theirs] = [state(encoder), state(expected)];
  let moved = 0;
  for (const [name, value] of ours) {
    const wanted = theirs.get(name)!, distance = (other: Float64Array) => Math.hypot(...wanted.map((x, i) => x - other[i]!));
    if (distance(before.get(name)!) > 0) moved++;
    expect(distance(value), name).toBeLessThan(0.002 * distance(before.get(name)!) + 2e-6);
  }
  return { moved, all: ours.size };
}

const project = (encoder: Encoder, x: Tensor, branch = 'normal') => encoder.forward(x, { branch, output: 'projection' });
const cosine = (x: Tensor) => aten.div(x, aten.clamp_min(aten.norm(x, 2, [1], true), 1e-12));
const part = (x: Tensor, which: number, batch: number) => aten.slice(x, 0, which * batch, (which + 1) * batch);

/** nt_xent of ACL's utils.py, on rows [view 1, view 2]. */
function ntXent(features: Tensor, t = 0.5): Tensor {
  const z = cosine(features), batch = z.shape[0]! / 2;
  const e = aten.exp(aten.div(aten.mm(z, aten.t(z)), t));
  const partner = aten.diagonal(aten.roll(e, [batch], [0]));
  return aten.neg(aten.mean(aten.log(aten.div(partner, aten.sub(aten.sum(e, [0]), Math.exp(1 / t))))));
}

/** SupConLoss of SupContrast's losses.py, contrast_mode 'all', before its factor. */
function supConLoss(features: Tensor, labels: number[], t: number): Tensor {
  const z = cosine(features), n = z.shape[0]!, classes = [...labels, ...labels];
  const logits = aten.div(aten.mm(z, aten.t(z)), t);
  const mask = tensor(Float32Array.from({ length: n * n }, (_, at) => (classes[Math.floor(at / n)] === classes[at % n] && Math.floor(at / n) !== at % n ? 1 : 0)), { shape: [n, n] });
  const others = aten.mul(aten.exp(logits), aten.rsub(aten.eye(n), 1));
  const logProb = aten.sub(logits, aten.log(aten.sum(others, [1], true)));
  return aten.neg(aten.mean(aten.div(aten.sum(aten.mul(mask, logProb), [1]), aten.sum(mask, [1]))));
}

describe('a step of SimCLR', () => {
  it("equals the released code's, through the first branch", async () => {
    await scope(async () => {
      using encoder = make();
      using copy = encoder.clone();
      const before = state(encoder);
      const values = await step(encoder, 'simclr', { view1: images(1), view2: images(2) }, { objective: { temperature: 0.5 }, scale: 1 });
      const loss = ntXent(project(copy.train(), aten.cat([images(1), images(2)])));
      descend(copy, loss);
      expect(values).toMatchObject({ loss: expect.closeTo(loss.item(), 5), contrastive: expect.closeTo(loss.item(), 5) });
      const { moved, all } = same(encoder, copy, before);
      expect(moved).toBeGreaterThan(all / 3);
      const [left, right] = ['normal', 'pgd'].map((branch) => [...state(encoder)].filter(([name]) => name.includes(`.${branch}.`)).map(([name, value]) => Math.hypot(...value.map((x, i) => x - before.get(name)![i]!))));
      expect(Math.max(...right!)).toBe(0);
      expect(Math.max(...left!)).toBeGreaterThan(0);
    });
  });

  it('has supervised positives with labels, and its factor: supervised contrastive learning', async () => {
    await scope(async () => {
      using encoder = make();
      using copy = encoder.clone();
      const before = state(encoder), labels = [0, 2, 0, 1, 2, 2];
      const values = await step(encoder, 'simclr', { view1: images(1), view2: images(2), labels: integers(...labels) }, { objective: { temperature: 0.1 }, scale: 0.1 / 0.07 });
      const loss = supConLoss(project(copy.train(), aten.cat([images(1), images(2)])), labels, 0.1);
      descend(copy, aten.mul(loss, 0.1 / 0.07));
      expect(values.contrastive).toBeCloseTo(loss.item(), 4);
      expect(values.loss).toBeCloseTo(loss.item() * (0.1 / 0.07), 4);
      same(encoder, copy, before);
    });
  });

  it('weighs hard negatives', async () => {
    await scope(async () => {
      const of = async (hardNegative?: object) => {
        using encoder = make();
        return (await step(encoder, 'simclr', { view1: images(1), view2: images(2) }, { objective: { temperature: 0.5, hardNegative }, scale: 1 })).loss;
      };
      expect(await of({ beta: 0, tauPlus: 0 })).toBeCloseTo(await of(), 5);
      expect(await of({ beta: 2, tauPlus: 0 })).toBeGreaterThan(await of());
    });
  });
});

describe('a step of ACL', () => {
  const ball = { epsilon: 8 / 255, stepSize: 2 / 255, clampStart: false, clampThenProject: false };

  /** PGD_contrastive of ACL's train_simCLR.py from a given start. */
  function attack(encoder: Encoder, inputs: Tensor, start: Tensor, steps: number): Tensor {
    encoder.eval();
    let delta = aten.sub(start, inputs);
    for (let i = 0; i < steps; i++) {
      const x = aten.add(inputs, delta).detach();
      x.requiresGrad = true;
      ntXent(project(encoder, x, 'pgd')).backward();
      delta = aten.clamp(aten.add(delta, aten.mul(aten.sign(x.grad!), ball.stepSize)), -ball.epsilon, ball.epsilon);
      delta = aten.sub(aten.clamp(aten.add(inputs, delta), 0, 1), inputs);
    }
    for (const weight of encoder.parameters()) weight.grad = null;
    return aten.add(inputs, delta).detach();
  }

  /** AIR_Loss of Enhancing_ACL_via_AIR's AIR.py: its two regularisers. */
  function invariances(z: Tensor, o: Tensor, a: Tensor, t = 0.5): [Tensor, Tensor] {
    const batch = o.shape[0]!;
    const [zi, zj, ai, aj] = [part(cosine(z), 0, batch), part(cosine(z), 1, batch), part(cosine(a), 0, batch), part(cosine(a), 1, batch)], zo = cosine(o);
    const probs = (x: Tensor, y: Tensor) => aten.softmax(aten.diagonal(aten.div(aten.mm(x, aten.t(y)), t)), 0);
    const klDiv = (input: Tensor, target: Tensor) => aten.kl_div(input, target, 2, { log_target: true });
    const sir = klDiv(probs(zi, zo), aten.log(probs(zj, zo)));
    return [sir, klDiv(aten.mul(probs(ai, zo), probs(ai, zi)), aten.log(aten.mul(probs(aj, zo), probs(aj, zj))))];
  }

  it.each([['ACL', 1, undefined], ['DynACL, late', 1.6, undefined], ['with invariance', 1.2, { standard: 0.5, adversarial: 0.3 }]] as const)(
    '%s equals its transcription: adversaries, loss, weights, statistics of both branches', async (_, adversarialWeight, invariance) => {
      await scope(async () => {
        using encoder = make();
        using copy = encoder.clone();
        const before = state(encoder), [view1, view2, original] = [images(1), images(2), images(5)];
        const values = await step(encoder, 'acl', { view1, view2, ...(invariance && { original }), samples: integers(0, 1, 2, 3, 4, 5) }, {
          seed: 0, objective: { temperature: 0.5 }, attack: { ...ball, steps: 5, randomStart: false }, adversarialWeight, invariance,
        });
        const views = aten.cat([view1, view2]);
        const adversaries = attack(copy, views, views, 5);
        copy.train();
        const a = project(copy, adversaries, 'pgd'), z = project(copy, views, 'normal');
        const [clean, adversarial] = [ntXent(z), ntXent(a)];
        let loss = aten.add(aten.mul(clean, 2 - adversarialWeight), aten.mul(adversarial, adversarialWeight));
        if (invariance) {
          const [standard, robust] = invariances(z, project(copy, original, 'normal'), a);
          expect(values).toMatchObject({ standardInvariance: expect.closeTo(standard.item(), 5), adversarialInvariance: expect.closeTo(robust.item(), 5) });
          loss = aten.add(aten.add(loss, standard, { alpha: invariance.standard }), robust, { alpha: invariance.adversarial });
        }
        const halves = invariance ? 1 : 2;   // AIR's code adds where ACL's and DynACL's take the mean
        descend(copy, aten.div(loss, halves));
        expect(values.loss).toBeCloseTo(loss.item() / halves, 4);
        expect(values).toMatchObject({ clean: expect.closeTo(clean.item(), 5), adversarial: expect.closeTo(adversarial.item(), 4) });
        expect(values.adversarial).toBeGreaterThan(values.clean!);
        const { moved, all } = same(encoder, copy, before);
        expect(moved).toBe(all);
      });
    });

  it('starts the two views of an image apart', async () => {
    await scope(async () => {
      using encoder = make();
      using copy = encoder.clone();
      const [view, samples] = [images(1), integers(7, 1, 2, 9, 4, 5)], views = aten.cat([view, view]);
      const values = await step(encoder, 'acl', { view1: view, view2: view, samples }, {
        seed: 11, objective: { temperature: 0.5 }, attack: { ...ball, steps: 0, randomStart: true }, adversarialWeight: 1,
      });
      const apart = aten.cat([aten.mul(samples, 2), aten.add(aten.mul(samples, 2), 1)]);
      const start = ops.a_infonce.pgd_start_linf(views, apart, ball.epsilon, 11, 0, false);
      expect(values.adversarial).toBeCloseTo(ntXent(project(copy.train(), start, 'pgd')).item(), 4);
      expect(Math.abs(values.adversarial! - values.clean!)).toBeGreaterThan(1e-3);
    });
  });
});

describe('DynACL', () => {
  it("anneals as the released code: strength and weight every 50 of 1,000 epochs", () => {
    expect([0, 49, 50, 99, 100, 999].map((epoch) => strengthAt(epoch, 1000, 50))).toEqual([1, 1, 0.95, 0.95, 0.9, 0.050000000000000044]);
    // min(1 + (epoch // 50) * (50 / 1000) * 2/3, 2) with epochs from 1
    [[0, 1], [48, 1], [49, 1 + 1 / 30], [98, 1 + 1 / 30], [99, 1 + 2 / 30], [999, 1 + 20 / 30]].forEach(([epoch, weight]) =>
      expect(weightAt(epoch!, 1000, { period: 50, reweighting: 2 / 3, early: true })).toBeCloseTo(weight!, 12));
    // AIR's: 1 + 2/3 (1 - strength)
    [[0, 1], [49, 1], [50, 1 + 1 / 30], [99, 1 + 1 / 30], [100, 1 + 2 / 30], [999, 1 + 19 / 30]].forEach(([epoch, weight]) =>
      expect(weightAt(epoch!, 1000, { period: 50, reweighting: 2 / 3 })).toBeCloseTo(weight!, 12));
  });

  it('fades the crop and the color, not the flip', () => {
    const { views } = presets['dynacl-cifar10'];
    expect(fade(views, 1)).toEqual(views);
    expect(fade(views, 0.5)).toEqual({
      resizedCrop: { scale: [0.55, 1], ratio: [3 / 4, 4 / 3] }, flip: 0.5, jitter: { probability: 0.4, brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0.05 }, grayscale: 0.1,
    });
    expect(fade(views, 0).resizedCrop!.scale).toEqual([1, 1]);
    expect(fade({ padding: 4 }, 0.5)).toEqual({ padding: 4 });
  });
});

describe('MoCo', () => {
  /** The loss in float64 by its definition, without logarithms of sums. */
  function expected(q: Tensor, k: Tensor, queue: Tensor, t: number, hard?: { beta: number; tauPlus: number }): Tensor {
    const positive = aten.exp(aten.div(aten.sum(aten.mul(cosine(q), cosine(k)), [1]), t));
    const e = aten.exp(aten.div(aten.mm(cosine(q), aten.t(cosine(queue))), t)), n = queue.shape[0]!;
    let negative = aten.sum(e, [1]);
    if (hard) {
      const weights = aten.pow(e, hard.beta), weighed = aten.sum(aten.mul(aten.div(weights, aten.mean(weights, [1], true)), e), [1]);
      negative = aten.clamp_min(aten.div(aten.sub(weighed, positive, { alpha: hard.tauPlus * n }), 1 - hard.tauPlus), n * Math.exp(-1 / t));
    }
    return aten.neg(aten.mean(aten.log(aten.div(positive, aten.add(positive, negative)))));
  }

  it.each([[0.5, undefined], [0.1, undefined], [0.5, { beta: 1, tauPlus: 0.1 }], [0.5, { beta: 0, tauPlus: 0.2 }], [0.3, { beta: 0.5, tauPlus: 0 }]] as const)(
    'queue_loss is its definition, value and gradient: temperature %d, hard negatives %j', (t, hard) => {
      scope(() => {
        const rows = (n: number, seed: number) => tensor(Float64Array.from({ length: n * 5 }, (_, i) => Math.sin((i + 1) * 12.9898 + seed) * 3), { shape: [n, 5] });
        const [q, k, queue] = [rows(4, 1), rows(4, 2), rows(9, 3)];
        const gradients = (loss: (q: Tensor, k: Tensor) => Tensor) => {
          const [a, b] = [q, k].map((x) => Object.assign(x.clone(), { requiresGrad: true })) as [Tensor, Tensor];
          const value = loss(a, b);
          value.backward();
          return [value.item(), ...(a.grad!.toTypedArray() as Float64Array), ...(b.grad!.toTypedArray() as Float64Array)];
        };
        const ours = gradients((a, b) => ops.a_infonce.queue_loss(a, b, queue, { temperature: t, beta: hard?.beta ?? null, tau_plus: hard?.tauPlus ?? 0 }));
        gradients((a, b) => expected(a, b, queue, t, hard)).forEach((value, i) => expect(ours[i]).toBeCloseTo(value, 12));
      });
    });

  it.each([undefined, { beta: 1, tauPlus: 0.1 }])('is the objective where labels say that the queue holds negatives only: hard negatives %j', (hardNegative) => {
    scope(() => {
      const rows = tensor(Float64Array.from({ length: 9 * 5 }, (_, i) => Math.sin((i + 1) * 12.9898) * 3), { shape: [9, 5] });
      const [query, key, queue] = [aten.slice(rows, 0, 0, 1), aten.slice(rows, 0, 1, 2), aten.slice(rows, 0, 2)];
      const keywords = { temperature: 0.3, beta: hardNegative?.beta ?? null, tau_plus: hardNegative?.tauPlus ?? 0 };
      const both = [ops.a_infonce.queue_loss(query, key, queue, keywords), ops.a_infonce.queue_loss(key, query, queue, keywords)].map((loss) => loss.item());
      expect(aInfoNCE(rows, { views: 1, labels: [0, 0, 1, 2, 3, 4, 5, 6, 7], temperature: 0.3, hardNegative }).item()).toBeCloseTo((both[0]! + both[1]!) / 2, 12);
      expect(both[0]).not.toBeCloseTo(both[1]!, 2);
    });
  });

  it('queue_loss names what is wrong', () => {
    scope(() => {
      const [q, k, queue] = [randn([3, 4]), randn([3, 4]), randn([6, 4])];
      const of = (a: Tensor, b: Tensor, c: Tensor, options: object = {}) => () => ops.a_infonce.queue_loss(a, b, c, options);
      expect(of(q, randn([2, 4]), queue)).toThrow(/^keys: expected shape \[3, 4\], as the queries have, got shape \[2, 4\]/);
      expect(of(q, k, randn([6, 5]))).toThrow(/^queue: expected shape \[rows, 4\], as the queries have, got shape \[6, 5\]/);
      expect(of(q, k, queue.to({ dtype: 'float64' }))).toThrow(/^queue: expected float32, as the queries are, got float64/);
      expect(of(q, k, queue, { temperature: 0 })).toThrow(/^options\.temperature/);
      expect(of(q, k, queue, { beta: 1, tau_plus: 1 })).toThrow(/^options\.hardNegative\.tauPlus/);
      noGrad(() => aten.fill_(aten.select(queue, 0, 4), NaN));
      expect(of(q, k, queue)).toThrow(NonFiniteError);
    });
  });

  it.each([1, 2])('a step equals its transcription in %i groups: loss, weights, keys, queue', async (groups) => {
    await scope(async () => {
      using encoder = make();
      using keys = Encoder.create({ width: 4, branches: ['normal', 'pgd'], projector: { hidden: [16], output: 8, batchNorm: true }, seed: 8 });
      using copy = encoder.clone();
      using follower = keys.clone();
      const [before, keysBefore] = [state(encoder), state(keys)], queue = Tensor.wrap(native().random_directions(8, 8, 5)), old = queue.clone();
      const [view1, view2] = [images(1), images(2)];
      const values = await step(encoder, 'moco', { view1, view2 }, { objective: { temperature: 0.1 }, groups, momentum: 0.9, seed: 4, pointer: 5, keys: keys.handle, queue: queue.handle });

      noGrad(() => {
        const weights = copy.parameters();
        follower.parameters().forEach((key, i) => aten.add_(aten.mul_(key, 0.9), weights[i]!, { alpha: 0.1 }));
      });
      const order = Tensor.wrap(native().permutation(6, 4, 0));
      const inGroups = (network: Encoder, x: Tensor) => aten.cat(aten.tensor_split(x, groups).map((group: Tensor) => project(network.train(), group)));
      const shuffled = noGrad(() => cosine(inGroups(follower, aten.index_select(view2, 0, order))));
      const k = aten.index_select(shuffled, 0, aten.argsort(order));
      const q = cosine(inGroups(copy, view1));
      const logits = aten.div(aten.cat([aten.sum(aten.mul(q, k), [1], true), aten.mm(q, aten.t(old))], 1), 0.1);
      const loss = aten.cross_entropy_loss(logits, integers(0, 0, 0, 0, 0, 0));
      descend(copy, loss);
      expect(values.loss).toBeCloseTo(loss.item(), 4);
      same(encoder, copy, before);
      same(keys, follower, keysBefore);
      const wanted = noGrad(() => aten.index_copy(old, 0, integers(5, 6, 7, 0, 1, 2), k));
      expect(aten.allclose(queue, wanted, 1e-4, 1e-5)).toBe(true);
      expect(aten.equal(queue, old)).toBe(false);
    });
  });

  it('puts keys and queue back after a step that fails', async () => {
    await scope(async () => {
      using encoder = make();
      using keys = encoder.clone();
      const queue = Tensor.wrap(native().random_directions(8, 8, 5)), old = queue.clone();
      noGrad(() => aten.fill_([...encoder.state()].find(([name]) => name.startsWith('projector.3.weight'))![1], Infinity));
      const before = state(keys);
      const options = { objective: { temperature: 0.1 }, groups: 1, momentum: 0.9, seed: 4, pointer: 0, keys: keys.handle, queue: queue.handle };
      await expect(step(encoder, 'moco', { view1: images(1), view2: images(2) }, options)).rejects.toThrow(NonFiniteError);
      expect(state(keys)).toEqual(before);
      expect(aten.equal(queue, old)).toBe(true);
      await expect(step(make(), 'moco', { view1: images(1, 9), view2: images(2, 9) }, options)).rejects.toThrow(/^queue: expected at least 9 rows/);
    });
  });

  it('begins with a queue of directions of length 1, none preferred', () => {
    scope(() => {
      const rows = Tensor.wrap(native().random_directions(4000, 6, 1));
      expect(aten.max(aten.abs(aten.sub(aten.norm(rows, 2, [1]), 1))).item()).toBeLessThan(1e-6);
      expect(aten.norm(aten.mean(rows, [0])).item()).toBeLessThan(0.05);
      expect(aten.allclose(aten.mul(aten.mm(aten.t(rows), rows), 6 / 4000), aten.eye(6), 0, 0.1)).toBe(true);
    });
  });
});

describe('presets', () => {
  it('are schedules and values of the released code', () => {
    const { 'acl-cifar10': acl, 'dynacl-cifar10': dynacl, 'dynacl-air-cifar10': air, 'moco-cifar10': moco } = presets;
    const at = (preset: PretrainConfig, epoch: number, step = 0) => learningRate(preset.schedule, { epoch, epochs: preset.epochs, step, stepsPerEpoch: 98 });
    // ACL, AIR: the scheduler steps before step s of 98,000, so 5 (s + 1) / 980 for ten epochs, then the cosine of s + 1 to 1e-6
    for (const preset of [acl, air]) {
      expect([at(preset, 0), at(preset, 4, 48), at(preset, 9, 97)].map((x) => x.toFixed(9))).toEqual([5 / 980, (5 * 441) / 980, 5].map((x) => x.toFixed(9)));
      expect(at(preset, 300)).toBeCloseTo(1e-6 + (4.999999 / 2) * (1 + Math.cos((Math.PI * (29_401 - 980)) / 97_020)), 12);
      expect(at(preset, 504, 97)).toBeCloseTo((5 + 1e-6) / 2, 12);
      expect(at(preset, 999, 97)).toBeCloseTo(1e-6, 14);
    }
    // DynACL: 5 (e + 1) / 10, then by the epoch
    expect([at(dynacl, 0), at(dynacl, 0, 97), at(dynacl, 9), at(dynacl, 505, 3)].map((x) => x.toFixed(6))).toEqual(['0.500000', '0.500000', '5.000000', '2.500001']);
    // MoCo: the rates that the demonstration printed in its epochs 8, 26 and 64 of 200, counted from 1; the last one's is 0
    expect([8, 26, 64, 200].map((epoch) => at(moco, epoch - 1, 50).toFixed(6))).toEqual(['0.059763', '0.057533', '0.046075', '0.000000']);
  });

  it.each([
    ['acl-cifar10', { encoder: { branches: ['normal'] } }, "encoder.branches: expected 'normal' and 'pgd' among them"],
    ['acl-cifar10', { objective: { inferiorPositive: { alpha: 0.2 } } }, 'objective.inferiorPositive'],
    ['acl-cifar10', { attack: { steps: 0 } }, 'attack.steps: expected at least 1'],
    ['advcl-ip-cifar10', { objective: { inferiorPositive: { adaptive: { warmupEpochs: 0 } } } }, 'objective.inferiorPositive.adaptive.warmupEpochs'],
    ['moco-cifar10', { queue: { size: 500 } }, 'queue.size: expected at least the batch size'],
    ['moco-cifar10', { batchSize: 15 }, 'batchSize: expected at least two images a group'],
    ['dynacl-cifar10', { annealing: { period: 0 } }, 'annealing.period'],
    ['simclr-cifar10', { attack: { steps: 1 } }, "attack: expected left out, since simclr has none, got 'attack'"],
  ] as const)('%s refuses %j', (preset, overrides, message) => {
    expect(() => resolveConfig(preset as PresetName, overrides as Overrides<PretrainConfig>)).toThrow(expect.objectContaining({ name: ArgumentRangeError.name, message: expect.stringContaining(message) }));
  });
});

describe('a run', () => {
  const { folder } = temporary();
  const small = {
    data: { name: 'procedural', procedural: { train: 20, test: 10, size: 8 } }, encoder: { architecture: 'resnet18', width: 2 }, projector: { hidden: [8], output: 4 },
    schedule: { kind: 'cosine', rate: 0.1, final: 0.01, warmupEpochs: 0, warmupFrom: 0 },
  };
  const runs: [PresetName, object][] = [
    ['simclr-cifar10', {}], ['supcon-cifar10', { objective: { hardNegative: { beta: 1, tauPlus: 0.1 } } }], ['moco-cifar10', { queue: { size: 12 }, groups: 2, projector: { hidden: [], output: 4 } }],
    ['acl-cifar10', { attack: { steps: 1 }, objective: { hardNegative: { beta: 1, tauPlus: 0.1 } } }], ['dynacl-air-cifar10', { attack: { steps: 1 }, annealing: { period: 1 } }],
  ];
  it('of supervised contrastive learning draws together what the labels of the data name alike', async () => {
    // Four shades of gray, each a class: with the labels that the images have, the rows of a class meet.
    const n = 32, shade = (i: number) => (i * 7) % 4;
    const split = (labels: (i: number) => number) =>
      Split.from({ pixels: Uint8Array.from({ length: n * 3 * 64 }, (_, at) => 30 + 60 * shade(Math.floor(at / 192)) + (at % 7)), labels: Array.from({ length: n }, (_, i) => labels(i)), channels: 3, size: 8 });
    const last = async (name: string, labels: (i: number) => number) => {
      const [train, test] = [split(labels), split(labels)];
      let loss = NaN;
      for await (const event of pretrain({
        preset: 'supcon-cifar10', out: join(folder, name), epochs: 5, batchSize: 16, data: { name, classes: ['0', '1', '2', '3'], channels: 3, size: 8, train, test, dispose() {}, [Symbol.dispose]() {} },
        overrides: { ...small, data: undefined, views: { resizedCrop: null, jitter: null, grayscale: null }, objective: { temperature: 0.5, scale: 1 } } as Overrides<PretrainConfig>,
      })) if (event.type === 'epoch') loss = event.loss;
      train.dispose();
      test.dispose();
      return loss;
    };
    const [right, wrong] = [await last('right', shade), await last('wrong', (i) => Math.floor(i / 4) % 4)];
    expect(right).toBeLessThan(wrong - 0.2);
  });

  it.each(runs)('of %s that is interrupted and resumed ends in the same bits', async (preset, changes) => {
    const { tensors: before } = await live();
    const options = (out: string): PretrainOptions =>
      ({ preset, out, epochs: 2, batchSize: 8, seed: 7, overrides: { ...small, ...changes } as Overrides<PretrainConfig>, checkpointEvery: { steps: 2 } });
    const [whole, broken] = ['whole', 'broken'].map((name) => join(folder, `${preset}-${name}`)) as [string, string];
    const told = steps(await all(options(whole)));
    expect(told.length).toBe(6);
    expect(told.every(({ loss, gradientNorm }) => Number.isFinite(loss) && gradientNorm > 0)).toBe(true);
    for await (const event of pretrain(options(broken))) if (event.type === 'step' && event.step === 3) break;
    expect(steps(await all({ out: broken, resume: true })).map(({ step }) => step)).toEqual([3, 4, 5, 6]);
    const files = ['encoder.safetensors', 'checkpoint-00000006.safetensors'];
    const [first, second] = [whole, broken].map((out) => files.map((name) => readFileSync(join(out, name))));
    expect(second![0]!.equals(first![0]!)).toBe(true);
    await scope(async () => {
      const [ours, theirs] = [await readSafetensors(join(whole, files[1]!)), await readSafetensors(join(broken, files[1]!))];
      expect([...theirs.tensors.keys()]).toEqual([...ours.tensors.keys()]);
      for (const [name, value] of ours.tensors) expect(aten.equal(value, theirs.tensors.get(name)!), name).toBe(true);
      if (preset === 'moco-cifar10') {
        expect([...ours.tensors.keys()].filter((name) => name.startsWith('method.keys.encoder.')).length).toBeGreaterThan(60);
        expect(JSON.parse(ours.metadata['a_infonce.run']!).method).toEqual({ pointer: 40 % 12 });
      }
    });
    using encoder = await Encoder.load(whole);
    using data = proceduralDataset({ train: 4, test: 4, size: 8 });
    scope(() => expect(encoder.forward(data.test.images()).shape).toEqual([4, 16]));
    encoder.dispose();
    data.dispose();
    expect(memory().tensors).toBe(before);
  });
});
