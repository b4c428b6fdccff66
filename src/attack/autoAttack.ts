/** AutoAttack: four attacks one after the other, each on the samples that still stand. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { z } from 'zod';
import { Model } from '../model/model.js';
import { type AttackModel, predict } from '../model/predict.js';
import { readSafetensors, writeSafetensors } from '../model/safetensors.js';
import { ArgumentRangeError, FileError, check } from '../runtime/errors.js';
import type { JobOptions } from '../runtime/job.js';
import { version } from '../runtime/version.js';
import { ops } from '../tensor/ops.js';
import { keep, scope } from '../tensor/scope.js';
import { bytesOf, Tensor, tensor } from '../tensor/tensor.js';
import { type BallOptions, resolveBall } from './attack.js';
import { type Doubt, doubts } from './doubts.js';
import { type AttackSettings, type NamedAttack, type NamedAttackOptions, type SingleAttack, namedAttack } from './named.js';
import { type EvaluationData, agreeing, checkData, checkInside, gatherSamples, readSamples, rowsOf, samplesOf, select } from './samples.js';

/** The attacks of version `'standard'` (Croce & Hein, ICML 2020), in their order. */
const STANDARD = ['apgd-ce', 'apgd-t', 'fab-t', 'square'] as const satisfies readonly SingleAttack[];
/** About how much a sample costs that stands: forward passes, a backward pass counting as two. */
const COST = { 'apgd-ce': 300, 'apgd-t': 2700, 'fab-t': 3600, square: 5000 } as const satisfies Record<(typeof STANDARD)[number], number>;

/** An attack of AutoAttack, or `'clean'`: a sample that is classified wrong without any. */
export type AutoAttackStage = 'clean' | (typeof STANDARD)[number];

/** Progress: `done` of `total` samples of an attack, `standing` of all samples are left, `share` of all the work is done, about. */
export interface AutoAttackProgress {
  attack: AutoAttackStage;
  done: number;
  total: number;
  standing: number;
  share: number;
}

export interface AutoAttackOptions extends BallOptions, JobOptions {
  /** Which attacks: `'standard'` (the default) is APGD-CE, targeted APGD-DLR, targeted FAB, Square. */
  version?: 'standard';
  /** Default 0. */
  seed?: number;
  /** Images a forward pass. Default 256. */
  batchSize?: number;
  /** The first samples only. Default: all. */
  limit?: number;
  /** Give back the adversaries too. Default false. */
  keepAdversaries?: boolean;
  /**
   * A file to keep the results in, while they come: when it exists, the call goes on where it stopped. It is refused where model, data
   * or settings are not those that it was begun with, or the version of this package is another. A model is known by its configuration (a TorchScript
   * model by its file) and its tensors.
   */
  state?: string;
  /** With `state`: stands for the model too. A function needs one, since nothing else tells what it computes: another key for other weights. */
  stateKey?: string;
  onProgress?: (progress: AutoAttackProgress) => void;
}

/** What one attack did, with its settings. */
export interface AutoAttackStep {
  attack: (typeof STANDARD)[number];
  /** Samples that stood before it. */
  attacked: number;
  /** Samples that it broke. */
  broken: number;
  /** Accuracy after it: the share of all samples that stand. */
  accuracy: number;
  /** What it took. */
  seconds: number;
  settings: AttackSettings;
}

export interface AutoAttackReport {
  /** correct / total: the robust accuracy. */
  accuracy: number;
  /** Samples that are classified right and that no attack broke. */
  correct: number;
  total: number;
  /** Without an attack. */
  clean: { accuracy: number; correct: number };
  /** One after the other. */
  attacks: AutoAttackStep[];
  /** What broke each sample; null: it stands. */
  brokenBy: (AutoAttackStage | null)[];
  /**
   * What makes the result doubtful, a sentence each, as the authors' implementation warns: outputs that vary from call to call or are probabilities, a
   * cross-entropy without a gradient for some samples (each on the first 256 samples); and Square, which needs no gradients, breaking more than 0.2 % of all
   * samples after the others.
   */
  warnings: string[];
  /** Of all attacks together, over all samples. */
  secondsPerImage: number;
  settings: { version: 'standard'; norm: 'linf' | 'l2'; epsilon: number; seed: number; batchSize: number; limit: number };
  /** With `keepAdversaries`: `[total, C, H, W]`, the adversary of every sample that an attack broke, the image of every other. */
  adversaries?: Tensor;
}

const KNOWN = [
  'norm', 'epsilon', 'version', 'seed', 'batchSize', 'limit', 'keepAdversaries', 'state', 'stateKey', 'signal', 'onProgress',
] as const satisfies readonly (keyof AutoAttackOptions)[];

/** Where an evaluation stands, as kept on disk beside `broken` and the adversaries. */
const position = z.strictObject({
  /** Of what the results are: digests, and the settings as text. */
  version: z.string(), model: z.string(), data: z.string(), settings: z.string(),
  /** Attacks that are done; and of the next one, how many of the samples it need not see any more. */
  attacks: z.int().min(0).max(STANDARD.length), samples: z.int().min(0),
  /** By attack. */
  seconds: z.array(z.number().min(0)).length(STANDARD.length), attacked: z.array(z.int().min(0)).length(STANDARD.length),
});
const METADATA = 'a_infonce.autoattack';

/**
 * The robust accuracy of a classifier by AutoAttack (Croce & Hein, ICML 2020), version standard: APGD on the cross-entropy (100 steps), APGD on the DLR
 * loss towards 9 targets (100 steps each), FAB towards 9 targets (100 steps each) and Square (5000 queries), each on the samples that are classified
 * right and still stand: the worst case counts. An adversary counts only if it lies in the ball and in [0, 1] and the model, asked once more, classifies
 * it wrong. The model is in eval mode throughout. Runs off the main thread.
 * @param model a Classifier, a TorchScriptModel or a function, from images in [0, 1] to logits of at least 4 classes: normalisation belongs inside.
 * @returns which attack broke which sample, and every setting.
 * @throws {@link ArgumentRangeError}, {@link ArgumentTypeError} naming the argument; {@link NonFiniteError} when logits or gradients are NaN or infinite;
 * {@link FileError} when `state` is damaged, or of another model, other data, other settings or another version; the signal's reason when aborted: with `state`, a later call
 * goes on there.
 * @example
 * ```ts
 * using classifier = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * const data = proceduralDataset({ train: 10, test: 20 });
 * const { accuracy, attacks, brokenBy } = await autoAttack(classifier, data.test, { epsilon: 8 / 255, limit: 4 });
 * console.log(accuracy, attacks, brokenBy);
 * ```
 */
export async function autoAttack(model: AttackModel, data: EvaluationData, options?: AutoAttackOptions): Promise<AutoAttackReport>;
/** The same on `images` `[N, C, H, W]` in [0, 1] and `labels`, int64 `[N]`. */
export async function autoAttack(model: AttackModel, images: Tensor, labels: Tensor, options?: AutoAttackOptions): Promise<AutoAttackReport>;
export async function autoAttack(
  model: AttackModel, source: EvaluationData | Tensor, second?: Tensor | AutoAttackOptions, third?: AutoAttackOptions,
): Promise<AutoAttackReport> {
  return source instanceof Tensor ? runAutoAttack(model, samplesOf(source, second), third) : runAutoAttack(model, source, second as AutoAttackOptions | undefined);
}

/** `make`: the attack of each name. @internal */
export async function runAutoAttack(model: AttackModel, data: EvaluationData, options: AutoAttackOptions | undefined, make?: typeof attackOf): Promise<AutoAttackReport> {
  using evaluation = await beginAutoAttack(model, data, options, make);
  const { settings, attacks, how: { signal } } = evaluation;
  return await evaluation.run(await doubts(model, data, attacks.map((attack) => attack.settings), { ...settings, signal }));
}

const attackOf = (name: AutoAttackStep['attack'], given: NamedAttackOptions): NamedAttack => namedAttack(name, given, 'options.version');

/**
 * AutoAttack up to where it takes its time: who is right without an attack is known, and whatever can be refused is, as a model of too few classes, or a
 * state that cannot be written or is of something else. The caller's. @internal
 */
export async function beginAutoAttack(model: AttackModel, data: EvaluationData, options: AutoAttackOptions | undefined, make = attackOf): Promise<Evaluation> {
  const { signal, onProgress, ...given } = check.options('options', options, KNOWN);
  checkData(data);
  check.function('options.onProgress', onProgress);
  const { norm, epsilon } = resolveBall(given);
  const settings = {
    version: check.oneOf('options.version', given.version ?? 'standard', ['standard']), norm, epsilon,
    seed: check.integer('options.seed', given.seed ?? 0, { min: 0 }),
    batchSize: check.integer('options.batchSize', given.batchSize ?? 256, { min: 1 }),
    limit: Math.min(data.length, given.limit === undefined ? Infinity : check.integer('options.limit', given.limit, { min: 1 })),
  };
  const path = given.state === undefined ? undefined : check.string('options.state', given.state);
  const key = given.stateKey === undefined ? undefined : check.string('options.stateKey', given.stateKey);
  if (path !== undefined && key === undefined && typeof model === 'function')
    throw new ArgumentRangeError('options.stateKey', 'a name for the function that is the model, by which to know it again in options.state', 'undefined');
  const keepAdversaries = check.boolean('options.keepAdversaries', given.keepAdversaries ?? false);
  const attacks = STANDARD.map((name) => make(name, { norm, epsilon, seed: settings.seed, batchSize: settings.batchSize }));
  const evaluation = new Evaluation(model, data, attacks, settings, { path, key, keepAdversaries, signal, onProgress });
  try {
    await evaluation.begin();
    return evaluation;
  } catch (error) {
    evaluation[Symbol.dispose]();
    throw error;
  }
}

interface How {
  path: string | undefined;
  key: string | undefined;
  keepAdversaries: boolean;
  signal: AbortSignal | undefined;
  onProgress: AutoAttackOptions['onProgress'];
}

class Evaluation implements Disposable {
  readonly #position: z.infer<typeof position>;
  /** By sample: 0 stands, 1 wrong without an attack, 2 + i broken by attack i. */
  #broken: Uint8Array;
  #adversaries: Tensor | undefined;
  /** When the state was saved, and how long that took. */
  #saved = { at: -Infinity, took: 0 };

  constructor(
    readonly model: AttackModel, readonly data: EvaluationData, readonly attacks: NamedAttack[], readonly settings: AutoAttackReport['settings'], readonly how: How,
  ) {
    this.#broken = new Uint8Array(settings.limit);
    const none = STANDARD.map(() => 0);
    // Results do not depend on the batch size: it may change from call to call.
    const text = JSON.stringify({ ...settings, keepAdversaries: how.keepAdversaries, attacks: attacks.map((attack) => attack.settings) }, (key, value: unknown) => (key === 'batchSize' ? undefined : value));
    this.#position = { version, model: '', data: '', settings: text, attacks: 0, samples: 0, seconds: none, attacked: [...none] };
  }

  async begin(): Promise<void> {
    await this.#clean();
    await this.#resume();
    await this.#save(); // a place that cannot be written is told before anything takes time
  }

  /** `found`: what makes the result doubtful before any attack. */
  async run(found: readonly Doubt[]): Promise<AutoAttackReport> {
    try {
      for (const position = this.#position; position.attacks < STANDARD.length; position.attacks++, position.samples = 0) await this.#attack(position.attacks);
    } catch (error) {
      await this.#save().catch(() => {}); // what counts is the first error
      throw error;
    }
    await this.#save();
    return this.#report(found.map(({ sentence }) => sentence));
  }

  [Symbol.dispose]() {
    this.#adversaries?.dispose();
  }

  /** Who is classified right; and what a state must be of. */
  async #clean() {
    const { model, data, how, settings: { limit, batchSize } } = this;
    const digests = { images: createHash('sha256'), labels: createHash('sha256'), predicted: createHash('sha256') }, kept: Tensor[] = [];
    await scope(async () => {
      for (let start = 0; start < limit; start += batchSize) {
        const end = Math.min(limit, start + batchSize);
        const { images, labels } = await scope(async () => {
          const read = await readSamples(data, start, end);
          const { predicted, logits } = await predict(model, read.images, { batchSize, signal: how.signal }), classes = logits.shape[1]!;
          if (classes < 4) throw new ArgumentRangeError('model', 'at least 4 classes, for the DLR loss of AutoAttack', String(classes));
          const right = new Set(agreeing(predicted, read.labels, { classes, start }));
          for (let row = 0; row < end - start; row++) this.#broken[start + row] = right.has(row) ? 0 : 1;
          if (how.path !== undefined) {
            const [images, labels, classes] = bytesOf(read.images, read.labels, predicted) as [Uint8Array, Uint8Array, Uint8Array];
            digests.images.update(images), digests.labels.update(labels), digests.predicted.update(classes);
          }
          return read;
        });
        labels.dispose();
        if (how.keepAdversaries) kept.push(images);
        else images.dispose();
        this.#progress('clean', end, limit);
      }
      if (how.keepAdversaries) this.#adversaries = keep(ops.aten.cat(kept));
    });
    this.#position.data = digests.images.digest('hex') + digests.labels.digest('hex');
    this.#position.model = (how.path === undefined ? '' : digestOf(model, how.key)) + digests.predicted.digest('hex');
  }

  async #attack(index: number) {
    const { model, data, how, settings: { limit, batchSize } } = this;
    const name = STANDARD[index]!, position = this.#position;
    const left = Array.from(this.#broken.keys()).filter((sample) => sample >= position.samples && this.#broken[sample] === 0);
    const before = position.attacked[index]!, total = before + left.length;
    for (let at = 0; at < left.length; at += batchSize) {
      const numbers = left.slice(at, at + batchSize), began = performance.now();
      const report = (share: number) => this.#progress(name, before + at + numbers.length * share, total);
      await scope(async () => {
        const { images, labels } = await gatherSamples(data, numbers);
        const watch = { signal: how.signal, onProgress: ({ done, total }: { done: number; total: number }) => done < total && report(done / total) };
        const adversaries = await this.attacks[index]!.run(model, images, labels, rowsOf(numbers), watch);
        checkInside(name, this.settings, images, adversaries, numbers);
        const standing = new Set(agreeing((await predict(model, adversaries, { batchSize, signal: how.signal })).predicted, labels));
        const moved = (ops.aten.any(ops.aten.flatten(ops.aten.ne(adversaries, images), 1), 1) as Tensor).toTypedArray();
        // An adversary that is its image breaks nothing: batches of another size may round a tie between two classes the other way.
        const rows = Array.from(numbers.keys()).filter((row) => !standing.has(row) && moved[row]);
        for (const row of rows) this.#broken[numbers[row]!] = 2 + index;
        if (this.#adversaries && rows.length > 0)
          ops.aten.index_copy_(this.#adversaries, 0, rowsOf(rows.map((row) => numbers[row]!), this.#adversaries), select(adversaries, rows));
      });
      position.samples = numbers.at(-1)! + 1;
      position.attacked[index] = before + at + numbers.length;
      position.seconds[index]! += (performance.now() - began) / 1000;
      report(1);
      // A large state is saved more seldom, so that saving takes a twentieth of the time at most.
      if (performance.now() - this.#saved.at > 20 * this.#saved.took) await this.#save();
    }
    position.samples = limit;
  }

  #progress(attack: AutoAttackStage, done: number, total: number) {
    if (!this.how.onProgress) return;
    const { attacked } = this.#position, standing = this.#broken.reduce((sum, value) => sum + Number(value === 0), 0);
    const index = STANDARD.indexOf(attack as never), cost = (i: number) => COST[STANDARD[i]!];
    let finished = 0, remaining = 0;
    for (let i = 0; i < STANDARD.length; i++) {
      finished += cost(i) * (i === index ? done : attacked[i]!);
      remaining += cost(i) * (i === index ? total - done : i > index ? standing : 0);
    }
    this.how.onProgress({ attack, done, total, standing, share: remaining + finished === 0 ? 1 : finished / (finished + remaining) });
  }

  async #save() {
    const { path } = this.how;
    if (path === undefined) return;
    const began = performance.now();
    await scope(() => writeSafetensors(
      path, [['broken', tensor(this.#broken)], ...(this.#adversaries ? [['adversaries', this.#adversaries] as const] : [])],
      { [METADATA]: JSON.stringify(this.#position) }));
    this.#saved = { at: performance.now(), took: performance.now() - began };
  }

  /** Takes over the state on disk, if there is one. */
  async #resume() {
    const { path } = this.how;
    if (path === undefined || (await stat(path).catch(() => undefined)) === undefined) return;
    await scope(async () => {
      const { tensors, metadata } = await readSafetensors(path, { requireChecksum: true });
      const broken = tensors.get('broken')?.toTypedArray(), adversaries = tensors.get('adversaries');
      const found = position.safeParse(parsed(metadata[METADATA])).data, [mine, theirs] = [parsed(this.#position.settings), parsed(found?.settings)];
      if (!(broken instanceof Uint8Array) || found === undefined || mine === undefined || theirs === undefined) throw new FileError(path, 'not the state of an AutoAttack evaluation. Name another file for it: it is made if it is not there');
      const others = Object.keys(mine).filter((key) => JSON.stringify(mine[key]) !== JSON.stringify(theirs[key]));
      const why = found.version !== version ? `by version ${found.version}` : found.settings !== this.#position.settings ? `with other settings (${others.join(', ')})` : found.data !== this.#position.data ? 'on other data'
        : found.model !== this.#position.model ? 'of another model' : undefined;
      if (why !== undefined) throw new FileError(path, `the state of an evaluation ${why}. Name another file, or delete this one`);
      this.#checkContents(path, found, broken, adversaries);
      this.#broken.set(broken);
      Object.assign(this.#position, found);
      if (adversaries) {
        this.#adversaries?.dispose();
        this.#adversaries = keep(adversaries);
      }
    });
  }

  /** That what the file at `path` says can be: `this` still is where an evaluation begins. */
  #checkContents(path: string, { attacks, samples, attacked }: z.infer<typeof position>, broken: Uint8Array, adversaries: Tensor | undefined) {
    const { limit, batchSize } = this.settings, images = this.#adversaries, damaged = (what: string) => new FileError(path, `a damaged state: ${what}`);
    const kept = (tensor: Tensor | undefined) => tensor && `${tensor.dtype} [${tensor.shape.join(', ')}]`;
    if (broken.length !== limit) throw damaged(`it is of ${broken.length} samples, not ${limit}`);
    const wrong = broken.findIndex((value, i) => value > 2 + attacks || (value === 1) !== (this.#broken[i] === 1));
    if (wrong >= 0) throw damaged(`sample ${wrong} cannot be ${broken[wrong]}`);
    if (samples > limit || attacked.some((count) => count > limit)) throw damaged(`it counts more than ${limit} samples`);
    if (kept(adversaries) !== kept(images)) throw damaged(`its adversaries are ${kept(adversaries) ?? 'missing'}, not ${kept(images) ?? 'asked for'}`);
    for (let start = 0; images && adversaries && start < limit; start += batchSize) {
      const numbers = Array.from({ length: Math.min(batchSize, limit - start) }, (_, row) => start + row);
      const [from, to] = [images, adversaries].map((each) => ops.aten.slice(each, 0, start, start + numbers.length)) as [Tensor, Tensor];
      try {
        checkInside('adversaries', this.settings, from, to, numbers);
      } catch (error) {
        throw damaged((error as Error).message);
      }
    }
  }

  #report(doubtful: string[]): AutoAttackReport {
    const { limit } = this.settings, { attacked, seconds } = this.#position;
    const count = (value: number) => this.#broken.reduce((sum, each) => sum + Number(each === value), 0);
    const correct = count(0), right = limit - count(1);
    let standing = right;
    const attacks = STANDARD.map((attack, i) => {
      const broken = count(2 + i);
      standing -= broken;
      return { attack, attacked: attacked[i]!, broken, accuracy: standing / limit, seconds: seconds[i]!, settings: this.attacks[i]!.settings };
    });
    const late = count(2 + STANDARD.indexOf('square'));
    const warnings = late > 0.002 * limit
      ? [...doubtful, `Square broke ${late} of ${limit} samples after the attacks that follow gradients: these may be misled, and the robust accuracy overestimated.`] : doubtful;
    const adversaries = this.#adversaries;
    this.#adversaries = undefined; // the caller's now
    return {
      accuracy: correct / limit, correct, total: limit, clean: { accuracy: right / limit, correct: right }, attacks,
      brokenBy: Array.from(this.#broken, (value) => (value === 0 ? null : value === 1 ? 'clean' : STANDARD[value - 2]!)),
      warnings, secondsPerImage: seconds.reduce((sum, each) => sum + each) / limit, settings: this.settings,
      ...(adversaries && { adversaries }),
    };
  }
}

/** Of what a model computes: a TorchScript program or a configuration, and the tensors; of a function, the key that it was given. */
function digestOf(model: AttackModel, key: string | undefined): string {
  const digest = createHash('sha256').update(JSON.stringify([key, 'sha256' in model ? model.sha256 : 'config' in model ? model.config : null]));
  if (model instanceof Model)
    scope(() => {
      const state = [...model.state()], bytes = bytesOf(...state.map(([, value]) => value));
      state.forEach(([name, value], i) => digest.update(`${name} ${value.dtype} ${value.shape} `).update(bytes[i]!));
    });
  return digest.digest('hex');
}

/** The object that the text is, if it is one. */
function parsed(text: string | undefined): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text ?? 'null');
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
