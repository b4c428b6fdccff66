/** What a run's folder holds for the report: everything from files, checked; what is missing is left out. */
import { readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { readAnalysis, type RecordedAnalysis } from '../analysis/file.js';
import { readResults, type Result } from '../evaluation/results.js';
import { readSafetensors } from '../model/safetensors.js';
import { FileError } from '../runtime/errors.js';
import { fileSha256 } from '../runtime/files.js';
import { checkJson, readJson, readJsonLines } from '../runtime/json.js';

/** Of config.json, what the report reads; it shows the rest as it is, whatever the method. */
const config = z.looseObject({
  preset: z.string(), method: z.string(), epochs: z.int().min(1), batchSize: z.int().min(1),
  data: z.looseObject({ name: z.string(), images: z.int().min(1).optional() }),
});

const metric = z.looseObject({ type: z.string(), step: z.int().min(0), epoch: z.int().min(0) });
export type Metric = z.infer<typeof metric>;

export interface Examples {
  /** uint8 RGB, `size * size * 3` bytes an image. */
  clean: Uint8Array[];
  adversarial: Uint8Array[];
  /** 128 + 127 times the change over the largest allowed one. */
  difference: Uint8Array[];
  size: number;
}

export interface RunFiles {
  /** As it was given, and absolute. */
  given: string;
  path: string;
  /** A name for people: unlike those of the other runs. */
  name: string;
  config: z.infer<typeof config>;
  environment: Record<string, unknown> | undefined;
  metrics: Metric[];
  finished: boolean;
  /** Files of classifiers, that of `finetune` without a mode first. */
  classifiers: string[];
  /** Of the classifiers that are in the folder now, and those that do not say of which. */
  results: Result[];
  /** How many there are of earlier ones. */
  stale: number;
  /** Of the encoder and the classifier that are in the folder now, or that does not say of which. */
  analysis: RecordedAnalysis | undefined;
  /** There is one, but of an earlier encoder or classifier. */
  analysisStale: boolean;
  examples: Examples | undefined;
}

/** @throws {@link FileError} when the folder holds no run, or a file in it is not what it should be */
export async function readRun(given: string, onWarning: (message: string) => void): Promise<RunFiles> {
  const path = resolve(given);
  const entry = await stat(path).catch(() => undefined);
  if (!entry) throw new FileError(given, 'there is no such folder');
  if (!entry.isDirectory()) throw new FileError(given, 'a file, not the folder of a run');
  const file = join(path, 'config.json'), found = await readJson(file, z.looseObject({ reproduction: z.string().optional() }));
  if (found === undefined) throw new FileError(given, `there is no run in it (no config.json).${await runsIn(given, 1) || ' Type: a-infonce pretrain --out <folder>'}`);
  // <data>/seed-<n>/<method>-<variant>
  if (found.reproduction !== undefined) throw new FileError(given, `a reproduction, not a run.${await runsIn(given, 3) || ' There are no runs in it yet'}`);
  const settled = checkJson(config, found, file);
  const recorded = await readAnalysis(path), analysis = recorded && (await isPresent(path, recorded)) ? recorded : undefined;
  const { results, stale } = await presentResults(path, onWarning);
  return {
    given, path, name: basename(path), config: settled,
    environment: await readJson(join(path, 'environment.json'), z.record(z.string(), z.unknown())),
    metrics: await readJsonLines(join(path, 'metrics.jsonl'), metric, onWarning), finished: await stat(join(path, 'encoder.safetensors')).then(() => true, () => false),
    classifiers: (await readdir(path)).filter((name) => /^classifier(-\w+)?\.safetensors$/.test(name)).sort((a, b) => a.length - b.length || a.localeCompare(b)),
    results, stale, analysis, analysisStale: recorded !== analysis, examples: analysis && await readExamples(join(path, 'analysis.safetensors'), analysis),
  };
}

/** Which of the folders so many levels down are runs, as a sentence; empty when none is. A hint: what cannot be read is passed over. */
async function runsIn(folder: string, depth: number): Promise<string> {
  let folders = [folder];
  for (let level = 0; level < depth; level++)
    folders = (await Promise.all(folders.map(async (each) => (await readdir(each, { withFileTypes: true }).catch(() => [])).filter((entry) => entry.isDirectory()).map(({ name }) => join(each, name))))).flat();
  const runs = (await Promise.all(folders.map(async (each) => ((await stat(join(each, 'config.json')).catch(() => undefined)) ? [each] : [])))).flat().sort();
  return runs.length === 0 ? '' : ` Its runs: ${runs.slice(0, 5).join(', ')}${runs.length > 5 ? `, and ${runs.length - 5} more` : ''}`;
}

/** The numbers of the classifiers that are in the folder; of a file that is gone, those of its newest content. A number without a digest is nobody's but its file's. */
async function presentResults(path: string, onWarning: (message: string) => void): Promise<Pick<RunFiles, 'results' | 'stale'>> {
  const all = await readResults(path, { onWarning }), present = new Map<string, string | undefined>();
  for (const { model, sha256 } of all) present.set(model, sha256 ?? present.get(model));
  for (const model of present.keys()) present.set(model, (await fileSha256(join(path, basename(model)))) ?? present.get(model));
  const results = all.filter(({ model, sha256 }) => sha256 === undefined || sha256 === present.get(model));
  return { results, stale: all.length - results.length };
}

/** Whether the files that an analysis was made of are still those in the folder, as far as both can be told. */
async function isPresent(path: string, { encoder, encoderSha256, classifierFile, classifierSha256 }: RecordedAnalysis): Promise<boolean> {
  for (const [file, was] of [[encoder, encoderSha256], [classifierFile, classifierSha256]]) {
    const is = file !== undefined && was !== undefined ? await fileSha256(join(path, basename(file))) : undefined;
    if (is !== undefined && is !== was) return false;
  }
  return true;
}

/** Names of runs: the last part of the path, or as much of it as tells them apart. */
export function nameRuns(runs: RunFiles[]): void {
  for (const run of runs) if (runs.some((other) => other !== run && basename(other.path) === basename(run.path))) run.name = run.given;
}

async function readExamples(path: string, { attack, examples }: RecordedAnalysis): Promise<Examples | undefined> {
  if (!(await stat(path).catch(() => undefined))) return undefined;
  const { tensors } = await readSafetensors(path);
  try {
    const [clean, adversarial] = ['examples', 'examplesAdversarial'].map((name) => tensors.get(name));
    const [n, channels, size] = clean?.shape ?? [];
    if (n !== examples.length || clean!.shape.length !== 4 || clean!.shape[3] !== size || (channels !== 1 && channels !== 3) || clean!.dtype !== 'float32' ||
        adversarial?.dtype !== 'float32' || String(clean!.shape) !== String(adversarial.shape))
      throw new FileError(path, `expected examples and examplesAdversarial, float32 [${examples.length}, channels, size, size]; type: a-infonce analyze`);
    const [before, after] = [clean!.toTypedArray() as Float32Array, adversarial.toTypedArray() as Float32Array];
    const pixels = size! * size!, each = channels * pixels;
    // Channels last, gray three times; the largest change that an L-inf ball allows becomes black or white.
    const scale = 127 / Math.max(attack.norm === 'linf' ? attack.epsilon : before.reduce((most, value, i) => Math.max(most, Math.abs(after[i]! - value)), 0), 1e-12);
    const take = (value: (at: number) => number) => Array.from({ length: n! }, (_, row) => Uint8Array.from({ length: 3 * pixels }, (_, i) =>
      Math.max(0, Math.min(255, Math.round(value(row * each + (channels === 3 ? i % 3 : 0) * pixels + Math.floor(i / 3)))))));
    return { size: size!, clean: take((i) => 255 * before[i]!), adversarial: take((i) => 255 * after[i]!), difference: take((i) => 128 + scale * (after[i]! - before[i]!)) };
  } finally {
    for (const tensor of tensors.values()) tensor.dispose();
  }
}
