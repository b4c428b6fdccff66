/** The extra peak memory of one call, found in processes of their own. */
import { fileURLToPath } from 'node:url';
import { Companion } from './companion.js';
import { lossNamed, type Precision } from './losses.js';
import type { Peers } from './peers.js';

/** Large blocks are mapped when they are taken and unmapped when they are freed, so that the peak of a call does not depend on the calls before it. */
const EXACT = { MALLOC_MMAP_THRESHOLD_: '65536', MALLOC_TRIM_THRESHOLD_: '0' };
/** The compiled one also where this is the source. */
const PROGRAM = fileURLToPath(new URL('../../dist/benchmark/memory-program.js', import.meta.url));

/** What the program is asked. */
export interface PeakRequest {
  loss: string;
  kind: Precision | 'eager';
  n: number;
  dim: number;
  threads: number;
}

/** Starts its processes when they are needed. */
export class Memory implements Disposable {
  #ours: Companion | undefined;
  #theirs: Peers | undefined;
  constructor(private readonly dim: number, private readonly peers: Peers | undefined, private readonly signal: AbortSignal | undefined) {}

  async ofOurs(request: PeakRequest): Promise<number> {
    this.#ours ??= new Companion(process.execPath, [PROGRAM], { env: EXACT, signal: this.signal });
    return (await this.#ours.ask<{ bytes: number }>(request)).bytes;
  }

  async ofPeer(peer: string, loss: string, n: number, threads: number): Promise<number> {
    this.#theirs ??= await this.peers!.another(EXACT);
    return await this.#theirs.peak(peer, lossNamed(loss), n, this.dim, threads);
  }

  [Symbol.dispose](): void {
    this.#ours?.[Symbol.dispose]();
    this.#theirs?.[Symbol.dispose]();
  }
}
