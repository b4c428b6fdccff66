import { native } from '../runtime/native.js';
import { scope } from '../tensor/scope.js';
import { Tensor } from '../tensor/tensor.js';

/**
 * `count` of `rows`, drawn without replacement: of each class its share, to within one (largest remainders; ties to the lower class), but at least
 * `least` (then there may be more than `count`). A function of the arguments alone; in ascending order.
 * @param labels the class of every row of the data
 */
export function stratified(labels: BigInt64Array, rows: readonly number[], count: number, seed: number, least = 0): number[] {
  const members = new Map<number, number[]>();
  for (const row of rows) {
    const label = Number(labels[row]);
    (members.get(label) ?? members.set(label, []).get(label)!).push(row);
  }
  const classes = [...members].sort(([a], [b]) => a - b).map(([label, of]) => {
    const share = (of.length * count) / rows.length;
    return { label, of, quota: Math.floor(share), remainder: share - Math.floor(share) };
  });
  let left = count - classes.reduce((sum, { quota }) => sum + quota, 0);
  for (const each of [...classes].sort((a, b) => b.remainder - a.remainder || a.label - b.label)) if (left-- > 0) each.quota++;
  return classes.flatMap(({ label, of, quota }) => scope(() => {
    const order = Tensor.wrap(native().permutation(of.length, seed, label)).toTypedArray() as BigInt64Array;
    return Array.from(order.subarray(0, Math.max(least, quota)), (at) => of[Number(at)]!);
  })).sort((a, b) => a - b);
}
