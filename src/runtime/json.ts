/** JSON from files, checked: what is there is what the schema says, or a typed error names the place. */
import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import { FileError } from './errors.js';

/** `value` as the schema has it. @throws {@link FileError} naming `where` in the file, and the key at fault */
export function checkJson<T>(schema: z.ZodType<T>, value: unknown, path: string, where = ''): T {
  checkDepth(value, path, where);
  const { data, error } = schema.safeParse(value);
  if (!error) return data;
  const { path: key, message } = error.issues[0]!;
  throw new FileError(path, `${[where, key.join('.')].filter(Boolean).join(', ')}${where || key.length > 0 ? ': ' : ''}${message}`, { cause: error });
}

/** The file's value, or undefined where there is no file. @throws {@link FileError} when it cannot be read, is no JSON or not of the schema */
export async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const text = await textOf(path);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FileError(path, `not valid JSON (${(error as Error).message})`, { cause: error });
  }
  return checkJson(schema, value, path);
}

/**
 * The values of a file with one a line; none where there is no file. A line that is not JSON, whose writer was killed in the middle of it, is passed over
 * with a warning. @throws {@link FileError} when the file cannot be read, or a line is not of the schema, naming it
 */
export async function readJsonLines<T>(path: string, schema: z.ZodType<T>, onWarning: (message: string) => void): Promise<T[]> {
  return ((await textOf(path)) ?? '').split('\n').flatMap((line, at) => {
    if (line.trim() === '') return [];
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      onWarning(`${path}: line ${at + 1} is not whole; passed over`);
      return [];
    }
    return [checkJson(schema, value, path, `line ${at + 1}`)];
  });
}

/** Deeper than any file of ours, and shallow enough for whatever walks it. */
const DEPTH = 64;

function checkDepth(value: unknown, path: string, where: string): void {
  let level = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > DEPTH) throw new FileError(path, `${where && `${where}: `}nested more than ${DEPTH} deep`);
    level = level.flatMap((each) => (typeof each === 'object' && each !== null ? Object.values(each) : []));
  }
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new FileError(path, `cannot be read (${(error as Error).message})`, { cause: error });
  }
}
