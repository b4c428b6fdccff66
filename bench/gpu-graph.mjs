// PGD on a ResNet-18 with and without its steps as a CUDA graph, the same attack on the same images: milliseconds a step, the median of rounds, and the largest difference of the adversaries.
//   npm run build && node bench/gpu-graph.mjs [--device cuda] [--batches 8,32,128,512] [--width 64] [--steps 50] [--rounds 5] [--json <file>]
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Classifier, cuda, Encoder, ops, pgd, rand, scope, tensor } from '../dist/index.js';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' }, batches: { type: 'string', default: '8,32,128,512' }, width: { type: 'string', default: '64' }, steps: { type: 'string', default: '50' },
    rounds: { type: 'string', default: '5' }, json: { type: 'string' },
  },
});
const { device } = values, [width, steps, rounds] = [values.width, values.steps, values.rounds].map(Number), { aten } = ops;
const model = Classifier.create({ encoder: Encoder.create({ width, seed: 1 }), classes: 10, seed: 2 }).to(device).eval();
const found = [];
for (const batch of values.batches.split(',').map(Number))
  await scope(async () => {
    const images = rand([batch, 3, 32, 32], { device }), labels = tensor(BigInt64Array.from({ length: batch }, (_, i) => BigInt(i % 10)), { device });
    const run = (graph) => pgd(model, images, labels, { epsilon: 8 / 255, stepSize: 2 / 255, steps, batchSize: batch, seed: 1, graph });
    const [with_, without] = [await run(true), await run(false)], apart = aten.max(aten.abs(aten.sub(with_, without))).item();
    const times = { true: [], false: [] };
    for (let round = 0; round < rounds; round++)
      for (const graph of [false, true]) {
        cuda.synchronize(device);
        const start = performance.now();
        const adversarial = await run(graph);
        cuda.synchronize(device);
        times[graph].push((performance.now() - start) / steps);
        adversarial.dispose();
      }
    const [graph, eager] = [true, false].map((key) => times[key].sort((a, b) => a - b)[Math.floor(rounds / 2)]);
    found.push({ batch, width, steps, eager, graph, apart });
    console.log(`batch ${batch}: ${eager.toFixed(3)} ms a step, by a graph ${graph.toFixed(3)} (${(eager / graph).toFixed(2)} x, capture included), adversaries ${apart} apart`);
  });
if (values.json) writeFileSync(values.json, JSON.stringify(found));
