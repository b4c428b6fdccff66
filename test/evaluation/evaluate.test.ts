import { ArgumentRangeError, ArgumentTypeError, FileError, NonFiniteError, apgd, attack, evaluate, fab, fgsm, memory, mim, ops, pgd, predict, proceduralDataset, resolveConfig, scope, tensor, type AttackName, type EvaluateOptions, type EvaluationData, type EvaluationProgress, type Model, type Score, type Tensor } from 'a-infonce';
import { beforeAll, describe, expect, it } from 'vitest';
import { measureScores } from '../../src/evaluation/evaluate.js';
import { equal, functionNet, int64, loadNet, mislabelled } from '../attack/fixtures.js';
import { live } from '../fixtures/live.js';

const { aten } = ops;
const { images, wrongly, data } = mislabelled();
let net: Model;
beforeAll(async () => {
  net = await loadNet();
});

describe('evaluate', () => {
  it('counts what is right clean, and what stays right under the attack, and says with which settings', async () => {
    using adversaries = await pgd(net, images, wrongly, { steps: 5, epsilon: 0.02, stepSize: 0.005, seed: 4 });
    const right = (batch: Tensor) => aten.eq(aten.argmax(net.forward(batch), 1), wrongly).toTypedArray() as Uint8Array;
    const clean = right(images), attacked = right(adversaries);
    const robust = clean.filter((value, i) => value && attacked[i]).length;
    expect(robust).toBeGreaterThan(0);
    expect(robust).toBeLessThan(14);
    for (const batchSize of [256, 5]) for (const model of [net, functionNet(net)]) {
      const report = await evaluate(model, data, { attacks: ['clean', 'pgd5'], epsilon: 0.02, stepSize: 0.005, seed: 4, batchSize });
      expect(report).toEqual({
        clean: { accuracy: 14 / 16, correct: 14, total: 16, settings: { attack: 'clean', batchSize, limit: 16 } },
        pgd5: {
          accuracy: robust / 16, correct: robust, total: 16,
          settings: {
            attack: 'pgd', limit: 16, norm: 'linf', epsilon: 0.02, stepSize: 0.005, steps: 5, restarts: 1, randomStart: true, clampStart: true,
            clampThenProject: false, momentum: 0, earlyStop: false, targeted: false, trainMode: false, graph: false, seed: 4, batchSize,
          },
        },
      });
    }
  });

  it('attack() makes the same adversaries by name, and refuses what the attack does not have', () => scope(async () => {
    const own = await pgd(net, images, wrongly, { steps: 3, epsilon: 0.02, seed: 4 });
    const { adversarial, settings } = await attack(net, images, wrongly, 'pgd3', { epsilon: 0.02, seed: 4 });
    expect(equal(adversarial, own)).toBe(true);
    expect(settings).toEqual({
      attack: 'pgd', norm: 'linf', epsilon: 0.02, stepSize: 0.005, steps: 3, restarts: 1, randomStart: true, clampStart: true, clampThenProject: false, momentum: 0, earlyStop: false,
      targeted: false, trainMode: false, graph: false, seed: 4, batchSize: 256,
    });
    await expect(attack(net, images, wrongly, 'fgsm', { restarts: 2 })).rejects.toMatchObject({ argument: 'options.restarts' });
    await expect(attack(net, images, wrongly, 'pgd' as 'fgsm')).rejects.toMatchObject({ argument: 'name' });
    await expect(attack(net, images, wrongly, 'pgd' as 'fgsm', { steps: 2 } as never)).rejects.toMatchObject({ argument: 'options.steps', expected: "left out, since the name of an attack has its steps in it, as 'pgd20'" });
    for (const name of ['fgsm', 'cw'] as const) await expect(attack(net, images, wrongly, name, { norm: 'l2', seed: -5 })).rejects.toMatchObject({ argument: 'options.seed' });
    expect((await attack(net, images, wrongly, 'fgsm', { seed: 5 })).settings).toMatchObject({ attack: 'fgsm', seed: 0 });
    const { predicted, logits } = await predict(net, images, { batchSize: 5 });
    expect(equal(predicted, aten.argmax(net.forward(images), 1) as Tensor)).toBe(true);
    expect(logits.shape).toEqual([16, 4]);
    await expect(predict(net, images, { batchSize: 0 })).rejects.toMatchObject({ argument: 'options.batchSize' });
  }));

  it('runs every attack that it names, each as its function does', async () => {
    const epsilon = 0.02, seed = 4;
    const by = {
      fgsm: () => fgsm(net, images, wrongly, { epsilon }),
      mim3: () => mim(net, images, wrongly, { epsilon, steps: 3 }),
      'apgd-ce': () => apgd(net, images, wrongly, { epsilon, seed }),
      'apgd-dlr': () => apgd(net, images, wrongly, { epsilon, seed, loss: 'dlr' }),
      'apgd-t': () => apgd(net, images, wrongly, { epsilon, seed, loss: 'dlr-targeted' }),
      'fab-t': () => fab(net, images, wrongly, { epsilon, seed }),
    };
    const scores = await evaluate(net, data, { attacks: Object.keys(by) as AttackName[], epsilon, seed, batchSize: 16 });
    for (const [name, attack] of Object.entries(by)) {
      using adversaries = await attack();
      const right = [images, adversaries].map((batch) => aten.eq(aten.argmax(net.forward(batch), 1), wrongly).toTypedArray() as Uint8Array) as [Uint8Array, Uint8Array];
      expect(scores[name as AttackName]!.correct, name).toBe(right[0].filter((value, i) => value && right[1][i]).length);
      expect(scores[name as AttackName]!.settings).toMatchObject({ norm: 'linf', epsilon, limit: 16, batchSize: 16 });
    }
    expect(Object.values(scores).map(({ settings }) => settings.attack)).toEqual(['fgsm', 'mim', 'apgd', 'apgd', 'apgd', 'fab']);
  });

  it('uses PGD-20 at 8/255 with steps of 2/255 unless told, and l2 with steps of a quarter', async () => {
    const { clean, pgd20 } = await evaluate(net, data);
    expect(clean.correct).toBe(14);
    expect(pgd20.settings).toMatchObject({ steps: 20, epsilon: 8 / 255, stepSize: 2 / 255, randomStart: true, norm: 'linf' });
    const { pgd1 } = await evaluate(net, data, { attacks: ['pgd1'], norm: 'l2', epsilon: 0.4 });
    expect(pgd1.settings).toMatchObject({ steps: 1, epsilon: 0.4, stepSize: 0.1, norm: 'l2' });
  });

  it('gives the clean accuracy for epsilon 0, also when the model was in train mode, and restores the mode', async () => {
    net.train();
    const before = net.state().get('1.running_mean')!.clone();
    const { clean, pgd3 } = await evaluate(net, data, { attacks: ['clean', 'pgd3'], epsilon: 0, batchSize: 7 });
    expect([clean.correct, pgd3.correct]).toEqual([14, 14]);
    expect(net.training).toBe(true);
    expect(equal(net.state().get('1.running_mean')!, before)).toBe(true);
    net.eval();
  });

  it('never finds more robust samples with a larger ball, more steps or restarts', async () => {
    const robust = async (steps: number, options: EvaluateOptions) => (await evaluate(net, data, { ...options, attacks: [`pgd${steps}`] }))[`pgd${steps}`]!.correct;
    const byRadius = [await robust(10, { epsilon: 0.01 }), await robust(10, { epsilon: 0.03 }), await robust(10, { epsilon: 0.1 })];
    expect(byRadius).toEqual([...byRadius].sort((a, b) => b - a));
    expect(byRadius[2]).toBeLessThan(byRadius[0]!);
    expect(await robust(3, { restarts: 4 })).toBeLessThanOrEqual(await robust(3, {}));
  });

  it('takes the first samples with a limit, and data that comes in promises', async () => {
    const seen: number[][] = [];
    const late: EvaluationData = { length: 16, images: async (start, end) => (seen.push([start, end]), data.images(start, end)), labels: async (start, end) => data.labels(start, end) };
    const { clean } = await evaluate(net, late, { attacks: ['clean'], limit: 9, batchSize: 4 });
    expect([clean.total, clean.correct, clean.settings.limit]).toEqual([9, 8, 9]);
    expect(seen).toEqual([[0, 4], [4, 8], [8, 9]]);
  });

  it('reports progress, stops when aborted, and leaves nothing behind', async () => {
    const seen: EvaluationProgress[] = [];
    await evaluate(net, data, { attacks: ['clean', 'pgd2'], batchSize: 8, onProgress: (progress) => seen.push(progress) });
    expect(seen.filter(({ attack }) => attack === 'clean').map(({ done }) => done)).toEqual([8, 16]);
    expect(seen.filter(({ attack }) => attack === 'pgd2').map(({ done }) => done)).toEqual([4, 8, 12, 16]);
    const controller = new AbortController(), reason = new Error('enough');
    setTimeout(() => controller.abort(reason), 30);
    await expect(evaluate(net, data, { attacks: ['pgd99999'], signal: controller.signal })).rejects.toBe(reason);
    const before = await live();
    for (let i = 0; i < 20; ++i) await evaluate(net, data, { attacks: ['clean', 'pgd2'] });
    expect(memory()).toEqual(before);
  });

  it('gives each score once it is there, so that what ends it loses none; pgd may have values of its own', async () => {
    const kept: [string, Score][] = [], controller = new AbortController(), reason = new Error('enough');
    const running = evaluate(net, data, {
      attacks: ['pgd2', 'clean', 'fgsm', 'pgd99999'], epsilon: 0.02, pgd: { epsilon: 0.01, stepSize: 0.004, randomStart: false }, signal: controller.signal,
      onScore: async (name, score) => { kept.push([name, score]); if (name === 'fgsm') controller.abort(reason); },
    });
    await expect(running).rejects.toBe(reason);
    expect(kept.map(([name]) => name)).toEqual(['clean', 'pgd2', 'fgsm']);
    expect(kept.map(([, { settings }]) => settings)).toMatchObject([{ limit: 16 }, { epsilon: 0.01, stepSize: 0.004, randomStart: false }, { epsilon: 0.02 }]);
    const whole = await evaluate(net, data, { attacks: ['pgd2', 'clean', 'fgsm'], epsilon: 0.02, pgd: { epsilon: 0.01, stepSize: 0.004, randomStart: false } });
    expect(Object.keys(whole)).toEqual(['pgd2', 'clean', 'fgsm']);
    expect(Object.fromEntries(kept)).toEqual(whole);
  });

  it('warns where attacks along gradients cannot be believed', () => scope(async () => {
    const plain = functionNet(net), stairs = (x: Tensor) => aten.add(plain(aten.div(aten.round(aten.mul(x, 64)), 64)), aten.mul(aten.sum(aten.flatten(x, 1), [1], true), 0));
    const flat = [expect.stringMatching(/^The cross-entropy has no gradient at 14 of 14 images: .*apgd-dlr/)] as unknown as string[];
    const scores = await evaluate(stairs, data, { attacks: ['clean', 'pgd2', 'fgsm', 'mim1', 'apgd-ce', 'apgd-dlr', 'apgd-t', 'fab-t'], epsilon: 0.001 });
    expect(Object.entries(scores).map(([name, { warnings }]) => [name, warnings])).toEqual([
      ['clean', undefined], ['pgd2', flat], ['fgsm', flat], ['mim1', flat], ['apgd-ce', flat], ['apgd-dlr', undefined], ['apgd-t', undefined], ['fab-t', undefined],
    ]);
    expect((await measureScores(stairs, data, { attacks: ['pgd2'] }, false)).pgd2.warnings).toBeUndefined();
    const { pgd1 } = await evaluate((x: Tensor) => aten.softmax(plain(x), 1), data, { attacks: ['pgd1'] });
    expect(pgd1.warnings).toContainEqual(expect.stringContaining('probabilities'));
    const { square } = await evaluate((x: Tensor) => aten.softmax(plain(x), 1), data, { attacks: ['square'], limit: 1, epsilon: 0.5 });
    expect(square.warnings).toBeUndefined();
    let calls = 0;
    const dice = (x: Tensor) => aten.mul(plain(x), 1 + (calls++ % 2) / 100), differ = [expect.stringContaining('Two forward passes')];
    const random = await evaluate(dice, data, { attacks: ['clean', 'square', 'apgd-dlr'], limit: 1, epsilon: 0.5 });
    expect([random.clean.warnings, random.square.warnings, random['apgd-dlr'].warnings]).toEqual([undefined, differ, differ]);
    // attack() says the same.
    expect((await attack(stairs, images, wrongly, 'pgd1')).warnings).toEqual(flat);
    expect((await attack(stairs, images, wrongly, 'apgd-dlr', { epsilon: 0.001 })).warnings).toEqual([]);
  }));

  it('looks for what to warn of once, and not at all for those who measure again and again', async () => {
    const calls = async (attacks: readonly AttackName[], warn: boolean) => {
      let passes = 0;
      const plain = functionNet(net);
      await measureScores((x: Tensor) => { ++passes; return plain(x); }, data, { attacks, epsilon: 0.5, limit: 1 }, warn); // the first attack of AutoAttack ends it
      return passes;
    };
    const looking = await calls(['pgd1'], true) - await calls(['pgd1'], false);
    expect(looking).toBeGreaterThan(2);
    expect(await calls(['pgd1', 'apgd-ce', 'autoattack'], true) - await calls(['pgd1', 'apgd-ce', 'autoattack'], false)).toBe(looking);
    expect(await calls(['clean'], true)).toBe(1);
  });

  it('takes pgd as a run records it, and refuses before the first attack what AutoAttack or a graph would', async () => {
    const { steps: _, ...recorded } = resolveConfig('rocl-cifar10').evaluation.pgd20;
    const { pgd1 } = await evaluate(net, data, { attacks: ['pgd1'], pgd: recorded });
    expect(pgd1.settings).toMatchObject(recorded);
    const left = await evaluate(net, data, { attacks: ['pgd1'], epsilon: 0.02, stepSize: 0.01, pgd: { epsilon: undefined, stepSize: 0.004 } });
    expect(left.pgd1.settings).toMatchObject({ epsilon: 0.02, stepSize: 0.004 });
    const measured: string[] = [], onScore = (name: string) => { measured.push(name); };
    await expect(evaluate((x) => net.forward(x), data, { attacks: ['fgsm', 'pgd1'], graph: true, onScore })).rejects.toMatchObject({ argument: 'options.graph' });
    await expect(evaluate(net, data, { attacks: ['fgsm', 'pgd1'], graph: true, onScore })).rejects.toMatchObject({ argument: 'options.graph', expected: 'false on cpu (graphs are of CUDA devices)' });
    await expect(evaluate(net, data, { attacks: ['fgsm'], graph: true })).rejects.toMatchObject({ argument: 'options.graph', expected: "left out, since 'fgsm' has none" });
    await expect(evaluate(net, data, { attacks: ['clean', 'pgd1', 'autoattack'], state: '/nowhere/x', onScore })).rejects.toThrow(FileError);
    const three = (x: Tensor) => aten.slice(functionNet(net)(x), 1, 0, 3), zeros = { ...data, labels: (start: number, end: number) => int64(Array(end - start).fill(0)) };
    await expect(evaluate(three, zeros, { attacks: ['pgd1', 'autoattack'], onScore })).rejects.toThrow('at least 4 classes');
    expect(measured).toEqual([]);
  });

  it('refuses logits that are not numbers instead of counting them', async () => {
    const broken = (x: Tensor) => aten.mul(functionNet(net)(x), tensor([[1], [NaN]], { dtype: 'float64' }));
    await expect(evaluate(broken, { ...data, length: 2 }, { attacks: ['clean'] })).rejects.toThrow(NonFiniteError);
    await expect(evaluate(broken, { ...data, length: 2 }, { attacks: ['clean'] })).rejects.toThrow('sample 1');
  });

  it('names bad arguments', async () => {
    for (const name of ['pgd', 'mim', 'pgd0', 'cleen'])
      await expect(evaluate(net, data, { attacks: ['clean', name as 'pgd20'] })).rejects.toThrow(`options.attacks[1]: expected 'clean', 'autoattack', 'pgd<steps>' (as in 'pgd20', from 1 to 99999 steps), 'fgsm', 'mim<steps>', 'apgd-ce', 'apgd-dlr', 'apgd-t', 'fab-t', 'square' or 'cw', got '${name}'`);
    const fails = async (argument: string, type: typeof ArgumentRangeError | typeof ArgumentTypeError, options: unknown, from: unknown = data) => {
      const running = scope(() => evaluate(net, from as never, options as never));
      await expect(running).rejects.toBeInstanceOf(type);
      await expect(running).rejects.toMatchObject({ argument });
    };
    await fails('options.attacks[1]', ArgumentRangeError, { attacks: ['clean', 'fast'] });
    for (const name of ['pgd0', 'pgd1000000']) await fails('options.attacks[0]', ArgumentRangeError, { attacks: [name] });
    await fails('options.attacks[2]', ArgumentRangeError, { attacks: ['pgd2', 'clean', 'pgd2'] });
    await fails('options.seed', ArgumentRangeError, { attacks: ['fgsm'], seed: -5 });
    await fails('options.epsilon', ArgumentRangeError, { attacks: ['clean'], epsilon: -1 });
    for (const [option, value] of Object.entries({ stepSize: 0.01, restarts: 2, randomStart: false, graph: true }))
      await expect(evaluate(net, data, { attacks: ['clean'], [option]: value })).rejects.toMatchObject({ argument: `options.${option}`, expected: "left out, since 'clean' has none" });
    const steps = expect.stringContaining('the name of an attack has its steps in it') as string;
    await expect(evaluate(net, data, { attacks: ['pgd'], steps: 2 } as never)).rejects.toMatchObject({ argument: 'options.steps', expected: steps });
    await expect(evaluate(net, data, { attacks: ['pgd2'], pgd: resolveConfig('quickstart').evaluation.pgd20 })).rejects.toMatchObject({ argument: 'options.pgd.steps', expected: steps });
    await fails('options.pgd', ArgumentRangeError, { attacks: ['clean', 'fgsm'], pgd: { epsilon: 0.1 } });
    await fails('options.pgd.epsilon', ArgumentRangeError, { attacks: ['pgd1'], pgd: { epsilon: -1 } });
    await fails('options.pgd.stepSize', ArgumentTypeError, { attacks: ['pgd1'], pgd: { stepSize: '1' } });
    await fails('options.pgd.norm', ArgumentRangeError, { attacks: ['pgd1'], norm: 'l2', pgd: { norm: 'linf' } });
    await fails('options.attacks[0]', ArgumentTypeError, { attacks: [20] });
    await fails('options.attacks', ArgumentRangeError, { attacks: [] });
    await fails('options.attacks', ArgumentTypeError, { attacks: 'pgd20' });
    await fails('options.epsilon', ArgumentRangeError, { epsilon: -1 });
    await fails('options.limit', ArgumentRangeError, { limit: 0 });
    await fails('options.trainMode', ArgumentRangeError, { trainMode: true });
    await fails('data', ArgumentTypeError, {}, images);
    using whole = proceduralDataset({ train: 2, test: 2, size: 8 }), gone = whole.test.subset(1);
    gone.dispose();
    await expect(evaluate(net, whole as never)).rejects.toMatchObject({ argument: 'data', received: 'a whole Dataset (its splits are data.train and data.test)' });
    await expect(evaluate(net, gone)).rejects.toMatchObject({ argument: 'split', expected: 'a live Split' });
    await fails('data.labels', ArgumentRangeError, {}, { ...data, labels: (start: number, end: number) => data.labels(start, end - 1) });
    await fails('data.labels', ArgumentTypeError, {}, { ...data, labels: async (start: number, end: number) => (await data.labels(start, end)).to({ dtype: 'int32' }) });
    // Rows that are missing on both sides agree with each other.
    const short = { ...data, images: (start: number, end: number) => data.images(start, end - 1), labels: (start: number, end: number) => data.labels(start, end - 1) };
    await fails('data.images', ArgumentRangeError, {}, short);
    await fails('data.images', ArgumentTypeError, {}, { ...data, images: () => images.toArray() });
    for (const label of [-1, 4])
      for (const attacks of [['clean'], ['pgd1']])
        await fails('data.labels', ArgumentRangeError, { attacks, batchSize: 8 }, { ...data, labels: (start: number, end: number) => start === 0 ? data.labels(start, end) : int64(Array(end - start).fill(label)) });
    await fails('images', ArgumentRangeError, { attacks: ['clean'] }, { ...data, images: (start: number, end: number) => aten.mul(data.images(start, end) as Tensor, 255) });
  });
});
