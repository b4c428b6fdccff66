import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const alias = { 'a-infonce': fileURLToPath(new URL('./src/index.ts', import.meta.url)) };
const shared = { alias, globalSetup: './test/build.ts', pool: 'forks' as const, testTimeout: 60_000, hookTimeout: 60_000 };
// `unit` is what one edits against (a minute or two): its networks are too small for a second thread, so a file has one core.
const unit = { ...shared, name: 'unit', include: ['test/**/*.test.ts'], exclude: ['test/system/**'], maxWorkers: 2, env: { OMP_NUM_THREADS: '1' } };
// `system` runs the built program in child processes, with the threads that a user has.
const system = { ...shared, name: 'system', include: ['test/system/**/*.test.ts'], maxWorkers: 1, testTimeout: 600_000, hookTimeout: 600_000 };

export default defineConfig({
  test: {
    projects: [{ test: unit }, { test: system }],
  },
});
