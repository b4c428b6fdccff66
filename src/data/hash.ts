/** What identifies images and weights: their bytes, in order. */
import { createHash } from 'node:crypto';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import type { Tensor } from '../tensor/tensor.js';

/** SHA-256, in hexadecimal, of the tensors' elements one after the other; a piece at a time: a data set is not copied for it. */
export function sha256(...tensors: Tensor[]): string {
  const hash = createHash('sha256');
  for (const tensor of tensors)
    for (let start = 0, rows = tensor.shape[0] ?? 1; start < rows; start += 1024)
      scope(() => {
        const { buffer, byteOffset, byteLength } = (tensor.shape.length === 0 ? tensor : ops.aten.slice(tensor, 0, start, start + 1024)).toTypedArray() as Uint8Array;
        hash.update(new Uint8Array(buffer, byteOffset, byteLength));
      });
  return hash.digest('hex');
}
