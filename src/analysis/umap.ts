/** A map of points in two dimensions by UMAP (McInnes et al., 2018), from neighbours that were found natively. */
import { setImmediate } from 'node:timers/promises';
import { UMAP } from 'umap-js';

/** Row i of `indices` and `distances` [n, k]: point i itself, then the nearest others, nearest first. The same seed gives the same map. */
export async function umap(indices: number[][], distances: number[][], seed: number, signal: AbortSignal | undefined): Promise<[number, number][]> {
  const map = new UMAP({ nComponents: 2, nNeighbors: indices[0]!.length, minDist: 0.1, random: mulberry32(seed) });
  map.setPrecomputedKNN(indices, distances);
  const epochs = map.initializeFit(indices); // with neighbours known, of the points their number alone counts
  for (let epoch = 0; epoch < epochs; epoch++) {
    map.step();
    if (epoch % 10 === 0) await setImmediate();
    signal?.throwIfAborted();
  }
  return map.getEmbedding() as [number, number][];
}

/** Uniform numbers in [0, 1) from a seed (Tommy Ettinger's Mulberry32). */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}
