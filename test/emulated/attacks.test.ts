// What attacks do on a device with kernels of its own, which they wait for at the end alone: the emulated CUDA kernels take the place of the CPU's from `beforeAll` on.
import { aInfoNCE, Encoder, manualSeed, ops, pgd, rand, randn, scope, tensor, type PgdOptions, type Tensor } from 'a-infonce';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadNet, reference } from '../attack/fixtures.js';
import { job } from '../../src/runtime/job.js';
import { native } from '../../src/runtime/native.js';
import { emulatedLibrary } from './build.js';

const { aten, a_infonce } = ops;
const emulator = () => (ops as unknown as { a_infonce_emulated: { set_capturing(capturing: boolean): void; fail_launch(x: Tensor, out_of_memory: boolean): void } }).a_infonce_emulated;
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
