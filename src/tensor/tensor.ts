/** Tensors on LibTorch: a typed handle with an explicit lifetime. */
import type { TensorHandle } from '../runtime/addon.js';

// Contract for the other rooms; the whole class follows in the next commit.
export declare class Tensor implements Disposable {
  /** Takes ownership of a native handle and enters it in the innermost scope. */
  static wrap(handle: TensorHandle): Tensor;
  /** The native handle; throws when disposed. For the facade only. */
  readonly handle: TensorHandle;
  readonly shape: readonly number[];
  readonly dtype: string;
  dispose(): void;
  [Symbol.dispose](): void;
}
