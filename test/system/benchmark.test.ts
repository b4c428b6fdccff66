import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseHTML } from 'linkedom';
import { afterAll, expect, it } from 'vitest';
import { AInfoNCEError, ArgumentRangeError, ArgumentTypeError, benchmark, getThreads, memory, runtimeInfo, type BenchmarkProgress, type Quartiles } from 'a-infonce';
import { Companion } from '../../src/benchmark/companion.js';
import { benchmarkPage } from '../../src/benchmark/page.js';
import { short } from '../../src/report/numbers.js';
import { live } from '../fixtures/live.js';

const folder = mkdtempSync(join(tmpdir(), 'benchmark-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const SMALL = { sizes: [24], dim: 8, threads: [1], seconds: 0, python: false as const };

it('measures every form and variant, whose formulas of operators give the same loss and gradient', async () => {
  const threads = getThreads(), { tensors } = await live(), heard: BenchmarkProgress[] = [];
  const { rows, products, call, absent, settings, environment } = await benchmark({ ...SMALL, onProgress: (progress) => heard.push(progress) });
  const bf16 = /bf16/.test(runtimeInfo().instructionSet);
  const variants = (form: string) => ['', ', IP', ', HN', ', IP+HN'].map((variant) => form + variant);
  const losses = ['paper, two views', ...variants('paper'), ...variants('advcl'), ...variants('rocl'), 'advcl, attack step', 'paper, labels', 'paper, labels, two classes', 'queue', 'queue, HN'];
  expect(rows.map(({ loss, by }) => `${loss}: ${by}`)).toEqual(losses.flatMap((loss) => ['a-infonce', ...(bf16 && !/labels|queue/.test(loss) ? ['a-infonce, bf16', 'a-infonce, bf16x3'] : []), 'LibTorch'].map((by) => `${loss}: ${by}`)));
  expect(absent).toEqual([{ what: 'peers in Python', why: 'not asked for' }]);
  for (const { by, n, ms, products: units, cpuProducts, ofOurs, runs, peakBytes } of rows) {
    expect([n, runs]).toEqual([24, 3]);
    for (const { lower, median, upper } of [ms, units]) {
      expect(lower).toBeGreaterThan(0);
      expect(median).toBeGreaterThanOrEqual(lower);
      expect(upper).toBeGreaterThanOrEqual(median);
    }
    expect(cpuProducts).toBeGreaterThan(0);
    if (by === 'a-infonce') expect(ofOurs).toBe(1);
    expect(peakBytes).toBeGreaterThanOrEqual(0);
  }
  expect(call.forward.median).toBeGreaterThan(0);
  expect(call.both.median).toBeGreaterThan(call.forward.median);
  expect(call.sum.median).toBeGreaterThan(0);
  expect(products).toMatchObject([{ n: 24, threads: 1 }]);
  expect(products[0]!.gflops).toBeCloseTo((2 * 24 * 24 * 8) / products[0]!.ms.median / 1e6, 10);
  expect(settings).toMatchObject({ sizes: [24], dim: 8, threads: [1], only: '', temperature: 0.5 });
  expect(environment).toMatchObject({ instructionSet: runtimeInfo().instructionSet, node: process.version });
  expect(heard.map(({ done }) => done)).toEqual(Array.from({ length: 2 * losses.length }, (_, i) => i));
  expect([getThreads(), memory().tensors]).toEqual([threads, tensors]);
});

it('finds the memory of an n x n matrix where there is one', async () => {
  const { rows } = await benchmark({ ...SMALL, sizes: [1200], only: 'paper, two views' });
  const peak = (by: string) => rows.find((row) => row.by === by)!.peakBytes!;
  expect(peak('LibTorch')).toBeGreaterThan(2 * 4 * 1200 ** 2);
  expect(peak('a-infonce')).toBeLessThan(4 * 1200 ** 2);
});

/** An interpreter that answers as the script of the peers does: `honest` takes our loss, `other` another one, `mortal` ends when it is timed. */
function interpreter(...peers: string[]): string {
  const path = join(folder, 'python');
  writeFileSync(path, `#!${process.execPath}
const { readFileSync, writeFileSync } = require('node:fs');
const { createInterface } = require('node:readline');
const say = (reply) => process.stdout.write(JSON.stringify(reply) + '\\n');
(async () => {
  const { aInfoNCE, tensor } = await import(${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)});
  say({ torch: '0', python: '0', peers: ${JSON.stringify(peers)}, absent: { lightly: 'is not here' } });
  for await (const line of createInterface({ input: process.stdin })) {
    const { ask, peer, rows, gradient, n, dim, with: { temperature } = {} } = JSON.parse(line);
    if (ask === 'call') {
      const x = tensor(new Float32Array(new Uint8Array(readFileSync(rows)).buffer), { shape: [n, dim], requiresGrad: true });
      const loss = aInfoNCE(x, { temperature: peer === 'other' ? 1.01 * temperature : temperature });
      loss.backward();
      if (gradient) writeFileSync(gradient, x.grad.toTypedArray());
      say({ value: loss.item() });
    } else if (ask === 'time' && peer === 'mortal') {
      console.error('killed');
      process.exit(1);
    } else say({ ms: 7, cpu: 5, bytes: 12345 });
  }
})();
`);
  chmodSync(path, 0o755);
  return path;
}

it('counts peers in Python whose loss and gradient are ours, and says what became of the others', async () => {
  const { rows, absent, environment } = await benchmark({ ...SMALL, python: interpreter('honest', 'other', 'released code'), only: 'paper, two views' });
  expect(environment).toMatchObject({ python: '0', torch: '0' });
  expect(rows.find(({ by }) => by === 'honest')).toMatchObject({ ms: { median: 7, lower: 7, upper: 7 }, runs: expect.any(Number) as number, peakBytes: 12345 });
  expect(rows.map(({ by }) => by)).not.toContain('other');
  expect(rows.map(({ by }) => by)).not.toContain('released code');
  expect(absent).toContainEqual({ what: 'lightly', why: 'is not here' });
  expect(absent).toContainEqual({ what: 'other: paper, two views, n = 24, threads 1', why: expect.stringMatching(/^its loss is .*, ours .*; its gradient is .* apart \(relative\): not counted$/) as string });
});

it('goes on without a peer whose process ends', async () => {
  const { rows, absent } = await benchmark({ ...SMALL, python: interpreter('mortal'), only: 'paper, two views' });
  expect(rows.map(({ by }) => by)).toEqual(expect.arrayContaining(['a-infonce', 'LibTorch']));
  expect(rows.map(({ by }) => by)).not.toContain('mortal');
  expect(absent).toContainEqual({ what: 'mortal: paper, two views, n = 24, threads 1', why: expect.stringMatching(/python: killed$/) as string });
});

it('refuses an interpreter that was named and will not do, and goes on without one that was not', async () => {
  await expect(benchmark({ ...SMALL, python: join(folder, 'nothing') })).rejects.toThrow(new AInfoNCEError(`no peers in Python: ${join(folder, 'nothing')}: spawn ${join(folder, 'nothing')} ENOENT`));
  const path = process.env['PATH'];
  process.env['PATH'] = folder;
  try {
    const { absent } = await benchmark({ ...SMALL, python: undefined, only: 'paper, two views' });
    expect(absent).toEqual([{ what: 'peers in Python', why: 'python3: spawn python3 ENOENT' }]);
  } finally {
    process.env['PATH'] = path;
  }
});

it('the page shows what was measured, in numbers and in plots', async () => {
  const found = await benchmark({ ...SMALL, sizes: [24, 48], only: 'rocl', peersUpTo: 24 });
  found.absent.push({ what: '<b>', why: '&' });
  const page = benchmarkPage(found), { document } = parseHTML(page);
  const texts = (selector: string) => [...document.querySelectorAll(selector)].map((each) => (each as { textContent: string }).textContent);
  expect(texts('h3')).toEqual(['rocl', 'rocl, IP', 'rocl, HN', 'rocl, IP+HN']);
  expect(texts('figcaption')).toEqual(['The form of released RoCL, 1 thread', ...Array.from({ length: 4 }, () => ['time', 'time in matrix products', 'extra peak memory']).flat()]);
  const lines = texts('#numbers tbody tr'), spread = (of: Quartiles) => `${short(of.median)} ${short(of.lower)} to ${short(of.upper)}`;
  for (const { loss, by, n, ms, products, ofOurs, runs } of found.rows)
    expect(lines.some((line) => line.startsWith(`${loss}${by}${n}1${spread(ms)}${spread(products)}`) && line.includes(short(ofOurs)) && line.endsWith(String(runs)))).toBe(true);
  expect(lines).toHaveLength(found.rows.length + found.products.length + Object.keys(found.call).length);
  const marks = (figure: number) => document.querySelectorAll('#rocl figure')[figure]!.querySelectorAll('[aria-label="line"] path').length;
  const everyone = found.rows.filter(({ loss, n }) => loss === 'rocl' && n === 24).length;
  expect([marks(0), marks(1)]).toEqual([everyone, everyone]);
  expect(texts('.missing')).toContain('<b>: &');
  expect(page).not.toMatch(/<script|<b>|https?:\/\/(?!www\.w3\.org)/);
});

it('stops when it is asked to', async () => {
  const controller = new AbortController();
  const { tensors } = await live(), threads = getThreads();
  await expect(benchmark({ ...SMALL, seconds: 60, signal: controller.signal, onProgress: () => controller.abort(new Error('enough')) })).rejects.toThrow('enough');
  expect([getThreads(), memory().tensors]).toEqual([threads, tensors]);
});

it.each([
  [{ sizes: [25] }, ArgumentRangeError, 'options.sizes: expected multiples of 12, got 25'],
  [{ sizes: [] }, ArgumentRangeError, 'options.sizes: expected at least one number, got []'],
  [{ sizes: 24 }, ArgumentTypeError, 'options.sizes: expected an array of integers, got 24'],
  [{ threads: [0] }, ArgumentRangeError, 'options.threads[0]: expected an integer from 1 to 1024, got 0'],
  [{ only: 'simclr' }, ArgumentRangeError, /^options\.only: expected part of one of 'paper, two views', .*, got 'simclr'$/],
  [{ rounds: 3 }, ArgumentRangeError, /^options\.rounds: expected a known option/],
])('refuses %j', async (options, type, message) => {
  const refused = benchmark(options as never);
  await expect(refused).rejects.toThrow(type);
  await expect(refused).rejects.toThrow(message);
});

it('a companion that ends says why', async () => {
  using companion = new Companion(process.execPath, ['-e', 'console.log("{}"); process.stdin.once("data", () => { console.error("first\\nlast words"); process.exit(3); })']);
  expect(await companion.answer()).toEqual({});
  await expect(companion.ask({})).rejects.toThrow(new AInfoNCEError(`${process.execPath}: last words`));
});
