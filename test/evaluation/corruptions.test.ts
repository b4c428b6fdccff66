import { createHash } from 'node:crypto';
import { readFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ArgumentRangeError, ArgumentTypeError, corrupt, CORRUPTIONS, evaluateCorruptions, FileError, ops, proceduralDataset, scope, Split, tensor, type CorruptionScore, type Dataset,
  type Tensor,
} from 'a-infonce';
import { npyFile } from '../data/npy.js';

const { aten } = ops;
let data: Dataset;
let root: string;
beforeAll(() => {
  data = proceduralDataset({ train: 10, test: 30 });
  root = mkdtempSync(join(tmpdir(), 'a-infonce-corruptions-'));
});
afterAll(() => {
  data.dispose();
  rmSync(root, { recursive: true, force: true });
});

/** The class of the nearest clean image: right without a corruption, wrong now and then with one. Every run of ten images holds each class once. */
const model = (images: Tensor) => scope(() => {
  const rows = images.shape[0]!;
  const distances = aten.cdist(aten.reshape(images, [rows, 3072]), aten.reshape(data.test.images(), [30, 3072]));
  return aten.neg(aten.amin(aten.reshape(distances, [rows, 3, 10]), [1]));
});
const right = (split: Split, limit = split.length) => scope(() => {
  const predicted = aten.argmax(model(split.images(0, limit)), 1).toTypedArray() as BigInt64Array;
  return predicted.filter((value, i) => value === split.labels(i, i + 1).toTypedArray()[0]).length;
});

describe('evaluateCorruptions', () => {
  it('counts what is right of each type and severity, and takes the means', async () => {
    const seen: number[] = [];
    const report = await evaluateCorruptions(model, data.test, {
      types: ['fog', 'snow', 'jpeg-compression'], severities: [1, 5], seed: 3, limit: 25, batchSize: 7,
      onProgress: ({ done, total }) => { expect(total).toBe(7 * 25); seen.push(done); },
    });
    expect(report.clean).toEqual({ accuracy: right(data.test, 25) / 25, correct: right(data.test, 25), total: 25 });
    expect(report.scores.map(({ type, severity }) => `${type}-${severity}`)).toEqual(['fog-1', 'fog-5', 'snow-1', 'snow-5', 'jpeg-compression-1', 'jpeg-compression-5']);
    for (const { type, severity, correct, total, accuracy, settings } of report.scores) {
      using split = await corrupt(data.test, { type: type as 'fog', severity, seed: 3 });
      expect([correct, total, accuracy]).toEqual([right(split, 25), 25, right(split, 25) / 25]);
      expect(settings).toEqual({ corruption: type, severity, limit: 25, source: 'generated', seed: 3 });
    }
    const [a, b, c, d, e, f] = report.scores.map(({ accuracy }) => accuracy) as [number, number, number, number, number, number];
    expect(report.types).toEqual({ 'fog': (a + b) / 2, 'snow': (c + d) / 2, 'jpeg-compression': (e + f) / 2 });
    expect(report.mean).toBeCloseTo((a + b + c + d + e + f) / 6, 12);
    expect(report.relative).toBeCloseTo(report.mean / report.clean.accuracy, 12);
    expect(new Set([a, b, c, d, e, f, report.clean.accuracy]).size).toBeGreaterThan(2);
    expect(seen.at(-1)).toBe(7 * 25);
    expect(seen).toEqual([...seen].sort((x, y) => x - y));
  });

  it('measures the fifteen types at five severities unless told', async () => {
    const report = await evaluateCorruptions(model, data.test, { limit: 2 });
    expect(report.scores.length).toBe(75);
    expect(Object.keys(report.types)).toEqual(CORRUPTIONS);
  });

  it('goes on where an interrupted call stopped', async () => {
    const stop = new AbortController();
    const kept: CorruptionScore[] = [];
    const options = { types: ['contrast', 'pixelate'], severities: [2, 4], limit: 10 } as const;
    await expect(evaluateCorruptions(model, data.test, {
      ...options, signal: stop.signal, onScore: async (score) => {
        await Promise.resolve();
        kept.push(score);
        if (kept.length === 2) stop.abort(new Error('enough'));
      },
    })).rejects.toThrow('enough');
    expect(kept.map(({ type, severity }) => [type, severity])).toEqual([['contrast', 2], ['contrast', 4]]);
    const measured: string[] = [];
    const onScore = ({ type, severity }: CorruptionScore) => { measured.push(`${type}-${severity}`); };
    const report = await evaluateCorruptions(model, data.test, { ...options, done: kept, onScore });
    expect(measured).toEqual(['pixelate-2', 'pixelate-4']);
    expect(report).toEqual(await evaluateCorruptions(model, data.test, options));
    measured.length = 0;
    await evaluateCorruptions(model, data.test, { ...options, done: report.scores, onScore, seed: 1 });  // other settings: nothing is taken over
    expect(measured.length).toBe(4);
  });

  it('reads published images, of the same test set alone', async () => {
    const rows = 6;
    const test = data.test.subset(Array.from({ length: rows }, (_, k) => k));
    const blocks: Buffer[] = [];
    for (const severity of [1, 2, 3, 4, 5] as const) {
      using split = await corrupt(test, { type: 'contrast', severity });
      blocks.push(Buffer.from(aten.permute(split.pixels, [0, 2, 3, 1]).toTypedArray() as Uint8Array));
    }
    for (const name of ['contrast', 'spatter']) writeFileSync(join(root, `${name}.npy`), npyFile('|u1', [5 * rows, 32, 32, 3], Buffer.concat(blocks)));
    const labels = Uint8Array.from(test.labels().toTypedArray() as BigInt64Array, Number);
    writeFileSync(join(root, 'labels.npy'), npyFile('|u1', [rows], labels));
    const made = await evaluateCorruptions(model, test, { types: ['contrast'] });
    const read = await evaluateCorruptions(model, test, { types: ['contrast', 'spatter'], source: root });
    expect(read.scores.slice(0, 5).map(({ correct }) => correct)).toEqual(made.scores.map(({ correct }) => correct));
    expect(read.scores[7]!.settings).toEqual({ corruption: 'spatter', severity: 3, limit: rows, source: 'published', folder: root, sha256: createHash('sha256').update(readFileSync(join(root, 'spatter.npy'))).digest('hex') });
    // Other images in the place of the first are measured.
    writeFileSync(join(root, 'spatter.npy'), npyFile('|u1', [5 * rows, 32, 32, 3], Buffer.concat(blocks.toReversed())));
    const again: string[] = [];
    await evaluateCorruptions(model, test, { types: ['contrast', 'spatter'], source: root, done: read.scores, onScore: ({ type }) => void again.push(type) });
    expect(again).toEqual(Array(5).fill('spatter'));
    await expect(evaluateCorruptions(model, test, { source: root })).rejects.toThrow('expected files for gaussian-noise');
    await expect(evaluateCorruptions(model, data.test, { types: ['contrast'], source: root })).rejects.toBeInstanceOf(FileError);
    writeFileSync(join(root, 'labels.npy'), npyFile('|u1', [rows], labels.with(2, labels[2]! + 1)));
    await expect(evaluateCorruptions(model, test, { types: ['contrast'], source: root })).rejects.toThrow('other labels');
    test.dispose();
  });

  it('refuses what it cannot take, by name', async () => {
    const failure = async (options: object, split: unknown = data.test) => evaluateCorruptions(model, split as Split, options).then(() => undefined, (error: unknown) => error);
    expect(await failure({}, data)).toBeInstanceOf(ArgumentTypeError);
    expect(String(await failure({ types: ['rain'] }))).toContain('options.types[0]: expected one of');
    expect(String(await failure({ types: ['saturate'] }))).toContain('options.types[0]');
    expect(await failure({ types: [] })).toBeInstanceOf(ArgumentRangeError);
    expect(await failure({ types: ['fog', 'fog'] })).toBeInstanceOf(ArgumentRangeError);
    expect(String(await failure({ severities: [1, 6] }))).toContain('options.severities[1]');
    expect(await failure({ severities: 3 })).toBeInstanceOf(ArgumentTypeError);
    expect(String(await failure({ limit: 0 }))).toContain('options.limit');
    expect(String(await failure({ seed: -1 }))).toContain('options.seed');
    expect(await failure({ source: join(root, 'none') })).toBeInstanceOf(FileError);
    expect(String(await failure({ attacks: [] }))).toContain('options.attacks');
    const score = { type: 'fog', severity: 1, accuracy: 0.5, correct: 1, total: 2, settings: {} };
    for (const [done, message] of [
      [null, ': expected an object, got null'], [{ type: 'fog', severity: 1 }, '.accuracy: expected a number, got undefined'], [{ ...score, settings: undefined }, '.settings: expected an object, got undefined'],
      [{ ...score, type: 'rain' }, '.type: expected one of'], [{ ...score, severity: 6 }, '.severity: expected an integer from 1 to 5, got 6'], [{ ...score, correct: 3 }, '.correct: expected an integer from 0 to 2, got 3'],
      [{ ...score, total: undefined }, '.total: expected an integer, got undefined'],
    ] as const)
      expect(await failure({ types: ['fog'], severities: [1], done: [score, done] })).toMatchObject({ code: expect.stringMatching('^ERR_ARGUMENT'), message: expect.stringContaining(`options.done[1]${message}`) });
    using gray = Split.own(tensor(new Uint8Array(49), { shape: [1, 1, 7, 7] }), tensor(BigInt64Array.of(0n), { shape: [1] }));
    expect(String(await failure({ types: ['fog'] }, gray))).toContain('data: expected shape');
  });
});
