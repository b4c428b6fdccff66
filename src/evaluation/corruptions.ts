/** Accuracy of a classifier on common corruptions. */
import { CORRUPTIONS, SEVERITIES, checkCorruptible, corruptBytes, type CorruptionName, type Severity } from '../data/corrupt.js';
import { EXTRA_CORRUPTIONS, openCorruptions, publishedFile, type CorruptedSet, type PublishedCorruption } from '../data/corruptions.js';
import { Split, toFloat } from '../data/dataset.js';
import type { AttackModel } from '../model/predict.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe, FileError } from '../runtime/errors.js';
import { fileSha256 } from '../runtime/files.js';
import type { JobOptions } from '../runtime/job.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import { evaluate, type EvaluationData } from './evaluate.js';

/** How many images of one type and severity are right, and what that was measured with. */
export interface CorruptionScore {
  type: PublishedCorruption;
  severity: Severity;
  /** correct / total. */
  accuracy: number;
  correct: number;
  total: number;
  settings: CorruptionSettings;
}

export type CorruptionSettings =
  | { corruption: PublishedCorruption; severity: Severity; limit: number; source: 'generated'; seed: number }
  | { corruption: PublishedCorruption; severity: Severity; limit: number; source: 'published'; folder: string; /** Of the type's file, in hexadecimal. */ sha256: string | undefined };

/** What {@link evaluateCorruptions} measured. */
export interface CorruptionReport {
  /** Without a corruption, over the same images. */
  clean: { accuracy: number; correct: number; total: number };
  /** By type, then severity, in the order asked for. */
  scores: CorruptionScore[];
  /** Mean accuracy over the severities, by type. */
  types: Partial<Record<PublishedCorruption, number>>;
  /** Mean corruption accuracy (mCA): over the types. */
  mean: number;
  /** mean / clean accuracy; 0 when nothing is right. */
  relative: number;
  /** Of generated corruptions with frost among others: the mean over those others. {@link corrupt} makes frost of a substitute for the published photographs. */
  meanWithoutFrost?: number;
}

export interface CorruptionProgress {
  /** `'clean'`, or `<type>-<severity>`. */
  name: string;
  /** Images so far, of all that are to be measured now. */
  done: number;
  total: number;
}

export interface EvaluateCorruptionsOptions extends JobOptions {
  /** Default: the fifteen. */
  types?: readonly PublishedCorruption[];
  /** Default: all five. */
  severities?: readonly Severity[];
  /** `'generated'` (default): made from the images of `data` by {@link corrupt}; or a folder of CIFAR-10-C or CIFAR-100-C, made from the same test set. */
  source?: 'generated' | (string & {});
  /** What is random in generated corruptions follows from it. Default 0. */
  seed?: number;
  /** The first images only. Default: all. */
  limit?: number;
  /** Images a forward pass. Default 256. */
  batchSize?: number;
  /** Scores from an earlier, interrupted call: those with the same settings are taken over instead of measured. */
  done?: readonly CorruptionScore[];
  /** Gets each score once it is measured, and is waited for: the place to keep it. */
  onScore?: (score: CorruptionScore) => void | Promise<void>;
  onProgress?: (progress: CorruptionProgress) => void;
}

const KNOWN = [
  'types', 'severities', 'source', 'seed', 'limit', 'batchSize', 'done', 'onScore', 'onProgress', 'signal',
] as const satisfies readonly (keyof EvaluateCorruptionsOptions)[];

/** The name of a score in results.jsonl: `gaussian-noise-3`. */
export const corruptionName = ({ type, severity }: Pick<CorruptionScore, 'type' | 'severity'>): string => `${type}-${severity}`;

/**
 * Accuracy of a classifier under common corruptions, each type at each severity, beside its clean accuracy. Generated images are made batch by batch,
 * published ones read one block at a time.
 * @param model as in {@link evaluate}
 * @param data the clean test images
 * @throws what {@link evaluate} throws; {@link FileError} for a folder without a type that is asked for, or one whose labels are not those of `data`
 * @example
 * ```ts
 * using classifier = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * const data = proceduralDataset({ train: 10, test: 20 });
 * const { mean, types } = await evaluateCorruptions(classifier, data.test, { types: ['fog', 'contrast'], severities: [1, 5] });
 * console.log(mean, types.fog);
 * ```
 */
export async function evaluateCorruptions(model: AttackModel, data: Split, options?: EvaluateCorruptionsOptions): Promise<CorruptionReport> {
  const { types = CORRUPTIONS, severities = SEVERITIES, source = 'generated', seed = 0, batchSize, done = [], onScore, onProgress, signal, ...given } =
    check.options('options', options, KNOWN);
  if (!(data instanceof Split)) throw new ArgumentTypeError('data', 'a Split', describe(data));
  check.integer('data.length', data.length, { min: 1 });
  check.string('options.source', source);
  checkList('options.types', types, (at, type) => check.oneOf(at, type, source === 'generated' ? CORRUPTIONS : [...CORRUPTIONS, ...EXTRA_CORRUPTIONS]));
  checkList('options.severities', severities, (at, severity) => check.integer(at, severity, { min: 1, max: SEVERITIES.length }));
  check.integer('options.seed', seed, { min: 0 });
  if (!Array.isArray(done)) throw new ArgumentTypeError('options.done', 'an array of scores', describe(done));
  done.forEach((score, i) => checkScore(`options.done[${i}]`, score));
  check.function('options.onScore', onScore);
  check.function('options.onProgress', onProgress);
  const limit = Math.min(data.length, given.limit === undefined ? Infinity : check.integer('options.limit', given.limit, { min: 1 }));
  if (source === 'generated') checkCorruptible('data', data.pixels);
  const published = source === 'generated' ? undefined : await openPublished(source, data, types);

  const files = new Map<string, string | undefined>();
  for (const type of published ? types : []) files.set(type, await fileSha256(publishedFile(published!.folder, type)));
  const cells = types.flatMap((type) => severities.map((severity) => {
    const settings: CorruptionSettings = published
      ? { corruption: type, severity, limit, source: 'published', folder: published.folder, sha256: files.get(type) }
      : { corruption: type, severity, limit, source: 'generated', seed };
    return { type, severity, settings, known: done.find((score) => sameSettings(score.settings, settings) && score.total === limit) };
  }));
  const total = limit * (1 + cells.filter(({ known }) => !known).length);
  let measured = 0;
  const measure = async (name: string, images: EvaluationData) => {
    const { clean } = await evaluate(model, images, {
      attacks: ['clean'], batchSize, limit, signal, onProgress: (event) => onProgress?.({ name, done: measured + event.done, total }),
    });
    measured += limit;
    return { accuracy: clean.accuracy, correct: clean.correct, total: clean.total };
  };

  const clean = await measure('clean', data);
  const scores: CorruptionScore[] = [];
  for (const { type, severity, settings, known } of cells) {
    if (known) {
      scores.push(known);
      continue;
    }
    using split = published && await published.open(type, severity);
    const score = { type, severity, ...await measure(corruptionName({ type, severity }), split ?? generated(data, type as CorruptionName, severity, seed, signal)), settings };
    await onScore?.(score);
    scores.push(score);
  }
  const means = types.map((type) => [type, average(scores.filter((score) => score.type === type).map(({ accuracy }) => accuracy))] as const);
  const mean = average(means.map(([, accuracy]) => accuracy));
  const others = means.filter(([type]) => type !== 'frost').map(([, accuracy]) => accuracy);
  return {
    clean, scores, types: Object.fromEntries(means), mean, relative: clean.correct > 0 ? mean / clean.accuracy : 0,
    ...(!published && others.length > 0 && others.length < means.length && { meanWithoutFrost: average(others) }),
  };
}

/** The images of `data`, corrupted as they are asked for. */
function generated(data: Split, type: CorruptionName, severity: Severity, seed: number, signal: AbortSignal | undefined): EvaluationData {
  return {
    length: data.length,
    labels: (start, end) => data.labels(start, end),
    images: (start, end) => scope(async () => {
      const pixels = ops.aten.slice(data.pixels, 0, start, end);
      const corrupted = await corruptBytes('data', pixels.to({ device: 'cpu' }), { type, severity, seed, first: start }, signal);
      return toFloat(corrupted.to({ device: pixels.device }));
    }),
  };
}

async function openPublished(source: string, data: Split, types: readonly PublishedCorruption[]): Promise<CorruptedSet> {
  const set = await openCorruptions(source);
  const missing = types.filter((type) => !set.types.includes(type));
  if (missing.length > 0) throw new FileError(set.folder, `expected files for ${missing.join(', ')}, got ${set.types.join(', ')}`);
  using own = data.labels();
  const labels = own.toTypedArray();
  if (set.length !== data.length || set.size !== data.size || set.labels.some((label, row) => BigInt(label) !== labels[row]))
    throw new FileError(set.folder, `expected corruptions of these ${data.length} images of ${data.size} x ${data.size}, got ${set.length} of ${set.size} x ${set.size} with other labels or sizes`);
  return set;
}

function checkList(argument: string, values: unknown, each: (at: string, value: unknown) => void): void {
  if (!Array.isArray(values)) throw new ArgumentTypeError(argument, 'an array', describe(values));
  if (values.length === 0 || new Set(values).size < values.length) throw new ArgumentRangeError(argument, 'at least one, each once', describe(values));
  values.forEach((value, i) => each(`${argument}[${i}]`, value));
}

function checkScore(argument: string, score: unknown): void {
  const { type, severity, accuracy, correct, total, settings } = record(argument, score);
  check.oneOf(`${argument}.type`, type, [...CORRUPTIONS, ...EXTRA_CORRUPTIONS]);
  check.integer(`${argument}.severity`, severity, { min: 1, max: SEVERITIES.length });
  check.finite(`${argument}.accuracy`, accuracy, { min: 0, max: 1 });
  check.integer(`${argument}.total`, total, { min: 1 });
  check.integer(`${argument}.correct`, correct, { min: 0, max: total as number });
  record(`${argument}.settings`, settings);
}

function record(argument: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ArgumentTypeError(argument, 'an object', describe(value));
  return value as Record<string, unknown>;
}

function sameSettings(one: object, other: object): boolean {
  const text = (settings: object) => JSON.stringify(Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1)));
  return text(one) === text(other);
}

const average = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
