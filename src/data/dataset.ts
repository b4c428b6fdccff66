/** Labelled images in memory: bytes once, float32 batches on demand. */
import { checkDevice } from '../runtime/cuda.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { checkLabels, tensorOf } from '../tensor/check.js';
import { ops } from '../tensor/ops.js';
import { keep, scope } from '../tensor/scope.js';
import { Tensor, tensor } from '../tensor/tensor.js';
import { sha256 } from './hash.js';
import type { ProceduralOptions } from './procedural.js';

/** Row numbers: plain integers, a typed array of integers, or an int64 tensor [n]. */
export type Indices = readonly number[] | Int32Array | BigInt64Array | Tensor;

/** What a {@link Split} is made from. */
export interface SplitData {
  /** Bytes of all images, [length, channels, size, size]. */
  pixels: Uint8Array;
  /** The class of every image. */
  labels: ArrayLike<number>;
  channels: number;
  size: number;
}

/**
 * One part (train, test) of a data set. The pixels stay as bytes and are kept once; `dispose()` frees them, whatever scope the split was made in.
 */
export class Split implements Disposable {
  readonly #pixels: Tensor;
  readonly #classOf: Tensor;

  private constructor(pixels: Tensor, classOf: Tensor) {
    const { dtype, shape } = tensorOf('pixels', pixels), classes = tensorOf('labels', classOf);
    if (dtype !== 'uint8' || shape.length !== 4) throw new ArgumentRangeError('pixels', 'uint8 [length, channels, size, size]', `${dtype} [${shape.join(', ')}]`);
    checkLabels('labels', classes, shape[0]!);
    [this.length, this.channels, this.size] = shape as [number, number, number, number];
    this.#pixels = keep(pixels);
    this.#classOf = keep(classes);
  }

  /** uint8 [length, channels, size, size]; owned by the split. */
  get pixels(): Tensor {
    return this.#live(this.#pixels);
  }
  get #labels(): Tensor {
    return this.#live(this.#classOf);
  }
  #live(part: Tensor): Tensor {
    if (part.disposed) throw new ArgumentTypeError('split', 'a live Split', 'a disposed Split');
    return part;
  }

  /** The number of images. */
  readonly length: number;
  /** 1 (gray) or 3 (red, green, blue). */
  readonly channels: number;
  /** Height and width in pixels. */
  readonly size: number;

  /** Where the pixels and labels are: `'cpu'` or `'cuda:<index>'`. */
  get device(): string {
    return this.pixels.device;
  }

  /**
   * The same images on another device: all that is made of them is made there. A split of its own, with its own memory.
   * @throws ArgumentRangeError when there is no such device
   */
  to(device: string): Split {
    const place = checkDevice('device', device);
    const copy = (x: Tensor) => (x.device === place ? x.clone() : x.to({ device: place }));
    return scope(() => Split.own(copy(this.pixels), copy(this.#labels)));
  }

  /** Copies the bytes and labels into tensors. @throws ArgumentTypeError, ArgumentRangeError naming what does not fit */
  static from(data: SplitData): Split {
    if (typeof data !== 'object' || data === null) throw new ArgumentTypeError('data', 'an object', describe(data));
    const { pixels, labels, channels, size } = data;
    if (!(pixels instanceof Uint8Array)) throw new ArgumentTypeError('pixels', 'a Uint8Array', describe(pixels));
    if (typeof labels !== 'object' || labels === null) throw new ArgumentTypeError('labels', 'an array of integers', describe(labels));
    const classes = Array.from(labels, (label, i) => BigInt(check.integer(`labels[${i}]`, label)));
    const shape = [classes.length, check.integer('channels', channels, { min: 1 }), check.integer('size', size, { min: 1 }), size];
    if (pixels.length !== shape.reduce((product, extent) => product * extent)) throw new ArgumentRangeError('pixels', `the bytes of ${shape.join(' x ')}`, String(pixels.length));
    return scope(() => new Split(tensor(pixels, { shape }), tensor(BigInt64Array.from(classes), { shape: [classes.length] })));
  }

  /** Takes ownership of uint8 [N, C, S, S] and int64 [N]. */
  static own(pixels: Tensor, labels: Tensor): Split {
    return new Split(pixels, labels);
  }

  /**
   * Images `start` to `end` - 1 as float32 [n, C, S, S] in [0, 1]: each byte divided by 255, the same float32 numbers as torchvision's `ToTensor`.
   * @throws ArgumentRangeError unless 0 <= start <= end <= length
   */
  images(start = 0, end = this.length): Tensor {
    this.#range(start, end);
    return scope(() => toFloat(ops.aten.slice(this.pixels, 0, start, end)));
  }

  /** The labels of images `start` to `end` - 1, int64 [n]; a copy. */
  labels(start = 0, end = this.length): Tensor {
    this.#range(start, end);
    return scope(() => ops.aten.slice(this.#labels, 0, start, end).clone());
  }

  /** The images at `indices`, in that order, as float32 [n, C, S, S] in [0, 1]. */
  gather(indices: Indices): Tensor {
    return scope(() => toFloat(ops.aten.index_select(this.pixels, 0, this.#rowsThere(indices))));
  }

  /** The labels at `indices`, int64 [n]. */
  gatherLabels(indices: Indices): Tensor {
    return scope(() => ops.aten.index_select(this.#labels, 0, this.#rowsThere(indices)));
  }

  /**
   * A split of some of the images, with its own copy of their bytes.
   * @param which the rows to take; or how many: then the classes come in turn, each in the order of the data, so that they are balanced
   */
  subset(which: Indices | number): Split {
    return scope(() => {
      const rows = this.#rowsThere(typeof which === 'number' ? this.#balanced(check.integer('which', which, { min: 0, max: this.length })) : which);
      return Split.own(ops.aten.index_select(this.pixels, 0, rows), ops.aten.index_select(this.#labels, 0, rows));
    });
  }

  /** SHA-256, in hexadecimal, of the pixels and then the labels, or of the pixels alone: by which runs, pseudo-labels and results know their images. */
  sha256(options?: { labels?: boolean }): string {
    const { labels = true } = check.options('options', options, ['labels']);
    return scope(() => sha256(this.pixels, ...(check.boolean('options.labels', labels) ? [this.labels()] : [])));
  }

  /** `indices` as an int64 tensor [n], on the CPU unless they are one elsewhere, each checked to be a row of this split. */
  rows(indices: Indices): Tensor {
    if (indices instanceof Tensor) {
      if (indices.dtype !== 'int64') throw new ArgumentTypeError('indices', 'an int64 tensor', indices.dtype);
      if (indices.shape.length !== 1) throw new ArgumentRangeError('indices', 'shape [n]', `[${indices.shape.join(', ')}]`);
      this.#check(indices.toTypedArray() as BigInt64Array);
      return indices;
    }
    if (!Array.isArray(indices) && !(indices instanceof Int32Array) && !(indices instanceof BigInt64Array))
      throw new ArgumentTypeError('indices', 'integers or an int64 tensor', describe(indices));
    this.#check(indices as ArrayLike<number>);
    return tensor(indices instanceof BigInt64Array ? indices : BigInt64Array.from(indices as ArrayLike<number>, BigInt));
  }

  dispose(): void {
    this.#pixels.dispose();
    this.#classOf.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  #rowsThere(indices: Indices): Tensor {
    return this.rows(indices).to({ device: this.device });
  }

  #range(start: number, end: number): void {
    check.integer('start', start, { min: 0, max: this.length });
    check.integer('end', end, { min: start, max: this.length });
  }

  #check(values: ArrayLike<number | bigint>): void {
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      if (!(value >= 0 && value < this.length && (typeof value === 'bigint' || Number.isInteger(value))))
        throw new ArgumentRangeError('indices', `integers from 0 to ${this.length - 1}`, `${describe(value)} at ${i}`);
    }
  }

  #balanced(count: number): number[] {
    const labels = this.#labels.toTypedArray() as BigInt64Array;
    const rows = new Map<bigint, number[]>();
    labels.forEach((label, row) => (rows.get(label) ?? rows.set(label, []).get(label)!).push(row));
    const queues = [...rows].sort(([a], [b]) => Number(a - b)).map(([, members]) => members);
    const chosen: number[] = [];
    for (let turn = 0; chosen.length < count; turn++)
      for (const members of queues) if (turn < members.length && chosen.length < count) chosen.push(members[turn]!);
    return chosen;
  }
}

/** A data set: two splits of square images of one size, and the names of their classes. */
export interface Dataset extends Disposable {
  readonly name: string;
  /** Label k is `classes[k]`. */
  readonly classes: readonly string[];
  /** 1 (gray) or 3 (red, green, blue). */
  readonly channels: number;
  /** Height and width in pixels. */
  readonly size: number;
  readonly train: Split;
  readonly test: Split;
  /** What a procedural data set was made with. */
  readonly procedural?: Required<ProceduralOptions>;
  /** The folder that it was read from, absolute. */
  readonly path?: string;
  dispose(): void;
}

/**
 * A data set with some of the training images, classes balanced as by {@link Split.subset}; `data` itself when `images` is undefined or no fewer than it has.
 * @param options.keep `data` stays whole and its owner's: the result frees its own copy alone. Default false: the result takes `data` over, and what is left out is freed at once.
 * @throws {@link ArgumentRangeError} unless `images` is a whole number from 1
 * @example
 * ```ts
 * using data = limitDataset(proceduralDataset({ train: 40, test: 10, size: 8 }), 20);
 * console.log(data.train.length);   // 20
 * ```
 */
export function limitDataset(data: Dataset, images: number | undefined, options?: { keep?: boolean }): Dataset {
  const { keep = false } = check.options('options', options, ['keep']);
  if (images === undefined || check.integer('images', images, { min: 1 }) >= data.train.length) return data;
  const train = data.train.subset(images);
  if (!keep) data.train.dispose();
  const dispose = () => {
    train.dispose();
    if (!keep) data.test.dispose();
  };
  return { ...data, train, dispose, [Symbol.dispose]: dispose };
}

/** Joins two splits under one name; disposes both when they do not fit together. */
export function makeDataset(name: string, classes: readonly string[], train: Split, test: Split): Dataset {
  if (train.channels !== test.channels || train.size !== test.size) {
    const [expected, received] = [train, test].map(({ channels, size }) => `images of ${channels} x ${size} x ${size}`) as [string, string];
    train.dispose();
    test.dispose();
    throw new ArgumentRangeError('test', expected, received);
  }
  const dispose = () => {
    train.dispose();
    test.dispose();
  };
  return { name, classes, channels: train.channels, size: train.size, train, test, dispose, [Symbol.dispose]: dispose };
}

/** @internal uint8 to float32 in [0, 1], as torchvision's `ToTensor`. */
export function toFloat(bytes: Tensor): Tensor {
  return ops.aten.div(bytes.to({ dtype: 'float32' }), 255);
}
