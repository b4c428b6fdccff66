import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'a-infonce-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const script = `
  import { pretrain, setThreads } from ${JSON.stringify(join(root, 'dist/index.js'))};
  setThreads(1);
  const [out, resume] = process.argv.slice(1);
  const options = {
    preset: 'quickstart', out, resume: resume === 'true', epochs: 4, batchSize: 8, checkpointEvery: { steps: 2 },
    overrides: { data: { procedural: { train: 40, test: 10, size: 8 } }, encoder: { width: 2 }, projector: { hidden: [8], output: 4 }, attack: { steps: 1 } },
  };
  for await (const { type, step } of pretrain(options)) console.log(type, step);
`;

interface Outcome {
  events: { type: string; step: number }[];
  signal: NodeJS.Signals | null;
  code: number | null;
}

/** Runs the script in a process of its own; kills it `delay` milliseconds after it has printed `line`. */
function run(out: string, resume: boolean, kill?: { line: RegExp; delay: number }): Promise<Outcome> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, out, String(resume)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const events: Outcome['events'] = [];
  createInterface(child.stdout).on('line', (line) => {
    const [type, step] = line.split(' ') as [string, string];
    events.push({ type, step: Number(step) });
    if (kill?.line.test(line)) setTimeout(() => child.kill('SIGKILL'), kill.delay);
  });
  return new Promise((done) => child.on('close', (code, signal) => done({ events, signal, code })));
}

it('killed again and again, a run ends in the bits of one that was left alone', async () => {
  const whole = join(folder, 'whole'), torn = join(folder, 'torn');
  expect(await run(whole, false)).toMatchObject({ code: 0 });

  const kills = [[/^start/, 0], [/^step 3/, 7], [/^checkpoint 6/, 1], [/^step 9/, 23], [/^checkpoint 14/, 12]] as const;
  let announced = 0;
  for (const [i, [line, delay]] of kills.entries()) {
    const { events, signal } = await run(torn, i > 0, { line, delay });
    expect(signal, `kill ${i}`).toBe('SIGKILL');
    const start = events.find(({ type }) => type === 'start')!;
    // What was announced as saved is there; at most the checkpoint in flight is there beyond it.
    expect(start.step, `kill ${i}`).toBeGreaterThanOrEqual(announced);
    announced = Math.max(announced, ...events.filter(({ type }) => type === 'checkpoint').map(({ step }) => step));
  }
  const last = await run(torn, true);
  expect(last.code).toBe(0);
  expect(last.events[0]).toMatchObject({ type: 'start' });
  expect(announced).toBeGreaterThanOrEqual(14);

  for (const name of ['encoder.safetensors', 'config.json']) expect(readFileSync(join(torn, name)).equals(readFileSync(join(whole, name))), name).toBe(true);
  const metrics = (out: string) => readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line)).map(({ step, type, loss }) => [step, type, loss]);
  expect(metrics(torn)).toEqual(metrics(whole));
});

it('a folder that another process writes is refused until that process is killed', async () => {
  const out = join(folder, 'shared');
  const holder = spawn(process.execPath, ['--input-type=module', '-e', `
    import { mkdirSync } from 'node:fs';
    import { native } from ${JSON.stringify(join(root, 'dist/runtime/native.js'))};
    mkdirSync(${JSON.stringify(out)});
    globalThis.lock = native().lock_file(${JSON.stringify(join(out, 'run.lock'))});
    console.log('held');
    setInterval(() => {}, 1000);
  `], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((held) => holder.stdout.once('data', held));
  const { pretrain } = await import('a-infonce');
  const first = () => pretrain({ preset: 'quickstart', out, overrides: { data: { procedural: { train: 4, test: 1, size: 8 } } } });
  await expect(first().next()).rejects.toMatchObject({ code: 'ERR_FILE', message: expect.stringContaining(`process ${holder.pid}`) });
  holder.kill('SIGKILL');
  await new Promise((gone) => holder.once('exit', gone));
  const run = first();
  expect((await run.next()).value).toMatchObject({ type: 'start', step: 0 });
  await run.return!();
});
