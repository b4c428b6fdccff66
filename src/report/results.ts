/** Measured numbers side by side: which are of one protocol, which are points of a curve, which are corruptions. */
import type { Result } from '../evaluation/results.js';
import { classifierFile } from '../training/names.js';
import type { RunFiles } from './read.js';

/** A classifier of a run: a column of the tables. */
export interface Subject {
  run: RunFiles;
  /** Its run's colour, and the dash of its place among the classifiers of the run. */
  style: number;
  dash: number;
  model: string;
  name: string;
  /** The newest of each protocol. */
  results: Map<string, Result>;
}

const CORRUPTION = /^([a-z]+(?:-[a-z]+)*)-([1-5])$/;
/** How a number was computed, not what it is. */
const INCIDENTAL = ['batchSize', 'graph', 'limit'];

/** Settings that decide a number, but those named. */
const decisive = (settings: Result['settings'], without: readonly string[] = []): Result['settings'] =>
  Object.fromEntries(Object.entries(settings).filter(([key]) => !INCIDENTAL.includes(key) && !without.includes(key)).sort(([a], [b]) => (a < b ? -1 : 1)));

/** Of which classifier the number is, only the file's name says. */
export const unidentified = ({ sha256 }: Result): boolean => sha256 === undefined;

/** Numbers with the same key were measured in the same way. */
const protocolKey = ({ data, dataSha256, name, total, settings }: Result): string => JSON.stringify([data, dataSha256, name, total, decisive(settings)]);

/** The classifiers that numbers were recorded of, `classifier.safetensors` of each run first. */
export function subjectsOf(runs: readonly RunFiles[]): Subject[] {
  const digests = new Map<string, Set<string>>();
  for (const { data, dataSha256 } of runs.flatMap(({ results }) => results)) if (dataSha256 !== undefined) digests.set(data, (digests.get(data) ?? new Set()).add(dataSha256));
  // Numbers without the images' digest stand beside those of the only images of that name; one that says of which classifier it is counts before one that does not.
  const dated = (result: Result): Result => (result.dataSha256 === undefined && digests.get(result.data)?.size === 1 ? { ...result, dataSha256: [...digests.get(result.data)!][0] } : result);
  return runs.flatMap((run, style) => [...new Set(run.results.map(({ model }) => model))].sort((a, b) => Number(b === 'classifier.safetensors') - Number(a === 'classifier.safetensors')).map((model, dash) => {
    const own = run.results.filter((result) => result.model === model).map(dated).sort((a, b) => Number(unidentified(b)) - Number(unidentified(a))), mode = own.find((result) => result.mode)?.mode;
    const usual = model === (mode ? classifierFile(mode) : 'classifier.safetensors');
    const about = [...(usual ? [] : [model.replace(/\.safetensors$/, '')]), ...(mode ? [mode.toUpperCase()] : [])].join(', ');
    return { run, style, dash, model, name: `${run.name}${about && ` (${about})`}`, results: new Map(own.map((result) => [protocolKey(result), result])) };
  }));
}

export interface Curve {
  of: 'epsilon' | 'steps';
  /** What all its points share. */
  data: string;
  total: number;
  settings: Result['settings'];
  /** Of a curve over epsilon: stepSize / epsilon. */
  ratio?: number;
  lines: { subject: Subject; points: Map<number, Result> }[];
}

/**
 * Three or more PGD numbers of one classifier that differ in epsilon alone, the step being the same share of it, or in steps alone. Without a radius nothing
 * moves, whatever the step: such a number begins each curve over epsilon that agrees with it in the rest.
 */
export function curvesOf(subjects: readonly Subject[]): Curve[] {
  const found = new Map<string, Curve>();
  for (const of of ['epsilon', 'steps'] as const)
    for (const subject of subjects) {
      const points = [...subject.results.values()].flatMap((result) => {
        const { data, dataSha256, total, settings } = result, { epsilon, stepSize, steps } = settings;
        if (settings['attack'] !== 'pgd' || typeof epsilon !== 'number' || typeof stepSize !== 'number' || typeof steps !== 'number') return [];
        const shared = decisive(settings, of === 'epsilon' ? ['epsilon', 'stepSize'] : ['steps']), rest = JSON.stringify([of, data, dataSha256, total, shared]);
        const ratio = of === 'epsilon' ? { ratio: Number((stepSize / epsilon).toPrecision(6)) } : {};
        const key = of === 'epsilon' && epsilon === 0 ? undefined : JSON.stringify([rest, ratio]);
        return [{ at: of === 'epsilon' ? epsilon : steps, result, rest, key, curve: { of, data, total, settings: shared, ...ratio, lines: [] } as Curve }];
      });
      for (const key of new Set(points.map((point) => point.key))) {
        const own = points.filter((point) => point.key === key), { rest, curve } = own[0]!;
        const line = new Map([...points.filter((point) => point.key === undefined && point.rest === rest), ...own].sort((a, b) => a.at - b.at).map(({ at, result }) => [at, result]));
        if (key === undefined || line.size < 3) continue;
        (found.get(key) ?? found.set(key, curve).get(key)!).lines.push({ subject, points: line });
      }
    }
  return [...found.values()];
}

/** What cannot be of one classifier: more right under an attack than without, over the same images. */
export function contradictions(subjects: readonly Subject[]): string[] {
  return subjects.flatMap(({ name, results }) => {
    const all = [...results.values()];
    return all.filter(({ settings }) => settings['attack'] !== undefined && settings['attack'] !== 'clean').flatMap((robust) => {
      const clean = all.find((each) => each.name === 'clean' && each.data === robust.data && each.dataSha256 === robust.dataSha256 && each.total === robust.total);
      return clean && clean.correct < robust.correct
        ? [`${name}: ${robust.name} has ${robust.correct} of ${robust.total} images right, clean ${clean.correct}: at least one of the two numbers is wrong. Measure both again.`] : [];
    });
  });
}

/** Why numbers may be wrong, as was found when they were measured: each reason once a classifier. */
export function doubtful(subjects: readonly Subject[]): string[] {
  return subjects.flatMap(({ name, results }) => {
    const names = new Map<string, Set<string>>();
    for (const result of results.values()) for (const warning of result.warnings ?? []) names.set(warning, (names.get(warning) ?? new Set()).add(result.name));
    return [...names].map(([warning, of]) => `${name}, ${[...of].join(', ')}: ${warning}`);
  });
}

export interface Corruption {
  type: string;
  severity: number;
}

export function corruptionOf({ name }: Result): Corruption | undefined {
  const [, type, severity] = CORRUPTION.exec(name) ?? [];
  return type === undefined ? undefined : { type, severity: Number(severity) };
}

export interface Row {
  protocol: Result;
  /** By place in the list of subjects. */
  results: (Result | undefined)[];
}

/** Everything but corruptions, a protocol a row: clean first, then by name and radius, larger samples first. */
export function rowsOf(subjects: readonly Subject[]): Row[] {
  const rows = new Map<string, Row>();
  subjects.forEach(({ results }, column) => {
    for (const [key, result] of results) {
      if (corruptionOf(result)) continue;
      const row = rows.get(key) ?? { protocol: result, results: subjects.map(() => undefined) };
      row.results[column] = result;
      rows.set(key, row);
    }
  });
  const radius = ({ settings }: Result) => (typeof settings['epsilon'] === 'number' ? settings['epsilon'] : 0);
  return [...rows.values()].sort(({ protocol: a }, { protocol: b }) =>
    a.data.localeCompare(b.data) || Number(b.name === 'clean') - Number(a.name === 'clean') || a.name.localeCompare(b.name, 'en', { numeric: true }) || radius(a) - radius(b) || b.total - a.total);
}
