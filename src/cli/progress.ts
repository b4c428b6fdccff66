/** Progress of something long, on stderr: a bar on a terminal, a line every few seconds elsewhere, nothing with --json. */
import { SingleBar } from 'cli-progress';
import { duration, type Output } from './output.js';

const LINE_EVERY = 5_000;
const RATE_OVER = 20_000;

export interface ProgressOptions {
  /** What is being done, in front. */
  label: string;
  /** How much there is of it, if that is known. */
  total?: number | undefined;
  /** Shows an amount per second, as `812 images/s`. */
  rate?: (perSecond: number) => string;
  /** Where it begins, when some was done before. */
  from?: number;
}

export class Progress implements Disposable {
  private bar: SingleBar | undefined;
  private stopped = false;
  private readonly seen: { at: number; done: number }[];
  private done: number;
  private details: readonly string[] = [];
  private printed = performance.now();
  private total: number | undefined;

  constructor(private readonly output: Output, private readonly options: ProgressOptions) {
    this.done = options.from ?? 0;
    this.total = options.total;
    this.seen = [{ at: performance.now(), done: this.done }];
    const { stderr } = output.streams;
    output.shown.add(this);
    if (output.json || !stderr.isTTY) return;
    this.bar = new SingleBar({
      stream: stderr, hideCursor: true, clearOnComplete: true, fps: 10, gracefulExit: false, synchronousUpdate: false,
      format: () => this.line(true),
    });
    this.bar.start(this.total ?? 1, this.done);
  }

  /** `done` is how much there is so far; `details` follow the share, as `loss 5.12`. */
  update(done: number, ...details: string[]): void {
    if (this.stopped) return;
    const now = performance.now();
    this.done = done;
    this.details = details;
    this.seen.push({ at: now, done });
    while (this.seen.length > 2 && now - this.seen[1]!.at > RATE_OVER) this.seen.shift();
    if (this.bar) this.bar.update(this.total === undefined ? 0 : done);
    else if (now - this.printed >= LINE_EVERY) this.print();
  }

  /** The total, when it was not known at first. */
  outOf(total: number): this {
    this.total = total;
    this.bar?.setTotal(total);
    return this;
  }

  /** A line now, where lines are printed. */
  print(): void {
    this.printed = performance.now();
    if (!this.bar && !this.stopped) this.output.note(this.line());
  }

  stop(): void {
    this.bar?.stop();
    this.bar = undefined;
    this.stopped = true;
    this.output.shown.delete(this);
  }
  [Symbol.dispose](): void {
    this.stop();
  }

  private line(withBar = false): string {
    const { total, options: { label, rate } } = this;
    const { at, done } = this.seen[0]!;
    const seconds = (performance.now() - at) / 1000;
    const perSecond = seconds > 0.5 && this.done > done ? (this.done - done) / seconds : undefined;
    const part = total === undefined ? undefined : Math.min(1, this.done / Math.max(total, Number.MIN_VALUE));
    const text = [
      ...(part === undefined ? [] : [`${Math.floor(100 * part)} %`.padStart(5)]), ...this.details,
      ...(rate && perSecond !== undefined ? [rate(perSecond)] : []),
      ...(perSecond !== undefined && total !== undefined ? [`${duration((total - this.done) / perSecond)} left`] : []),
    ].join('  ');
    if (!withBar || part === undefined) return `${label}  ${text}`;
    // What the text leaves of the line; the last column stays free, so that no terminal wraps.
    const columns = (this.output.streams.stderr.columns ?? 80) - 1;
    const width = Math.min(24, columns - label.length - text.length - 4);
    const full = Math.round(width * part);
    const bar = width >= 6 ? `${'█'.repeat(full)}${'░'.repeat(width - full)}  ` : '';
    return `${label}  ${bar}${text}`.slice(0, columns);
  }
}
