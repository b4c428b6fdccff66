/** One seed, many independent draws: every random choice of a run is a function of (seed, purpose, counter), so nothing needs to be remembered. */

const purposes = { initialisation: 1n, order: 2n, views: 3n, attack: 4n, head: 5n, probe: 6n, labels: 7n, validation: 8n, clusters: 17n, queue: 18n, shuffle: 19n } as const;
const mask = (1n << 64n) - 1n;

/** A seed of 53 bits for one purpose and counter (an epoch, say), from SplitMix64 over the three. */
export function deriveSeed(seed: number, purpose: keyof typeof purposes, counter = 0): number {
  return Number(mix(mix(mix(BigInt(seed)) ^ purposes[purpose]) ^ BigInt(counter)) >> 11n);
}

/** SplitMix64's output function (Steele, Lea and Flood, OOPSLA 2014). */
function mix(value: bigint): bigint {
  let z = (value + 0x9e3779b97f4a7c15n) & mask;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
  return z ^ (z >> 31n);
}
