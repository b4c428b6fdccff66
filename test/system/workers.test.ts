import { aInfoNCE, manualSeed, randn, runtimeInfo, scope, setThreads } from 'a-infonce';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { restoreSettings } from '../fixtures/settings.js';

const dist = fileURLToPath(new URL('../../dist/index.js', import.meta.url));

function run(n: number): Promise<{ total: number; message: string; tensors: number; exit: number }> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('../fixtures/worker.mjs', import.meta.url), { workerData: { n } });
    let result: { total: number; message: string; tensors: number };
    worker.on('message', (value) => { result = value; });
    worker.on('error', reject);
    worker.on('exit', (exit) => resolve({ ...result, exit }));
  });
}

it('works in several workers at once, each with its own books and its own error classes', async () => {
  const results = await Promise.all([1, 2, 3, 4].map(run));
  results.forEach((result, i) => expect(result).toEqual({ total: 50 * 2 * (3 + i + 1), message: 'OperatorError: ERR_OPERATOR', tensors: 0, exit: 0 }));
});

it('comes and goes again and again', async () => {
  for (let i = 0; i < 6; ++i) expect((await run(i)).exit).toBe(0);
});

it('lets a process end by itself and by exit()', () => {
  for (const tail of ['', 'process.exit(0);']) {
    const script = `const { randn, ops } = await import(${JSON.stringify(dist)}); const x = randn([64, 64]); ops.aten.mm(x, x); console.log('done'); ${tail}`;
    expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 30_000 })).toBe('done\n');
  }
});

it('computes the same losses while a worker changes the instruction set', async () => {
  setThreads(1);
  manualSeed(1);
  using features = randn([96, 24], { dtype: 'float64', requiresGrad: true });
  const evaluate = () => scope(() => {
    features.grad = null;
    const loss = aInfoNCE(features, { views: 3, adversarialView: 2, inferiorPositive: {}, hardNegative: { tauPlus: 0.01 } });
    loss.backward();
    return [loss.item(), ...(features.grad!.toTypedArray() as Float64Array)];
  });
  const expected = evaluate();
  const done = new Int32Array(new SharedArrayBuffer(4));
  const body = `const { parentPort, workerData: { dist, done, sets } } = require('node:worker_threads');
    import(dist).then(({ setInstructionSet }) => {
      parentPort.postMessage('ready');
      while (!Atomics.load(done, 0)) for (const set of sets) setInstructionSet(set);
    });`;
  const worker = new Worker(body, { eval: true, workerData: { dist, done, sets: runtimeInfo().instructionSets } });
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  let worst = 0;
  for (let i = 0; i < 500; ++i) evaluate().forEach((value, k) => { worst = Math.max(worst, Math.abs(value - expected[k]!)); });
  Atomics.store(done, 0, 1);
  await ended;
  restoreSettings();
  expect(worst).toBeLessThan(1e-12);
});
