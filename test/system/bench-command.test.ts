import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { getThreads, type BenchmarkReport } from 'a-infonce';
import { call } from '../cli/call.js';

const folder = mkdtempSync(join(tmpdir(), 'bench-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const SMALL = ['bench', '--sizes', '24', '--dim', '8', '--threads', '1', '--seconds', '0', '--only', 'two views', '--no-python'];

test('bench prints a line for each that was measured, and writes a page', async () => {
  const out = join(folder, 'bench.html'), threads = getThreads();
  const { code, stdout } = await call(...SMALL, '--out', out);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^loss +by +n +threads +ms +products +CPU time +of ours +memory +runs$/m);
  for (const by of ['a-infonce', 'LibTorch']) expect(stdout).toMatch(new RegExp(`^paper, two views +${by} +24 +1 +[\\d.]+ +[\\d.]+ to [\\d.]+ +[\\d.]+ +[\\d.]+ to [\\d.]+ +[\\d.]+ +[\\d.]+ +[\\d.]+ [kM]?B +3$`, 'm'));
  expect(stdout).toMatch(/^A call on four rows of two numbers: [\d.]+ µs forward \([\d.]+ to [\d.]+\), [\d.]+ µs with backward \([\d.]+ to [\d.]+\)/m);
  expect(stdout).toContain('Not measured: peers in Python (not asked for)\n');
  expect(stdout).toContain(`${out}: the same with plots\n`);
  expect(readFileSync(out, 'utf8')).toMatch(/^<!doctype html>.*<h3>paper, two views<\/h3>/s);
  expect(getThreads()).toBe(threads);
});

test('bench --json prints the whole', async () => {
  const { code, stdout } = await call(...SMALL, '--json', '--seed', '3');
  expect(code).toBe(0);
  const { rows, settings } = JSON.parse(stdout) as BenchmarkReport;
  expect(settings).toMatchObject({ sizes: [24], dim: 8, threads: [1], seed: 3, only: 'two views' });
  expect(rows.map(({ by }) => by)).toEqual(expect.arrayContaining(['a-infonce', 'LibTorch']));
});

test.each([
  [['--sizes', '24,25'], 2, /--sizes <numbers>' argument '24,25' is invalid\. Expected multiples of 12\./],
  [['--threads', '1,0'], 2, /--threads <numbers>' argument '1,0' is invalid\. Expected an integer of at least 1 and at most 1024\./],
  [['--only', 'simclr'], 2, /^a-infonce bench: --only: expected part of one of 'paper, two views', .*, got 'simclr'\nSee: a-infonce bench --help\n$/],
  [['--python', join(folder, 'python')], 1, /^a-infonce bench: no peers in Python: .*ENOENT\n$/],
  [['--out', join(folder, 'missing', 'bench.html')], 1, /there is no folder .*missing\. Type: mkdir -p/],
])('bench %j ends with %d', async (args, code, stderr) => {
  const ended = await call('bench', '--quick', ...args);
  expect(ended.stderr).toMatch(stderr);
  expect([ended.code, ended.stdout]).toEqual([code, '']);
});
