/** Files that appear whole or not at all. */
import { randomBytes } from 'node:crypto';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FileError } from './errors.js';

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
