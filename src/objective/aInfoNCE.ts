/** The asymmetric InfoNCE objective, fused: forward and backward without an n x n matrix. */
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { tensorOf } from '../tensor/check.js';
import { ops } from '../tensor/ops.js';
import { keep } from '../tensor/scope.js';
import { Tensor, tensor } from '../tensor/tensor.js';

/** Inferior positives: adversaries attract the clean rows less than the clean rows attract them. */
export interface InferiorPositiveOptions {
  /** In [0, 1]: gradients between a clean and an adversarial row reach the clean one times 2 alpha, the adversarial one times 2 (1 - alpha). Default 0.2. */
  alpha?: number;
  /** The same as {@link AInfoNCEOptions.weight}; one of the two is enough. */
  weight?: number;
  /** Weight of clean-adversarial positives inside the logarithm (lambda_p of the paper). Above 0, default 1; form `'paper'` only. */
  positiveWeight?: number;
}

/** Hard negatives: close negatives weigh more, and the positives hidden among the negatives are taken out. */
export interface HardNegativeOptions {
  /**
   * Concentration, at least 0: a negative weighs e^(beta s). Default 1. In form `'paper'` what rounding does to the gradient grows as beta (1 + beta) / temperature, from a few 1e-4 of it at
   * beta 100 and temperature 0.5 in float32 (float64 has 1e9 times as much room); refused where that would be tenths.
   */
  beta?: number;
  /** Class prior in [0, 1): the share of the negatives that are positives in truth, about 1 / classes. Default 0.12. */
  tauPlus?: number;
}

/** What {@link aInfoNCE} takes beside the features. */
export interface AInfoNCEOptions {
  /** Views of each image: at least 2, or 1 with `labels`. Default 2. */
  views?: number;
  /** Which view is adversarial, from 0. Default: none in form `'paper'`; the released forms fix it (0 in `'advcl'`, 2 in `'rocl'` with three views). */
  adversarialView?: number;
  /** Above 0. Default 0.5. */
  temperature?: number;
  /**
   * Factor of the clean-adversarial terms of the loss; the released code's `adv_weight`, with which form `'advcl'` without `inferiorPositive` weighs its adversarial
   * to clean terms by weight + weight². At least 0, default 1. Form `'rocl'` has one with `inferiorPositive` only.
   */
  weight?: number;
  /** Omit for the plain loss. Needs an adversarial view. */
  inferiorPositive?: InferiorPositiveOptions;
  /** Omit for the plain loss. */
  hardNegative?: HardNegativeOptions;
  /** The class of each image, integers [batch]: all rows of a class are positives of one another (supervised). Form `'paper'` only. */
  labels?: Tensor | ArrayLike<number | bigint>;
  /** Divide every row by its length first. Default: true in form `'paper'`, false in `'advcl'` (rows must come normalised), always in `'rocl'`. */
  normalize?: boolean;
  /** `'paper'` (default) follows the paper; `'advcl'` and `'rocl'` follow the two lineages of its released code, digit for digit. */
  form?: 'paper' | 'advcl' | 'rocl';
  /**
   * `'bf16'`: products of similarities and gradients over pairs of different images take bfloat16 factors (8 bits of mantissa); their sums, the exponentials and
   * everything within an image stay as they are. The gradient keeps a relative error of about 1e-3 (1.5e-3 with `tauPlus`). For float32 features without labels, on CUDA devices and processors with
   * AVX512_BF16 or AMX (`runtimeInfo().instructionSet` says `'avx512_bf16'` or `'amx_bf16'`), at temperatures above 2.8 (1 + beta) / sqrt(dim) (0.25 at dim 128
   * without hard negatives), below which that precision is out of its reach; elsewhere it is `'full'`, the default. Refused with `labels`.
   * `'bf16x3'`: factors are sums of two bfloat16 numbers (16 bits), and three products take the place of one: gradients within 1e-5 of float64.
   * Below temperature 0.7 (1 + beta) / sqrt(dim), earlier with `tauPlus`, and always with the hard negatives of form `'advcl'`, which ask for more, it is `'full'`.
   * Where `'bf16'` is; it is meant for AMX, and slower than `'full'` with AVX512_BF16 alone.
   */
  precision?: 'full' | 'bf16' | 'bf16x3';
}

const FORMS = ['paper', 'advcl', 'rocl'] as const;
const PRECISIONS = ['full', 'bf16', 'bf16x3'] as const;

/**
 * The asymmetric InfoNCE loss of "Adversarial Contrastive Learning via Asymmetric InfoNCE" (arXiv 2207.08374), forward and backward fused: no
 * n x n matrix is stored, memory is O(n (dim + views)). A scalar in the dtype of the features, differentiable once; the same bits at any thread count.
 *
 * With z the normalised rows, s_ij = <z_i, z_j> / temperature, P(i) the other views of row i's image (with `labels`: the other rows of its class),
 * N(i) all other rows, the form `'paper'` is the mean over rows i and j in P(i) of
 *
 *     l(i,j) = -log  p_ij e^s_ij / ( sum_{k in P(i)} p_ik e^s_ik + sum_{k in N(i)} e^s_ik )
 *
 * - `inferiorPositive`: wherever one end of a pair is clean and the other adversarial, the gradient of s_ij reaches the clean end times
 *   2 alpha and the adversarial end times 2 (1 - alpha). alpha = 0.5 is the plain loss, alpha never changes the value. There, p_ij is
 *   `positiveWeight` (1 elsewhere) and l(i,j) counts `weight` times.
 * - `hardNegative`: l(i,j) = -log p_ij e^s_ij / (mean_{k in P(i)} p_ik e^s_ik + Neg_i) with
 *   Neg_i = max((sum_k w_ik e^s_ik - tauPlus |N(i)| mean_{P(i)} e^s) / (1 - tauPlus), |N(i)| e^(-1/temperature)),
 *   w_ik = e^(beta s_ik) / mean_{N(i)} e^(beta s).
 * - `labels`: rows whose class has no other row do not count; the mean is over the others.
 *
 * `'advcl'`: rows normalised by the caller, view 0 adversarial, the released scale (temperature / 0.07) and constants. `'rocl'`: three views,
 * the last adversarial, or two views for the loss of its attack (no `inferiorPositive` or `hardNegative`); columns are detached. RoCL's training also adds 1/256 of
 * the two-view loss of (adversarial, view 2).
 *
 * @param features [views * batch, dim], view-major (all images of view 0, then of view 1, ...), float32 or float64, on the CPU or a CUDA device: the loss is there too
 * @throws ArgumentTypeError, ArgumentRangeError naming the option
 * @throws NonFiniteError naming the first row that holds NaN or infinity
 * @example
 * ```ts
 * using features = randn([3 * 32, 128], { requiresGrad: true });   // 32 images: two clean views, one adversarial
 * using loss = aInfoNCE(features, {
 *   views: 3, adversarialView: 2, temperature: 0.5,
 *   inferiorPositive: { alpha: 0.2 }, hardNegative: { beta: 1, tauPlus: 0.1 },
 * });
 * loss.backward();
 * using gradient = features.grad;
 * console.log(loss.item(), gradient?.shape);
 * ```
 */
export function aInfoNCE(features: Tensor, options: AInfoNCEOptions = {}): Tensor {
  tensorOf('features', features);
  const { views, labels, native } = checked(options, KEYS);
  const classes = labels === undefined ? null : labelTensor(labels, features.device);
  try {
    return ops.a_infonce.loss(features, views, classes === null ? native : { ...native, labels: classes });
  } finally {
    if (classes !== labels) classes?.dispose();
  }
}

/**
 * {@link aInfoNCE} as a function of the adversarial view alone (the first where the options name none), the other views held fixed: what an attack climbs.
 * The loss is the same number; its gradient is the adversaries'. Pairs of two clean rows are visited once, here, and not again in `loss`.
 *
 * @example
 * ```ts
 * using fixed = new FixedViews(randn([2 * 32, 128]), { views: 3, adversarialView: 2 });   // 32 images: views 0 and 1
 * using adversaries = randn([32, 128], { requiresGrad: true });
 * using loss = fixed.loss(adversaries);
 * loss.backward();
 * ```
 */
export class FixedViews implements Disposable {
  readonly #clean: Tensor;
  readonly #sums: Tensor;
  readonly #options: Checked;

  /**
   * @param clean [(views - 1) * batch, dim], view-major without the adversarial view; float32 or float64; what requires a gradient gets none
   * @param options as for {@link aInfoNCE}, without `labels`; `hardNegative` in form `'paper'` only
   * @throws ArgumentTypeError, ArgumentRangeError, NonFiniteError as {@link aInfoNCE}
   */
  constructor(clean: Tensor, options: Omit<AInfoNCEOptions, 'labels'> = {}) {
    tensorOf('clean', clean);
    this.#options = checked(options, KEYS.filter((key) => key !== 'labels'));
    const { views, native: { form, temperature, beta, tau_plus, normalize } } = this.#options;
    this.#sums = keep(ops.a_infonce.clean_sums(clean, views, { form, temperature, beta, tau_plus, normalize }));
    using detached = clean.detach();
    this.#clean = keep(detached.clone());  // the sums are of these rows, whatever becomes of the caller's
  }

  /** The loss of adversaries [batch, dim] in the clean rows' dtype: a scalar in that dtype, differentiable once. */
  loss(adversaries: Tensor): Tensor {
    tensorOf('adversaries', adversaries);
    return ops.a_infonce.adversarial_loss(adversaries, this.#clean, this.#sums, this.#options.views, this.#options.native);
  }

  /** Gives up the sums and the copy of the clean rows. */
  dispose(): void {
    this.#clean.dispose();
    this.#sums.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

const KEYS = ['views', 'adversarialView', 'temperature', 'weight', 'inferiorPositive', 'hardNegative', 'labels', 'normalize', 'form', 'precision'] as const;
type Checked = ReturnType<typeof checked>;

function checked(options: AInfoNCEOptions, keys: readonly (keyof AInfoNCEOptions)[]) {
  const { views = 2, adversarialView, temperature = 0.5, weight: factor, inferiorPositive, hardNegative, labels, normalize, form = 'paper', precision = 'full' } = check.options('options', options, keys);
  check.integer('options.views', views, { min: labels === undefined ? 2 : 1 });
  if (adversarialView !== undefined) check.integer('options.adversarialView', adversarialView, { min: 0, max: views - 1 });
  check.finite('options.temperature', temperature, { above: 0 });
  if (normalize !== undefined) check.boolean('options.normalize', normalize);
  check.oneOf('options.form', form, FORMS);
  check.oneOf('options.precision', precision, PRECISIONS);
  if (factor !== undefined) check.finite('options.weight', factor, { min: 0 });
  const { alpha = 0.2, weight = factor ?? 1, positiveWeight = 1 } = check.options('options.inferiorPositive', inferiorPositive, ['alpha', 'weight', 'positiveWeight']);
  check.finite('options.inferiorPositive.alpha', alpha, { min: 0, max: 1 });
  check.finite('options.inferiorPositive.weight', weight, { min: 0 });
  if (factor !== undefined && factor !== weight) throw new ArgumentRangeError('options.weight', `${weight}, as options.inferiorPositive.weight is`, describe(factor));
  check.finite('options.inferiorPositive.positiveWeight', positiveWeight, { above: 0 });
  const { beta = 1, tauPlus = 0.12 } = check.options('options.hardNegative', hardNegative, ['beta', 'tauPlus']);
  check.finite('options.hardNegative.beta', beta, { min: 0 });
  check.finite('options.hardNegative.tauPlus', tauPlus, { min: 0, below: 1 });
  return {
    views, labels,
    native: { // what is as the operators have it by default stays away: each keyword takes time
      ...(form !== 'paper' && { form }), ...(temperature !== 0.5 && { temperature }), ...(adversarialView !== undefined && { adversarial_view: adversarialView }),
      ...(inferiorPositive && { alpha, positive_weight: positiveWeight }), ...(weight !== 1 && { weight }), ...(hardNegative && { beta, tau_plus: tauPlus }),
      ...(normalize !== undefined && { normalize }), ...(precision !== 'full' && { precision }),
    },
  };
}

function labelTensor(labels: Tensor | ArrayLike<number | bigint>, device: string): Tensor {
  if (labels instanceof Tensor) return tensorOf('options.labels', labels);
  if (labels === null || typeof labels !== 'object' || typeof labels.length !== 'number')
    throw new ArgumentTypeError('options.labels', 'a Tensor or an array of integers', describe(labels));
  const numbers = Array.from(labels, (label) => (typeof label === 'bigint' ? Number(label) : label));
  const classes = Int32Array.from(numbers);
  const wrong = classes.findIndex((label, i) => label !== numbers[i]);
  if (wrong >= 0) throw new ArgumentRangeError(`options.labels[${wrong}]`, 'an int32', describe(labels[wrong]));
  return tensor(classes, { device });
}
