import { Classifier, Encoder, downloadDataset, evaluate, finetune, openDataset, pgd, pretrain, rand, tensor } from 'a-infonce';
import { expect, it } from 'vitest';

it('every long call names a signal that is none', async () => {
  const signal = 5 as unknown as AbortSignal;
  const encoder = Encoder.create({ width: 1 });
  const classifier = Classifier.create({ encoder, classes: 10 });
  using data = await openDataset('procedural', { procedural: { train: 10, test: 10, size: 8 } });
  const wrong = /options\.signal: expected an AbortSignal, got 5/;
  await expect(pgd(classifier, rand([1, 3, 8, 8]), tensor([1], { dtype: 'int64' }), { signal })).rejects.toThrow(wrong);
  await expect(evaluate(classifier, data.test, { signal })).rejects.toThrow(wrong);
  await expect(finetune(encoder, data, { mode: 'slf', signal })).rejects.toThrow(wrong);
  await expect(openDataset('procedural', { signal })).rejects.toThrow(wrong);
  await expect(downloadDataset('cifar10', { signal })).rejects.toThrow(wrong);
  expect(() => pretrain({ preset: 'quickstart', out: 'never', signal })).toThrow(wrong);
});
