import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The CUDA kernels and backends, compiled for the CPU, beside the addon that was built here. */
export const emulatedLibrary = fileURLToPath(new URL('../../build/emulated/emulated.node', import.meta.url));

export default function build(): void {
  const folder = fileURLToPath(new URL('../../build', import.meta.url));
  if (!existsSync(`${folder}/CMakeCache.txt`)) throw new Error('the tests of the emulated CUDA kernels need the addon built here: npm run build:native');
  execFileSync('cmake', ['--build', folder, '--target', 'a_infonce_emulated', '--parallel', '2'], { stdio: ['ignore', 'ignore', 'inherit'] });
}
