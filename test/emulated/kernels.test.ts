import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

it('the CUDA kernels do what their headers say, under sanitizers, in any order of threads and without races', { timeout: 900_000 }, () => {
  const { status, stderr } = spawnSync(process.execPath, [fileURLToPath(new URL('../../scripts/check-cuda.mjs', import.meta.url)), '--emulate'], { encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, '']);
});
