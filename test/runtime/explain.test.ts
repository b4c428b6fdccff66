import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { explainLoadFailure } from '../../src/runtime/explain.js';
import { unprivileged } from '../fixtures/unprivileged.js';

const folder = mkdtempSync(join(tmpdir(), 'a-infonce-explain-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('a LibTorch that is there but closed is not said to be missing', async () => {
  const libtorch = join(folder, 'libtorch'), library = join(libtorch, 'lib', 'libtorch_cpu.so');
  for (const each of [join(libtorch, 'lib'), join(folder, 'build')]) mkdirSync(each, { recursive: true });
  writeFileSync(library, '');
  writeFileSync(join(folder, 'build', 'libtorch.json'), JSON.stringify({ dir: libtorch }));
  chmodSync(folder, 0o755);
  // The loader says the same of a library that it may not open as of one that is not there.
  const failure = new Error('libtorch_cpu.so: cannot open shared object file: No such file or directory');
  const { inspectLibTorch } = await import(new URL('../../scripts/libtorch.mjs', import.meta.url).href) as { inspectLibTorch(dir: string): { problem?: string } };
  expect(explainLoadFailure(failure, folder)).toMatch(/^libtorch_cpu\.so was not found; the addon was built with /);
  chmodSync(libtorch, 0);
  await unprivileged(() => {
    expect(explainLoadFailure(failure, folder)).toMatch(new RegExp(`^${library} may not be read \\(permission denied\\)\\. .* A_INFONCE_LIBTORCH .*Type: npm install --no-save cmake-js@8 node-addon-api@8 && node `));
    expect(inspectLibTorch(libtorch).problem).toBe('it may not be read (permission denied)');
  });
  chmodSync(libtorch, 0o755);
  expect(inspectLibTorch(libtorch).problem).toContain('no LibTorch headers');
});
