import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Classifier, Encoder, finetune, memory, ops, proceduralDataset, scope, tensor, type Dataset, type FinetuneOptions } from 'a-infonce';

let data: Dataset, encoder: Encoder;
beforeAll(() => {
  data = proceduralDataset({ train: 60, test: 10, size: 8 });
  encoder = Encoder.create({ width: 4, seed: 1 });
});
afterAll(() => {
  data.dispose();
  encoder.dispose();
});

const options = { mode: 'slf', epochs: 3, batchSize: 25 } as const satisfies FinetuneOptions;
const head = (classifier: Classifier) => ['head.weight', 'head.bias'].map((name) => Array.from(classifier.state().get(name)!.toTypedArray(), Number));

describe('finetune, mode slf', () => {
  it("is softmax regression on the encoder's features by the protocol's SGD", async () => {
    const { aten } = ops;
    await scope(async () => {
      // One batch an epoch: the order of the images does not matter, and the transcription needs none.
      const overrides = { schedule: { rate: 0.5, at: [2] } };
      const events: { loss: number; accuracy: number; learningRate: number }[] = [];
      using classifier = await finetune(encoder, data, { mode: 'slf', epochs: 4, batchSize: 60, overrides, onEpoch: (event) => events.push(event) });
      expect(classifier.training).toBe(false);
      using start = await finetune(encoder, data, { mode: 'slf', epochs: 1, batchSize: 60, overrides: { schedule: { rate: 1e-30 } } });
      const x = start.features(data.train.images()).detach(), labels = data.train.labels();
      let [w, b] = ['head.weight', 'head.bias'].map((name) => start.state().get(name)!.detach().clone()) as [ReturnType<typeof tensor>, ReturnType<typeof tensor>];
      let [vw, vb] = [ops.aten.zeros_like(w), ops.aten.zeros_like(b)];
      for (let epoch = 0; epoch < 4; epoch++) {
        const rate = epoch < 2 ? 0.5 : 0.05;
        w.requiresGrad = b.requiresGrad = true;
        const logits = aten.linear(x, w, b);
        const loss = aten.cross_entropy_loss(logits, labels);
        loss.backward();
        expect(events[epoch]!.loss).toBeCloseTo(loss.item(), 4);
        expect(events[epoch]!.accuracy).toBeCloseTo(aten.mean(aten.eq(aten.argmax(logits, 1), labels).to({ dtype: 'float32' })).item(), 6);
        expect(events[epoch]!.learningRate).toBeCloseTo(rate, 12);
        const move = (p: typeof w, v: typeof w) => {
          const value = p.detach(), momentum = aten.add(aten.mul(v, 0.9), aten.add(p.grad!, value, { alpha: 5e-4 }));
          return [aten.sub(value, aten.mul(momentum, rate)), momentum] as const;
        };
        [[w, vw], [b, vb]] = [move(w, vw).slice() as [typeof w, typeof w], move(b, vb).slice() as [typeof w, typeof w]];
      }
      const [weight, bias] = head(classifier);
      Array.from(w.toTypedArray(), Number).forEach((value, i) => expect(weight![i]).toBeCloseTo(value, 4));
      Array.from(b.toTypedArray(), Number).forEach((value, i) => expect(bias![i]).toBeCloseTo(value, 4));
    });
  });

  it('leaves the encoder as it was and repeats to the bit', async () => {
    const snapshot = () => scope(() => [...encoder.state().values()].map((value) => Array.from(value.toTypedArray(), Number)));
    const before = snapshot();
    const run = (seed: number) => scope(async () => {
      using classifier = await finetune(encoder, data, { ...options, seed });
      return head(classifier);
    });
    const first = await run(1);
    expect(await run(1)).toEqual(first);
    expect(await run(2)).not.toEqual(first);
    expect(snapshot()).toEqual(before);
    expect(encoder.training).toBe(false);
  });

  it('stops where it is told to and holds nothing', async () => {
    const controller = new AbortController();
    const before = memory().tensors;
    await expect(finetune(encoder, data, { ...options, onEpoch: 5 as never })).rejects.toThrow(/^onEpoch: expected a function, got 5/);
    const stopped = finetune(encoder, data, { ...options, epochs: 1000, signal: controller.signal, onEpoch: ({ epoch }) => epoch === 2 && controller.abort(new Error('enough')) });
    await expect(stopped).rejects.toThrow('enough');
    expect(memory().tensors).toBe(before);
  });

  it('names what is wrong', async () => {
    await expect(finetune(encoder, data, { mode: 'alf' as never })).rejects.toMatchObject({ argument: 'mode', expected: "one of 'slf'" });
    await expect(finetune(encoder, data, { ...options, epochs: 0 })).rejects.toMatchObject({ argument: 'epochs' });
    await expect(finetune(encoder, data, { ...options, overrides: { schedul: {} } as never })).rejects.toMatchObject({ argument: 'schedul' });
    await expect(finetune(encoder, data, { ...options, branch: 'pgd' })).rejects.toMatchObject({ argument: 'branch' });
    await expect(finetune({} as never, data, options)).rejects.toMatchObject({ argument: 'encoder' });
    await expect(finetune(encoder, {} as never, options)).rejects.toMatchObject({ argument: 'data' });
  });
});
