import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import * as api from 'a-infonce';
import { Encoder, noGrad, ops, Optimizer, readSafetensors, scope, tensor, type Tensor } from 'a-infonce';
import { job } from '../../src/runtime/job.js';
import { native } from '../../src/runtime/native.js';
import { advclStepByStep, type AdvclBatch, type AdvclStepOptions } from './advcl-step-by-step.mjs';

const { aten } = ops;
const sgd = { momentum: 0.9, weightDecay: 1e-4 };
const classes = [2, 10, 50];
const attack = { epsilon: 8 / 255, stepSize: 2 / 255, steps: 3, randomStart: true, clampStart: false, clampThenProject: false };
const base: AdvclStepOptions = { learningRate: 0.5, seed: 5, labelWeight: 0.2, highFrequencyRadius: 4, attack, objective: { form: 'advcl', temperature: 0.5 } };

const create = (width = 2) => Encoder.create({ width, branches: ['normal', 'pgd', 'pgd_ce'], projector: { hidden: [5], output: 6 }, heads: classes, initialisation: 'kaiming', seed: 4 });
const names = (values: object) => Object.fromEntries(Object.entries(values).map(([name, value]) => [name, (value as Tensor).handle]));

function step(encoder: Encoder, batch: Partial<AdvclBatch>, options: AdvclStepOptions, trainer = native().create_trainer(encoder.handle, sgd, '')) {
  return job(() => native().training_step(trainer, 'advcl', names(batch), { ...options }));
}

const images = (seed: number, n = 6, size = 8) =>
  tensor(Float32Array.from({ length: n * 3 * size * size }, (_, i) => Math.abs(Math.sin((i + 1) * 12.9898 + seed) * 43758.5453) % 1), { shape: [n, 3, size, size] });
const labels = (n = 6) => tensor(BigInt64Array.from({ length: classes.length * n }, (_, i) => BigInt((i * 7) % classes[Math.floor(i / n)]!)), { shape: [classes.length, n] });
const samples = (n = 6) => tensor(BigInt64Array.from({ length: n }, (_, i) => BigInt(3 * i + 1)));
const batchOf = (n = 6): AdvclBatch => ({ aug1: images(1, n), aug2: images(2, n), org: images(3, n), labels: labels(n), samples: samples(n) });
const bytes = (value: Tensor) => Buffer.from(value.detach().toTypedArray().slice().buffer).toString('hex');

const inferiorPositive = { alpha: 0.2, weight: 1.2 }, hardNegative = { beta: 1, tauPlus: 0.12 };
const variants: [string, Partial<AdvclStepOptions>][] = [
  ['plain', {}],
  ['IP, in the warm-up', { objective: { ...base.objective, inferiorPositive }, adaptive: { dMin: 0.4 } }],
  ['IP, between d_min and d_max', { objective: { ...base.objective, inferiorPositive }, adaptive: { dMin: 0.001, dMax: 100 } }],
  ['HN', { objective: { ...base.objective, hardNegative } }],
  ['IP+HN, below d_min', { objective: { ...base.objective, inferiorPositive, hardNegative }, adaptive: { dMin: 100, dMax: 200 } }],
  ['IP+HN in the form of the paper', { objective: { ...base.objective, form: 'paper', inferiorPositive, hardNegative } }],
];

describe('a step of AdvCL', () => {
  it.each(variants)('%s: is the one that runs the clean views again with every attack step, in adversaries, loss and running statistics to the bit', async (_, choices) => {
    await scope(async () => {
      using encoder = create(16);   // channels last
      using copy = encoder.clone();
      const options = { ...base, attack: { ...attack, steps: 2 }, ...choices }, batch = batchOf();
      const trainer = native().create_trainer(encoder.handle, sgd, '');
      const optimizer = new Optimizer(Object.fromEntries([...copy.state()].filter(([, value]) => value.requiresGrad)), sgd);
      const { gradientNorm, perturbation, ...values } = await step(encoder, batch, options, trainer);
      const { adversaries, ...expected } = advclStepByStep(api, copy, optimizer, batch, options);
      expect(values).toEqual(Object.fromEntries(Object.entries(expected).filter(([, value]) => value !== undefined)));
      expect(perturbation).toBe(aten.mean(aten.abs(aten.sub(adversaries[0], batch.org))).item() as number / attack.epsilon);
      const [own, theirs] = [encoder.state(), copy.state()];
      for (const [name, value] of own) {
        const other = theirs.get(name)!;
        // The running statistics of the branches pgd and pgd_ce are those of the adversaries; the gradients of the five forwards of a weight are summed in another order.
        if (/running|tracked/.test(name)) expect(bytes(value), name).toBe(bytes(other));
        else expect(aten.linalg_vector_norm(aten.sub(value, other)).item(), name).toBeLessThan(1e-5 * (aten.linalg_vector_norm(other).item() as number));
      }
      const tracked = (name: string) => own.get(`${name}.num_batches_tracked`)!.item();
      const clean = options.adaptive ? 11 : 9;   // three views of three forwards each; image and adversary for the distance
      expect([tracked('encoder.bn1.normal'), tracked('encoder.bn1.pgd'), tracked('encoder.bn1.pgd_ce'), tracked('projector.1')]).toEqual([clean, 3, 3, 15]);
    });
  });

  // The reference is float64, so that a step in float32 is where it is only to a part of the way it went.
  it.each(['base', 'ip', 'hn', 'iphn'])('%s is that of PyTorch in float64', async (variant) => {
    await scope(async () => {
      const stored = await readSafetensors(fileURLToPath(new URL('../fixtures/advcl-step.safetensors', import.meta.url)));
      const network = await readSafetensors(fileURLToPath(new URL('../fixtures/model/advcl-resnet18.safetensors', import.meta.url)));
      const at = (name: string) => stored.tensors.get(name)!;
      const number = (name: string) => at(`${variant}.${name}`).item() as number;
      using encoder = create();
      encoder.loadState(new Map([...network.tensors].filter(([name]) => name.startsWith('module.'))), { strict: false });
      const heads = ['fc_002', 'fc_010', 'fc_050'];
      const own = encoder.state();
      noGrad(() => heads.forEach((head, i) => ['weight', 'bias'].forEach((part) => aten.copy_(own.get(`heads.${i}.${part}`)!, network.tensors.get(`module.${head}.${part}`)!))));
      const before = new Map([...own].map(([name, value]) => [name, value.detach().clone()]));

      const weights: Record<string, AdvclStepOptions['objective']> = {
        base: base.objective,
        ip: { ...base.objective, inferiorPositive: { alpha: 0.2, weight: 1.2 } },
        hn: { ...base.objective, hardNegative: { beta: 1, tauPlus: 0.12 } },
        iphn: { ...base.objective, inferiorPositive: { alpha: 0.2, weight: 0.7 }, hardNegative: { beta: 1, tauPlus: 0.1 } },
      };
      const options = { ...base, objective: weights[variant]!, attack: { ...attack, randomStart: false }, ...(variant === 'iphn' && { adaptive: { dMin: 0.01, dMax: number('d_max') } }) };
      const view = (name: string) => at(name).to({ dtype: 'float32' });
      const values = await step(encoder, { aug1: view('aug1'), aug2: view('aug2'), org: view('org'), labels: at('labels'), samples: samples(8) }, options);
      for (const name of ['loss', 'contrastive', 'crossEntropy', 'gradientNorm', ...(variant === 'iphn' ? ['distance', 'alpha'] : [])])
        expect(values[name]! / number(name), name).toBeCloseTo(1, 4);
      if (variant !== 'iphn') return;
      const after = Encoder.create({ ...encoder.config });
      const expected = new Map([...stored.tensors].filter(([name]) => name.startsWith('after.')).map(([name, value]) => [name.replace('after.', ''), value]));
      after.loadState(expected, { strict: false });
      const distance = (a: Tensor, b: Tensor) => aten.linalg_vector_norm(aten.sub(a.to({ dtype: 'float32' }), b)).item() as number;
      for (const [name, value] of encoder.state()) {
        const theirs = name.startsWith('heads.') ? expected.get(`${heads[Number(name[6])]}.${name.slice(8)}`)! : after.state().get(name)!;
        const moved = distance(before.get(name)!, theirs);
        expect(moved, name).toBeGreaterThan(0);
        expect(distance(value, theirs), name).toBeLessThan(0.01 * moved + 1e-6);
      }
    });
  });

  it('without labels learns from the contrastive loss alone', async () => {
    await scope(async () => {
      using encoder = create();
      const { labels: _, ...batch } = batchOf();
      const values = await step(encoder, batch, { ...base, labelWeight: 0 });
      expect(values['crossEntropy']).toBeUndefined();
      expect(values.loss).toBe(values['contrastive']);
      const state = encoder.state();
      expect(state.get('encoder.bn1.pgd_ce.num_batches_tracked')!.item()).toBe(0);
      expect(state.get('projector.1.num_batches_tracked')!.item()).toBe(16);
    });
  });

  it('starts each adversary of an image from a stream of its own', async () => {
    await scope(async () => {
      using encoder = create();
      const run = async (options: AdvclStepOptions) => {
        using copy = encoder.clone();
        return (await step(copy, batchOf(), options)).loss;
      };
      const first = await run(base);
      expect(await run(base)).toBe(first);
      expect(await run({ ...base, seed: 6 })).not.toBe(first);
    });
  });

  it('refuses labels that the heads do not have, views that do not fit, a network without heads, by name', async () => {
    await scope(async () => {
      using encoder = create();
      using bare = Encoder.create({ width: 2, branches: ['normal', 'pgd', 'pgd_ce'], projector: { hidden: [5], output: 6 } });
      const batch = batchOf();
      const refused = (argument: string) => expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument });
      await expect(step(encoder, { ...batch, labels: aten.add(batch.labels, 2) }, base)).rejects.toThrow(refused('labels'));
      await expect(step(encoder, { ...batch, labels: labels(5) }, base)).rejects.toThrow(refused('labels'));
      await expect(step(encoder, { ...batch, aug2: images(2, 5) }, base)).rejects.toThrow(refused('aug2'));
      await expect(step(bare, batch, base)).rejects.toThrow(refused('network'));
      expect(encoder.state().get('encoder.bn1.normal.num_batches_tracked')!.item()).toBe(0);
    });
  });
});
