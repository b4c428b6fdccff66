import { join } from 'node:path';
import { augment } from '../data/augment.js';
import { limitDataset, type Dataset, type Split } from '../data/dataset.js';
import { openDataset, openRecorded } from '../data/open.js';
import { Encoder } from '../model/encoder.js';
import { writeSafetensors } from '../model/safetensors.js';
import type { TensorHandle, TrainerHandle } from '../runtime/addon.js';
import { checkDevice } from '../runtime/cuda.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe, FileError, NonFiniteError } from '../runtime/errors.js';
import { job, type JobOptions } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { ops } from '../tensor/ops.js';
import { keep, scope } from '../tensor/scope.js';
import { Tensor } from '../tensor/tensor.js';
import { methods } from './methods/index.js';
import type { Method, MethodRun, StepValues } from './methods/method.js';
import { mergeConfig } from './merge.js';
import { optimizerValues } from './optimizer.js';
import { checkConfig, resolveConfig, type Overrides, type PresetName, type PretrainConfig } from './presets.js';
import { checkInterval, EMPTY, requireRecorded, RunFolder, type Lengths, type RunState, type SaveInterval } from './run.js';
import { learningRate, unreached, type Position } from './schedule.js';
import type { SharedConfig } from './schema.js';
import { deriveSeed } from './seeds.js';

export interface PretrainOptions extends JobOptions {
  /** A configuration by name; may be left out when a run is resumed. */
  preset?: PresetName;
  /** A data set that is open (and stays open), or the name of one; default: the preset's. */
  data?: Dataset | string;
  /** The run's folder; made if needed. */
  out: string;
  /** Go on from the newest checkpoint in `out`; start from the beginning where there is none. Default false: a folder with a run is refused. */
  resume?: boolean;
  /** Where to compute: `'cpu'` (default), `'cuda'` or `'cuda:<index>'`. A run may be resumed on another device, and says so. */
  device?: string;
  seed?: number;
  epochs?: number;
  batchSize?: number;
  /** Any other value of the configuration. */
  overrides?: Overrides<PretrainConfig>;
  /** Save a checkpoint after so many steps or seconds, whichever comes first. Default every 300 seconds; one is always saved at the end. */
  checkpointEvery?: SaveInterval;
  /** How many checkpoints to keep. Default 2. */
  keepCheckpoints?: number;
}

/** What a run tells. `step` counts the steps done. */
export type PretrainEvent =
  | { type: 'start'; out: string; config: PretrainConfig; step: number; steps: number; stepsPerEpoch: number; parameters: number }
  | { type: 'warning'; message: string }
  | ({ type: 'step'; step: number; epoch: number; learningRate: number; imagesPerSecond: number; secondsLeft: number } & StepValues)
  | { type: 'epoch'; step: number; epoch: number; loss: number; seconds: number }
  | { type: 'checkpoint'; step: number; path: string }
  | { type: 'end'; step: number; path: string };

/**
 * Pre-trains an encoder: an iterable of events, driven by whoever iterates. Everything is a function of the configuration: the same run on the same
 * machine with the same number of threads ends in the same bits, interrupted and resumed or not.
 *
 * Leaves in `out`: config.json, environment.json, metrics.jsonl, TensorBoard events, checkpoints and, at the end, encoder.safetensors. A checkpoint that an event
 * has named is on disk, whole. After a kill at any moment `resume: true` goes on from the newest one.
 *
 * Aborting `signal` stops within an attack step, saves a checkpoint of the steps done, announces it, and throws the signal's reason.
 * @throws at once: {@link ArgumentTypeError} or {@link ArgumentRangeError} on a bad option, naming it. While iterating: {@link ArgumentRangeError} on a
 * folder with a run (without `resume`), on a configuration other than the one resumed, naming the keys, and on data that does not fit;
 * {@link FileError} when another process writes the folder; {@link NonFiniteError} when a loss or gradient is NaN or infinite, the step's images
 * then being kept in failed-<step>.safetensors.
 * @example
 * ```ts
 * const small = { data: { procedural: { train: 16, test: 8, size: 8 } }, encoder: { width: 2 } };   // by default the preset's own data and network
 * for await (const event of pretrain({ preset: 'quickstart', out: 'runs/small', epochs: 1, batchSize: 8, overrides: small }))
 *   if (event.type === 'epoch') console.log(event.epoch, event.loss);
 * ```
 */
export function pretrain(options: PretrainOptions): AsyncIterableIterator<PretrainEvent> {
  const known = ['preset', 'data', 'out', 'resume', 'device', 'seed', 'epochs', 'batchSize', 'overrides', 'checkpointEvery', 'keepCheckpoints', 'signal'] as const;
  if (options === undefined) throw new ArgumentTypeError('options', 'an object', 'undefined');
  const { preset, data, out, resume = false, device = 'cpu', seed, epochs, batchSize, overrides = {}, checkpointEvery, keepCheckpoints = 2, signal } = check.options('options', options, known);
  check.string('out', out);
  check.signal('options.signal', signal);
  check.boolean('resume', resume);
  check.integer('keepCheckpoints', keepCheckpoints, { min: 1 });
  const place = checkDevice('device', device);
  const every = checkInterval(checkpointEvery);
  if (data !== undefined && typeof data !== 'string' && typeof data?.train !== 'object') throw new ArgumentTypeError('data', 'a Dataset or the name of one', describe(data));
  const changes = mergeConfig(overrides, {
    seed, epochs, batchSize,
    ...(data !== undefined && { data: { name: typeof data === 'string' ? data : data.name } }),
  }) as Overrides<PretrainConfig>;
  if (preset === undefined && !resume) throw new ArgumentTypeError('preset', 'the name of a preset', 'undefined');
  // Mistakes in what is given show here and now, not when the iteration starts; without a preset the recorded configuration says what may be given.
  const asked = preset === undefined ? undefined : resolveConfig(preset, changes);
  return new Run({ asked, changes, data: typeof data === 'string' ? undefined : data, out, resume, device: place, every, keepCheckpoints, signal }).events();
}

interface Plan {
  /** What the options say; undefined when they name no preset: then the recorded configuration with `changes`. */
  asked: PretrainConfig | undefined;
  changes: Overrides<PretrainConfig>;
  data: Dataset | undefined;
  out: string;
  resume: boolean;
  device: string;
  every: SaveInterval;
  keepCheckpoints: number;
  signal: AbortSignal | undefined;
}

interface Batch {
  /** Rows of the training images, int64. */
  rows: Tensor;
  /** What the step takes, by name: the views, and what the method adds. */
  inputs: Record<string, Tensor>;
}

class Run {
  private config!: PretrainConfig;
  private folder!: RunFolder;
  private data!: Dataset;
  /** The training images, where the run computes. */
  private train!: Split;
  private encoder!: Encoder;
  private method!: Method;
  private methodRun!: MethodRun;
  private trainer!: TrainerHandle;
  private state: Omit<RunState, keyof Lengths | 'method'> = { step: 0, epochLoss: 0, epochSeconds: 0 };
  /** The order of the epoch that is being loaded. */
  private order: { epoch: number; rows: Tensor } | undefined;
  private saved: { step: number; path: string } | undefined;

  constructor(private readonly plan: Plan) {}

  async *events(): AsyncGenerator<PretrainEvent, void, void> {
    const { plan } = this;
    plan.signal?.throwIfAborted();
    this.folder = await RunFolder.open(plan.out, plan.resume);
    try {
      yield* this.run();
    } finally {
      this.order?.rows.dispose();
      this.methodRun?.dispose?.();
      if (this.trainer) native().dispose_trainer(this.trainer);
      this.encoder?.dispose();
      if (this.train !== this.data?.train) this.train?.dispose();
      if (this.data && this.data !== plan.data) this.data.dispose();
      await this.folder.close();
    }
  }

  private async *run(): AsyncGenerator<PretrainEvent, void, void> {
    const { plan, folder } = this;
    await this.resolve();
    const { config } = this;
    this.encoder = Encoder.create({ ...config.encoder, channels: this.data.channels, projector: config.projector, heads: this.method.heads?.(config), seed: deriveSeed(config.seed, 'initialisation') }).to(plan.device);
    this.train = plan.device === 'cpu' ? this.data.train : this.data.train.to(plan.device);
    this.trainer = native().create_trainer(this.encoder.handle, optimizerValues(config.optimizer), '', config.precision);
    this.methodRun = await this.method.begin({ config, data: this.data, encoder: this.encoder });

    // Recorded only once nothing given can be refused any more: a start that fails leaves no run behind.
    const warnings = [...unreached(config), ...await folder.describe(config, plan.device)];
    const lengths = plan.resume ? await this.restore(warnings) : EMPTY;
    await folder.openMetrics(lengths);
    for (const message of warnings) yield { type: 'warning', message };
    yield { type: 'start', out: folder.path, config, step: this.state.step, steps: this.steps, stepsPerEpoch: this.stepsPerEpoch, parameters: this.encoder.parameterCount };
    try {
      yield* this.learn();
    } catch (error) {
      if (plan.signal?.aborted) yield await this.save();
      throw error;
    }
    const path = join(folder.path, 'encoder.safetensors');
    try {
      yield await this.save();
    } finally {
      await this.encoder.save(path);  // there may be room for it where there is none for a checkpoint
    }
    yield { type: 'end', step: this.state.step, path };
  }

  private async *learn(): AsyncGenerator<PretrainEvent, void, void> {
    const { config, folder, plan, state, steps, stepsPerEpoch } = this;
    let next: Promise<Batch> | undefined;
    const began = performance.now();
    const first = state.step;
    let lastSave = began;
    try {
      while (state.step < steps) {
        plan.signal?.throwIfAborted();
        const start = performance.now();
        const epoch = Math.floor(state.step / stepsPerEpoch);
        const position = { epoch, epochs: config.epochs, step: state.step % stepsPerEpoch, stepsPerEpoch };
        const rate = learningRate(config.schedule, position);
        const batch = await (next ?? this.load(state.step));
        next = undefined;
        let values: StepValues;
        let images: number;
        try {
          // The next batch is made while this one is learnt. Whoever awaits it later hears of its failure.
          if (state.step + 1 < steps) (next = this.load(state.step + 1)).catch(() => {});
          images = batch.rows.shape[0]!;
          values = await this.step(batch, position, rate);
          this.methodRun.learned?.(values, images, position);
        } finally {
          disposeBatch(batch);
        }
        const now = performance.now();
        const seconds = (now - start) / 1000;
        state.step++;
        state.epochLoss += values.loss;
        state.epochSeconds += seconds;
        const event = {
          type: 'step', step: state.step, epoch, ...values, learningRate: rate,
          imagesPerSecond: images / seconds, secondsLeft: ((now - began) / 1000 / (state.step - first)) * (steps - state.step),
        } as const;
        await folder.record(event);
        yield event;
        if (state.step % stepsPerEpoch === 0) {
          const event = { type: 'epoch', step: state.step, epoch, loss: state.epochLoss / stepsPerEpoch, seconds: state.epochSeconds } as const;
          state.epochLoss = state.epochSeconds = 0;
          await folder.record(event);
          yield event;
        }
        const { every } = plan;
        if (state.step < steps && (state.step % (every.steps ?? Infinity) === 0 || performance.now() - lastSave >= (every.seconds ?? Infinity) * 1000)) {
          yield await this.save();
          lastSave = performance.now();
        }
      }
      plan.signal?.throwIfAborted();
    } finally {
      await next?.then(disposeBatch, () => {});
    }
  }

  private async step({ rows, inputs }: Batch, position: Position, rate: number): Promise<StepValues> {
    const { method, methodRun, plan, state, trainer } = this;
    const handles = Object.fromEntries(Object.entries({ samples: rows, ...inputs }).map(([name, tensor]) => [name, tensor.handle]));
    try {
      return await job(() => native().training_step(trainer, method.step, handles, { ...methodRun.options(position), learningRate: rate }), plan.signal);
    } catch (error) {
      if (!(error instanceof NonFiniteError)) throw error;
      const path = join(this.folder.path, `failed-${String(state.step).padStart(8, '0')}.safetensors`);
      const { epoch } = position;
      await writeSafetensors(path, [['indices', rows], ...Object.entries(inputs)], { epoch: String(epoch), step: String(state.step), learningRate: String(rate) });
      throw new NonFiniteError(`step ${state.step}, epoch ${epoch}: ${error.message}; the weights are those before the step, its images are in ${path}`, { cause: error });
    }
  }

  /** Batch `step` of the run: rows of the epoch's order, and what the method learns from. */
  private async load(step: number): Promise<Batch> {
    const { config, data, methodRun, plan, stepsPerEpoch } = this;
    const epoch = Math.floor(step / stepsPerEpoch);
    if (this.order?.epoch !== epoch) {
      this.order?.rows.dispose();
      this.order = { epoch, rows: keep(Tensor.wrap(native().permutation(data.train.length, deriveSeed(config.seed, 'order'), epoch))) };
    }
    const start = (step % stepsPerEpoch) * config.batchSize;
    const rows = keep(scope(() => ops.aten.slice(this.order!.rows, 0, start, start + config.batchSize).clone()));
    const batch: Batch = { rows, inputs: {} };
    const drawn = await Promise.allSettled(Object.entries(methodRun.views(epoch)).map(async ([name, pipeline], view) => {
      batch.inputs[name] = keep(await augment(this.train, rows, { pipeline, seed: deriveSeed(config.seed, 'views'), epoch, view, signal: plan.signal }));
    }));
    try {
      const failed = drawn.find((result) => result.status === 'rejected');
      if (failed) throw failed.reason;
      for (const [name, tensor] of Object.entries(methodRun.inputs?.(rows) ?? {})) batch.inputs[name] = keep(tensor);
    } catch (error) {
      disposeBatch(batch);
      throw error;
    }
    return batch;
  }

  /** Saves the steps done, unless that was just done. */
  private async save(): Promise<PretrainEvent> {
    const { state } = this;
    if (this.saved?.step !== state.step) {
      const tensors = this.tensors();
      try {
        this.saved = { step: state.step, path: await this.folder.saveCheckpoint({ ...state, method: { ...this.methodRun.state?.numbers } }, tensors, this.plan.keepCheckpoints) };
      } finally {
        for (const [name, tensor] of tensors) if (!name.startsWith('method.')) tensor.dispose();
      }
    }
    return { type: 'checkpoint', ...this.saved! };
  }

  private tensors(): [string, Tensor][] {
    const momentum = Object.entries(native().trainer_state(this.trainer)).map(([name, handle]) => [`momentum.${name}`, keep(Tensor.wrap(handle))] as [string, Tensor]);
    const model = [...this.encoder.state()].map(([name, tensor]) => [`model.${name}`, keep(tensor)] as [string, Tensor]);
    return [...model, ...momentum, ...Object.entries(this.methodRun.state?.tensors ?? {}).map(([name, tensor]) => [`method.${name}`, tensor] as [string, Tensor])];
  }

  /** Takes the newest whole checkpoint, if any; returns the lengths of the files that belong to it. */
  private async restore(warnings: string[]): Promise<Lengths> {
    const checkpoint = await this.folder.newestCheckpoint(this.steps, (message) => warnings.push(message));
    if (!checkpoint) return EMPTY;
    const { tensors, path, state: { metricsBytes, eventBytes, method, ...state } } = checkpoint;
    try {
      const part = (prefix: string) => [...tensors].filter(([name]) => name.startsWith(prefix)).map(([name, tensor]) => [name.slice(prefix.length), tensor.handle] as [string, TensorHandle]);
      const model = part('model.');
      native().model_load_state(this.encoder.handle, model.map(([name]) => name), model.map(([, handle]) => handle), true);
      native().load_trainer_state(this.trainer, Object.fromEntries(part('momentum.')));
      const { numbers = {}, tensors: own = {} } = this.methodRun.state ?? {};
      requireNames(Object.keys(numbers), Object.keys(method));
      Object.assign(numbers, method);
      requireNames(Object.keys(own), part('method.').map(([name]) => name));
      native().copy_all(Object.values(own).map(({ handle }) => handle), Object.keys(own).map((name) => tensors.get(`method.${name}`)!.handle));
    } catch (error) {
      throw new FileError(path, `not a checkpoint of this configuration (${(error as Error).message})`, { cause: error });
    } finally {
      for (const tensor of tensors.values()) tensor.dispose();
    }
    this.state = state;
    this.saved = { step: state.step, path };
    return { metricsBytes, eventBytes };
  }

  /** Settles configuration and data, and that they belong together and to what was recorded. */
  private async resolve(): Promise<void> {
    const { plan, folder } = this;
    const recorded = folder.config === undefined ? undefined : checkConfig(folder.config);
    const asked = plan.asked ?? (recorded && checkConfig(mergeConfig(recorded, plan.changes)));
    if (!asked) throw new ArgumentTypeError('preset', `the name of a preset: there is no run in ${folder.path} to resume`, 'undefined');
    this.data = plan.data ?? (recorded && plan.changes.data?.name === undefined
      ? limitDataset(await openRecorded(recorded.data, { signal: plan.signal }), recorded.data.images)
      : await openDataset(asked.data.name, { procedural: asked.data.procedural }));
    const { train, channels, size, procedural, path } = this.data, name = recorded?.data.name ?? this.data.name;
    for (const [key, value] of Object.entries(plan.changes.data?.procedural ?? {}))
      if (value !== null && value !== procedural?.[key as keyof typeof procedural])
        throw new ArgumentRangeError(`data.procedural.${key}`, procedural ? `${procedural[key as keyof typeof procedural]}, as the open data set has` : `none: the data are ${this.data.name}`, String(value));
    this.method = methods[asked.method];
    const config: SharedConfig = { ...asked, data: { ...asked.data, name, path, procedural, images: train.length, channels, size, sha256: train.sha256({ labels: false }) } };
    this.config = (await this.method.resolve?.(config, recorded) ?? config) as PretrainConfig;
    // Where a file lies is no part of what a run is: its SHA-256 is.
    if (recorded) requireRecorded(folder.path, recorded, this.config);
    if (this.stepsPerEpoch === 0)
      throw new ArgumentRangeError('data', `at least ${this.smallestBatch} training images`, String(train.length));
  }

  private get smallestBatch(): number {
    return this.method.smallestBatch(this.config);
  }

  private get stepsPerEpoch(): number {
    const { batchSize, data } = this.config;
    const whole = Math.floor(data.images! / batchSize);
    return whole + (data.images! % batchSize >= this.smallestBatch ? 1 : 0);
  }

  private get steps(): number {
    return this.stepsPerEpoch * this.config.epochs;
  }
}

function disposeBatch({ rows, inputs }: Batch): void {
  rows.dispose();
  Object.values(inputs).forEach((tensor) => tensor.dispose());
}

function requireNames(expected: string[], received: string[]): void {
  const text = (names: string[]) => [...names].sort().join(', ') || 'none';
  if (text(expected) !== text(received)) throw new ArgumentRangeError('method', `the state ${text(expected)}`, text(received));
}
