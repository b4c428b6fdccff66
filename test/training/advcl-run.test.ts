import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  Encoder, pretrain, readSafetensors, scope, tensor, writeSafetensors, type AdvclConfig, type Overrides, type PretrainEvent, type PretrainOptions,
} from 'a-infonce';
import { all, steps, temporary } from '../fixtures/runs.js';

const { folder, fresh } = temporary();

const path = join(folder, 'labels.safetensors');
const overrides: Overrides<AdvclConfig> = {
  data: { name: 'procedural', procedural: { train: 12, test: 10, size: 8 } }, encoder: { width: 2 }, projector: { hidden: [8], output: 4 }, highFrequencyRadius: 2,
  attack: { steps: 1 }, objective: { inferiorPositive: { adaptive: { warmupEpochs: 1, dMin: 0 } } }, pseudoLabels: { classes: [2, 5], path },
};
/** Two epochs of two steps, of 8 and 4 images, the first epoch being the warm-up of alpha. */
const tiny = (out: string, more: Partial<PretrainOptions> = {}): PretrainOptions =>
  ({ preset: 'advcl-iphn-cifar10', out, epochs: 2, batchSize: 8, seed: 7, overrides, checkpointEvery: { steps: 1 }, ...more });

const labelsOf = (classes: number, n = 12) => tensor(BigInt64Array.from({ length: n }, (_, i) => BigInt(i % classes)));
const write = (file: string, lists: Record<string, ReturnType<typeof labelsOf>>) => writeSafetensors(file, Object.entries(lists), {});

const reference = fresh();
let events: PretrainEvent[];
beforeAll(async () => {
  await scope(() => write(path, { k2: labelsOf(2), k5: labelsOf(5), k10: labelsOf(10) }));
  events = await all(tiny(reference));
});

describe('a run of AdvCL', () => {
  it('tells the terms of each step, and adapts alpha after the warm-up to the mean distance in it', () => {
    const told = steps(events);
    expect(told).toHaveLength(4);
    for (const { loss, contrastive, crossEntropy, perturbation } of told) {
      expect(loss).toBeCloseTo(contrastive! + 0.2 * crossEntropy!, 4);
      expect(perturbation).toBeGreaterThan(0);
      expect(perturbation).toBeLessThanOrEqual(1.0001);
    }
    expect(told.slice(0, 2).map(({ alpha }) => alpha)).toEqual([0.2, 0.2]);
    const images = [8, 4];
    const dMax = told.slice(0, 2).reduce((sum, { distance }, i) => sum + distance! * images[i]!, 0) / 12;
    for (const { alpha, distance } of told.slice(2)) expect(alpha).toBeCloseTo(distance! >= dMax ? 0.2 : 0.2 + ((dMax - distance!) / dMax) * 0.3, 10);
    expect(told.slice(2).some(({ alpha }) => alpha! > 0.2 && alpha! < 0.5)).toBe(true);
  });

  it('records the labels by their SHA-256, and its encoder has three branches and the heads', async () => {
    const { pseudoLabels } = JSON.parse(readFileSync(join(reference, 'config.json'), 'utf8')) as AdvclConfig;
    expect(pseudoLabels).toEqual({ classes: [2, 5], weight: 0.2, path, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
    using encoder = await Encoder.load(reference);
    expect(encoder.config).toMatchObject({ branches: ['normal', 'pgd', 'pgd_ce'], heads: [2, 5], projector: { hidden: [8], output: 4, batchNorm: true } });
    const { metadata } = await scope(() => readSafetensors(join(reference, 'checkpoint-00000004.safetensors')));
    const { method } = JSON.parse(metadata['a_infonce.run']!) as { method: object };
    expect(method).toEqual({ distanceSum: expect.any(Number), distanceCount: 12 });
  });

  it.each([1, 2, 3])('stopped after %i steps and resumed ends in the same bits', async (stop) => {
    const out = fresh();
    const controller = new AbortController();
    await expect(all(tiny(out, { signal: controller.signal }), (event) => event.type === 'step' && event.step === stop && controller.abort(new Error('enough')))).rejects.toThrow('enough');
    const rest = steps(await all({ out, resume: true }));
    const clockless = ({ imagesPerSecond, secondsLeft, ...values }: (typeof rest)[number]) => values;
    expect(rest.map(clockless)).toEqual(steps(events).slice(stop).map(clockless));
    expect(readFileSync(join(out, 'encoder.safetensors')).equals(readFileSync(join(reference, 'encoder.safetensors')))).toBe(true);
  });

  it('goes on with the labels at another place, not with others', async () => {
    const out = fresh(), moved = join(folder, 'moved.safetensors'), others = join(folder, 'others.safetensors');
    for await (const event of pretrain(tiny(out))) if (event.type === 'checkpoint') break;
    await scope(() => write(moved, { k2: labelsOf(2), k5: labelsOf(5), k10: labelsOf(10) }));
    await scope(() => write(others, { k2: labelsOf(2), k5: labelsOf(4) }));
    await expect(all({ out, resume: true, overrides: { pseudoLabels: { path: others } } as Overrides<AdvclConfig> })).rejects.toThrow(expect.objectContaining({ argument: 'pseudoLabels.sha256' }));
    const rest = await all({ out, resume: true, overrides: { pseudoLabels: { path: moved } } as Overrides<AdvclConfig> });
    expect(rest.at(-1)).toMatchObject({ type: 'end', step: 4 });
  });

  it('needs no labels with weight 0', async () => {
    const out = fresh();
    const told = steps(await all(tiny(out, { epochs: 1, overrides: { ...overrides, pseudoLabels: { weight: 0 } } as Overrides<AdvclConfig> })));
    for (const { loss, contrastive, crossEntropy } of told) {
      expect(loss).toBe(contrastive);
      expect(crossEntropy).toBeUndefined();
    }
    using encoder = await Encoder.load(out);
    expect(encoder.config.heads).toEqual([]);
  });

  it('refuses a run without labels, with labels of other images or of other numbers of clusters', async () => {
    const short = join(folder, 'short.safetensors'), nothing = join(folder, 'nothing.safetensors');
    await scope(() => write(short, { k2: labelsOf(2, 11), k5: labelsOf(5, 11) }));
    const withLabels = (pseudoLabels: object) => all(tiny(fresh(), { overrides: { ...overrides, pseudoLabels } as Overrides<AdvclConfig> }));
    await expect(withLabels({})).rejects.toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: 'pseudoLabels.path' }));
    await expect(withLabels({ path: nothing })).rejects.toThrow(/nothing\.safetensors: no such file/);
    await expect(withLabels({ path: short, classes: [2, 5] })).rejects.toThrow(/labels of 12 images/);
    await expect(withLabels({ path, classes: [2, 7] })).rejects.toThrow(/expected those of 2, 7 clusters, got 2, 5, 10/);
    const out = fresh();
    await expect(all(tiny(out, { overrides: { ...overrides, pseudoLabels: { path: short, classes: [2, 5] } } as Overrides<AdvclConfig> }))).rejects.toThrow();
    expect(existsSync(join(out, 'config.json'))).toBe(false); // so that the corrected call may begin there
  });
});
