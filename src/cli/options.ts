/** Options: what several commands share, and how values are read. */
import { InvalidArgumentError, Option } from 'commander';

export interface CommonOptions {
  json?: boolean;
  verbose?: boolean;
  device: string;
  seed?: number;
  threads?: number;
}

/** The options of every command. */
export const commonOptions = (): Option[] => [
  new Option('--device <name>', 'where to compute: cpu, cuda or cuda:<n>').argParser(device).default('cpu'),
  new Option('--seed <n>', 'every random choice follows from it, but for which images of a folder are its test set').argParser(integer({ min: 0 })),
  new Option('--threads <n>', 'threads to compute with; 0: one a core').argParser(integer({ min: 0, max: 1024 })),
  new Option('--json', 'print JSON on stdout, and nothing else there'),
  new Option('--verbose', 'print where a failure happened'),
];

interface Range {
  min?: number;
  max?: number;
  above?: number;
}

function number(text: string, kind: string, { min = -Infinity, max = Infinity, above = -Infinity }: Range, fits: (value: number) => boolean): number {
  const bounds = [
    min > -Infinity ? `at least ${min}` : '', above > -Infinity ? `above ${above}` : '', max < Infinity ? `at most ${max}` : '',
  ].filter(Boolean).join(' and ');
  const value = parseNumber(text);
  if (!fits(value) || value < min || value > max || value <= above) throw new InvalidArgumentError(`Expected ${kind}${bounds ? ` ${above > -Infinity ? '' : 'of '}${bounds}` : ''}.`);
  return value;
}

/** What may be a device; whether it is there is asked before the command runs. */
function device(text: string): string {
  if (!/^(cpu|cuda(:\d+)?)$/.test(text)) throw new InvalidArgumentError('Expected cpu, cuda or cuda:<n>.');
  return text;
}

/** A reader of integers in a range. */
export const integer = (range: Range = {}) => (text: string): number => number(text, 'an integer', range, Number.isSafeInteger);

/** An option that counts something: `--<flag> <n>`, from 1. */
export const countOption = (flag: string, what: string): Option => new Option(`--${flag} <n>`, what).argParser(integer({ min: 1 }));

/** What commands that put images through a network share. */
export const atOnce = (): Option => countOption('batch-size', 'images at once; default: 256');
export const firstTestImages = (): Option => countOption('limit', 'the first images of the test set only');

/** A reader of numbers in a range; `8/255` is one. */
export const real = (range: Range = {}) => (text: string): number => number(text, 'a number (0.0314, 8/255)', range, Number.isFinite);

/** `12`, `-0.5`, `1e-3`, `8/255`; NaN for anything else. */
export function parseNumber(text: string): number {
  const parts = text.trim().split('/');
  if (parts.length > 2 || parts.some((part) => !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(part.trim()))) return NaN;
  const [numerator, denominator = 1] = parts.map(Number);
  return numerator! / denominator;
}

/** `a,b,c`, each one of `choices` where they are given. */
export const list = (choices?: readonly string[]) => (text: string): string[] => {
  const items = text.split(',').map((item) => item.trim()).filter(Boolean);
  const wrong = choices && items.find((item) => !choices.includes(item));
  if (items.length === 0 || wrong !== undefined) throw new InvalidArgumentError(choices ? `Expected some of ${choices.join(', ')}, with commas between.` : 'Expected names with commas between.');
  return items;
};

/** Integers in a range with commas between. */
export const integers = (range: Range = {}) => (text: string): number[] => list()(text).map(integer(range));

/** Collects `--set a.b=value` into nested objects; values are numbers, fractions, JSON or text. */
export function setting(text: string, before: Record<string, unknown> = {}): Record<string, unknown> {
  const [, path, value] = /^([\w$]+(?:\.[\w$]+)*)=(.*)$/s.exec(text) ?? [];
  if (path === undefined || value === undefined) throw new InvalidArgumentError('Expected key=value, as schedule.rate=0.3.');
  const keys = path.split('.');
  if (keys.some((key) => key === '__proto__')) throw new InvalidArgumentError('There is no such key.');
  const merged = structuredClone(before);
  let at = merged;
  for (const key of keys.slice(0, -1)) {
    const inner = at[key];
    at = (at[key] = typeof inner === 'object' && inner !== null ? inner : {}) as Record<string, unknown>;
  }
  at[keys.at(-1)!] = parseValue(value);
  return merged;
}

function parseValue(text: string): unknown {
  const value = parseNumber(text);
  if (!Number.isNaN(value)) return value;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
