// The loss, forward and backward, in units of one float32 matrix product n x n x dim into memory that is there already, and against the same formulas composed of
// LibTorch operators: interleaved in one process, medians. The extra peak memory of one call is taken in a process of its own.
//   npm run build && npm run bench -- [--quick] [--sizes 768,3072,6144] [--dim 128] [--threads 1,2] [--seconds 2] [--only rocl] [--eager-up-to 3072] [--json]
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { aInfoNCE, FixedViews, ops, randn, runtimeInfo, scope, setThreads, tensor } from '../dist/index.js';

const { values } = parseArgs({
  options: {
    sizes: { type: 'string' }, dim: { type: 'string', default: '128' }, threads: { type: 'string' }, seconds: { type: 'string' },
    only: { type: 'string', default: '' }, 'eager-up-to': { type: 'string' }, quick: { type: 'boolean', default: false }, json: { type: 'boolean', default: false },
    peak: { type: 'string' }, // of one loss, by its number, at the first size: what the children of this program are asked
  },
});
const sizes = (values.sizes ?? (values.quick ? '768,3072' : '768,1536,3072,6144')).split(',').map(Number);
const threads = (values.threads ?? (values.quick ? '2' : '1,2')).split(',').map(Number);
const seconds = Number(values.seconds ?? (values.quick ? 0.4 : 2)), eagerUpTo = Number(values['eager-up-to'] ?? (values.quick ? 768 : 3072)), dim = Number(values.dim);
const { aten } = ops;
const [t, alpha, beta, tau, views] = [0.5, 0.2, 1, 0.1, 3];

/** What the eager formulas need beside the rows: n x n float32 masks, made once and not timed. */
function constants(n) {
  const batch = n / views;
  const byView = (weight) => tensor(Float32Array.from({ length: views * views }, (_, k) => weight(Math.floor(k / views), k % views)), { shape: [views, views] });
  const ones = aten.ones([batch, batch]), eye = aten.eye(batch);
  const terms = (weight) => aten.kron(byView((v, w) => (v === w ? 0 : weight(v, w))), eye);
  return {
    positives: terms(() => 1), negatives: aten.kron(byView(() => 1), aten.sub(ones, eye)), others: aten.rsub(aten.eye(n), 1),
    cross: aten.kron(byView((v, w) => Number((v === 2) !== (w === 2))), ones),
    ends: tensor(Float32Array.from({ length: n }, (_, i) => (i >= 2 * batch ? 2 * (1 - alpha) : 2 * alpha)), { shape: [n, 1] }),
    advclFull: terms((v, w) => Number(v > 0 && w > 0)), advclDetached: terms((v, w) => (v > 0 && w > 0 ? 0 : 2 * (v > 0 ? alpha : 1 - alpha))),
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

const ip = { adversarialView: 2, inferiorPositive: { alpha } }, hn = { hardNegative: { beta, tauPlus: tau } }, bf16 = { precision: 'bf16' };
const inAdvcl = { form: 'advcl', normalize: true, inferiorPositive: { alpha } };
/** Name, options, eager formula; `step`: an attack's step on one of four views. */
const losses = [
  { name: 'paper', options: {}, formula: (x, c) => paper(x, c, {}) }, { name: 'paper, IP', options: ip, formula: (x, c) => paper(x, c, { asymmetric: true }) },
  { name: 'paper, HN', options: hn, formula: (x, c) => paper(x, c, { hard: true }) },
  { name: 'paper, IP+HN', options: { ...ip, ...hn }, formula: (x, c) => paper(x, c, { asymmetric: true, hard: true }) },
  { name: 'advcl, IP', options: inAdvcl }, { name: 'advcl, IP+HN', options: { ...inAdvcl, ...hn }, formula: advcl },
  { name: 'rocl', options: { form: 'rocl' }, formula: rocl }, { name: 'rocl, IP+HN', options: { form: 'rocl', inferiorPositive: { alpha }, ...hn } },
  { name: 'advcl, attack step', step: true, options: { form: 'advcl', normalize: true } },
  ...(runtimeInfo().instructionSets.includes('avx512_bf16') ? [
    { name: 'paper, bf16', options: bf16 }, { name: 'paper, IP+HN, bf16', options: { ...ip, ...hn, ...bf16 } }, { name: 'advcl, IP+HN, bf16', options: { ...inAdvcl, ...hn, ...bf16 }, formula: advcl },
    { name: 'rocl, bf16', options: { form: 'rocl', ...bf16 } }, { name: 'advcl, attack step, bf16', step: true, options: { form: 'advcl', normalize: true, ...bf16 } },
  ] : []),
];

const cpuTime = () => process.cpuUsage().user + process.cpuUsage().system;
function time(run) {
  const [cpu, start] = [cpuTime(), performance.now()];
  scope(run);
  return { ms: performance.now() - start, cpu: (cpuTime() - cpu) / 1000 };
}
function extraPeak(run) {
  const read = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
  writeFileSync('/proc/self/clear_refs', '5'); // the peak starts anew
  const before = read();
  scope(run);
  return read() - before;
}
/** The q-quantile. */
const quantile = (x, q) => [...x].sort((a, b) => a - b)[Math.floor(q * (x.length - 1))];
const median = (x) => quantile(x, 0.5);

/** One call of a loss on rows of its own: forward and backward. */
function caller({ options, step }, n) {
  if (!step) {
    const x = randn([n, dim], { requiresGrad: true });
    return { x, call: () => differentiate(x, () => aInfoNCE(x, { views, temperature: t, ...options })) };
  }
  const x = randn([n / 4, dim], { requiresGrad: true }), fixed = new FixedViews(randn([n / 4 * 3, dim]), { views: 4, temperature: t, ...options });
  return { x, call: () => differentiate(x, () => fixed.loss(x)) };
}
function differentiate(x, loss) {
  x.grad = null;
  const value = loss();
  value.backward();
  return value.item();
}

if (values.peak !== undefined) {
  setThreads(threads[0]);
  scope(() => { caller(losses[Number(values.peak)], 24).call(); }); // what is allocated once
  const { call } = caller(losses[Number(values.peak)], sizes[0]);
  console.log(extraPeak(call));
  process.exit();
}

const rows = [];
for (const n of sizes) {
  if (n % (4 * views) !== 0) throw new RangeError(`--sizes: expected multiples of ${4 * views}, got ${n}`);
  for (const count of threads) {
    setThreads(count);
    scope(() => {
      const c = n <= eagerUpTo ? constants(n) : undefined;
      const y = randn([n, dim]), columns = aten.t(y), out = aten.mm(y, columns);
      for (const [index, loss] of losses.entries()) {
        if (!loss.name.includes(values.only)) continue;
        const { x, call } = caller(loss, n);
        const eager = loss.formula && c ? () => differentiate(x, () => loss.formula(x, c)) : undefined;
        const ours = scope(call), theirs = eager && scope(eager);
        if (eager && !(Math.abs(ours - theirs) < 1e-3 * Math.abs(theirs))) throw new Error(`${loss.name}: ours ${ours}, eager ${theirs}`);
        const times = { ours: [], product: [], eager: [] };
        for (const end = performance.now() + 1000 * seconds; performance.now() < end || times.ours.length < 3;) {
          times.ours.push(time(call));
          times.product.push(time(() => aten.addmm_(out, y, columns, { beta: 0 })));
          if (eager && (times.eager.length < 3 || times.eager.length * 10 < times.ours.length)) times.eager.push(time(eager));
        }
        const ratios = times.ours.map(({ ms }, i) => ms / times.product[i].ms);
        const ms = (key) => median(times[key].map((each) => each.ms));
        rows.push({
          loss: loss.name, n, threads: count, ms: ms('ours'), product: ms('product'), ratio: median(ratios), quartiles: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
          'CPU ratio': median(times.ours.map(({ cpu }, i) => cpu / times.product[i].cpu)), runs: ratios.length, eager: eager && ms('eager'), 'eager / ours': eager && ms('eager') / ms('ours'),
          'extra MB': values.quick ? undefined : Number(execFileSync(process.execPath, [fileURLToPath(import.meta.url), '--peak', String(index), '--sizes', String(n), '--dim', String(dim), '--threads', String(count)])),
        });
        if (!values.json) console.error(`${loss.name}, n = ${n}, ${count} threads: ${rows.at(-1).ratio.toFixed(2)}`);
      }
    });
  }
}

const model = /model name\s*:\s*(.*)/.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
const { cpu, instructionSet, libtorch } = runtimeInfo();
const environment = { model, instructionSet, libtorch, 'LibTorch capability': cpu, node: process.version, load: loadavg()[0], dim, temperature: t, views, date: new Date().toISOString().slice(0, 10) };
if (values.json) console.log(JSON.stringify({ environment, rows }));
else {
  console.log(Object.entries(environment).map(([key, value]) => `${key} ${value}`).join(', '));
  console.log('forward + backward, float32; ms are medians; ratio: ours / one matrix product n x n x dim, and its quartiles');
  const short = (value) => (Array.isArray(value) ? value.map((each) => each.toFixed(2)).join(' to ') : typeof value === 'number' ? Number(value.toPrecision(3)) : value ?? '');
  console.table(rows.map((row) => Object.fromEntries(Object.entries(row).map(([key, value]) => [key, key === 'n' ? value : short(value)]))));
}
