/** A run's folder: one writer, nothing half-written under its own name, and nothing lost that was announced as saved. */
import { existsSync } from 'node:fs';
import { open, readdir, readFile, rename, rm, type FileHandle } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { readSafetensors, writeSafetensors } from '../model/safetensors.js';
import type { LockHandle } from '../runtime/addon.js';
import { ArgumentRangeError, check, FileError } from '../runtime/errors.js';
import { atomically, makeFolder, requireWritable } from '../runtime/files.js';
import { cuda } from '../runtime/cuda.js';
import { native } from '../runtime/native.js';
import { getThreads, runtimeInfo } from '../runtime/settings.js';
import { differences, mergeConfig } from './merge.js';
import { EventFile } from './tensorboard.js';
import type { Tensor } from '../tensor/tensor.js';

const CHECKPOINT = /^checkpoint-(\d{8})\.safetensors$/;
const TEMPORARY = /^\.(?:(?:checkpoint|failed)-\d{8}\.safetensors|encoder\.safetensors|classifier\.safetensors|config\.json|environment\.json)\.\d+/;
/** What else a fine-tuning leaves. */
const OWN = /^(?:classifier\.safetensors|environment\.json|metrics\.jsonl|events\.out\.tfevents\..*)$/;
const STATE = 'a_infonce.run';

const runState = z.strictObject({
  /** Steps done. */
  step: z.int().min(0),
  /** Sums over the epoch's steps so far, for its mean loss. */
  epochLoss: z.number(),
  epochSeconds: z.number().min(0),
  /** The length of metrics.jsonl, to which a resumed run cuts it back. */
  metricsBytes: z.int().min(0),
  /** The same of the TensorBoard events; a checkpoint that does not tell keeps them all. */
  eventBytes: z.number().min(0).default(Infinity),
  /** The method's own numbers. */
  method: z.record(z.string(), z.number()),
});

/** Where a checkpoint stands: all that a run needs besides its tensors and its configuration. */
export type RunState = z.infer<typeof runState>;

/** How long the files are that a run adds to; of a run that begins, 0. */
export type Lengths = Pick<RunState, 'metricsBytes' | 'eventBytes'>;
export const EMPTY: Lengths = { metricsBytes: 0, eventBytes: 0 };

/** When to save a checkpoint: after so many steps or seconds, whichever comes first. */
export interface SaveInterval {
  steps?: number;
  seconds?: number;
}

/** Checks when to save, with its default. */
export function checkInterval(given: SaveInterval | undefined): SaveInterval {
  const every = check.options('checkpointEvery', given ?? {}, ['steps', 'seconds']);
  if (every.steps !== undefined) check.integer('checkpointEvery.steps', every.steps, { min: 1 });
  if (every.seconds !== undefined) check.finite('checkpointEvery.seconds', every.seconds, { above: 0 });
  return every.steps === undefined && every.seconds === undefined ? { seconds: 300 } : every;
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
  private events: EventFile | undefined;
  private bytes = 0;

  private constructor(readonly path: string, private readonly lock: LockHandle, readonly config: unknown) {}

  /**
   * Locks the folder, made if needed, and reads its config.json if there is one. A finished fine-tuning makes way if `replaces` says so of its
   * configuration: what a run writes is removed, and nothing else.
   * @throws {@link FileError} when another run writes it or nothing can be written; {@link ArgumentRangeError} when it holds a run and `resume` is false
   */
  static async open(path: string, resume: boolean, replaces?: (config: unknown) => boolean): Promise<RunFolder> {
    path = resolve(path);
    await makeFolder(path);
    const lock = native().lock_file(join(path, 'run.lock'));
    try {
      await requireWritable(path);
      let names = await readdir(path);
      let config = names.includes('config.json') ? await readJson(join(path, 'config.json')) : undefined;
      if (names.includes('classifier.safetensors') && replaces?.(config)) {
        // The configuration last: a folder without it is nobody's.
        for (const name of names.filter((name) => OWN.test(name) || CHECKPOINT.test(name)).concat('config.json')) await rm(join(path, name));
        [names, config] = [await readdir(path), undefined];
      }
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

  /** @throws {@link FileError} when another run writes the folder */
  static requireIdle(path: string): void {
    if (existsSync(join(path, 'run.lock'))) native().unlock_file(native().lock_file(join(path, 'run.lock')));
  }

  /** Writes what the run is (of one that goes on, where its files lie now) and what it runs on. Returns warnings: of what it runs on that is not what it was when the run began. */
  async describe(config: unknown, device: string): Promise<string[]> {
    const card = device === 'cpu' ? undefined : cuda.devices().find((each) => each.device === device);
    const environment = {
      ...runtimeInfo(), threads: getThreads(), node: process.version, platform: `${process.platform}-${process.arch}`, ...(device !== 'cpu' && { device, gpu: card?.name, cudaVersion: native().cuda_info().version, allowTF32: cuda.allowTF32 }),
    };
    if (this.config === undefined) {
      await this.writeJson('environment.json', environment);
      // Last: a folder without it holds no run yet.
      await this.writeJson('config.json', config);
      return [];
    }
    const now = mergeConfig(this.config, config);
    if (differences(this.config, now).length > 0) await this.writeJson('config.json', now);
    const changed = differences(await readJson(join(this.path, 'environment.json')), environment);
    return changed.length === 0 ? [] : [`${changed.join(', ')} are not what they were when the run began: its bits may differ from those of a run that was not interrupted`];
  }

  /**
   * The newest checkpoint that is whole and of at most `steps` steps, undefined where there is none at all. Every newer one is set aside as `<its name>.damaged`, and `warn`
   * hears why: left in place it would count as the newest again.
   * @throws {@link FileError} when there are some and none is whole: nothing is set aside, nor begun anew over what the run has kept
   */
  async newestCheckpoint(steps: number, warn: (message: string) => void): Promise<Checkpoint | undefined> {
    const damaged: FileError[] = [], names = (await this.checkpoints()).reverse();
    for (const name of names) {
      try {
        const found = await readCheckpoint(join(this.path, name), steps);
        for (const error of damaged) {
          warn(`${error.message}; set aside, going on from an older checkpoint`);
          await rename(error.path, `${error.path}.damaged`);
        }
        return found;
      } catch (error) {
        if (!(error instanceof FileError)) throw error;
        damaged.push(error);
      }
    }
    if (damaged.length === 0) return undefined;
    throw new FileError(this.path, `none of its checkpoints is whole, so there is nothing to go on from. Remove the folder to begin anew, or take another:\n${damaged.map(({ message }) => `  ${message}`).join('\n')}`);
  }

  /** Opens metrics.jsonl and the TensorBoard events, each cut back to the length that it had at a checkpoint. */
  async openMetrics({ metricsBytes: bytes, eventBytes }: Lengths, kind = 'pretrain'): Promise<void> {
    this.metrics = await open(join(this.path, 'metrics.jsonl'), 'a');
    this.bytes = Math.min(bytes, (await this.metrics.stat()).size);
    await this.metrics.truncate(this.bytes);
    this.events = await EventFile.open(this.path, kind, eventBytes);
  }

  /** Adds a line to metrics.jsonl, and its numbers to the TensorBoard events. */
  async record(values: { type: string; step: number; epoch: number; secondsLeft?: number }): Promise<void> {
    const line = Buffer.from(`${JSON.stringify(values)}\n`);
    await this.metrics!.appendFile(line);
    this.bytes += line.length;
    const { type, step, epoch, secondsLeft, ...numbers } = values;
    await this.events!.add(step, Object.fromEntries(Object.entries(numbers as Record<string, number>).map(([name, value]) => [`${type}/${name}`, value])));
  }

  /** Saves a checkpoint after the metrics that it refers to, then removes all but the newest `keep`. Returns its path once it is on disk. */
  async saveCheckpoint(state: Omit<RunState, keyof Lengths>, tensors: Iterable<readonly [string, Tensor]>, keep: number): Promise<string> {
    const path = join(this.path, `checkpoint-${String(state.step).padStart(8, '0')}.safetensors`);
    const whole: RunState = { ...state, metricsBytes: this.bytes, eventBytes: this.events!.length };
    await this.metrics!.sync();
    await writeSafetensors(path, tensors, { [STATE]: JSON.stringify(whole) });
    const older = (await this.checkpoints()).filter((name) => name < basename(path));
    await Promise.all(older.slice(0, Math.max(0, older.length + 1 - keep)).map((name) => rm(join(this.path, name), { force: true })));
    return path;
  }

  async close(): Promise<void> {
    await this.metrics?.close();
    await this.events?.close();
    native().unlock_file(this.lock);
  }

  private async checkpoints(): Promise<string[]> {
    return (await readdir(this.path)).filter((name) => CHECKPOINT.test(name)).sort();
  }

  private async writeJson(name: string, value: unknown): Promise<void> {
    await atomically(join(this.path, name), (file) => file.writeFile(`${JSON.stringify(value, null, 2)}\n`));
  }
}

/** @throws {@link FileError} unless the file is whole and its state that of its name, of at most `steps` steps */
async function readCheckpoint(path: string, steps: number): Promise<Checkpoint> {
  const step = Number(CHECKPOINT.exec(basename(path))![1]);
  const { tensors, metadata } = await readSafetensors(path, { requireChecksum: true });
  try {
    const state = runState.parse(JSON.parse(metadata[STATE] ?? ''));
    if (state.step !== step || step > steps) throw new RangeError(`it says step ${state.step}`);
    return { path, tensors, state };
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw new FileError(path, `damaged: its metadata hold no state of step ${step} of ${steps}`, { cause: error });
  }
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new FileError(path, `not valid JSON (${(error as Error).message})`, { cause: error });
  }
}

/**
 * That a run is resumed as what it was.
 * @throws {@link ArgumentRangeError} naming the keys at which the configurations differ; those that end in `.path` say where, not what.
 */
export function requireRecorded(folder: string, recorded: unknown, asked: unknown): void {
  const differing = differences(recorded, asked).filter((key) => !key.endsWith('.path'));
  if (differing.length === 1) throw new ArgumentRangeError(differing[0]!, `${show(recorded, differing[0]!)}, as recorded in ${folder}`, show(asked, differing[0]!));
  if (differing.length > 1) {
    const lines = differing.slice(0, 8).map((key) => `\n  ${key}: ${show(recorded, key)} -> ${show(asked, key)}`);
    const more = differing.length > 8 ? `\n  and ${differing.length - 8} more` : '';
    throw new ArgumentRangeError('config', `as recorded in ${folder}`, `another (recorded -> asked):${lines.join('')}${more}`);
  }
}

function show(config: unknown, path: string): string {
  return JSON.stringify(path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], config)) ?? 'none';
}
