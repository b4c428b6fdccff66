import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import {
  Classifier, Encoder, finetune, noGrad, ops, pretrain, proceduralDataset, scope, setInstructionSet, tensor, type FinetuneOptions, type Overrides, type PretrainConfig, type PretrainOptions, type Tensor,
} from 'a-infonce';
import { job } from '../../src/runtime/job.js';
import { native } from '../../src/runtime/native.js';
import { all, steps, temporary } from '../fixtures/runs.js';
import { initial, restoreSettings } from '../fixtures/settings.js';

const { fresh } = temporary();
const capable = /bf16/.test(initial.instructionSet);
type Precision = 'full' | 'bf16';

const n = 8, classes = [2, 5];
const images = (seed: number) =>
  tensor(Float32Array.from({ length: n * 3 * 64 }, (_, i) => Math.abs(Math.sin((i + 1) * 12.9898 + seed) * 43758.5453) % 1), { shape: [n, 3, 8, 8] });
const integers = (length: number, of: (i: number) => number) => tensor(BigInt64Array.from({ length }, (_, i) => BigInt(of(i))));
const attack = (steps: number) => ({ epsilon: 0.03, stepSize: 0.01, steps, randomStart: true, clampStart: true, clampThenProject: false });

/** A network for each method, what it learns from, and the options of a step whose attack has so many steps. */
const methods = {
  rocl: {
    make: (width: number) => Encoder.create({ width, projector: { hidden: [32], output: 16, batchNorm: false }, seed: 3 }),
    inputs: () => ({ view1: images(1), view2: images(2) }),
    options: (steps: number) => ({ groups: 1, regularizerWeight: 1 / 256, sharedForward: false, objective: { form: 'rocl', temperature: 0.5 }, attack: attack(steps) }),
  },
  advcl: {
    make: (width: number) => Encoder.create({ width, branches: ['normal', 'pgd', 'pgd_ce'], projector: { hidden: [32], output: 16 }, heads: classes, initialisation: 'kaiming', seed: 3 }),
    inputs: () => ({ aug1: images(1), aug2: images(2), org: images(3), labels: ops.aten.view(integers(2 * n, (i) => i % classes[Math.floor(i / n)]!), [2, n]) }),
    options: (steps: number) => ({ labelWeight: 0.2, highFrequencyRadius: 2, objective: { form: 'advcl', temperature: 0.5 }, attack: attack(steps) }),
  },
} as const;
type Method = keyof typeof methods;

const values = (encoder: Encoder) => new Map([...encoder.state()].map(([name, value]) => [name, Array.from(value.toTypedArray(), Number)]));
const dot = (a: number[], b: number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
const cosine = (a: number[], b: number[]) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
/** The numbers of so many steps on one batch, and how far every tensor has moved. */
async function learn(method: Method, width: number, precision: Precision | undefined, { count = 1, attackSteps = 0, learningRate = 0.05 } = {}) {
  return await scope(async () => {
    const { make, inputs, options } = methods[method];
    using encoder = make(width);
    const before = values(encoder), samples = integers(n, (i) => i);
    const trainer = native().create_trainer(encoder.handle, { momentum: 0.9, weightDecay: 1e-4 }, '', precision);
    const handles = Object.fromEntries(Object.entries({ ...inputs(), samples } as Record<string, Tensor>).map(([name, { handle }]) => [name, handle]));
    const told: { loss: number; gradientNorm: number }[] = [];
    for (let step = 0; step < count; step++) told.push(await job(() => native().training_step(trainer, method, handles, { ...options(attackSteps), seed: 1, learningRate })));
    const moved = new Map([...values(encoder)].map(([name, after]) => [name, after.map((x, i) => x - before.get(name)![i]!)]));
    return { told, moved, dtypes: new Set([...encoder.state().values()].map(({ dtype }) => dtype)), after: noGrad(() => encoder.forward(images(1)).toTypedArray()) };
  });
}

describe.runIf(capable)('a step in bf16', () => {
  it.each([['rocl', 16], ['rocl', 4], ['advcl', 16], ['advcl', 4]] as const)('%s of width %i: the loss within a hundredth of that in float32, the weights moved much the same way', async (method, width) => {
    const [full, bf16] = [await learn(method, width, 'full'), await learn(method, width, 'bf16')];
    const [one, other] = [full.told[0]!, bf16.told[0]!];
    expect(other.loss).not.toBe(one.loss);
    expect(Math.abs(other.loss / one.loss - 1)).toBeLessThan(0.01);
    expect(Math.abs(other.gradientNorm / one.gradientNorm - 1)).toBeLessThan(0.15);
    for (const [name, there] of bf16.moved) expect(cosine(there, full.moved.get(name)!), name).toBeGreaterThan(0.25);
    expect(cosine([...bf16.moved.values()].flat(), [...full.moved.values()].flat())).toBeGreaterThan(0.97);
    // Parameters and running statistics are as they were, and so is the network outside of a step.
    expect([...bf16.dtypes].sort()).toEqual([...full.dtypes].sort());
    expect(bf16.after).toBeInstanceOf(Float32Array);
  });

  it('running variances are unbiased, as in float32', async () => {
    const estimates = async (precision: Precision) => {
      const { moved } = await learn('advcl', 16, precision);
      const last = [...moved].filter(([name]) => /layer4.*running_var$/.test(name));
      expect(last.length).toBeGreaterThan(0);
      return last.flatMap(([, by]) => by.map((x) => x / 0.1 + 1));  // momentum .1, from 1
    };
    const [full, bf16] = [await estimates('full'), await estimates('bf16')], sum = (x: number[]) => x.reduce((a, b) => a + b, 0);
    // Eight images of one pixel at the end: over n in place of n - 1 the sum would be an eighth less.
    expect(sum(bf16) / sum(full)).toBeCloseTo(1, 1.5);
  });

  it.each(['rocl', 'advcl'] as const)('%s: learns, attack included, and repeats to the bit', async (method) => {
    const first = await learn(method, 16, 'bf16', { count: 5, attackSteps: 1 });
    expect(first.told.at(-1)!.loss).toBeLessThan(0.97 * first.told[0]!.loss);
    expect(await learn(method, 16, 'bf16', { count: 5, attackSteps: 1 })).toEqual(first);
  });

  it('left out it is full, and full is none of it', async () => {
    const full = await learn('rocl', 16, 'full', { attackSteps: 1 });
    expect(await learn('rocl', 16, undefined, { attackSteps: 1 })).toEqual(full);
    await learn('rocl', 16, 'bf16');
    expect(await learn('rocl', 16, 'full', { attackSteps: 1 })).toEqual(full);
  });

  it.each([16, 4])('in eval mode, where BatchNorm goes into the convolutions, of width %i: the loss within a hundredth', async (width) => {
    await scope(async () => {
      using encoder = Encoder.create({ width, seed: 3 });
      noGrad(() => {
        for (const [name, value] of encoder.state()) {
          const spread = Float32Array.from({ length: value.shape[0] ?? 1 }, (_, i) => Math.sin(7 * i + name.length));
          if (name.endsWith('running_mean') || name.endsWith('bias')) ops.aten.copy_(value, tensor(spread.map((x) => 0.3 * x)));
          else if (/running_var|bn\d?\.weight|downsample\.1\.weight/.test(name)) ops.aten.copy_(value, tensor(spread.map((x) => 1 + 0.5 * x)));
        }
      });
      const inputs = { images: images(1).handle, labels: integers(n, (i) => i % 3).handle, samples: integers(n, (i) => i).handle };
      const loss = async (precision: Precision) => {
        using classifier = Classifier.create({ encoder, classes: 3, seed: 5 });
        noGrad(() => ops.aten.mul_(classifier.state().get('head.weight')!, 10));
        const trainer = native().create_trainer(classifier.handle, { momentum: 0, weightDecay: 0 }, 'head.', precision);
        return (await job(() => native().training_step(trainer, 'linear', inputs, { seed: 1, learningRate: 0 }))).loss;
      };
      const [full, bf16] = [await loss('full'), await loss('bf16')];
      expect(bf16).not.toBe(full);
      expect(Math.abs(bf16 / full - 1)).toBeLessThan(0.01);
    });
  });

  it('ends with the step, also with one that fails', async () => {
    using encoder = methods.rocl.make(16);
    using view = images(1);
    using wrong = ops.aten.slice(view, 0, 0, 4);
    using samples = integers(n, (i) => i);
    const before = noGrad(() => encoder.eval().forward(view).toTypedArray());
    const trainer = native().create_trainer(encoder.handle, { momentum: 0, weightDecay: 0 }, '', 'bf16');
    const options = { ...methods.rocl.options(1), seed: 1, learningRate: 0.1 };
    await expect(job(() => native().training_step(trainer, 'rocl', { view1: view.handle, view2: wrong.handle, samples: samples.handle }, options))).rejects.toThrow('view2');
    expect(noGrad(() => encoder.forward(view).toTypedArray())).toEqual(before);
  });
});

const overrides: Overrides<PretrainConfig> = { data: { procedural: { train: 24, test: 10, size: 8 } }, encoder: { width: 2 }, projector: { hidden: [8], output: 4 }, attack: { steps: 1 }, precision: 'bf16' };
const run = (out: string, more: Partial<PretrainOptions> = {}): PretrainOptions => ({ preset: 'quickstart', out, epochs: 2, batchSize: 8, overrides, checkpointEvery: { steps: 2 }, ...more });
const weights = (out: string) => readFileSync(join(out, 'encoder.safetensors'));

describe.runIf(capable)('a run in bf16', () => {
  it('records it, is not the one in float32, and resumes to the same bits as what it was', async () => {
    const [whole, full, out] = [fresh(), fresh(), fresh()];
    const losses = steps(await all(run(whole))).map(({ loss }) => loss);
    expect(steps(await all(run(full, { overrides: { ...overrides, precision: null } }))).map(({ loss }) => loss)).not.toEqual(losses);
    expect(JSON.parse(readFileSync(join(whole, 'config.json'), 'utf8'))).toMatchObject({ precision: 'bf16' });
    const controller = new AbortController();
    await expect(all(run(out, { signal: controller.signal }), (event) => event.type === 'step' && event.step === 3 && controller.abort(new Error('enough')))).rejects.toThrow('enough');
    await expect(all(run(out, { resume: true, overrides: { ...overrides, precision: 'full' } }))).rejects.toMatchObject({ argument: 'precision', expected: expect.stringContaining('"bf16"') });
    await all({ out, resume: true });
    expect(weights(out)).toEqual(weights(whole));
  });

  it.each(['alf', 'aff'] as const)('%s: fine-tunes', async (mode) => {
    await scope(async () => {
      using encoder = methods.rocl.make(16);
      using data = proceduralDataset({ train: 24, test: 10, size: 8 });
      const weigh = async (precision: Precision) => {
        const attack = { steps: 1 };
        using classifier = await finetune(encoder, data, { mode, epochs: 1, batchSize: 12, overrides: { precision, ...(mode === 'alf' ? { attack } : { trades: { attack } }) } } as FinetuneOptions);
        expect(classifier.finetuning).toMatchObject({ config: { precision } });
        return Array.from(classifier.state().get('head.weight')!.toTypedArray(), Number);
      };
      const [full, bf16] = [await weigh('full'), await weigh('bf16')];
      expect(bf16).not.toEqual(full);
      expect(cosine(bf16, full)).toBeGreaterThan(0.95);
    });
  });
});

describe('where the processor has no products in bfloat16', () => {
  afterEach(restoreSettings);
  it('refuses before a folder is touched, naming the instruction set', async () => {
    setInstructionSet('portable');
    const refusal = { code: 'ERR_ARGUMENT_RANGE', argument: 'precision', received: "'bf16' (instruction set: portable)" };
    const [pretraining, finetuning] = [fresh(), fresh()];
    await expect(all(run(pretraining))).rejects.toMatchObject(refusal);
    using encoder = Encoder.create({ width: 2 });
    using data = proceduralDataset({ train: 24, test: 10, size: 8 });
    await expect(finetune(encoder, data, { mode: 'alf', out: finetuning, overrides: { precision: 'bf16' } })).rejects.toMatchObject(refusal);
    for (const out of [pretraining, finetuning]) expect(existsSync(join(out, 'config.json'))).toBe(false);
  });
});

it('knows two precisions, and none for a head on features of clean images', async () => {
  expect(() => pretrain(run(fresh(), { overrides: { precision: 'fp8' as never } }))).toThrow(expect.objectContaining({ argument: 'precision' }));
  using encoder = Encoder.create({ width: 2 });
  using data = proceduralDataset({ train: 24, test: 10, size: 8 });
  await expect(finetune(encoder, data, { mode: 'slf', overrides: { precision: 'bf16' } as never })).rejects.toMatchObject({ argument: 'precision', expected: 'a known key' });
  expect(() => native().create_trainer(encoder.handle, { momentum: 0, weightDecay: 0 }, '', 'fp8' as never)).toThrow(expect.objectContaining({ argument: 'precision', expected: "'full' or 'bf16'" }));
});
