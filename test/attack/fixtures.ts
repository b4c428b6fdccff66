import { readFileSync } from 'node:fs';
import { loadTorchScript, ops, tensor, type EvaluationData, type Model, type Tensor } from 'a-infonce';

const folder = new URL('../fixtures/attack/', import.meta.url);

/** The float64 classifier with BatchNorm that test/fixtures/make_attack_reference.py trained, as a TorchScript model in eval mode. */
export async function loadNet(): Promise<Model> {
  return (await loadTorchScript(readFileSync(new URL('net.pt', folder)))).eval();
}

/** The same network as a function. */
export function functionNet(model: Model): (images: Tensor) => Tensor {
  const state = model.state(), of = (name: string) => state.get(name)!;
  return (images) => {
    const maps = ops.aten.conv2d(images, of('0.weight'), of('0.bias'), 1, 1);
    const normal = ops.aten.batch_norm(maps, of('1.weight'), of('1.bias'), of('1.running_mean'), of('1.running_var'), false, 0.1, 1e-5, false);
    return ops.aten.linear(ops.aten.flatten(ops.aten.avg_pool2d(ops.aten.softplus(normal), [2, 2]), 1), of('5.weight'), of('5.bias'));
  };
}

interface Reference {
  shape: number[];
  images: string;
  labels: number[];
  cases: { norm: 'linf' | 'l2'; epsilon: number; stepSize: number; steps: number; targeted: boolean; adversaries: string; predictedLabels: number }[];
}

const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'base64'));

/** Images, labels and the adversaries that eager PyTorch found. */
export function reference() {
  const { shape, images, labels, cases } = JSON.parse(readFileSync(new URL('reference.json', folder), 'utf8')) as Reference;
  return {
    images: tensor(Float64Array.from(bytes(images), (byte) => byte / 255), { shape }),
    labels: int64(labels),
    cases: cases.map((given) => ({ ...given, adversaries: new Float64Array(bytes(given.adversaries).buffer) })),
  };
}

/** The reference's images with labels of which two, 2 and 9, are wrong on purpose: such samples are never robust. */
export function mislabelled() {
  const { images, labels } = reference();
  const wrongly = int64((labels.toArray() as bigint[]).map((label, i) => (i === 2 || i === 9 ? (Number(label) + 1) % 4 : Number(label))));
  labels.dispose();
  const data: EvaluationData = {
    length: 16,
    images: (start, end) => ops.aten.slice(images, 0, start, end).clone(),
    labels: (start, end) => ops.aten.slice(wrongly, 0, start, end).clone(),
  };
  return { images, wrongly, data };
}

export const int64 = (values: readonly number[]) => tensor(BigInt64Array.from(values, BigInt));

export const equal = (a: Tensor, b: Tensor) => ops.aten.equal(a, b) as boolean;

/** Rows of a batch as plain arrays of doubles. */
export function rows(batch: Tensor): Float64Array[] {
  const flat = Float64Array.from(batch.toTypedArray() as Float32Array);
  const size = flat.length / batch.shape[0]!;
  return Array.from({ length: batch.shape[0]! }, (_, row) => flat.subarray(row * size, (row + 1) * size));
}

export const largest = (values: Iterable<number>) => {
  let max = 0;
  for (const value of values) max = Math.max(max, Math.abs(value));
  return max;
};

export function difference(a: Tensor, b: Tensor): Float64Array[] {
  const from = rows(b);
  return rows(a).map((row, i) => row.map((value, k) => value - from[i]![k]!));
}
