/** Fetching the public data sets: resumed, verified, unpacked and only then put in place. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { check, FileError } from '../runtime/errors.js';
import { makeFolder } from '../runtime/files.js';
import { fileError, kindOf } from './files.js';
import { dataCacheFolder } from './open.js';

/** How far a download is. */
export interface DownloadProgress {
  /** The file being fetched. */
  file: string;
  /** Bytes on disk, with those of an earlier attempt. */
  received: number;
  /** Bytes in all, where the server says so. */
  total: number | undefined;
}

/** Options of {@link downloadDataset}. */
export interface DownloadOptions {
  /** The folder to put the data set's own folder in. Default: the cache, where `openDataset` looks. */
  dir?: string;
  signal?: AbortSignal;
  onProgress?: (progress: DownloadProgress) => void;
  /** A mirror: the address under which the files are found by their official names. */
  baseUrl?: string;
}

/** A file to fetch: its name under the base address and its published MD5. */
interface Remote {
  name: string;
  md5: string;
}

interface Source {
  baseUrl: string;
  files: Remote[];
  /** The folder inside the archive that is the data set; without it, the files themselves are. */
  archived?: string;
}

const idx = (md5s: [string, string, string, string]): Remote[] =>
  ['train-images-idx3', 'train-labels-idx1', 't10k-images-idx3', 't10k-labels-idx1'].map((name, k) => ({ name: `${name}-ubyte.gz`, md5: md5s[k]! }));

const sources = {
  'cifar10': {
    baseUrl: 'https://www.cs.toronto.edu/~kriz', archived: 'cifar-10-batches-bin',
    files: [{ name: 'cifar-10-binary.tar.gz', md5: 'c32a1d4ab5d03f1284b67883e8d87530' }],
  },
  'cifar100': {
    baseUrl: 'https://www.cs.toronto.edu/~kriz', archived: 'cifar-100-binary',
    files: [{ name: 'cifar-100-binary.tar.gz', md5: '03b5dce01913d631647c71ecec9e9cb8' }],
  },
  'fashion-mnist': {
    baseUrl: 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com',
    files: idx(['8d4fb7e6c68d591d4c3dfef9ec88bf0d', '25c81989df183df01b3e8a0aad5dffbe', 'bef4ecab320f06d8554ea6380940ec79', 'bb300cfdad3c16e7a12a480ee83cd310']),
  },
  'mnist': {
    baseUrl: 'https://ossci-datasets.s3.amazonaws.com/mnist',
    files: idx(['f68b3c2dcbeaaa9fbdd348bbdeb94873', 'd53e105ee54ea40749a09fcbcd1e9432', '9fb629c4189551a2d022fa330f9573f3', 'ec29112dd5afa0611ce80d1b7f02629c']),
  },
} satisfies Record<string, Source>;

/** The data sets that {@link downloadDataset} can fetch. */
export const DOWNLOADABLE = Object.keys(sources) as (keyof typeof sources)[];

/** More than any of the files, and than any of them unpacked. */
const largest = 2 ** 30;

/**
 * Fetches a data set from its official address, so that `openDataset` finds it. A broken transfer is resumed, also by a later call; every file is
 * verified by its published MD5; archives are unpacked beside their place and moved into it whole. Files that are there already are kept.
 * @returns the folder of the data set
 * @throws FileError when the server refuses or a file is not what was published
 */
export async function downloadDataset(name: (typeof DOWNLOADABLE)[number], options: DownloadOptions = {}): Promise<string> {
  check.oneOf('name', name, DOWNLOADABLE);
  check.options('options', options, ['dir', 'signal', 'onProgress', 'baseUrl']);
  check.signal('options.signal', options.signal);
  return fetchSource(name, sources[name], options);
}

/** @internal */
export async function fetchSource(name: string, source: Source, { dir = dataCacheFolder(), signal, onProgress, baseUrl = source.baseUrl }: DownloadOptions): Promise<string> {
  const folder = join(dir, source.archived ?? name);
  if (source.archived && (await kindOf(folder)) === 'folder') return folder;
  const into = source.archived ? dir : folder;
  await makeFolder(into);
  for (const remote of source.files) {
    const path = join(into, remote.name);
    if (!((await kindOf(path)) === 'file' && (await md5Of(path)) === remote.md5)) await downloadFile(`${baseUrl.replace(/\/$/, '')}/${remote.name}`, path, remote.md5, { signal, onProgress });
    if (source.archived) {
      await unpack(path, source.archived, folder);
      await rm(path);
    }
  }
  return folder;
}

const attempts = 4;

/** Fetches `url` to `path` by way of `path`.part, which is resumed, verified and renamed. @internal */
export async function downloadFile(
  url: string, path: string, md5: string, { signal, onProgress, pause = 500 }: Pick<DownloadOptions, 'signal' | 'onProgress'> & { pause?: number } = {},
): Promise<void> {
  const part = `${path}.part`;
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    const resumed = await stat(part).then(({ size }) => size, () => 0);
    try {
      await transfer(url, part, resumed, signal, (received, total) => onProgress?.({ file: path, received, total }));
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof FileError) throw error;
      if (attempt === attempts) throw new FileError(url, `the transfer broke off ${attempts} times: ${reason(error)}`, { cause: error });
      await sleep(pause * 2 ** (attempt - 1), undefined, { signal }).catch(() => signal?.throwIfAborted());
      continue;
    }
    const found = await md5Of(part);
    if (found === md5) return rename(part, path);
    await rm(part);
    // A part left by an earlier call may have been another file: once more from the start.
    if (resumed > 0 && attempt < attempts) continue;
    throw new FileError(url, `expected the MD5 ${md5}, got ${found}`);
  }
}

/** Appends to `part` what it lacks, or writes it anew when the server sends all. */
async function transfer(url: string, part: string, have: number, signal: AbortSignal | undefined, report: (received: number, total: number | undefined) => void) {
  // Bytes of a compressed transfer could not be counted.
  const headers: Record<string, string> = { 'accept-encoding': 'identity', ...(have > 0 ? { range: `bytes=${have}-` } : {}) };
  const response = await fetch(url, { headers, signal: signal ?? null });
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  if (response.status === 416 && have > 0) return void (await response.body?.cancel());  // nothing is left to send; the checksum decides
  if (response.status >= 500) {
    await response.body?.cancel();
    throw new Error(`HTTP ${response.status} ${response.statusText}`);
  }
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    throw new FileError(url, `the server answered ${response.status} ${response.statusText}`);
  }
  const start = response.status === 206 && Number(range?.[1]) === have ? have : 0;
  if (response.status === 206 && start !== have) {
    await response.body.cancel();
    throw new FileError(url, `asked for the bytes from ${have}, the server sent '${response.headers.get('content-range')}'`);
  }
  const length = response.headers.get('content-length');
  const total = length === null ? undefined : start + Number(length);
  if (total !== undefined && total > largest) {
    await response.body.cancel();
    throw new FileError(url, `expected at most ${largest} bytes, the server announces ${total}`);
  }
  const file = await open(part, start > 0 ? 'r+' : 'w');
  try {
    let at = start;
    report(at, total);
    for await (const chunk of response.body) {
      if (at + chunk.length > largest) throw new FileError(url, `expected at most ${largest} bytes, the server sends more`);
      await file.write(chunk, 0, chunk.length, at);
      report((at += chunk.length), total);
    }
    if (total !== undefined && at < total) throw new Error(`${at} of ${total} bytes came`);
  } finally {
    await file.close();
  }
}

/** Unpacks the regular files of the folder `inside` of a .tar.gz, and renames that folder to `target`. @internal */
export async function unpack(archive: string, inside: string, target: string): Promise<void> {
  const { x: extract } = await import('tar');
  const scratch = await mkdtemp(`${target}.part-`);
  let bytes = 0;
  let refused: string | undefined;
  try {
    await extract({
      file: archive, cwd: scratch, strict: true, preserveOwner: false, noMtime: true,
      filter: (name, entry) => {
        const type = 'type' in entry ? entry.type : 'File';
        bytes += entry.size ?? 0;
        const plain = type === 'File' || type === 'OldFile' || type === 'Directory';
        const kept = plain && bytes <= largest && !name.split('/').includes('..') && (name.replace(/^\.\//, '') + '/').startsWith(`${inside}/`);
        if (!kept) refused ??= `${name} (${type}, ${entry.size} bytes)`;
        return kept;
      },
    });
    if (refused) throw new FileError(archive, `expected files in ${inside}/ alone, of at most ${largest} bytes, got ${refused}`);
    if ((await kindOf(join(scratch, inside))) !== 'folder') throw new FileError(archive, `expected a folder ${inside}/, got none`);
    await rename(join(scratch, inside), target);
  } catch (error) {
    throw fileError(archive, error);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function md5Of(path: string): Promise<string> {
  const hash = createHash('md5');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

function reason(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? `${message} (${cause.message})` : message;
}
