/** Peers in Python: the released losses and other packages, in a child process. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AInfoNCEError } from '../runtime/errors.js';
import { randn } from '../tensor/factories.js';
import { scope } from '../tensor/scope.js';
import { tensor, type Tensor } from '../tensor/tensor.js';
import { Companion } from './companion.js';
import { TEMPERATURE, type Loss } from './losses.js';

const SCRIPT = fileURLToPath(new URL('../../scripts/loss_peers.py', import.meta.url));
const RELEASED = 'released code', COMPILED = 'torch.compile';

/** What the Python that was found has. */
interface Found {
  torch: string;
  python: string;
  peers: string[];
  /** Packages that cannot be imported, and why. */
  absent: Record<string, string>;
}

interface Where {
  /** Undefined: python3, if it will do; false: none. */
  python: string | false | undefined;
  /** For rows and gradients. */
  folder: string;
  quick: boolean;
  signal: AbortSignal | undefined;
}

/** The peers that there are, or none with the reason in `absent`. @throws AInfoNCEError when an interpreter was named that will not do */
export async function startPeers({ python, folder, quick, signal }: Where, absent: { what: string; why: string }[]): Promise<Peers | undefined> {
  if (python === false) {
    absent.push({ what: 'peers in Python', why: 'not asked for' });
    return undefined;
  }
  try {
    const peers = await Peers.start(python ?? 'python3', folder, signal);
    for (const [what, why] of Object.entries(peers.found.absent)) absent.push({ what, why });
    if (quick) {
      peers.found.peers = peers.found.peers.filter((peer) => peer !== COMPILED);
      absent.push({ what: COMPILED, why: 'compiling takes longer than a quick run' });
    }
    return peers;
  } catch (error) {
    signal?.throwIfAborted();
    const why = (error as Error).message;
    if (python !== undefined) throw new AInfoNCEError(`no peers in Python: ${why}`, { cause: error });
    absent.push({ what: 'peers in Python', why });
    return undefined;
  }
}

export class Peers implements Disposable {
  private constructor(private readonly companion: Companion, readonly found: Found, private readonly folder: string, readonly another: (env: Record<string, string>) => Promise<Peers>) {}

  /** `another` starts the same in a process of its own. */
  static async start(python: string, folder: string, signal: AbortSignal | undefined, env: Record<string, string> = {}): Promise<Peers> {
    const companion = new Companion(python, [SCRIPT], { env: { ...env, PYTHONDONTWRITEBYTECODE: '1' }, signal });
    try {
      return new Peers(companion, await companion.answer<Found>(), folder, (more) => Peers.start(python, folder, signal, more));
    } catch (error) {
      companion[Symbol.dispose]();
      throw error;
    }
  }

  /** Those that have this loss. Calls of another one are forgotten. */
  async of({ form, views, attackStep, labels, queue }: Loss): Promise<string[]> {
    if (attackStep || labels || queue || (form === 'paper' && views !== 2)) return [];
    await this.companion.ask({ ask: 'forget' });
    return this.found.peers.filter((peer) => (peer === RELEASED) === (form !== 'paper'));
  }

  /** The loss of the first call, and its gradient. */
  async call(peer: string, loss: Loss, leaf: Tensor, threads: number): Promise<{ value: number; gradient(): Tensor }> {
    const [rows, gradient] = ['rows', 'gradient'].map((name) => join(this.folder, name)) as [string, string];
    const [n, dim] = leaf.shape as [number, number], numbers = leaf.detach().toTypedArray() as Float32Array;
    for (const file of [rows, gradient]) writeFileSync(file, numbers); // the peer maps the second and writes into it
    const { value } = await this.companion.ask<{ value: number }>({ ask: 'call', peer, n, dim, threads, rows, gradient, with: parameters(peer, loss) });
    return { value, gradient: () => tensor(new Float32Array(new Uint8Array(readFileSync(gradient)).buffer), { shape: [n, dim] }) };
  }

  /** Calls it again. */
  time(peer: string): Promise<{ ms: number; cpu: number }> {
    return this.companion.ask({ ask: 'time', peer });
  }

  /** Bytes of extra peak memory of a call, after one on the same rows. */
  async peak(peer: string, loss: Loss, n: number, dim: number, threads: number): Promise<number> {
    const rows = join(this.folder, 'peak');
    writeFileSync(rows, scope(() => randn([n, dim]).toTypedArray() as Float32Array));
    await this.companion.ask({ ask: 'forget' });
    await this.companion.ask({ ask: 'call', peer, n, dim, threads, rows, with: parameters(peer, loss) });
    return (await this.companion.ask<{ bytes: number }>({ ask: 'peak', peer })).bytes;
  }

  [Symbol.dispose](): void {
    this.companion[Symbol.dispose]();
  }
}

function parameters(peer: string, { form, options: { inferiorPositive: ip, hardNegative: hn } }: Loss): object {
  return { temperature: TEMPERATURE, ...(peer === RELEASED && { form, ...(ip && { alpha: ip.alpha }), ...(hn && { beta: hn.beta, tau: hn.tauPlus }) }) };
}
