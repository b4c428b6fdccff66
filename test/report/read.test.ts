import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { report } from 'a-infonce';
import { temporary } from '../fixtures/runs.js';

// Root reads every folder: one that cannot be read has to be played.
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const readdir = (path: string, ...rest: unknown[]) => (path.endsWith('locked') ? Promise.reject(Object.assign(new Error('no'), { code: 'EACCES' })) : (real.readdir as (...args: unknown[]) => unknown)(path, ...rest));
  return { ...real, readdir };
});

const { fresh } = temporary();

test('names the runs of a reproduction beside a folder that cannot be read', async () => {
  const folder = fresh(), run = join(folder, 'cifar10', 'seed-0', 'rocl-base');
  for (const path of [run, join(folder, 'locked')]) mkdirSync(path, { recursive: true });
  writeFileSync(join(folder, 'config.json'), '{"reproduction":"table1"}');
  writeFileSync(join(run, 'config.json'), '{}');
  await expect(report([folder], { out: join(folder, 'report.html') })).rejects.toThrow(`a reproduction, not a run. Its runs: ${run}`);
});
