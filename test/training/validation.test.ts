import { Encoder, finetune, proceduralDataset } from 'a-infonce';
import { expect, test, vi } from 'vitest';
import { native } from '../../src/runtime/native.js';

test('fine-tuning, which measures after every epoch, looks for nothing to warn of', async () => {
  using data = proceduralDataset({ train: 40, test: 10, size: 8 });
  using encoder = Encoder.create({ width: 2 });
  using attack = vi.spyOn(native(), 'attack'), forward = vi.spyOn(native(), 'predict');
  using classifier = await finetune(encoder, data, { mode: 'alf', validation: 0.25, epochs: 2, batchSize: 10, overrides: { attack: { steps: 1 } } });
  expect(classifier.finetuning?.mode).toBe('alf');
  expect([attack.mock.calls.length, forward.mock.calls.length]).toEqual([2, 4]); // an epoch: the attack itself; clean and under it
});
