/** Reading files from outside: sizes are checked before anything is allocated, and every failure names the file. */
import { createReadStream } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { FileError } from '../runtime/errors.js';

/** Nothing larger is read into memory. */
export const MAX_BYTES = 4 * 2 ** 30;

/** A FileError with the cause's own words, for errors of the file system and of parsers. */
export function fileError(path: string, error: unknown): Error {
  if (error instanceof FileError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return new FileError(path, 'there is no such file', { cause: error });
  // Decoders say the same thing several times over, or end where they have nothing more to say.
  return new FileError(path, `cannot be read: ${message.split('\n')[0]!.replace(/[:\s]+$/, '')}`, { cause: error });
}

/** What is at `path`, links followed. */
export async function kindOf(path: string): Promise<'file' | 'folder' | 'other' | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found && (found.isFile() ? 'file' : found.isDirectory() ? 'folder' : 'other');
}

/** Fills `data` from `position` on. */
export async function readFully(file: FileHandle, path: string, data: Buffer, position: number): Promise<void> {
  for (let at = 0; at < data.length;) {
    const { bytesRead } = await file.read(data, at, Math.min(data.length - at, 2 ** 30), position + at);  // one call takes less than 2 GiB
    if (bytesRead === 0) throw new FileError(path, `expected ${position + data.length} bytes, got ${position + at}`);
    at += bytesRead;
  }
}

/** Reads a file of exactly `records` records of `bytes` bytes, some at a time; `take` gets them with the number of the first, and must not keep them. */
export async function readRecords(path: string, records: number, bytes: number, take: (data: Buffer, first: number) => void): Promise<void> {
  const expected = records * bytes;
  const chunk = Buffer.alloc(Math.min(records, 1000) * bytes);
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size !== expected) throw new FileError(path, `expected ${expected} bytes, got ${size}`);
      for (let first = 0; first < records; first += chunk.length / bytes) {
        const data = chunk.subarray(0, Math.min(chunk.length, expected - first * bytes));
        await readFully(file, path, data, first * bytes);
        take(data, first);
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fileError(path, error);
  }
}

/**
 * Reads a file (through gzip when its name ends in .gz) that begins with a header which says how long it is.
 * @param measure takes the header and returns the length of the body in bytes, or throws
 */
export async function readMeasured(path: string, headerBytes: number, measure: (header: Buffer) => number): Promise<Buffer> {
  const source = createReadStream(path);
  const stream = path.endsWith('.gz') ? source.pipe(createGunzip()) : source;
  source.on('error', (error) => stream.destroy(error));
  const header = Buffer.alloc(headerBytes);
  let body: Buffer | undefined;
  let at = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      let rest = chunk;
      if (body === undefined) {
        const taken = rest.copy(header, at);
        at += taken;
        rest = rest.subarray(taken);
        if (at < headerBytes) continue;
        const length = measure(header);
        if (length > MAX_BYTES) throw new FileError(path, `expected at most ${MAX_BYTES} bytes, the header says ${length}`);
        body = Buffer.alloc(length);
      }
      if (at + rest.length > headerBytes + body.length)
        throw new FileError(path, `expected ${headerBytes + body.length} bytes as the header says, got more`);
      at += rest.copy(body, at - headerBytes);
    }
  } catch (error) {
    throw fileError(path, error);
  } finally {
    source.destroy();
    stream.destroy();
  }
  if (body === undefined) throw new FileError(path, `expected a header of ${headerBytes} bytes, got ${at}`);
  if (at < headerBytes + body.length) throw new FileError(path, `expected ${headerBytes + body.length} bytes as the header says, got ${at}`);
  return body;
}

/** Throws unless every label is a class. */
export function checkLabels(path: string, labels: Uint8Array, classes: number): void {
  const bad = labels.findIndex((label) => label >= classes);
  if (bad >= 0) throw new FileError(path, `expected labels from 0 to ${classes - 1}, got ${labels[bad]} for image ${bad}`);
}
