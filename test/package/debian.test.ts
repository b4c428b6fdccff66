/** The installed packages in the oldest system that is promised, and in the one after it. As root, with debootstrap: a whole Debian in a folder. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { ANSWER, COMMONJS, ESM, TRAINED, TRAINING } from './programs.js';

const { folder } = inject('installed');
const possible = process.getuid?.() === 0 && spawnSync('debootstrap', ['--version']).status === 0;

describe.skipIf(!possible).each([['bullseye', '2.31'], ['bookworm', '2.36']])('Debian %s', (suite, glibc) => {
  let system: string;
  /** Runs Node.js in that system, with an empty environment; its /proc goes with the program. */
  const run = (...args: string[]) => {
    const enter = 'mount --rbind /proc "$0/proc" && exec chroot "$0" /usr/bin/env -i -C /app /app/node_modules/node22/bin/node "$@"';
    const { status, stdout, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', enter, system, ...args], { encoding: 'utf8' });
    return { status, text: `${stdout}${stderr}` };
  };
  beforeAll(() => {
    system = mkdtempSync(join(tmpdir(), `a-infonce-${suite}-`));
    execFileSync('debootstrap', ['--variant=minbase', suite, system], { stdio: ['ignore', 'ignore', 'inherit'] });
    cpSync(folder, join(system, 'app'), { recursive: true, verbatimSymlinks: true });
    for (const [name, program] of Object.entries({ 'five.mjs': ESM, 'five.cjs': COMMONJS, 'train.mjs': TRAINING })) writeFileSync(join(system, 'app', name), program);
  });
  afterAll(() => rmSync(system, { recursive: true, force: true }));

  test('the five lines, a small run, doctor', () => {
    expect(run('-p', 'process.report.getReport().header.glibcVersionRuntime').text.trim()).toBe(glibc);
    for (const program of ['five.mjs', 'five.cjs']) expect(run(program)).toEqual({ status: 0, text: `${ANSWER}\n` });
    expect(run('train.mjs').text).toContain(TRAINED);
    expect(run('node_modules/a-infonce/dist/cli/main.js', 'doctor').status).toBe(0);
  });
});
