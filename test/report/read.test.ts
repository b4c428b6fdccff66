import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { report } from 'a-infonce';
import { temporary } from '../fixtures/runs.js';
import { unprivileged } from '../fixtures/unprivileged.js';

const { folder, fresh } = temporary();

test('names the runs of a reproduction beside a folder that cannot be read', async () => {
  const grid = fresh(), run = join(grid, 'cifar10', 'seed-0', 'rocl-base'), locked = join(grid, 'locked');
  for (const path of [run, locked]) mkdirSync(path, { recursive: true });
  writeFileSync(join(grid, 'config.json'), '{"reproduction":"table1"}');
  writeFileSync(join(run, 'config.json'), '{}');
  chmodSync(folder, 0o755);
  chmodSync(locked, 0);
  await expect(unprivileged(() => report([grid], { out: join(folder, 'report.html') }))).rejects.toThrow(`a reproduction, not a run. Its runs: ${run}`);
});
