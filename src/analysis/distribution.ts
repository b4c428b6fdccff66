/** Distributions of cosine similarities, from counts in bins over [-1, 1]. */
import { z } from 'zod';

/** Bins in which similarities are counted; quantiles are read off them. */
export const FINE_BINS = 2000;
const BINS = 100;
const LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95] as const;

export const distribution = z.object({
  /** How many similarities. */
  count: z.int().min(1),
  mean: z.number(),
  /** To within .001, by level. */
  quantiles: z.record(z.enum(LEVELS.map(String) as [`${(typeof LEVELS)[number]}`]), z.number()),
  /** In 100 bins of equal width over [-1, 1]. */
  counts: z.array(z.int().min(0)).length(BINS),
});
export type Distribution = z.infer<typeof distribution>;

/** Of values that were counted in {@link FINE_BINS} bins. */
export function fromCounts(fine: ArrayLike<number | bigint>, mean: number): Distribution {
  const counts = Array<number>(BINS).fill(0);
  for (let bin = 0; bin < fine.length; bin++) counts[Math.floor((bin * BINS) / FINE_BINS)]! += Number(fine[bin]);
  const count = counts.reduce((sum, each) => sum + each, 0);
  const quantile = (level: number): number => {
    for (let bin = 0, below = 0; ; bin++) {
      const here = Number(fine[bin]);
      if (here > 0 && below + here >= level * count) return (2 * (bin + (level * count - below) / here)) / FINE_BINS - 1;
      below += here;
    }
  };
  return { count, mean, quantiles: Object.fromEntries(LEVELS.map((level) => [level, quantile(level)])) as Distribution['quantiles'], counts };
}

export function fromValues(values: ArrayLike<number>): Distribution {
  const fine = Array<number>(FINE_BINS).fill(0);
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    fine[Math.min(FINE_BINS - 1, Math.floor(((values[i]! + 1) / 2) * FINE_BINS))]!++;
    sum += values[i]!;
  }
  return fromCounts(fine, sum / values.length);
}
