import {
  ArgumentRangeError, ArgumentTypeError, checkEvaluation, manualSeed, memory, ops, pgd, rand, tensor,
  type CheckEvaluationOptions, type EvaluationCheckName, type EvaluationData, type Model, type Tensor,
} from 'a-infonce';
import { beforeAll, describe, expect, it } from 'vitest';
import { functionNet, int64, loadNet, reference } from '../attack/fixtures.js';
import { live } from '../fixtures/live.js';

const { aten } = ops;
const { images, labels } = reference();
const dataOf = (x: Tensor, y: Tensor): EvaluationData => ({
  length: x.shape[0]!, images: (start, end) => aten.slice(x, 0, start, end).clone(), labels: (start, end) => aten.slice(y, 0, start, end).clone(),
});
const data = dataOf(images, labels);
// Radius 0.05 leaves some of the sixteen images standing.
const options: CheckEvaluationOptions = { epsilon: 0.05, steps: 10, queries: 30 };
let net: Model, model: (x: Tensor) => Tensor;
beforeAll(async () => {
  net = await loadNet();
  model = functionNet(net);
});

/** The checks that fail. */
async function failing(attacked: Parameters<typeof checkEvaluation>[0], given: CheckEvaluationOptions = {}, on = data) {
  const { ok, checks } = await checkEvaluation(attacked, on, { ...options, ...given });
  const failed = checks.filter((each) => !each.ok);
  expect(ok).toBe(failed.length === 0);
  for (const { message } of checks) expect(message).toMatch(/^[A-Z0-9].*\.$|\?$/);
  return failed.map(({ check }) => check);
}
const state = (name: string) => net.state().get(name)!;
/** The network with BatchNorm as told, for images of another scale. */
const network = ({ batchStatistics = false, scale = 1 } = {}) => (x: Tensor) => {
  const maps = aten.conv2d(aten.mul(x, scale), state('0.weight'), state('0.bias'), 1, 1);
  const normal = aten.batch_norm(maps, state('1.weight'), state('1.bias'), state('1.running_mean').clone(), state('1.running_var').clone(), batchStatistics, 0.1, 1e-5, false);
  return aten.linear(aten.flatten(aten.avg_pool2d(aten.softplus(normal), [2, 2]), 1), state('5.weight'), state('5.bias')) as Tensor;
};

describe('checkEvaluation', () => {
  it('finds nothing wrong with a sound evaluation, and tells what it measured', async () => {
    for (const norm of ['linf', 'l2'] as const) for (const attacked of [net, model]) {
      const seen: EvaluationCheckName[] = [], epsilon = norm === 'linf' ? 0.05 : 0.5;
      const found = await checkEvaluation(attacked, data, { ...options, norm, epsilon, onProgress: ({ check }) => seen.push(check) });
      expect(found.checks.filter(({ ok }) => !ok)).toEqual([]);
      expect(found.ok).toBe(true);
      expect(found.checks.map(({ check }) => check)).toEqual([
        'data', 'range', 'logits', 'deterministic', 'batch', 'clean', 'sensitivity', 'gradients', 'epsilon-0', 'large-epsilon', 'epsilons', 'steps', 'noise', 'black-box', 'ball',
      ]);
      expect(seen).toEqual(found.checks.map(({ check }) => check));
      expect(found.settings).toEqual({ norm, epsilon, stepSize: epsilon / 4, steps: 10, queries: 30, limit: 100, seed: 0, batchSize: 256 });
      const numbers = new Map(found.checks.map((each) => [each.check, each.numbers]));
      expect(numbers.get('clean')).toEqual({ right: 16, total: 16, accuracy: 1, chance: 0.25 });
      using adversaries = await pgd(net, images, labels, { norm, epsilon, steps: 10 });
      const fooled = aten.sum(aten.ne(aten.argmax(net.forward(adversaries), 1), labels)).item();
      expect(numbers.get('noise')).toMatchObject({ right: 16, fooledByAttack: fooled });
      expect(fooled).toBeGreaterThan(0);
    }
  });

  it('leaves no tensors behind, and the mode of the model as it was', async () => {
    net.train();
    await checkEvaluation(net, data, options);
    const { tensors: before } = await live();
    await checkEvaluation(net, data, options);
    expect(memory().tensors).toBe(before);
    expect(net.training).toBe(true);
    net.eval();
  });

  it('data: nothing loaded, one image over and over, one class', async () => {
    expect(await failing(net, {}, { ...data, length: 0 })).toEqual(['data']);
    const one = aten.repeat(aten.slice(images, 0, 0, 1), [16, 1, 1, 1]);
    expect(await failing(net, {}, dataOf(one, labels))).toEqual(['data']);
    const rows = int64([0, 4, 8, 12]);
    expect(await failing(net, {}, dataOf(aten.index_select(images, 0, rows), aten.index_select(labels, 0, rows)))).toContain('data');
  });

  it('range: pixels from 0 to 255, normalised, or divided twice', async () => {
    expect(await failing(model, {}, dataOf(aten.mul(images, 255), labels))).toEqual(['range']);
    expect(await failing(model, {}, dataOf(aten.sub(images, 0.5), labels))).toEqual(['range']);
    expect(await failing(network({ scale: 255 }), {}, dataOf(aten.div(images, 255), labels))).toContain('range');
  });

  it('logits: NaN, one value for all classes, one row for all images', async () => {
    expect(await failing((x) => aten.mul(model(x), NaN))).toEqual(['logits']);
    expect(await failing((x) => aten.mul(aten.slice(model(x), 1, 0, 1), aten.ones([1, 4], { dtype: 'float64' })))).toEqual(['logits']);
    expect(await failing((x) => aten.add(aten.mul(model(x), 0), tensor([[1, 2, 3, 4]], { dtype: 'float64' })))).toEqual(['logits']);
  });

  it('deterministic: noise in the model', async () => {
    manualSeed(1);
    const noisy = (x: Tensor) => { const logits = model(x); return aten.add(logits, aten.mul(rand(logits.shape as number[], { dtype: 'float64' }), 2)); };
    expect(await failing(noisy)).toContain('deterministic');
  });

  it('batch: BatchNorm with the statistics of the batch', async () => {
    const failed = await failing(network({ batchStatistics: true }));
    expect(failed).toContain('batch');
    expect(failed).not.toContain('deterministic');
  });

  it('clean: labels in another order', async () => {
    expect(await failing(net, {}, dataOf(images, aten.remainder(aten.add(labels, 1), 4)))).toEqual(['clean']);
  });

  it('sensitivity: noise that no eye sees changes everything, or no noise anything', async () => {
    const knowing = (x: Tensor, confidence: Tensor) => aten.add(aten.mul(model(x), 1e-9), aten.mul(aten.one_hot(nearest(x).labels, 4), confidence)) as Tensor;
    expect(await failing((x) => knowing(x, aten.view(aten.rsub(aten.mul(nearest(x).distance, 1e3), 9), [-1, 1])))).toContain('sensitivity');
    // It goes by the place in the batch.
    const deaf = (x: Tensor) => aten.add(aten.mul(model(x), 1e-9), aten.one_hot(aten.slice(labels, 0, 0, x.shape[0]!), 4));
    expect(await failing(deaf)).toEqual(expect.arrayContaining(['batch', 'sensitivity', 'large-epsilon']));
  });

  it('gradients: none, NaN, saturated logits, blind pixels', async () => {
    expect(await failing((x) => model(x).detach())).toEqual(['gradients']);
    const root = (x: Tensor) => aten.sqrt(aten.mul(aten.sum(aten.flatten(x, 1), [1], true), 0));
    expect(await failing((x) => aten.add(model(x), root(x)))).toEqual(['gradients']);
    expect(await failing((x) => aten.mul(model(x), 1e5))).toContain('gradients');
    expect(await failing((x) => model(aten.where(aten.gt(x, 0.6), x, x.detach())))).toContain('gradients');
  });

  it('gradients that mislead: the black-box attack, noise or fewer steps win', async () => {
    const mirrored = (x: Tensor) => model(aten.sub(aten.mul(x.detach(), 2), x));
    const failed = await failing(mirrored, { epsilon: 0.08, queries: 100 });
    expect(failed).toContain('black-box');
    expect(failed).not.toContain('gradients');
  });

  const attacking = (attack: NonNullable<CheckEvaluationOptions['attack']>, given: CheckEvaluationOptions = {}) => failing(net, { ...given, attack });
  const plain = (x: Tensor, y: Tensor, epsilon: number, steps: number) => pgd(net, x, y, { epsilon, steps, ...(steps === 1 && { randomStart: false, stepSize: epsilon || 1 }) });

  it('passes a sound attack of the user', async () => {
    expect(await attacking((x, y, { epsilon, steps }) => plain(x, y, epsilon, steps))).toEqual([]);
  });
  it('epsilon-0 and ball: a radius in other units', async () => {
    expect(await attacking((x, y, { epsilon, steps }) => plain(x, y, epsilon + 0.1, steps))).toEqual(expect.arrayContaining(['epsilon-0', 'ball']));
  });
  it('ball: adversaries outside of [0, 1]', async () => {
    expect(await attacking((x, _, { epsilon }) => aten.sub(x, epsilon))).toContain('ball');
  });
  it('large-epsilon: an attack that descends', async () => {
    const failed = await attacking((x, y, { epsilon, steps }) => pgd(net, x, y, { epsilon, steps, targeted: true }));
    expect(failed).toContain('large-epsilon');
  });
  it('epsilons: an attack that a larger ball stops', async () => {
    expect(await attacking((x, y, { epsilon, steps }) => plain(x, y, epsilon > 0.1 && epsilon < 0.3 ? 0 : epsilon, steps), { epsilon: 0.08 })).toEqual(['epsilons']);
  });
  it('steps: one step beats many', async () => {
    expect(await attacking((x, y, { epsilon, steps }) => plain(x, y, steps === 10 && epsilon < 0.2 ? 0 : epsilon, steps), { epsilon: 0.08 })).toContain('steps');
  });
  it('noise: noise beats the attack, or the perturbations of other images do', async () => {
    expect(await attacking((x, y, { epsilon, steps }) => (epsilon === 0.4 ? x.clone() : plain(x, y, epsilon, steps)), { epsilon: 0.4 })).toContain('noise');
    const exchanged = async (x: Tensor, y: Tensor, epsilon: number, steps: number) =>
      aten.clamp(aten.add(x, aten.roll(aten.sub(await plain(x, y, epsilon, steps), x), [-1], [0])), 0, 1) as Tensor;
    expect(await attacking((x, y, { epsilon, steps }) => exchanged(x, y, epsilon, steps), { epsilon: 0.08 })).toContain('noise');
  });

  it('names bad arguments, passes on what the attack throws, and stops on an abort', async () => {
    type Call = (model: unknown, data: unknown, options?: unknown) => Promise<unknown>;
    const call = checkEvaluation as Call;
    for (const [argument, given] of [['options.epsilon', { epsilon: 0 }], ['options.steps', { steps: 1 }], ['options.limit', { limit: 0 }], ['options.epsilon', { epsilon: 8 }]] as const)
      await expect(call(net, data, given)).rejects.toThrow(expect.objectContaining({ argument }));
    await expect(call(net, data, { attack: 3 })).rejects.toThrow(ArgumentTypeError);
    await expect(call(net, 3)).rejects.toThrow(ArgumentTypeError);
    await expect(call(net, data, { ...options, attack: () => images })).resolves.toMatchObject({ ok: false });
    await expect(call(net, data, { ...options, attack: (x: Tensor) => aten.slice(x, 0, 0, 3) })).rejects.toThrow(ArgumentRangeError);
    await expect(call(net, data, { ...options, attack: () => { throw new Error('mine'); } })).rejects.toThrow('mine');
    const controller = new AbortController();
    await expect(call(net, data, { ...options, signal: controller.signal, onProgress: ({ check }: { check: string }) => check === 'gradients' && controller.abort(new Error('enough')) })).rejects.toThrow('enough');
  });
});

/** The labels of the images that are nearest to these, and how far they are. */
function nearest(x: Tensor): { labels: Tensor; distance: Tensor } {
  const distances = aten.cdist(aten.flatten(x.detach(), 1), aten.flatten(images, 1));
  return { labels: aten.index_select(labels, 0, aten.argmin(distances, 1)), distance: aten.amin(distances, [1]) };
}
