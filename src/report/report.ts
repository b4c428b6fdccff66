/** A page about runs, side by side. */
import { resolve } from 'node:path';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { atomically } from '../runtime/files.js';
import { htmlPage } from './page.js';
import { nameRuns, readRun, type RunFiles } from './read.js';

export interface ReportOptions {
  /** The file to write. Default `report.html`. */
  out?: string | undefined;
  /** Default: the names of the runs. */
  title?: string | undefined;
  /** Hears of lines that were not whole. Default `process.emitWarning`. */
  onWarning?: ((message: string) => void) | undefined;
}

/**
 * Writes one HTML page about runs: configuration, training curves, accuracy with the protocol of every number, accuracy against epsilon and steps, images
 * with their adversaries, similarities, maps, corruptions, environment. The page needs nothing beside it and runs no scripts; it follows light and
 * dark, prints, and says what to type for what is missing. Everything from files is escaped.
 * @param runs folders that {@link pretrain} has made, finished or not; what `evaluate`, `analyze` and the others left in them is shown.
 * @returns the absolute path of the page.
 * @throws {@link ArgumentTypeError}, {@link ArgumentRangeError} naming the argument; {@link FileError} when a folder holds no run, a file in it is
 * damaged, or the page cannot be written.
 * @example
 * ```ts
 * const small = { data: { procedural: { train: 16, test: 8, size: 8 } }, encoder: { width: 2 }, attack: { steps: 1 } };
 * for await (const event of pretrain({ preset: 'quickstart', out: 'runs/reported', epochs: 1, batchSize: 8, overrides: small }));
 * console.log(await report(['runs/reported'], { out: 'runs/report.html' }));
 * ```
 */
export async function report(runs: readonly string[], options?: ReportOptions): Promise<string> {
  if (!Array.isArray(runs)) throw new ArgumentTypeError('runs', 'an array of folders', describe(runs));
  if (runs.length === 0) throw new ArgumentRangeError('runs', 'at least one folder', '[]');
  const { out = 'report.html', title, onWarning = (message: string) => process.emitWarning(message) } = check.options('options', options, ['out', 'title', 'onWarning']);
  check.string('options.out', out);
  if (title !== undefined) check.string('options.title', title);
  const read: RunFiles[] = [];
  for (const [at, run] of runs.entries()) read.push(await readRun(check.string(`runs[${at}]`, run), onWarning));
  nameRuns(read);
  const path = resolve(out);
  const { sections } = await import('./sections.js'); // the plotting library: only where a page is written
  const text = htmlPage(title ?? `Report: ${read.map(({ name }) => name).join(', ')}`, await sections(read));
  await atomically(path, (file) => file.writeFile(text));
  return path;
}
