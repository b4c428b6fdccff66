import { describe, expect, it } from 'vitest';
import { Encoder, noGrad, NonFiniteError, ops, rand, scope, tensor, type Tensor } from 'a-infonce';
import type { TrainerHandle } from '../../src/runtime/addon.js';
import { job } from '../../src/runtime/job.js';
import { native } from '../../src/runtime/native.js';

const { aten } = ops;
const epsilon = 0.0314, stepSize = 0.007, STEPS = 4;
const lars = { momentum: 0.9, weightDecay: 1e-6, lars: { trust: 1e-3, epsilon: 1e-8 } };

interface Variant { inferiorPositive?: { alpha: number; weight: number }; hardNegative?: { beta: number; tauPlus: number } }
/** `groups`: their sizes. */
interface Choices extends Variant { steps?: number; groups?: number[]; sharedForward?: boolean; regularizerWeight?: number; randomStart?: boolean; seed?: number; learningRate?: number }

function step(trainer: TrainerHandle, view1: Tensor, view2: Tensor, choices: Choices = {}) {
  const { inferiorPositive, hardNegative, steps = STEPS, groups = [view1.shape[0]!], sharedForward = false, regularizerWeight = 1 / 256, randomStart = false, seed = 0, learningRate = 1 } = choices;
  using samples = tensor(BigInt64Array.from({ length: view1.shape[0]! }, (_, i) => BigInt(i)));
  const options = {
    learningRate, seed, groups: groups.length, regularizerWeight, sharedForward,
    objective: { form: 'rocl', temperature: 0.5, inferiorPositive, hardNegative },
    attack: { epsilon, stepSize, steps, randomStart, clampStart: true, clampThenProject: true },
  };
  return job(() => native().training_step(trainer, 'rocl', { view1: view1.handle, view2: view2.handle, samples: samples.handle }, options));
}

const make = () => Encoder.create({ width: 4, projector: { hidden: [16], output: 8, batchNorm: false }, seed: 3 });
const images = (seed: number, n = 6) => {
  const values = Float32Array.from({ length: n * 3 * 64 }, (_, i) => Math.abs(Math.sin((i + 1) * 12.9898 + seed) * 43758.5453) % 1);
  return tensor(values, { shape: [n, 3, 8, 8] });
};

/** The released code's NT-Xent on [views * B, D], line by line; `pairs` are (row view, column view, weight). */
function ntXent(o: Tensor, views: number, pairs: [number, number, number][], hardNegative?: Variant['hardNegative']): Tensor {
  const n = o.shape[0]!, b = n / views;
  const z = aten.div(o, aten.add(aten.norm(o, 2, [1], true), 1e-8));
  const e = aten.exp(aten.div(aten.mm(z, aten.t(z.detach())), 0.5));
  const eye = aten.eye(n);
  let l: Tensor;
  if (hardNegative) {
    const { beta, tauPlus } = hardNegative;
    const same = aten.repeat(aten.eye(b), [views, views]);
    const negatives = aten.mul(e, aten.rsub(same, 1));
    const positives = aten.div(aten.sum(aten.mul(e, aten.sub(same, eye)), [1]), views - 1);
    const importance = aten.pow(aten.add(negatives, 1e-9), beta);
    const weighted = aten.div(aten.mul(importance, negatives), aten.mean(importance, [1]));  // divides column j by the mean of row j
    const count = (b - 1) * views;
    const raw = aten.div(aten.add(aten.sum(weighted, [1]), aten.mul(positives, -tauPlus * count)), 1 - tauPlus);
    l = aten.neg(aten.log(aten.div(e, aten.unsqueeze(aten.add(positives, aten.clamp_min(raw, count * Math.exp(-2))), 1))));
  } else {
    const off = aten.mul(e, aten.rsub(eye, 1));
    l = aten.neg(aten.log(aten.add(aten.div(off, aten.add(aten.sum(off, [1], true), 1e-8)), 1e-8)));
  }
  const terms = pairs.map(([r, c, weight]) => aten.mul(aten.sum(aten.diagonal(aten.slice(aten.slice(l, 0, r * b, (r + 1) * b), 1, c * b, (c + 1) * b))), weight));
  return aten.div(terms.reduce((sum, term) => aten.add(sum, term)), n);
}

/** One step as the released training loop takes it, on operators and autograd alone. */
function transcription(encoder: Encoder, view1: Tensor, view2: Tensor, { inferiorPositive, hardNegative, sharedForward, groups = [view1.shape[0]!] }: Choices) {
  const batch = view1.shape[0]!;
  const project = (x: Tensor) => encoder.forward(x, { output: 'projection' });
  const parameters = [...encoder.state()].filter(([, value]) => value.requiresGrad);
  const pair = (adversary: Tensor, clean: Tensor) => {
    let start = 0;
    const losses = groups.map((size) => {
      const rows = [adversary, clean].map((x) => aten.slice(x, 0, start, start + size));
      start += size;
      return ntXent(aten.cat(rows), 2, [[0, 1, 1], [1, 0, 1]]);
    });
    return aten.div(losses.reduce((sum, loss) => aten.add(sum, loss)), groups.length);
  };
  encoder.eval();
  const target = noGrad(() => project(view2));
  let x = view1.clone();
  for (let i = 0; i < STEPS; i++) {
    x = x.detach();
    x.requiresGrad = true;
    pair(project(x), target).backward();
    const moved = aten.clamp(aten.add(x.detach(), aten.mul(aten.sign(x.grad!), stepSize)), 0, 1);
    x = aten.max(aten.min(moved, aten.add(view1, epsilon)), aten.sub(view1, epsilon));
  }
  for (const [, parameter] of parameters) parameter.grad = null;
  encoder.train();
  let regularizer: Tensor | undefined;
  if (!sharedForward) {
    const o = project(aten.cat([x, view2]));
    regularizer = pair(aten.slice(o, 0, 0, batch), aten.slice(o, 0, batch));
  }
  const o = project(aten.cat([view1, view2, x]));
  if (sharedForward) regularizer = pair(aten.slice(o, 0, 2 * batch), aten.slice(o, 0, batch, 2 * batch));
  const { alpha, weight } = inferiorPositive ?? { alpha: 1, weight: 1 };
  const toClean = inferiorPositive ? weight * alpha : 1, toAdversary = inferiorPositive ? weight * (1 - alpha) : 1;
  const contrastive = ntXent(o, 3, [[0, 1, 1], [1, 0, 1], [0, 2, toClean], [1, 2, toClean], [2, 0, toAdversary], [2, 1, toAdversary]], hardNegative);
  const loss = aten.add(contrastive, regularizer!, { alpha: 1 / 256 });
  loss.backward();
  noGrad(() => {
    for (const [, w] of parameters) {
      const g = w.grad!;
      const [weights, gradients] = [aten.norm(w).item(), aten.norm(g).item()];
      const q = weights > 0 && gradients > 0 ? (1e-3 * weights) / (gradients + 1e-6 * weights + 1e-8) : 1;
      aten.sub_(w, aten.mul(aten.add(g, w, { alpha: 1e-6 }), q));
      w.grad = null;
    }
  });
  const perturbation = aten.mean(aten.abs(aten.sub(x, view1))).item() / epsilon;
  return { loss: loss.item(), contrastive: contrastive.item(), regularizer: regularizer!.item(), perturbation };
}

const state = (encoder: Encoder) => Object.fromEntries([...encoder.state()].map(([name, value]) => [name, Array.from(value.toTypedArray(), Number)]));
const distance = (a: number[], b: number[]) => Math.hypot(...a.map((value, i) => value - b[i]!));

describe('a step of RoCL', () => {
  const inferiorPositive = { alpha: 0.2, weight: 1.3 }, hardNegative = { beta: 1, tauPlus: 0.1 };
  const variants: [string, Choices][] = [
    ['plain', {}], ['IP', { inferiorPositive }], ['HN', { hardNegative }], ['IP+HN', { inferiorPositive, hardNegative }],
    ['IP+HN with one forward', { inferiorPositive, hardNegative, sharedForward: true }], ['plain in two groups', { groups: [3, 3] }],
    ['plain in three groups of seven', { groups: [3, 2, 2] }], ['IP+HN in four groups of nine', { inferiorPositive, hardNegative, groups: [3, 2, 2, 2] }],
  ];
  it.each(variants)('%s equals its transcription: adversary, loss, weights, running statistics', async (_, choices) => {
    await scope(async () => {
      using encoder = make();
      using copy = encoder.clone();
      const n = choices.groups?.reduce((sum, size) => sum + size);
      const [view1, view2] = [images(1, n), images(2, n)];
      const before = state(encoder);
      const values = await step(native().create_trainer(encoder.handle, lars, ''), view1, view2, choices);
      const expected = transcription(copy, view1, view2, choices);
      expect(values.loss).toBeCloseTo(expected.loss, 4);
      expect(values.contrastive).toBeCloseTo(expected.contrastive, 4);
      expect(values.regularizer).toBeCloseTo(expected.regularizer, 4);
      expect(values.perturbation).toBeCloseTo(expected.perturbation, 4);
      expect(encoder.training).toBe(true);
      const [ours, theirs] = [state(encoder), state(copy)];
      for (const [name, value] of Object.entries(ours)) {
        const moved = distance(theirs[name]!, before[name]!);
        // Every tensor moved, and ours is where theirs is to a small part of the way.
        expect(moved, name).toBeGreaterThan(0);
        expect(distance(value, theirs[name]!), name).toBeLessThan(0.01 * moved + 1e-6);
      }
    });
  });

  it('starts the attack from (seed, sample), and repeats to the bit', async () => {
    await scope(async () => {
      const [view1, view2] = [images(1), images(2)];
      const run = async (seed: number) => {
        using encoder = make();
        const trainer = native().create_trainer(encoder.handle, lars, '');
        const values = await step(trainer, view1, view2, { randomStart: true, seed, steps: 2 });
        return { values, state: state(encoder) };
      };
      const first = await run(5);
      expect(await run(5)).toEqual(first);
      expect((await run(6)).values.perturbation).not.toBe(first.values.perturbation);
    });
  });

  it('leaves everything as it was when a loss or a gradient is not finite', async () => {
    await scope(async () => {
      using encoder = make();
      const trainer = native().create_trainer(encoder.handle, lars, '');
      await step(trainer, images(1), images(2), { steps: 1 });
      // An infinite weight: the first projection is infinite, its row of the loss NaN.
      const weight = encoder.state().get('projector.2.weight')!;
      noGrad(() => aten.fill_(aten.select(weight, 0, 0), Infinity));
      const before = state(encoder), momentum = native().to_data(Object.values(native().trainer_state(trainer)));
      await expect(step(trainer, images(1), images(2), { steps: 0 })).rejects.toThrow(NonFiniteError);
      expect(state(encoder)).toEqual(before);
      expect(native().to_data(Object.values(native().trainer_state(trainer)))).toEqual(momentum);
      expect(encoder.training).toBe(true);
    });
  });

  it('leaves everything as it was when it is cancelled', async () => {
    await scope(async () => {
      using encoder = make();
      const trainer = native().create_trainer(encoder.handle, lars, '');
      const before = state(encoder);
      using samples = tensor(BigInt64Array.of(0n, 1n, 2n, 3n, 4n, 5n));
      const options = {
        learningRate: 1, seed: 0, groups: 1, regularizerWeight: 0, sharedForward: true, objective: { form: 'rocl', temperature: 0.5 },
        attack: { epsilon, stepSize, steps: 100_000, randomStart: true, clampStart: true, clampThenProject: true },
      };
      const running = native().training_step(trainer, 'rocl', { view1: images(1).handle, view2: images(2).handle, samples: samples.handle }, options);
      // The trainer is taken: a second step is refused, at once.
      await expect(step(trainer, images(1), images(2))).rejects.toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: 'trainer' }));
      setTimeout(() => running.cancel(), 30);
      await expect(running.promise).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
      expect(state(encoder)).toEqual(before);
      await step(trainer, images(1), images(2), { steps: 1 });
      expect(state(encoder)).not.toEqual(before);
    });
  });

  it('refuses views that do not fit together, and groups of a single image', async () => {
    using encoder = make();
    const trainer = native().create_trainer(encoder.handle, lars, '');
    using view = images(1);
    using other = rand([4, 3, 8, 8]);
    await expect(step(trainer, view, other, { steps: 1 })).rejects.toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: 'view2' }));
    using seven = images(1, 7);
    await expect(step(trainer, seven, seven, { groups: [2, 2, 2, 1] })).rejects.toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: 'groups' }));
  });
});
