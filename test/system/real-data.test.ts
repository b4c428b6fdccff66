// The real images: CIFAR-10 in the folder that A_INFONCE_DATA names, Fashion-MNIST where Debian's package puts it. Without them there is nothing to test.
import { Encoder, evaluate, finetune, openDataset, ops, pretrain, scope, type Dataset } from 'a-infonce';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const there = async (name: string): Promise<boolean> => openDataset(name).then((data) => (data.dispose(), true), () => false);
const cifar = process.env['A_INFONCE_DATA'] !== undefined && (await there('cifar10'));
const fashion = await there('fashion-mnist');

const counts = (data: Dataset, part: 'train' | 'test') => scope(() => Array.from(ops.aten.bincount(data[part].labels()).toTypedArray() as BigInt64Array, Number));
/** Mean of each channel over the training images, in [0, 1]. */
const means = (data: Dataset) => scope(() => Array.from(ops.aten.mean(data.train.pixels, [0, 2, 3], { dtype: 'float64' }).toTypedArray() as Float64Array, (v) => v / 255));

describe.skipIf(!cifar)('CIFAR-10', () => {
  it('has its images, classes and colours', async () => {
    using data = await openDataset('cifar10');
    expect([data.train.length, data.test.length, data.channels, data.size, data.classes[3]]).toEqual([50_000, 10_000, 3, 32, 'cat']);
    expect([counts(data, 'train'), counts(data, 'test')]).toEqual([Array(10).fill(5000), Array(10).fill(1000)]);
    means(data).forEach((mean, channel) => expect(Math.abs(mean - [0.4914, 0.4822, 0.4465][channel]!)).toBeLessThan(0.003));
  });

  it('goes through the whole line: pre-training, linear head, clean and PGD accuracy', async () => {
    const out = mkdtempSync(join(tmpdir(), 'a-infonce-'));
    using all = await openDataset('cifar10');
    using train = all.train.subset(512);
    const data = { ...all, train, dispose() {}, [Symbol.dispose]() {} } as Dataset;
    const overrides = { encoder: { width: 4 }, attack: { steps: 2 } };
    const losses: number[] = [];
    for await (const event of pretrain({ preset: 'rocl-iphn-cifar10', data, out: join(out, 'run'), epochs: 2, batchSize: 128, overrides }))
      if (event.type === 'step') losses.push(event.loss);
    expect(losses).toHaveLength(8);
    expect(losses.every(Number.isFinite)).toBe(true);
    using encoder = await Encoder.load(join(out, 'run'));
    using classifier = await finetune(encoder, data, { mode: 'slf', epochs: 5 });
    const exact = await evaluate(classifier, data.test, { attacks: ['clean', 'pgd5'], epsilon: 0, limit: 500 });
    expect(exact.pgd5.correct).toBe(exact.clean.correct);
    const attacked = await evaluate(classifier, data.test, { attacks: ['clean', 'pgd5'], limit: 500 });
    expect(attacked.clean.correct).toBe(exact.clean.correct);
    expect(attacked.pgd5.correct).toBeLessThan(attacked.clean.correct);
    rmSync(out, { recursive: true });
  });
});

describe.skipIf(!fashion)('Fashion-MNIST', () => {
  it('has its images, classes and brightness', async () => {
    using data = await openDataset('fashion-mnist');
    expect([data.train.length, data.test.length, data.channels, data.size, data.classes[9]]).toEqual([60_000, 10_000, 1, 28, 'Ankle boot']);
    expect([counts(data, 'train'), counts(data, 'test')]).toEqual([Array(10).fill(6000), Array(10).fill(1000)]);
    expect(means(data)[0]).toBeCloseTo(0.286, 3);
  });
});
