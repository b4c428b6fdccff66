/** What this machine has of what the package needs. Nothing here needs the addon to be built or to load. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { type LibTorch as Candidate, SUPPORTED, buildProblems, forbidden, glibcVersion, libTorchCandidates } from '../../scripts/libtorch.mjs';
import type { RuntimeAddon } from './addon.js';
import { LoadError } from './errors.js';
import { explainLoadFailure } from './explain.js';
import { BINARIES, binariesPackage, buildCommand, builtWith, locate, root } from './locate.js';
import { engines, runsOn, version } from './version.js';

/** One thing that was looked at. */
export interface Finding {
  subject: string;
  /** `note`: worth knowing, nothing is wrong. */
  state: 'ok' | 'note' | 'problem';
  text: string;
  /** What to type. */
  fix?: string;
}

export interface Diagnosis {
  /** Nothing that is needed is missing. */
  ok: boolean;
  /** Of this package. */
  version: string;
  findings: Finding[];
}

type LibTorch = Candidate & { source: string };
interface Probe {
  path?: string;
  /** Why it does not load, explained. */
  error?: string;
  info?: { libtorch: string; instructionSet: string; instructionSets: string[]; threads: number; cuda: boolean; cpu: string };
  cuda?: ReturnType<RuntimeAddon['cuda_info']>;
  /** The libtorch_cpu.so that was mapped. */
  library?: string;
}

/** Looks at everything. @param options.threads what `setThreads` would be called with; options.device: what is to compute, `'cuda:0'`: a problem where it is not there */
export async function diagnose({ threads, device = 'cpu' }: { threads?: number | undefined; device?: string | undefined } = {}): Promise<Diagnosis> {
  const candidates = libTorchCandidates();
  const probe = probeAddon(threads);
  const findings = [
    node(), system(probe.info !== undefined), addon(probe), libtorch(probe, candidates),
    processor(), ...(probe.info ? kernels(probe.info) : []), gpu(probe, device), ...cuda(probe), ...(binariesPackage(root) && probe.info ? [] : building(buildProblems(), probe.info !== undefined)), await dataSets(),
  ];
  return { ok: findings.every(({ state }) => state !== 'problem'), version, findings };
}

/** Loads the addon in a process of its own: a library that kills the process on loading is then one more finding. */
function probeAddon(threads: number | undefined): Probe {
  const count = threads === 0 ? availableParallelism() : threads;
  try {
    const location = locate();
    const program = `
      const build = require('node-gyp-build'), { dir, libtorch, preload } = ${JSON.stringify(location)}, probe = {};
      try {
        if (libtorch) require(preload).open(libtorch.dir + '/lib/libtorch.so');
        probe.path = build.path(dir);
        const addon = build(dir);
        ${count === undefined ? '' : `addon.set_threads(${count});`}
        probe.info = addon.info();
        probe.cuda = addon.cuda_info();
        probe.library = require('fs').readFileSync('/proc/self/maps', 'utf8').match(/\\S*libtorch_cpu\\.so\\S*/)?.[0];
      } catch (error) { probe.error = error.message; }
      require('fs').writeSync(1, JSON.stringify(probe));`;
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['-e', program], { cwd: root, encoding: 'utf8', timeout: 60_000 });
    if (!stdout.startsWith('{')) throw new Error(`loading it ended the process (${signal ?? `exit code ${status}`})${stderr ? `: ${stderr.trim().split('\n').at(-1)}` : ''}`);
    const probe = JSON.parse(stdout) as Probe;
    return probe.error === undefined ? probe : { ...probe, error: explainLoadFailure(new Error(probe.error), root, location.libtorch) };
  } catch (error) {
    return { error: error instanceof LoadError ? error.message : explainLoadFailure(error as Error, root) };
  }
}

function node(): Finding {
  const text = `${process.versions.node} (${process.execPath})`;
  return runsOn(process.versions.node) ? { subject: 'Node.js', state: 'ok', text } : { subject: 'Node.js', state: 'problem', text, fix: `Node.js ${engines.node} is needed: nvm install --lts` };
}

function system(loads: boolean): Finding {
  const glibc = glibcVersion();
  const text = `${process.platform}-${process.arch}${glibc === undefined ? '' : `, glibc ${glibc}`}`;
  const [major = 0, minor = 0] = (glibc ?? '').split('.').map(Number);
  if (loads || (process.platform === 'linux' && process.arch === 'x64' && major * 1000 + minor >= 2031)) return { subject: 'System', state: 'ok', text };
  return { subject: 'System', state: 'problem', text, fix: 'linux-x64 with glibc 2.31 or later is needed, as Debian 11, Ubuntu 20.04, RHEL 9 or a Debian-based image have it; a build from source runs from 2.28 on' };
}

function addon({ path, error }: Probe): Finding {
  if (error === undefined) return { subject: 'Addon', state: 'ok', text: path! };
  const [text, fix] = error.split('\n')[0]!.split(/\.? Type: /) as [string, string?];
  const elsewhere = process.env['A_INFONCE_PREBUILD'];
  if (elsewhere) return { subject: 'Addon', state: 'problem', text: `${text}\nlooked for in ${elsewhere}, which A_INFONCE_PREBUILD names`, fix: 'unset A_INFONCE_PREBUILD' };
  return { subject: 'Addon', state: 'problem', text, ...(fix === undefined ? {} : { fix }) };
}

function libtorch({ info, library }: Probe, candidates: LibTorch[]): Finding {
  const found = candidates.find(({ problem }) => problem === undefined);
  const wrong = candidates.filter(({ problem }) => problem !== undefined).map(({ source, dir, problem }) => `not ${source}, ${dir}: ${problem}`);
  if (info !== undefined) {
    const dir = library?.replace(/\/lib\/[^/]*$/, '');
    const how = dir === binariesPackage(root) ? BINARIES : builtSource(dir) ?? candidates.find((candidate) => candidate.dir === dir)?.source ?? 'found when the addon was built';
    return { subject: 'LibTorch', state: 'ok', text: `${info.libtorch}, ${how}${dir === undefined ? '' : `\n${dir}`}` };
  }
  if (binariesPackage(root)) return { subject: 'LibTorch', state: 'note', text: `in ${BINARIES}, whose addon does not load: see above` };
  const built = builtWith(root)?.dir;
  const why = built === undefined ? undefined : forbidden(join(built, 'lib', 'libtorch_cpu.so')) ? 'which may not be read (permission denied)' : existsSync(built) ? undefined : 'which is gone';
  const gone = why === undefined ? [] : [`the addon was built with ${built}, ${why}`];
  if (found) return { subject: 'LibTorch', state: gone.length > 0 ? 'problem' : 'ok', text: [`${found.version}, ${found.source}`, found.dir, ...gone, ...wrong].join('\n') };
  return {
    subject: 'LibTorch', state: 'problem', text: [[...gone, ...wrong].some((line) => line.includes('permission denied')) ? 'none that may be read' : 'not found', ...gone, ...wrong].join('\n'),
    fix: `${buildCommand(root)} fetches it with pip; or set A_INFONCE_LIBTORCH to the folder of LibTorch ${SUPPORTED}`,
  };
}

/** How the last build found the LibTorch at `dir`. */
function builtSource(dir: string | undefined): string | undefined {
  const record = builtWith(root);
  return record?.dir === dir ? record?.source : undefined;
}

function processor(): Finding {
  const flags = /^flags\s*:(.*)$/m.exec(read('/proc/cpuinfo'))?.[1]?.split(' ') ?? [];
  const features = ['sse4_2', 'avx', 'f16c', 'fma', 'avx2', 'avx512f', 'avx512bw', 'avx512vl', 'avx512_vnni', 'avx512_bf16', 'amx_bf16'].filter((each) => flags.includes(each));
  return { subject: 'Processor', state: 'ok', text: `${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} core${availableParallelism() === 1 ? '' : 's'}\n${features.join(' ')}` };
}

function kernels({ instructionSet, instructionSets, threads, cpu }: NonNullable<Probe['info']>): Finding[] {
  const slow = instructionSet === 'portable';
  return [
    {
      subject: 'Kernels', state: slow ? 'note' : 'ok', text: `${instructionSet} (of ${instructionSets.join(', ')}); LibTorch: ${cpu}`,
      ...(slow && instructionSets.length > 1 ? { fix: 'unset A_INFONCE_ISA for the fast ones' } : {}),
    },
    { subject: 'Threads', state: 'ok', text: String(threads) },
  ];
}

function gpu({ info, cuda }: Probe, device: string): Finding {
  const query = spawnSync('nvidia-smi', ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'], { encoding: 'utf8', timeout: 20_000 });
  const cards = query.status === 0 ? query.stdout.trim().split('\n').map((line) => line.replace(/, ([\d.]+)$/, ', driver $1'))
    : (cuda?.cards ?? []).map(({ name, memory }) => `${name}, ${Math.round(memory / 2 ** 20)} MiB`);
  const asked = device !== 'cpu', unused = asked ? 'problem' : 'note', forProcessor = info !== undefined && cuda?.version === undefined;
  if (cards.length === 0) {
    if (!asked) return { subject: 'GPU', state: 'note', text: 'none; the processor does the work' };
    return {
      subject: 'GPU', state: 'problem', text: `none, but ${device} was asked for${forProcessor ? '\nand this LibTorch is built for the processor only' : ''}`,
      fix: `leave --device out; or, where there is a card, ${forProcessor ? GPU_GUIDE : 'install its driver, until nvidia-smi shows it: docs/guides/gpu.md'}`,
    };
  }
  if (forProcessor) return { subject: 'GPU', state: unused, text: `${cards.join('\n')}\nnot used: this LibTorch is built for the processor only`, fix: GPU_GUIDE };
  if (cuda?.devices === 0)
    return { subject: 'GPU', state: 'problem', text: `${cards.join('\n')}\nnot found by LibTorch`, fix: `unset CUDA_VISIBLE_DEVICES if it hides it, or install a driver for CUDA ${cuda.version}: docs/guides/gpu.md` };
  const last = (cuda?.devices ?? Infinity) - 1;
  if (asked && Number(device.split(':')[1] ?? 0) > last)
    return { subject: 'GPU', state: 'problem', text: `${cards.join('\n')}\n${device} was asked for, the last is cuda:${last}`, fix: `--device cuda:${last}` };
  return { subject: 'GPU', state: 'ok', text: cards.join('\n') };
}
const GPU_GUIDE = 'take a LibTorch with CUDA and build from source with its nvcc: docs/guides/gpu.md';

/** Of a LibTorch with CUDA: whether there are kernels for it, and for these cards. */
function cuda({ cuda: found }: Probe): Finding[] {
  if (found?.version === undefined) return [];
  const subject = 'CUDA', libtorch = `${found.version} (LibTorch)`, needed = found.devices! > 0;
  if (found.architectures === undefined) return [{ subject, state: needed ? 'problem' : 'note', text: `${libtorch}; ${found.problem}`, ...(needed && { fix: GPU_GUIDE }) }];
  const text = `${libtorch}; kernels for ${found.architectures}`;
  // Machine code runs on later chips of the same generation, PTX (an architecture without -real) on later generations too.
  const runs = (architecture: string) => found.architectures!.split(' ').some((each) => {
    const [, digits, exact, real] = /^(\d+)(a?)(-real)?/.exec(each)!, [own, wanted] = [Number(digits), Number(architecture.replace('.', ''))];
    return exact ? own === wanted : own <= wanted && (!real || Math.floor(own / 10) === Math.floor(wanted / 10));
  });
  const without = (found.cards ?? []).filter((card) => !runs(card.architecture)).map(({ device, architecture }) => `${device} is of architecture ${architecture}`);
  if (without.length === 0) return [{ subject, state: 'ok', text }];
  return [{ subject, state: 'problem', text: `${text}; ${without.join('; ')}`, fix: `CUDAARCHS=${found.cards![0]!.architecture.replace('.', '')} ${buildCommand(root)}` }];
}

/** Tools are needed only where the addon has yet to be built. */
function building(problems: string[], built: boolean): Finding[] {
  if (problems.length > 0)
    return problems.map((problem) => {
      const [text, ...fix] = problem.split(/ {2}/);
      return { subject: 'Build tools', state: built ? 'note' : 'problem', text: text!, ...(built || fix.length === 0 ? {} : { fix: fix.map((line) => line.trim()).join('\n') }) };
    });
  const first = (command: string) => spawnSync(command, ['--version'], { encoding: 'utf8' }).stdout?.split('\n')[0];
  return [{ subject: 'Build tools', state: 'ok', text: [first(process.env['CXX'] || 'c++'), first('cmake'), first('ninja') ? `ninja ${first('ninja')}` : first('make')].join('; ') }];
}

async function dataSets(): Promise<Finding> {
  // Only here: what reads image files may itself be what does not load.
  const { DATASETS, findDataset } = await import('../data/open.js');
  const found = (await Promise.all(DATASETS.map(async (name) => [name, await findDataset(name)] as const))).filter(([, folder]) => folder !== undefined);
  return {
    subject: 'Data sets', state: found.length > 0 ? 'ok' : 'note', text: ['procedural (made on the spot)', ...found.map(([name, folder]) => `${name}: ${folder}`)].join('\n'),
    ...(found.length > 0 ? {} : { fix: 'for the images of the paper: a-infonce data cifar10' }),
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
