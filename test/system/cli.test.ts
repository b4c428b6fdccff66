import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'a-infonce-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** `a-infonce ...` in a process of its own. */
async function call(args: string[], env: Record<string, string> = {}, watch?: (stderr: string, child: ReturnType<typeof spawn>) => void): Promise<Result> {
  const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], cwd: folder });
  const result: Result = { code: null, stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => { result.stdout += chunk; });
  child.stderr.on('data', (chunk) => { result.stderr += chunk; watch?.(result.stderr, child); });
  return new Promise((resolve) => child.on('close', (code) => resolve({ ...result, code })));
}

const commands = ['quickstart', 'pretrain', 'finetune', 'evaluate', 'attack', 'data', 'doctor'];

test('--help names every command and every command has its own', async () => {
  const { code, stdout, stderr } = await call(['--help']);
  expect([code, stderr]).toEqual([0, '']);
  for (const command of commands) {
    expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
    const help = await call([command, '--help']);
    expect([help.code, help.stderr]).toEqual([0, '']);
    for (const option of ['--json', '--device', '--seed', '--threads', '--help', 'Examples:']) expect(help.stdout).toContain(option);
  }
});

test.each([
  [['docter'], /unknown command 'docter' \(Did you mean doctor\?\)/],
  [['doctor', '--jsno'], /unknown option '--jsno' \(Did you mean --json\?\)/],
  [['doctor', '--threads', 'many'], /--threads <n>' argument 'many' is invalid\. Expected an integer of at least 0/],
  [['doctor', '--device', 'tpu'], /Allowed choices are cpu/],
  [['doctor', 'extra'], /too many arguments/],
])('%j is bad usage: exit code 2', async (args, message) => {
  const { code, stdout, stderr } = await call(args);
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toMatch(message);
  expect(stderr).toMatch(/^See: a-infonce( doctor)? --help$/m);
});

test('no command at all: the help, as bad usage', async () => {
  const { code, stdout, stderr } = await call([]);
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toContain('Usage: a-infonce');
});

test('doctor finds what is needed', async () => {
  const { code, stdout } = await call(['doctor', '--json', '--threads', '1']);
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: { subject: string; state: string; text: string }[] };
  expect([code, ok]).toEqual([0, true]);
  const text = (subject: string) => findings.find((finding) => finding.subject === subject)?.text;
  expect(text('Node.js')).toContain(process.versions.node);
  expect(text('LibTorch')).toMatch(/^2\.\d+\.\d+, /);
  expect(text('Threads')).toBe('1');
});

test('doctor works where the addon does not load, and says what to type', async () => {
  const absent = await call(['doctor'], { A_INFONCE_PREBUILD: folder });
  expect(absent.code).toBe(1);
  expect(absent.stdout).toMatch(/✖ Addon .*not built/);
  expect(absent.stdout).toContain('→ unset A_INFONCE_PREBUILD');

  mkdirSync(join(folder, 'build', 'Release'), { recursive: true });
  writeFileSync(join(folder, 'build', 'Release', 'a_infonce.node'), 'not a library');
  const broken = await call(['doctor', '--json'], { A_INFONCE_PREBUILD: folder });
  expect(broken.code).toBe(1);
  const { ok, findings } = JSON.parse(broken.stdout) as { ok: boolean; findings: { subject: string; state: string; fix?: string }[] };
  expect(ok).toBe(false);
  expect(findings.find(({ subject }) => subject === 'Addon')).toMatchObject({ state: 'problem', fix: 'unset A_INFONCE_PREBUILD' });
});
