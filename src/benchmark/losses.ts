/** What the benchmark measures: every form and variant of the loss, and the same formulas composed of LibTorch operators. */
import { aInfoNCE, FixedViews, type AInfoNCEOptions } from '../objective/aInfoNCE.js';
import { randn } from '../tensor/factories.js';
import { ops } from '../tensor/ops.js';
import { tensor, type Tensor } from '../tensor/tensor.js';

const { aten } = ops;
export const TEMPERATURE = 0.5;
const ALPHA = 0.2, BETA = 1, TAU = 0.1;
const IP = { inferiorPositive: { alpha: ALPHA } }, HN = { hardNegative: { beta: BETA, tauPlus: TAU } };

/** Inferior positives, hard negatives. */
interface Variant {
  ip: boolean;
  hn: boolean;
}
type Formula = (rows: Tensor, masks: Masks, variant: Variant, views: number) => Tensor;

/** One loss of the benchmark. */
export interface Loss extends Variant {
  name: string;
  form: 'paper' | 'advcl' | 'rocl';
  views: number;
  /** An attack's step: the other views stay, and only the adversaries get a gradient. */
  attackStep: boolean;
  /** Positives by class: so many classes of unequal size, of ten the largest six times the smallest. 0: by image. */
  labels: number;
  /** n rows are negatives only; the anchors are the {@link queries}. */
  queue: boolean;
  options: AInfoNCEOptions;
  formula: Formula;
}

const VIEWS = { paper: 3, advcl: 4, rocl: 3 }, FORMULAS: Record<Loss['form'], Formula> = { paper, advcl, rocl };

function define(form: Loss['form'], { ip = false, hn = false, labels = 0, queue = false, views = VIEWS[form], attackStep = false } = {}): Loss {
  const variant = [ip && 'IP', hn && 'HN'].filter(Boolean).join('+') || (labels === 2 ? 'labels, two classes' : labels && 'labels') || (attackStep && 'attack step') || (!queue && views !== VIEWS[form] && 'two views');
  const of = queue ? 'queue' : form;
  return {
    name: variant ? `${of}, ${variant}` : of, form, ip, hn, views, attackStep, labels, queue, formula: labels ? supervised : FORMULAS[form],
    options: {
      form, views, temperature: TEMPERATURE, ...(ip && IP), ...(hn && HN), ...(form === 'advcl' && { normalize: true }), ...(form === 'paper' && views === 3 && { adversarialView: 2 }),
    },
  };
}

/** In the order of the table. The two-view loss is NT-Xent, which other packages have too. */
export const LOSSES: readonly Loss[] = [
  define('paper', { views: 2 }),
  ...(['paper', 'advcl', 'rocl'] as const).flatMap((form) => [{}, { ip: true }, { hn: true }, { ip: true, hn: true }].map((variant) => define(form, variant))),
  define('advcl', { attackStep: true }),
  ...[10, 2].map((labels) => define('paper', { views: 2, labels })),
  ...[false, true].map((hn) => define('paper', { views: 2, queue: true, hn })),
];

export const lossNamed = (name: string): Loss => LOSSES.find((loss) => loss.name === name)!;

/** One call of a loss on rows [n, dim]: forward and backward. The rows that get a gradient are `leaf`. */
export interface Call {
  leaf: Tensor;
  /** What it holds beside the rows. */
  held?: Disposable;
  /** @returns the loss; the gradient is the leaf's. */
  run(): number;
}

/** All rows of a loss, or those that move and those that stay. */
export type Rows = { leaf: Tensor; fixed?: Tensor };

/** Anchors of a queue of n rows. */
export const queries = (n: number): number => n / 12;

export function makeRows({ attackStep, queue, views }: Loss, n: number, dim: number): Rows {
  if (queue) return { leaf: randn([queries(n), dim], { requiresGrad: true }), fixed: randn([queries(n) + n, dim]) };
  if (!attackStep) return { leaf: randn([n, dim], { requiresGrad: true }) };
  return { leaf: randn([n / views, dim], { requiresGrad: true }), fixed: randn([n - n / views, dim]) };
}

export type Precision = 'full' | 'bf16' | 'bf16x3';

/** Our call. */
export function fused({ options, hn, labels, queue }: Loss, { leaf, fixed }: Rows, precision: Precision): Call {
  const all = { ...options, precision, ...(labels && { labels: classes(leaf.shape[0]! / 2, labels) }) };
  if (queue) {
    const [keys, columns] = parts(leaf, fixed!);
    return differentiated(leaf, () => ops.a_infonce.queue_loss(leaf, keys, columns, { temperature: TEMPERATURE, ...(hn && { beta: BETA, tau_plus: TAU }) }));
  }
  if (fixed === undefined) return differentiated(leaf, () => aInfoNCE(leaf, all));
  const others = new FixedViews(fixed, all);
  return { ...differentiated(leaf, () => others.loss(leaf)), held: others };
}

/** The formula's call; what it needs beside the rows is made here, once. */
export function eager(loss: Loss, { leaf, fixed }: Rows): Call {
  if (loss.queue) return differentiated(leaf, () => queued(leaf, ...parts(leaf, fixed!), loss));
  const n = leaf.shape[0]! + (fixed?.shape[0] ?? 0), given = masks(n, loss);
  return differentiated(leaf, () => loss.formula(fixed === undefined ? leaf : aten.cat([leaf, fixed]), given, loss, loss.views));
}

/** The keys, and the queue. */
function parts(leaf: Tensor, fixed: Tensor): [Tensor, Tensor] {
  const count = leaf.shape[0]!;
  return [aten.narrow(fixed, 0, 0, count), aten.narrow(fixed, 0, count, fixed.shape[0]! - count)];
}

/** Of each image, in no order. */
function classes(batch: number, count: number): Tensor {
  return tensor(Int32Array.from({ length: batch }, (_, b) => Math.floor(count * (((b * 7919) % batch) / batch) ** 2)));
}

/** Forward, backward and reading the loss. */
export function differentiated(leaf: Tensor, loss: () => Tensor): Call {
  return {
    leaf,
    run() {
      leaf.grad = null;
      const value = loss();
      value.backward();
      return value.item() as number;
    },
  };
}

/** n x n float32 each, but for `ends`: made once and not timed. */
interface Masks {
  positives: Tensor;
  negatives: Tensor;
  others: Tensor;
  /** `'paper'`: one end clean, the other adversarial. */
  cross: Tensor;
  /** `'paper'`: what a gradient across counts at a row, [n, 1]. */
  ends: Tensor;
  /** Weights of the terms; `detached` are those whose columns get no gradient. */
  weights: Tensor;
  detached: Tensor;
}

function masks(n: number, { form, views, ip, labels }: Loss): Masks {
  const batch = n / views, adversarial = form === 'advcl' ? 0 : 2;
  const ones = aten.ones([batch, batch]), eye = aten.eye(batch);
  if (labels) {
    const given = aten.repeat(classes(batch, labels), [views]), same = aten.eq(aten.unsqueeze(given, 0), aten.unsqueeze(given, 1)).to({ dtype: 'float32' });
    const others = aten.rsub(aten.eye(n), 1), unused = tensor([0]);
    return { positives: aten.mul(same, others), negatives: aten.rsub(same, 1), others, cross: unused, ends: unused, weights: unused, detached: unused };
  }
  const byView = (weight: (row: number, column: number) => number) =>
    tensor(Float32Array.from({ length: views * views }, (_, k) => weight(Math.floor(k / views), k % views)), { shape: [views, views] });
  const terms = (weight: (row: number, column: number) => number) => aten.kron(byView((row, column) => (row === column ? 0 : weight(row, column))), eye);
  const crosses = (row: number, column: number) => (row === adversarial) !== (column === adversarial);
  const share = (row: number) => (row === adversarial ? 1 - ALPHA : ALPHA);
  const weight = {
    paper: () => 1,
    advcl: (row: number, column: number) => (!crosses(row, column) ? 1 : !ip && row === adversarial ? 2 : 0),
    rocl: (row: number, column: number) => (ip && crosses(row, column) ? share(row) : 1),
  }[form];
  return {
    positives: terms(() => 1), negatives: aten.kron(byView(() => 1), aten.sub(ones, eye)), others: aten.rsub(aten.eye(n), 1),
    cross: aten.kron(byView((row, column) => Number(crosses(row, column))), ones),
    ends: tensor(Float32Array.from({ length: n }, (_, i) => 2 * share(Math.floor(i / batch))), { shape: [n, 1] }),
    weights: terms(weight), detached: terms((row, column) => (crosses(row, column) ? 2 * share(row) : 0)),
  };
}

const sum = (x: Tensor): Tensor => aten.sum(x, [1], { keepdim: true });
const normalized = (x: Tensor, more = 0): Tensor => aten.div(x, aten.add(aten.norm(x, 2, [1], true), more));
const similarity = (rows: Tensor, columns: Tensor): Tensor => aten.div(aten.mm(rows, aten.t(columns)), TEMPERATURE);

function paper(x: Tensor, { positives, negatives, others, cross, ends }: Masks, { ip, hn }: Variant, views: number): Tensor {
  const n = x.shape[0]!, z = normalized(x);
  let s = similarity(z, z);
  if (ip) {
    const scaled = aten.add(aten.mul(z, ends), aten.mul(z, aten.rsub(ends, 1)).detach());
    s = aten.add(aten.mul(s, aten.rsub(cross, 1)), aten.mul(similarity(scaled, scaled), cross));
  }
  const e = aten.exp(s);
  let denominator = hn ? undefined : sum(aten.mul(e, others));
  if (denominator === undefined) {
    const count = n - views, positive = aten.div(sum(aten.mul(e, positives)), views - 1);
    const importance = aten.mul(aten.exp(aten.mul(s, BETA)), negatives);
    const weighed = aten.mul(aten.div(sum(aten.mul(importance, e)), sum(importance)), count);
    denominator = aten.add(positive, aten.clamp(aten.div(aten.sub(weighed, aten.mul(positive, TAU * count)), 1 - TAU), count * Math.exp(-1 / TEMPERATURE)));
  }
  return aten.div(aten.sum(aten.mul(aten.sub(aten.log(denominator), s), positives)), n * (views - 1));
}

function supervised(x: Tensor, { positives, others }: Masks): Tensor {
  const z = normalized(x), s = similarity(z, z);
  const denominator = sum(aten.mul(aten.exp(s), others));
  return aten.mean(aten.div(sum(aten.mul(aten.sub(aten.log(denominator), s), positives)), sum(positives)));
}

function queued(x: Tensor, keys: Tensor, queue: Tensor, { hn }: Variant): Tensor {
  const q = normalized(x), positive = aten.exp(aten.div(sum(aten.mul(q, normalized(keys))), TEMPERATURE));
  const e = aten.exp(similarity(q, normalized(queue))), count = queue.shape[0]!;
  let negatives = sum(e);
  if (hn) {
    const importance = aten.pow(e, BETA), weighed = aten.mul(aten.div(sum(aten.mul(importance, e)), sum(importance)), count);
    negatives = aten.clamp(aten.div(aten.sub(weighed, aten.mul(positive, TAU * count)), 1 - TAU), count * Math.exp(-1 / TEMPERATURE));
  }
  return aten.neg(aten.mean(aten.log(aten.div(positive, aten.add(positive, negatives)))));
}

/** The released code's hard negatives: the sum under the logarithm, [n]. Importances are divided by the mean of the column's row. */
function hardDenominator(e: Tensor, { positives, negatives }: Masks, views: number): Tensor {
  const count = e.shape[0]! - views, negative = aten.mul(e, negatives);
  const importance = aten.pow(aten.add(negative, 1e-9), BETA);
  const weighed = aten.sum(aten.div(aten.mul(importance, negative), aten.mean(importance, [1])), [1]);
  const positive = aten.div(aten.sum(aten.mul(e, positives), [1]), views - 1);
  return aten.add(positive, aten.clamp(aten.div(aten.sub(weighed, aten.mul(positive, TAU * count)), 1 - TAU), count * Math.exp(-2)));
}

function advcl(x: Tensor, given: Masks, { ip, hn }: Variant, views: number): Tensor {
  const z = normalized(x);
  const terms = (s: Tensor) => {
    const logits = aten.sub(s, aten.amax(s, [1], true).detach()), e = aten.exp(logits);
    return hn ? aten.neg(aten.log(aten.div(e, hardDenominator(e, given, views)))) : aten.sub(aten.log(sum(aten.mul(e, given.others))), logits);
  };
  const both = aten.sum(aten.mul(terms(similarity(z, z)), given.weights));
  const loss = ip ? aten.add(both, aten.sum(aten.mul(terms(similarity(z, z.detach())), given.detached))) : both;
  return aten.mul(loss, TEMPERATURE / 0.07 / ((views - 1) * x.shape[0]!));
}

function rocl(x: Tensor, given: Masks, { hn }: Variant, views: number): Tensor {
  const z = normalized(x, 1e-8), e = aten.exp(similarity(z, z.detach()));
  const share = () => {
    const kept = aten.mul(e, given.others);
    return aten.add(aten.div(kept, aten.add(sum(kept), 1e-8)), 1e-8);
  };
  const inner = hn ? aten.div(e, aten.view(hardDenominator(e, given, views), [-1, 1])) : share();
  return aten.div(aten.sum(aten.mul(aten.neg(aten.log(inner)), given.weights)), x.shape[0]!);
}
