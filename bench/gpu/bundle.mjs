import { build } from 'esbuild';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The tests of a GPU as one file that runs without npm. It is to lie in test/gpu, where paths from it are those from the tests and from src. */
export async function bundleTests(outfile) {
  await build({
    entryPoints: [join(root, 'bench', 'gpu', 'tests.mjs')], outfile, bundle: true, platform: 'node', format: 'esm', target: 'node20',
    alias: { 'vitest': join(root, 'bench', 'gpu', 'vitest.mjs'), 'a-infonce': join(root, 'src', 'index.ts') }, external: ['sharp', 'linkedom', '@observablehq/plot', 'umap-js', 'tar', 'node-gyp-build'],
    banner: { js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);" }, logLevel: 'warning',
  });
}
