/** Ctrl-C: the first asks the command to stop cleanly, the second ends the process at once. */
import { constants } from 'node:os';

/** The reason of an aborted command. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  readonly code = 'ERR_INTERRUPTED';
  constructor(readonly signal: 'SIGINT' | 'SIGTERM') {
    super('stopped');
  }
  /** 130 for SIGINT, 143 for SIGTERM. */
  get exitCode(): number {
    return 128 + constants.signals[this.signal];
  }
}

/** npm and timeout(1) pass on a signal that the process has got from the terminal already: within so many ms it is the same one. */
const SAME_ASKING = 1_000;

/** Runs `body` with a signal that SIGINT and SIGTERM abort; `asked` is called once, at the first. */
export async function interruptible<T>(body: (signal: AbortSignal) => Promise<T>, asked: () => void): Promise<T> {
  const controller = new AbortController();
  let first = 0;
  const stop = (name: NodeJS.Signals) => {
    const reason = new Interrupted(name as 'SIGINT' | 'SIGTERM');
    if (controller.signal.aborted) {
      if (performance.now() - first < SAME_ASKING) return;
      process.exit(reason.exitCode);
    }
    first = performance.now();
    controller.abort(reason);
    asked();
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  try {
    const value = await body(controller.signal);
    controller.signal.throwIfAborted();
    return value;
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}
