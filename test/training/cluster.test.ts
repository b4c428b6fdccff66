import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import {
  ArgumentRangeError, ArgumentTypeError, cluster, Encoder, FileError, getThreads, loadTorchScript, memory, noGrad, NonFiniteError, ops, proceduralDataset,
  readPseudoLabels, readSafetensors, scope, setThreads, tensor, Tensor, writePseudoLabels, type Clustering, type ClusterOptions, type ClusterProgress,
} from 'a-infonce';
import { afterAll, describe, expect, it } from 'vitest';
import { run } from '../../src/cli/run.js';
import { live } from '../fixtures/live.js';
import { temporary } from '../fixtures/runs.js';

const { folder } = temporary();
/** Data sets of n images: k-means on given features only counts them. */
const sets = new Map<number, ReturnType<typeof proceduralDataset>>();
const images = (n: number) => sets.get(n) ?? sets.set(n, proceduralDataset({ train: n, test: 2, size: 8 })).get(n)!;
afterAll(() => sets.forEach((set) => set.dispose()));

/** Numbers of a small generator of our own, so that no test depends on what it tests. */
function numbers(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32) * 2 - 1);
}

async function found(values: Float32Array, dim: number, options: ClusterOptions & { k: number }) {
  const features = tensor(values, { shape: [values.length / dim, dim] });
  using clustering = await cluster(features, images(values.length / dim), options);
  features.dispose();
  const score = clustering.scores.get(options.k)!;
  return {
    ...score, labels: Array.from(clustering.labels.get(options.k)!.toTypedArray() as BigInt64Array, Number),
    centers: Float64Array.from(score.centers.toTypedArray() as Float32Array),
  };
}

/** Sum of squared distances to the means of the groups, in float64. */
function inertiaOf(values: Float32Array, dim: number, labels: readonly number[], k: number): number {
  const sums = new Float64Array(k * dim), sizes = new Float64Array(k);
  labels.forEach((label, i) => {
    sizes[label]!++;
    for (let c = 0; c < dim; c++) sums[label * dim + c]! += values[i * dim + c]!;
  });
  let total = 0;
  labels.forEach((label, i) => {
    for (let c = 0; c < dim; c++) total += (values[i * dim + c]! - sums[label * dim + c]! / sizes[label]!) ** 2;
  });
  return total;
}

/** The lowest inertia of all assignments of n points to k groups. */
function optimum(values: Float32Array, dim: number, k: number): number {
  const n = values.length / dim;
  let best = Infinity;
  for (let code = 0; code < k ** n; code++) best = Math.min(best, inertiaOf(values, dim, Array.from({ length: n }, (_, i) => Math.floor(code / k ** i) % k), k));
  return best;
}

const exact = { algorithm: 'lloyd', tolerance: 0, restarts: 40 } as const;

describe('k-means', () => {
  it.each([[8, 3, 2, 2], [6, 1, 3, 3], [7, 2, 3, 4]])('finds the best clusters of all: %i points in %i dimensions, k = %i', async (n, dim, k, seed) => {
    const values = numbers(n * dim, seed);
    const { inertia, labels } = await found(values, dim, { k, ...exact });
    expect(inertia).toBeCloseTo(optimum(values, dim, k), 5);
    expect(inertia).toBeCloseTo(inertiaOf(values, dim, labels, k), 5);
  });

  it('ends where every row is nearest to its centre and every centre is the mean of its rows; no pass raises the inertia', async () => {
    const [n, dim, k] = [600, 19, 7];
    const values = numbers(n * dim, 5);
    const { labels, centers, inertia, history, iterations, sizes } = await found(values, dim, { k, ...exact, restarts: 1 });
    expect(iterations).toBe(history.length);
    expect(iterations).toBeGreaterThan(3);
    for (let pass = 1; pass < iterations; pass++) expect(history[pass]!).toBeLessThanOrEqual(history[pass - 1]! * (1 + 1e-9));
    expect(history.at(-1)).toBe(inertia);
    const means = new Float64Array(k * dim);
    labels.forEach((label, i) => {
      for (let c = 0; c < dim; c++) means[label * dim + c]! += values[i * dim + c]! / sizes[label]!;
      const distance = (center: number) => Array.from({ length: dim }, (_, c) => (values[i * dim + c]! - centers[center * dim + c]!) ** 2).reduce((a, b) => a + b);
      const own = distance(label);
      for (let center = 0; center < k; center++) expect(own).toBeLessThanOrEqual(distance(center) + 1e-5);
    });
    means.forEach((mean, at) => expect(centers[at]).toBeCloseTo(mean, 5));
    expect(inertia).toBeCloseTo(inertiaOf(values, dim, labels, k), 3);
  });

  it.each(['lloyd', 'mini-batch'] as const)('%s tells apart groups that are apart', async (algorithm) => {
    const [k, each, dim] = [6, 60, 12];
    const middles = numbers(k * dim, 6).map((x) => 10 * x), noise = numbers(k * each * dim, 7);
    const values = noise.map((x, at) => x + middles[(Math.floor(at / dim) % k) * dim + (at % dim)]!);
    const { labels, sizes } = await found(values, dim, { k, algorithm, batchSize: 64 });
    expect(sizes).toEqual(Array(k).fill(each));
    expect(new Set(labels.map((label, i) => `${i % k} ${label}`)).size).toBe(k);
  });

  it('mini-batches come near to whole passes', async () => {
    const values = numbers(2000 * 4, 8);
    const [small, whole] = [await found(values, 4, { k: 10, batchSize: 100, restarts: 4 }), await found(values, 4, { k: 10, algorithm: 'lloyd', restarts: 4 })];
    expect(small.inertia).toBeLessThan(1.04 * whole.inertia);
    expect(small.iterations).toBeGreaterThan(1);
  });

  it.each(['lloyd', 'mini-batch'] as const)('%s: more restarts are never worse, another seed is another start', async (algorithm) => {
    const values = numbers(300 * 5, 9);
    const of = (restarts: number, seed = 3) => found(values, 5, { k: 12, algorithm, restarts, seed, batchSize: 50 });
    const runs = [await of(1), await of(2), await of(4), await of(8)];
    for (let i = 1; i < runs.length; i++) expect(runs[i]!.inertia).toBeLessThanOrEqual(runs[i - 1]!.inertia);
    expect(runs.at(-1)!.inertia).toBeLessThan(runs[0]!.inertia);
    expect((await of(1, 4)).labels).not.toEqual(runs[0]!.labels);
  });

  it.each(['lloyd', 'mini-batch'] as const)('%s gives the same bits with one thread and with more', async (algorithm) => {
    const values = numbers(1500 * 37, 10), before = getThreads();
    try {
      const [one, two, three] = await [1, 2, 3].reduce(async (runs, threads) => {
        const all = await runs;
        setThreads(threads);
        return [...all, await found(values, 37, { k: 23, algorithm, restarts: 2, batchSize: 200 })];
      }, Promise.resolve([] as Awaited<ReturnType<typeof found>>[]));
      expect(two).toEqual(one);
      expect(three).toEqual(one);
      setThreads(1);
      const few = await found(values.slice(0, 90 * 37), 37, { k: 5, algorithm, restarts: 1 });
      setThreads(2);
      expect(await found(values.slice(0, 90 * 37), 37, { k: 5, algorithm, restarts: 1 })).toEqual(few);
    } finally {
      setThreads(before);
    }
  });

  it.each(['lloyd', 'mini-batch'] as const)('%s leaves no cluster empty while rows differ', async (algorithm) => {
    const values = numbers(40 * 3, 11);
    for (const k of [1, 20, 39, 40]) {
      const { sizes, inertia } = await found(values, 3, { k, algorithm, restarts: 1, batchSize: 8 });
      expect(Math.min(...sizes)).toBeGreaterThan(0);
      expect(sizes.reduce((a, b) => a + b)).toBe(40);
      if (k === 40) expect(inertia).toBe(0);
      if (k === 1) expect(inertia).toBeCloseTo(inertiaOf(values, 3, Array(40).fill(0), 1), algorithm === 'lloyd' ? 4 : 0);
    }
    const three = Float32Array.from({ length: 30 }, (_, i) => [1, 5, 9][i % 3]!);
    const { sizes, inertia } = await found(three, 1, { k: 5, algorithm, restarts: 3 });
    expect([[...sizes].sort(), inertia]).toEqual([[0, 0, 10, 10, 10], 0]);
  });

  it('does not lose small differences far from the origin', async () => {
    const values = Float32Array.from({ length: 64 }, (_, i) => 1000 + (i % 2) * 0.01);
    const { sizes } = await found(values, 1, { k: 2, ...exact });
    expect(sizes).toEqual([32, 32]);
  });
});

describe('cluster', () => {
  it('encodes the training images once, through the branch that is asked for', async () => {
    const data = images(60), events: ClusterProgress[] = [];
    using encoder = Encoder.create({ width: 2, branches: ['normal', 'pgd'], seed: 2 });
    const { tensors: before } = await live();
    const features = () => scope(() => Array.from(encoder.eval().forward(data.train.images(), { branch: 'pgd' }).toTypedArray() as Float32Array));
    const untouched = features();
    scope(() => [...encoder.state()].filter(([name]) => /\.pgd\.weight$/.test(name)).forEach(([, weight]) => noGrad(() => ops.aten.neg_(weight))));
    expect(features()).not.toEqual(untouched);
    const of = async (options: ClusterOptions) => {
      using found = await cluster(encoder, data, { k: [2, 5], restarts: 2, ...options });
      return [...found.labels].map(([k, labels]) => [k, Array.from(labels.toTypedArray() as BigInt64Array, Number)]);
    };
    const [first, second] = [await of({ onProgress: (event) => events.push(event) }), await of({ branch: 'pgd' })];
    expect(await of({ branch: 'normal' })).toEqual(first);
    expect(second).not.toEqual(first);
    await scope(async () => {
      const features = encoder.eval().forward(data.train.images(), { branch: 'pgd' });
      expect(features.shape).toEqual([60, 16]);
      using found = await cluster(features.detach(), data, { k: [2, 5], restarts: 2 });
      expect([...found.labels].map(([k, labels]) => [k, Array.from(labels.toTypedArray() as BigInt64Array, Number)])).toEqual(second);
    });
    expect(events[0]).toEqual({ type: 'encode', done: 0, total: 60 });
    expect(new Set(events.map((event) => (event.type === 'cluster' ? `${event.k} ${event.restart}/${event.restarts}` : event.type))))
      .toEqual(new Set(['encode', '2 0/2', '2 1/2', '5 0/2', '5 1/2']));
    expect(memory().tensors).toBe(before);
  });

  it('takes the output of a TorchScript model', async () => {
    using model = await loadTorchScript(new URL('../fixtures/model/tiny.pt', import.meta.url).pathname);
    using data = proceduralDataset({ train: 30, test: 2, size: 8 });
    using found = await cluster(model, data, { k: 3 });
    await scope(async () => {
      using same = await cluster(model.eval().forward(data.train.images()).detach(), data, { k: 3 });
      expect(found.labels.get(3)!.toTypedArray()).toEqual(same.labels.get(3)!.toTypedArray());
    });
    await expect(cluster(model, data, { k: 3, branch: 'pgd' })).rejects.toThrow('options.branch: expected none');
  });

  it('says what is wrong, stops when told, and loses nothing', async () => {
    const data = images(40), values = numbers(40 * 3, 12);
    using features = tensor(values, { shape: [40, 3] });
    using broken = tensor(values.map((x, at) => (at === 3 * 17 + 1 ? NaN : x)), { shape: [40, 3] });
    using flat = tensor(values.slice(0, 40));
    using few = tensor(values.slice(0, 39), { shape: [13, 3] });
    using integers = tensor(Int32Array.from(values), { shape: [40, 3] });
    const { tensors: before } = await live();
    const refused = (source: unknown, options: unknown, message: RegExp, kind: { name: string }) =>
      expect(cluster(source as Tensor, data, options as ClusterOptions)).rejects.toThrow(expect.objectContaining({ name: kind.name, message: expect.stringMatching(message) }));
    await refused(features, { k: 41 }, /^options\.k: expected at most 40, the number of images, got 41/, ArgumentRangeError);
    await refused(features, { k: [2, 0] }, /^options\.k\[1\]: expected an integer of at least 1, got 0/, ArgumentRangeError);
    await refused(features, { k: [] }, /^options\.k: expected at least one/, ArgumentRangeError);
    await refused(features, { k: [2, 2] }, /^options\.k: expected each number once/, ArgumentRangeError);
    await refused(features, { k: '2' }, /^options\.k: expected an integer or an array/, ArgumentTypeError);
    await refused(features, { k: 2, restarts: 0 }, /^options\.restarts/, ArgumentRangeError);
    await refused(features, { k: 2, algorithm: 'elkan' }, /^options\.algorithm/, ArgumentRangeError);
    await refused(features, { k: 2, tolerance: -1 }, /^options\.tolerance/, ArgumentRangeError);
    await refused(features, { k: 2, clusters: 3 }, /^options\.clusters: expected a known option/, ArgumentRangeError);
    await refused(features, undefined, /^options\.k\[2\]: expected at most 40/, ArgumentRangeError);
    await refused(broken, { k: 2 }, /features.*17/, NonFiniteError);
    await refused(flat, { k: 2 }, /^features: expected \[N, D\]/, ArgumentRangeError);
    await refused(few, { k: 2 }, /^source: expected features of 40 images, as data\.train has, got shape \[13, 3\]/, ArgumentRangeError);
    await refused(integers, { k: 2 }, /^features: expected a float32 or float64 tensor, got int32/, ArgumentTypeError);
    await refused('features', { k: 2 }, /^source: expected an Encoder/, ArgumentTypeError);
    await expect(cluster(features, {} as never, { k: 2 })).rejects.toThrow(ArgumentTypeError);

    await expect(cluster(features, data, { k: 2, signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
    const controller = new AbortController();
    const stop = (event: ClusterProgress) => event.type === 'cluster' && event.restart > 2 && controller.abort(new Error('enough now'));
    await expect(cluster(features, data, { k: 30, restarts: 1e9, signal: controller.signal, onProgress: stop })).rejects.toThrow('enough now');
    expect(memory().tensors).toBe(before);
  });
});

describe('files of labels', () => {
  const file = (name: string, content?: string) => {
    const path = join(folder, name);
    if (content !== undefined) writeFileSync(path, content);
    return path;
  };
  const npy = (name: string, descr: string, shape: string, bytes: readonly number[]) => {
    const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`.padEnd(117) + '\n';
    const path = join(folder, name);
    writeFileSync(path, Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), Buffer.from([header.length & 255, header.length >> 8]), Buffer.from(header), Buffer.from(bytes)]));
    return path;
  };
  const listed = (found: { labels: ReadonlyMap<number, Tensor> }) => Object.fromEntries([...found.labels].map(([k, labels]) => [k, Array.from(labels.toTypedArray() as BigInt64Array, Number)]));

  it('are written and read with where they come from', async () => {
    const data = images(40), path = file('own.safetensors');
    using features = tensor(numbers(120, 13), { shape: [40, 3] });
    using found: Clustering = await cluster(features, data, { k: [2, 10], seed: 5, encoder: 'runs/simclr' });
    await writePseudoLabels(path, found);
    const { tensors } = await readSafetensors(path);
    expect([...tensors].map(([name, { dtype, shape }]) => [name, dtype, shape])).toEqual([['k2', 'int64', [40]], ['k10', 'int64', [40]]]);
    using again = await readPseudoLabels(path, { images: 40, sha256: found.source.sha256 });
    expect(again.source).toEqual({ data: 'procedural', sha256: expect.stringMatching(/^[0-9a-f]{64}$/), encoder: 'runs/simclr', seed: 5 });
    expect(listed(again)).toEqual(listed(found));
    await expect(readPseudoLabels(path, { images: 41 })).rejects.toThrow(`${path}: labels: expected those of 41 images, got those of 40`);
    await expect(readPseudoLabels(path, { images: 40, sha256: 'f'.repeat(64) })).rejects.toThrow(/expected those of images with SHA-256 f+, got those of procedural with/);
  });

  it('of others are read too', async () => {
    const read = async (path: string, k?: number) => {
      using found = await readPseudoLabels(path, { images: 4, k });
      return listed(found);
    };
    expect(await read(file('list.json', '[0, 2, 1, 0]'))).toEqual({ 3: [0, 2, 1, 0] });
    expect(await read(file('list.json'), 10)).toEqual({ 10: [0, 2, 1, 0] });
    // As NumPy writes them: np.save(path, np.array([0, 2, 1, 0], dtype)).
    for (const [descr, bytes] of [['|u1', [0, 2, 1, 0]], ['>i2', [0, 0, 0, 2, 0, 1, 0, 0]], ['<i8', [0, 2, 1, 0].flatMap((label) => [label, 0, 0, 0, 0, 0, 0, 0])]] as const)
      expect(await read(npy(`labels${bytes.length}.npy`, descr, '(4,)', bytes))).toEqual({ 3: [0, 2, 1, 0] });
    await expect(read(npy('flat.npy', '|u1', '(2, 2)', [0, 1, 1, 0]))).rejects.toThrow('labels: expected labels of 4 images, shape [4], got shape [2, 2]');
    await expect(read(npy('floats.npy', '<f4', '(1,)', [0, 0, 0, 0]))).rejects.toThrow('labels: expected integers, got float32');
    expect(await read(file('object.json', '{"k10": [0, 2, 1, 0], "2": [1, 1, 0, 0], "mine": [0, 0, 4, 0]}'))).toEqual({ 2: [1, 1, 0, 0], 5: [0, 0, 4, 0], 10: [0, 2, 1, 0] });
  });

  it.each([
    ['short.json', '[0, 1, 1]', /short\.json: labels: expected labels of 4 images, shape \[4\], got shape \[3\]/],
    ['negative.json', '[0, 1, -1, 0]', /negative\.json: labels\[2\]: expected a label from 0 to 1, got -1/],
    ['large.json', '{"k2": [0, 1, 2, 0]}', /k2\[2\]: expected a label from 0 to 1, got 2/],
    ['fraction.json', '[0, 1.5, 1, 0]', /labels\[1\]: expected an integer, got 1\.5/],
    ['text.json', '[0, "1", 1, 0]', /labels\[1\]: expected an integer, got "1"/],
    ['twice.json', '{"a": [0, 1, 1, 0], "b": [1, 0, 0, 1]}', /b: expected another number of classes than the lists before, got 2 again/],
    ['none.json', '{}', /expected at least one list of them, got none/],
    ['odd.json', '{"a": 3}', /a: expected an array of integers, got 3/],
    ['broken.json', '{', /not valid JSON/],
    ['labels.csv', '0,1', /expected a \.safetensors, \.npy or \.json file, got '\.csv'/],
  ])('that do not fit are refused: %s', async (name, content, message) => {
    await expect(readPseudoLabels(file(name, content), { images: 4 })).rejects.toThrow(expect.objectContaining({ name: FileError.name, message: expect.stringMatching(message) }));
  });

  it('one number of classes is not given to several lists; a missing file is named', async () => {
    await expect(readPseudoLabels(file('two.json', '{"a": [0], "b": [2]}'), { images: 1, k: 4 })).rejects.toThrow('expected one list, since the number of classes is given, got 2');
    await expect(readPseudoLabels(file('nowhere.json'), { images: 1 })).rejects.toThrow('no such file');
    await expect(readPseudoLabels(file('nowhere.json'), { images: 0 })).rejects.toThrow(/^options\.images/);
  });
});

it('the command clusters, checks and converts', async () => {
  using encoder = Encoder.create({ width: 2 });
  const [model, out, copy, json] = ['encoder.safetensors', 'labels.safetensors', 'copy.safetensors', 'theirs.json'].map((name) => join(folder, name)) as [string, string, string, string];
  await encoder.save(model);
  const call = async (...args: string[]) => {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const code = await run(['cluster', ...args], { stdout, stderr });
    return { code, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
  };
  const made = await call(model, '--data', 'procedural', '--limit', '300', '--k', '2,10', '--restarts', '2', '--out', out);
  expect([made.code, made.stdout]).toEqual([0, expect.stringMatching(/clusters +inertia +passes +smallest +largest\n2 .*\n10 .*\nlabels of 300 images are in /)]);
  expect(made.stderr).toContain(`Next: a-infonce pretrain --preset advcl-cifar10 --data procedural --set 'data.procedural={"train":5000,"test":1000,"size":32,"seed":0}' --limit 300 --pseudo-labels ${out} --set 'pseudoLabels.classes=[2, 10]'`);
  const checked = await call('--check', out, '--data', 'procedural', '--limit', '300', '--json');
  expect([checked.code, JSON.parse(checked.stdout).clusters.map(({ k }: { k: number }) => k)]).toEqual([0, [2, 10]]);
  const other = await call('--check', out, '--data', 'procedural');
  expect([other.code, other.stderr]).toEqual([1, expect.stringMatching(/labels\.safetensors: labels: expected those of 5000 images, got those of 300/)]);
  writeFileSync(json, JSON.stringify(Array.from({ length: 300 }, (_, i) => i % 7)));
  const converted = await call('--check', json, '--data', 'procedural', '--limit', '300', '--out', copy);
  expect([converted.code, converted.stdout]).toEqual([0, expect.stringContaining(`written to ${copy}`)]);
  using read = await readPseudoLabels(copy, { images: 300 });
  expect([...read.labels.keys(), read.source.data]).toEqual([7, 'procedural']);
  for (const [args, message] of [
    [[], /which encoder/], [[model, '--check', out], /takes no encoder/], [[model, '--k', '2,2'], /each number once/], [[model, '--k', 'two'], /an integer/],
    [[model, '--data', 'procedural', '--k', '6000', '--out', out], /--k: expected at most 5000, the number of images, got 6000/],
  ] as const) {
    const { code, stderr } = await call(...args);
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  }
});
