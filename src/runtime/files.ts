/** Folders and files on disk. */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FileError } from './errors.js';

/**
 * Makes a folder and those it lies in, one by one: Node's own recursive mkdir never returns where the file system refuses a new entry with ENOENT (/proc).
 * @throws {@link FileError} when it cannot be made, or a file is in the way.
 */
export async function makeFolder(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) return;
  if (found) throw new FileError(path, 'a file is there, where a folder should be');
  if (dirname(path) !== path) await makeFolder(dirname(path));
  try {
    await mkdir(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return; // somebody else was faster
    throw new FileError(path, `the folder cannot be made (${(error as Error).message})`, { cause: error });
  }
}

/**
 * Writes a file beside `path` (as `.<name>.<process>.<random>`), flushes it to disk and renames it; the folder is flushed last, so that the file is
 * there after a power cut.
 * @throws {@link FileError} when it cannot be written; `path` is then what it was.
 */
export async function atomically(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${process.pid}.${randomBytes(4).toString('hex')}`);
  try {
    const file = await open(temporary, 'wx');
    try {
      await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    const entry = await open(folder, 'r');
    await entry.sync().finally(() => entry.close());
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {}); // its folder may be what is wrong
    throw new FileError(path, `cannot be written (${(error as Error).message})`, { cause: error });
  }
}

/** Makes sure that a folder takes new files, by making one. @throws {@link FileError} when it does not. */
export async function requireWritable(folder: string): Promise<void> {
  const probe = join(folder, `.writable.${process.pid}.${randomBytes(4).toString('hex')}`);
  try {
    await (await open(probe, 'wx')).close();
    await rm(probe);
  } catch (error) {
    throw new FileError(folder, `cannot be written (${(error as Error).message})`, { cause: error });
  }
}

/** SHA-256 of a file's bytes, in hexadecimal; undefined where there is no file. @throws {@link FileError} when it cannot be read */
export async function fileSha256(path: string): Promise<string | undefined> {
  const hash = createHash('sha256');
  try {
    for await (const part of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(part as Buffer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new FileError(path, `cannot be read (${(error as Error).message})`, { cause: error });
  }
  return hash.digest('hex');
}
