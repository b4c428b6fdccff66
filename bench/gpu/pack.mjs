// What bench/gpu.sh takes to a machine without npm, into build/gpu: the tests as one file, the built TypeScript, the packages that it needs, the headers of Node-API, Node itself.
//   npm run build && node bench/gpu/pack.mjs
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, realpathSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleTests } from './bundle.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url)), out = join(root, 'build', 'gpu'), modules = realpathSync(join(root, 'node_modules'));
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

await bundleTests(join(out, 'tests.mjs'));
cpSync(join(root, 'dist'), join(out, 'dist'), { recursive: true, filter: (path) => !/\.(map|d\.ts)$|commonjs/.test(path) });

/** The packages that the built TypeScript imports, with theirs, but for the images of folders and the pages. */
const left = new Set(['sharp', 'linkedom', '@observablehq/plot']), wanted = [...Object.keys(manifest.dependencies), 'node-addon-api', 'node-api-headers'], taken = new Set();
while (wanted.length > 0) {
  const name = wanted.pop();
  if (taken.has(name) || left.has(name) || !existsSync(join(modules, name))) continue;
  taken.add(name);
  cpSync(join(modules, name), join(out, 'node_modules', name), { recursive: true, dereference: true, filter: (path) => !/\.(map|md|d\.[cm]?ts)$|\/(test|tests|example|examples|docs)(\/|$)/.test(path.slice(modules.length + name.length)) });
  wanted.push(...Object.keys(JSON.parse(readFileSync(join(modules, name, 'package.json'), 'utf8')).dependencies ?? {}));
}
execFileSync('sh', ['-c', `xz -T0 -6 -c "${process.execPath}" > "${join(out, 'node.xz')}"`]);

const size = (path) => (statSync(path).isDirectory() ? readdirSync(path).reduce((sum, name) => sum + size(join(path, name)), 0) : statSync(path).size);
for (const name of readdirSync(out)) console.log(`${name.padEnd(14)}${(size(join(out, name)) / 2 ** 20).toFixed(1)} MiB`);
console.log(`build/gpu     ${(size(out) / 2 ** 20).toFixed(1)} MiB: ${[...taken].join(', ')}`);
if (size(out) > 60 * 2 ** 20) throw new Error('more than 60 MiB');
