import { Encoder, finetune, proceduralDataset } from 'a-infonce';
import { expect, test, vi } from 'vitest';
import { doubts } from '../../src/attack/doubts.js';

vi.mock('../../src/attack/doubts.js', { spy: true });

test('fine-tuning, which measures after every epoch, looks for nothing to warn of', async () => {
  using data = proceduralDataset({ train: 40, test: 10, size: 8 });
  using encoder = Encoder.create({ width: 2 });
  using classifier = await finetune(encoder, data, { mode: 'alf', validation: 0.25, epochs: 2, batchSize: 10, overrides: { attack: { steps: 1 } } });
  expect(classifier.finetuning?.mode).toBe('alf');
  expect(doubts).not.toHaveBeenCalled();
});
