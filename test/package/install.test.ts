/** What a stranger gets who installs the packages: run with nothing but Node.js on the PATH, without a compiler, CMake or Python. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { ANSWER, COMMONJS, ESM, TRAINED, TRAINING } from './programs.js';
import { floorProblems } from '../../scripts/symbols.mjs';
import { findLibTorch } from '../../scripts/libtorch.mjs';

const { folder, path, facade, binaries } = inject('installed');
const root = fileURLToPath(new URL('../..', import.meta.url));
const modules = join(folder, 'node_modules'), platform = join(modules, '@a-infonce', 'linux-x64');
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
  test.each(['22', '24'])('under Node.js %s', (major) => {
    const node = join(modules, `node${major}`, 'bin', 'node');
    expect(run(['--version'], { node }).out).toMatch(new RegExp(`^v${major}\\.`));
    for (const program of ['five.mjs', 'five.cjs']) expect(run([program], { node })).toMatchObject({ status: 0, out: ANSWER });
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
  test('without the package of binaries: what to type', () => {
    const cwd = copy('without', (dir) => renameSync(dir, `${dir}-away`));
    const { status, text } = run(['five.mjs'], { cwd });
    expect(status).toBe(1);
    expect(text).toMatch(/LoadError: The binaries for this system, @a-infonce\/linux-x64, are not installed: .* Type: npm install @a-infonce\/linux-x64@0\.1\.0/);
    expect(run([join('node_modules', 'a-infonce', 'dist', 'cli', 'main.js'), 'doctor'], { cwd }).text).toMatch(/→ npm install @a-infonce\/linux-x64@0\.1\.0/);
    expect(run([join('node_modules', 'a-infonce', 'scripts', 'build-native.mjs')], { cwd }).text).toMatch(/No C\+\+ compiler/);
  });
  test('with one of another version', () => {
    const cwd = copy('other', (dir) => {
      const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8')) as object;
      writeFileSync(join(dir, 'package.json'), JSON.stringify({ ...manifest, version: '0.0.9' }));
    });
    expect(run(['five.mjs'], { cwd }).text).toMatch(/LoadError: @a-infonce\/linux-x64 is of version 0\.0\.9, a-infonce of 0\.1\.0: .* Type: npm install @a-infonce\/linux-x64@0\.1\.0/);
  });
  test('with a LibTorch that was cut short', () => {
    const cwd = copy('cut', (dir) => truncateSync(join(dir, 'lib', 'libtorch_cpu.so'), 100_000));
    const { status, text } = run(['five.mjs'], { cwd });
    expect(status).toBe(1);
    expect(text).toMatch(/LoadError: .*lib\/libtorch_cpu\.so was cut short: it has 100000 of \d{9} bytes\. Type: rm -r .* && npm install @a-infonce\/linux-x64@0\.1\.0/);
  });
  test('with a LibTorch of the environment that is not one, or of a version without an addon', () => {
    expect(run(['five.mjs'], { env: { A_INFONCE_LIBTORCH: '/nowhere' } }).text).toMatch(/LoadError: .*A_INFONCE_LIBTORCH is set to \/nowhere, but there is no such folder/);
    const version = join(folder, 'libtorch-2.99');
    for (const each of ['include/torch/headeronly', 'lib']) mkdirSync(join(version, each), { recursive: true });
    for (const name of ['libc10.so', 'libtorch_cpu.so', 'libtorch.so']) symlinkSync(join(platform, 'lib', name), join(version, 'lib', name));
    writeFileSync(join(version, 'include/torch/headeronly/version.h'), '#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 99\n#define TORCH_VERSION_PATCH 0\n');
    expect(run(['five.mjs'], { env: { A_INFONCE_LIBTORCH: version } }).text).toMatch(/LoadError: .*it is LibTorch 2\.99\.0; 2\.11 to 2\.13 are supported/);
    expect(run(['five.mjs'], { env: { A_INFONCE_LIBTORCH: version, A_INFONCE_ANY_LIBTORCH: '1' } }).text)
      .toMatch(/LoadError: .*asks for LibTorch 2\.99\.0, but @a-infonce\/linux-x64 0\.1\.0 has addons for LibTorch 2\.13.*build from source/);
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
  expect(run([main, '--version']).out).toBe('0.1.0');
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
