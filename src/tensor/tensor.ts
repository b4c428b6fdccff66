/** Tensors on LibTorch: a typed handle with an explicit lifetime. */
import { inspect, type InspectOptions } from 'node:util';
import type { TensorHandle, TensorState } from '../runtime/addon.js';
import { checkDevice } from '../runtime/cuda.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { native } from '../runtime/native.js';
import { DTYPES, DTYPE_NAMES, type DType, type TensorData } from './dtype.js';
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
    Object.preventExtensions(this);  // in strict code `x.requiresgrad = true` is a TypeError
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
  /**
   * The gradient that `backward()` accumulated in this leaf, or null. Each read returns a new handle onto the same memory. What is assigned
   * is another tensor of the same shape, dtype and device, or null: else ArgumentTypeError, ArgumentRangeError.
   */
  get grad(): Tensor | null {
    const handle = native().grad(this.handle);
    return handle === null ? null : Tensor.wrap(handle);
  }
  set grad(value: Tensor | null) {
    if (value !== null) this.#checkGradient('grad', value);
    native().set_grad(this.handle, value === null ? null : value.handle);
  }
  /** True once `dispose()` was called; any other use then throws. */
  get disposed(): boolean {
    return this.#handle === undefined;
  }

  /**
   * Accumulates d(this)/d(leaf) into the `grad` of every leaf.
   * @param gradient the gradient of this tensor; may be left out for a scalar
   * @param options.retainGraph keeps the graph for another backward; default false
   * @throws ArgumentTypeError, ArgumentRangeError when the gradient has another shape, dtype or device
   * @throws OperatorError when nothing here requires a gradient or the graph was freed by an earlier backward
   */
  backward(gradient?: Tensor, options: { retainGraph?: boolean } = {}): void {
    const { retainGraph = false } = check.options('options', options, ['retainGraph']);
    if (gradient !== undefined) this.#checkGradient('gradient', gradient);
    native().backward(this.handle, gradient?.handle ?? null, check.boolean('options.retainGraph', retainGraph));
  }

  #checkGradient(argument: string, value: unknown): void {
    if (!(value instanceof Tensor)) throw new ArgumentTypeError(argument, argument === 'grad' ? 'a Tensor or null' : 'a Tensor', describe(value));
    if (value === this && argument === 'grad') throw new ArgumentRangeError(argument, 'another tensor', 'the tensor itself');
    const [wanted, given] = [this.#read(), value.#read()];
    if (given.dtype !== wanted.dtype) throw new ArgumentTypeError(argument, `a ${wanted.dtype} Tensor`, given.dtype);
    if (String(given.shape) !== String(wanted.shape)) throw new ArgumentRangeError(argument, `shape [${wanted.shape.join(', ')}]`, `[${given.shape.join(', ')}]`);
    if (given.device !== wanted.device) throw new ArgumentRangeError(argument, `a Tensor on ${wanted.device}`, given.device);
  }

  /**
   * The value of a tensor with one element, as a number: 0 or 1 for bool.
   * @throws ArgumentRangeError for more or fewer elements, and for an int64 that no number holds exactly (`toTypedArray()` has it as a bigint)
   * @throws ArgumentTypeError for a complex tensor
   */
  item(): number {
    return native().item(this.handle);
  }

  /** The elements as numbers (half precision widened) or bigints. */
  #readable() {
    if (this.dtype !== 'float16' && this.dtype !== 'bfloat16') return this.toTypedArray();
    using wide = this.to({ dtype: 'float32' });
    return wide.toTypedArray();
  }

  /**
   * A copy of the elements in row-major order: the typed array of the dtype ({@link DTYPES}); float16 and bfloat16 come as their bits in a
   * Uint16Array, bool as 0 and 1 in a Uint8Array, int64 in a BigInt64Array.
   */
  toTypedArray(): Float32Array | Float64Array | Uint16Array | Int8Array | Int16Array | Int32Array | BigInt64Array | Uint8Array {
    return arraysOf(this)[0]!;
  }

  /** A copy as nested arrays of numbers (bigints for int64, booleans for bool). */
  toArray(): NestedArray<number | bigint | boolean> {
    const flat = this.#readable();
    const bool = this.dtype === 'bool';
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
    if (target.dtype !== undefined) check.oneOf('target.dtype', target.dtype, DTYPE_NAMES);
    const device = target.device === undefined ? null : checkDevice('target.device', target.device);
    return Tensor.wrap(native().to(this.handle, target.dtype ?? null, device));
  }

  /** The same memory, cut from the graph. */
  detach(): Tensor {
    return Tensor.wrap(native().call_operator('aten::detach', null, [this.handle], null) as TensorHandle);
  }

  /** A copy with its own memory; differentiable. */
  clone(): Tensor {
    return Tensor.wrap(native().call_operator('aten::clone', null, [this.handle], null) as TensorHandle);
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

/** As {@link Tensor.toTypedArray}; a card is waited for once for all of them. @internal */
export function arraysOf(...tensors: Tensor[]): ReturnType<Tensor['toTypedArray']>[] {
  const arrays = tensors.map(({ dtype }) => {
    if (!(dtype in DTYPES)) throw new ArgumentTypeError('tensor', `one of ${DTYPE_NAMES.join(', ')}`, dtype);
    return DTYPES[dtype].array;
  });
  return native().to_data(tensors.map(({ handle }) => handle)).map((data, i) => new arrays[i]!(data));
}

/** The same as bytes. @internal */
export const bytesOf = (...tensors: Tensor[]): Uint8Array[] => arraysOf(...tensors).map(({ buffer }) => new Uint8Array(buffer));

/**
 * A tensor from numbers. A typed array brings its dtype and is copied; plain (nested) arrays and numbers become float32, unless all are
 * booleans (bool) or any is a bigint and all are integers (int64).
 * @param options.shape the sizes; the default is the nesting of a plain array, or one dimension for a typed array
 * @param options.dtype converts the numbers, which an integer dtype must hold exactly (of typed arrays, floats are cut off and integers wrap,
 *   as in LibTorch; bool is "not 0"); with a Uint16Array, `'float16'` or `'bfloat16'` takes them as bits
 * @throws ArgumentRangeError when the shape does not hold the data, nested arrays are ragged or deeper than 64, or a number does not fit (`data[i]`)
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
  if (options.dtype !== undefined) check.oneOf('options.dtype', options.dtype, DTYPE_NAMES);
  const source = ArrayBuffer.isView(data) ? fromTypedArray(data as TensorData, options.dtype) : fromNested(data, options.dtype);
  const shape = options.shape === undefined ? source.shape : check.shape('options.shape', options.shape);
  const count = shape.reduce((product, length) => product * length, 1);
  if (count !== source.values.length) throw new ArgumentRangeError('options.shape', `${source.values.length} elements in all`, `[${shape.join(', ')}]`);
  const wanted = options.dtype ?? source.dtype;
  checkPlace(wanted, options.device, options.requiresGrad);
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

/** The options of a new tensor beside its dtype. @internal */
export function checkPlace(dtype: DType, device: unknown, requiresGrad: unknown): void {
  if (device !== undefined) checkDevice('options.device', device);
  if (requiresGrad !== undefined && check.boolean('options.requiresGrad', requiresGrad) && !dtype.includes('float'))
    throw new ArgumentRangeError('options.requiresGrad', `false for dtype ${dtype} (gradients are of floating-point dtypes)`, 'true');
}

interface Source {
  values: ArrayBufferView & { length: number };
  dtype: DType;
  shape: number[];
}

function fromTypedArray(data: TensorData, dtype: DType | undefined): Source {
  const shape = [data.length];
  if (data.buffer instanceof SharedArrayBuffer) data = data.slice(); // Node-API takes no shared memory
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

/** As many dimensions as a LibTorch tensor can have. */
const MAX_DEPTH = 64;

const INTEGERS: Partial<Record<DType, readonly [min: bigint, max: bigint]>> = {
  int8: [-128n, 127n], uint8: [0n, 255n], int16: [-(2n ** 15n), 2n ** 15n - 1n], int32: [-(2n ** 31n), 2n ** 31n - 1n], int64: [-(2n ** 63n), 2n ** 63n - 1n],
};

function fromNested(data: unknown, dtype: DType | undefined): Source {
  const shape: number[] = [];
  for (let level: unknown = data; Array.isArray(level); level = level[0]) {
    if (shape.length === MAX_DEPTH) throw new ArgumentRangeError('data', `at most ${MAX_DEPTH} nested arrays`, 'more');
    shape.push(level.length);
  }
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
  if (flat.length > 0 && flat.every((value) => typeof value === 'boolean') && dtype === undefined)
    return { values: Uint8Array.from(flat, Number), dtype: 'bool', shape };
  const some = flat.some((value) => typeof value === 'bigint') && flat.every((value) => typeof value !== 'number' || Number.isInteger(value));
  const range = INTEGERS[dtype ?? (some ? 'int64' : 'float32')];
  if (range) {
    const integers = BigInt64Array.from(flat, (value, i) => {
      if (typeof value === 'number' && !Number.isSafeInteger(value)) throw new ArgumentRangeError(`data[${i}]`, 'an integer', String(value));
      const integer = BigInt(value);
      if (integer < range[0] || integer > range[1]) throw new ArgumentRangeError(`data[${i}]`, `an integer from ${range[0]} to ${range[1]}`, describe(value));
      return integer;
    });
    return { values: integers, dtype: 'int64', shape };
  }
  if (dtype !== undefined && dtype !== 'float32') return { values: Float64Array.from(flat, Number), dtype: 'float64', shape };
  return { values: Float32Array.from(flat, Number), dtype: 'float32', shape };
}
