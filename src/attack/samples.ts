/** Labelled images as attacks and evaluations read them. */
import { AInfoNCEError, ArgumentRangeError, ArgumentTypeError, check, describe } from '../runtime/errors.js';
import { checkImages, checkLabels } from '../tensor/check.js';
import { ops } from '../tensor/ops.js';
import { scope } from '../tensor/scope.js';
import { arraysOf, type Tensor, tensor } from '../tensor/tensor.js';

/** The part of a data set that evaluation reads: samples that are the same whenever they are asked for. */
export interface EvaluationData {
  /** Number of samples. */
  readonly length: number;
  /** Images start to end-1: float32 `[end - start, C, H, W]` in [0, 1]. */
  images(start: number, end: number): Tensor | Promise<Tensor>;
  /** Their classes: int64 `[end - start]`. */
  labels(start: number, end: number): Tensor | Promise<Tensor>;
}

/** Images and labels as a data set. @internal */
export function samplesOf(images: Tensor, labels: unknown): EvaluationData {
  checkImages('images', images);
  checkLabels('labels', labels, images.shape[0]!);
  return { length: images.shape[0]!, images: (start, end) => ops.aten.slice(images, 0, start, end), labels: (start, end) => ops.aten.slice(labels, 0, start, end) };
}

/** Checks that `data` is a data set. @internal */
export function checkData(data: EvaluationData): void {
  if (data === null || typeof data !== 'object' || typeof data.images !== 'function' || typeof data.labels !== 'function')
    throw new ArgumentTypeError('data', 'a data set with length, images() and labels()', describe(data));
  check.integer('data.length', data.length, { min: 1 });
}

/** Samples start to end-1, checked to be as many images and labels as were asked for. @internal */
export async function readSamples(data: EvaluationData, start: number, end: number): Promise<{ images: Tensor; labels: Tensor }> {
  const images = await data.images(start, end), labels = await data.labels(start, end);
  const count = end - start;
  checkImages('data.images', images);
  if (images.shape[0] !== count) throw new ArgumentRangeError('data.images', `${count} images for samples ${start} to ${end - 1}`, `[${images.shape.join(', ')}]`);
  checkLabels('data.labels', labels, count);
  return { images, labels };
}

/** The samples of these numbers, which ascend. @internal */
export async function gatherSamples(data: EvaluationData, numbers: readonly number[]): Promise<{ images: Tensor; labels: Tensor }> {
  return scope(async () => {
    const block = numbers.length, parts: { images: Tensor; labels: Tensor }[] = [];
    for (let at = 0; at < numbers.length; ) {
      const start = numbers[at]!, end = Math.min(start + block, data.length); // never much more in memory than was asked for
      let next = at;
      while (next < numbers.length && numbers[next]! < end) next++;
      const read = await readSamples(data, start, numbers[next - 1]! + 1);
      const rows = numbers.slice(at, next).map((number) => number - start);
      parts.push({ images: select(read.images, rows), labels: select(read.labels, rows) });
      at = next;
    }
    return { images: ops.aten.cat(parts.map(({ images }) => images)), labels: ops.aten.cat(parts.map(({ labels }) => labels)) };
  });
}

/** Labels that are classes of the model, or the error that names the first that is none. @internal */
export function checkClasses(labels: Tensor | BigInt64Array, classes: number, start: number): void {
  const wanted = labels instanceof BigInt64Array ? labels : (labels.toTypedArray() as BigInt64Array);
  const foreign = wanted.findIndex((label) => label < 0n || label >= classes);
  if (foreign >= 0)
    throw new ArgumentRangeError('data.labels', `classes from 0 to ${classes - 1}, as the model has`, `${wanted[foreign]} for sample ${start + foreign}`);
}

/** The rows where both agree. With `known`, labels are checked as {@link checkClasses} does, for one wait for their device. @internal */
export function agreeing(predicted: Tensor, labels: Tensor, known?: { classes: number; start: number }): number[] {
  const [found, wanted] = arraysOf(predicted, labels) as [BigInt64Array, BigInt64Array];
  if (known) checkClasses(wanted, known.classes, known.start);
  return Array.from(wanted.keys()).filter((row) => found[row] === wanted[row]);
}

/** Every adversary is checked once more, whoever made it: within epsilon and in [0, 1], or the error that names the sample. `numbers`: of the samples. @internal */
export function checkInside(attack: string, { norm, epsilon }: { norm: 'linf' | 'l2'; epsilon: number | null }, images: Tensor, adversaries: Tensor, numbers: readonly number[]): void {
  scope(() => {
    const [from, to] = [images, adversaries].map((each) => ops.aten.flatten(each.to({ dtype: 'float64' }), 1)) as [Tensor, Tensor];
    const distance = ops.aten.linalg_vector_norm(ops.aten.sub(to, from), norm === 'linf' ? Infinity : 2, [1]);
    const [change, low, high] = arraysOf(distance, ops.aten.amin(to, [1]), ops.aten.amax(to, [1])) as [Float64Array, Float64Array, Float64Array];
    const outside = numbers.findIndex((_, row) => !(change[row]! <= (epsilon ?? Infinity) && low[row]! >= 0 && high[row]! <= 1));
    if (outside >= 0)
      throw new AInfoNCEError(`${attack}: the adversary of sample ${numbers[outside]} is not in the ball: at a distance of ${change[outside]}, with values in [${low[outside]}, ${high[outside]}]`);
  });
}

/** Row numbers as an int64 tensor, on the device of the tensor whose rows they are. @internal */
export const rowsOf = (rows: readonly number[], of?: Tensor): Tensor => tensor(BigInt64Array.from(rows, BigInt), { device: of?.device ?? 'cpu' });

/** Those rows of a tensor. @internal */
export const select = (of: Tensor, rows: readonly number[]): Tensor => ops.aten.index_select(of, 0, rowsOf(rows, of));
