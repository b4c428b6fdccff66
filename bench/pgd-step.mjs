// The fused PGD step against the eager operator sequence, in one process: interleaved, medians.
//   npm run build && node bench/pgd-step.mjs [--threads 1]
import { parseArgs } from 'node:util';
import { ops, rand, randn, runtimeInfo, scope, setThreads } from '../dist/index.js';

const { values } = parseArgs({ options: { threads: { type: 'string', default: '1' }, rounds: { type: 'string', default: '41' } } });
setThreads(Number(values.threads));
const { aten, a_infonce } = ops;
const epsilon = 8 / 255, stepSize = 2 / 255;

const eager = {
  linf(adversary, grad, x) {
    const moved = aten.add(adversary, aten.sign(grad), { alpha: stepSize });
    return aten.clamp(aten.add(x, aten.clamp(aten.sub(moved, x), -epsilon, epsilon)), 0, 1);
  },
  l2(adversary, grad, x) {
    const norm = (y) => aten.view(aten.linalg_vector_norm(aten.flatten(y, 1), 2, [1]), [-1, 1, 1, 1]);
    const delta = aten.sub(aten.add(adversary, aten.div(grad, norm(grad)), { alpha: 0.1 }), x);
    return aten.clamp(aten.add(x, aten.mul(delta, aten.clamp(aten.mul(aten.reciprocal(norm(delta)), 0.5), { max: 1 }))), 0, 1);
  },
};
const fused = {
  linf: (adversary, grad, x) => a_infonce.pgd_step_linf_(adversary, grad, x, epsilon, stepSize),
  l2: (adversary, grad, x) => a_infonce.pgd_step_l2_(adversary, grad, x, 0.5, 0.1),
};

const time = (run) => {
  const start = process.hrtime.bigint();
  scope(run);
  return Number(process.hrtime.bigint() - start) / 1e6;
};
const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];

const { cpu, threads, instructionSet, libtorch } = runtimeInfo();
console.log(`${cpu}, ${threads} thread(s), ${instructionSet}, LibTorch ${libtorch}; medians of ${values.rounds} interleaved rounds`);
for (const shape of [[128, 3, 32, 32], [512, 3, 32, 32], [16, 3, 224, 224]]) {
  const x = rand(shape), grad = randn(shape), adversary = x.clone();
  for (const norm of ['linf', 'l2']) {
    const times = { eager: [], fused: [] };
    for (let round = -3; round < Number(values.rounds); ++round) {
      const eagerTime = time(() => { eager[norm](adversary, grad, x); }), fusedTime = time(() => { fused[norm](adversary, grad, x); });
      if (round >= 0) times.eager.push(eagerTime), times.fused.push(fusedTime);
    }
    const [a, b] = [median(times.eager), median(times.fused)];
    console.log(`${norm.padEnd(4)} [${shape.join(', ')}]: eager ${a.toFixed(3)} ms, fused ${b.toFixed(3)} ms, ratio ${(a / b).toFixed(1)}`);
  }
}
