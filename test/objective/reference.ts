// The paper's formula written densely with ordinary operators in float64, independent of the kernels: autograd gives its gradient.
import { ops, tensor, type AInfoNCEOptions, type Tensor } from 'a-infonce';

const { aten } = ops;

/** A boolean n x n mask as float64. */
function mask(n: number, holds: (i: number, j: number) => boolean): Tensor {
  return tensor(Float64Array.from({ length: n * n }, (_, k) => Number(holds(Math.floor(k / n), k % n))), { shape: [n, n] });
}

/** Form `paper` of section "objective" for features [n, d] float64 (labels as an array); n x n matrices everywhere. Call it inside a scope. */
export function densePaper(features: Tensor, options: AInfoNCEOptions): Tensor {
  const { views = 2, adversarialView, temperature = 0.5, inferiorPositive, hardNegative, labels, normalize = true } = options;
  const n = features.shape[0]!;
  const batch = n / views;
  const { alpha = inferiorPositive ? 0.2 : 0.5, weight = 1, positiveWeight = 1 } = inferiorPositive ?? {};
  const group = (i: number) => (labels as ArrayLike<number> | undefined)?.[i % batch] ?? i % batch;
  const adversarial = (i: number) => Math.floor(i / batch) === adversarialView;
  const positives = mask(n, (i, j) => i !== j && (labels ? group(i) === group(j) : i % batch === j % batch));
  const negatives = mask(n, (i, j) => (labels ? group(i) !== group(j) : i % batch !== j % batch));
  const crossing = mask(n, (i, j) => adversarial(i) !== adversarial(j));
  const z = normalize ? aten.div(features, aten.norm(features, 2, [1], true)) : features;
  // Each end of a clean-adversarial pair moves by its own factor; the value stays that of z z^T.
  const ends = tensor(Float64Array.from({ length: n }, (_, i) => (adversarial(i) ? 2 * (1 - alpha) : 2 * alpha)), { shape: [n, 1] });
  const scaled = aten.add(aten.mul(z, ends), aten.mul(z, aten.rsub(ends, 1)).detach());
  const gram = (x: Tensor) => aten.div(aten.mm(x, aten.t(x)), temperature);
  const s = aten.add(aten.mul(gram(z), aten.rsub(crossing, 1)), aten.mul(gram(scaled), crossing));
  const sum = (x: Tensor) => aten.sum(x, [1], { keepdim: true });
  const top = aten.amax(s.detach(), [1], true);
  const e = aten.exp(aten.sub(s, top)); // times e^top
  const weighed = aten.mul(e, aten.add(aten.mul(crossing, positiveWeight - 1), 1));
  const [count, others] = [aten.clamp(sum(positives), 1), sum(negatives)];
  let denominator: Tensor;
  if (hardNegative === undefined) {
    denominator = aten.add(sum(aten.mul(weighed, positives)), sum(aten.mul(e, negatives)));
  } else {
    const { beta = 1, tauPlus = 0.12 } = hardNegative;
    const w = aten.mul(aten.exp(aten.mul(aten.sub(s, top), beta)), negatives);
    const attracted = aten.mul(aten.div(sum(aten.mul(w, e)), sum(w)), others);
    const meanPositive = aten.div(sum(aten.mul(e, positives)), count);
    const debiased = aten.div(aten.sub(attracted, aten.mul(aten.mul(meanPositive, others), tauPlus)), 1 - tauPlus);
    const floor = aten.mul(others, aten.exp(aten.sub(aten.neg(top), 1 / temperature)));
    denominator = aten.add(aten.div(sum(aten.mul(weighed, positives)), count), aten.maximum(debiased, floor));
  }
  const terms = aten.mul(aten.sub(aten.log(denominator), aten.log(weighed)), aten.add(aten.mul(crossing, weight - 1), 1));
  const rows = aten.div(sum(aten.where(aten.gt(positives, 0), terms, aten.zeros_like(terms))), count);
  const used = aten.gt(sum(positives), 0);
  return aten.div(aten.sum(aten.where(used, rows, aten.zeros_like(rows))), aten.sum(used));
}
