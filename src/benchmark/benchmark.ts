/** How fast the loss is: against one matrix product, against the same formulas made of operators, and against other packages, in one run. */
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import type { JobOptions } from '../runtime/job.js';
import { getThreads, manualSeed, runtimeInfo, setThreads } from '../runtime/settings.js';
import { version } from '../runtime/version.js';
import { randn } from '../tensor/factories.js';
import { aInfoNCE } from '../objective/aInfoNCE.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';
import { differentiated, eager, fused, LOSSES, makeRows, queries, TEMPERATURE, type Call, type Loss } from './losses.js';
import { Memory, type PeakRequest } from './memory.js';
import { startPeers, type Peers } from './peers.js';

const { aten } = ops;
/** Every loss divides its rows among 2, 3 or 4 views. */
const MULTIPLE = 12;
/** Rounds at least, and calls of everyone. */
const LEAST = 3;
/** After a call in another process: its threads spin for a while, in milliseconds. */
const REST = 10;
/** Products of bfloat16 numbers, where the processor has them. */
const BF16 = ['bf16', 'bf16x3'] as const;
/** Above these relative differences to ours, a loss or a gradient is another one. */
const SAME_VALUE = 1e-3, SAME_GRADIENT = 1e-2;

/** What {@link benchmark} takes. */
export interface BenchmarkOptions extends JobOptions {
  /** Under a minute: fewer sizes, one number of threads, less time each, no torch.compile. Default false. */
  quick?: boolean;
  /** Numbers of rows, multiples of 12. Default 768, 1536, 3072, 6144, 12288; quick: 768, 3072. */
  sizes?: readonly number[];
  /** Columns. Default 128. */
  dim?: number;
  /** Numbers of threads. Default 1 and 2 (1 where there is one core); quick: the larger. */
  threads?: readonly number[];
  /** Of our calls and the products for each loss, size and number of threads; at least three rounds are made whatever it is. Default 1; quick: 0.2. */
  seconds?: number;
  /** Only losses with this in their names. Default: all. */
  only?: string;
  /** The most rows at which eager formulas and Python peers take part: their time and memory grow with n². Default 3072; quick: 768. */
  peersUpTo?: number;
  /** A Python interpreter with PyTorch, for peers in Python; false: none. Default `python3`, if it has PyTorch. */
  python?: string | false;
  /** Of the rows. Default 0. */
  seed?: number;
  /** Hears how many cells of the table are measured. */
  onProgress?: ((progress: BenchmarkProgress) => void) | undefined;
}

/** How far a benchmark is: `done` of `total` cells. */
export interface BenchmarkProgress {
  done: number;
  total: number;
  /** What is measured. */
  what: string;
}

/** Of repeated measurements: the median and what a quarter of them is below and above. */
export interface Quartiles {
  median: number;
  lower: number;
  upper: number;
}

/** One implementation of one loss, forward and backward, at one size. */
export interface BenchmarkRow {
  loss: string;
  /** `a-infonce`, `a-infonce, bf16`, `a-infonce, bf16x3`, `LibTorch` (the formula composed of its operators), or a peer in Python. */
  by: string;
  /** Rows. */
  n: number;
  threads: number;
  /** Milliseconds. */
  ms: Quartiles;
  /** In units of one float32 matrix product n x n x dim of the same round; of a queue, of its n / 12 anchors with n rows. */
  products: Quartiles;
  /** The same of processor time, median: less moved by what else the machine does. */
  cpuProducts: number;
  /** As a multiple of `a-infonce` in the same round, median. */
  ofOurs: number;
  /** How often it was timed. */
  runs: number;
  /** Extra peak memory of one call, the gradient among it, in bytes; absent where it could not be read. */
  peakBytes?: number;
}

/** What {@link benchmark} found. */
export interface BenchmarkReport {
  environment: {
    version: string; date: string; processor: string; cores: number; load: number; instructionSet: string; libtorch: string; capability: string; node: string;
    /** Of the peers. */
    python?: string; torch?: string;
  };
  settings: { sizes: number[]; dim: number; threads: number[]; seconds: number; only: string; peersUpTo: number; temperature: number; seed: number };
  /** The matrix product alone; `gflops` are 1e9 operations (2 n² dim) a second at the median. */
  products: { n: number; threads: number; ms: Quartiles; gflops: number }[];
  /**
   * Microseconds of a call on four rows of two numbers, one thread: what does not grow with n. `both` is forward, backward and reading the loss; `sum` is all of that
   * for the sum of the rows, one operator of LibTorch.
   */
  call: { forward: Quartiles; both: Quartiles; sum: Quartiles };
  rows: BenchmarkRow[];
  /** What was not measured, or does not count, and why. */
  absent: { what: string; why: string }[];
  /** How long it took. */
  seconds: number;
}

interface Time {
  ms: number;
  cpu: number;
}

/** Somebody who takes part in a cell. */
interface Entrant {
  by: string;
  time(): Time | Promise<Time>;
  /** Ours are called in every round. */
  always: boolean;
  peak: { of: 'node'; kind: PeakRequest['kind'] } | { of: 'python' };
}

/**
 * Measures {@link aInfoNCE}, forward and backward, in every form and variant: time, time in units of one matrix product n x n x dim, and extra peak memory. In the
 * same rounds the same formulas composed of LibTorch operators and, where a Python with PyTorch is found, the released losses and other packages. What does
 * not give our loss and our gradient is not counted, and said to be absent.
 * @throws {@link ArgumentTypeError}, {@link ArgumentRangeError} naming the option; {@link AInfoNCEError} when the `python` that was named has no PyTorch
 * @example
 * ```ts
 * const { rows } = await benchmark({ sizes: [48], dim: 8, threads: [1], seconds: 0, only: 'rocl', python: false });
 * for (const { loss, by, n, products } of rows) console.log(loss, by, n, products.median);
 * ```
 */
export async function benchmark(options?: BenchmarkOptions): Promise<BenchmarkReport> {
  const { signal, onProgress, python, quick, ...settings } = checked(options);
  const began = performance.now(), before = getThreads(), load = loadavg()[0]!;
  const losses = LOSSES.filter(({ name }) => name.includes(settings.only));
  if (losses.length === 0) throw new ArgumentRangeError('options.only', `part of one of ${LOSSES.map(({ name }) => `'${name}'`).join(', ')}`, describe(settings.only));
  const { instructionSet, libtorch, cpu: capability } = runtimeInfo();
  const absent: BenchmarkReport['absent'] = [];
  const folder = mkdtempSync(join(tmpdir(), 'a-infonce-bench-'));
  const rows: (BenchmarkRow & { peak: Entrant['peak'] })[] = [], products: BenchmarkReport['products'] = [];
  const { sizes, dim, threads } = settings, cells = sizes.length * threads.length * losses.length;
  let done = 0;
  const progress = async (what: string) => {
    signal?.throwIfAborted();
    onProgress?.({ done: done++, total: 2 * cells, what });
    await setImmediate();
  };
  try {
    using peers = await startPeers({ python, folder, quick, signal }, absent);
    manualSeed(settings.seed);
    for (const n of sizes)
      for (const count of threads) {
        setThreads(count);
        await scope(async () => {
          const product = matrixProduct(n, n, dim), ofQueue = matrixProduct(queries(n), n, dim), all: number[] = [];
          for (const loss of losses) {
            await progress(`${loss.name}, n = ${n}`);
            const cell: Cell = { loss, n, dim, threads: count, seconds: settings.seconds, withPeers: n <= settings.peersUpTo, bf16: /bf16|amx/.test(instructionSet) && !loss.labels && !loss.queue, signal };
            await scope(async () => void rows.push(...await measure(cell, loss.queue ? ofQueue : product, peers, loss.queue ? [] : all, absent)));
          }
          if (all.length === 0) for (let i = 0; i < LEAST; ++i) all.push(product().ms);
          const ms = quartiles(all);
          products.push({ n, threads: count, ms, gflops: (2 * n * n * dim) / ms.median / 1e6 });
        });
      }
    setThreads(1);
    const call = scope(callTime);
    using memory = new Memory(dim, peers, signal);
    for (const [at, row] of rows.entries()) {
      const { loss, by, n, threads: count, peak } = row;
      if (rows[at - 1]?.loss !== loss) await progress(`memory of ${loss}, n = ${n}`);
      try {
        row.peakBytes = peak.of === 'python' ? await memory.ofPeer(by, loss, n, count) : await memory.ofOurs({ loss, kind: peak.kind, n, dim, threads: count });
      } catch (error) {
        signal?.throwIfAborted();
        absent.push({ what: `memory of ${by}: ${loss}, n = ${n}, threads ${count}`, why: (error as Error).message });
      }
    }
    return {
      environment: {
        version, date: new Date().toISOString(), processor: cpus()[0]?.model.trim() ?? 'unknown', cores: availableParallelism(), load, instructionSet, libtorch, capability, node: process.version,
        ...(peers && { python: peers.found.python, torch: peers.found.torch }),
      },
      settings: { ...settings, temperature: TEMPERATURE }, products, call, rows: rows.map(({ peak: _, ...row }) => row), absent, seconds: (performance.now() - began) / 1000,
    };
  } finally {
    setThreads(before);
    rmSync(folder, { recursive: true, force: true });
  }
}

const KEYS = ['signal', 'quick', 'sizes', 'dim', 'threads', 'seconds', 'only', 'peersUpTo', 'python', 'seed', 'onProgress'] as const;

function checked(options: BenchmarkOptions | undefined) {
  const given = check.options('options', options, KEYS);
  const quick = check.boolean('options.quick', given.quick ?? false);
  const integers = (name: 'sizes' | 'threads', fallback: number[], range: { min: number; max?: number }) => {
    const list = given[name] ?? fallback;
    if (!Array.isArray(list)) throw new ArgumentTypeError(`options.${name}`, 'an array of integers', describe(list));
    if (list.length === 0) throw new ArgumentRangeError(`options.${name}`, 'at least one number', '[]');
    return list.map((each, at) => check.integer(`options.${name}[${at}]`, each, range));
  };
  const most = Math.min(2, availableParallelism());
  const sizes = integers('sizes', quick ? [768, 3072] : [768, 1536, 3072, 6144, 12288], { min: 2 * MULTIPLE });
  const odd = sizes.find((n) => n % MULTIPLE !== 0);
  if (odd !== undefined) throw new ArgumentRangeError('options.sizes', `multiples of ${MULTIPLE}`, String(odd));
  const { python, onProgress } = given;
  if (python !== undefined && python !== false) check.string('options.python', python);
  check.function('options.onProgress', onProgress);
  return {
    quick, sizes, threads: integers('threads', quick || most === 1 ? [most] : [1, most], { min: 1, max: 1024 }),
    dim: check.integer('options.dim', given.dim ?? 128, { min: 2 }), seconds: check.finite('options.seconds', given.seconds ?? (quick ? 0.2 : 1), { min: 0 }),
    only: check.string('options.only', given.only ?? ''), peersUpTo: check.integer('options.peersUpTo', given.peersUpTo ?? (quick ? 768 : 3072), { min: 0 }),
    seed: check.integer('options.seed', given.seed ?? 0, { min: 0 }), python, onProgress, signal: check.signal('options.signal', given.signal),
  };
}

/** What a call costs that has nothing to compute: four rows of two numbers. */
function callTime(): BenchmarkReport['call'] {
  const loss = LOSSES[0]!, rows = makeRows(loss, 4, 2), { run } = fused(loss, rows, 'full'), sum = differentiated(rows.leaf, () => aten.sum(rows.leaf));
  const microseconds = (body: () => void) => quartiles(Array.from({ length: 40 }, () => {
    const calls = 25, start = performance.now();
    for (let i = 0; i < calls; ++i) scope(body);
    return (1000 * (performance.now() - start)) / calls;
  }));
  for (const each of [run, sum.run]) microseconds(each); // compiled by then
  return { forward: microseconds(() => void aInfoNCE(rows.leaf, loss.options)), both: microseconds(run), sum: microseconds(sum.run) };
}

/** A product of two matrices of rows, into memory that is there already. */
function matrixProduct(rowCount: number, columnCount: number, dim: number): () => Time {
  const rows = randn([rowCount, dim]), columns = aten.t(randn([columnCount, dim])), out = aten.mm(rows, columns);
  return () => timed(() => void aten.addmm_(out, rows, columns, { beta: 0 }));
}

function timed(run: () => void): Time {
  const cpu = process.cpuUsage(), start = performance.now();
  scope(run);
  const ms = performance.now() - start, { user, system } = process.cpuUsage(cpu);
  return { ms, cpu: (user + system) / 1000 };
}

interface Cell {
  loss: Loss;
  n: number;
  dim: number;
  threads: number;
  seconds: number;
  withPeers: boolean;
  bf16: boolean;
  signal: AbortSignal | undefined;
}

/** One loss at one size: everyone's loss and gradient compared with ours, then rounds in which all take turns. */
async function measure(cell: Cell, product: () => Time, peers: Peers | undefined, all: number[], absent: BenchmarkReport['absent']): Promise<(BenchmarkRow & { peak: Entrant['peak'] })[]> {
  const { loss, n, dim, threads, signal } = cell;
  const rows = makeRows(loss, n, dim), entrants: Entrant[] = [];
  const here = (by: string, { run }: Call, kind: PeakRequest['kind']) => entrants.push({ by, time: () => timed(run), always: kind !== 'eager', peak: { of: 'node', kind } });
  using calls = new Calls();
  const ours = calls.use(fused(loss, rows, 'full'));
  const value = scope(ours.run), gradient = rows.leaf.grad!;
  const missing = (by: string, why: string) => void absent.push({ what: `${by}: ${loss.name}, n = ${n}, threads ${threads}`, why });
  const agrees = (by: string, its: number, theirs: Tensor) => {
    const off = Math.abs(its - value) / Math.abs(value), apart = distance(theirs, gradient);
    const same = off <= SAME_VALUE && apart <= SAME_GRADIENT;
    if (!same) missing(by, `its loss is ${its}, ours ${value}; its gradient is ${apart.toPrecision(2)} apart (relative): not counted`);
    return same;
  };
  here('a-infonce', ours, 'full');
  for (const precision of cell.bf16 ? BF16 : []) enter(`a-infonce, ${precision}`, calls.use(fused(loss, rows, precision)), precision);
  if (cell.withPeers) {
    enter('LibTorch', eager(loss, rows), 'eager');
    for (const peer of (await peers?.of(loss)) ?? [])
      try {
        const its = await peers!.call(peer, loss, rows.leaf, threads);
        if (scope(() => agrees(peer, its.value, its.gradient()))) entrants.push({ by: peer, time: () => peers!.time(peer).finally(() => setTimeout(REST)), always: false, peak: { of: 'python' } });
      } catch (error) {
        signal?.throwIfAborted();
        missing(peer, (error as Error).message);
      }
  }

  const times = new Map(entrants.map(({ by }) => [by, [] as { round: number; time: Time }[]])), floor: Time[] = [];
  const spent = (by: string) => times.get(by)!.reduce((total, { time }) => total + time.ms, 0);
  for (let left = 1000 * cell.seconds; left > 0 || floor.length < LEAST;) {
    signal?.throwIfAborted();
    const round = floor.length, unit = product();
    floor.push(unit);
    left -= unit.ms;
    for (const entrant of [...entrants]) {
      const { by, time, always } = entrant, list = times.get(by)!;
      // As much time for each of the others as for ours.
      if (!always && list.length >= LEAST && spent(by) > spent('a-infonce')) continue;
      try {
        const took = await time();
        list.push({ round, time: took });
        if (always) left -= took.ms;
      } catch (error) {
        signal?.throwIfAborted();
        if (entrant.peak.of === 'node') throw error;
        entrants.splice(entrants.indexOf(entrant), 1); // its process has ended
        missing(by, (error as Error).message);
      }
    }
    await setImmediate(); // ctrl-C is heard
  }
  all.push(...floor.map(({ ms }) => ms));
  const first = times.get('a-infonce')!;
  return entrants.map(({ by, peak }) => {
    const list = times.get(by)!;
    return {
      loss: loss.name, by, n, threads, ms: quartiles(list.map(({ time }) => time.ms)), products: quartiles(list.map(({ round, time }) => time.ms / floor[round]!.ms)),
      cpuProducts: quartiles(list.map(({ round, time }) => time.cpu / floor[round]!.cpu)).median, ofOurs: quartiles(list.map(({ round, time }) => time.ms / first[round]!.time.ms)).median,
      runs: list.length, peak,
    };
  });

  function enter(by: string, call: Call, kind: PeakRequest['kind']): void {
    if (scope(() => agrees(by, call.run(), call.leaf.grad!))) here(by, call, kind);
  }
}

/** What calls hold is given up together. */
class Calls implements Disposable {
  readonly #held: Disposable[] = [];

  use(call: Call): Call {
    if (call.held) this.#held.push(call.held);
    return call;
  }

  [Symbol.dispose](): void {
    for (const held of this.#held) held[Symbol.dispose]();
  }
}

/** |a - b| / |b|. */
const distance = (a: Tensor, b: Tensor): number => (aten.norm(aten.sub(a, b)).item() as number) / (aten.norm(b).item() as number);

/** Interpolated between neighbours. */
function quartiles(list: readonly number[]): Quartiles {
  const sorted = [...list].sort((a, b) => a - b);
  const at = (share: number) => {
    const place = share * (sorted.length - 1), below = Math.floor(place);
    return sorted[below]! + (place - below) * ((sorted[below + 1] ?? sorted[below]!) - sorted[below]!);
  };
  return { median: at(0.5), lower: at(0.25), upper: at(0.75) };
}
