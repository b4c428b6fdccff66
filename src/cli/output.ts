/** What a command prints: results on stdout; progress, hints and failures on stderr. With --json, stdout carries JSON and nothing else. */
import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];
export type Stream = NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
export interface Streams {
  stdout: Stream;
  stderr: Stream;
}

export class Output {
  readonly json: boolean;
  readonly verbose: boolean;
  /** Progress that is on the screen, to be taken off it before anything else is printed at an odd moment. */
  readonly shown = new Set<{ stop(): void }>();
  constructor(readonly streams: Streams, options: { json?: boolean | undefined; verbose?: boolean | undefined } = {}) {
    this.json = options.json ?? false;
    this.verbose = (options.verbose ?? false) || process.env['A_INFONCE_DEBUG'] === '1';
  }

  /** The result of a command: the object as one JSON document, or the lines. */
  result(document: object, lines: readonly string[]): void {
    this.streams.stdout.write(this.json ? `${JSON.stringify(document, null, 2)}\n` : lines.map((line) => `${line}\n`).join(''));
  }

  /** One line of JSON, with --json only. */
  event(document: object): void {
    if (this.json) this.streams.stdout.write(`${JSON.stringify(document)}\n`);
  }

  /** A remark to whoever watches; not with --json. */
  note(line: string): void {
    if (!this.json) this.streams.stderr.write(`${line}\n`);
  }

  /** A remark that something may be wrong. */
  warn(message: string): void {
    this.note(`Warning: ${message}`);
  }

  /** The same as a line of a result. */
  warning(message: string): string {
    return `${this.style('yellow', 'Warning:')} ${message}`;
  }

  /** `text` in a style where the stream shows styles. */
  style(style: Style, text: string, stream: Stream = this.streams.stdout): string {
    return stream.isTTY && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb' ? styleText(style, text) : text;
  }
}

/** Rows as lines: the first `left` columns to the left, the others to the right. */
export function table(rows: readonly (readonly string[])[], left = 1): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const pad = (cell: string, column: number) => (column < left ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!));
  return rows.map((row) => row.map(pad).join('   ').trimEnd());
}

/** `1 epoch`, `2 epochs`. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** Four digits: `0.0314`. */
export const rounded = (value: number): string => String(Number(value.toPrecision(4)));

/** 0.4321 as `43.21 %`. */
export const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;

/** Seconds as `42 s`, `3:05` or `1:02:07`. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const two = (value: number) => String(value).padStart(2, '0');
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** Bytes as `163 MB`. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  const value = count / 1000 ** power;
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
