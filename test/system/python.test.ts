// The operators' library in the Python that LibTorch came with: the same numbers as here, bit for bit, and as recorded.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { getThreads, manualSeed, ops, randn, scope, setThreads, tensor, type AInfoNCEOptions, type DType, type Tensor } from 'a-infonce';
import { libtorchPython, operatorLibrary } from '../fixtures/python.js';
import { distance, goldenCases, relative } from '../objective/fixtures.js';

type Value = Tensor | number | string | boolean | number[] | null;
interface Call { operator: string; arguments: Value[]; keywords: Record<string, Value>; leaf: Tensor | null }

const python = libtorchPython(), folder = mkdtempSync(join(tmpdir(), 'python-')), threads = getThreads();
beforeAll(() => (setThreads(1), manualSeed(3)));
afterAll(() => {
  setThreads(threads);
  rmSync(folder, { recursive: true, force: true });
});

const doubles = (of: Tensor): Float64Array => scope(() => Float64Array.from(of.detach().to({ dtype: 'float64' }).toTypedArray() as Float64Array));

function here({ operator, arguments: positional, keywords, leaf }: Call): Float64Array[] {
  return scope(() => {
    const result = (ops as unknown as Record<string, Record<string, (...given: unknown[]) => Tensor>>)['a_infonce']![operator]!(...positional, keywords);
    if (leaf === null) return [doubles(result)];
    result.backward();
    return [doubles(result), doubles(leaf.grad!)];
  });
}

/** What Python gives for the same calls, and its last line. */
function there(calls: Call[], { command, env }: Exclude<typeof python, string>): { results: Float64Array; said: unknown } {
  const values: Float64Array[] = [];
  const written = calls.map(({ operator, arguments: positional, keywords, leaf }) => {
    const tensors: Tensor[] = [];
    const plain = (value: Value) => (value !== null && typeof value === 'object' && !Array.isArray(value) ? { tensor: tensors.push(value) - 1 } : value);
    const call = { operator, arguments: positional.map(plain), keywords: Object.fromEntries(Object.entries(keywords).map(([name, value]) => [name, plain(value)])) };
    values.push(...tensors.map(doubles));
    return { ...call, tensors: tensors.map(({ shape, dtype }) => ({ shape, dtype })), leaf: leaf && tensors.indexOf(leaf) };
  });
  writeFileSync(join(folder, 'calls.json'), JSON.stringify(written));
  writeFileSync(join(folder, 'tensors.bin'), Buffer.concat(values.map((each) => Buffer.from(each.buffer))));
  const run = spawnSync(command, [fileURLToPath(new URL('../fixtures/operators.py', import.meta.url)), operatorLibrary(), folder], { env, encoding: 'utf8' });
  expect(run.stderr).toBe('');
  return { results: new Float64Array(Uint8Array.from(readFileSync(join(folder, 'results.bin'))).buffer), said: JSON.parse(run.stdout) };
}

function keywordsOf({ form = 'paper', temperature = 0.5, adversarialView, inferiorPositive: ip, hardNegative: hn }: AInfoNCEOptions): Record<string, Value> {
  return {
    form, temperature, adversarial_view: adversarialView ?? null, alpha: ip ? ip.alpha! : null, weight: ip?.weight ?? 1, positive_weight: ip?.positiveWeight ?? 1,
    beta: hn ? hn.beta! : null, tau_plus: hn?.tauPlus ?? 0,
  };
}

it('operators give the same bits in Python', (context) => {
  if (typeof python === 'string') return context.skip(python);
  const golden = goldenCases(), leafOf = (values: Float64Array, shape: readonly number[], dtype: DType) => tensor(values, { shape, dtype, requiresGrad: true });
  const recorded = (['float64', 'float32'] as const).flatMap((dtype) => golden.map((each) => ({ ...each, dtype, leaf: leafOf(each.features, each.shape, dtype) })));
  const calls: Call[] = recorded.map(({ options, leaf }) => ({ operator: 'loss', arguments: [leaf, options.views ?? 2], keywords: keywordsOf(options), leaf }));
  const clean = randn([2 * 40, 9]), adversaries = randn([40, 9], { requiresGrad: true }), asymmetric = { temperature: 0.4, beta: 1, tau_plus: 0.1 };
  const sums = ops.a_infonce.clean_sums(clean, 3, asymmetric);
  calls.push({ operator: 'adversarial_loss', arguments: [adversaries, clean, sums, 3], keywords: { ...asymmetric, adversarial_view: 2, alpha: 0.2 }, leaf: adversaries });
  const rows = randn([12, 9], { requiresGrad: true }), labels = tensor(Int32Array.of(0, 1, 2, 0, 1, 2, 2, 2, 1, 0, 1, 4));
  calls.push({ operator: 'loss', arguments: [rows, 1], keywords: { labels }, leaf: rows });
  const queries = randn([6, 9], { requiresGrad: true });
  calls.push({ operator: 'queue_loss', arguments: [queries, randn([6, 9]), randn([50, 9])], keywords: { temperature: 0.2 }, leaf: queries });
  const image = () => ops.aten.sigmoid(randn([2, 3, 8, 8]));
  calls.push({ operator: 'pgd_step_linf_', arguments: [image(), randn([2, 3, 8, 8]), image(), 0.1, 0.03], keywords: {}, leaf: null });

  const { results, said } = there(calls, python); // first: the last call changes its argument
  const [slopes, message] = [true, expect.stringContaining('features: expected')];
  expect(said).toEqual({ slopes, message });
  let at = 0;
  calls.forEach((call, i) => {
    const ours = here(call), theirs = ours.map(({ length }) => results.subarray(at, (at += length)));
    expect(theirs, `${call.operator} ${recorded[i]?.name ?? ''}`).toEqual(ours);
    if (i < golden.length) {
      expect(relative(theirs[0]![0]!, golden[i]!.loss)).toBeLessThan(1e-12);
      expect(distance(theirs[1]!, golden[i]!.gradient)).toBeLessThan(1e-12);
    }
  });
  expect(at).toBe(results.length);
});
