// The loss on a GPU, forward and backward, against the eager formula and torch.compile of it: milliseconds, memory beside the rows, and TFLOP/s as if all of 6 n^2 d were done.
//   npm run build && node bench/gpu-loss.mjs --python <python with torch> [--device cuda] [--sizes 2048,...] [--dim 128] [--seconds 1] [--peers-up-to 32768] [--no-compile] [--json <file>]
// Fails where a loss is not the eager formula's, or of bfloat16 and not that of full precision, or its gradient is not (the limits that `precision` promises).
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { aInfoNCE, cuda, manualSeed, ops, randn, runtimeInfo, scope, tensor } from '../dist/index.js';
import { Companion } from '../dist/benchmark/companion.js';
import { writeJson } from './json.mjs';

const defaults = { python: 'python3', device: 'cuda', sizes: '2048,4096,8192,16384,32768,65536,1048576', dim: '128', seconds: '1', 'peers-up-to': '32768', json: '' };
const { values } = parseArgs({
  options: { ...Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, { type: 'string', default: value }])), 'no-compile': { type: 'boolean', default: false } },
});
const { device } = values, onDevice = device !== 'cpu', dim = Number(values.dim), seconds = Number(values.seconds), most = Number(values['peers-up-to']);
const losses = { 'two views': { views: 2 }, 'IP+HN': { views: 4, form: 'advcl', normalize: true, inferiorPositive: { alpha: 0.2 }, hardNegative: { beta: 1, tauPlus: 0.1 } } };
const MOST_LABELLED = 65_536;
const PRECISIONS = ['full', 'bf16x3', 'bf16'], LONGEST = 4000;  // milliseconds of a call
const TOLERANCE = { bf16: 1e-3, bf16x3: 1e-4, full: 1e-5 }, GRADIENT = { bf16: 1.5e-3, bf16x3: 1e-5 };

const folder = mkdtempSync(join(tmpdir(), 'gpu-loss-')), results = [];
const peers = new Companion(values.python, [fileURLToPath(new URL('../scripts/loss_peers.py', import.meta.url))], { env: { PYTHONDONTWRITEBYTECODE: '1' } });
const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];

/** Times until there are enough of them, at least three, or one of calls of a second or more; the first call is not one of them. */
async function measured(call) {
  const first = await call(), times = [];
  for (let spent = 0; times.length < (first > 1000 ? 1 : 3) || (spent < 1000 * seconds && times.length < 200); spent += times.at(-1)) times.push(await call());
  return { ms: median(times), runs: times.length };
}

function ours(rows, options) {
  rows.grad = null;
  const start = performance.now();
  const value = scope(() => {
    const loss = aInfoNCE(rows, options);
    loss.backward();
    return loss.item();
  });
  if (onDevice) cuda.synchronize(device);
  return { ms: performance.now() - start, value };
}

function tell(n, loss, who, precision, { ms, runs }, bytes) {
  const tflops = (6 * n * n * dim) / ms / 1e9;
  results.push({ n, dim, loss, who, precision, ms, runs, bytes, tflops });
  writeJson(values.json, results);
  console.log(`${String(n).padStart(8)}  ${loss.padEnd(10)} ${who.padEnd(14)} ${precision.padEnd(7)} ${ms.toFixed(3).padStart(10)} ms  ${(bytes / 1e6).toFixed(1).padStart(9)} MB  ${tflops.toFixed(1).padStart(7)} TFLOP/s`);
}

let wrong = 0;
/** That of n rows in that precision. */
function refuse(text, n, loss, precision) {
  console.log(text);
  Object.assign(results.find((each) => each.n === n && each.loss === loss && each.who === 'ours' && each.precision === precision), { refused: true });
  wrong++;
}
const rowsOf = (n) => {
  manualSeed(n);
  return randn([n, dim], { device, requiresGrad: true });
};

/** Our losses of n rows: the values of `two views`, by precision. */
async function measureOurs(n, last) {
  const rows = rowsOf(n), values = {};
  const labels = tensor(BigInt64Array.from({ length: n / 2 }, (_, i) => BigInt(i % 10)), { device });
  for (const [name, options] of Object.entries({ ...losses, ...(n <= MOST_LABELLED && { labels: { views: 2, labels } }) })) {
    let full;
    for (const precision of options.labels ? ['full'] : PRECISIONS) {
      const key = `${name} ${precision}`, expected = last[key] && last[key].ms * (n / last[key].n) ** 2;
      if (expected > LONGEST) {
        console.log(`${String(n).padStart(8)}  ${name.padEnd(10)} ours           ${precision.padEnd(7)} not measured: about ${(expected / 1000).toFixed(0)} s a call`);
        continue;
      }
      const call = () => ours(rows, { ...options, precision });
      if (onDevice) cuda.resetPeakMemory(device);
      const before = onDevice ? cuda.memory(device).allocated : 0, { value } = call(), gradient = rows.grad;
      const bytes = onDevice ? cuda.memory(device).peak - before : NaN, timed = await measured(async () => call().ms);
      tell(n, name, 'ours', precision, timed, bytes);
      if (precision === 'full') full = { value, gradient };
      else {
        if (full) {
          const length = (x) => scope(() => ops.aten.norm(x).item()), apart = length(ops.aten.sub(gradient, full.gradient)) / length(full.gradient);
          if (!(apart <= GRADIENT[precision]) || !(Math.abs(value - full.value) <= TOLERANCE[precision] * Math.abs(full.value)))
            refuse(`${String(n).padStart(8)}  ${name} ${precision}: not that of full precision, ${value} for ${full.value}, the gradient off by ${apart.toExponential(1)}`, n, name, precision);
        }
        gradient.dispose();
      }
      if (name === 'two views') values[precision] = value;
      last[key] = { n, ms: timed.ms };
    }
    full?.gradient.dispose();
  }
  labels.dispose();
  rows.dispose();
  if (onDevice) cuda.releaseMemory();
  return values;
}

/** The peers' of the same rows. */
async function measurePeers(n, ours) {
  const file = join(folder, 'rows');
  scope(() => writeFileSync(file, rowsOf(n).detach().toTypedArray()));
  if (onDevice) cuda.releaseMemory();
  for (const peer of ['PyTorch', ...(values['no-compile'] ? [] : ['torch.compile'])])
    for (const precision of ['full', ...(onDevice ? ['tf32', 'bf16'] : [])])
      try {
        await peers.ask({ ask: 'forget' });
        const { value } = await peers.ask({ ask: 'call', peer, n, dim, threads: 2, rows: file, device, precision, with: { temperature: 0.5 } });
        tell(n, 'two views', peer, precision, await measured(async () => (await peers.ask({ ask: 'time', peer })).ms), (await peers.ask({ ask: 'peak', peer })).bytes);
        if (peer !== 'PyTorch' || precision !== 'full') continue;
        for (const [of, found] of Object.entries(ours)) {
          const difference = Math.abs(found - value) / Math.abs(value);
          Object.assign(results.find((each) => each.n === n && each.loss === 'two views' && each.who === 'ours' && each.precision === of), { difference });
          if (!(difference <= TOLERANCE[of])) refuse(`${String(n).padStart(8)}  two views ${of}: not the eager formula's, ${found} for ${value}`, n, 'two views', of);
        }
      } catch (error) {
        console.log(`${String(n).padStart(8)}  two views  ${peer} ${precision}: ${error.message}`);
      }
  await peers.ask({ ask: 'forget' });
}

try {
  const { torch } = await peers.answer();
  console.log(`${onDevice ? cuda.devices().map(({ name }) => name).join(', ') : runtimeInfo().cpu}, LibTorch ${runtimeInfo().libtorch}, the peers' torch ${torch}; rows of ${dim}`);
  const last = {}, found = new Map();
  for (const n of values.sizes.split(',').map(Number)) found.set(n, await measureOurs(n, last));
  // The largest first: what is compiled takes its time.
  for (const [n, ours] of [...found].filter(([n]) => n <= most).sort(([a], [b]) => b - a)) await measurePeers(n, ours);
  writeJson(values.json, results);
} finally {
  peers[Symbol.dispose]();
  rmSync(folder, { recursive: true });
}
if (wrong > 0) throw new Error(`${wrong} losses are not the eager formula's, or those of full precision`);
