// The fused PGD step between the eager operator sequence and a copy of the bytes that it moves, in one process: interleaved, medians. On a device small images measure how
// fast calls are queued, not the step: there is a shape of 600 MB more.
//   npm run build && node bench/pgd-step.mjs [--threads 1] [--device cpu]
import { parseArgs } from 'node:util';
import { cuda, ops, rand, randn, runtimeInfo, scope, setThreads, tensor } from '../dist/index.js';
import { writeJson } from './json.mjs';

const { values } = parseArgs({ options: { threads: { type: 'string', default: '1' }, rounds: { type: 'string', default: '41' }, device: { type: 'string', default: 'cpu' }, json: { type: 'string' } } });
setThreads(Number(values.threads));
const { aten, a_infonce } = ops;
const epsilon = 8 / 255, stepSize = 2 / 255;

const norms = (y) => aten.view(aten.linalg_vector_norm(aten.flatten(y, 1), 2, [1]), [-1, 1, 1, 1]);
const eager = {
  linf(adversary, grad, x) {
    const moved = aten.add(adversary, aten.sign(grad), { alpha: stepSize });
    return aten.clamp(aten.add(x, aten.clamp(aten.sub(moved, x), -epsilon, epsilon)), 0, 1);
  },
  l2(adversary, grad, x) {
    const delta = aten.sub(aten.add(adversary, aten.div(grad, norms(grad)), { alpha: 0.1 }), x);
    return aten.clamp(aten.add(x, aten.mul(delta, aten.clamp(aten.mul(aten.reciprocal(norms(delta)), 0.5), { max: 1 }))), 0, 1);
  },
};
const fused = {
  linf: (adversary, grad, x) => a_infonce.pgd_step_linf_(adversary, grad, x, epsilon, stepSize),
  l2: (adversary, grad, x) => a_infonce.pgd_step_l2_(adversary, grad, x, 0.5, 0.1),
};

const starts = {
  linf: { eager: (x) => aten.clamp(aten.add(x, aten.sub(aten.mul(aten.rand_like(x), 2 * epsilon), epsilon)), 0, 1), fused: (x, samples) => a_infonce.pgd_start_linf(x, samples, epsilon, 1) },
  l2: {
    eager(x) {
      const direction = aten.randn_like(x);
      return aten.clamp(aten.add(x, aten.mul(aten.div(direction, norms(direction)), aten.mul(rand([x.shape[0], 1, 1, 1], { device: x.device }), 0.5))), 0, 1);
    },
    fused: (x, samples) => a_infonce.pgd_start_l2(x, samples, 0.5, 1),
  },
};

// On a device a call is over before its work is: many at once, then wait.
const { device } = values, calls = device === 'cpu' ? 1 : 50;
const time = (run) => {
  const start = process.hrtime.bigint();
  for (let call = 0; call < calls; ++call) scope(run);
  if (device !== 'cpu') cuda.synchronize(device);
  return Number(process.hrtime.bigint() - start) / 1e6 / calls;
};
const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];

const { cpu, threads, instructionSet, libtorch } = runtimeInfo();
const results = [];
console.log(`${device === 'cpu' ? `${cpu}, ${threads} thread(s), ${instructionSet}` : device}, LibTorch ${libtorch}; medians of ${values.rounds} interleaved rounds`);
for (const shape of [[128, 3, 32, 32], [512, 3, 32, 32], [16, 3, 224, 224], ...(device === 'cpu' ? [] : [[256, 3, 224, 224]])]) {
  const x = rand(shape, { device }), grad = randn(shape, { device }), adversary = x.clone();
  // A step reads three numbers an element and writes one: a copy of two reads and writes as many bytes.
  const samples = tensor(BigInt64Array.from({ length: shape[0] }, (_, i) => BigInt(i)), { device });
  const [from, to] = [rand([2, ...shape], { device }), rand([2, ...shape], { device })], bytes = 16 * shape.reduce((a, b) => a * b);
  for (const norm of ['linf', 'l2']) {
    const runs = {
      eager: () => { eager[norm](adversary, grad, x); }, fused: () => { fused[norm](adversary, grad, x); }, copy: () => { aten.copy_(to, from); },
      eagerStart: () => { starts[norm].eager(x); }, fusedStart: () => { starts[norm].fused(x, samples); },
    };
    const times = Object.fromEntries(Object.keys(runs).map((name) => [name, []]));
    for (let round = -3; round < Number(values.rounds); ++round)
      for (const [name, run] of Object.entries(runs)) {
        const spent = time(run);
        if (round >= 0) times[name].push(spent);
      }
    const [a, b, c, d, e] = Object.values(times).map(median), rate = (ms) => `${(bytes / ms / 1e6).toFixed(1)} GB/s`;
    results.push({ norm, shape, eager: a, fused: b, copy: c, eagerStart: d, fusedStart: e });
    writeJson(values.json, results);
    console.log(`${norm.padEnd(4)} [${shape.join(', ')}]: eager ${a.toFixed(3)} ms, fused ${b.toFixed(3)} ms (${rate(b)}), ratio ${(a / b).toFixed(1)}; copy of as many bytes ${c.toFixed(3)} ms (${rate(c)}); random start ${d.toFixed(3)} and ${e.toFixed(3)} ms, ratio ${(d / e).toFixed(1)}`);
  }
}
