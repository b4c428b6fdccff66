/** Paths that commands print, and the folders they choose. */
import { constants, existsSync, statSync } from 'node:fs';
import { access, open, readdir, readFile, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { looksLike } from '../model/archive.js';
import { CommandError, UsageError } from './failure.js';
import { counted, type Output } from './output.js';

/** `wanted`, or the first of `wanted-2`, `wanted-3`, ... that is not there yet. */
export function freshFolder(wanted: string): string {
  for (let suffix = 1; ; suffix++) {
    const path = suffix === 1 ? wanted : `${wanted}-${suffix}`;
    if (!existsSync(path)) return path;
  }
}

/** `file` in the folder `path`, or beside the file `path`. */
export function beside(path: string, file: string): string {
  return join(statSync(path, { throwIfNoEntry: false })?.isDirectory() ? path : dirname(path), file);
}

/** The files that commands write where --out says, and how those are known that are there already. */
const WRITTEN = {
  adversaries: { what: 'what attack writes', is: async (path: string) => (await metadataOf(path))?.['attack'] !== undefined },
  labels: { what: 'what cluster writes', is: async (path: string) => (await metadataOf(path))?.['a_infonce.pseudo_labels'] !== undefined },
  classifier: { what: 'what finetune writes', is: async (path: string) => /"kind":"classifier"/.test((await metadataOf(path))?.['a_infonce.model'] ?? '') },
  page: { what: 'what report writes', is: async (path: string) => /^<!doctype html>/i.test(await readFile(path, 'latin1')) },
};

/** What a run and those who measure it keep in its folder. */
const KEPT = /^(config|environment|quickstart|analysis)\.json$|^(metrics|results)\.jsonl$|^events\.out\.tfevents\.|^(checkpoint|failed)-\d+\.safetensors|^(encoder|analysis)\.safetensors$|^run\.lock$/;

/**
 * Throws what is wrong with the place of a file that is to be written, before anything takes time; `inputs` are not to be overwritten, nor what a run keeps,
 * nor a file of another kind. `name` is one for it.
 */
export async function checkPlace(path: string, kind: keyof typeof WRITTEN, inputs: (string | undefined)[], name: string): Promise<void> {
  const folder = await stat(dirname(path)).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' ? new CommandError(`${path}: there is no folder ${dirname(path)}. Type: mkdir -p ${typed(dirname(path))}`) : error;
  });
  if (!folder.isDirectory()) throw new CommandError(`${path}: ${dirname(path)} is not a folder`);
  await access(dirname(path), constants.W_OK);
  const there = await stat(path).catch(() => undefined);
  if (there?.isDirectory()) throw new CommandError(`${path}: it is a folder. Name a file in it: --out ${typed(join(path, name))}`);
  for (const input of inputs) {
    const read = input === undefined ? undefined : await stat(input).catch(() => undefined);
    if (input !== undefined && ((there && read?.dev === there.dev && read.ino === there.ino) || resolve(input) === resolve(path))) throw new UsageError(`${path} is what is read: it would be overwritten. Choose another --out`);
  }
  const own = KEPT.test(basename(path)) || (kind !== 'classifier' && /^classifier(-alf|-aff)?\.safetensors$/.test(basename(path)));
  if (own && existsSync(join(dirname(path), 'config.json'))) throw new UsageError(`${path} is of the run in that folder: it would be overwritten. Choose another --out`);
  const ending = extname(path);
  if (kind !== 'page' && ending !== '' && ending !== '.safetensors') throw new UsageError(`${path}: what is written there is safetensors, and a name that ends in ${ending} says something else. Type: --out ${typed(`${path.slice(0, -ending.length)}.safetensors`)}`);
  if (!there) return;
  const { what, is } = WRITTEN[kind];
  if (!there.isFile() || (there.size > 0 && !(await is(path)))) throw new UsageError(`${path} is there already, and not ${what}: it would be overwritten. Choose another --out, or remove it`);
}

async function metadataOf(path: string): Promise<Record<string, string> | undefined> {
  const { readMetadata } = await import('../model/safetensors.js');
  return await readMetadata(path);
}

/** Throws what to type when there is nothing at `path`, no run that is over, or a folder of several; `expected` is what should be there. */
export async function checkSource(path: string, expected: string): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  if (!there) throw new CommandError(`${path}: there is no such file or folder. Expected ${expected}; a-infonce pretrain makes runs`);
  if (!there.isDirectory()) return await checkKind(path, expected);
  const why = reproduced(path, await configOf(path)) ?? await unfinished(path);
  if (why !== undefined) throw new CommandError(why);
  const names = await readdir(path);
  if (names.some((name) => /^config\.json$|\.safetensors$/.test(name))) return;
  const runs = names.sort().map((name) => join(path, name)).filter((each) => existsSync(join(each, 'config.json')));
  if (runs.length > 0) throw new CommandError(`${path}: a folder of runs, not a run. Name one of them: ${runs.slice(0, 5).map(typed).join(', ')}${runs.length > 5 ? ', ...' : ''}`);
}

/** Throws what a file looks like when that is no file of tensors; `expected` is what should be there. */
export async function checkKind(path: string, expected: string): Promise<void> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, 0), looks = looksLike(buffer.subarray(0, bytesRead));
    if (looks !== undefined) throw new CommandError(`${path}: it looks like ${looks}. Expected ${expected}`);
  } finally {
    await file.close();
  }
}

/** Those of `paths`, as of `runs/*`, that are no reproductions; `warn` hears where the runs of one are. */
export async function withoutReproductions(paths: string[], warn: (message: string) => void): Promise<string[]> {
  const whys = await Promise.all(paths.map(async (path) => reproduced(path, await configOf(path))));
  const runs = paths.filter((_, at) => whys[at] === undefined);
  if (runs.length === 0) throw new UsageError(whys[0]!);
  for (const why of whys) if (why !== undefined) warn(`passed over ${why}`);
  return runs;
}

/** What to type when the run in the folder `path` is not over, or who is writing it. */
export async function unfinished(path: string): Promise<string | undefined> {
  if (!existsSync(join(path, 'config.json')) || existsSync(join(path, 'encoder.safetensors')) || existsSync(join(path, 'classifier.safetensors'))) return undefined;
  const { FileError } = await import('../runtime/errors.js'), { RunFolder } = await import('../training/run.js');
  try {
    RunFolder.requireIdle(path);
  } catch (error) {
    if (error instanceof FileError) return `the run in ${path} is not finished: ${error.message}`;
    throw error;
  }
  return `the run in ${path} is not finished. Go on with it:\n  a-infonce pretrain --out ${typed(path)} --resume`;
}

/** Computes with as many threads as the run in the folder `path` began with, unless `asked` for another number or there are fewer cores: with another its bits would be others. */
export async function takeThreads(output: Output, path: string, asked: number | undefined): Promise<void> {
  const { threads } = await readFile(join(path, 'environment.json'), 'utf8').then((text) => JSON.parse(text) as { threads?: unknown }).catch(() => ({ threads: undefined }));
  const { getThreads, setThreads } = await import('../index.js');
  if (asked !== undefined || !Number.isInteger(threads) || threads === getThreads() || !((threads as number) >= 1 && (threads as number) <= availableParallelism())) return;
  setThreads(threads as number);
  output.note(`With ${counted(threads as number, 'thread')}, as the run began; --threads says another number.`);
}

const reproduced = (path: string, config: unknown): string | undefined =>
  ((config as { reproduction?: unknown } | undefined)?.reproduction === undefined ? undefined : `${path}: a reproduction, not a run. Its runs: ${typed(path)}/*/*/*-*`);

const configOf = (path: string): Promise<unknown> => readFile(join(path, 'config.json'), 'utf8').then(JSON.parse).catch(() => undefined);

/** A path as one types it in a shell. */
export const typed = (path: string): string => (/^[\w./+=:@%,-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`);
