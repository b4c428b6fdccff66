import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Classifier, Encoder, readSafetensors, scope, tensor, type Tensor } from 'a-infonce';
import { job } from '../../src/runtime/job.js';
import { native } from '../../src/runtime/native.js';

/** Made by make_finetune_reference.py with PyTorch in float64. */
let tensors: Map<string, Tensor>;
beforeAll(async () => {
  ({ tensors } = await readSafetensors(fileURLToPath(new URL('../fixtures/training/finetune.safetensors', import.meta.url))));
});
afterAll(() => tensors.forEach((each) => each.dispose()));

const part = (prefix: string) => new Map([...tensors].filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]));
const given = (name: string) => tensors.get(`test.${name}`)!;

const EPSILON = 8 / 255, attack = { epsilon: EPSILON, stepSize: 2 / 255, steps: 20, randomStart: false };
const trades = { beta: 6, startNoise: 0.02, attack: { ...attack, steps: 10 } };

function make(): Classifier {
  using encoder = Encoder.create({ width: 2, branches: ['normal', 'pgd'] });
  const classifier = Classifier.create({ encoder, classes: 5, branch: 'pgd' });
  classifier.loadState(new Map([...tensors].filter(([name]) => /^(module|fc)\./.test(name))));
  return classifier;
}
type Inputs = { images?: Tensor; labels?: Tensor; samples?: Tensor };
function step(classifier: Classifier, method: 'linear' | 'trades', options: object, inputs: Inputs = {}, learningRate = 0.1) {
  const { images = given('images'), labels = given('labels'), samples = given('samples') } = inputs;
  const trainer = native().create_trainer(classifier.handle, { momentum: 0.9, weightDecay: learningRate === 0 ? 0 : 2e-4 }, method === 'linear' ? 'head.' : '');
  return job(() => native().training_step(trainer, method, { images: images.handle, labels: labels.handle, samples: samples.handle }, { ...options, seed: 5, learningRate }));
}
const values = (classifier: Classifier) => new Map([...classifier.state()].map(([name, value]) => [name, Array.from(value.toTypedArray(), Number)]));
const distance = (a: number[], b: number[]) => Math.hypot(...a.map((value, i) => value - b[i]!));

describe('a step of fine-tuning', () => {
  it.each([['alf', 'linear', { attack }], ['trades', 'trades', trades]] as const)('%s equals the reference: losses, gradients by the new weights, running statistics', async (name, method, options) => {
    await scope(async () => {
      using classifier = make();
      using expected = make();
      const before = values(classifier);
      const told = await step(classifier, method, options);
      for (const [key, value] of part(`test.${name}.`)) expect(told[key], key).toBeCloseTo(value.item(), 4);
      expected.loadState(new Map([...tensors].filter(([key]) => key.startsWith(`${name}.`)).map(([key, value]) => [key.slice(name.length + 1), value])), { strict: method === 'trades' });
      const [ours, theirs] = [values(classifier), values(expected)];
      for (const [key, value] of ours) {
        const moved = distance(theirs.get(key)!, before.get(key)!);
        const trained = method === 'trades' ? !key.includes('.normal.') : key.startsWith('head.');
        if (!trained) expect(value, key).toEqual(before.get(key));
        else {
          expect(moved, key).toBeGreaterThan(0);
          expect(distance(value, theirs.get(key)!), key).toBeLessThan(2e-3 * moved);
        }
      }
      expect(classifier.training).toBe(true);
    });
  });

  it('of a linear head without an attack is cross-entropy on the features', async () => {
    await scope(async () => {
      using classifier = make();
      const logits = classifier.eval().forward(given('images')).detach();
      const told = await step(classifier, 'linear', {});
      const rows = Array.from({ length: 6 }, (_, i) => Array.from(logits.toTypedArray() as Float32Array).slice(5 * i, 5 * i + 5));
      const wanted = Array.from(given('labels').toTypedArray(), Number);
      const loss = rows.reduce((sum, row, i) => sum + Math.log(row.reduce((all, value) => all + Math.exp(value), 0)) - row[wanted[i]!]!, 0) / 6;
      expect(told['loss']).toBeCloseTo(loss, 5);
      expect(told['accuracy']).toBeCloseTo(rows.filter((row, i) => row.indexOf(Math.max(...row)) === wanted[i]).length / 6, 12);
      expect(told).not.toHaveProperty('perturbation');
    });
  });

  it('of TRADES has the gradient that finite differences of its loss have', async () => {
    await scope(async () => {
      // Without attack steps the adversary is a constant, the image and its noise, and the loss a smooth function of the weights but for ReLU's corners.
      const options = { ...trades, startNoise: 0.2, attack: { ...attack, steps: 0 } };
      using moved = make();
      const rate = 1e-3;
      const before = values(moved);
      const trainer = native().create_trainer(moved.handle, { momentum: 0, weightDecay: 0 }, '');
      await job(() => native().training_step(trainer, 'trades', { images: given('images').handle, labels: given('labels').handle, samples: given('samples').handle }, { ...options, seed: 5, learningRate: rate }));
      const after = values(moved);
      const names = ['encoder.conv1.weight', 'encoder.bn1.pgd.weight', 'encoder.layer3.0.conv2.weight', 'head.weight', 'head.bias'];
      for (const name of names) {
        const gradient = before.get(name)!.map((value, i) => (value - after.get(name)![i]!) / rate), length = Math.hypot(...gradient);
        // Along the gradient of one tensor the slope is its length.
        const at = async (distance: number) => {
          using classifier = make();
          const target = classifier.state().get(name)!;
          using shifted = tensor(Float32Array.from(before.get(name)!, (value, i) => value + (distance * gradient[i]!) / length), { shape: [...target.shape] });
          classifier.loadState({ [name]: shifted }, { strict: false });
          return (await step(classifier, 'trades', options, {}, 0)).loss;
        };
        const h = 5e-4;
        expect(Math.abs(((await at(h)) - (await at(-h))) / (2 * h) - length), name).toBeLessThan(0.02 * length);
      }
    });
  });

  it("names the attack's noise by the sample, whatever the batch", async () => {
    await scope(async () => {
      const options = { ...trades, startNoise: 0.3, attack: { ...attack, steps: 0 } };
      const slice = (first: number, last: number): Inputs => {
        const take = <T extends Float32Array | BigInt64Array>(name: string, width: number) => (given(name).toTypedArray() as T).slice(first * width, last * width);
        return {
          images: tensor(take('images', 768), { shape: [last - first, 3, 16, 16] }), labels: tensor(take<BigInt64Array>('labels', 1)), samples: tensor(take<BigInt64Array>('samples', 1)),
        };
      };
      const perturbation = async (inputs: Inputs) => {
        using classifier = make();
        return (await step(classifier, 'trades', options, inputs))['perturbation']!;
      };
      const [whole, first, last] = [await perturbation({}), await perturbation(slice(0, 2)), await perturbation(slice(2, 6))];
      expect((2 * first + 4 * last) / 6).toBeCloseTo(whole, 6);
      expect(first).not.toBeCloseTo(last, 6);
    });
  });

  it('names what does not fit', async () => {
    await scope(async () => {
      using classifier = make();
      await expect(step(classifier, 'linear', {}, { labels: tensor(BigInt64Array.from([0, 1, 2, 3, 4, 5].map(BigInt))) })).rejects.toMatchObject({ argument: 'labels', expected: 'classes from 0 to 4', received: '0 to 5' });
      await expect(step(classifier, 'trades', trades, { labels: tensor(BigInt64Array.of(1n)) })).rejects.toMatchObject({ argument: 'labels', expected: 'int64 [6]' });
      await expect(step(classifier, 'trades', trades, { samples: tensor(BigInt64Array.of(1n)) })).rejects.toMatchObject({ argument: 'samples' });
    });
  });
});
