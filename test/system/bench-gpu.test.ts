// The benchmarks of bench/gpu.sh on the CPU, at sizes that measure nothing: what they write is what its table reads.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { libtorchPython } from '../fixtures/python.js';

const root = fileURLToPath(new URL('../..', import.meta.url)), folder = mkdtempSync(join(tmpdir(), 'bench-gpu-')), python = libtorchPython();
afterAll(() => rmSync(folder, { recursive: true }));
const node = (...given: string[]) => spawnSync(process.execPath, given, { cwd: root, encoding: 'utf8' });

it('every script is one that Node takes', () => {
  for (const place of ['bench', 'bench/gpu'])
    for (const file of readdirSync(join(root, place)).filter((name) => name.endsWith('.mjs'))) expect([file, node('--check', join(place, file)).stderr]).toEqual([file, '']);
});

it('the tests of a GPU run as one file, without vitest', { timeout: 120_000 }, async () => {
  const bundle = join(root, 'test/gpu/tests.mjs');
  const { bundleTests } = (await import(pathToFileURL(join(root, 'bench/gpu/bundle.mjs')).href)) as { bundleTests(outfile: string): Promise<void> };
  await bundleTests(bundle);
  const run = (part: string) => spawnSync(process.execPath, [bundle, part], { cwd: root, encoding: 'utf8', env: { ...process.env, A_INFONCE_TEST_DEVICE: 'cpu' } });
  expect(run('a function is attacked where its images are')).toMatchObject({ status: 0, stdout: expect.stringMatching(/^1 passed, 0 failed, \d skipped, in/) as string });
});

it('the table is of what there is, though a benchmark was cut off', { timeout: 120_000 }, () => {
  const attack = node('bench/pgd-step.mjs', '--rounds', '1', '--json', join(folder, 'attack.json'));
  expect([attack.status, attack.stderr]).toEqual([0, '']);
  writeFileSync(join(folder, 'machine.txt'), 'a machine\n');
  writeFileSync(join(folder, 'attack-graph.json'), '[{"batch":');
  writeFileSync(join(folder, 'views.json'), '');
  const { status, stdout } = node('bench/gpu/table.mjs', folder);
  expect([status, stdout]).toEqual([0, expect.stringMatching(/^a machine\n[^]*PGD step linf \[128,3,32,32\][^]*PGD step l2 \[16,3,224,224\][^]*\nnot whole: attack-graph\.json, views\.json\n$/)]);
  expect((JSON.parse(readFileSync(join(folder, 'all.json'), 'utf8')) as { attack: unknown[] }).attack).toHaveLength(6);
});

it('losses are compared to the eager formula', { timeout: 120_000 }, (context) => {
  if (typeof python === 'string') return context.skip(python);
  const { command, env } = python, file = join(folder, 'loss.json');
  const run = spawnSync(process.execPath, ['bench/gpu-loss.mjs', '--python', command, '--device', 'cpu', '--sizes', '24,48', '--dim', '8', '--seconds', '0', '--peers-up-to', '24', '--no-compile', '--json', file], { cwd: root, env, encoding: 'utf8' });
  expect([run.status, run.stderr]).toEqual([0, '']);
  const found = JSON.parse(readFileSync(file, 'utf8')) as { n: number; loss: string; who: string; precision: string; difference?: number }[];
  expect(found.filter(({ who }) => who === 'PyTorch')).toMatchObject([{ n: 24, loss: 'two views', precision: 'full' }]);
  expect(found.filter(({ difference }) => difference !== undefined).map(({ n, precision }) => [n, precision])).toEqual([[24, 'full'], [24, 'bf16x3'], [24, 'bf16']]);
  expect(found.filter(({ who }) => who === 'ours')).toHaveLength(2 * 7);
});
