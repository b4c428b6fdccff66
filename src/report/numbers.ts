/** Numbers as the report shows them. */
import type { Result } from '../evaluation/results.js';

export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** 0.0314 as `0.0314`, 8/255 as `8/255`. */
export function ball(value: number): string {
  const steps = value * 255;
  return value > 0 && value <= 1 && Math.abs(steps - Math.round(steps)) < 1e-6 ? `${Math.round(steps)}/255` : String(Number(value.toPrecision(4)));
}

/** A measurement to about three digits: `0.62`, `13.4`, `840`. */
export const short = (value: number): string => value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);

/** `12,345`. */
export const grouped = (value: number): string => String(value).replace(/\B(?=(\d{3})+$)/g, ',');

/** Seconds as `3 h 05 min`, `12 min`, `42 s`. */
export function duration(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** Half the width of the 95 % Wilson interval of a share. */
export function halfInterval({ accuracy: p, total: n }: Pick<Result, 'accuracy' | 'total'>): number {
  const z = 1.96;
  return (z / (1 + (z * z) / n)) * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
}

/** A value of a configuration; fractions to six digits. */
export function value(of: unknown): string {
  const short = (_: string, each: unknown): unknown => (typeof each === 'number' && !Number.isInteger(each) ? Number(each.toPrecision(6)) : each);
  return of === undefined ? '–' : typeof of === 'string' ? of : JSON.stringify(of, short);
}

/** Nested objects as paths and values: `schedule.rate` to 0.1. */
export function flatten(of: unknown, path = '', into = new Map<string, unknown>()): Map<string, unknown> {
  if (typeof of === 'object' && of !== null && !Array.isArray(of)) for (const [key, inner] of Object.entries(of)) flatten(inner, path ? `${path}.${key}` : key, into);
  else into.set(path, of);
  return into;
}
