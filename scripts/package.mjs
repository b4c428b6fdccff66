// Every package that this machine can make, as tarballs in packages/.   npm run package [-- --libtorch <folder> ...] [--sysroot <folder>]
//   --libtorch  a LibTorch to build an addon for, one for each minor version; the first one is shipped. Default: the one that a build from source would take
//   --sysroot   the root of a Debian 11 with libc6-dev, whose absolute links become relative ones. Default: build/debian11, made by debootstrap, which needs root
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cmake } from './build-native.mjs';
import { fetchLibTorch, findLibTorch, inspectLibTorch } from './libtorch.mjs';
import { floorProblems } from './symbols.mjs';

const LIMIT = 180e6;  // bytes of a tarball: registries refuse more than about 200 MB
const root = fileURLToPath(new URL('..', import.meta.url));
const work = join(root, 'build', 'package'), out = join(root, 'packages');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const run = (command, args, options = {}) => execFileSync(command, args, { cwd: root, stdio: 'inherit', ...options });
const fresh = (dir) => (rmSync(dir, { recursive: true, force: true }), mkdirSync(dir, { recursive: true }), dir);
const save = (dir, fields) => writeFileSync(join(dir, 'package.json'), `${JSON.stringify(fields, null, 2)}\n`);
/** `npm pack` of a folder; the tarball's path. */
function npmPack(dir, target) {
  const [{ filename }] = JSON.parse(run('npm', ['pack', dir, '--json', '--ignore-scripts', '--pack-destination', target], { stdio: ['ignore', 'pipe', 'ignore'], encoding: 'utf8', maxBuffer: 1 << 28 }));
  return join(target, filename);
}
/** A package that is to be published. */
function publishable(dir) {
  const path = npmPack(dir, out), { size } = statSync(path);
  if (size > LIMIT) throw new Error(`${path} has ${(size / 1e6).toFixed(1)} MB; at most ${LIMIT / 1e6} are accepted`);
  console.log(`${relative(root, path)}  ${(size / 1e6).toFixed(2)} MB`);
}

/** The C and C++ libraries of Debian 11, with links that hold outside of a chroot too. */
function sysroot() {
  const dir = join(root, 'build', 'debian11');
  if (!existsSync(join(dir, 'usr', 'lib', 'x86_64-linux-gnu', 'libc.so'))) {
    rmSync(dir, { recursive: true, force: true });
    try {
      run('debootstrap', ['--variant=minbase', '--include=libc6-dev,libstdc++6', 'bullseye', dir], { stdio: ['ignore', 'ignore', 'inherit'] });
    } catch (error) {
      throw new Error(`debootstrap could not make a Debian 11 in ${dir} (${error.message}). As root: apt-get install debootstrap; or give --sysroot`);
    }
  }
  return dir;
}
function relink(folder, top) {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name), stat = lstatSync(path);
    if (stat.isSymbolicLink() && readlinkSync(path).startsWith('/') && !readlinkSync(path).startsWith(top)) {
      const target = relative(dirname(path), join(top, readlinkSync(path)));
      rmSync(path);
      symlinkSync(target, path);
    }
  }
}

/** The package of binaries: LibTorch under its SONAMEs in lib/, an addon for each minor version in addons/. */
function binaries(name, libtorches, system) {
  const libraries = join(system, 'usr', 'lib', 'x86_64-linux-gnu');
  for (const folder of [libraries, join(system, 'usr', 'lib64')]) relink(folder, system);
  mkdirSync(join(libraries, 'a-infonce'), { recursive: true });
  rmSync(join(libraries, 'a-infonce', 'libstdc++.so'), { force: true });
  symlinkSync('../libstdc++.so.6', join(libraries, 'a-infonce', 'libstdc++.so'));

  const dir = fresh(join(work, 'linux-x64')), shipped = libtorches[0];
  for (const libtorch of libtorches) {
    const minor = libtorch.version.split('.').slice(0, 2).join('.'), built = join(work, `libtorch-${minor}`);
    console.log(`Addon for LibTorch ${libtorch.version}: ${libtorch.dir}`);
    cmake(libtorch, built, { A_INFONCE_CUDA: 'OFF', A_INFONCE_RPATH: '$ORIGIN/../../../../lib', CMAKE_TOOLCHAIN_FILE: join(root, 'scripts', 'debian11.cmake') }, { A_INFONCE_SYSROOT: system });
    const target = join(dir, 'addons', minor, 'prebuilds', 'linux-x64');
    mkdirSync(target, { recursive: true });
    for (const name of ['a_infonce.node', 'liba_infonce.so']) run('strip', ['--strip-unneeded', '-o', join(target, name), join(built, 'Release', name)]);
    run('strip', ['--strip-unneeded', '-o', join(dir, 'preload.node'), join(built, 'preload', 'preload.node')]);
  }
  mkdirSync(join(dir, 'lib'));
  for (const name of readdirSync(join(shipped.dir, 'lib')).filter((each) => /^lib(torch|torch_cpu|c10|gomp.*)\.so(\.1)?$/.test(each)))
    run('strip', ['--strip-unneeded', '-o', join(dir, 'lib', name), join(shipped.dir, 'lib', name)]);
  copyFileSync(join(root, 'LICENSE'), join(dir, 'LICENSE'));
  save(dir, {
    name, version: manifest.version, description: `Binaries of a-infonce for Linux x64 with glibc 2.31 or later: the addon and LibTorch ${shipped.version} (CPU)`,
    license: 'SEE LICENSE IN THIRD-PARTY-LICENSES', os: ['linux'], cpu: ['x64'], libc: ['glibc'], preferUnplugged: true, engines: manifest.engines, libtorch: shipped.version,
    files: ['lib', 'addons', 'preload.node', 'THIRD-PARTY-LICENSES'],
  });
  writeFileSync(join(dir, 'README.md'), `# ${name}\n\nThe binaries of a-infonce for Linux x64 (glibc 2.31 or later), with LibTorch ${shipped.version} (CPU). To use them, install \`a-infonce\`.\n`);
  writeFileSync(join(dir, 'THIRD-PARTY-LICENSES'), licenses(shipped.dir, system));
  const problems = ['lib', 'addons', 'preload.node'].flatMap((part) => filesOf(join(dir, part))).flatMap(floorProblems);
  if (problems.length > 0) throw new Error(problems.join('\n'));
  publishable(dir);
}
const filesOf = (path) => (statSync(path).isDirectory() ? readdirSync(path).flatMap((name) => filesOf(join(path, name))) : [path]);

/** Every licence of what is shipped, each text once: what comes with this LibTorch, oneMKL which is inside it, and the C++ and OpenMP libraries of GCC. */
function licenses(torch, system) {
  const info = readdirSync(dirname(torch)).find((name) => /^torch-.*\.dist-info$/.test(name)), folder = info && join(dirname(torch), info, 'licenses');
  if (!folder || !existsSync(folder)) throw new Error(`The licences of LibTorch, which must go with it, are not beside ${torch} (torch-*.dist-info/licenses): take one that pip has installed`);
  const texts = new Map();
  const add = (name, file) => {
    const text = readFileSync(file, 'utf8');
    texts.set(text, [...(texts.get(text) ?? []), name]);
  };
  add('a-infonce', join(root, 'LICENSE'));
  for (const file of filesOf(folder)) add(`LibTorch: ${relative(folder, file)}`, file);
  add('Intel oneAPI Math Kernel Library, linked into libtorch_cpu.so', join(root, 'scripts', 'licenses', 'intel-simplified-software-license.txt'));
  add('libgomp of GCC (source: gcc.gnu.org), GPL 3 with the GCC Runtime Library Exception', join(system, 'usr', 'share', 'doc', 'gcc-10-base', 'copyright'));
  add('GPL 3, of libgomp', join(system, 'usr', 'share', 'common-licenses', 'GPL-3'));
  const line = '='.repeat(100);
  return [...texts].map(([text, names]) => `${line}\n${names.join('\n')}\n${line}\n\n${text}\n`).join('\n');
}

/** The JavaScript package: what `npm pack` takes of this folder, with the binaries as an optional dependency and nothing that only development needs. */
function facade(name) {
  const dir = fresh(join(work, 'facade'));
  run('tar', ['-xzf', npmPack(root, work), '-C', dir, '--strip-components=1']);
  const { scripts, devDependencies, ...published } = manifest;
  save(dir, { ...published, optionalDependencies: { [name]: manifest.version } });
  publishable(dir);
}

try {
  const { values } = parseArgs({ options: { libtorch: { type: 'string', multiple: true }, sysroot: { type: 'string' } } });
  const libtorches = values.libtorch?.map((dir) => inspectLibTorch(dir)) ?? [findLibTorch() ?? fetchLibTorch()];
  for (const { dir, problem } of libtorches) if (problem) throw new Error(`--libtorch ${dir}: ${problem}`);
  fresh(out);
  mkdirSync(work, { recursive: true });
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run('npm', ['run', '--silent', 'build:ts']);
  const { BINARIES } = await import('../dist/runtime/locate.js');
  facade(BINARIES);
  binaries(BINARIES, libtorches, values.sysroot ? resolve(values.sysroot) : sysroot());
} catch (error) {
  console.error(`\n${error.message}\n`);
  process.exit(1);
}
