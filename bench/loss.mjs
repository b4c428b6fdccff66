// The fused objective, forward and backward, against the same formulas composed of LibTorch operators in float32, and both in units of one matrix
// product n x n x dim: interleaved in one process, medians; extra peak memory of one call of each.
//   npm run build && node bench/loss.mjs [--sizes 768,3072,6144] [--dim 128] [--threads 2] [--seconds 3] [--json]
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { aInfoNCE, ops, randn, runtimeInfo, scope, setThreads, tensor } from '../dist/index.js';

const { values } = parseArgs({
  options: {
    sizes: { type: 'string', default: '768,3072,6144' }, dim: { type: 'string', default: '128' }, threads: { type: 'string', default: '2' },
    seconds: { type: 'string', default: '3' }, json: { type: 'boolean', default: false },
    peak: { type: 'string' }, // of one loss, by its number, at the first size: what the children of this program are asked
  },
});
setThreads(Number(values.threads));
const { aten } = ops;
const [t, alpha, beta, tau, views] = [0.5, 0.2, 1, 0.1, 3]; // views of every form here, so that n is the same

/** What the eager formulas need beside the rows: n x n float32 masks, made once and not timed. */
function constants(n) {
  const batch = n / views;
  const mask = (holds) => tensor(Float32Array.from({ length: n * n }, (_, k) => Number(holds(Math.floor(k / n), k % n))), { shape: [n, n] });
  const same = (i, j) => i % batch === j % batch;
  const view = (i) => Math.floor(i / batch);
  const terms = (weight) => tensor(Float32Array.from({ length: n * n }, (_, k) => {
    const [i, j] = [Math.floor(k / n), k % n];
    return i !== j && same(i, j) ? weight(view(i), view(j)) : 0;
  }), { shape: [n, n] });
  return {
    positives: mask((i, j) => i !== j && same(i, j)), negatives: mask((i, j) => !same(i, j)), others: mask((i, j) => i !== j), cross: mask((i, j) => (view(i) === 2) !== (view(j) === 2)),
    ends: tensor(Float32Array.from({ length: n }, (_, i) => (view(i) === 2 ? 2 * (1 - alpha) : 2 * alpha)), { shape: [n, 1] }),
    advclFull: terms((i, j) => Number(i > 0 && j > 0)), advclDetached: terms((i, j) => (i > 0 && j > 0 ? 0 : 2 * (i > 0 ? alpha : 1 - alpha))),
  };
}

const sum = (x) => aten.sum(x, [1], { keepdim: true });
const normalize = (x) => aten.div(x, aten.norm(x, 2, [1], true));
const product = (a, b) => aten.div(aten.mm(a, aten.t(b)), t);
function similarity(x, c, asymmetric) {
  const z = normalize(x);
  if (!asymmetric) return product(z, z);
  const scaled = aten.add(aten.mul(z, c.ends), aten.mul(z, aten.rsub(c.ends, 1)).detach());
  return aten.add(aten.mul(product(z, z), aten.rsub(c.cross, 1)), aten.mul(product(scaled, scaled), c.cross));
}
function paper(x, c, { asymmetric, hard }) {
  const n = x.shape[0];
  const s = similarity(x, c, asymmetric);
  const e = aten.exp(s);
  let denominator;
  if (hard) {
    const count = n - views;
    const positive = aten.div(sum(aten.mul(e, c.positives)), views - 1);
    const importance = aten.mul(aten.exp(aten.mul(s, beta)), c.negatives);
    const weighed = aten.mul(aten.div(sum(aten.mul(importance, e)), sum(importance)), count);
    denominator = aten.add(positive, aten.clamp(aten.div(aten.sub(weighed, aten.mul(positive, tau * count)), 1 - tau), count * Math.exp(-1 / t)));
  } else denominator = sum(aten.mul(e, c.others));
  return aten.div(aten.sum(aten.mul(aten.sub(aten.log(denominator), s), c.positives)), n * (views - 1));
}
function advcl(x, c) {
  const z = normalize(x);
  const n = x.shape[0];
  const terms = (s) => {
    const logits = aten.sub(s, aten.amax(s, [1], true).detach());
    const e = aten.exp(logits);
    const negative = aten.mul(e, c.negatives);
    const importance = aten.pow(aten.add(negative, 1e-9), beta);
    const weighed = aten.sum(aten.div(aten.mul(importance, negative), aten.mean(importance, [1])), [1]);
    const positive = aten.div(aten.sum(aten.mul(e, c.positives), [1]), views - 1);
    const floored = aten.clamp(aten.div(aten.sub(weighed, aten.mul(positive, tau * (n - views))), 1 - tau), (n - views) * Math.exp(-2));
    return aten.neg(aten.log(aten.div(e, aten.add(positive, floored))));
  };
  const loss = aten.add(aten.sum(aten.mul(terms(product(z, z)), c.advclFull)), aten.sum(aten.mul(terms(product(z, z.detach())), c.advclDetached)));
  return aten.mul(loss, t / 0.07 / ((views - 1) * n));
}
function rocl(x, c) {
  const z = aten.div(x, aten.add(aten.norm(x, 2, [1], true), 1e-8));
  const e = aten.mul(aten.exp(product(z, z.detach())), c.others);
  const terms = aten.neg(aten.log(aten.add(aten.div(e, aten.add(sum(e), 1e-8)), 1e-8)));
  return aten.div(aten.sum(aten.mul(terms, c.positives)), x.shape[0]);
}

const ip = { adversarialView: 2, inferiorPositive: { alpha } }, hn = { hardNegative: { beta, tauPlus: tau } };
const losses = [
  ['paper', {}, (x, c) => paper(x, c, {})], ['paper, IP', ip, (x, c) => paper(x, c, { asymmetric: true })], ['paper, HN', hn, (x, c) => paper(x, c, { hard: true })],
  ['paper, IP+HN', { ...ip, ...hn }, (x, c) => paper(x, c, { asymmetric: true, hard: true })],
  ['advcl, IP+HN', { form: 'advcl', normalize: true, inferiorPositive: { alpha }, ...hn }, advcl], ['rocl', { form: 'rocl' }, rocl],
];

function time(run) {
  const start = process.hrtime.bigint();
  scope(run);
  return Number(process.hrtime.bigint() - start) / 1e6;
}
function extraPeak(run) {
  const read = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
  writeFileSync('/proc/self/clear_refs', '5'); // the peak starts anew
  const before = read();
  scope(run);
  return read() - before;
}
const median = (x) => [...x].sort((a, b) => a - b)[x.length >> 1];

/** Extra peak of the fused loss in a process of its own: here the allocator's free memory would hide it. */
function fusedPeak(index, n) {
  return Number(execFileSync(process.execPath, [fileURLToPath(import.meta.url), '--peak', String(index), '--sizes', String(n), '--dim', values.dim, '--threads', values.threads]));
}
if (values.peak !== undefined) {
  const fused = (x) => aInfoNCE(x, { views, temperature: t, ...losses[Number(values.peak)][1] }).backward();
  const [n] = values.sizes.split(',').map(Number);
  scope(() => fused(randn([2 * views, 8], { requiresGrad: true }))); // what is allocated once
  const x = randn([n, Number(values.dim)], { requiresGrad: true });
  console.log(extraPeak(() => fused(x)));
  process.exit();
}

const { cpu, threads, instructionSet, libtorch } = runtimeInfo();
const rows = [];
for (const n of values.sizes.split(',').map(Number))
  scope(() => {
    if (n % views !== 0) throw new RangeError(`--sizes: expected multiples of ${views}, got ${n}`);
    const c = constants(n);
    const x = randn([n, Number(values.dim)], { requiresGrad: true }), y = x.detach();
    for (const [index, [name, options, formula]] of losses.entries()) {
      const results = {};
      const run = {
        fused: () => { results.fused = step(() => aInfoNCE(x, { views, temperature: t, ...options })); },
        eager: () => { results.eager = step(() => formula(x, c)); },
        product: () => { aten.mm(y, aten.t(y)); },
      };
      const step = (loss) => {
        x.grad = null;
        const value = loss();
        value.backward();
        return value.item();
      };
      time(run.fused);
      const memory = { fused: fusedPeak(index, n), eager: extraPeak(run.eager) };
      if (!(Math.abs(results.fused - results.eager) < 1e-3 * Math.abs(results.eager))) throw new Error(`${name}: fused ${results.fused}, eager ${results.eager}`);
      const times = { fused: [], eager: [], product: [] };
      for (const end = performance.now() + 1000 * Number(values.seconds); performance.now() < end || times.fused.length < 3;)
        for (const key of ['fused', 'product', 'eager']) times[key].push(time(run[key]));
      const ratio = (key) => median(times[key].map((ms, i) => ms / times.product[i]));
      rows.push({
        loss: name, n, 'fused ms': median(times.fused), 'eager ms': median(times.eager), 'product ms': median(times.product), 'fused / product': ratio('fused'),
        'eager / product': ratio('eager'), 'eager / fused': median(times.eager.map((ms, i) => ms / times.fused[i])), 'fused MB': memory.fused, 'eager MB': memory.eager,
      });
    }
  });
if (values.json) console.log(JSON.stringify({ cpu, threads, instructionSet, libtorch, dim: Number(values.dim), views, rows }));
else {
  console.log(`${cpu}, ${threads} threads, ${instructionSet}, LibTorch ${libtorch}; forward + backward, float32, dim ${values.dim}, ${views} views; medians`);
  console.table(rows.map((row) => Object.fromEntries(Object.entries(row).map(([key, value]) => [key, typeof value === 'number' && key !== 'n' ? Number(value.toPrecision(3)) : value]))));
}
