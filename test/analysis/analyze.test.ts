import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  analyze, ArgumentRangeError, ArgumentTypeError, augment, Classifier, Encoder, FileError, memory, proceduralDataset, readAnalysis, readSafetensors, saveAnalysis, tensor,
  type AnalysisResult, type Dataset, type Tensor,
} from 'a-infonce';
import { fromCounts, fromValues, FINE_BINS } from '../../src/analysis/distribution.js';
import { native } from '../../src/runtime/native.js';
import { deriveSeed } from '../../src/training/seeds.js';
import { live } from '../fixtures/live.js';

const N = 30;
let data: Dataset, encoder: Encoder, classifier: Classifier, found: AnalysisResult;
let rows: Record<string, number[][]>;
let before: { tensors: number };
const options = { steps: 2, limit: N, mapLimit: 25, epsilon: 0.1, seed: 3 };
beforeAll(async () => {
  before = await live();
  data = proceduralDataset({ train: 10, test: 40, size: 8 });
  encoder = Encoder.create({ width: 2, projector: { hidden: [8], output: 6, batchNorm: false }, seed: 1 });
  classifier = Classifier.create({ encoder, classes: 10, seed: 2 });
  found = await analyze(encoder, data.test, { ...options, classifier });
  rows = Object.fromEntries(Object.entries(found.tensors).filter(([name]) => !name.startsWith('examples')).map(([name, each]) => [name, matrix(each)]));
});
const folder = mkdtempSync(join(tmpdir(), 'analysis-'));
afterAll(() => {
  for (const each of [found, classifier, encoder, data]) each[Symbol.dispose]();
  rmSync(folder, { recursive: true });
  expect(memory().tensors).toBe(before.tensors);
});

/** Rows of a matrix, each divided by its length. */
function matrix(of: Tensor): number[][] {
  const values = Array.from(of.toTypedArray() as Float32Array), d = of.shape[1]!;
  return Array.from({ length: of.shape[0]! }, (_, i) => values.slice(i * d, (i + 1) * d)).map((row) => {
    const length = Math.hypot(...row);
    return row.map((value) => value / length);
  });
}
const dot = (a: number[], b: number[]) => a.reduce((sum, value, k) => sum + value * b[k]!, 0);
const square = (a: number[], b: number[]) => a.reduce((sum, value, k) => sum + (value - b[k]!) ** 2, 0);
const average = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
/** Over all pairs of different rows, one by one. */
const offDiagonal = (a: number[][], b: number[][], of: (u: number[], v: number[]) => number) => a.flatMap((u, i) => b.filter((_, j) => j !== i).map((v) => of(u, v)));
const nearest = (a: number[][], b: number[][]) => a.map((u) => b.map((v) => dot(u, v)).reduce((best, s, j, all) => (s > all[best]! ? j : best), 0));

describe('an analysis is what pairs counted one by one give:', () => {
  it('similarities', () => {
    const { positive, negative, adversarialPositive, adversarialNegative } = found.values.similarity;
    for (const [of, first] of [[[positive, negative], 'view1'], [[adversarialPositive, adversarialNegative], 'view1Adversarial']] as const) {
      const own = rows[first]!.map((row, i) => dot(row, rows['view2']![i]!)), others = offDiagonal(rows[first]!, rows['view2']!, dot);
      for (const [{ mean, count, counts, quantiles }, values] of [[of[0], own], [of[1], others]] as const) {
        expect(count).toBe(values.length);
        expect(mean).toBeCloseTo(average(values), 6);
        expect(counts.reduce((sum, each) => sum + each)).toBe(values.length);
        const sorted = values.toSorted((a, b) => a - b);
        for (const [level, value] of Object.entries(quantiles)) {
          const at = Number(level) * values.length;
          expect(value).toBeGreaterThan(sorted[Math.max(0, Math.ceil(at) - 1)]! - 0.0011);
          expect(value).toBeLessThan(sorted[Math.min(values.length - 1, Math.ceil(at) - 1)]! + 0.0011);
        }
        const edges = values.filter((s) => Math.abs(((s + 1) * 50) % 1 - 0.5) < 0.499); // not on an edge to within rounding
        for (const s of edges) expect(counts[Math.floor((s + 1) * 50)]).toBeGreaterThan(0);
      }
    }
    expect(adversarialPositive.mean).toBeLessThan(positive.mean); // the attack did what it says
  });

  it('alignment and uniformity', () => {
    const { alignment, uniformity } = found.values;
    expect(alignment.clean).toBeCloseTo(average(rows['view1']!.map((row, i) => square(row, rows['view2']![i]!))), 5);
    expect(alignment.adversarial).toBeCloseTo(average(rows['view1Adversarial']!.map((row, i) => square(row, rows['view2']![i]!))), 5);
    const uniform = (of: number[][]) => Math.log(average(offDiagonal(of, of, (u, v) => Math.exp(-2 * square(u, v)))));
    expect(uniformity.clean).toBeCloseTo((uniform(rows['view1']!) + uniform(rows['view2']!)) / 2, 5);
    expect(uniformity.adversarial).toBeCloseTo(uniform(rows['view1Adversarial']!), 5);
  });

  it('confusion', () => {
    using classes = data.test.labels(0, N);
    const labels = Array.from(classes.toTypedArray(), Number);
    const { confusion, classifier: own } = found.values;
    for (const [given, query, gallery] of [
      [confusion.views.clean, 'view1', 'view2'], [confusion.views.adversarial, 'view1Adversarial', 'view2'],
      [confusion.images, 'imagesAdversarial', 'images'], [own!.confusion, 'classifierAdversarial', 'images'],
    ] as const) {
      const neighbours = nearest(rows[query]!, rows[gallery]!);
      expect(given.identity).toBeCloseTo(average(neighbours.map((j, i) => Number(j !== i))), 12);
      expect(given.class).toBeCloseTo(average(neighbours.map((j, i) => Number(labels[j] !== labels[i]))), 12);
    }
  });

  it('embeddings of the images and views, and adversaries within the ball', async () => {
    using images = data.test.images(0, N);
    using second = await augment(data.test, Array.from({ length: N }, (_, i) => i), { pipeline: 'rocl', seed: deriveSeed(3, 'views'), view: 1 });
    encoder.eval();
    for (const [name, from] of [['images', images], ['view2', second]] as const) {
      using expected = encoder.forward(from, { output: 'projection' });
      const wanted = matrix(expected);
      rows[name]!.forEach((row, i) => row.forEach((value, k) => expect(value).toBeCloseTo(wanted[i]![k]!, 5)));
    }
    encoder.train();
    const { examples, examplesAdversarial } = found.tensors;
    const clean = examples!.toTypedArray() as Float32Array, moved = examplesAdversarial!.toTypedArray() as Float32Array;
    const change = Math.max(...clean.map((value, i) => Math.abs(value - moved[i]!)));
    expect(change).toBeGreaterThan(0.05);
    expect(change).toBeLessThanOrEqual(0.1 + 1e-7);
    expect(examples!.shape).toEqual([found.values.examples.length, 3, 8, 8]);
  });

  it('and of the classifier, what it predicts', () => {
    using images = data.test.images(0, N);
    using labels = data.test.labels(0, N);
    const predicted = classifier.predict(images), wanted = Array.from(labels.toTypedArray(), Number);
    expect(found.values.classifier!.accuracy.clean).toBeCloseTo(average(predicted.map((each, i) => Number(each === wanted[i]))), 12);
    expect(found.values.classifier!.accuracy.adversarial).toBeLessThanOrEqual(found.values.classifier!.accuracy.clean);
    for (const { image, label, predicted: one } of found.values.examples) expect([label, one]).toEqual([wanted[image], predicted[image]]);
  });
});

it('maps: principal axes of covariance, each point near those that are near', async () => {
  const points = tensor(new Float32Array([3, 0, 0, -3, 0, 0, 0, 1, 0, 0, -1, 0]), { shape: [4, 3] });
  const { coordinates, explained } = await native().principal_axes(points.handle, points.handle, 2).promise;
  const { Tensor } = await import('a-infonce');
  using where = Tensor.wrap(coordinates);
  using share = Tensor.wrap(explained);
  expect(Array.from(where.toTypedArray() as Float64Array, (each) => each + 0)).toEqual([3, 0, -3, 0, 0, 1, 0, -1]);
  expect(Array.from(share.toTypedArray() as Float64Array)).toEqual([0.9, 0.1]);
  points.dispose();

  const { pca, umap, labels } = found.values.map;
  expect([pca.images.length, pca.adversaries.length, umap.images.length, umap.adversaries.length, labels.length]).toEqual([25, 25, 25, 25, 25]);
  // Distances in the map of the first 25 and their adversaries: nearer for neighbours than for others.
  const all = [...rows['images']!.slice(0, 25), ...rows['imagesAdversarial']!.slice(0, 25)], places = [...umap.images, ...umap.adversaries];
  const distance = (i: number, j: number) => Math.hypot(places[i]![0] - places[j]![0], places[i]![1] - places[j]![1]);
  const near = all.map((row, i) => all.map((other, j) => [j === i ? -2 : dot(row, other), j] as const).sort(([a], [b]) => b - a)[0]![1]);
  expect(average(near.map((j, i) => distance(i, j)))).toBeLessThan(0.5 * average(all.flatMap((_, i) => all.map((_, j) => distance(i, j)))));
});

it('the same seed gives the same numbers, another one others', async () => {
  using again = await analyze(encoder, data.test, { ...options, classifier });
  expect(again.values).toEqual(found.values);
  using other = await analyze(encoder, data.test, { ...options, seed: 4 });
  expect(other.values.similarity.positive.mean).not.toBe(found.values.similarity.positive.mean);
  expect(other.values.classifier).toBeUndefined();
  using features = await analyze(encoder, data.test, { ...options, steps: 0, space: 'features' });
  expect(features.values).toMatchObject({ space: 'features', dimensions: 16 });
});

it('distributions count on their edges and give quantiles of what they counted', () => {
  const { counts, mean, quantiles } = fromValues([-1, 1, 0, 0]);
  expect([counts[0], counts[50], counts[99], mean]).toEqual([1, 2, 1, 0]);
  expect(quantiles['0.5']).toBeCloseTo(0.0005, 6); // in the middle of the bin that begins at 0
  const uniform = fromCounts(Array<number>(FINE_BINS).fill(3), 0);
  for (const [level, value] of Object.entries(uniform.quantiles)) expect(value).toBeCloseTo(2 * Number(level) - 1, 12);
});

it('what is saved is read again; a file that is no analysis is refused, naming what is wrong', async () => {
  expect(await readAnalysis(folder)).toBeUndefined();
  writeFileSync(join(folder, 'encoder.safetensors'), 'abc');
  await saveAnalysis(folder, found, { data: 'procedural', classes: [...data.classes], encoder: 'encoder.safetensors', classifierFile: 'gone.safetensors' });
  expect(await readAnalysis(folder)).toEqual({
    ...found.values, data: 'procedural', classes: [...data.classes], encoder: 'encoder.safetensors', classifierFile: 'gone.safetensors', time: expect.any(String),
    encoderSha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', // FIPS 180-2, B.1
  });
  const { tensors } = await readSafetensors(join(folder, 'analysis.safetensors'));
  expect([...tensors.keys()].sort()).toEqual(['classifierAdversarial', 'examples', 'examplesAdversarial', 'images', 'imagesAdversarial', 'view1', 'view1Adversarial', 'view2']);
  for (const each of tensors.values()) each.dispose();
  const path = join(folder, 'analysis.json'), whole = JSON.parse(readFileSync(path, 'utf8'));
  for (const [text, says] of [['{', /JSON/], [JSON.stringify({ ...whole, images: -1 }), /images: /], [JSON.stringify({ ...whole, map: { ...whole.map, labels: ['x'] } }), /map\.labels\.0/]] as const) {
    writeFileSync(path, text);
    const error: unknown = await readAnalysis(folder).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(FileError);
    expect((error as Error).message).toMatch(says);
  }
});

it.each<[Record<string, unknown>, string, typeof ArgumentRangeError | typeof ArgumentTypeError]>([
  [{ limit: 3 }, 'options.limit', ArgumentRangeError], [{ space: 'pixels' }, 'options.space', ArgumentRangeError], [{ epsilon: 8 }, 'options.epsilon', ArgumentRangeError],
  [{ temperature: 0 }, 'options.temperature', ArgumentRangeError], [{ onProgress: 1 }, 'options.onProgress', ArgumentTypeError], [{ points: 1 }, 'options.points', ArgumentRangeError],
])('%j is refused, naming it', async (bad, argument, kind) => {
  const error: unknown = await analyze(encoder, data.test, bad).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(kind);
  expect(error).toMatchObject({ argument });
});

it('a space that is not there, data that are none, and an aborted signal', async () => {
  using bare = Encoder.create({ width: 2 });
  await expect(analyze(bare, data.test, { space: 'projection' })).rejects.toMatchObject({ argument: 'options.space' });
  await expect(analyze(bare, data as never)).rejects.toMatchObject({ argument: 'data' });
  await expect(analyze(bare, data.test, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
});
