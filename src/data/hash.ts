/** What identifies images and weights: their bytes, in order. */
import { createHash } from 'node:crypto';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import { bytesOf, type Tensor } from '../tensor/tensor.js';

/** Of a piece at the most, and of the pieces that are read at once at the least, but for the last. */
const ROWS = 1024, ELEMENTS = 1 << 20;

/** SHA-256, in hexadecimal, of the tensors' elements one after the other; a piece at a time: a data set is not copied for it. */
export function sha256(...tensors: Tensor[]): string {
  const hash = createHash('sha256'), rows = (tensor: Tensor) => tensor.shape[0] ?? 1;
  const pieces = tensors.flatMap((tensor) => Array.from({ length: Math.ceil(rows(tensor) / ROWS) }, (_, i) => [tensor, i * ROWS] as const));
  for (let at = 0; at < pieces.length; )
    scope(() => {
      const together: Tensor[] = [];
      for (let size = 0; at < pieces.length && size < ELEMENTS; at++) {
        const [tensor, start] = pieces[at]!;
        together.push(rows(tensor) <= ROWS ? tensor : ops.aten.slice(tensor, 0, start, start + ROWS));
        size += together.at(-1)!.size;
      }
      for (const bytes of bytesOf(...together)) hash.update(bytes);
    });
  return hash.digest('hex');
}
