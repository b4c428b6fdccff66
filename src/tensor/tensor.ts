/** Tensors on LibTorch: a typed handle with an explicit lifetime. */
import { inspect, type InspectOptions } from 'node:util';
import type { TensorHandle, TensorState } from '../runtime/addon.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { native } from '../runtime/native.js';
import { DTYPES, type DType, type TensorData } from './dtype.js';
import { currentScope } from './scope.js';

/** Nested arrays of numbers, as `toArray()` returns them. */
export type NestedArray<T> = T | NestedArray<T>[];

/**
 * A LibTorch tensor. Its memory lives outside the JavaScript heap: free it with `dispose()`, declare it with `using`, or make it inside
 * {@link scope}. Garbage collection frees what was forgotten, but only when the event loop turns.
 *
 * Operators are functions: `ops.aten.mm(a, b)`.
 */
export class Tensor implements Disposable {
  #handle: TensorHandle | undefined;

  private constructor(handle: TensorHandle) {
    this.#handle = handle;
    currentScope()?.add(this);
  }

  /** Takes ownership of a native handle and enters it in the innermost scope. @internal */
  static wrap(handle: TensorHandle): Tensor {
    return new Tensor(handle);
  }

  /** The native handle, for the facade. @internal */
  get handle(): TensorHandle {
    if (this.#handle === undefined) throw new ArgumentTypeError('tensor', 'a live Tensor', 'a disposed Tensor');
    return this.#handle;
  }

  #read(): TensorState {
    // Read anew each time: in-place operators may change shape and requiresGrad.
    return native().state(this.handle);
  }

  /** The element type. Results of complex operators report `'complex64'` or `'complex128'`, whose data cannot be read directly. */
  get dtype(): DType {
    return this.#read().dtype as DType;
  }
  /** The size of each dimension; `[]` for a scalar. */
  get shape(): readonly number[] {
    return this.#read().shape;
  }
  /** `'cpu'` or `'cuda:<index>'`. */
  get device(): string {
    return this.#read().device;
  }
  /** The number of elements. */
  get size(): number {
    return this.shape.reduce((product, length) => product * length, 1);
  }
  /** Whether autograd records what is done with this tensor. Only floating-point leaves can be set. */
  get requiresGrad(): boolean {
    return this.#read().requiresGrad;
  }
  set requiresGrad(value: boolean) {
    native().set_requires_grad(this.handle, check.boolean('requiresGrad', value));
  }
  /** The gradient that `backward()` accumulated in this leaf, or null. Each read returns a new handle onto the same memory. */
  get grad(): Tensor | null {
    const handle = native().grad(this.handle);
    return handle === null ? null : Tensor.wrap(handle);
  }
  set grad(value: Tensor | null) {
    native().set_grad(this.handle, value === null ? null : value.handle);
  }
  /** True once `dispose()` was called; any other use then throws. */
  get disposed(): boolean {
    return this.#handle === undefined;
  }

  /**
   * Accumulates d(this)/d(leaf) into the `grad` of every leaf.
   * @param gradient the gradient of this tensor; may be left out for a scalar
   * @throws OperatorError when nothing here requires a gradient or the graph was freed by an earlier backward
   */
  backward(gradient?: Tensor, options: { retainGraph?: boolean } = {}): void {
    native().backward(this.handle, gradient?.handle ?? null, options.retainGraph ?? false);
  }

  /** The value of a tensor with one element: a number, a boolean for bool, a bigint for int64 outside the safe integers. */
  item(): number {
    const { shape } = this;
    if (this.size !== 1) throw new ArgumentRangeError('tensor', 'one element', `shape [${shape.join(', ')}]`);
    const using64 = this.dtype === 'float16' || this.dtype === 'bfloat16' ? this.to({ dtype: 'float32' }) : this;
    const value = using64.toTypedArray()[0]!;
    if (using64 !== this) using64.dispose();
    return Number(value);
  }

  /**
   * A copy of the elements in row-major order: the typed array of the dtype ({@link DTYPES}); float16 and bfloat16 come as their bits in a
   * Uint16Array, bool as 0 and 1 in a Uint8Array, int64 in a BigInt64Array.
   */
  toTypedArray(): Float32Array | Float64Array | Uint16Array | Int8Array | Int16Array | Int32Array | BigInt64Array | Uint8Array {
    const { dtype } = this;
    if (!(dtype in DTYPES)) throw new ArgumentTypeError('tensor', `one of ${Object.keys(DTYPES).join(', ')}`, dtype);
    return new DTYPES[dtype].array(native().to_data(this.handle));
  }

  /** A copy as nested arrays of numbers (bigints for int64, booleans for bool). */
  toArray(): NestedArray<number | bigint | boolean> {
    const half = this.dtype === 'float16' || this.dtype === 'bfloat16';
    const source = half ? this.to({ dtype: 'float32' }) : this;
    const flat = source.toTypedArray();
    const bool = this.dtype === 'bool';
    if (half) source.dispose();
    let offset = 0;
    const build = (dims: readonly number[]): NestedArray<number | bigint | boolean> => {
      const [length, ...rest] = dims;
      if (length === undefined) return bool ? flat[offset++] === 1 : flat[offset++]!;
      return Array.from({ length }, () => build(rest));
    };
    return build(this.shape);
  }

  /** This tensor with another dtype or on another device; differentiable. Shares memory when nothing changes. */
  to(target: { dtype?: DType; device?: string }): Tensor {
    check.options('target', target, ['dtype', 'device']);
    if (target.dtype !== undefined) check.oneOf('target.dtype', target.dtype, Object.keys(DTYPES) as DType[]);
    return Tensor.wrap(native().to(this.handle, target.dtype ?? null, target.device ?? null));
  }

  /** The same memory, cut from the graph. */
  detach(): Tensor {
    return Tensor.wrap(native().call_operator('aten::detach', null, [this.handle], {}) as TensorHandle);
  }

  /** A copy with its own memory; differentiable. */
  clone(): Tensor {
    return Tensor.wrap(native().call_operator('aten::clone', null, [this.handle], {}) as TensorHandle);
  }

  /** Frees the handle now; views of the same storage keep it alive. Idempotent. */
  dispose(): void {
    if (this.#handle === undefined) return;
    native().dispose(this.#handle);
    this.#handle = undefined;
    currentScope()?.delete(this);
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    if (this.disposed) return 'Tensor(disposed)';
    const { dtype, shape, device, requiresGrad } = this.#read();
    return `Tensor(${dtype} [${shape.join(', ')}]${device === 'cpu' ? '' : ` ${device}`}${requiresGrad ? ' requiresGrad' : ''})`;
  }
  [inspect.custom](_depth: number, options: InspectOptions): string {
    const head = this.toString();
    if (this.disposed || this.size > 100 || !(this.dtype in DTYPES)) return head;
    return `${head} ${inspect(this.toArray(), { ...options, depth: 8, compact: 8 })}`;
  }
}

/**
 * A tensor from numbers. A typed array brings its dtype and is copied; plain (nested) arrays and numbers become float32.
 * @param options.shape the sizes; the default is the nesting of a plain array, or one dimension for a typed array
 * @param options.dtype converts the numbers; with a Uint16Array, `'float16'` or `'bfloat16'` takes them as bits
 * @throws ArgumentRangeError when the shape does not hold the data, or nested arrays are ragged
 * @example
 * ```ts
 * using x = tensor(new Float32Array([1, 2, 3, 4]), { shape: [2, 2], requiresGrad: true });
 * ```
 */
export function tensor(
  data: TensorData | number | bigint | boolean | readonly unknown[],
  options: { shape?: readonly number[]; dtype?: DType; device?: string; requiresGrad?: boolean } = {},
): Tensor {
  check.options('options', options, ['shape', 'dtype', 'device', 'requiresGrad']);
  if (options.dtype !== undefined) check.oneOf('options.dtype', options.dtype, Object.keys(DTYPES) as DType[]);
  const source = ArrayBuffer.isView(data) ? fromTypedArray(data as TensorData, options.dtype) : fromNested(data, options.dtype);
  const shape = [...(options.shape ?? source.shape)];
  shape.forEach((length, i) => check.integer(`options.shape[${i}]`, length, { min: 0 }));
  const count = shape.reduce((product, length) => product * length, 1);
  if (count !== source.values.length) throw new ArgumentRangeError('options.shape', `${source.values.length} elements in all`, `[${shape.join(', ')}]`);
  const wanted = options.dtype ?? source.dtype;
  let handle = native().from_data(source.values, source.dtype, shape, options.device ?? 'cpu');
  if (wanted !== source.dtype) {
    const converted = native().to(handle, wanted, null);
    native().dispose(handle);
    handle = converted;
  }
  const result = Tensor.wrap(handle);
  if (options.requiresGrad) result.requiresGrad = true;
  return result;
}

interface Source {
  values: ArrayBufferView & { length: number };
  dtype: DType;
  shape: number[];
}

function fromTypedArray(data: TensorData, dtype: DType | undefined): Source {
  const shape = [data.length];
  if (data instanceof Uint16Array) {
    if (dtype === 'float16' || dtype === 'bfloat16') return { values: data, dtype, shape };
    return { values: Int32Array.from(data), dtype: 'int32', shape };
  }
  if (data instanceof Uint8Array && dtype === 'bool') return { values: data.map((value) => (value ? 1 : 0)), dtype, shape };
  if (data instanceof Uint8ClampedArray) return { values: new Uint8Array(data), dtype: 'uint8', shape };
  for (const [name, { array }] of Object.entries(DTYPES))
    if (data.constructor === array || (data instanceof array && name !== 'float16' && name !== 'bfloat16'))
      return { values: data, dtype: name as DType, shape };
  throw new ArgumentTypeError('data', 'a typed array of a known element type', describe(data));
}

function fromNested(data: unknown, dtype: DType | undefined): Source {
  const shape: number[] = [];
  for (let level: unknown = data; Array.isArray(level); level = level[0]) shape.push(level.length);
  const flat: (number | bigint | boolean)[] = [];
  const visit = (value: unknown, depth: number): void => {
    if (Array.isArray(value)) {
      if (value.length !== shape[depth])
        throw new ArgumentRangeError('data', 'nested arrays of equal lengths', `lengths ${shape[depth] ?? 'of a number'} and ${value.length}`);
      for (const item of value) visit(item, depth + 1);
    } else if (depth !== shape.length || !['number', 'bigint', 'boolean'].includes(typeof value)) {
      throw new ArgumentTypeError('data', 'numbers, nested arrays of numbers or a typed array', describe(value));
    } else flat.push(value as number | bigint | boolean);
  };
  visit(data, 0);
  if (flat.length > 0 && flat.every((value) => typeof value === 'bigint') && (dtype === undefined || dtype === 'int64'))
    return { values: BigInt64Array.from(flat as bigint[]), dtype: 'int64', shape };
  if (flat.length > 0 && flat.every((value) => typeof value === 'boolean') && dtype === undefined)
    return { values: Uint8Array.from(flat, Number), dtype: 'bool', shape };
  if (dtype === 'int64') {
    return {
      values: BigInt64Array.from(flat, (value, i) => {
        if (typeof value === 'number' && !Number.isSafeInteger(value)) throw new ArgumentRangeError(`data[${i}]`, 'an integer', String(value));
        return BigInt(value);
      }), dtype, shape,
    };
  }
  if (dtype !== undefined && dtype !== 'float32') return { values: Float64Array.from(flat, Number), dtype: 'float64', shape };
  return { values: Float32Array.from(flat, Number), dtype: 'float32', shape };
}
