import { native } from '../runtime/native.js';
import { scope } from '../tensor/scope.js';
import { Tensor } from '../tensor/tensor.js';

/**
 * `count` of `rows`, drawn without replacement: of each class its share, to within one (largest remainders; among equals the seed decides), but at least
 * `least` (then there may be more than `count`) and so that `spare` of each are left (the others give more; then there may be fewer). A function of the
 * arguments alone; in ascending order.
 * @param labels the class of every row of the data
 */
export function stratified(labels: BigInt64Array, rows: readonly number[], count: number, seed: number, { least = 0, spare = 0 } = {}): number[] {
  const members = new Map<number, number[]>();
  for (const row of rows) {
    const label = Number(labels[row]);
    (members.get(label) ?? members.set(label, []).get(label)!).push(row);
  }
  const draw = (of: number, stream: number) => scope(() => Array.from(Tensor.wrap(native().permutation(of, seed, stream)).toTypedArray() as BigInt64Array, Number));
  const lots = draw(members.size, 2 ** 32);  // a stream that is no class's
  const classes = [...members].sort(([a], [b]) => a - b).map(([label, of], i) => {
    const share = (of.length * count) / rows.length, most = Math.max(0, of.length - spare);
    return { label, of, most, quota: Math.min(Math.floor(share), most), remainder: share - Math.floor(share), lot: lots[i]! };
  });
  let left = count - classes.reduce((sum, { quota }) => sum + quota, 0);
  const turns = [...classes].sort((a, b) => b.remainder - a.remainder || a.lot - b.lot);
  while (left > 0) {
    const open = turns.filter(({ quota, most }) => quota < most).slice(0, left);
    if (open.length === 0) break;
    for (const each of open) each.quota++;
    left -= open.length;
  }
  return classes.flatMap(({ label, of, quota }) => draw(of.length, label).slice(0, Math.max(least, quota)).map((at) => of[at]!)).sort((a, b) => a - b);
}
