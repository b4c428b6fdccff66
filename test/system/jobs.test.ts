import { Classifier, Encoder, ops, pgd, predict, rand, tensor, type Tensor } from 'a-infonce';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';

const dist = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
const images = rand([8, 3, 16, 16]);
const labels = tensor([0, 1, 2, 3, 0, 1, 2, 3], { dtype: 'int64' });
const endless = { norm: 'linf', epsilon: 0.1, stepSize: 0.01, steps: 1_000_000 } as const;
const short = { ...endless, steps: 2 } as const;
const classifier = () => Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 4 });

describe('an environment may go while jobs run', () => {
  for (const model of ['native', 'function'])
    for (const end of ['terminate', 'exit', 'throw'])
      it(`${end} in a worker with a ${model} model`, async () => {
        for (let round = 0; round < 2; ++round) {
          const worker = new Worker(new URL('../fixtures/worker-job.mjs', import.meta.url), { workerData: { model, end } });
          let thrown: Error | undefined;
          worker.on('error', (error) => { thrown = error as Error; });
          if (end === 'terminate') worker.on('message', () => void worker.terminate());
          const code = await new Promise((resolve) => worker.on('exit', resolve));
          expect([code, thrown?.message]).toEqual(end === 'throw' ? [1, 'thrown on purpose'] : end === 'exit' ? [0, undefined] : [1, undefined]);
        }
      });
  it('process.exit() with a job under way gives the code asked for', () => {
    const script = `
      const { Classifier, Encoder, pgd, rand, tensor } = await import(${JSON.stringify(dist)});
      const model = Classifier.create({ encoder: Encoder.create({ width: 8 }), classes: 4 });
      let steps = 0;
      const onProgress = () => { if (++steps === 2) process.exit(7); };
      await pgd(model, rand([64, 3, 32, 32]), tensor(new BigInt64Array(64)), { norm: 'linf', epsilon: 0.1, stepSize: 0.01, steps: 1000000, onProgress });`;
    for (let round = 0; round < 2; ++round) {
      const { status, signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 30_000 });
      expect([status, signal, stderr]).toEqual([7, null, '']);
    }
  });
});

describe('many jobs', () => {
  it('share a few threads', async () => {
    const model = classifier();
    const threads = () => readdirSync('/proc/self/task').length;
    await pgd(model, images, labels, short);
    const before = threads();
    const runs = Array.from({ length: 100 }, () => pgd(model, images, labels, short));
    expect(threads()).toBeLessThan(before + 20);
    for (const adversary of await Promise.all(runs)) adversary.dispose();
    expect(threads()).toBeLessThan(before + 20);
  });
  it('that call JavaScript leave room for the jobs that they start', async () => {
    const inner = classifier();
    const weight = rand([3 * 16 * 16, 4]);
    const model = async (x: Tensor) => {
      using adversary = await pgd(inner, x.detach(), labels, short);
      return ops.aten.mm(ops.aten.flatten(ops.aten.add(x, ops.aten.mul(adversary, 0)), 1), weight);
    };
    const results = await Promise.all(Array.from({ length: 8 }, () => pgd(model, images, labels, short)));
    expect(results.every((adversary) => ops.aten.equal(adversary, results[0]!))).toBe(true);
  });
  it('that wait for a model hear of an abort', async () => {
    const model = classifier();
    const holder = new AbortController(), waiting = new AbortController();
    let steps = 0, started = () => {};
    const running = new Promise<void>((resolve) => { started = resolve; });
    const onProgress = () => {
      if (++steps === 1) started();
      if (steps === 20) waiting.abort(new Error('no longer wanted'));
    };
    const first = pgd(model, images, labels, { ...endless, signal: holder.signal, onProgress });
    await running; // it holds the model: the second can only wait
    await expect(pgd(model, images, labels, { ...short, signal: waiting.signal })).rejects.toThrow('no longer wanted');
    holder.abort(new Error('enough'));
    await expect(first).rejects.toThrow('enough');
  });
});

it('a model refuses what would change it or run in its mode from the call of a job until its promise settles', async () => {
  const model = classifier().train(), state = model.state();
  for (const start of [() => pgd(model, images, labels, short), () => predict(model, images)]) {
    for (let round = 0; round < 5; round++) {
      const running = start();
      if (round === 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300); // the work is done meanwhile, this thread has not heard of it
      for (const call of [() => model.forward(images), () => model.train(), () => model.loadState(state), () => model.to('cpu')])
        expect(call).toThrow(/^model: expected a model that no running job uses, got one in use/);
      await running;
      model.train();
    }
  }
});

it('a model that a job uses refuses what would change it or run in its mode', async () => {
  const model = classifier().train();
  const state = model.state();
  const controller = new AbortController();
  let seen = 0;
  const run = pgd(model, images, labels, {
    ...endless, signal: controller.signal, onProgress: () => {
      if (seen++ > 0) return;
      for (const call of [() => model.forward(images), () => model.eval(), () => model.loadState(state)])
        expect(call).toThrow(/^model: expected a model that no running job uses, got one in use/);
      controller.abort(new Error('seen'));
    },
  });
  await expect(run).rejects.toThrow('seen');
  expect(model.training).toBe(true);
  expect(model.forward(images).shape).toEqual([8, 4]);
});
