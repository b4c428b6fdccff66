/** What a stranger gets who installs the packages: run with nothing but Node.js on the PATH, without a compiler, CMake or Python. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { ANSWER, COMMONJS, ESM, TRAINED, TRAINING } from './programs.js';
import { install } from './setup.js';
import { floorProblems } from '../../scripts/symbols.mjs';
import { findLibTorch } from '../../scripts/libtorch.mjs';

const { folder, path, facade, binaries } = inject('installed');
const root = fileURLToPath(new URL('../..', import.meta.url));
const modules = join(folder, 'node_modules'), platform = join(modules, '@a-infonce', 'linux-x64');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
const bare = { PATH: path, HOME: join(folder, 'home') };
const tool = (name: string) => join(root, 'node_modules', '.bin', name);

/** Runs a program in the folder; what it printed. */
function run(args: string[], { node = process.execPath, cwd = folder, env = {} }: { node?: string; cwd?: string; env?: Record<string, string> } = {}) {
  const { status, stdout, stderr } = spawnSync(node, args, { cwd, encoding: 'utf8', env: { ...bare, ...env } });
  return { status, out: stdout.trim(), text: `${stdout}${stderr}` };
}
const write = (name: string, text: string) => writeFileSync(join(folder, name), text);

beforeAll(() => {
  write('five.mjs', ESM);
  write('five.cjs', COMMONJS);
});

describe('the five lines', () => {
  test('as an ES module and in CommonJS', () => {
    for (const program of ['five.mjs', 'five.cjs']) expect(run([program])).toMatchObject({ status: 0, out: ANSWER, text: `${ANSWER}\n` });
  });
  test('installed without scripts', () => {
    const other = mkdtempSync(join(tmpdir(), 'a-infonce-unscripted-')), manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { dependencies: object };
    mkdirSync(join(other, 'bin'));
    symlinkSync(process.execPath, join(other, 'bin', 'node'));
    writeFileSync(join(other, 'package.json'), JSON.stringify({ ...manifest, dependencies: { 'a-infonce': `file:${facade}` } }));
    writeFileSync(join(other, 'five.mjs'), ESM);
    install(other, '--ignore-scripts');
    expect(run(['five.mjs'], { cwd: other })).toMatchObject({ status: 0, out: ANSWER });
    rmSync(other, { recursive: true });
  });
  test.each(['22', '22.12', '24'])('under Node.js %s', (major) => {
    const node = join(modules, `node${major}`, 'bin', 'node');
    expect(run(['--version'], { node }).out).toMatch(new RegExp(`^v${major.replace('.', '\\.')}\\.`));
    for (const program of ['five.mjs', 'five.cjs']) expect(run([program], { node })).toMatchObject({ status: 0, out: ANSWER });
  });
  test('not under Node.js 18, and the command line says why', () => {
    const node = join(modules, 'node18', 'bin', 'node');
    expect(run([join('node_modules', 'a-infonce', 'dist', 'cli', 'main.js'), 'doctor'], { node })).toMatchObject({ status: 1, text: expect.stringMatching(/^a-infonce needs Node\.js \^20\.19 \|\| >=22\.12; this is 18\./) });
  });
  test('in a worker', () => {
    write('worker.mjs', "import { Worker } from 'node:worker_threads'; new Worker(new URL('./five.mjs', import.meta.url));");
    expect(run(['worker.mjs'])).toMatchObject({ status: 0, out: ANSWER });
  });
  test('bundled, with the package outside of the bundle', () => {
    execFileSync(tool('esbuild'), ['five.mjs', '--bundle', '--platform=node', '--format=esm', '--external:a-infonce', '--outfile=bundle.mjs', '--log-level=error'], { cwd: folder });
    execFileSync(tool('esbuild'), ['five.mjs', '--bundle', '--platform=node', '--format=cjs', '--external:a-infonce', '--outfile=bundle.cjs', '--log-level=error'], { cwd: folder });
    for (const program of ['bundle.mjs', 'bundle.cjs']) expect(run([program])).toMatchObject({ status: 0, out: ANSWER });
  });
  test.each([
    ['node16', 'node16', 'five.mts'], ['node16', 'node16', 'five.cts'], ['nodenext', 'nodenext', 'five.mts'], ['esnext', 'bundler', 'five.mts'],
  ])('in strict TypeScript: module %s, resolution %s, %s', (module, resolution, file) => {
    write(file, `import { aInfoNCE, randn, type Tensor } from 'a-infonce';
      using features = randn([48, 8], { requiresGrad: true });
      using loss: Tensor = aInfoNCE(features, { views: 3, adversarialView: 2 });
      loss.backward();
      const shape: readonly number[] | undefined = features.grad?.shape;
      // @ts-expect-error: views is a number
      () => aInfoNCE(features, { views: '3' });
      console.log(Number.isFinite(loss.item()), JSON.stringify(shape));`);
    write('tsconfig.json', JSON.stringify({
      compilerOptions: { module, moduleResolution: resolution, target: 'es2022', lib: ['es2023', 'esnext.disposable'], types: ['node'], strict: true, outDir: 'out' }, files: [file],
    }));
    const { status, stdout } = spawnSync(tool('tsc'), ['-p', 'tsconfig.json'], { cwd: folder, encoding: 'utf8' });
    expect(stdout).toBe('');
    expect(status).toBe(0);
    expect(run([join('out', file.replace('ts', 'js'))])).toMatchObject({ status: 0, out: ANSWER });
  });
});

describe('what does not fit', () => {
  const copies: string[] = [];
  afterAll(() => copies.forEach((each) => rmSync(each, { recursive: true, force: true })));
  /** A copy of the installation, with the dependencies linked, somewhere else: resolution looks in the folders above too. */
  function copy(name: string, change: (platform: string) => void) {
    const target = mkdtempSync(join(tmpdir(), `a-infonce-${name}-`));
    copies.push(target);
    mkdirSync(join(target, 'node_modules'));
    for (const each of readdirSync(modules).filter((each) => !each.startsWith('.') && !each.startsWith('node2')))
      if (each === '@a-infonce' || each === 'a-infonce') cpSync(join(modules, each), join(target, 'node_modules', each), { recursive: true });
      else execFileSync('ln', ['-s', join(modules, each), join(target, 'node_modules', each)]);
    writeFileSync(join(target, 'five.mjs'), ESM);
    change(join(target, 'node_modules', '@a-infonce', 'linux-x64'));
    return target;
  }
  const type = `Type: npm install @a-infonce/linux-x64@${version}`;
  test('without the package of binaries: what to type', () => {
    const cwd = copy('without', (dir) => renameSync(dir, `${dir}-away`));
    const { status, text } = run(['five.mjs'], { cwd });
    expect(status).toBe(1);
    expect(text).toContain('LoadError: The binaries for this system, @a-infonce/linux-x64, are not installed: ');
    expect(text).toContain(type);
    expect(run([join('node_modules', 'a-infonce', 'dist', 'cli', 'main.js'), 'doctor'], { cwd }).text).toContain(`→ npm install @a-infonce/linux-x64@${version}`);
    expect(run([join('node_modules', 'a-infonce', 'scripts', 'build-native.mjs')], { cwd }).text).toMatch(/No C\+\+ compiler/);
  });
  test('with one of another version', () => {
    const cwd = copy('other', (dir) => {
      const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as object;
      writeFileSync(join(dir, 'package.json'), JSON.stringify({ ...manifest, version: '0.0.9' }));
    });
    const { text } = run(['five.mjs'], { cwd });
    expect(text).toContain(`LoadError: @a-infonce/linux-x64 is of version 0.0.9, a-infonce of ${version}: `);
    expect(text).toContain(type);
  });
  const addon = join('addons', '2.13', 'prebuilds', 'linux-x64');
  test.each([
    ['lib/libtorch_cpu.so'], ['lib/libgomp.so.1'], [join(addon, 'liba_infonce.so')], [join(addon, 'a_infonce.node')],
  ])('with %s cut short', (file) => {
    const cwd = copy('cut', (dir) => truncateSync(join(dir, file), 20_000));
    const cut = run(['five.mjs'], { cwd });
    expect(cut.status).toBe(1);
    expect(cut.text).toMatch(new RegExp(`LoadError: .*/${file} was cut short: it has 20000 of \\d+ bytes\\. Type: rm -r `));
    expect(cut.text).toContain(`npm install @a-infonce/linux-x64@${version}`);
  });
  test('without any addon', () => {
    const cwd = copy('empty', (dir) => rmSync(join(dir, 'addons'), { recursive: true }));
    expect(run(['five.mjs'], { cwd }).text).toMatch(/LoadError: .*liba_infonce\.so is missing\. Type: rm -r /);
  });
  test('with a LibTorch of the environment that is not one, or of a version without an addon', () => {
    expect(run(['five.mjs'], { env: { A_INFONCE_LIBTORCH: '/nowhere' } }).text).toMatch(/LoadError: .*A_INFONCE_LIBTORCH is set to \/nowhere, but there is no such folder/);
    const other = join(folder, 'libtorch-2.99');
    for (const each of ['include/torch/headeronly', 'lib']) mkdirSync(join(other, each), { recursive: true });
    for (const name of ['libc10.so', 'libtorch_cpu.so', 'libtorch.so']) symlinkSync(join(platform, 'lib', name), join(other, 'lib', name));
    writeFileSync(join(other, 'include/torch/headeronly/version.h'), '#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 99\n#define TORCH_VERSION_PATCH 0\n');
    expect(run(['five.mjs'], { env: { A_INFONCE_LIBTORCH: other } }).text).toMatch(/LoadError: .*it is LibTorch 2\.99\.0; 2\.11 to 2\.13 are supported/);
    expect(run(['five.mjs'], { env: { A_INFONCE_LIBTORCH: other, A_INFONCE_ANY_LIBTORCH: '1' } }).text)
      .toMatch(/LoadError: .*asks for LibTorch 2\.99\.0, but @a-infonce\/linux-x64 \S+ has addons for LibTorch [\d., ]*2\.13.*build from source/);
  });
  test('with a LibTorch of the environment whose own libraries are not there: it is named', () => {
    const other = join(folder, 'libtorch-cuda');
    mkdirSync(join(other, 'lib'), { recursive: true });
    for (const name of ['libtorch.so', 'libtorch_cpu.so', 'libgomp.so.1']) cpSync(join(platform, 'lib', name), join(other, 'lib', name));
    // As a build for CUDA needs libraries that are not everywhere.
    const c10 = readFileSync(join(platform, 'lib', 'libc10.so'), 'latin1').replaceAll('libgcc_s.so.1', 'libcuda_s.so1');
    writeFileSync(join(other, 'lib', 'libc10.so'), c10, 'latin1');
    writeFileSync(join(other, 'build-version'), '2.13.0+cu130');  // as an archive of LibTorch says it; without headers
    expect(run(['five.mjs'], { env: { A_INFONCE_LIBTORCH: other } }).text)
      .toContain(`The LibTorch in ${other}, which the environment variable A_INFONCE_LIBTORCH asks for, cannot be used: libcuda_s.so1: cannot open shared object file`);
  });
  test('a second LibTorch in one process', () => {
    const libtorch = findLibTorch()!;
    write('second.mjs', `import { Worker } from 'node:worker_threads'; import { randn } from 'a-infonce'; randn([1]);
      new Worker(new URL('./five.mjs', import.meta.url), { env: { ...process.env, A_INFONCE_LIBTORCH: ${JSON.stringify(libtorch.dir)} } }).on('error', ({ message }) => console.log(message));`);
    expect(run(['second.mjs']).text).toContain(`cannot be used: another one, ${join(platform, 'lib', 'libtorch_cpu.so')}, is loaded in this process already`);
  });
});

test('a LibTorch that the environment asks for takes the place of the one in the package', () => {
  const libtorch = findLibTorch()!;
  write('mapped.mjs', `import { randn } from 'a-infonce'; import { readFileSync } from 'node:fs';
    randn([1]); console.log([...new Set(readFileSync('/proc/self/maps', 'utf8').match(/\\S*libtorch_cpu\\.so/g))].join());`);
  expect(run(['mapped.mjs']).out).toBe(join(platform, 'lib', 'libtorch_cpu.so'));
  expect(run(['mapped.mjs'], { env: { A_INFONCE_LIBTORCH: libtorch.dir } }).out).toBe(join(libtorch.dir, 'lib', 'libtorch_cpu.so'));
});

test('importing loads nothing of LibTorch', () => {
  write('import.mjs', "import 'a-infonce'; import { readFileSync } from 'node:fs'; console.log(/libtorch|a_infonce\\.node/.test(readFileSync('/proc/self/maps', 'utf8')));");
  expect(run(['import.mjs']).out).toBe('false');
});

test('the command line answers, and doctor finds everything in the packages', () => {
  const main = join('node_modules', 'a-infonce', 'dist', 'cli', 'main.js');
  expect(run([main, '--version']).out).toBe(version);
  const { status, text } = run([main, 'doctor']);
  expect(status).toBe(0);
  const { libtorch } = JSON.parse(readFileSync(join(platform, 'package.json'), 'utf8')) as { libtorch: string };
  expect(text).toMatch(new RegExp(`LibTorch +${libtorch}, @a-infonce/linux-x64\\n`));
});

test('a small run, from pre-training to robust accuracy', () => {
  write('train.mjs', TRAINING);
  const { status, text } = run(['train.mjs']);
  expect(text).toContain(TRAINED);
  expect(status).toBe(0);
});

describe('the tarballs', () => {
  test('hold the sources of a build, and say for which systems the binaries are', () => {
    const tracked = execFileSync('git', ['ls-files', 'native'], { cwd: root, encoding: 'utf8' }).trim().split('\n');
    const packed = execFileSync('tar', ['-tzf', facade], { encoding: 'utf8' });
    for (const file of [...tracked, 'CMakeLists.txt', 'scripts/build-native.mjs', 'scripts/libtorch.mjs', 'README.md', 'LICENSE']) expect(packed).toContain(`package/${file}\n`);
    expect(packed).not.toContain('package/binding.gyp\n');  // npm would run node-gyp at installation
    const read = (dir: string) => JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as Record<string, unknown>;
    expect(read(platform)).toMatchObject({ os: ['linux'], cpu: ['x64'], libc: ['glibc'], version });
    expect(read(join(modules, 'a-infonce'))).toMatchObject({ optionalDependencies: { '@a-infonce/linux-x64': version } });
    expect(read(join(modules, 'a-infonce'))).not.toHaveProperty('scripts');
    const licences = readFileSync(join(platform, 'THIRD-PARTY-LICENSES'), 'utf8');
    for (const text of ['Intel Simplified Software License', 'GCC RUNTIME LIBRARY EXCEPTION', 'GNU GENERAL PUBLIC LICENSE', 'From PyTorch']) expect(licences).toContain(text);
  });
  test('hold every page and picture that their pages lead to', () => {
    const here = join(modules, 'a-infonce'), pages = (readdirSync(here, { recursive: true }) as string[]).filter((name) => name.endsWith('.md'));
    const links = pages.flatMap((page) => [...readFileSync(join(here, page), 'utf8').matchAll(/\]\((?!\w+:)([^)#\s]+\.\w+)/g)].map(([, link]) => join(page, '..', link!)));
    expect(links.length).toBeGreaterThan(40);
    expect(links.filter((link) => !existsSync(join(here, link)))).toEqual([]);
  });
  test('have the size that was promised', () => {
    expect(statSync(facade).size).toBeLessThan(2e6);
    expect(statSync(binaries).size).toBeLessThan(180e6);
  });
  test('ask nothing of the system that Debian 11 has not', () => {
    const files = (readdirSync(platform, { recursive: true }) as string[]).map((name) => join(platform, name)).filter((name) => /\.(node|so)(\.\d+)?$/.test(name));
    expect(files.length).toBeGreaterThanOrEqual(7);
    expect(files.flatMap(floorProblems)).toEqual([]);
  });
  test('please publint and are-the-types-wrong', () => {
    expect(spawnSync(tool('publint'), [facade, '--strict'], { encoding: 'utf8' })).toMatchObject({ status: 0 });
    const { status, stdout } = spawnSync(tool('attw'), [facade, '--no-color'], { encoding: 'utf8' });
    expect(stdout).not.toMatch(/❌|⚠|Resolution failed/);
    expect(status).toBe(0);
  });
});
