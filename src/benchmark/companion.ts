/** A child process that answers lines of JSON with lines of JSON. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { createInterface } from 'node:readline';
import { AInfoNCEError } from '../runtime/errors.js';

export class Companion implements Disposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  readonly #gone: Promise<never>;

  /** @param signal ends it */
  constructor(command: string, args: readonly string[], { env = {}, signal }: { env?: Record<string, string>; signal?: AbortSignal | undefined } = {}) {
    this.#child = spawn(command, args, { env: { ...process.env, ...env }, signal, killSignal: 'SIGKILL' });
    let words = '';
    this.#child.stderr.on('data', (chunk: Buffer) => { words = (words + String(chunk)).slice(-4096); });
    this.#child.stdin.on('error', () => {}); // it has gone, which is what #gone says
    this.#gone = new Promise((_, reject) => {
      this.#child.on('error', (error) => reject(new AInfoNCEError(`${command}: ${error.message}`)));
      this.#child.on('close', (code, signal) => reject(new AInfoNCEError(`${command}: ${words.trim().split('\n').at(-1) || `ended with ${signal ?? code}`}`)));
    });
    this.#gone.catch(() => {});
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** What it says next. @throws AInfoNCEError with the last line of its stderr when it has ended, with its own words where it answers with an error */
  async answer<T>(): Promise<T> {
    const { value, done } = await Promise.race([this.#lines.next(), this.#gone]);
    if (done) return await this.#gone;
    const said = JSON.parse(value) as T & { error?: string };
    if (said.error !== undefined) throw new AInfoNCEError(said.error);
    return said;
  }

  async ask<T>(request: object): Promise<T> {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    return await this.answer<T>();
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}
