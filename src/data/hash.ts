/** What identifies the images of a split: their bytes, in order. */
import { createHash } from 'node:crypto';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';

/** SHA-256, in hexadecimal, of uint8 pixels [N, ...]; a piece at a time: a data set is not copied for it. */
export function sha256(pixels: Tensor): string {
  const hash = createHash('sha256');
  for (let start = 0; start < pixels.shape[0]!; start += 1024)
    scope(() => hash.update(ops.aten.slice(pixels, 0, start, start + 1024).toTypedArray() as Uint8Array));
  return hash.digest('hex');
}
