/** What makes the results of attacks doubtful, seen before any of them. */
import { type AttackModel, predict } from '../model/predict.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';
import type { AttackSettings } from './named.js';
import { hasGradient } from './pgd.js';
import { type EvaluationData, agreeing, readSamples, select } from './samples.js';

const SAMPLES = 256;

/** What attacks use of a model. */
type Use = 'outputs' | 'gradients' | 'cross-entropy';

/** A reason to doubt attacks, as a sentence: those that use what it is of. @internal */
export interface Doubt {
  of: Use;
  sentence: string;
}

/** Every attack uses outputs, all but Square gradients, and some those of the cross-entropy. */
function usesOf(settings: AttackSettings): readonly Use[] {
  const ascends = settings.attack === 'apgd' ? settings.loss === 'ce' : ['pgd', 'fgsm', 'mim'].includes(settings.attack);
  return settings.attack === 'square' ? ['outputs'] : ascends ? ['outputs', 'gradients', 'cross-entropy'] : ['outputs', 'gradients'];
}

/** Those of the sentences that are of the attack. @internal */
export const warningsOf = (settings: AttackSettings, found: readonly Doubt[]): string[] =>
  found.filter(({ of }) => usesOf(settings).includes(of)).map(({ sentence }) => sentence);

/**
 * Each reason to doubt what these attacks find, as the authors of AutoAttack warn: outputs that vary from call to call, that are probabilities, or a
 * cross-entropy without a gradient for some of the samples that are right. Looks at the first samples, 256 at most, and only for what the attacks use. @internal
 */
export async function doubts(
  model: AttackModel, data: EvaluationData, attacks: readonly AttackSettings[], { limit, batchSize, signal }: { limit: number; batchSize: number; signal?: AbortSignal | undefined },
): Promise<Doubt[]> {
  const { aten } = ops, found: Doubt[] = [], how = { batchSize, signal }, uses = new Set(attacks.flatMap(usesOf));
  if (uses.size === 0 || limit === 0) return found;
  await scope(async () => {
    const { images, labels } = await readSamples(data, 0, Math.min(limit, SAMPLES));
    const { logits, predicted } = await predict(model, images, how), again = (await predict(model, images, how)).logits;
    const largest = (values: Tensor) => aten.max(aten.abs(values)).item();
    if (largest(aten.sub(logits, again)) > 1e-4 * largest(logits))
      found.push({ of: 'outputs', sentence: 'Two forward passes of the same images differ: of a randomised model the robust accuracy is overestimated.' });
    if (uses.has('gradients') && aten.min(logits).item() > -1e-5 && largest(aten.sub(aten.sum(logits, [1]), 1)) < 1e-5)
      found.push({ of: 'gradients', sentence: 'The outputs are probabilities: attack the logits, whose gradients do not vanish where the model is certain.' });
    const right = agreeing(predicted, labels), count = right.length;
    if (count === 0 || !uses.has('cross-entropy')) return;
    const gradient = await hasGradient(model, select(images, right), select(labels, right), batchSize, signal);
    const without = count - aten.sum(aten.any(aten.flatten(gradient, 1), 1)).item();
    if (without > 0)
      found.push({ of: 'cross-entropy', sentence: `The cross-entropy has no gradient at ${without} of ${count} images: attacks that ascend it (pgd, fgsm, mim, apgd-ce) do nothing there. Try the DLR loss (apgd-dlr).` });
  });
  return found;
}
