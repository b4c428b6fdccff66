import {
  autoAttack, carliniWagner, Classifier, cuda, Encoder, evaluate, evaluateCorruptions, fab, finetune, loadTorchScript, manualSeed, memory, noGrad, Optimizer, OutOfMemoryError, pgd, predict, pretrain, proceduralDataset, rand, readSafetensors,
  scope, square, zeros, type PgdOptions, type PretrainEvent, type PretrainOptions,
} from 'a-infonce';
import { beforeEach, describe, expect, it } from 'vitest';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporary } from '../fixtures/runs.js';
import { apart, aten, device, integers, small, there } from './device.js';

beforeEach(() => manualSeed(1));
const { fresh } = temporary();
const onDevice = device !== 'cpu';
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/model/${name}`, import.meta.url));

describe('models', () => {
  it('move with what they share, stay the same tensors, and give the CPU\'s outputs and gradients', () => {
    using encoder = small(16);
    using classifier = Classifier.create({ encoder, classes: 10 });
    using images = rand([6, 3, 32, 32]);
    const weight = encoder.parameters()[0]!;
    scope(() => {
      for (const branch of encoder.config.branches)
        for (const train of [true, false]) {
          const slope = (model: Encoder, x: typeof images) => {
            x = x.detach();
            x.requiresGrad = true;
            const output = (train ? model.train() : model.eval()).forward(x, { branch, output: 'projection' });
            aten.sum(aten.square(output)).backward();
            return [output.detach(), x.grad!] as const;
          };
          using copy = encoder.clone(), expected = encoder.clone();
          const [[output, gradient], [wanted, slopes]] = [slope(copy.to(device), there(images)), slope(expected, images)];
          const largest = (x: typeof images) => aten.max(aten.abs(x)).item();
          expect(apart(output, wanted)).toBeLessThan(2e-4 * largest(wanted));   // Winograd's rounding; TF32's would be 5e-3
          expect(apart(gradient, slopes)).toBeLessThan(5e-3 * largest(slopes));
          if (train) for (const [name, value] of copy.state()) if (name.includes('running')) expect(apart(value, expected.state().get(name)!), name).toBeLessThan(2e-4);
        }
    });
    classifier.to(device);
    expect(new Set([weight, ...encoder.parameters().slice(0, 6), ...classifier.state().values()].map((x) => x.device)).size).toBe(1);
    expect(classifier.device).toBe(there(images).device);
    if (onDevice) expect(() => classifier.forward(images)).toThrow(/^images: expected device cuda:0, got cpu$/);
    expect(classifier.to('cpu').device).toBe('cpu');
  });

  it('files know no device', async () => {
    using encoder = small().to(device);
    const path = `${fresh()}.safetensors`;
    await encoder.save(path);
    using onCpu = await Encoder.load(path), back = await Encoder.load(path, { device });
    expect([onCpu.device, back.device]).toEqual(['cpu', encoder.device]);
    for (const [name, value] of encoder.state()) expect(apart(value, onCpu.state().get(name)!), name).toBe(0);
  });

  it('TorchScript', async () => {
    const { tensors } = await readSafetensors(fixture('tiny.safetensors'));
    using model = (await loadTorchScript(await readFile(fixture('tiny.pt')), { device })).eval();
    expect(model.device).toBe(there(tensors.get('test.input')!).device);
    expect(apart(model.forward(there(tensors.get('test.input')!)), tensors.get('test.eval')!)).toBeLessThan(5e-3);
    const adversarial = await pgd(model, rand([4, 3, 6, 6]), integers(4, (i) => i % 5), { steps: 2 });
    expect([adversarial.device, adversarial.shape]).toEqual(['cpu', [4, 3, 6, 6]]);
  });
});

describe('attacks', () => {
  const model = () => Classifier.create({ encoder: small(), classes: 10, seed: 2 }).eval();
  const ball = (adversarial: ReturnType<typeof rand>, images: ReturnType<typeof rand>, epsilon: number) => {
    expect(apart(adversarial, images)).toBeLessThanOrEqual(epsilon * (1 + 1e-6));
  };

  it('predictions come back where the images came from', async () => {
    using classifier = model(), expected = model();
    const images = rand([10, 3, 16, 16]), wanted = await predict(expected, images);
    classifier.to(device);
    for (const given of [images, there(images)]) {
      const { predicted, logits } = await predict(classifier, given, { batchSize: 4 });
      expect([predicted.device, logits.device]).toEqual([given.device, given.device]);
      expect(apart(logits, wanted.logits)).toBeLessThan(1e-2);
    }
    expect(classifier.predict(there(images))).toHaveLength(10);
    expect(() => classifier.predict(there(aten.mul(images, 255)))).toThrow(/^images: expected values in \[0, 1\]/);
  });

  it('each stays in its ball and does the same again', async () => {
    using classifier = model().to(device);
    const images = rand([8, 3, 16, 16]), labels = integers(8, (i) => i % 5);
    const makers = {
      linf: () => pgd(classifier, images, labels, { steps: 3, epsilon: 0.03, restarts: 2, seed: 4 }),
      early: () => pgd(classifier, there(images), there(labels), { steps: 3, epsilon: 0.03, earlyStop: true, seed: 4 }),
      fab: () => fab(classifier, images, labels, { steps: 3, epsilon: 0.03, targets: 2 }),
      square: () => square(classifier, images, labels, { queries: 20, epsilon: 0.03 }),
    };
    for (const make of Object.values(makers)) {
      const [first, again] = [await make(), await make()];
      ball(first, images, 0.03);
      expect(apart(first, again)).toBe(0);
    }
    expect(apart(await makers.linf(), images)).toBeGreaterThan(0);
    const l2 = await pgd(classifier, images, labels, { norm: 'l2', steps: 3, epsilon: 0.4, seed: 4 });
    expect(aten.max(aten.linalg_vector_norm(aten.flatten(aten.sub(l2, images), 1), 2, [1])).item()).toBeLessThan(0.4 * (1 + 1e-5));
    expect((await carliniWagner(classifier, images, labels, { steps: 3, searchSteps: 2 })).shape).toEqual(images.shape);
  });

  it.runIf(onDevice)('steps by a graph are those without, over batches and restarts', async () => {
    using classifier = model().to(device);
    const images = rand([10, 3, 16, 16]), labels = integers(10, (i) => i % 5);
    for (const options of [{ epsilon: 0.03 }, { norm: 'l2', epsilon: 0.4, momentum: 0.9 }, { epsilon: 0.03, restarts: 2 }] as const)
      for (const given of [images, there(images)]) {
        const run = (graph: boolean) => pgd(classifier, given, labels, { ...options, steps: 7, batchSize: 4, seed: 4, graph });
        expect(apart(await run(true), await run(false)), JSON.stringify(options)).toBeLessThan(1e-6);
      }
    using encoder = small().to(device);
    const contrastive = (graph: boolean) => pgd(encoder, images, null, { objective: { contrastive: images }, steps: 6, batchSize: 5, epsilon: 0.03, seed: 4, graph });
    expect(apart(await contrastive(true), await contrastive(false))).toBeLessThan(1e-6);
  });

  it.runIf(onDevice)('a graph that the model keeps serves later calls and evaluations, whatever became of the weights', async () => {
    using encoder = small(), classifier = Classifier.create({ encoder, classes: 10, seed: 2 }).to(device).eval();
    const labels = integers(6, (i) => i % 5), weight = classifier.state().get('encoder.conv1.weight')!;
    const same = async (options: Partial<PgdOptions> = {}, images = rand([6, 3, 16, 16])) => {
      const run = (graph: boolean) => pgd(classifier, images, labels, { epsilon: 0.03, steps: 6, seed: 4, ...options, graph });
      expect(apart(await run(true), await run(false))).toBeLessThan(1e-6);
    };
    await same();
    await same({ seed: 7, steps: 9, restarts: 2 });
    noGrad(() => void aten.mul_(weight, 1.5));
    await same();
    classifier.train().forward(there(rand([6, 3, 16, 16]))).dispose();
    classifier.eval();
    await same();
    classifier.to('cpu').to(device);
    await same();
    encoder.to('cpu').to(device);
    await same();
    noGrad(() => void aten.set_(weight, aten.mul(weight, 0.5)));
    await same();
    await expect(pgd(classifier, rand([6, 3, 16, 16]), integers(6, () => 10), { epsilon: 0.03, steps: 6, graph: true })).rejects.toThrow('classes from 0 to 9');
    await Promise.all([same(), same({ seed: 1 }), same({ norm: 'l2', epsilon: 0.4 })]);
    const data = proceduralDataset({ train: 1, test: 24, size: 16 }), settings = { attacks: ['clean', 'pgd6'], epsilon: 2 / 255, batchSize: 10 } as const;
    const [by, without] = [await evaluate(classifier, data.test, { ...settings, graph: true }), await evaluate(classifier, data.test, settings)];
    expect([by.clean.correct, Math.abs(by.pgd6.correct - without.pgd6.correct) <= 1]).toEqual([without.clean.correct, true]);
  });

  it.runIf(onDevice)('images on the CPU take the memory of a batch there', async () => {
    using classifier = model().to(device);
    const images = rand([2048, 3, 64, 64]), bytes = 4 * 2048 * 3 * 64 * 64;  // well above the workspace that a thread's cuBLAS takes
    await predict(classifier, aten.slice(images, 0, 0, 8), { batchSize: 8 });
    cuda.releaseMemory();
    cuda.resetPeakMemory(device);
    const before = cuda.memory(device).allocated;
    await predict(classifier, images, { batchSize: 8 });
    expect(cuda.memory(device).peak - before).toBeLessThan(bytes);
  });

  it('a function is attacked where its images are', async () => {
    using classifier = model().to(device);
    const images = there(rand([4, 3, 16, 16]));
    const adversarial = await pgd((x) => classifier.forward(x), images, integers(4, (i) => i % 5), { steps: 2, epsilon: 0.03 });
    expect(adversarial.device).toBe(images.device);
    ball(adversarial, images, 0.03);
  });

  it('a loss that is not finite is an error once the steps are queued, which says where', async () => {
    const images = there(rand([8, 3, 4, 4]));
    let calls = -1; // the first embeds the positives
    const spoilt = (x: typeof images) => scope(() => aten.mul(aten.flatten(x, 1), ++calls < 2 ? 1 : NaN));
    await expect(pgd(spoilt, images, null, { objective: { contrastive: there(rand([8, 3, 4, 4])) }, steps: 4 })).rejects.toMatchObject({
      name: 'NonFiniteError', message: expect.stringMatching(onDevice ? /^features: .* \(step 2 of the attack\)$/ : /^features: /),
    });
    expect(calls).toBe(onDevice ? 4 : 2);
  });

  it('AutoAttack and evaluations count as on the CPU', async () => {
    using classifier = model(), data = proceduralDataset({ train: 1, test: 24, size: 16 });
    const settings = { attacks: ['clean', 'pgd3'] as const, epsilon: 2 / 255, batchSize: 10 };
    const expected = await evaluate(classifier, data.test, settings);
    classifier.to(device);
    using resident = data.test.to(device);
    for (const split of [data.test, resident]) {
      const found = await evaluate(classifier, split, settings);
      expect(Math.abs(found.clean.correct - expected.clean.correct)).toBeLessThanOrEqual(1);
      expect(Math.abs(found.pgd3.correct - expected.pgd3.correct)).toBeLessThanOrEqual(1);
    }
    const { settings: { limit }, correct } = await autoAttack(classifier, rand([6, 3, 16, 16]), integers(6, (i) => i % 5), { epsilon: 0.01 }) as { settings: { limit: number }; correct: number };
    expect([limit, correct <= 6]).toEqual([6, true]);
  });
});

describe('training', () => {
  const data = { procedural: { train: 24, test: 8, size: 16 } };
  const tiny = (preset: PretrainOptions['preset'], more: Partial<PretrainOptions> = {}): PretrainOptions => ({
    preset: preset!, out: fresh(), epochs: 1, batchSize: 8, ...more,
    overrides: { encoder: { width: 4 }, data: { name: 'procedural', ...data }, ...(/advcl/.test(preset!) && { pseudoLabels: { weight: 0 } }), ...(more.overrides as object) } as PretrainOptions['overrides'],
  } as PretrainOptions);
  const events = async (options: PretrainOptions, hear?: (event: PretrainEvent) => void) => {
    const all: PretrainEvent[] = [];
    for await (const event of pretrain(options)) all.push(event), hear?.(event);
    return all;
  };
  const losses = (all: PretrainEvent[]) => all.flatMap((event) => (event.type === 'step' ? [event.loss] : []));

  const presets = ['rocl-iphn-cifar10', 'advcl-iphn-cifar10', 'acl-cifar10', 'dynacl-cifar10', 'simclr-cifar10', 'supcon-cifar10', 'moco-cifar10'] as const;
  it.each(presets)('%s begins as on the CPU', async (preset) => {
    const overrides = preset === 'moco-cifar10' ? { groups: 2, queue: { size: 16 } } : {};
    const [found, expected] = [losses(await events(tiny(preset, { device, overrides: overrides as never }))), losses(await events(tiny(preset, { overrides: overrides as never })))];
    expect(found).toHaveLength(3);
    expect(Math.abs(found[0]! - expected[0]!)).toBeLessThan(0.02 * Math.abs(expected[0]!));
    for (const loss of found) expect(Number.isFinite(loss)).toBe(true);
  });

  it('the same seed gives the same bits', async () => {
    const [first, again] = [await events(tiny('rocl-iphn-cifar10', { device })), await events(tiny('rocl-iphn-cifar10', { device }))];
    expect(losses(again)).toEqual(losses(first));
  });

  it.each(['rocl-iphn-cifar10', 'advcl-iphn-cifar10'] as const)('%s in bf16', async (preset) => {
    const [found, full] = [losses(await events(tiny(preset, { device, overrides: { precision: 'bf16' } as never }))), losses(await events(tiny(preset, { device })))];
    expect(Math.abs(found[0]! - full[0]!)).toBeLessThan(0.1 * Math.abs(full[0]!));
  });

  it('a run is resumed on the CPU, and says so; its folder names the device', async () => {
    const out = fresh(), stop = new AbortController();
    await expect(events(tiny('rocl-iphn-cifar10', { device, out, signal: stop.signal }), (event) => event.type === 'step' && event.step === 2 && stop.abort())).rejects.toThrow();
    const environment = JSON.parse(await readFile(join(out, 'environment.json'), 'utf8')) as { device?: string; gpu?: string };
    if (onDevice) expect(environment).toMatchObject({ device: 'cuda:0', gpu: cuda.devices()[0]!.name });
    const rest = await events({ out, resume: true });
    expect(losses(rest)).toHaveLength(1);
    if (onDevice) expect(rest.flatMap((event) => (event.type === 'warning' ? [event.message] : []))).toContainEqual(expect.stringContaining('device'));
    using encoder = await Encoder.load(out, { device });
    expect(Number.isFinite(aten.sum(encoder.forward(there(rand([2, 3, 16, 16])))).item())).toBe(true);
  });

  it.each(['slf', 'alf', 'aff'] as const)('%s', async (mode) => {
    using encoder = small(4).to(device), images = proceduralDataset({ train: 40, test: 8, size: 16 });
    const seen: number[] = [];
    using classifier = await finetune(encoder, images, {
      mode, epochs: 2, batchSize: 16, validation: 0.2, onEvent: (event) => event.type === 'epoch' && seen.push(event.loss),
      overrides: (mode === 'aff' ? { trades: { attack: { steps: 1 } } } : {}) as never,
    });
    expect([classifier.device, seen.length, seen.every(Number.isFinite)]).toEqual([encoder.device, 2, true]);
  });
});

it('corruptions of a split on a device count as on the CPU', async () => {
  using classifier = Classifier.create({ encoder: small(), classes: 10, seed: 2 }).eval(), data = proceduralDataset({ train: 1, test: 20, size: 32 });
  const options = { types: ['fog', 'jpeg-compression'], severities: [3], batchSize: 8 } as const;
  const expected = await evaluateCorruptions(classifier, data.test, options);
  classifier.to(device);
  using resident = data.test.to(device);
  const found = await evaluateCorruptions(classifier, resident, options);
  found.scores.forEach(({ correct }, i) => expect(Math.abs(correct - expected.scores[i]!.correct)).toBeLessThanOrEqual(1));
});

it('an optimizer follows its model to a device', () => {
  using moved = small(4), stayed = small(4);
  scope(() => {
    const x = rand([4, 3, 16, 16]), before = aten.sum(aten.square(moved.parameters()[0]!)).item();
    const train = (model: Encoder, places: readonly string[]) => {
      const optimizer = new Optimizer(Object.fromEntries(model.parameters().map((each, i) => [String(i), each])), { momentum: 0.9 });
      for (const place of places) {
        optimizer.zeroGrad();
        aten.sum(model.to(place).forward(x.to({ device: place }), { output: 'projection' })).backward();
        optimizer.step(1e-3);
      }
      return model.to('cpu').parameters()[0]!;
    };
    const [one, other] = [train(moved, ['cpu', device, 'cpu']), train(stayed, ['cpu', 'cpu', 'cpu'])];
    expect(aten.sum(aten.square(one)).item()).not.toBe(before);
    expect(apart(one, other)).toBeLessThan(1e-3 * aten.max(aten.abs(other)).item());
  });
});

describe('memory', () => {
  it('none left is a typed error in a sentence, and all goes on', () => {
    const before = memory();
    const ask = () => zeros([2 ** 42], { device });
    expect(ask).toThrow(OutOfMemoryError);
    if (onDevice) expect(ask).toThrow(/CUDA out of memory\. Tried to allocate 16384\.00 GiB\. GPU 0 has a total capacity of [\d.]+ GiB of which [\d.]+ GiB is free\.$/);
    scope(() => expect(aten.sum(there(zeros([64, 64]))).item()).toBe(0));
    expect(memory()).toEqual(before);
  });

  it('is counted', () => {
    const before = memory().bytes, held = onDevice ? cuda.memory(device).allocated : 0;
    using x = zeros([1 << 20], { device });
    expect(memory().bytes - before).toBe(4 << 20);
    if (!onDevice) return;
    expect(cuda.memory(device).allocated - held).toBe(4 << 20);
    cuda.synchronize(x.device);
    cuda.releaseMemory();
    cuda.resetPeakMemory(device);
    const { peak, reserved, free, total } = cuda.memory(device);
    expect(peak).toBeLessThanOrEqual(reserved);
    expect(free).toBeLessThan(total);
  });
});
