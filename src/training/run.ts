/** A run's folder: one writer, nothing half-written under its own name, and nothing lost that was announced as saved. */
import { mkdir, open, readdir, readFile, rename, rm, type FileHandle } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { readSafetensors, writeSafetensors } from '../model/safetensors.js';
import type { LockHandle } from '../runtime/addon.js';
import { ArgumentRangeError, FileError } from '../runtime/errors.js';
import { native } from '../runtime/native.js';
import { differences } from './presets.js';
import type { Tensor } from '../tensor/tensor.js';

const CHECKPOINT = /^checkpoint-(\d{8})\.safetensors$/;
const TEMPORARY = /^\.(?:checkpoint-\d{8}\.safetensors|encoder\.safetensors|config\.json|environment\.json)\.\d+/;
const STATE = 'a_infonce.run';

/** Where a checkpoint stands: all that a run needs besides its tensors and its configuration. */
export interface RunState {
  /** Steps done. */
  step: number;
  /** Sums over the epoch's steps so far, for its mean loss. */
  epochLoss: number;
  epochSeconds: number;
  /** The length of metrics.jsonl, to which a resumed run cuts it back. */
  metricsBytes: number;
}

/** A checkpoint that was read and found whole. */
export interface Checkpoint {
  path: string;
  state: RunState;
  tensors: Map<string, Tensor>;
}

/**
 * The folder, locked for this process until {@link close}.
 *
 * config.json (the configuration, everything resolved), environment.json (what it runs on), metrics.jsonl (a line an event),
 * checkpoint-<steps>.safetensors, encoder.safetensors (when the run is over), run.lock.
 */
export class RunFolder {
  private metrics: FileHandle | undefined;
  private bytes = 0;

  private constructor(readonly path: string, private readonly lock: LockHandle, readonly config: unknown) {}

  /**
   * Locks the folder, made if needed, and reads its config.json if there is one.
   * @throws {@link FileError} when another run writes it; {@link ArgumentRangeError} when it holds a run and `resume` is false
   */
  static async open(path: string, resume: boolean): Promise<RunFolder> {
    path = resolve(path);
    try {
      await mkdir(path, { recursive: true });
    } catch (error) {
      throw new FileError(path, `cannot be made (${(error as Error).message})`, { cause: error });
    }
    const lock = native().lock_file(join(path, 'run.lock'));
    try {
      const names = await readdir(path);
      const config = names.includes('config.json') ? await readJson(join(path, 'config.json')) : undefined;
      if (!resume && (config !== undefined || names.some((name) => CHECKPOINT.test(name))))
        throw new ArgumentRangeError('out', 'a folder without a run, or resume: true', path);
      // What a killed process left in the middle of writing; the lock says that nobody is.
      await Promise.all(names.filter((name) => TEMPORARY.test(name)).map((name) => rm(join(path, name), { force: true })));
      return new RunFolder(path, lock, config);
    } catch (error) {
      native().unlock_file(lock);
      throw error;
    }
  }

  /** Writes what the run is and what it runs on. Returns the keys of the environment that are not what they were when the run began. */
  async describe(config: unknown, environment: Record<string, unknown>): Promise<string[]> {
    if (this.config === undefined) {
      await this.writeJson('environment.json', environment);
      // Last: a folder without it holds no run yet.
      await this.writeJson('config.json', config);
      return [];
    }
    return differences(await readJson(join(this.path, 'environment.json')), environment);
  }

  /** The newest checkpoint that is whole; `damaged` hears of every newer one that is not. */
  async newestCheckpoint(damaged: (error: Error) => void): Promise<Checkpoint | undefined> {
    for (const name of (await this.checkpoints()).reverse()) {
      const path = join(this.path, name);
      try {
        const { tensors, metadata } = await readSafetensors(path, { requireChecksum: true });
        return { path, tensors, state: JSON.parse(metadata[STATE] ?? '') as RunState };
      } catch (error) {
        damaged(error as Error);
      }
    }
    return undefined;
  }

  /** Opens metrics.jsonl and cuts it to the first `bytes` bytes. */
  async openMetrics(bytes: number): Promise<void> {
    this.metrics = await open(join(this.path, 'metrics.jsonl'), 'a');
    this.bytes = Math.min(bytes, (await this.metrics.stat()).size);
    await this.metrics.truncate(this.bytes);
  }

  /** Adds a line to metrics.jsonl. */
  async record(values: object): Promise<void> {
    const line = Buffer.from(`${JSON.stringify(values)}\n`);
    await this.metrics!.appendFile(line);
    this.bytes += line.length;
  }

  /** Saves a checkpoint after the metrics that it refers to, then removes all but the newest `keep`. Returns its path once it is on disk. */
  async saveCheckpoint(state: Omit<RunState, 'metricsBytes'>, tensors: Iterable<readonly [string, Tensor]>, keep: number): Promise<string> {
    const path = join(this.path, `checkpoint-${String(state.step).padStart(8, '0')}.safetensors`);
    const whole: RunState = { ...state, metricsBytes: this.bytes };
    await this.metrics!.sync();
    await writeSafetensors(path, tensors, { [STATE]: JSON.stringify(whole) });
    const old = (await this.checkpoints()).slice(0, -keep);
    await Promise.all(old.map((name) => rm(join(this.path, name), { force: true })));
    return path;
  }

  async close(): Promise<void> {
    await this.metrics?.close();
    native().unlock_file(this.lock);
  }

  private async checkpoints(): Promise<string[]> {
    return (await readdir(this.path)).filter((name) => CHECKPOINT.test(name)).sort();
  }

  private async writeJson(name: string, value: unknown): Promise<void> {
    const path = join(this.path, name);
    const temporary = join(this.path, `.${name}.${process.pid}`);
    const file = await open(temporary, 'w');
    try {
      await file.writeFile(`${JSON.stringify(value, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  }
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new FileError(path, `not valid JSON (${(error as Error).message})`, { cause: error });
  }
}
