/** Paths that commands print, and the folders they choose. */
import { constants, existsSync, statSync } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CommandError, UsageError } from './failure.js';

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

/** Throws what is wrong with the place of a file that is to be written, before anything takes time; `inputs` are not to be overwritten. */
export async function checkPlace(path: string, inputs: (string | undefined)[] = []): Promise<void> {
  const folder = await stat(dirname(path)).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' ? new CommandError(`${path}: there is no folder ${dirname(path)}. Type: mkdir -p ${typed(dirname(path))}`) : error;
  });
  if (!folder.isDirectory()) throw new CommandError(`${path}: ${dirname(path)} is not a folder`);
  await access(dirname(path), constants.W_OK);
  const there = await stat(path).catch(() => undefined);
  if (there?.isDirectory()) throw new CommandError(`${path}: it is a folder. Name a file in it: --out ${typed(join(path, 'name.safetensors'))}`);
  for (const input of inputs) {
    const read = input === undefined ? undefined : await stat(input).catch(() => undefined);
    if (there && read?.dev === there.dev && read.ino === there.ino) throw new UsageError(`${path} is what is read: it would be overwritten. Choose another --out`);
  }
}

/** A path as one types it in a shell. */
export const typed = (path: string): string => (/^[\w./+=:@%-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`);
