import { createHash } from 'node:crypto';
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  ArgumentRangeError, ArgumentTypeError, Encoder, FileError, memory, NonFiniteError, pretrain, proceduralDataset, readSafetensors, resolveConfig, scope, writeSafetensors,
  type Overrides, type PretrainConfig, type PretrainEvent, type PretrainOptions, type PresetName,
} from 'a-infonce';
import { all, temporary } from '../fixtures/runs.js';
import { checkInterval } from '../../src/training/run.js';
import { unreached } from '../../src/training/schedule.js';
import { live } from '../fixtures/live.js';

const { folder, fresh } = temporary();

const overrides: Overrides<PretrainConfig> = {
  data: { procedural: { train: 28, test: 10, size: 8 } }, encoder: { width: 2 }, projector: { hidden: [8], output: 4 }, attack: { steps: 1 },
};
/** Two epochs of four steps: three of 8 images and one of 4. */
const tiny = (out: string, more: Partial<PretrainOptions> = {}): PretrainOptions =>
  ({ preset: 'quickstart', out, epochs: 2, batchSize: 8, seed: 7, overrides, checkpointEvery: { steps: 3 }, ...more });

const types = (events: PretrainEvent[]) => events.map(({ type }) => type).join(' ');
const weights = (out: string) => readFileSync(join(out, 'encoder.safetensors'));
/** The lines of metrics.jsonl without what a clock says. */
const metrics = (out: string) => readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n').map((line) => {
  const { imagesPerSecond, secondsLeft, seconds, ...rest } = JSON.parse(line);
  return rest;
});

const reference = fresh();
let referenceEvents: PretrainEvent[];
const snapshots = fresh();
beforeAll(async () => {
  referenceEvents = await all(tiny(reference), (event) => event.type === 'step' && cpSync(reference, join(snapshots, String(event.step)), { recursive: true }));
});
/** A folder as a process leaves it that is killed after so many steps: with the checkpoints of steps 3 and 6. */
function killed(step: number): string {
  const out = fresh();
  cpSync(join(snapshots, String(step)), out, { recursive: true });
  return out;
}

describe('a run', () => {
  it('tells of every step, epoch and checkpoint', () => {
    expect(types(referenceEvents)).toBe('start step step step checkpoint step epoch step step checkpoint step step epoch checkpoint end');
    const start = referenceEvents[0]!, steps = referenceEvents.filter((event) => event.type === 'step');
    expect(start).toMatchObject({ step: 0, steps: 8, stepsPerEpoch: 4, out: reference });
    expect(steps.map(({ step, epoch }) => [step, epoch])).toEqual([[1, 0], [2, 0], [3, 0], [4, 0], [5, 1], [6, 1], [7, 1], [8, 1]]);
    for (const step of steps) {
      expect(step.loss).toBeCloseTo(step.contrastive! + step.regularizer! / 256, 5);
      expect(step.imagesPerSecond).toBeGreaterThan(0);
      expect(step.perturbation).toBeGreaterThan(0);
      expect(step.perturbation).toBeLessThanOrEqual(1.0001);
    }
    const epoch = referenceEvents.find((event) => event.type === 'epoch')!;
    expect(epoch).toMatchObject({ epoch: 0, step: 4 });
    expect((epoch as { loss: number }).loss).toBeCloseTo(steps.slice(0, 4).reduce((sum, { loss }) => sum + loss, 0) / 4, 10);
  });

  it('leaves its configuration, environment, metrics, the last two checkpoints and the encoder', async () => {
    expect(readdirSync(reference).sort()).toEqual([
      'checkpoint-00000006.safetensors', 'checkpoint-00000008.safetensors', 'config.json', 'encoder.safetensors', 'environment.json',
      expect.stringMatching(/^events\.out\.tfevents\.\d{10}\.pretrain$/), 'metrics.jsonl', 'run.lock',
    ]);
    const config = JSON.parse(readFileSync(join(reference, 'config.json'), 'utf8'));
    using data = proceduralDataset({ train: 28, test: 10, size: 8 });
    const sha256 = createHash('sha256').update(data.train.pixels.toTypedArray() as Uint8Array).digest('hex');
    const resolved = resolveConfig('quickstart', { ...overrides, epochs: 2, batchSize: 8, seed: 7 });
    expect(config).toEqual({ ...resolved, data: { ...resolved.data, images: 28, channels: 3, size: 8, sha256 } });
    expect(JSON.parse(readFileSync(join(reference, 'environment.json'), 'utf8'))).toMatchObject({ node: process.version, threads: expect.any(Number) });
    expect(metrics(reference)).toHaveLength(10);
    using encoder = await Encoder.load(reference);
    expect(encoder.config).toMatchObject({ width: 2, channels: 3, projector: { hidden: [8], output: 4 } });
    const { tensors } = await readSafetensors(join(reference, 'checkpoint-00000008.safetensors'), { requireChecksum: true });
    expect(tensors.has('momentum.encoder.conv1.weight') && tensors.has('model.projector.0.bias')).toBe(true);
    for (const tensor of tensors.values()) tensor.dispose();
  });

  it('is the same to the bit when it is run again, and another with another seed', async () => {
    const [again, other] = [fresh(), fresh()];
    await all(tiny(again, { checkpointEvery: {} }));
    expect(weights(again).equals(weights(reference))).toBe(true);
    expect(metrics(again)).toEqual(metrics(reference));
    await all(tiny(other, { seed: 8 }));
    expect(weights(other).equals(weights(reference))).toBe(false);
  });

  it('takes an open data set and leaves it open', async () => {
    const out = fresh();
    using data = proceduralDataset({ train: 28, test: 10, size: 8 });
    await all(tiny(out, { data }));
    expect(data.train.pixels.disposed).toBe(false);
    expect(weights(out).equals(weights(reference))).toBe(true);
  });

  it('holds as many tensors after many steps as after few', async () => {
    const live: number[] = [];
    await scope(() => all(tiny(fresh(), { epochs: 3, checkpointEvery: { steps: 2 } }), ({ type }) => type === 'step' && live.push(memory().tensors)));
    expect(Math.max(...live.slice(2))).toBeLessThanOrEqual(live[2]!);
  });
});

describe('an interrupted run', () => {
  it.each([0, 3, 5, 8])('aborted after %i steps and resumed ends in the same bits', async (stop) => {
    const out = fresh(), controller = new AbortController(), events: PretrainEvent[] = [];
    const hear = (event: PretrainEvent) => {
      events.push(event);
      if ((event.type === 'start' || event.type === 'step') && event.step === stop) controller.abort(new Error('enough'));
    };
    await expect(all(tiny(out, { signal: controller.signal }), hear)).rejects.toThrow('enough');
    expect(events.at(-1)).toMatchObject({ type: 'checkpoint', step: stop });
    const resumed = await all(tiny(out, { resume: true }));
    expect(resumed[0]).toMatchObject({ type: 'start', step: stop });
    expect(weights(out).equals(weights(reference))).toBe(true);
    expect(metrics(out)).toEqual(metrics(reference));
  });

  it('stops inside a step', async () => {
    const controller = new AbortController(), out = fresh();
    const slow = tiny(out, { signal: controller.signal, overrides: { ...overrides, attack: { steps: 100_000 } } });
    setTimeout(() => controller.abort(), 300);
    await expect(all(slow)).rejects.toMatchObject({ name: 'AbortError' });
    expect(readdirSync(out)).toContain('checkpoint-00000000.safetensors');
  });

  it('needs nothing but its folder to go on', async () => {
    const out = fresh(), run = pretrain(tiny(out));
    for await (const event of run) if (event.type === 'step' && event.step === 5) break;
    const events = await all({ out, resume: true });
    expect(events[0]).toMatchObject({ type: 'start', step: 3 });
    expect(weights(out).equals(weights(reference))).toBe(true);
    expect(metrics(out)).toEqual(metrics(reference));
  });

  it('that is over already ends again at once', async () => {
    const before = weights(reference);
    const events = await all({ out: reference, resume: true });
    expect(types(events)).toBe('start checkpoint end');
    expect(weights(reference).equals(before)).toBe(true);
  });

  it.each([
    ['truncated', (path: string) => truncateSync(path, 1000)],
    ['altered', (path: string) => {
      const bytes = readFileSync(path);
      bytes[bytes.length - 100]! ^= 1;
      writeFileSync(path, bytes);
    }],
  ])('passes over a checkpoint that is %s, with a warning', async (_, damage) => {
    const out = killed(7);
    damage(join(out, 'checkpoint-00000006.safetensors'));
    const events = await all({ out, resume: true });
    expect(types(events.slice(0, 2))).toBe('warning start');
    expect(events[0]).toMatchObject({ message: expect.stringContaining('checkpoint-00000006') });
    expect(events[1]).toMatchObject({ step: 3 });
    expect(weights(out).equals(weights(reference))).toBe(true);
    expect(metrics(out)).toEqual(metrics(reference));
  });

  it('is refused where no checkpoint is whole, and stays as it is', async () => {
    const out = killed(7), files = () => Object.fromEntries(readdirSync(out).map((name) => [name, readFileSync(join(out, name), 'base64')]));
    const saved = readdirSync(out).filter((name) => name.startsWith('checkpoint'));
    for (const name of saved) truncateSync(join(out, name), 1000);
    const before = files();
    for (const _ of [1, 2]) {
      const error = await all({ out, resume: true }).catch((error: unknown) => error as Error) as Error;
      expect([error.name, error.message]).toEqual(['FileError', expect.stringContaining(`${out}: none of its checkpoints is whole`)]);
      for (const name of saved) expect(error.message).toContain(join(out, name));
      expect(files()).toEqual(before);
    }
  });

  it.each([1, 2])('keeps what it announces beside a damaged newer one, keeping %i', async (keepCheckpoints) => {
    const out = killed(4), name = (step: number) => `checkpoint-0000000${step}.safetensors`;
    writeFileSync(join(out, name(8)), 'damaged');
    for await (const event of pretrain({ out, resume: true, keepCheckpoints, checkpointEvery: { steps: 1 } })) {
      if (event.type === 'checkpoint') expect(readdirSync(out)).toContain(basename(event.path));
      if (event.type === 'checkpoint' && event.step === 4) break;
    }
    expect(readdirSync(out).filter((entry) => entry.startsWith('checkpoint')))
      .toEqual([...(keepCheckpoints === 2 ? [name(3)] : []), name(4), `${name(8)}.damaged`]);
    expect((await all({ out, resume: true }))[0]).toMatchObject({ type: 'start', step: 4 });
    expect(weights(out).equals(weights(reference))).toBe(true);
  });

  it.each<[string, number, object]>([
    ['no number', 8, { step: null }], ['another step than its name', 8, { step: 7 }], ['a negative step', 8, { step: -8 }],
    ['a step beyond the end', 9, { step: 9 }], ['no length', 8, { metricsBytes: null }], ['a negative length', 8, { metricsBytes: -1 }],
    ['half a byte', 8, { metricsBytes: 0.5 }], ['a loss in words', 8, { epochLoss: 'low' }],
  ])('passes over a checkpoint whose state has %s under a valid checksum', async (_, step, wrong) => {
    const out = fresh();
    cpSync(reference, out, { recursive: true });
    const { tensors, metadata } = await readSafetensors(join(out, 'checkpoint-00000008.safetensors'));
    const state = JSON.parse(metadata['a_infonce.run']!) as object;
    expect(state).toHaveProperty(Object.keys(wrong)[0]!);
    await writeSafetensors(join(out, `checkpoint-0000000${step}.safetensors`), tensors, { 'a_infonce.run': JSON.stringify({ ...state, ...wrong }) });
    for (const tensor of tensors.values()) tensor.dispose();
    const { tensors: before } = await live(), run = pretrain({ out, resume: true });
    expect((await run.next()).value).toMatchObject({ type: 'warning', message: expect.stringContaining(`no state of step ${step} of 8`) });
    expect((await run.next()).value).toMatchObject({ type: 'start', step: step === 9 ? 8 : 6 });
    await run.return!();
    expect(memory().tensors).toBe(before);
  });

  it('clears away what was half written, and nothing else', async () => {
    const out = killed(4);
    const left = '.checkpoint-00000006.safetensors.123.0a0a0a0a';
    for (const name of [left, '.gitignore']) writeFileSync(join(out, name), 'half');
    await all({ out, resume: true });
    expect(readdirSync(out)).toContain('.gitignore');
    expect(readdirSync(out)).not.toContain(left);
  });

  it('says when the environment is another', async () => {
    const out = killed(4);
    const path = join(out, 'environment.json');
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), threads: 99 }));
    const run = pretrain({ out, resume: true });
    expect((await run.next()).value).toMatchObject({ type: 'warning', message: expect.stringMatching(/^threads /) });
    await run.return!();
  });
});

describe('a refusal', () => {
  const refused = (options: PretrainOptions) => all(options).then(() => { throw new Error('not refused'); }, (error: unknown) => error);

  it('of a folder with a run', async () => {
    expect(await refused(tiny(reference))).toMatchObject({ code: 'ERR_ARGUMENT_RANGE', argument: 'out', received: reference });
  });

  it('of a folder that another run writes, until it is over', async () => {
    const out = fresh(), first = pretrain(tiny(out));
    await first.next();
    const error = await refused(tiny(out, { resume: true }));
    expect(error).toBeInstanceOf(FileError);
    expect((error as Error).message).toContain(`process ${process.pid}`);
    await first.return!();
    await all(tiny(out, { resume: true }));
    expect(weights(out).equals(weights(reference))).toBe(true);
  });

  it('of another configuration than the one recorded, naming the keys', async () => {
    const error = await refused({ out: reference, resume: true, seed: 9, overrides: { schedule: { rate: 0.3 } } });
    expect(error).toBeInstanceOf(ArgumentRangeError);
    expect((error as Error).message).toBe(`config: expected as recorded in ${reference}, got another (recorded -> asked):\n  seed: 7 -> 9\n  schedule.rate: 0.2 -> 0.3`);
    expect(await refused({ out: reference, resume: true, seed: 9 })).toMatchObject({ argument: 'seed', expected: `7, as recorded in ${reference}`, received: '9' });
    const many = ((await refused({ preset: 'rocl-cifar10', out: reference, resume: true, data: 'procedural' })) as Error).message.split('\n');
    expect(many).toHaveLength(10);
    expect(many.at(-1)).toMatch(/^  and \d+ more$/);
    using data = proceduralDataset({ train: 28, test: 10, size: 8, seed: 1 });
    expect(((await refused({ out: reference, resume: true, data })) as Error).message).toMatch(/\n  data\.procedural\.seed: 0 -> 1\n  data\.sha256: "\w+" -> "\w+"$/);
    // The same images in another order.
    using inOrder = proceduralDataset({ train: 28, test: 10, size: 8 });
    using reversed = inOrder.train.subset(Array.from({ length: 28 }, (_, i) => 27 - i));
    expect(await refused({ out: reference, resume: true, data: { ...inOrder, train: reversed } })).toMatchObject({ argument: 'data.sha256' });
  });

  it('of an open data set that is not the one asked for; what it was made with is recorded', async () => {
    using data = proceduralDataset({ train: 28, test: 10, size: 8, seed: 2 });
    const out = fresh();
    expect(await refused(tiny(out, { data, overrides: { ...overrides, data: { procedural: { size: 16 } } } })))
      .toMatchObject({ argument: 'data.procedural.size', expected: '8, as the open data set has', received: '16' });
    expect(readdirSync(out)).not.toContain('config.json');
    for await (const event of pretrain(tiny(out, { data, overrides: { ...overrides, data: {} } })))
      if (event.type === 'start') expect(event.config.data).toMatchObject({ procedural: { train: 28, test: 10, size: 8, seed: 2 }, images: 28, size: 8 });
  });

  it('of a checkpoint that belongs to another network', async () => {
    const out = fresh(), other = fresh();
    for await (const event of pretrain(tiny(out))) if (event.type === 'checkpoint') break;
    for await (const event of pretrain(tiny(other, { overrides: { ...overrides, encoder: { width: 3 } } }))) if (event.type === 'checkpoint') break;
    const name = 'checkpoint-00000003.safetensors';
    copyFileSync(join(other, name), join(out, name));
    expect(await refused({ out, resume: true })).toMatchObject({ code: 'ERR_FILE', path: join(out, name) });
  });

  it('of the last checkpoint leaves the encoder', async () => {
    const out = fresh(), last = (event: PretrainEvent) => event.type === 'step' && event.step === 8;
    await expect(all(tiny(out), (event) => last(event) && mkdirSync(join(out, 'checkpoint-00000008.safetensors', 'x'), { recursive: true }))).rejects.toMatchObject({ code: 'ERR_FILE' });
    expect(weights(out)).toEqual(weights(reference));
  });

  it('of a loss that is not finite keeps the images of the step', async () => {
    const out = fresh();
    const error = await refused(tiny(out, { overrides: { ...overrides, schedule: { kind: 'steps', rate: 1e30, at: [], divisor: 10 } } }));
    expect(error).toBeInstanceOf(NonFiniteError);
    const name = readdirSync(out).find((entry) => entry.startsWith('failed-'))!;
    expect((error as Error).message).toContain(join(out, name));
    const { tensors, metadata } = await readSafetensors(join(out, name));
    expect(Object.fromEntries([...tensors].map(([key, { shape }]) => [key, shape]))).toEqual({ indices: [8], view1: [8, 3, 8, 8], view2: [8, 3, 8, 8] });
    expect(metadata).toMatchObject({ learningRate: '1e+30', epoch: '0' });
    for (const tensor of tensors.values()) tensor.dispose();
  });

  it('of a run too short for its configuration is a warning at the start', async () => {
    expect((await all(tiny(fresh(), { epochs: 1 })))[0]).toEqual({ type: 'warning', message: 'schedule.warmupEpochs is 1 and the run has one epoch: the learning rate climbs to the end' });
    const keys = (preset: PresetName, epochs: number) => unreached(resolveConfig(preset, { epochs })).map((text) => text.split(' ')[0]);
    expect(keys('advcl-ip-cifar10', 20)).toEqual(['objective.inferiorPositive.adaptive.warmupEpochs']);
    expect(keys('advcl-ip-cifar10', 31)).toEqual([]);
    expect(keys('advcl-cifar10', 5)).toEqual(['schedule.warmupEpochs']);
    expect(keys('dynacl-cifar10', 40)).toEqual(['annealing.period']);
    expect(keys('moco-cifar10', 1)).toEqual(['schedule']);
    expect(keys('moco-cifar10', 2)).toEqual([]);
  });

  it('to save at no interval is one to save at the usual one', () => {
    expect([undefined, {}, { steps: 5 }].map(checkInterval)).toEqual([{ seconds: 300 }, { seconds: 300 }, { steps: 5 }]);
  });

  it('of bad options comes at once', () => {
    const out = fresh();
    expect(() => pretrain({ ...tiny(out), preset: 'rocl' as never })).toThrow(expect.objectContaining({ argument: 'preset' }));
    expect(() => pretrain({ ...tiny(out), epoch: 3 } as never)).toThrow(expect.objectContaining({ argument: 'options.epoch' }));
    expect(() => pretrain(tiny(out, { epochs: 0 }))).toThrow(expect.objectContaining({ argument: 'epochs' }));
    expect(() => pretrain(tiny(out, { overrides: { attack: { eps: 1 } } as never }))).toThrow(expect.objectContaining({ argument: 'attack.eps' }));
    expect(() => pretrain(tiny(out, { checkpointEvery: { steps: 0 } }))).toThrow(expect.objectContaining({ argument: 'checkpointEvery.steps' }));
    expect(() => pretrain({ out })).toThrow(ArgumentTypeError);
    expect(() => pretrain(tiny(out, { data: 3 as never }))).toThrow(expect.objectContaining({ argument: 'data' }));
    expect(readdirSync(folder)).not.toContain(out.slice(folder.length + 1));
  });

  it('of nothing to resume without a preset, and of too few images', async () => {
    expect(await refused({ out: fresh(), resume: true })).toMatchObject({ argument: 'preset' });
    const few = { ...overrides, groups: 3, data: { procedural: { train: 5, test: 1, size: 8 } } };
    expect(await refused(tiny(fresh(), { overrides: few }))).toMatchObject({ argument: 'data', expected: 'at least 6 training images' });
  });
});
