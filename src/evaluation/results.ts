/** results.jsonl of a run's folder: one line a measured number, added by whoever measured it. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { check, FileError } from '../runtime/errors.js';
import { fileSha256, requireWritable } from '../runtime/files.js';
import { checkJson, readJsonLines } from '../runtime/json.js';

const FILE = 'results.jsonl';

const schema = z.object({
  time: z.iso.datetime(),
  model: z.string().min(1),
  sha256: z.string().optional(),
  mode: z.enum(['slf', 'alf', 'aff']).optional(),
  data: z.string(),
  dataSha256: z.string().optional(),
  name: z.string().min(1),
  accuracy: z.number().min(0).max(1),
  correct: z.int().min(0),
  total: z.int().min(1),
  settings: z.record(z.string(), z.unknown()),
  warnings: z.array(z.string()).optional(),
}).refine(({ accuracy, correct, total }) => correct <= total && Math.abs(accuracy - correct / total) < 1e-9, { path: ['accuracy'], message: 'expected correct / total' });

/** One measured number and everything needed to obtain it again. */
export interface Result {
  /** When it was measured, ISO 8601 in UTC. */
  time: string;
  /** The classifier's file name in the folder, as `classifier.safetensors`. */
  model: string;
  /** SHA-256 of that file when it was measured: another classifier under the same name is told by it. */
  sha256?: string | undefined;
  /** How the classifier was fine-tuned. */
  mode?: 'slf' | 'alf' | 'aff' | undefined;
  /** The data set that it was measured on. */
  data: string;
  /** SHA-256 of the pixels and labels of its test split. */
  dataSha256?: string | undefined;
  /** What was measured: `clean`, `pgd20`, `autoattack`, `gaussian-noise-3`, ... */
  name: string;
  /** correct / total. */
  accuracy: number;
  correct: number;
  /** Images. */
  total: number;
  /** The attack's or corruption's every value: plain JSON. */
  settings: Record<string, unknown>;
  /** Why the number may be wrong, a sentence each, as its measurer found: see {@link Score}. */
  warnings?: string[] | undefined;
}

/**
 * Adds a number to `<folder>/results.jsonl`, in one write at the end of the file: any number of processes may do so at once. `time` is now and
 * `sha256` that of the file `<folder>/<model>` unless given.
 * @throws {@link FileError} when a value cannot be, naming it, or the file cannot be written; it is then what it was, but for a line that
 * {@link readResults} passes over when no space is left in the middle of it.
 */
export async function recordResult(folder: string, line: Omit<Result, 'time'> & { time?: string }): Promise<void> {
  const path = join(check.string('folder', folder), FILE);
  const result = checkJson(schema, { time: new Date().toISOString(), ...line, sha256: line.sha256 ?? await fileSha256(join(folder, line.model)) }, path, 'the result');
  try {
    const file = await open(path, 'a+');
    try {
      // A process that was killed in the middle of its line may have left it without an end.
      const { size } = await file.stat();
      const torn = size > 0 && (await file.read(Buffer.alloc(1), 0, 1, size - 1)).buffer[0] !== 0x0a;
      const bytes = Buffer.from(`${torn ? '\n' : ''}${JSON.stringify(result)}\n`);
      const { bytesWritten } = await file.write(bytes);
      if (bytesWritten !== bytes.length) throw new Error(`${bytesWritten} of ${bytes.length} bytes were written`);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new FileError(path, `cannot be written (${(error as Error).message})`, { cause: error });
  }
}

/** That {@link recordResult} could write, before anything is measured. @throws {@link FileError} @internal */
export async function checkResults(folder: string): Promise<void> {
  const path = join(folder, FILE);
  const file = await open(path, 'r+').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new FileError(path, `cannot be written (${error.message})`, { cause: error });
  });
  await (file ? file.close() : requireWritable(folder));
}

/**
 * The numbers recorded in a run's folder, in the order of the file; none when there is no file. A line that is not JSON (its writer was killed
 * in the middle of it) is passed over with a warning.
 * @param options.onWarning hears of such a line; default `process.emitWarning`.
 * @throws {@link FileError} when the file cannot be read, or a line is JSON but no result, naming line and value.
 */
export async function readResults(folder: string, options?: { onWarning?: (message: string) => void }): Promise<Result[]> {
  const { onWarning = (message: string) => process.emitWarning(message) } = check.options('options', options, ['onWarning']);
  return readJsonLines(join(check.string('folder', folder), FILE), schema, onWarning);
}
