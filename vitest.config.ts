import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const alias = { 'a-infonce': fileURLToPath(new URL('./src/index.ts', import.meta.url)) };
// `unit` is what one edits against (under a minute); `system` runs the built program in child processes.
const shared = { alias, globalSetup: './test/build.ts', pool: 'forks' as const, maxWorkers: 1, testTimeout: 60_000, hookTimeout: 60_000 };

export default defineConfig({
  test: {
    projects: [
      { test: { ...shared, name: 'unit', include: ['test/**/*.test.ts'], exclude: ['test/system/**'] } },
      { test: { ...shared, name: 'system', include: ['test/system/**/*.test.ts'], testTimeout: 600_000, hookTimeout: 600_000 } },
    ],
  },
});
