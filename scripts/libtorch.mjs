// Finds LibTorch, or fetches it with pip. Plain JavaScript because it runs before anything is built.
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

export const FETCHED_VERSION = '2.13.0';
export const SUPPORTED = '2.11 to 2.13';

export function cacheDir() {
  return process.env.A_INFONCE_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'a-infonce');
}

/** Where pip's target folder is kept: torch/ and, with a CUDA build, the libraries beside it. */
const fetchedDir = () => join(cacheDir(), `libtorch-${FETCHED_VERSION}`);

/** What is at `dir` (a folder with lib/, and include/ for those who build): { dir, version, problem? }. */
export function inspectLibTorch(dir, { headers = true } = {}) {
  const full = resolve(dir);
  if (forbidden(join(full, 'lib', 'libtorch_cpu.so'))) return { dir: full, problem: 'it may not be read (permission denied)' };
  const header = ['include/torch/headeronly/version.h', 'include/torch/csrc/api/include/torch/version.h']
    .map((file) => join(full, file)).find(existsSync);
  if (!existsSync(full)) return { dir: full, problem: 'there is no such folder' };
  if (!header && headers) return { dir: full, problem: 'no LibTorch headers (include/torch/...) are there' };
  if (!existsSync(join(full, 'lib', 'libtorch_cpu.so'))) return { dir: full, problem: 'lib/libtorch_cpu.so is not there' };
  const [major, minor, patch] = header ? headerVersion(readFileSync(header, 'utf8')) : recordedVersion(full);
  const version = `${major}.${minor}.${patch}`;
  if (Number.isNaN(major)) return { dir: full, problem: 'neither headers, nor version.py, nor build-version say which version it is' };
  if ((major !== 2 || minor < 11 || minor > 13) && process.env.A_INFONCE_ANY_LIBTORCH !== '1')
    return { dir: full, version, problem: `it is LibTorch ${version}; ${SUPPORTED} are supported (A_INFONCE_ANY_LIBTORCH=1 tries another)` };
  return { dir: full, version };
}

const headerVersion = (text) => ['MAJOR', 'MINOR', 'PATCH'].map((name) => Number(new RegExp(`TORCH_VERSION_${name}\\s+(\\d+)`).exec(text)?.[1] ?? NaN));
/** Of a Python package (version.py) or an archive of LibTorch (build-version) without headers. */
function recordedVersion(dir) {
  const file = ['version.py', 'build-version'].map((name) => join(dir, name)).find(existsSync);
  const version = file && /(?:^|__version__ = ')(\d+)\.(\d+)\.(\d+)/m.exec(readFileSync(file, 'utf8'));
  return version ? version.slice(1).map(Number) : [NaN, NaN, NaN];
}

/** Whether the permissions of a file, or of a folder that it lies in, keep it from being read. */
export function forbidden(path) {
  try {
    closeSync(openSync(path, 'r'));
    return false;
  } catch (error) {
    return error.code === 'EACCES';
  }
}

function pythonTorch() {
  // Without the current folder, where a `torch` would be somebody else's.
  const script = 'import sys; sys.path = [p for p in sys.path if p]; import importlib.util as u, os; s = u.find_spec("torch"); print(os.path.dirname(s.origin) if s and s.origin else "")';
  for (const python of [process.env.A_INFONCE_PYTHON, 'python3', 'python']) {
    if (!python) continue;
    const run = spawnSync(python, ['-c', script], { encoding: 'utf8' });
    if (run.status === 0 && run.stdout.trim()) return run.stdout.trim();
  }
  return undefined;
}

/** What the environment asks for: { source, dir, version?, problem? }; undefined when it does not. The word `python` stands for the Python package torch. */
export function askedLibTorch(variables = ['A_INFONCE_LIBTORCH', 'LIBTORCH'], options = {}) {
  const name = variables.find((each) => process.env[each]);
  if (!name) return undefined;
  const source = `the environment variable ${name}`;
  if (process.env[name] !== 'python') return { source, ...inspectLibTorch(process.env[name], options) };
  const dir = pythonTorch();
  return dir ? { source, ...inspectLibTorch(dir, options) } : { source, dir: 'python', problem: 'no Python with the package torch was found (A_INFONCE_PYTHON names the interpreter)' };
}

/** Every place that was looked at, in order: [{ source, dir, version?, problem? }]. The first without a problem is taken. */
export function libTorchCandidates() {
  const asked = askedLibTorch(), candidates = asked ? [asked] : [];
  const python = pythonTorch();
  if (python) candidates.push({ source: 'the Python package torch', ...inspectLibTorch(python) });
  if (existsSync(fetchedDir()) || forbidden(fetchedDir())) candidates.push({ source: 'the cache', ...inspectLibTorch(join(fetchedDir(), 'torch')) });
  return candidates;
}

/** The LibTorch to use, or undefined. A variable that names a wrong one is an error, never passed over in silence. */
export function findLibTorch() {
  const candidates = libTorchCandidates();
  const asked = candidates.find(({ source, problem }) => problem && source.startsWith('the environment'));
  if (asked) throw new Error(`${asked.source} is set to ${asked.dir}, but ${asked.problem}.\nSet it to a folder with include/ and lib/ of LibTorch ${SUPPORTED}, or unset it.`);
  return candidates.find(({ problem }) => !problem);
}

/** Fetches LibTorch with pip (which honours the user's mirrors) into the cache and returns it. */
export function fetchLibTorch(log = console.log) {
  const python = [process.env.A_INFONCE_PYTHON, 'python3', 'python'].find((name) => name && spawnSync(name, ['-m', 'pip', '--version']).status === 0);
  if (!python)
    throw new Error(
      'No LibTorch was found, and there is no Python with pip to fetch it.\n' +
      `Either install pip (Debian, Ubuntu: apt-get install python3-pip) and run this again,\nor unpack LibTorch ${SUPPORTED} somewhere and set A_INFONCE_LIBTORCH to its folder.`);
  mkdirSync(cacheDir(), { recursive: true });
  const work = mkdtempSync(join(cacheDir(), 'fetch-'));
  const pip = (...args) => spawnSync(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-compile', '--target', work, ...args],
    { stdio: ['ignore', 'inherit', 'pipe'], encoding: 'utf8' });
  try {
    log(`Fetching LibTorch ${FETCHED_VERSION} with pip (once; kept in ${cacheDir()}) ...`);
    // The CPU build stands alone. Where the index has none, the default build comes with the CUDA packages that it cannot load without.
    let run = pip('--no-deps', `torch==${FETCHED_VERSION}+cpu`);
    if (run.status !== 0) {
      log(`This pip index has no CPU build of torch ${FETCHED_VERSION}: fetching the default one, several gigabytes with its CUDA libraries ...`);
      run = pip(`torch==${FETCHED_VERSION}`);
    }
    if (run.status !== 0)
      throw new Error(`pip could not fetch torch==${FETCHED_VERSION}:\n${run.stderr}\nOr unpack LibTorch ${SUPPORTED} somewhere and set A_INFONCE_LIBTORCH to its folder.`);
    const target = fetchedDir();
    if (inspectLibTorch(join(target, 'torch')).problem) {
      rmSync(target, { recursive: true, force: true });
      renameSync(work, target);
    }
    const found = inspectLibTorch(join(target, 'torch'));
    if (found.problem) throw new Error(`${found.dir}: ${found.problem}`);
    return { source: 'pip', ...found };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Of the C library of this process; undefined where it is another one. */
export const glibcVersion = () => process.report?.getReport().header.glibcVersionRuntime;

/** Why this machine cannot build, as lines that say what to type; empty when it can. */
export function buildProblems() {
  const problems = [];
  const output = (command, args) => {
    try {
      return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    } catch {
      return undefined;
    }
  };
  if (process.platform !== 'linux' || process.arch !== 'x64') return [`a-infonce runs on linux-x64 with glibc; this is ${process.platform}-${process.arch}.`];
  const glibc = glibcVersion();
  if (!glibc) return ['a-infonce needs glibc 2.28 or later; this system has another C library (Alpine? Use a Debian-based image).'];
  const [major, minor] = glibc.split('.').map(Number);
  if (major === 2 && minor < 28) return [`a-infonce needs glibc 2.28 or later; this system has ${glibc}.`];
  const compiler = process.env.CXX || 'c++';
  const version = output(compiler, ['-dumpfullversion']) ?? output(compiler, ['--version']);
  if (version === undefined) problems.push(`No C++ compiler (${compiler}) was found.  Debian, Ubuntu: apt-get install g++   Fedora: dnf install gcc-c++`);
  else if (/^\d/.test(version) && Number(version.split('.')[0]) < 11)
    problems.push(`${compiler} is version ${version.trim()}; GCC 11 or later is needed (C++20).  Set CXX to a newer one.`);
  const cmake = /version (\d+)\.(\d+)/.exec(output('cmake', ['--version']) ?? '');
  if (!cmake) problems.push('CMake was not found.  Debian, Ubuntu: apt-get install cmake   anywhere: pip install cmake');
  else if (Number(cmake[1]) * 100 + Number(cmake[2]) < 320) problems.push(`CMake is version ${cmake[1]}.${cmake[2]}; 3.20 or later is needed.  anywhere: pip install cmake`);
  if (output('ninja', ['--version']) === undefined && output('make', ['--version']) === undefined)
    problems.push('Neither Ninja nor Make was found.  Debian, Ubuntu: apt-get install ninja-build');
  return problems;
}
