import { readFileSync, readdirSync } from 'node:fs';
import { aInfoNCE, ops, randn, scope, tensor, type AInfoNCEOptions, type DType, type Tensor } from 'a-infonce';

const folder = new URL('../fixtures/golden/', import.meta.url);

export interface Golden { name: string; options: AInfoNCEOptions; shape: [number, number]; features: Float64Array; loss: number; gradient: Float64Array }

/** The parameters in a file's header: those of the released code, or of form `paper`. */
interface Case {
  B: number; D: number; temperature: number; beta: number | null; tau_plus: number;
  lineage?: 'AdvCL' | 'RoCL'; family?: 'ori' | 'nt' | 'hn'; adv_type?: string; stop_grad?: boolean; stpg_degree: number; adv_weight: number;
  form?: 'paper'; views: number; adversarial_view: number | null; alpha: number; weight: number; positive_weight: number;
}

/** Every case of test/fixtures/golden: what the released code, or a transcription of the paper's formula, gave in float64. */
export function goldenCases(): Golden[] {
  return readdirSync(folder).filter((name) => /^(advcl|paper|rocl)-.*\.safetensors$/.test(name)).sort().map((name) => {
    const bytes = readFileSync(new URL(name, folder));
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> & { __metadata__: { case: string } };
    const read = (key: string): Float64Array => {
      const { dtype, data_offsets: [from, to] } = header[key]!;
      const copy = Uint8Array.from(bytes.subarray(8 + length + from, 8 + length + to)).buffer;
      return dtype === 'F64' ? new Float64Array(copy) : Float64Array.from(new Float32Array(copy));
    };
    const known = JSON.parse(header.__metadata__.case) as Case;
    const { B, D, temperature } = known;
    const released = known.stop_grad ? { inferiorPositive: { alpha: known.stpg_degree, weight: known.adv_weight } } : {};
    const hard = known.family === 'hn' || (known.form === 'paper' && known.beta !== null) ? { hardNegative: { beta: known.beta!, tauPlus: known.tau_plus } } : {};
    if (known.lineage === 'AdvCL') {
      const viewMajor = (x: Float64Array) => Float64Array.from(x, (_, k) => x[((Math.floor(k / D) % B) * 4 + Math.floor(k / D / B)) * D + (k % D)]!);
      const options: AInfoNCEOptions = { form: 'advcl', views: 4, temperature, ...released, ...hard };
      return { name, options, shape: [4 * B, D], features: viewMajor(read('features')), loss: read('loss')[0]!, gradient: viewMajor(read('grad')) };
    }
    if (known.lineage === 'RoCL') {
      const views = known.adv_type === 'None' ? 2 : 3;
      const options: AInfoNCEOptions = { form: 'rocl', views, temperature, ...released, ...hard };
      return { name, options, shape: [views * B, D], features: read('outputs'), loss: read('loss')[0]!, gradient: read('grad') };
    }
    const { views, adversarial_view: adversarialView, alpha, weight, positive_weight: positiveWeight } = known;
    const asymmetric = adversarialView === null ? {} : { adversarialView, inferiorPositive: { alpha, weight, positiveWeight } };
    const options: AInfoNCEOptions = { views, temperature, ...asymmetric, ...hard };
    return { name, options, shape: [views * B, D], features: read('features'), loss: read('loss')[0]!, gradient: read('grad') };
  });
}

export interface Result { loss: number; gradient: Float64Array }
type Loss = (features: Tensor) => Tensor;

/** Value and gradient of a loss at the given features. */
export function evaluate(features: Float64Array, shape: readonly number[], loss: AInfoNCEOptions | Loss, dtype: DType = 'float64'): Result {
  return scope(() => {
    const x = tensor(features, { shape, dtype, requiresGrad: true });
    const value = typeof loss === 'function' ? loss(x) : aInfoNCE(x, loss);
    value.backward();
    return { loss: value.item(), gradient: Float64Array.from(x.grad!.toTypedArray() as Float64Array) };
  });
}

/** Standard normal numbers (call manualSeed first). */
export function normal(shape: readonly number[]): Float64Array {
  return scope(() => randn(shape, { dtype: 'float64' }).toTypedArray() as Float64Array);
}
/** Rows of length 1. */
export function unitRows(shape: readonly number[]): Float64Array {
  return scope(() => {
    const x = randn(shape, { dtype: 'float64' });
    return ops.aten.div(x, ops.aten.norm(x, 2, [1], true)).toTypedArray() as Float64Array;
  });
}

/** |a - b| / |b| */
export function distance(a: Float64Array, b: Float64Array): number {
  let [difference, size] = [0, 0];
  for (let i = 0; i < b.length; ++i) (difference += (a[i]! - b[i]!) ** 2), (size += b[i]! ** 2);
  return Math.sqrt(difference) / (Math.sqrt(size) || 1);
}
export const relative = (a: number, b: number) => Math.abs(a - b) / (Math.abs(b) || 1);
