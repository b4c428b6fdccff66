/** What makes the results of attacks doubtful, seen before any of them. */
import { type AttackModel, predict } from '../model/predict.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';
import { hasGradient } from './pgd.js';
import { type EvaluationData, agreeing, readSamples, rowsOf } from './samples.js';

const SAMPLES = 256;

/**
 * A sentence for each reason to doubt what attacks along gradients find, as the authors of AutoAttack warn: outputs that vary from call to call, that are
 * probabilities, or without a gradient for some of the samples that are right. Looks at the first samples, 256 at most.
 */
export async function doubts(model: AttackModel, data: EvaluationData, limit: number, batchSize: number, signal?: AbortSignal): Promise<string[]> {
  const { aten } = ops, found: string[] = [], how = { batchSize, signal };
  await scope(async () => {
    const { images, labels } = await readSamples(data, 0, Math.min(limit, SAMPLES));
    const { logits, predicted } = await predict(model, images, how), again = (await predict(model, images, how)).logits;
    const largest = (values: Tensor) => aten.max(aten.abs(values)).item();
    if (largest(aten.sub(logits, again)) > 1e-4 * largest(logits)) found.push('Two forward passes of the same images differ: of a randomised model the robust accuracy is overestimated.');
    if (aten.min(logits).item() > -1e-5 && largest(aten.sub(aten.sum(logits, [1]), 1)) < 1e-5)
      found.push('The outputs are probabilities: attack the logits, whose gradients do not vanish where the model is certain.');
    const right = agreeing(predicted, labels), rows = rowsOf(right), count = right.length;
    if (count === 0) return;
    const gradient = await hasGradient(model, aten.index_select(images, 0, rows), aten.index_select(labels, 0, rows), batchSize, signal);
    const without = count - aten.sum(aten.any(aten.flatten(gradient, 1), 1)).item();
    if (without > 0) found.push(`The loss has no gradient at ${without} of ${count} images: attacks that follow gradients do nothing there.`);
  });
  return found;
}
