import type { NativeJob } from './addon.js';
import { check } from './errors.js';

/** What every long call accepts. */
export interface JobOptions {
  /** Aborting it stops the job at its next step; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Progress of a long call: `done` of `total` steps. */
export interface StepProgress {
  done: number;
  total: number;
}

/** Ties a native job to an AbortSignal. `start` is called at once, unless the signal is aborted already. */
export async function job<T>(start: () => NativeJob<T>, signal?: AbortSignal): Promise<T> {
  check.signal('options.signal', signal);
  signal?.throwIfAborted();
  const running = start();
  const abort = () => running.cancel();
  signal?.addEventListener('abort', abort, { once: true });
  try {
    return await running.promise;
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}
