import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  Classifier, Encoder, evaluate, finetune, memory, ops, pgd, presets, proceduralDataset, scope, tensor, type Dataset, type FinetuneEvent, type FinetuneMode, type FinetuneOptions,
} from 'a-infonce';
import type { TrainerHandle } from '../../src/runtime/addon.js';
import { native } from '../../src/runtime/native.js';
import { stratified } from '../../src/training/stratified.js';
import { temporary } from '../fixtures/runs.js';
import { live } from '../fixtures/live.js';

let data: Dataset, encoder: Encoder;
beforeAll(() => {
  data = proceduralDataset({ train: 60, test: 10, size: 8 });
  encoder = Encoder.create({ width: 2, seed: 1 });
});
afterAll(() => {
  data.dispose();
  encoder.dispose();
});

const options = { mode: 'slf', epochs: 3, batchSize: 25 } as const satisfies FinetuneOptions;
const head = (classifier: Classifier) => ['head.weight', 'head.bias'].map((name) => Array.from(classifier.state().get(name)!.toTypedArray(), Number));

describe('finetune, mode slf', () => {
  it("is softmax regression on the encoder's features by the protocol's SGD", async () => {
    const { aten } = ops;
    await scope(async () => {
      // One batch an epoch: the order of the images does not matter, and the transcription needs none.
      const overrides = { schedule: { rate: 0.5, at: [2] } };
      const events: Extract<FinetuneEvent, { type: 'epoch' }>[] = [];
      using classifier = await finetune(encoder, data, { mode: 'slf', epochs: 4, batchSize: 60, overrides, onEvent: (event) => event.type === 'epoch' && events.push(event) });
      expect(classifier.training).toBe(false);
      using start = await finetune(encoder, data, { mode: 'slf', epochs: 1, batchSize: 60, overrides: { schedule: { rate: 1e-30 } } });
      const x = start.features(data.train.images()).detach(), labels = data.train.labels();
      let [w, b] = ['head.weight', 'head.bias'].map((name) => start.state().get(name)!.detach().clone()) as [ReturnType<typeof tensor>, ReturnType<typeof tensor>];
      let [vw, vb] = [ops.aten.zeros_like(w), ops.aten.zeros_like(b)];
      for (let epoch = 0; epoch < 4; epoch++) {
        const rate = epoch < 2 ? 0.5 : 0.05;
        w.requiresGrad = b.requiresGrad = true;
        const logits = aten.linear(x, w, b);
        const loss = aten.cross_entropy_loss(logits, labels);
        loss.backward();
        expect(events[epoch]!.loss).toBeCloseTo(loss.item(), 4);
        expect(events[epoch]!.accuracy).toBeCloseTo(aten.mean(aten.eq(aten.argmax(logits, 1), labels).to({ dtype: 'float32' })).item(), 6);
        expect(events[epoch]!.learningRate).toBeCloseTo(rate, 12);
        const move = (p: typeof w, v: typeof w) => {
          const value = p.detach(), momentum = aten.add(aten.mul(v, 0.9), aten.add(p.grad!, value, { alpha: 5e-4 }));
          return [aten.sub(value, aten.mul(momentum, rate)), momentum] as const;
        };
        [[w, vw], [b, vb]] = [move(w, vw).slice() as [typeof w, typeof w], move(b, vb).slice() as [typeof w, typeof w]];
      }
      const [weight, bias] = head(classifier);
      Array.from(w.toTypedArray(), Number).forEach((value, i) => expect(weight![i]).toBeCloseTo(value, 4));
      Array.from(b.toTypedArray(), Number).forEach((value, i) => expect(bias![i]).toBeCloseTo(value, 4));
    });
  });

  it('leaves the encoder as it was and repeats to the bit', async () => {
    const snapshot = () => scope(() => [...encoder.state().values()].map((value) => Array.from(value.toTypedArray(), Number)));
    const before = snapshot();
    const run = (seed: number) => scope(async () => {
      using classifier = await finetune(encoder, data, { ...options, seed });
      return head(classifier);
    });
    const first = await run(1);
    expect(await run(1)).toEqual(first);
    expect(await run(2)).not.toEqual(first);
    expect(snapshot()).toEqual(before);
    expect(encoder.training).toBe(false);
  });

  it('alf whose attack has no steps measures the images held out as they are', async () => {
    const epochs: FinetuneEvent[] = [];
    using classifier = await finetune(encoder, data, { mode: 'alf', epochs: 1, validation: 0.2, overrides: { attack: { steps: 0 } }, onEvent: (event) => void (event.type === 'epoch' && epochs.push(event)) });
    expect(epochs).toEqual([expect.objectContaining({ validationAccuracy: expect.any(Number) as number })]);
    expect(classifier.training).toBe(false);
  });

  it('takes turns on one encoder: two at once, and an attack beside them, find what each finds alone', async () => {
    const slf = { mode: 'slf', epochs: 4, batchSize: 25 } as const;
    const alf = { mode: 'alf', epochs: 2, batchSize: 25, overrides: { attack: { steps: 2 } } } as const;
    await scope(async () => {
      using shared = encoder.clone();
      using target = Classifier.create({ encoder: shared, classes: data.classes.length });
      const runs: FinetuneOptions[] = [slf, { ...slf, seed: 1 }, alf, { ...alf, seed: 1 }];
      const alone: number[][][] = [];
      for (const run of runs) alone.push(head(await finetune(shared, data, run)));
      shared.train();
      const attacks = Promise.all([1, 2, 3].map(() => pgd(target, data.test.images(), data.test.labels(), { steps: 60 })));
      const together = await Promise.all(runs.map((run) => finetune(shared, data, run)));
      expect(together.map(head)).toEqual(alone);
      await attacks;
      expect(shared.training).toBe(false);
    });
  });

  it('stops where it is told to and holds nothing', async () => {
    const made = vi.spyOn(native(), 'create_trainer');
    const controller = new AbortController();
    const { tensors: before } = await live();
    await expect(finetune(encoder, data, { ...options, onEvent: 5 as never })).rejects.toThrow(/^onEvent: expected a function, got 5/);
    const stopped = finetune(encoder, data, { ...options, epochs: 1000, signal: controller.signal, onEvent: (event) => event.type === 'epoch' && event.epoch === 2 && controller.abort(new Error('enough')) });
    await expect(stopped).rejects.toThrow('enough');
    expect(memory().tensors).toBe(before);
    expect(() => native().trainer_state(made.mock.results[0]!.value as TrainerHandle)).toThrow('trainer: expected a live Trainer, got a disposed one');
    made.mockRestore();
  });

  it('names what is wrong', async () => {
    await expect(finetune(encoder, data, { mode: 'elf' as never })).rejects.toMatchObject({ argument: 'mode', expected: "one of 'slf', 'alf', 'aff'" });
    await expect(finetune(encoder, data, { ...options, epochs: 0 })).rejects.toMatchObject({ argument: 'epochs' });
    await expect(finetune(encoder, data, { ...options, overrides: { schedul: {} } as never })).rejects.toMatchObject({ argument: 'schedul' });
    await expect(finetune(encoder, data, { ...options, branch: 'pgd' })).rejects.toMatchObject({ argument: 'branch' });
    await expect(finetune(encoder, data, { ...options, labelFraction: 0 })).rejects.toMatchObject({ argument: 'labelFraction' });
    await expect(finetune(encoder, data, { ...options, validation: 1.5 })).rejects.toMatchObject({ argument: 'validation' });
    await expect(finetune(encoder, data, { ...options, validation: 60 })).rejects.toMatchObject({ argument: 'validation', expected: `at least one of the 60 images learnt from, and one of each class left (at most ${60 - data.classes.length})` });
    await expect(finetune(encoder, data, { ...options, resume: true })).rejects.toMatchObject({ argument: 'out' });
    await expect(finetune(encoder, data, { ...options, preset: {} as never })).rejects.toMatchObject({ argument: 'preset' });
    await expect(finetune(encoder, data, { ...options, overrides: { attack: { steps: 3 } } as never })).rejects.toMatchObject({ argument: 'attack' });
    using gray = Encoder.create({ width: 2, channels: 1 });
    await expect(finetune(gray, data, options)).rejects.toMatchObject({ argument: 'data', expected: 'images of 1 channels, as the encoder takes', received: 'procedural with 3' });
    await expect(finetune({} as never, data, options)).rejects.toMatchObject({ argument: 'encoder' });
    await expect(finetune(encoder, {} as never, options)).rejects.toMatchObject({ argument: 'data' });
  });
});

const quick = {
  slf: {}, alf: { attack: { steps: 2 } }, aff: { trades: { attack: { steps: 2 } } },
} as const;
const tiny = (mode: FinetuneMode, more: Partial<FinetuneOptions> = {}): FinetuneOptions => ({ mode, epochs: 2, batchSize: 25, seed: 3, overrides: quick[mode] as never, ...more });
const tensors = (model: Classifier | Encoder) => scope(() => new Map([...model.state()].map(([name, value]) => [name, Array.from(value.toTypedArray(), Number)])));
async function told(mode: FinetuneMode, more: Partial<FinetuneOptions> = {}, from = encoder, on = data) {
  const events: FinetuneEvent[] = [];
  using classifier = await finetune(from, on, tiny(mode, { ...more, onEvent: (event) => { events.push(event); more.onEvent?.(event); } }));
  return { events, state: tensors(classifier), finetuning: classifier.finetuning, branch: classifier.config.branch };
}
const only = <Type extends FinetuneEvent['type']>(events: FinetuneEvent[], type: Type) => events.filter((event): event is Extract<FinetuneEvent, { type: Type }> => event.type === type);

describe('finetune, modes alf and aff', () => {
  it.each(['alf', 'aff'] as const)('%s tells of steps and epochs, repeats to the bit, and changes what it trains', async (mode) => {
    const before = tensors(encoder);
    const { events, state } = await told(mode);
    expect(events.map(({ type }) => type).join(' ')).toBe('start step step step epoch step step step epoch end');
    const steps = only(events, 'step'), epochs = only(events, 'epoch');
    expect(steps.map(({ step, epoch }) => [step, epoch])).toEqual([[1, 0], [2, 0], [3, 0], [4, 1], [5, 1], [6, 1]]);
    // 25, 25 and 10 images.
    expect(epochs[0]!.loss).toBeCloseTo((25 * steps[0]!.loss + 25 * steps[1]!.loss + 10 * steps[2]!.loss) / 60, 10);
    expect(epochs[0]!.accuracy).toBeCloseTo((25 * steps[0]!.accuracy + 25 * steps[1]!.accuracy + 10 * steps[2]!.accuracy) / 60, 10);
    for (const { perturbation, natural, robust, loss } of steps) {
      expect(perturbation).toBeGreaterThan(0);
      expect(perturbation).toBeLessThanOrEqual(1.0001);
      if (mode === 'aff') expect(loss).toBeCloseTo(natural! + 6 * robust!, 5);
    }
    expect(only(events, 'start')[0]).toMatchObject({ step: 0, steps: 6, stepsPerEpoch: 3, images: 60, validationImages: 0, selection: 'last epoch' });
    expect(only(events, 'end')[0]).toEqual({ type: 'end', step: 6, epoch: 1 });
    expect((await told(mode)).state).toEqual(state);
    expect(tensors(encoder)).toEqual(before);
    const moved = [...before].filter(([name, value]) => state.get(name)!.some((other, i) => other !== value[i])).map(([name]) => name);
    expect(moved).toEqual(mode === 'aff' ? [...before.keys()] : []);
  });

  it('leaves the other branches, and the mode of the encoder that aff copies', async () => {
    using three = Encoder.create({ width: 2, branches: ['normal', 'pgd'], seed: 2 }).train();
    const before = tensors(three);
    const { state, branch } = await told('aff', {}, three); // of a preset that names no branch
    expect(branch).toBe('pgd');
    expect(three.training).toBe(true);
    expect(tensors(three)).toEqual(before);
    for (const [name, value] of before) if (name.includes('.normal.')) expect(state.get(name), name).toEqual(value);
    expect(state.get('encoder.bn1.pgd.weight')).not.toEqual(before.get('encoder.bn1.pgd.weight'));
  });

  it('draws other views every epoch where the configuration has some', async () => {
    const plain = await told('slf', { epochs: 2 }), same = await told('slf', { epochs: 2, overrides: { views: {} } as never });
    // Through the steps of images that stay as they are, or through features computed once: the same descent.
    for (const name of ['head.weight', 'head.bias']) plain.state.get(name)!.forEach((value, i) => expect(same.state.get(name)![i]).toBeCloseTo(value, 4));
    expect(only(same.events, 'step')).toHaveLength(6);
    expect(only(plain.events, 'step')).toHaveLength(0);
    const weak = await told('slf', { epochs: 2, overrides: { views: { padding: 1, flip: 0.5 } } as never });
    expect(weak.state.get('head.bias')).not.toEqual(same.state.get('head.bias'));
    expect((await told('slf', { epochs: 2, overrides: { views: { padding: 1, flip: 0.5 } } as never })).state).toEqual(weak.state);
  });
});

describe('held-out images', () => {
  it.each(['slf', 'alf', 'aff'] as const)('%s returns the first of the epochs that are best on them', async (mode) => {
    const { events, state } = await told(mode, { epochs: 5, validation: 0.25, overrides: { ...quick[mode], schedule: { rate: mode === 'aff' ? 0.1 : 5, at: [] } } as never });
    expect(only(events, 'start')[0]).toMatchObject({ images: 45, validationImages: 15, selection: { slf: 'clean', alf: 'pgd2', aff: 'pgd20' }[mode] });
    const accuracies = only(events, 'epoch').map(({ validationAccuracy }) => validationAccuracy!);
    const best = accuracies.indexOf(Math.max(...accuracies));
    expect(only(events, 'end')[0]).toMatchObject({ epoch: best, validationAccuracy: accuracies[best] });
    // The very classifier that a run of so many epochs ends with.
    const shorter = await told(mode, { epochs: best + 1, validation: 0.25, overrides: { ...quick[mode], schedule: { rate: mode === 'aff' ? 0.1 : 5, at: [] } } as never });
    expect(shorter.state).toEqual(state);
  });

  it('are measured as evaluate measures them', async () => {
    // Those held out are the rows that no step learns from: with all but 40 held out, whose accuracy is known from the whole.
    const labels = scope(() => data.train.labels().toTypedArray() as BigInt64Array);
    const { events } = await told('slf', { epochs: 1, validation: 40 });
    expect(only(events, 'start')[0]).toMatchObject({ images: 20, validationImages: 40 });
    using classifier = await finetune(encoder, data, tiny('slf', { epochs: 1, validation: 40 }));
    const { deriveSeed } = await import('../../src/training/seeds.js');
    using held = data.train.subset(stratified(labels, [...labels.keys()], 40, deriveSeed(3, 'validation')));
    const { clean } = await evaluate(classifier, held, { attacks: ['clean'] });
    expect(only(events, 'epoch')[0]!.validationAccuracy).toBe(clean.accuracy);
  });

  it('and label fractions are drawn class by class', () => {
    const labels = BigInt64Array.from({ length: 200 }, (_, i) => BigInt(i < 100 ? 0 : i < 150 ? 1 : i < 197 ? 2 : 3));
    const rows = [...labels.keys()];
    const counts = (drawn: number[]) => [0, 1, 2, 3].map((label) => drawn.filter((row) => labels[row] === BigInt(label)).length);
    expect(counts(stratified(labels, rows, 20, 1))).toEqual([10, 5, 5, 0]);
    expect(counts(stratified(labels, rows, 21, 1))).toEqual([11, 5, 5, 0]);
    expect(counts(stratified(labels, rows, 20, 1, { least: 1 }))).toEqual([10, 5, 5, 1]);
    expect(counts(stratified(labels, rows, 200, 1))).toEqual([100, 50, 47, 3]);
    const drawn = stratified(labels, rows, 20, 1);
    expect(new Set(drawn).size).toBe(20);
    expect(drawn).toEqual([...drawn].sort((a, b) => a - b));
    expect(stratified(labels, rows, 20, 1)).toEqual(drawn);
    expect(stratified(labels, rows, 20, 2)).not.toEqual(drawn);
    expect(stratified(labels, drawn, 5, 1).every((row) => drawn.includes(row))).toBe(true);
  });

  it('among classes with equal rights the seed decides, and one image of each can be left', () => {
    const labels = BigInt64Array.from({ length: 60 }, (_, i) => BigInt(i % 6));
    const rows = [...labels.keys()];
    const drawn = Array.from({ length: 300 }, (_, seed) => stratified(labels, rows, 8, seed));
    for (const each of drawn) expect(each).toHaveLength(8);
    // Two of the six get a second image: each class in a third of the draws, 100 +- 3 * sqrt(300 * 2/9).
    for (let label = 0; label < 6; label++) expect(Math.abs(drawn.filter((each) => each.filter((row) => row % 6 === label).length === 2).length - 100)).toBeLessThan(25);
    const few = [0, 1, 2, 6, 7, 12, 18];  // four of class 0, two of 1, one of 2
    const left = few.filter((row) => !stratified(labels, few, 4, 1, { spare: 1 }).includes(row));
    expect(new Set(left.map((row) => row % 6))).toEqual(new Set([0, 1, 2]));
    expect(left).toHaveLength(3);
  });

  it('leave one image of every class to learn from', async () => {
    await expect(finetune(encoder, data, { ...options, labelFraction: 0.1, validation: 0.5 })).rejects
      .toMatchObject({ argument: 'validation', expected: expect.stringMatching(/^at least one of the \d+ images learnt from, and one of each class left \(at most 0\)$/) as string });
    expect(only((await told('slf', { validation: 60 - data.classes.length, epochs: 1, batchSize: 10 })).events, 'start')[0]).toMatchObject({ images: data.classes.length });
  });

  it('of one label in a hundred there is one a class', async () => {
    const { events, finetuning } = await told('slf', { labelFraction: 0.01, epochs: 1 });
    expect(only(events, 'start')[0]).toMatchObject({ images: data.classes.length });
    expect(finetuning).toMatchObject({ mode: 'slf', labelFraction: 0.01, data: { name: 'procedural' } });
  });
});

describe('a fine-tuning with a folder', () => {
  const { folder } = temporary();
  const stopAt = (when: (event: FinetuneEvent) => boolean) => {
    const controller = new AbortController();
    return { signal: controller.signal, onEvent: (event: FinetuneEvent) => void (when(event) && controller.abort(new Error('enough'))) };
  };

  it.each(['slf', 'alf', 'aff'] as const)('%s goes on after an interruption at any step as if there had been none', async (mode) => {
    const whole = await told(mode, { validation: 15 });
    const out = join(folder, mode);
    const stops: ((event: FinetuneEvent) => boolean)[] = mode === 'slf'
      ? [(event) => event.type === 'epoch' && event.epoch === 0]
      : [(event) => event.type === 'step' && event.step === 1, (event) => event.type === 'epoch' && event.epoch === 0, (event) => event.type === 'step' && event.step === 3];
    for (const [at, stop] of stops.entries()) await expect(told(mode, { validation: 15, out, resume: at > 0, ...stopAt(stop) })).rejects.toThrow('enough');
    const { events, state } = await told(mode, { validation: 15, out, resume: true });
    expect(state).toEqual(whole.state);
    expect(only(events, 'end')).toEqual(only(whole.events, 'end'));
    const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as FinetuneEvent);
    const bare = (list: FinetuneEvent[]) => list.filter(({ type }) => type === 'step' || type === 'epoch').map((event) => ({ ...event, seconds: 0, secondsLeft: 0, imagesPerSecond: 0 }));
    expect(bare(lines)).toEqual(bare(whole.events));
    expect(readdirSync(out)).toEqual(expect.arrayContaining(['classifier.safetensors', 'config.json', 'environment.json', 'metrics.jsonl']));
    using loaded = await Classifier.load(out);
    expect(tensors(loaded)).toEqual(state);
    expect(loaded.finetuning).toEqual(JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')));
    // Resumed once more, it is done already.
    expect((await told(mode, { validation: 15, out, resume: true })).state).toEqual(state);
  });

  it('slf goes on to the same bits after an abort in the middle of an epoch', async () => {
    // An epoch of 1,000 steps: long enough for the clock to stop it inside.
    using many = proceduralDataset({ train: 1000, test: 10, size: 8 });
    const long: Partial<FinetuneOptions> = { epochs: 2, batchSize: 1 };
    const whole = await told('slf', long, encoder, many), out = join(folder, 'middle');
    const controller = new AbortController();
    const onEvent = ({ type }: FinetuneEvent) => void (type === 'epoch' && setTimeout(() => controller.abort(new Error('enough')), 3));
    await expect(told('slf', { ...long, out, signal: controller.signal, onEvent }, encoder, many)).rejects.toThrow('enough');
    const { events, state } = await told('slf', { ...long, out, resume: true }, encoder, many);
    expect(only(events, 'start')[0]).toMatchObject({ step: 1000 });
    expect(state).toEqual(whole.state);
  });

  it('begins anew only where one is over, when all else is right, and takes away what is its own', async () => {
    const out = join(folder, 'anew');
    const first = await told('slf', { out });
    writeFileSync(join(out, 'notes.txt'), 'mine');
    const files = readdirSync(out).sort();
    await expect(told('slf', { out, overwrite: true, validation: 60 })).rejects.toMatchObject({ argument: 'validation' });
    await expect(told('slf', { out, overwrite: true, resume: true })).rejects.toMatchObject({ argument: 'overwrite' });
    expect(readdirSync(out).sort()).toEqual(files);
    expect((await told('slf', { out, overwrite: true, seed: 4 })).state).not.toEqual(first.state);
    expect(readdirSync(out).filter((name) => !name.startsWith('events.')).sort()).toEqual(files.filter((name) => !name.startsWith('events.')));
    expect(readFileSync(join(out, 'notes.txt'), 'utf8')).toBe('mine');
    rmSync(join(out, 'classifier.safetensors'));
    await expect(told('slf', { out, overwrite: true })).rejects.toMatchObject({ argument: 'out' });
    const other = join(folder, 'pre-training');
    mkdirSync(other);
    writeFileSync(join(other, 'config.json'), JSON.stringify(presets.quickstart));
    writeFileSync(join(other, 'classifier.safetensors'), '');
    await expect(told('slf', { out: other, overwrite: true })).rejects.toMatchObject({ argument: 'out' });
  });

  it('returns its classifier where nothing can be written any more, and says so', async () => {
    const whole = await told('aff');
    const atEnd = (spoil: () => void) => (event: FinetuneEvent) => void (event.type === 'epoch' && event.epoch === event.epochs - 1 && spoil());
    // A folder stands where the checkpoint belongs: the classifier can still be written.
    const part = join(folder, 'no-checkpoint'), steps = only(whole.events, 'start')[0]!.steps;
    const spoil = atEnd(() => mkdirSync(join(part, `checkpoint-${String(steps).padStart(8, '0')}.safetensors`, 'x'), { recursive: true }));
    const { events, state } = await told('aff', { out: part, onEvent: spoil });
    expect(state).toEqual(whole.state);
    expect(only(events, 'unsaved')).toMatchObject([{ step: steps, error: { code: 'ERR_FILE' } }]);
    using kept = await Classifier.load(part);
    expect(tensors(kept)).toEqual(state);
    const gone = join(folder, 'gone');
    expect((await told('aff', { out: gone, onEvent: atEnd(() => rmSync(gone, { recursive: true })) })).state).toEqual(state);
  });

  it('goes on with its images wherever they lie now, whatever that place is called, and with no others', async () => {
    const out = join(folder, 'moved'), config = () => (JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')) as { data: object }).data;
    const whole = await told('slf', { out }), before = config();
    const moved = { ...data, name: 'moved', path: '/elsewhere/moved' };
    const { state, finetuning } = await told('slf', { out, resume: true }, encoder, moved);
    expect(state).toEqual(whole.state);
    expect(finetuning).toMatchObject({ data: { ...before, path: '/elsewhere/moved' } });
    expect(config()).toEqual({ ...before, path: '/elsewhere/moved' });
    await told('slf', { out, resume: true });
    expect(config()).toEqual({ ...before, path: '/elsewhere/moved' });
    using reversed = data.train.subset(Array.from({ length: 60 }, (_, i) => 59 - i));
    await expect(told('slf', { out, resume: true }, encoder, { ...moved, train: reversed })).rejects.toMatchObject({ argument: 'data.sha256' });
  });

  it('is refused as another, and where there is one', async () => {
    const out = join(folder, 'aff');
    await expect(told('aff', { validation: 15, out })).rejects.toMatchObject({ argument: 'out' });
    await expect(told('aff', { validation: 14, out, resume: true })).rejects.toMatchObject({ argument: 'validation', received: '14' });
    using other = Encoder.create({ width: 2, seed: 9 });
    await expect(told('aff', { validation: 15, out, resume: true }, other)).rejects.toMatchObject({ argument: 'encoder' });
  });
});

describe('transfer', () => {
  it('fine-tunes on other classes and sizes', async () => {
    const { Split } = await import('../../src/data/dataset.js');
    const split = (length: number) => Split.from({ pixels: Uint8Array.from({ length: length * 3 * 144 }, (_, i) => (i * 37) % 251), labels: Array.from({ length }, (_, i) => i % 3), channels: 3, size: 12 });
    const { makeDataset } = await import('../../src/data/dataset.js');
    using other = makeDataset('other', ['a', 'b', 'c'], split(12), split(3));
    const { state } = await told('aff', { epochs: 1, batchSize: 11 }, encoder, other);
    expect(state.get('head.bias')).toHaveLength(3);
  });
});
