/** Is a robust accuracy to be believed? Checks for what makes evaluations wrong. */
import { type BallOptions, resolveBall, resolveStep, runLabelled } from '../attack/attack.js';
import { hasGradient, resolvePgdOptions, runPgd } from '../attack/pgd.js';
import { type EvaluationData, agreeing, checkClasses, checkData, readSamples, rowsOf, select } from '../attack/samples.js';
import { resolveSquareOptions } from '../attack/square.js';
import { type AttackModel, predict } from '../model/predict.js';
import { ArgumentRangeError, NonFiniteError, check } from '../runtime/errors.js';
import type { JobOptions } from '../runtime/job.js';
import { checkImages } from '../tensor/check.js';
import { ops } from '../tensor/ops.js';
import { keep, scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';

/** What is checked, in this order. See {@link checkEvaluation}. */
export type EvaluationCheckName =
  | 'data' | 'range' | 'logits' | 'deterministic' | 'batch' | 'clean' | 'sensitivity' | 'gradients'
  | 'epsilon-0' | 'large-epsilon' | 'epsilons' | 'steps' | 'noise' | 'black-box' | 'ball';

/** What one check found. */
export interface EvaluationCheck {
  check: EvaluationCheckName;
  ok: boolean;
  /** A sentence: what was found, and where it is wrong what that means. */
  message: string;
  /** The measurements behind it. */
  numbers: Record<string, number>;
}

export interface CheckEvaluationOptions extends BallOptions, JobOptions {
  /** Of a step of the gradient attack, with the radius epsilon; with others in proportion. Default epsilon/4. */
  stepSize?: number | undefined;
  /** Steps of the gradient attack. Default 20. */
  steps?: number;
  /** Queries of the black-box attack. Default 200. */
  queries?: number;
  /** Use the first samples only. Default 100. */
  limit?: number;
  /** Default 0. */
  seed?: number;
  /** Images a forward pass. Default 256. */
  batchSize?: number;
  /**
   * The gradient attack to check: adversaries of `images`, which the model gets right, within `epsilon`. One step should be the plain one-step attack.
   * Default {@link pgd} with steps of `stepSize`, from a random start; with one step, from the image by epsilon.
   */
  attack?: (images: Tensor, labels: Tensor, settings: { norm: 'linf' | 'l2'; epsilon: number; steps: number }) => Tensor | Promise<Tensor>;
  /** Called before each check. */
  onProgress?: (progress: { check: EvaluationCheckName; done: number; total: number }) => void;
}

/** What {@link checkEvaluation} found. */
export interface EvaluationDiagnosis {
  /** Every check that was made passed. */
  ok: boolean;
  checks: EvaluationCheck[];
  settings: { norm: 'linf' | 'l2'; epsilon: number; stepSize: number; steps: number; queries: number; limit: number; seed: number; batchSize: number };
}

const KNOWN = ['norm', 'epsilon', 'stepSize', 'steps', 'queries', 'limit', 'seed', 'batchSize', 'attack', 'signal', 'onProgress'] as const satisfies readonly (keyof CheckEvaluationOptions)[];
const ORDER = [
  'data', 'range', 'logits', 'deterministic', 'batch', 'clean', 'sensitivity', 'gradients', 'epsilon-0', 'large-epsilon', 'epsilons', 'steps', 'noise', 'black-box', 'ball',
] as const satisfies readonly EvaluationCheckName[];

/**
 * Looks for what makes robust accuracies wrong, on the first samples of a data set. Counts are compared sample by sample: of two attacks that should be
 * ordered, the weaker one "wins" if the samples that it alone fools outnumber those of the other by more than two standard deviations (McNemar).
 *
 * | check | passes when |
 * | --- | --- |
 * | `data` | there are samples, of more than one image and class |
 * | `range` | pixels lie in [0, 1] and use it: normalisation belongs inside the model |
 * | `logits` | logits are finite, and differ between classes and images |
 * | `deterministic` | two forward passes agree |
 * | `batch` | an image gets the same logits alone and in a batch: no BatchNorm in train mode |
 * | `clean` | the clean accuracy is better than chance |
 * | `sensitivity` | noise of 1/255 changes few predictions, noise of 1/2 changes some |
 * | `gradients` | the loss has a gradient: no zeros for most pixels or whole images, no NaN |
 * | `epsilon-0` | an attack of radius 0 changes nothing |
 * | `large-epsilon` | an attack of a huge radius leaves almost nothing (linf: 1/2; l2: as long a change) |
 * | `epsilons` | a larger radius does not fool fewer (epsilon/2, epsilon, 2 epsilon) |
 * | `steps` | more steps do not fool fewer (1, steps/2, steps): one-step attacks must not beat iterative ones |
 * | `noise` | neither random noise nor the other images' perturbations fool more than the attack |
 * | `black-box` | {@link square}, which sees no gradients, does not fool more than the attack |
 * | `ball` | all adversaries made on the way are within epsilon and [0, 1] |
 *
 * Checks end early where the rest would say nothing: without samples, on NaN, without a sample that is right or without gradients.
 * The model is in eval mode throughout. Runs off the main thread.
 * @param model a Classifier, a TorchScriptModel or a function, from images to logits.
 * @throws {@link ArgumentRangeError}, {@link ArgumentTypeError} naming the argument, also when `data` does not give what it was asked for; the signal's reason
 * when aborted; whatever a function model or `options.attack` throws.
 * @example
 * ```ts
 * using classifier = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 });
 * const { ok, checks } = await checkEvaluation(classifier, proceduralDataset({ train: 10, test: 20 }).test, { limit: 20, steps: 2, queries: 5 });
 * for (const { check, message } of checks.filter((each) => !each.ok)) console.log(check, message);
 * ```
 */
export async function checkEvaluation(model: AttackModel, data: EvaluationData, options?: CheckEvaluationOptions): Promise<EvaluationDiagnosis> {
  const given = check.options('options', options, KNOWN);
  check.function('options.onProgress', given.onProgress);
  check.function('options.attack', given.attack);
  const ball = resolveBall(given);
  const settings = {
    ...ball,
    stepSize: resolveStep(given.stepSize, ball),
    steps: check.integer('options.steps', given.steps ?? 20, { min: 2, max: 1e6 }),
    queries: check.integer('options.queries', given.queries ?? 200, { min: 1, max: 1e6 }),
    limit: check.integer('options.limit', given.limit ?? 100, { min: 1 }),
    seed: check.integer('options.seed', given.seed ?? 0, { min: 0 }),
    batchSize: check.integer('options.batchSize', given.batchSize ?? 256, { min: 1 }),
  };
  if (settings.epsilon === 0) throw new ArgumentRangeError('options.epsilon', 'a number above 0', '0');
  const checks = await scope(() => examine(model, data, settings, given));
  return { ok: checks.every(({ ok }) => ok), checks, settings };
}

type Settings = EvaluationDiagnosis['settings'];
const { aten, a_infonce } = ops;

/** Makes the checks one after the other, as far as they make sense. */
async function examine(model: AttackModel, data: EvaluationData, settings: Settings, given: CheckEvaluationOptions): Promise<EvaluationCheck[]> {
  if (Number(data?.length) === 0)
    return [{ check: 'data', ok: false, message: 'The data set holds no samples: the loader has loaded nothing.', numbers: { samples: 0 } }];
  checkData(data);
  const { images, labels } = await readSamples(data, 0, Math.min(settings.limit, data.length));
  using bench = new Bench(model, images, labels, settings, given);
  const checks: EvaluationCheck[] = [];
  for (const [done, name] of ORDER.entries()) {
    given.onProgress?.({ check: name, done, total: ORDER.length });
    given.signal?.throwIfAborted();
    const { ends, ...found } = await scope(async () => bench.make(name));
    checks.push({ check: name, ...found });
    if (ends) break;
  }
  return checks;
}

/** A check's outcome. `ends`: what follows would say nothing. */
type Outcome = Omit<EvaluationCheck, 'check'> & { ends?: boolean };

/** Which of the samples that are right without an attack are wrong under it. */
type Fooled = readonly boolean[];

/** The samples, the model and what has been measured on them. */
class Bench implements Disposable {
  readonly #kept: Tensor[] = [];
  readonly #struck = new Map<string, Fooled>();
  /** Rows of the images that the model gets right, and those images. */
  #right: number[] = [];
  #images!: Tensor;
  #labels!: Tensor;
  #logits!: Tensor;
  /** What the attack changed at (epsilon, steps). */
  #perturbation!: Tensor;
  #excess = -Infinity;
  #outside = 0;

  constructor(
    readonly model: AttackModel, readonly images: Tensor, readonly labels: Tensor, readonly settings: Settings, readonly given: CheckEvaluationOptions,
  ) {}

  [Symbol.dispose](): void {
    for (const tensor of this.#kept) tensor.dispose();
  }

  make(name: EvaluationCheckName): Outcome | Promise<Outcome> {
    switch (name) {
      case 'data': return this.#data();
      case 'range': return this.#range();
      case 'logits': return this.#finite();
      case 'deterministic': return this.#deterministic();
      case 'batch': return this.#batch();
      case 'clean': return this.#clean();
      case 'sensitivity': return this.#sensitivity();
      case 'gradients': return this.#gradients();
      case 'epsilon-0': return this.#epsilonZero();
      case 'large-epsilon': return this.#largeEpsilon();
      case 'epsilons': return this.#epsilons();
      case 'steps': return this.#steps();
      case 'noise': return this.#noise();
      case 'black-box': return this.#blackBox();
      case 'ball': return this.#ball();
    }
  }

  #data(): Outcome {
    const samples = this.images.shape[0]!;
    const distinct = 1 + rowValues(largestOfRow(aten.sub(this.images, aten.slice(this.images, 0, 0, 1)))).filter((value) => value > 0).length;
    const classes = new Set(this.labels.toTypedArray() as BigInt64Array).size;
    const numbers = { samples, classes, imagesUnlikeTheFirst: distinct - 1 };
    if (samples > 1 && distinct === 1) return bad(`All ${samples} images are the same: the loader does not load them.`, numbers, true);
    if (samples > 1 && classes === 1) return bad(`All ${samples} samples are of class ${this.labels.toTypedArray()[0]}: a class by itself says little; shuffle the data.`, numbers);
    return good(`${samples} samples of ${classes} classes.`, numbers);
  }

  #range(): Outcome {
    const lowest = aten.min(this.images).item(), highest = aten.max(this.images).item(), numbers = { lowest, highest };
    const range = `[${lowest.toPrecision(3)}, ${highest.toPrecision(3)}]`;
    if (!(lowest >= 0 && highest <= 1)) return bad(`Pixels lie in ${range}, not in [0, 1]: epsilon would be in other units. Normalise inside the model.`, numbers, true);
    if (highest < 0.05) return bad(`Pixels lie in ${range}: divided by 255 twice?`, numbers);
    return good(`Pixels lie in ${range}.`, numbers);
  }

  async #finite(): Promise<Outcome> {
    try {
      this.#logits = this.#keep((await this.#predict(this.images)).logits);
    } catch (error) {
      if (error instanceof NonFiniteError) return bad(`${sentence(error.message)} An attack on NaN succeeds or fails for no reason.`, {}, true);
      throw error;
    }
    checkClasses(this.labels, this.#logits.shape[1]!, 0);
    const between = aten.max(aten.sub(aten.amax(this.#logits, [1]), aten.amin(this.#logits, [1]))).item();
    const across = aten.max(aten.sub(aten.amax(this.#logits, [0]), aten.amin(this.#logits, [0]))).item();
    const numbers = { largestRangeOverClasses: between, largestRangeOverImages: across };
    if (between === 0) return bad('All classes have the same logit.', numbers, true);
    if (across === 0 && this.images.shape[0]! > 1) return bad('All images have the same logits: the model does not look at them.', numbers, true);
    return good('Logits are finite and differ between classes and images.', numbers);
  }

  async #deterministic(): Promise<Outcome> {
    const numbers = this.#apart((await this.#predict(this.images)).logits, this.#logits);
    if (numbers.changedPredictions > 0 || numbers.relativeDifference > 1e-4)
      return bad('Two forward passes of the same images differ: the model is stochastic (dropout in train mode?). Attack the expectation over its randomness.', numbers);
    return good('Two forward passes agree.', numbers);
  }

  async #batch(): Promise<Outcome> {
    const few = Math.min(8, this.images.shape[0]!), rows = (all: Tensor) => aten.slice(all, 0, 0, few);
    const numbers = this.#apart((await this.#predict(rows(this.images), 1)).logits, rows(this.#logits));
    if (numbers.relativeDifference > 1e-3)
      return bad('An image gets other logits alone than among others: BatchNorm in train mode? Its result under attack depends on which images are attacked with it.', numbers);
    return good('An image gets the same logits alone as among others.', numbers);
  }

  #clean(): Outcome {
    this.#right = agreeing(aten.argmax(this.#logits, 1), this.labels);
    const total = this.images.shape[0]!, right = this.#right.length, chance = 1 / this.#logits.shape[1]!;
    const numbers = { right, total, accuracy: right / total, chance };
    this.#images = this.#keep(select(this.images, this.#right));
    this.#labels = this.#keep(select(this.labels, this.#right));
    const share = `${right} of ${total} images are right`;
    if (right <= total * chance + 2 * Math.sqrt(total * chance * (1 - chance)))
      return bad(`${share}, no more than by chance: labels in another order, or inputs in other units than in training?`, numbers, right === 0);
    return good(`${share} without an attack.`, numbers);
  }

  async #sensitivity(): Promise<Outcome> {
    const flipped = async (size: number) => count(await this.#fooled(this.#noisy(this.#ofPixels(size), 0)));
    const small = await flipped(1 / 255), large = await flipped(0.5), numbers = { right: this.#right.length, flippedByNoiseOf1: small, flippedByNoiseOf128: large };
    if (small > 0.1 * this.#right.length)
      return bad(`Noise of 1/255 changes ${small} of ${this.#right.length} right predictions: are inputs in other units than in training, or is there a threshold in the model?`, numbers);
    if (large === 0) return bad('Noise of 128/255 changes no prediction: is the model made for inputs from 0 to 255?', numbers);
    return good('Small noise changes few predictions, large noise some.', numbers);
  }

  async #gradients(): Promise<Outcome> {
    let moved: Tensor;
    try {
      moved = await hasGradient(this.model, this.#images, this.#labels, this.settings.batchSize, this.given.signal);
    } catch (error) {
      const none = error instanceof ArgumentRangeError && error.argument === 'objective';
      if (none || error instanceof NonFiniteError)
        return bad(none ? 'The logits do not depend on the images through differentiable operators: gradient attacks cannot run. square() can.' : sentence(error.message), {}, true);
      throw error;
    }
    const flat = aten.flatten(moved, 1);
    const zeroPixels = 1 - aten.mean(flat.to({ dtype: 'float32' })).item(), zeroImages = this.#right.length - aten.sum(aten.any(flat, 1)).item();
    const numbers = { right: this.#right.length, imagesWithoutGradient: zeroImages, shareOfPixelsWithoutGradient: zeroPixels };
    if (zeroImages > 0.1 * this.#right.length)
      return bad(`The loss has no gradient at ${zeroImages} of ${this.#right.length} images: saturated logits or operators without derivative hide it. Gradient attacks do nothing there.`, numbers);
    if (zeroPixels > 0.5) return bad(`The gradient is zero at ${percent(zeroPixels)} of the pixels: rounding or thresholds in the model?`, numbers);
    return good('The loss has a gradient.', numbers);
  }

  async #epsilonZero(): Promise<Outcome> {
    const fooled = count(await this.#strike(0, 2)), numbers = { right: this.#right.length, fooled };
    return fooled > 0 ? bad(`An attack of radius 0 fools ${fooled} images: the attack or the model is broken.`, numbers) : good('An attack of radius 0 changes nothing.', numbers);
  }

  async #largeEpsilon(): Promise<Outcome> {
    const radius = this.#ofPixels(0.5);
    const standing = this.#right.length - count(await this.#strike(radius, this.settings.steps)), numbers = { epsilon: radius, right: this.#right.length, standing };
    if (standing > 0.05 * this.#right.length)
      return bad(`${standing} of ${this.#right.length} images stand within a radius of ${radius.toPrecision(3)}, where any image can be turned into a grey one: the attack does not work here.`, numbers);
    return good(`Within a radius of ${radius.toPrecision(3)} ${standing === 0 ? 'no image stands' : `${standing} of ${this.#right.length} images stand`}.`, numbers);
  }

  async #epsilons(): Promise<Outcome> {
    const { epsilon, steps } = this.settings;
    // linf balls end at 1
    const radii = [epsilon / 2, epsilon, ...(this.settings.norm === 'l2' || 2 * epsilon <= 1 ? [2 * epsilon] : [])];
    const struck: Fooled[] = [];
    for (const radius of radii) struck.push(await this.#strike(radius, steps));
    const numbers = Object.fromEntries(radii.map((radius, i) => [`fooledAt${radius.toPrecision(3)}`, count(struck[i]!)]));
    const wins = struck.findIndex((fooled, i) => i > 0 && beats(struck[i - 1]!, fooled));
    if (wins > 0) return bad(`The attack fools more images within ${radii[wins - 1]!.toPrecision(3)} than within ${radii[wins]!.toPrecision(3)}: the larger ball holds the smaller.`, numbers);
    return good('A larger radius fools no fewer images.', numbers);
  }

  async #steps(): Promise<Outcome> {
    const { epsilon, steps } = this.settings, counts = [...new Set([1, Math.floor(steps / 2), steps])];
    const struck: Fooled[] = [];
    for (const each of counts) struck.push(await this.#strike(epsilon, each));
    const numbers = Object.fromEntries(counts.map((each, i) => [`fooledBy${each}`, count(struck[i]!)]));
    const wins = struck.findIndex((fooled, i) => i > 0 && beats(struck[i - 1]!, fooled));
    if (wins > 0) return bad(`${counts[wins - 1]} ${counts[wins - 1] === 1 ? 'step fools' : 'steps fool'} more images than ${counts[wins]}: the gradients lead nowhere (masking), or the step is too long.`, numbers);
    return good('More steps fool no fewer images.', numbers);
  }

  async #noise(): Promise<Outcome> {
    const { epsilon, steps } = this.settings, fooled = await this.#strike(epsilon, steps), draws = 5;
    const noise = Array<boolean>(fooled.length).fill(false);
    for (let draw = 0; draw < draws; ++draw) (await scope(() => this.#fooled(this.#noisy(epsilon, draw + 1)))).forEach((each, i) => (noise[i] ||= each));
    const transferred = await this.#fooled(aten.clamp(aten.add(this.#images, aten.roll(this.#perturbation, [1], [0])), 0, 1));
    const numbers = { right: fooled.length, fooledByAttack: count(fooled), fooledByNoise: count(noise), fooledByTransfer: count(transferred) };
    if (beats(noise, fooled)) return bad(`Random noise (the best of ${draws}) fools ${count(noise)} images, the attack ${count(fooled)}: the attack does not climb the loss.`, numbers);
    if (beats(transferred, fooled)) return bad(`The perturbations of other images fool ${count(transferred)} images, their own ${count(fooled)}: the gradients are masked.`, numbers);
    return good('The attack fools no fewer images than noise and than the perturbations of other images.', numbers);
  }

  async #blackBox(): Promise<Outcome> {
    const { norm, epsilon, steps, queries, batchSize, seed } = this.settings, white = await this.#strike(epsilon, steps);
    const options = resolveSquareOptions({ norm, epsilon, queries, batchSize, seed });
    const black = await this.#fooled(await runLabelled(this.model, this.#images, this.#labels, { attack: 'square', ...options }, { signal: this.given.signal }, rowsOf(this.#right)));
    const numbers = { right: white.length, fooledByAttack: count(white), fooledBySquare: count(black), bySquareAlone: black.filter((each, i) => each && !white[i]).length };
    if (beats(black, white))
      return bad(`Square Attack, which sees no gradients, fools ${count(black)} images, the gradient attack ${count(white)}: the gradients are masked. Believe neither number.`, numbers);
    return good('Square Attack, which sees no gradients, does not beat the gradient attack.', numbers);
  }

  #ball(): Outcome {
    const numbers = { largestExcess: Math.max(0, this.#excess), pixelsOutsideBox: this.#outside };
    if (this.#excess > 0) return bad(`Adversaries leave the ball by up to ${this.#excess.toPrecision(3)}.`, numbers);
    if (this.#outside > 0) return bad('Adversaries leave [0, 1].', numbers);
    return good('All adversaries are in the ball and in [0, 1].', numbers);
  }

  #keep(tensor: Tensor): Tensor {
    this.#kept.push(keep(tensor));
    return tensor;
  }

  #predict(images: Tensor, batchSize = this.settings.batchSize) {
    return predict(this.model, images, { batchSize, signal: this.given.signal });
  }

  #apart(logits: Tensor, others: Tensor) {
    const difference = aten.max(aten.abs(aten.sub(logits, others))).item();
    return {
      relativeDifference: difference / aten.max(aten.abs(others)).item(),
      changedPredictions: aten.sum(aten.ne(aten.argmax(logits, 1), aten.argmax(others, 1))).item(),
    };
  }

  /** Of the images that are right, which the model gets wrong as changed. */
  async #fooled(adversaries: Tensor): Promise<boolean[]> {
    // Among the other images, so that an unchanged image gets the very same logits.
    const among = aten.index_copy(this.images, 0, rowsOf(this.#right, this.images), adversaries);
    const { predicted } = await this.#predict(among);
    const standing = new Set(agreeing(predicted, this.labels));
    return this.#right.map((row) => !standing.has(row));
  }

  /** How long a change of every pixel by that much is. */
  #ofPixels(size: number): number {
    const [, ...shape] = this.images.shape;
    return this.settings.norm === 'linf' ? size : size * Math.sqrt(shape.reduce((product, each) => product * each, 1));
  }

  /** The images plus noise of that length: linf a random corner of the cube, l2 a random direction. */
  #noisy(length: number, draw: number): Tensor {
    const start = (this.settings.norm === 'linf' ? a_infonce.pgd_start_linf : a_infonce.pgd_start_l2)(this.#images, rowsOf(this.#right, this.#images), 0.5, this.settings.seed, draw, false) as Tensor;
    const delta = aten.sub(start, this.#images);
    const unit = this.settings.norm === 'linf' ? aten.sign(delta) : aten.div(delta, aten.view(lengths(delta, 'l2'), [-1, 1, 1, 1]));
    return aten.clamp(aten.add(this.#images, aten.mul(unit, length)), 0, 1);
  }

  /** Whom the attack fools with this radius and these steps; known once made. */
  async #strike(epsilon: number, steps: number): Promise<Fooled> {
    const key = `${epsilon} ${steps}`, known = this.#struck.get(key);
    if (known) return known;
    const { norm } = this.settings;
    const adversaries = await (this.given.attack?.(this.#images, this.#labels, { norm, epsilon, steps }) ?? this.#pgd(epsilon, steps));
    checkImages("options.attack's result", adversaries);
    if (String(adversaries.shape) !== String(this.#images.shape))
      throw new ArgumentRangeError("options.attack's result", `shape [${this.#images.shape.join(', ')}]`, `[${adversaries.shape.join(', ')}]`);
    const change = aten.sub(adversaries.to({ dtype: 'float64' }), this.#images.to({ dtype: 'float64' }));
    this.#excess = Math.max(this.#excess, aten.max(lengths(change, norm)).item() - epsilon - 1e-6 * Math.max(epsilon, norm === 'l2' ? 1 : 0.1));
    this.#outside += aten.sum(aten.logical_or(aten.lt(adversaries, 0), aten.gt(adversaries, 1))).item();
    if (epsilon === this.settings.epsilon && steps === this.settings.steps) this.#perturbation = this.#keep(aten.sub(adversaries, this.#images));
    const fooled = await this.#fooled(aten.clamp(adversaries, 0, 1).to({ dtype: this.#images.dtype as 'float32' }));
    this.#struck.set(key, fooled);
    return fooled;
  }

  #pgd(epsilon: number, steps: number): Promise<Tensor> {
    const { norm, batchSize, seed } = this.settings, once = steps === 1;
    const stepSize = once ? epsilon : epsilon * (this.settings.stepSize / this.settings.epsilon);
    // In linf a step of 1 already crosses the box.
    const options = resolvePgdOptions({ norm, epsilon, steps, batchSize, seed, randomStart: !once, stepSize: norm === 'linf' ? Math.min(1, stepSize) : stepSize });
    return runPgd(this.model, this.#images, this.#labels, options, { signal: this.given.signal }, rowsOf(this.#right));
  }
}

const good = (message: string, numbers: Record<string, number>): Outcome => ({ ok: true, message, numbers });
const bad = (message: string, numbers: Record<string, number>, ends = false): Outcome => ({ ok: false, message, numbers, ends });
const count = (fooled: Fooled) => fooled.filter(Boolean).length;
const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
const sentence = (message: string) => `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
const largestOfRow = (batch: Tensor) => aten.amax(aten.abs(aten.flatten(batch, 1)), [1]);
const lengths = (batch: Tensor, norm: 'linf' | 'l2') => (norm === 'linf' ? largestOfRow(batch) : aten.linalg_vector_norm(aten.flatten(batch, 1), 2, [1]));
const rowValues = (values: Tensor) => Array.from(values.toTypedArray() as Float32Array);

/** Whether `a` fools more samples than `b`, by more than two standard deviations of the samples that they disagree about. */
function beats(a: Fooled, b: Fooled): boolean {
  const onlyA = a.filter((each, i) => each && !b[i]).length, onlyB = b.filter((each, i) => each && !a[i]).length;
  return onlyA - onlyB > 2 * Math.sqrt(onlyA + onlyB);
}
