// Checks what is for CUDA without a GPU: runs the kernels on the CPU, thread by thread, under sanitizers and once more to find races (test/native/cuda), and compiles them for every architecture.
//   node scripts/check-cuda.mjs [--emulate | --compile] [name ...]
// name: the tests (self, similarity, ...) or the .cu files whose paths hold it. Without nvcc nothing is compiled, and that is said.
//   node scripts/check-cuda.mjs --host <LibTorch with CUDA> [name ...]
// runs the program that was built with that LibTorch (npm run build) on a stand-in for the CUDA runtime (test/native/cuda_runtime): errors, devices, waits; then the tests of a
// GPU, with values that the CPU computes. name: scenarios whose names hold it. CUDA_STAND_IN_TRACE=waits says on stderr who waits.
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { boundsOf, kernelsOf, refusals } from './ptxas.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
function refuse(text) {
  console.error(text);
  process.exit(2);
}
function given() {
  try {
    return parseArgs({ options: { emulate: { type: 'boolean' }, compile: { type: 'boolean' }, host: { type: 'string' } }, allowPositionals: true });
  } catch (error) {
    refuse(error.message);
  }
}
const { values: { emulate: emulates, compile: compiles, host: libtorch }, positionals: names } = given();
if ([emulates, compiles, libtorch !== undefined].filter(Boolean).length > 1) refuse('expected one of --emulate, --compile and --host, or none for the first two of them');
if (libtorch !== undefined && !existsSync(join(libtorch, 'lib', 'libtorch_cuda.so'))) refuse(`--host: expected the folder of a LibTorch with CUDA, in which is lib/libtorch_cuda.so, got ${libtorch}`);
const wanted = (name) => names.length === 0 || names.some((part) => name.includes(part));

const tests = readdirSync(join(root, 'test', 'native', 'cuda')).filter((file) => file.endsWith('.cpp') && !file.startsWith('emulator')).map((file) => basename(file, '.cpp'));
const sources = readdirSync(join(root, 'native', 'kernels'), { recursive: true }).map((file) => join('native', 'kernels', file)).filter((file) => file.endsWith('.cu')).sort();
const all = [...(compiles ? [] : tests), ...(emulates ? [] : sources)];
if (libtorch === undefined && !all.some(wanted)) refuse(`nothing is called ${names.join(' or ')}; there are ${all.join(', ')}`);

const run = (command, args) => promisify(execFile)(command, args, { cwd: root, maxBuffer: 1 << 28 });
const found = (command) => {
  try {
    return execFileSync(command, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return undefined;
  }
};
/** job(item) for all items, as many at once as there are processors, two at least. */
async function each(items, job) {
  const left = [...items];
  await Promise.all(Array.from({ length: Math.max(2, availableParallelism()) }, async () => {
    for (let item; (item = left.shift()) !== undefined; ) await job(item);
  }));
}

let failed = false;
const fail = (text) => ((failed = true), console.error(text));

async function emulate() {
  const build = join(root, 'build', 'cuda');
  const chosen = tests.filter(wanted).flatMap((test) => [`${test}_test`, `${test}_races`]);
  if (chosen.length === 0) return;
  await run('cmake', ['-S', join(root, 'test', 'native', 'cuda'), '-B', build]);
  await run('cmake', ['--build', build, '--parallel', String(Math.max(2, availableParallelism())), '--target', ...chosen]);
  await each(chosen, async (test) => {
    const start = performance.now();
    const { stdout } = await run(join(build, test), []).catch((error) => (fail(`${test}: ${error.stderr || error.message}`), { stdout: '' }));
    if (stdout) console.log(`emulated, ${test.replace('_', ', ')}: ${stdout.trim().split('\n').at(-1)} in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  });
}

/** What native/cuda/CMakeLists.txt gives nvcc for a file: its architectures, rooms without contraction and definitions. Files named *_sm90a.cu hold instructions of Hopper alone. */
function flags(file) {
  const build = readFileSync(join(root, 'native', 'cuda', 'CMakeLists.txt'), 'utf8');
  const read = (pattern) => pattern.exec(build)?.[1] ?? fail(`native/cuda/CMakeLists.txt has nothing like ${pattern}`) ?? '';
  const architectures = read(/set\(CMAKE_CUDA_ARCHITECTURES (\d[^)]*)\)/).split(' '), uncontracted = read(/MATCHES "\/kernels\/\(([a-z|]+)\)\/"/).split('|');
  const targets = architectures.filter((name) => !file.endsWith('_sm90a.cu') || name === '90a-real').map((name) => {
    const [number, kind] = name.split('-');  // without a kind both, machine code and PTX
    return `-gencode=arch=compute_${number},code=[${[kind !== 'virtual' && `sm_${number}`, kind !== 'real' && `compute_${number}`].filter(Boolean)}]`;
  });
  return ['-std=c++20', '-O3', '-DNDEBUG', '-DA_INFONCE_SM90A', '-lineinfo', '-I', 'native', ...targets, ...(uncontracted.includes(basename(dirname(file))) ? ['--fmad=false'] : [])];
}

/** Names as they are written, without namespaces and parameters. */
const readable = (symbols) => {
  try {
    return execFileSync('c++filt', { input: symbols.join('\n'), encoding: 'utf8' }).trim().split('\n')
      .map((name) => name.replaceAll(/a_infonce::kernels::|cuda::|\(anonymous namespace\)::|^void /g, '').replace(/>?\([^()]*(\([^()]*\)[^()]*)*\)$/, (end) => (end.startsWith('>') ? '>' : '')));
  } catch {
    return symbols;
  }
};

async function compile() {
  const version = found('nvcc');
  if (!version) return console.log('nvcc was not found: the CUDA kernels were not compiled');
  console.log(/release [^\n]*/.exec(version)?.[0] ?? version.trim());
  await standIn();
  await each(sources.filter(wanted), async (file) => {
    const folder = mkdtempSync(join(tmpdir(), 'a-infonce-check-'));
    const args = [...flags(file), '-Xptxas', '-v', '-Xcompiler', '-Wall', '--keep', '--keep-dir', folder, '-c', file, '-o', join(folder, 'output.o')];
    const { stderr, stdout } = await run('nvcc', args).catch((error) => (fail(`${file}: ${error.stderr || error.message}`), { stderr: '', stdout: '' }));
    const found = kernelsOf(stdout + stderr), shown = readable([...found.keys()]);
    const bounds = new Map(readdirSync(folder).filter((name) => name.endsWith('.ptx')).flatMap((name) => [...boundsOf(readFileSync(join(folder, name), 'utf8'))]));
    const lines = [...found].map(([symbol, uses], index) => {
      const why = uses.flatMap((use) => refusals(use, bounds.get(symbol)).map((each) => `; NOT SO: ${each} on ${use.architecture}`));
      if (why.length > 0) failed = true;
      return `  ${shown[index]}: ${uses.map((use) => `${use.architecture} ${use.registers}`).join(', ')}${why.join('')}`;
    });
    const warnings = (stdout + stderr).split('\n').filter((line) => /\bwarning\b/i.test(line));
    // Products of a warpgroup that run one by one, or registers that are not handed over: C7504 to C7519, which ptxas calls information.
    const losses = (stdout + stderr).split('\n').filter((line) => /Potential Performance Loss|\(C75\d\d\)/.test(line));
    if (losses.length > 0) failed = true;
    console.log([`${relative(root, join(root, file))}: registers of ${found.size} kernels`, ...lines, ...warnings, ...losses].join('\n'));
    rmSync(folder, { recursive: true });
  });
}

/** Builds the stand-in for the CUDA runtime; with LibTorch's libraries, for them. */
async function standIn(libtorch = '') {
  const build = join(root, 'build', 'cuda-runtime');
  await run('cmake', ['-S', join(root, 'test', 'native', 'cuda_runtime'), '-B', build, `-DA_INFONCE_LIBTORCH=${libtorch}`]);
  await run('cmake', ['--build', build, '--parallel', String(Math.max(2, availableParallelism()))]);
  return ['libcuda_runtime_stand_in.so', 'libcuda_values.so'].map((name) => join(build, name));
}
async function host(libtorch) {
  const [library, computed] = await standIn(resolve(libtorch)), folder = mkdtempSync(join(tmpdir(), 'a-infonce-host-'));
  const node = (what, env, args) => {
    console.log(`\n${what}`);
    const { status, signal } = spawnSync(process.execPath, args, { cwd: root, env: { OMP_NUM_THREADS: '1', ...process.env, ...env }, stdio: 'inherit' });
    if (status !== 0) fail(`${what}: ${signal ?? `exit code ${status}`}`);
  };
  const counts = join(folder, 'counts'), environment = { CUDA_STAND_IN_DEVICES: '2', CUDA_STAND_IN_COUNTS: counts };
  const scenarios = [join(root, 'test', 'native', 'cuda_runtime', 'host.mjs'), ...names];
  // Memory that is fresh each time holds zeros.
  node('Without values, on the first device', { ...environment, LD_PRELOAD: library, PYTORCH_NO_CUDA_MEMORY_CACHING: '1' }, scenarios);
  rmSync(counts);
  node('Graphs, on the first device', { ...environment, LD_PRELOAD: library }, [...scenarios.slice(0, 1), 'by a graph']);
  rmSync(counts);
  node('Graphs at once', { ...environment, LD_PRELOAD: library }, [...scenarios.slice(0, 1), 'graphs of four']);  // alone: what others left in LibTorch's memory is no label
  rmSync(counts);
  node('With values, on the second device', { ...environment, LD_PRELOAD: `${library} ${computed}`, CUDA_STAND_IN_MEMORY: String(2 ** 30) }, [...scenarios, '--values', '--device', 'cuda:1']);
  rmSync(folder, { recursive: true });
  // The emulator takes minutes for the largest batches.
  if (names.length === 0) node('With values, the tests of a GPU', { LD_PRELOAD: `${library} ${computed}` }, [join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run', '--project', 'gpu', '--testTimeout', '600000', '-t', '^(?!.*(batch 700|ha(s|ve) the same bits each time))']);
}

const report = (error) => fail([error.stdout, error.stderr].filter(Boolean).join('\n') || error.message);
if (libtorch !== undefined) await host(libtorch).catch(report);
else {
  if (!compiles) await emulate().catch(report);
  if (!emulates) await compile();
}
if (failed) process.exitCode = 1;
