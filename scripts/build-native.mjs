// Builds the addon: finds (or fetches) LibTorch, then configures and builds with cmake-js.   npm run build:native
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildProblems, fetchLibTorch, findLibTorch } from './libtorch.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Builds into `out` with the definitions and the LibTorch given. */
export function cmake(libtorch, out, definitions = {}, environment = {}) {
  const require = createRequire(import.meta.url);
  let cmakeJs;
  try {
    cmakeJs = join(dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js');
    require.resolve('node-addon-api/package.json');
  } catch {
    throw new Error('To build from source, cmake-js and node-addon-api are needed. Type: npm install --no-save cmake-js@8 node-addon-api@8');
  }
  const run = (...args) => {
    const { status } = spawnSync(process.execPath, [cmakeJs, ...args, '-O', out, '--log-level', 'warn'], { cwd: root, stdio: 'inherit', env: { ...process.env, ...environment } });
    if (status !== 0) throw new Error(`cmake-js ${args[0]} failed; its messages are above. With another LibTorch: A_INFONCE_LIBTORCH=<folder> npm run build:native`);
  };
  // `cmake-js build` alone would keep the values of an earlier configuration.
  run('configure', ...Object.entries({ A_INFONCE_LIBTORCH: libtorch.dir, ...definitions }).map(([name, value]) => `--CD${name}=${value}`));
  run('build');
}

export function buildNative() {
  const problems = buildProblems();
  if (problems.length > 0) throw new Error(`The native addon cannot be built here.\n  ${problems.join('\n  ')}`);
  const libtorch = findLibTorch() ?? fetchLibTorch();
  console.log(`Building with LibTorch ${libtorch.version} from ${libtorch.source}: ${libtorch.dir}`);
  cmake(libtorch, join(root, 'build'));
  writeFileSync(join(root, 'build', 'libtorch.json'), JSON.stringify({ dir: libtorch.dir, version: libtorch.version, source: libtorch.source }));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    buildNative();
  } catch (error) {
    console.error(`\n${error.message}\n`);
    process.exit(1);
  }
}
