/** Measured numbers side by side: which are of one protocol, which are points of a curve, which are corruptions. */
import type { Result } from '../evaluation/results.js';
import type { RunFiles } from './read.js';

/** A classifier of a run: a column of the tables. */
export interface Subject {
  run: RunFiles;
  style: number;
  model: string;
  name: string;
  /** The newest of each protocol. */
  results: Map<string, Result>;
}

const CORRUPTION = /^([a-z]+(?:-[a-z]+)*)-([1-5])$/;
/** How a number was computed, not what it is. */
const INCIDENTAL = ['batchSize', 'limit'];

/** Numbers with the same key were measured in the same way. */
function protocolKey({ data, name, total, settings }: Result): string {
  return JSON.stringify([data, name, total, Object.entries(settings).filter(([key]) => !INCIDENTAL.includes(key)).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** The classifiers that numbers were recorded of, `classifier.safetensors` of each run first. */
export function subjectsOf(runs: readonly RunFiles[]): Subject[] {
  return runs.flatMap((run, style) => [...new Set(run.results.map(({ model }) => model))].sort((a, b) => Number(b === 'classifier.safetensors') - Number(a === 'classifier.safetensors')).map((model) => {
    const own = run.results.filter((result) => result.model === model), mode = own.find((result) => result.mode)?.mode;
    const about = [...(model === 'classifier.safetensors' ? [] : [model.replace(/\.safetensors$/, '')]), ...(mode ? [mode.toUpperCase()] : [])].join(', ');
    return { run, style, model, name: `${run.name}${about && ` (${about})`}`, results: new Map(own.map((result) => [protocolKey(result), result])) };
  }));
}

export interface Curve {
  of: 'epsilon' | 'steps';
  /** What all its points share. */
  data: string;
  norm: string;
  total: number;
  /** Steps of a curve over epsilon, epsilon of one over steps. */
  fixed: number;
  lines: { subject: Subject; points: Map<number, Result> }[];
}

const numberOf = (settings: Result['settings'], key: string): number => (typeof settings[key] === 'number' ? settings[key] : NaN);

/** Three or more PGD numbers of one classifier that differ in epsilon alone, or in steps alone. */
export function curvesOf(subjects: readonly Subject[]): Curve[] {
  const found = new Map<string, Curve>();
  for (const [of, fixedKey] of [['epsilon', 'steps'], ['steps', 'epsilon']] as const)
    for (const subject of subjects) {
      const groups = new Map<string, Map<number, Result>>();
      for (const result of subject.results.values()) {
        const { data, total, settings } = result;
        const at = numberOf(settings, of), fixed = numberOf(settings, fixedKey);
        if (settings['attack'] !== 'pgd' || Number.isNaN(at) || Number.isNaN(fixed)) continue;
        const key = JSON.stringify([of, data, total, settings['norm'], fixed, ...['restarts', 'randomStart', 'seed'].map((name) => settings[name])]);
        (groups.get(key) ?? groups.set(key, new Map()).get(key)!).set(at, result);
      }
      for (const [key, points] of groups) {
        if (points.size < 3) continue;
        const { data, total, settings } = [...points.values()][0]!;
        const curve = found.get(key) ?? { of, data, total, norm: String(settings['norm']), fixed: numberOf(settings, fixedKey), lines: [] };
        curve.lines.push({ subject, points: new Map([...points].sort(([a], [b]) => a - b)) });
        found.set(key, curve);
      }
    }
  return [...found.values()];
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

/** Everything that is neither a corruption nor a point of a curve, a protocol a row: clean first, then by name and radius, larger samples first. */
export function rowsOf(subjects: readonly Subject[], curves: readonly Curve[]): Row[] {
  const drawn = new Set(curves.flatMap(({ lines }) => lines.flatMap(({ points }) => [...points.values()])));
  const rows = new Map<string, Row>();
  subjects.forEach(({ results }, column) => {
    for (const [key, result] of results) {
      if (drawn.has(result) || corruptionOf(result)) continue;
      const row = rows.get(key) ?? { protocol: result, results: subjects.map(() => undefined) };
      row.results[column] = result;
      rows.set(key, row);
    }
  });
  const radius = ({ settings }: Result) => (typeof settings['epsilon'] === 'number' ? settings['epsilon'] : 0);
  return [...rows.values()].sort(({ protocol: a }, { protocol: b }) =>
    a.data.localeCompare(b.data) || Number(b.name === 'clean') - Number(a.name === 'clean') || a.name.localeCompare(b.name, 'en', { numeric: true }) || radius(a) - radius(b) || b.total - a.total);
}
