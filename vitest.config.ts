import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const shared = { alias: { 'a-infonce': fileURLToPath(new URL('./src/index.ts', import.meta.url)) }, pool: 'forks' as const };
// `unit` is what one edits against (about a minute on two cores): its networks are too small for a second thread, so a file has one core. Two processes take all
// files: each loads LibTorch and the package once, and a file puts back what it changes of its process: instruction set, threads (test/fixtures/settings.ts), environment.
const unit = {
  ...shared, name: 'unit', include: ['test/**/*.test.ts'], exclude: ['test/system/**', 'test/package/**', 'test/emulated/**', 'test/gpu/**'], maxWorkers: 2, isolate: false, env: { OMP_NUM_THREADS: '1' },
  testTimeout: 60_000, hookTimeout: 60_000,
};
// `system` runs the built program in child processes, with the threads that a user has.
const system = {
  ...shared, name: 'system', include: ['test/system/**/*.test.ts'], maxWorkers: 1, globalSetup: './test/build.ts', testTimeout: 600_000, hookTimeout: 600_000,
};

// `emulated` runs the sources of liba_infonce_cuda.so on the CPU, in a process of their own: once loaded there, they take the place of the CPU's kernels.
const emulated = {
  ...shared, name: 'emulated', include: ['test/emulated/**/*.test.ts'], maxWorkers: 1, env: { OMP_NUM_THREADS: '1' }, globalSetup: './test/emulated/build.ts', testTimeout: 60_000, hookTimeout: 60_000,
};

// `packages` installs the tarballs of `npm run package` into an empty folder.
const packages = {
  ...shared, name: 'packages', include: ['test/package/**/*.test.ts'], maxWorkers: 1, globalSetup: './test/package/setup.ts', testTimeout: 600_000, hookTimeout: 600_000,
};

// `gpu` needs a CUDA device and the library of CUDA kernels, and fails without.
const gpu = { ...shared, name: 'gpu', include: ['test/gpu/**/*.test.ts'], maxWorkers: 1, isolate: false, testTimeout: 120_000, hookTimeout: 60_000 };

export default defineConfig({
  test: {
    projects: [{ test: unit }, { test: emulated }, { test: system }, { test: packages }, { test: gpu }],
  },
});
