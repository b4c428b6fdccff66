import { join } from 'node:path';
import { augment } from '../data/augment.js';
import type { Dataset, Split } from '../data/dataset.js';
import { sha256 } from '../data/hash.js';
import { measureScores } from '../evaluation/evaluate.js';
import { Classifier } from '../model/classifier.js';
import { Encoder, robustBranch } from '../model/encoder.js';
import type { TrainerHandle } from '../runtime/addon.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe, FileError, NonFiniteError } from '../runtime/errors.js';
import { job, type JobOptions } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { ops } from '../tensor/ops.js';
import { keep, noGrad, scope } from '../tensor/scope.js';
import { Tensor, tensor } from '../tensor/tensor.js';
import { mergeConfig } from './merge.js';
import { isFinetuning, MODES } from './names.js';
import { optimizerValues } from './optimizer.js';
import { checkFinetuneConfig, presets, type FinetuneConfigs, type Overrides, type PresetName, type PretrainConfig } from './presets.js';
import { checkInterval, EMPTY, requireRecorded, RunFolder, type Lengths, type SaveInterval } from './run.js';
import { learningRate } from './schedule.js';
import { deriveSeed } from './seeds.js';
import { stratified } from './stratified.js';

/**
 * - `'slf'`, standard linear fine-tuning: a linear head on clean images; the encoder stays as it is.
 * - `'alf'`, adversarial linear fine-tuning: the same on PGD adversaries of the images.
 * - `'aff'`, adversarial full fine-tuning: everything, with TRADES.
 */
export type FinetuneMode = keyof FinetuneConfigs;

const KNOWN = [
  'mode', 'preset', 'epochs', 'batchSize', 'overrides', 'branch', 'seed', 'labelFraction', 'validation', 'out', 'resume', 'overwrite', 'checkpointEvery', 'keepCheckpoints', 'onEvent', 'signal',
] as const satisfies readonly (keyof FinetuneOptions)[];

export interface FinetuneOptions<Mode extends FinetuneMode = FinetuneMode> extends JobOptions {
  mode: Mode;
  /**
   * Whose fine-tuning values to take: a preset by name, or the configuration of a run (its config.json). Default `'rocl-cifar10'`: batches of 1,024
   * images as they are, rate .1; SLF 150 epochs, a tenth from epochs 31, 51 and 101, weight decay 5e-4; ALF and AFF 25 epochs, a tenth from 16 and 21.
   */
  preset?: PresetName | PretrainConfig;
  epochs?: number;
  batchSize?: number;
  /** Any other value of the preset's. */
  overrides?: Overrides<FinetuneConfigs[Mode]>;
  /** The encoder's BatchNorm branch to use; default the preset's, else `'pgd'` where the encoder has it, else its first. */
  branch?: string;
  /** Of the head's first values, the order of the images, their views, the attacks, and who is held out. Default 0. */
  seed?: number;
  /** Learn from this share of the training images, above 0 to 1: drawn class by class, at least one a class. Default 1. */
  labelFraction?: number;
  /**
   * Hold out so many of the images learnt from: a share below 1, or a number of images; drawn class by class, so that one of each is left. After every epoch the classifier is
   * measured on them, without an attack for SLF and under PGD for ALF and AFF, and the best epoch's is returned, the first of equals. Left out: the last epoch's.
   */
  validation?: number;
  /**
   * A folder, made if needed, for config.json, metrics.jsonl, checkpoints and, at the end, classifier.safetensors. Left out: nothing is written, and an
   * interrupted call starts again.
   */
  out?: string;
  /** Go on from the newest checkpoint in `out`; start from the beginning where there is none. Default false: a folder with a run is refused. */
  resume?: boolean;
  /** Begin anew in a folder whose fine-tuning is over: once all that is given was found right its files are removed. Default false: it is refused. */
  overwrite?: boolean;
  /** As for `pretrain`: default every 300 seconds, and at the end. */
  checkpointEvery?: SaveInterval;
  /** How many checkpoints to keep. Default 2. */
  keepCheckpoints?: number;
  /** Hears of what happens, in order, from the thread that called. */
  onEvent?: (event: FinetuneEvent) => void;
}

/** What fine-tuning tells. `step` counts the steps done, `epoch` from 0. */
export type FinetuneEvent =
  | { type: 'start'; config: FinetuneRun; step: number; steps: number; stepsPerEpoch: number; images: number; validationImages: number; selection: string }
  | { type: 'warning'; message: string }
  | ({ type: 'step'; step: number; epoch: number; learningRate: number; imagesPerSecond: number; secondsLeft: number } & FinetuneStepValues)
  /** `loss` and `accuracy` are means over the images learnt from; `validationAccuracy` is that of the images held out, if any. */
  | { type: 'epoch'; step: number; epoch: number; epochs: number; loss: number; accuracy: number; learningRate: number; seconds: number; validationAccuracy?: number }
  | { type: 'checkpoint'; step: number; path: string }
  /** What belongs in `out` at the end could not all be written: the classifier is returned all the same. */
  | { type: 'unsaved'; step: number; error: Error }
  /** `epoch` is the one whose classifier is returned. */
  | { type: 'end'; step: number; epoch: number; validationAccuracy?: number };

/** The numbers of one step of fine-tuning. */
export interface FinetuneStepValues {
  loss: number;
  gradientNorm: number;
  /** Share of the batch that is right: of clean images, in ALF of the adversaries. */
  accuracy: number;
  /** Mean |adversary - image| / epsilon, in ALF and AFF. */
  perturbation?: number;
  /** TRADES' cross-entropy of the clean images. */
  natural?: number;
  /** TRADES' divergence, before beta. */
  robust?: number;
}

/** Everything that decides the result: recorded in `out`, and in the classifier's file. */
export interface FinetuneRun {
  mode: FinetuneMode;
  preset: string;
  seed: number;
  branch: string;
  labelFraction?: number | undefined;
  validation?: number | undefined;
  data: PretrainConfig['data'];
  /** SHA-256 of the encoder's weights and running statistics. */
  encoder: string;
  config: FinetuneConfigs[FinetuneMode];
}

/**
 * Puts a linear classifier on an encoder and trains it on the training images of a data set: the head alone (`slf`, `alf`) or everything (`aff`). The
 * data may be other than those of pre-training: other classes and sizes, but as many channels. The baseline to compare with is {@link randomEncoder}.
 *
 * Computes where the encoder is ({@link Encoder.to}). With `slf` and `alf` the classifier shares the encoder: its weights, and its mode, which is eval afterwards. With `aff` it has a copy, and the caller's
 * encoder stays as it is. Same seed, machine and thread count: the same bits, interrupted and resumed (`out`) or not. SLF without augmentation
 * computes features once, and is told of by epochs alone.
 *
 * Aborting `signal` stops within an attack step and, with `out`, saves a checkpoint of the steps done first.
 * @returns the classifier in eval mode; its `finetuning` says how it was made.
 * @throws {@link ArgumentTypeError} or {@link ArgumentRangeError} naming the argument; {@link NonFiniteError} when a loss or gradient is NaN or infinite;
 * {@link FileError} when `out` cannot be written or another process does (after the last step that is told as `unsaved`, a process warning without `onEvent`); the reason of `signal` when it is aborted.
 * @example
 * ```ts
 * using data = await openDataset('procedural', { procedural: { train: 40, test: 20, size: 8 } });
 * using encoder = Encoder.create({ width: 2 });   // or Encoder.load('runs/...')
 * const small = { epochs: 1, batchSize: 16, overrides: { trades: { attack: { steps: 1 } } } };   // by default the protocol's
 * using classifier = await finetune(encoder, data, { mode: 'aff', validation: 0.2, ...small, onEvent: (event) => console.log(event) });
 * ```
 */
export async function finetune<const Mode extends FinetuneMode>(encoder: Encoder, data: Dataset, options: FinetuneOptions<Mode>): Promise<Classifier> {
  if (!(encoder instanceof Encoder)) throw new ArgumentTypeError('encoder', 'an Encoder', describe(encoder));
  if (typeof data?.train !== 'object') throw new ArgumentTypeError('data', 'a Dataset', describe(data));
  if (options === undefined) throw new ArgumentTypeError('options', 'an object', 'undefined');
  const { mode, preset = 'rocl-cifar10', epochs, batchSize, overrides = {}, seed = 0, labelFraction, validation, out, resume = false, overwrite = false, checkpointEvery, keepCheckpoints = 2, onEvent, signal } =
    check.options<FinetuneOptions>('options', options as FinetuneOptions, KNOWN);
  check.oneOf('mode', mode, MODES);
  if (typeof preset === 'string') check.oneOf('preset', preset, Object.keys(presets) as PresetName[]);
  else if (typeof preset?.finetuning !== 'object') throw new ArgumentTypeError('preset', 'the name of a preset or the configuration of a run', describe(preset));
  check.integer('seed', seed, { min: 0 });
  check.function('onEvent', onEvent);
  if (labelFraction !== undefined) check.finite('labelFraction', labelFraction, { above: 0, max: 1 });
  if (validation !== undefined && !(check.finite('validation', validation, { above: 0 }) < 1)) check.integer('validation', validation);
  if (out !== undefined) check.string('out', out);
  check.boolean('resume', resume);
  if (check.boolean('overwrite', overwrite) && resume) throw new ArgumentRangeError('overwrite', 'false where resume is true', 'true');
  if (resume && out === undefined) throw new ArgumentTypeError('out', 'the folder to resume from', 'undefined');
  const every = checkInterval(checkpointEvery);
  check.integer('keepCheckpoints', keepCheckpoints, { min: 1 });
  if (data.channels !== encoder.config.channels)
    throw new ArgumentRangeError('data', `images of ${encoder.config.channels} channels, as the encoder takes`, `${data.name} with ${data.channels}`);
  const source = typeof preset === 'string' ? presets[preset] : preset;
  const config = checkFinetuneConfig(mode, mergeConfig(mergeConfig(source.finetuning[mode], overrides), { epochs, batchSize }));
  const branch = check.oneOf('branch', options.branch ?? config.branch ?? robustBranch(encoder.config), encoder.config.branches);
  check.signal('options.signal', signal)?.throwIfAborted();

  const { name, path, procedural, train, channels, size } = data;
  const run = new Finetuning({
    encoder, data, signal, out, resume, overwrite, every, keepCheckpoints, tell: onEvent ?? ((event) => { if (event.type === 'unsaved') process.emitWarning(event.error); }),
    config: {
      mode, preset: source.preset, seed, branch, labelFraction, validation, config,
      data: { name, path, procedural, images: train.length, channels, size, sha256: train.sha256({ labels: false }) },
      encoder: scope(() => sha256(...encoder.state().values())),
    },
  });
  try {
    return await run.result();
  } finally {
    await run.close();
  }
}

interface Plan {
  encoder: Encoder;
  data: Dataset;
  config: FinetuneRun;
  out: string | undefined;
  resume: boolean;
  overwrite: boolean;
  every: SaveInterval;
  keepCheckpoints: number;
  tell: (event: FinetuneEvent) => void;
  signal: AbortSignal | undefined;
}

type Named = readonly [string, Tensor];

class Finetuning {
  private folder: RunFolder | undefined;
  private classifier!: Classifier;
  private trainer!: TrainerHandle;
  /** The training images, where the encoder is; their labels, on the CPU, where a step looks at them without waiting. */
  private readonly train: Split;
  private readonly classOf: Tensor;
  /** Those learnt from, and those held out. */
  private readonly rows: number[];
  private readonly heldOut: Split | undefined;
  /** What is computed once: features of the images learnt from (SLF without views), and of those held out (SLF). */
  private features: Tensor | undefined;
  private heldOutFeatures: Tensor | undefined;
  private labels: Tensor | undefined;
  /** The rows of an epoch in its order. */
  private order: { epoch: number; rows: Tensor } | undefined;
  private state = { step: 0, epochLoss: 0, epochSeconds: 0 };
  /** Epochs that are over, their classifier measured; right answers in the one under way; the best epoch and its right answers among those held out. */
  private progress = { epochs: 0, correct: 0, bestEpoch: -1, bestCorrect: -1 };
  private best: Named[] = [];
  private saved: { step: number; epochs: number; path: string } | undefined;
  private done = false;

  constructor(private readonly plan: Plan) {
    const { encoder, data: { train, classes }, config: { mode, seed, labelFraction = 1, validation } } = plan;
    const labels = scope(() => train.labels().toTypedArray() as BigInt64Array);
    let rows = Array.from(labels.keys());
    if (labelFraction < 1) rows = stratified(labels, rows, Math.round(labelFraction * rows.length), deriveSeed(seed, 'labels'), { least: 1 });
    let heldOut: number[] = [];
    if (validation !== undefined) {
      const count = validation < 1 ? Math.round(validation * rows.length) : validation;
      const most = rows.length - new Set(rows.map((row) => labels[row])).size;
      if (count < 1 || count > most)
        throw new ArgumentRangeError('validation', `at least one of the ${rows.length} images learnt from, and one of each class left (at most ${most})`, `${validation} (${count} of them)`);
      heldOut = stratified(labels, rows, count, deriveSeed(seed, 'validation'), { spare: 1 });
      const taken = new Set(heldOut);
      rows = rows.filter((row) => !taken.has(row));
    }
    if (rows.length < smallestBatch(mode)) throw new ArgumentRangeError('data', `at least ${smallestBatch(mode)} images of ${classes.length} classes to learn from`, String(rows.length));
    this.rows = rows;
    this.train = encoder.device === 'cpu' ? train : train.to(encoder.device);
    if (heldOut.length > 0) this.heldOut = this.train.subset(heldOut);
    this.classOf = keep(tensor(labels));
  }

  async result(): Promise<Classifier> {
    const { plan, plan: { encoder, data, config, signal, tell } } = this;
    const warnings: string[] = [];
    if (plan.out !== undefined) {
      this.folder = await RunFolder.open(plan.out, plan.resume, plan.overwrite ? isFinetuning : undefined);
      const recorded = this.folder.config as FinetuneRun | undefined;
      // Data are known by the SHA-256 of their images: a folder that was moved may have another name now.
      config.data.name = recorded?.data?.name ?? config.data.name;
      if (recorded !== undefined) requireRecorded(plan.out, recorded, config);
    }
    using own = config.mode === 'aff' ? encoder.clone() : undefined;
    this.classifier = Classifier.create({ encoder: own ?? encoder, classes: data.classes.length, branch: config.branch, seed: deriveSeed(config.seed, 'head') });
    this.classifier.finetuning = config;
    const { optimizer } = config.config, precision = 'precision' in config.config ? config.config.precision : undefined;
    this.trainer = native().create_trainer(this.classifier.handle, optimizerValues(optimizer), this.prefix, precision);
    // Recorded only once nothing given can be refused any more: a start that fails leaves no run behind.
    if (this.folder) warnings.push(...await this.folder.describe(config, encoder.device));
    const lengths = this.folder && plan.resume ? await this.restore(warnings) : EMPTY;
    await this.folder?.openMetrics(lengths, `finetune-${config.mode}`);
    for (const message of warnings) tell({ type: 'warning', message });
    tell({
      type: 'start', config, step: this.state.step, steps: this.steps, stepsPerEpoch: this.stepsPerEpoch, images: this.rows.length,
      validationImages: this.heldOut?.length ?? 0, selection: this.heldOut ? this.selection.name : 'last epoch',
    });
    try {
      await this.learn();
    } catch (error) {
      if (signal?.aborted) await this.save();
      throw error;
    }
    const unsaved: Error[] = [], attempt = (write: Promise<void>) => write.catch((error: NodeJS.ErrnoException) => {
      if (!(error instanceof FileError) && error.syscall === undefined) throw error;
      unsaved.push(error);
    });
    await attempt(this.save());
    const { epochs, bestEpoch, bestCorrect } = this.progress;
    if (this.heldOut && bestEpoch !== epochs - 1) this.copyIn(this.best);
    await job(() => native().model_set_training_in_turn(this.classifier.handle, false), signal);
    if (this.folder) await attempt(this.classifier.save(join(this.folder.path, 'classifier.safetensors')));
    if (unsaved[0]) tell({ type: 'unsaved', step: this.state.step, error: unsaved[0] });
    tell({
      type: 'end', step: this.state.step, epoch: this.heldOut ? bestEpoch : epochs - 1,
      ...(this.heldOut && { validationAccuracy: bestCorrect / this.heldOut.length }),
    });
    this.done = true;
    return this.classifier;
  }

  async close(): Promise<void> {
    if (this.trainer) native().dispose_trainer(this.trainer);
    if (!this.done) this.classifier?.dispose();
    for (const tensor of [this.classOf, this.features, this.heldOutFeatures, this.labels, this.order?.rows, ...this.best.map(([, tensor]) => tensor)]) tensor?.dispose();
    this.heldOut?.dispose();
    if (this.train !== this.plan.data.train) this.train.dispose();
    await this.folder?.close();
  }

  private async learn(): Promise<void> {
    const { plan: { every, signal, tell }, state, progress, steps, stepsPerEpoch, folder } = this;
    const began = performance.now(), first = state.step;
    let lastSave = began;
    for (;;) {
      signal?.throwIfAborted();
      // Before the next step, so that a run that was stopped while its classifier was measured measures it again.
      if (state.step > 0 && state.step === (progress.epochs + 1) * stepsPerEpoch) await this.closeEpoch();
      if (state.step > first && (state.step % (every.steps ?? Infinity) === 0 || performance.now() - lastSave >= (every.seconds ?? Infinity) * 1000)) {
        await this.save();
        lastSave = performance.now();
      }
      if (state.step === steps) return;
      const start = performance.now();
      const epoch = progress.epochs, rate = this.rate(epoch);
      if (this.epochAtOnce) {
        const { loss, accuracy } = await this.probe(epoch, rate);
        state.step += stepsPerEpoch;
        state.epochLoss = loss * this.learnt;
        progress.correct = Math.round(accuracy * this.learnt);
        state.epochSeconds += (performance.now() - start) / 1000;
        continue;
      }
      const { values, images } = await this.step(epoch, rate);
      const now = performance.now(), seconds = (now - start) / 1000;
      state.step++;
      state.epochLoss += values.loss * images;
      state.epochSeconds += seconds;
      progress.correct += Math.round(values.accuracy * images);
      const event = {
        type: 'step', step: state.step, epoch, ...values, learningRate: rate,
        imagesPerSecond: images / seconds, secondsLeft: ((now - began) / 1000 / (state.step - first)) * (steps - state.step),
      } as const;
      await folder?.record(event);
      tell(event);
    }
  }

  /** One epoch of softmax regression on features that were computed once. */
  private async probe(epoch: number, rate: number): Promise<{ loss: number; accuracy: number }> {
    const { train, plan: { config: { config }, signal } } = this;
    if (!this.features) {
      using learnt = train.subset(this.rows);
      this.features = await this.encode(learnt);
      this.labels = keep(scope(() => ops.aten.index_select(this.classOf, 0, tensor(BigInt64Array.from(this.rows, BigInt)))));
    }
    const { features, labels } = this;
    using order = keep(this.permutation(epoch));
    return await job(() => native().probe_epoch(this.trainer, features.handle, labels!.handle, order.handle, config.batchSize, rate), signal);
  }

  private async step(epoch: number, rate: number): Promise<{ values: FinetuneStepValues; images: number }> {
    const { train, plan: { config: { mode, config, seed }, signal }, state, stepsPerEpoch } = this;
    const held: Tensor[] = [];
    const hold = (made: Tensor) => (held.push(keep(made)), made);
    try {
      const at = (state.step % stepsPerEpoch) * config.batchSize;
      if (this.order?.epoch !== epoch) {
        this.order?.rows.dispose();
        const rows = scope(() => ops.aten.index_select(tensor(BigInt64Array.from(this.rows, BigInt)), 0, this.permutation(epoch)));
        this.order = { epoch, rows: keep(rows) };
      }
      const rows = hold(scope(() => ops.aten.slice(this.order!.rows, 0, at, at + config.batchSize).clone()));
      const images = hold(await augment(train, rows, { pipeline: config.views ?? 'none', seed: deriveSeed(seed, 'views'), epoch, signal }));
      const labels = hold(ops.aten.index_select(this.classOf, 0, rows));
      const values = await job(() => native().training_step(
        this.trainer, mode === 'aff' ? 'trades' : 'linear', { samples: rows.handle, images: images.handle, labels: labels.handle },
        { ...stepOptions(config), seed: deriveSeed(seed, 'attack', epoch), learningRate: rate },
      ), signal);
      return { values: values as FinetuneStepValues & typeof values, images: labels.shape[0]! };
    } catch (error) {
      if (!(error instanceof NonFiniteError)) throw error;
      throw new NonFiniteError(`step ${state.step}, epoch ${epoch}: ${error.message}`, { cause: error });
    } finally {
      held.forEach((each) => each.dispose());
    }
  }

  private async closeEpoch(): Promise<void> {
    const { plan: { config: { config }, tell }, state, progress, heldOut } = this;
    const epoch = progress.epochs, start = performance.now();
    const correct = heldOut && (await this.measure(heldOut));
    const event = {
      type: 'epoch', step: state.step, epoch, epochs: config.epochs, loss: state.epochLoss / this.learnt, accuracy: progress.correct / this.learnt,
      learningRate: this.rate(epoch), seconds: state.epochSeconds + (performance.now() - start) / 1000, ...(heldOut && { validationAccuracy: correct! / heldOut.length }),
    } as const;
    if (correct !== undefined && correct > progress.bestCorrect) {
      this.best.forEach(([, tensor]) => tensor.dispose());
      this.best = scope(() => [...this.trained()].map(([name, value]) => [name, keep(value.detach().clone())] as const));
      Object.assign(progress, { bestEpoch: epoch, bestCorrect: correct });
    }
    Object.assign(progress, { epochs: epoch + 1, correct: 0 });
    Object.assign(state, { epochLoss: 0, epochSeconds: 0 });
    await this.folder?.record(event);
    tell(event);
  }

  /** How many of the images held out the classifier gets right: as they are (SLF), or without and under PGD. */
  private async measure(split: Split): Promise<number> {
    const { plan: { config: { mode, seed }, signal }, classifier } = this;
    if (mode === 'slf') {
      const features = (this.heldOutFeatures ??= await this.encode(split));
      return scope(() => noGrad(() => {
        const state = classifier.state();
        const logits = ops.aten.linear(features, state.get('head.weight')!, state.get('head.bias')!);
        return ops.aten.sum(ops.aten.eq(ops.aten.argmax(logits, 1), split.labels())).item();
      }));
    }
    const { name, values } = this.selection;
    const scores = await measureScores(classifier, split, { attacks: [name], ...values, seed: deriveSeed(seed, 'validation'), signal }, false);
    return scores[name]!.correct;
  }

  /** What checkpoints are selected by: SLF clean, ALF its attack, AFF the protocol's PGD-20 in the ball and with the steps of its TRADES. */
  private get selection() {
    const { config } = this.plan.config;
    const attack = 'trades' in config ? { ...config.trades.attack, steps: 20, randomStart: true } : 'attack' in config ? config.attack : undefined;
    if (!attack || attack.steps === 0) return { name: 'clean' } as const;
    const { steps, epsilon, stepSize, randomStart } = attack;
    return { name: `pgd${steps}`, values: { epsilon, stepSize, randomStart } } as const;
  }

  private async encode(split: Split): Promise<Tensor> {
    const { plan: { encoder, config: { branch }, signal } } = this;
    return keep(Tensor.wrap(await job(() => native().encode(encoder.handle, split.pixels.handle, branch, 256), signal)));
  }

  /** The order in which an epoch takes the images learnt from. */
  private permutation(epoch: number): Tensor {
    return Tensor.wrap(native().permutation(this.rows.length, deriveSeed(this.plan.config.seed, 'probe'), epoch));
  }

  private get prefix(): string {
    return this.plan.config.mode === 'aff' ? '' : 'head.';
  }

  /** The classifier's own tensors that training changes; to be called in a scope, which frees them. */
  private trained(): Map<string, Tensor> {
    return new Map([...this.classifier.state()].filter(([name]) => name.startsWith(this.prefix)));
  }

  /** Copies values into the tensors of {@link trained}, which must all be there. */
  private copyIn(values: readonly Named[]): void {
    scope(() => {
      const target = this.trained(), source = new Map(values);
      const odd = [...target.keys(), ...source.keys()].find((name) => !target.has(name) || !source.has(name));
      if (odd !== undefined) throw new ArgumentRangeError('state', `the tensors ${[...target.keys()].join(', ')}`, `${odd} missing or unexpected`);
      native().copy_all([...source.keys()].map((name) => target.get(name)!.handle), [...source.values()].map(({ handle }) => handle));
    });
  }

  private async save(): Promise<void> {
    const { folder, plan, state, progress } = this;
    if (!folder || (this.saved?.step === state.step && this.saved.epochs === progress.epochs)) return;
    const own: Named[] = [
      ...scope(() => [...this.trained()].map(([name, value]) => [`model.${name}`, keep(value)] as const)),
      ...Object.entries(native().trainer_state(this.trainer)).map(([name, handle]) => [`momentum.${name}`, keep(Tensor.wrap(handle))] as const),
    ];
    try {
      const tensors = [...own, ...this.best.map(([name, value]) => [`best.${name}`, value] as const)];
      const path = await folder.saveCheckpoint({ ...state, method: progress }, tensors, plan.keepCheckpoints);
      this.saved = { step: state.step, epochs: progress.epochs, path };
    } finally {
      for (const [, value] of own) value.dispose();
    }
    plan.tell({ type: 'checkpoint', step: state.step, path: this.saved.path });
  }

  /** Takes the newest whole checkpoint, if any; returns the lengths of the files that belong to it. */
  private async restore(warnings: string[]): Promise<Lengths> {
    const checkpoint = await this.folder!.newestCheckpoint(this.steps, (message) => warnings.push(message));
    if (!checkpoint) return EMPTY;
    const { tensors, path, state: { metricsBytes, eventBytes, method, ...state } } = checkpoint;
    try {
      const part = (prefix: string): Named[] => [...tensors].filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]);
      this.copyIn(part('model.'));
      native().load_trainer_state(this.trainer, Object.fromEntries(part('momentum.').map(([name, value]) => [name, value.handle])));
      this.progress = Object.assign(this.progress, method);
      this.best = part('best.').map(([name, value]) => [name, keep(value.clone())] as const);
    } catch (error) {
      throw new FileError(path, `not a checkpoint of this configuration (${(error as Error).message})`, { cause: error });
    } finally {
      for (const value of tensors.values()) value.dispose();
    }
    Object.assign(this.state, state);
    this.saved = { step: state.step, epochs: this.progress.epochs, path };
    return { metricsBytes, eventBytes };
  }

  private rate(epoch: number): number {
    const { config } = this.plan.config;
    return learningRate(config.schedule, { epoch, epochs: config.epochs, step: 0, stepsPerEpoch: 1 });
  }

  /** Features of images that stay as they are are computed once, and an epoch on them is one job. */
  private get epochAtOnce(): boolean {
    const { mode, config } = this.plan.config;
    return mode === 'slf' && config.views === undefined;
  }

  private get stepsPerEpoch(): number {
    return Math.ceil(this.learnt / this.plan.config.config.batchSize);
  }

  /** Images of an epoch: all, but for a last batch that is too small. */
  private get learnt(): number {
    const { mode, config: { batchSize } } = this.plan.config;
    const last = this.rows.length % batchSize;
    return last < smallestBatch(mode) ? this.rows.length - last : this.rows.length;
  }

  private get steps(): number {
    return this.stepsPerEpoch * this.plan.config.config.epochs;
  }
}

/** In train mode BatchNorm may see single values a channel, of which it needs two. */
const smallestBatch = (mode: FinetuneMode): number => (mode === 'aff' ? 2 : 1);

/** What the native step takes of a configuration. */
function stepOptions(config: FinetuneConfigs[FinetuneMode]) {
  if ('trades' in config) return config.trades;
  return 'attack' in config ? { attack: config.attack } : {};
}
