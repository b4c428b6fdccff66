// What attacks do on a device with kernels of its own, which they wait for at the end alone: the emulated CUDA kernels take the place of the CPU's from `beforeAll` on.
import { readFileSync } from 'node:fs';
import { aInfoNCE, Classifier, Encoder, evaluate, loadTorchScript, manualSeed, noGrad, ops, pgd, predict, rand, randn, scope, tensor, type Model, type PgdOptions, type Tensor } from 'a-infonce';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadNet, reference } from '../attack/fixtures.js';
import { job } from '../../src/runtime/job.js';
import { native } from '../../src/runtime/native.js';
import { emulatedLibrary } from './build.js';

const { aten, a_infonce } = ops;
const emulator = () => (ops as unknown as { a_infonce_emulated: { set_capturing(capturing: boolean): void; fail_launch(x: Tensor, out_of_memory: boolean): void; recordings(): number } }).a_infonce_emulated;
manualSeed(3);
const net = await loadNet(), { images, labels } = reference(), views = rand(images.shape, { dtype: 'float64' });
const bits = async (run: () => Tensor | Promise<Tensor>) => scope(async () => Array.from((await run()).toTypedArray() as Float64Array));

/** An attack on the contrastive loss whose embeddings are NaN from a step on: its error, and how many steps were begun. */
async function spoilt(from: number, options: PgdOptions = {}) {
  let calls = -1; // the first embeds the positives
  const model = (x: Tensor) => scope(() => aten.mul(aten.flatten(x, 1), ++calls < from ? 1 : NaN));
  const error = await pgd(model, images, null, { objective: { contrastive: views }, epsilon: 0.1, steps: 5, ...options }).then(() => undefined, (reason: unknown) => reason as Error & { code: string });
  return { error, calls };
}
const trained = () => Encoder.create({ width: 4, projector: { hidden: [8], output: 8 }, seed: 1 });
/** The error of a step of RoCL with a temperature at which its loss has no precision left, and whether it left the weights alone. */
async function refusedStep() {
  using encoder = trained(), copy = trained();
  const trainer = native().create_trainer(encoder.handle, { momentum: 0.9, weightDecay: 0 }, '');
  const x = rand([8, 3, 8, 8]), samples = tensor(BigInt64Array.from({ length: 8 }, (_, i) => BigInt(i)));
  const step = () => native().training_step(trainer, 'rocl', { view1: x.handle, view2: rand([8, 3, 8, 8]).handle, samples: samples.handle }, {
    groups: 1, regularizerWeight: 0, sharedForward: false, objective: { temperature: 1e-9 }, learningRate: 0.1, seed: 1,
    attack: { epsilon: 0.03, stepSize: 0.01, steps: 2, randomStart: true, clampStart: true, clampThenProject: false },
  });
  const error = await job(step).then(() => undefined, (reason: unknown) => reason as Error & { argument: string });
  return { name: error?.name, argument: error?.argument, same: [...encoder.state()].every(([name, value]) => aten.equal(value, copy.state().get(name)!)), error };
}

let atOnce: Awaited<ReturnType<typeof spoilt>>, step: Awaited<ReturnType<typeof refusedStep>>, refused: unknown;
beforeAll(async () => {
  [atOnce, step] = [await spoilt(2), await refusedStep()];
  refused = await pgd(net, images, labels, { steps: 2, graph: true }).catch((error: unknown) => error);
  process.dlopen({ exports: {} }, emulatedLibrary);
});

describe('a loss of an attack that is not as it must be', () => {
  it('is an error at once where nothing is waited for', () => {
    expect(atOnce).toMatchObject({ error: { name: 'NonFiniteError', message: 'features: expected finite numbers, got NaN or infinity in row 0' }, calls: 2 });
  });
  it('is the same error once the steps are queued, and names the first such step', async () => {
    const { error, calls } = await spoilt(2);
    expect(error).toMatchObject({ name: 'NonFiniteError', message: 'features: expected finite rows, got one whose square is NaN or infinite (step 2 of the attack)' });
    expect(calls).toBe(5);
    expect((await spoilt(7, { restarts: 3 })).error).toMatchObject({ name: 'NonFiniteError', message: expect.stringContaining('(step 1 of the attack)') });
    expect((await spoilt(6, { restarts: 3 })).error).toMatchObject({ name: 'NonFiniteError', message: expect.stringContaining('(the end of the attack)') });
    expect((await spoilt(99)).error).toBeUndefined();
  });
  it('is an error of the step of training that holds the attack, which changes nothing', async () => {
    const found = await refusedStep();
    expect([found.name, found.argument, found.same]).toEqual(['ArgumentRangeError', 'options.temperature', true]);
    expect([found.name, found.argument, found.same]).toEqual([step.name, step.argument, step.same]);
  });
  it('called alone, is read at its end again', () => {
    scope(() => expect(() => aInfoNCE(aten.mul(randn([6, 4]), NaN), { views: 2 })).toThrow(/^features: expected finite numbers, got NaN or infinity in row 0$/));
  });
});

describe('steps by a graph', () => {
  it('are of a device', () => {
    expect(refused).toMatchObject({ code: 'ERR_ARGUMENT_RANGE', argument: 'options.graph', expected: 'false on cpu (graphs are of CUDA devices)' });
  });
  const cases: [string, () => Promise<Tensor>, () => Promise<Tensor>][] = ([
    ['linf', { steps: 6 }], ['l2, batches', { norm: 'l2', epsilon: 0.7, steps: 5, batchSize: 6 }], ['momentum', { momentum: 0.9, steps: 7, batchSize: 8 }], ['restarts', { restarts: 3, steps: 5 }],
    ['few steps', { steps: 3 }], ['one step', { steps: 1, batchSize: 8 }], ['no step', { steps: 0 }], ['targeted', { targeted: true, steps: 6, batchSize: 5 }],
  ] as [string, PgdOptions][]).map(([name, options]) => {
    const run = (graph: boolean) => pgd(net, images, labels, { epsilon: 0.1, seed: 3, ...options, graph });
    return [name, () => run(true), () => run(false)];
  });
  const contrastive = (graph: boolean) => pgd(net, images, null, { objective: { contrastive: views }, epsilon: 0.1, steps: 6, batchSize: 8, seed: 3, graph });
  it.each([...cases, ['contrastive, batches', () => contrastive(true), () => contrastive(false)] as (typeof cases)[number]])('%s: the same bits', async (_, by, without) => {
    expect(await bits(by)).toEqual(await bits(without));
  });
  it.each([['earlyStop'], ['trainMode']] as const)('are not for %s', async (option) => {
    await expect(pgd(net, images, labels, { steps: 2, graph: true, [option]: true })).rejects.toMatchObject({ code: 'ERR_ARGUMENT_RANGE', argument: 'options.graph' });
  });
  it('are not for a function', async () => {
    await expect(pgd((x) => net.forward(x), images, labels, { steps: 2, graph: true })).rejects.toMatchObject({ code: 'ERR_ARGUMENT_RANGE', argument: 'options.graph' });
  });
});

describe('steps that a model keeps', () => {
  const views2 = rand(images.shape, { dtype: 'float64' }), others = rand(images.shape, { dtype: 'float64' }), reversed = aten.flip(labels, [0]);
  const fresh = async () => (await loadTorchScript(readFileSync(new URL('../fixtures/attack/net.pt', import.meta.url)))).eval();
  const fixed = { epsilon: 0.1, steps: 5, batchSize: 8, seed: 3 } as const;
  /** How many graphs were recorded; each attack gives the bits of the one without. */
  async function recorded(...attacks: ((graph: boolean) => Promise<Tensor>)[]): Promise<number> {
    const before = emulator().recordings();
    for (const each of attacks) expect(await bits(() => each(true))).toEqual(await bits(() => each(false)));
    return emulator().recordings() - before;
  }
  const attackOf = (model: Model, options: PgdOptions = {}, x = images, y: Tensor | null = labels) => (graph: boolean) => pgd(model, x, y, { ...fixed, ...options, graph });

  it('are recorded once for the images, labels, starts and steps to come', async () => {
    using model = await fresh();
    const whole = images.shape[0]! % 8 === 0 ? 1 : 2;
    expect(await recorded(attackOf(model), attackOf(model, {}, others, reversed), attackOf(model, { seed: 8, steps: 9, randomStart: false }), attackOf(model, { restarts: 3, clampStart: false }, others))).toBe(whole);
    expect(await recorded(attackOf(model, { momentum: 0.9 }), attackOf(model, { momentum: 0.9, restarts: 2 }, others, reversed))).toBe(whole);
  });
  it('of a contrastive loss compare with the views of each call', async () => {
    using model = await fresh();
    const of = (views: Tensor, x: Tensor, temperature = 0.5) => attackOf(model, { batchSize: images.shape[0]!, objective: { contrastive: views, temperature } }, x, null);
    expect(await recorded(of(views, images), of(views2, images), of(views, others))).toBe(1);
    expect(await recorded(of(views2, others, 0.5000001))).toBe(1);
  });
  it('are others for other options of a step and other shapes', async () => {
    const first = aten.slice(images, 0, 0, 8), second = aten.slice(labels, 0, 0, 8);
    for (const options of [{ epsilon: 0.2 }, { stepSize: 0.01 }, { norm: 'l2' }, { targeted: true }, { momentum: 0.5 }, { norm: 'l2', clampThenProject: true }] as PgdOptions[]) {
      using model = await fresh();
      const of = (own: PgdOptions) => attackOf(model, own, first, second);
      expect(await recorded(of({}), of(options), of({}), of(options)), JSON.stringify(options)).toBe(2);
    }
    using model = await fresh();
    const of = (size: number) => attackOf(model, {}, aten.slice(images, 0, 0, size), aten.slice(labels, 0, 0, size));
    expect(await recorded(of(8), of(7), of(6), of(5), of(8), of(7), of(6), of(5))).toBe(4);
    expect(await recorded(of(4), of(4))).toBe(1); // which begins anew: four at most
    expect(await recorded(of(8), of(4))).toBe(1);
  });
  it('read the weights as they are then', async () => {
    using model = await fresh();
    const attack = attackOf(model, {}, aten.slice(images, 0, 0, 8), aten.slice(labels, 0, 0, 8)), state = model.state(), weight = state.get('0.weight')!;
    expect(await recorded(attack)).toBe(1);
    noGrad(() => void aten.mul_(weight, 1.5));
    model.train().forward(images).dispose(); // moves the running statistics
    model.eval();
    expect(await recorded(attack)).toBe(0);
    noGrad(() => void aten.set_(weight, weight.clone()));
    expect(await recorded(attack, attack)).toBe(1);
    noGrad(() => void aten.transpose_(weight, 2, 3)); // where it was, and another
    expect(await recorded(attack, attack)).toBe(1);
    model.to('cpu');
    expect(await recorded(attack, attack)).toBe(1);
  });
  it('are those of parts that another model moves', async () => {
    using encoder = trained(), model = Classifier.create({ encoder, classes: 10, seed: 2 }).eval();
    const attack = attackOf(model, {}, rand([4, 3, 8, 8]), tensor(BigInt64Array.of(0n, 1n, 2n, 3n)));
    expect(await recorded(attack)).toBe(1);
    noGrad(() => { for (const value of encoder.state().values()) aten.set_(value, value.clone()); }); // as `to` does
    expect(await recorded(attack, attack)).toBe(1);
  });
  it('check the labels and gradients of each call', async () => {
    using model = await fresh();
    const x = aten.slice(images, 0, 0, 8), attack = attackOf(model, {}, x, aten.slice(labels, 0, 0, 8)), low = attackOf(model, {}, x, aten.zeros([8], { dtype: 'int64' }));
    expect(await recorded(low)).toBe(1);
    await expect(pgd(model, x, aten.full([8], 99, { dtype: 'int64' }), { ...fixed, graph: true })).rejects.toMatchObject({ code: 'ERR_ARGUMENT_RANGE', argument: 'labels' });
    expect(await recorded(attack, low)).toBe(1); // nothing is kept over an error
    const weight = model.state().get('5.weight')!, before = weight.clone();
    noGrad(() => void aten.mul_(weight, NaN));
    await expect(pgd(model, x, aten.slice(labels, 0, 0, 8), { ...fixed, graph: true })).rejects.toMatchObject({ name: 'NonFiniteError', message: 'the gradient of sample 0 is NaN or infinite' });
    noGrad(() => void aten.copy_(weight, before));
    expect(await recorded(attack, low)).toBe(1);
  });
  it('are not kept of an attack that is aborted, nor of too few steps', async () => {
    using model = await fresh();
    const attack = attackOf(model, { batchSize: images.shape[0]! }), controller = new AbortController();
    expect(await recorded(attackOf(model, { batchSize: images.shape[0]!, steps: 3 }), attack)).toBe(1);
    await expect(pgd(model, images, labels, { ...fixed, batchSize: images.shape[0]!, steps: 200, graph: true, signal: controller.signal, onProgress: () => controller.abort() })).rejects.toThrow();
    expect(await recorded(attack, attack)).toBe(1);
  });
  it('serve attacks at once, one after the other', async () => {
    using model = await fresh();
    const attacks = [attackOf(model), attackOf(model, {}, others), attackOf(model, { seed: 5 }, others, reversed)];
    const together = await Promise.all(attacks.map((attack) => attack(true)));
    for (const [i, attack] of attacks.entries()) expect(await bits(() => attack(false))).toEqual(Array.from(together[i]!.toTypedArray() as Float64Array));
  });
  it('are refused of a model that replaces its tensors', async () => {
    using model = (await loadTorchScript(readFileSync(new URL('../fixtures/model/replaces.pt', import.meta.url)))).eval();
    await expect(attackOf(model)(true)).rejects.toMatchObject({ name: 'OperatorError', message: expect.stringContaining('the model replaces tensors of its own') });
  });
  it('serve the batches of an evaluation, which attacks whole ones', async () => {
    using model = await fresh();
    const n = 2 * 8 + 3, x = rand([n, ...images.shape.slice(1)], { dtype: 'float64' }), { predicted } = await predict(model, x);
    const y = aten.add(predicted, aten.eq(aten.remainder(aten.arange(n, { dtype: 'int64' }), 5), 0)), data = { length: n, images: (from: number, to: number) => aten.slice(x, 0, from, to), labels: (from: number, to: number) => aten.slice(y, 0, from, to) };
    const attacks = ['pgd6', 'clean', 'pgd9'] as const, options = { attacks, epsilon: 0.02, batchSize: 8, seed: 2 }, before = emulator().recordings();
    const by = await evaluate(model, data, { ...options, graph: true }), without = await evaluate(model, data, options);
    expect(emulator().recordings() - before).toBe(2);
    expect(by.clean).toEqual(without.clean);
    for (const name of ['pgd6', 'pgd9'] as const) expect(by[name]).toEqual({ ...without[name], settings: { ...without[name].settings, graph: true } });
    expect(without.pgd6.correct).toBeLessThan(without.clean.correct);
    expect(without.clean.correct).toBeLessThan(n);
  });
  it('are not of images that cannot count', async () => {
    using model = (await loadTorchScript(readFileSync(new URL('../fixtures/model/brittle.pt', import.meta.url)))).eval();
    const x = aten.clamp(rand([6, 3, 6, 6], { dtype: 'float64' }), 0.1, 1), wrong = aten.slice(x, 0, 4, 5);
    noGrad(() => void aten.fill_(aten.slice(aten.slice(aten.slice(wrong, 1, 0, 1), 2, 0, 1), 3, 0, 1), 0)); // its gradient is NaN
    const { predicted } = await predict(model, x), y = aten.remainder(aten.add(predicted, aten.eq(aten.arange(6, { dtype: 'int64' }), 4)), 10);
    const data = { length: 6, images: (from: number, to: number) => aten.slice(x, 0, from, to), labels: (from: number, to: number) => aten.slice(y, 0, from, to) };
    await expect(pgd(model, wrong, aten.slice(y, 0, 4, 5), { epsilon: 0.02, steps: 5, randomStart: false, graph: true })).rejects.toThrow('the gradient of sample 0 is NaN');
    const options = { attacks: ['pgd5'] as const, epsilon: 0.02, batchSize: 3, seed: 2, randomStart: false }, by = await evaluate(model, data, { ...options, graph: true }), without = await evaluate(model, data, options);
    expect([by.pgd5.correct, by.pgd5.total]).toEqual([without.pgd5.correct, 6]);
  });
});

describe('while a graph is captured', () => {
  const capturing = <T>(work: () => T): T => {
    emulator().set_capturing(true);
    try {
      return work();
    } finally {
      emulator().set_capturing(false);
    }
  };
  const x = rand([4, 3, 8, 8]), numbers = rand([4, 8 * 8 * 4]), samples = tensor(BigInt64Array.of(0n, 1n, 2n, 3n)), pixels = aten.randint(0, 256, [4, 3, 8, 8], { dtype: 'uint8' });
  const drawn = { seed: 3, epoch: 1, view: 0, ratio: [0.75, 4 / 3], padding: 2, flip: 0.5, jitter: [0.4, 0.4, 0.4, 0.1], jitter_probability: 0.8, gray: 0.3, size: 8, scale: [], color_first: false };
  it.each([
    ['square_start_l2', () => a_infonce.square_start_l2(x, numbers, 0.5)], ['square_step_l2', () => a_infonce.square_step_l2(x, x, aten.slice(numbers, 1, 0, 8), 0.5, 3)], ['augment', () => a_infonce.augment(pixels, samples, drawn)],
  ] as const)('%s, which takes numbers of the host along, is refused', (name, call) => {
    scope(() => {
      expect(() => capturing(call)).toThrow(expect.objectContaining({ name: 'OperatorError', message: expect.stringContaining(`${name} cannot be captured for a graph`) }));
      expect(call()).toBeDefined();
    });
  });
  it('nobody looks at gradients and losses', () => {
    scope(() => {
      const wrong = aten.mul(x, NaN), step = () => a_infonce.pgd_step_linf_(x.clone(), wrong, x, 0.1, 0.01);
      expect(step).toThrow(/sample 0 is NaN or infinite/);
      expect(() => capturing(step)).not.toThrow();
      expect(() => capturing(() => aInfoNCE(aten.flatten(wrong, 1), { views: 2 }))).not.toThrow();
    });
  });
});

it('a launch that fails is an error of its kind', () => {
  scope(() => {
    const x = rand([2]);
    for (const [out, name] of [[true, 'OutOfMemoryError'], [false, 'OperatorError']] as const)
      expect(() => emulator().fail_launch(x, out)).toThrow(expect.objectContaining({ name, message: expect.stringContaining('launch of a test') }));
  });
});
