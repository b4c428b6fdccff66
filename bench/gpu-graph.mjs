// PGD on a ResNet-18 with and without its steps as a CUDA graph: milliseconds a step of a call that records it and of a later one, and the largest difference of the adversaries; then seconds
// of an evaluation with PGD-20 in small batches, recording included, and how many images stand. Medians of rounds, of which there are fewer where they take longer than --seconds.
//   npm run build && node bench/gpu-graph.mjs [--device cuda] [--batches 8,32,128,512] [--evaluations 8,32] [--images 128] [--width 64] [--steps 20] [--rounds 5] [--seconds 3] [--json <file>]
import { parseArgs } from 'node:util';
import { Classifier, cuda, Encoder, evaluate, ops, pgd, predict, rand, scope, tensor } from '../dist/index.js';
import { writeJson } from './json.mjs';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' }, batches: { type: 'string', default: '8,32,128,512' }, evaluations: { type: 'string', default: '8,32' }, images: { type: 'string', default: '128' },
    width: { type: 'string', default: '64' }, steps: { type: 'string', default: '20' }, rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '3' }, json: { type: 'string' },
  },
});
const { device } = values, [width, steps, rounds, seconds, count] = [values.width, values.steps, values.rounds, values.seconds, values.images].map(Number), { aten } = ops;
const model = Classifier.create({ encoder: Encoder.create({ width, seed: 1 }), classes: 10, seed: 2 }).to(device).eval();
const listed = (text) => text.split(',').filter(Boolean).map(Number);

/** Median seconds of each of these, one after the other, after a first time. */
async function medians(runs) {
  const times = Object.fromEntries(Object.keys(runs).map((name) => [name, []])), end = performance.now() + 1000 * seconds;
  for (let round = -1; round < rounds && (round < 1 || performance.now() < end); round++)
    for (const [name, { before, run }] of Object.entries(runs)) {
      before?.();
      cuda.synchronize(device);
      const start = performance.now();
      await scope(run);
      cuda.synchronize(device);
      if (round >= 0) times[name].push((performance.now() - start) / 1000);
    }
  return Object.fromEntries(Object.entries(times).map(([name, all]) => [name, all.sort((a, b) => a - b)[Math.floor(all.length / 2)]]));
}
const found = [];
function keep(each) {
  found.push(each);
  writeJson(values.json, found);
}
const forget = () => void model.to(device);  // what was recorded

for (const batch of listed(values.batches))
  await scope(async () => {
    const images = rand([batch, 3, 32, 32], { device }), labels = tensor(BigInt64Array.from({ length: batch }, (_, i) => BigInt(i % 10)), { device });
    const attack = (graph) => pgd(model, images, labels, { epsilon: 8 / 255, stepSize: 2 / 255, steps, batchSize: batch, seed: 1, graph });
    const apart = aten.max(aten.abs(aten.sub(await attack(true), await attack(false)))).item();
    const by = (graph) => async () => void await attack(graph);
    // The later call comes after the recording one.
    const times = await medians({ eager: { run: by(false) }, first: { before: forget, run: by(true) }, graph: { run: by(true) } });
    const [eager, first, graph] = [times.eager, times.first, times.graph].map((time) => (1000 * time) / steps);
    keep({ batch, width, steps, eager, first, graph, apart });
    console.log(`batch ${batch}: ${eager.toFixed(3)} ms a step, by a graph ${graph.toFixed(3)} (${(eager / graph).toFixed(2)} x; recording included ${first.toFixed(3)}), adversaries ${apart} apart`);
  });

for (const batch of listed(values.evaluations))
  await scope(async () => {
    const images = rand([count, 3, 32, 32], { device }), { predicted } = await predict(model, images, { batchSize: batch });
    const data = { length: count, images: (start, end) => aten.slice(images, 0, start, end), labels: (start, end) => aten.slice(predicted, 0, start, end) };
    const right = {}, by = (graph) => async () => { right[graph] = (await evaluate(model, data, { attacks: ['pgd20'], batchSize: batch, graph })).pgd20.correct; };
    const { eager, graph } = await medians({ eager: { run: by(false) }, graph: { before: forget, run: by(true) } });
    keep({ images: count, batch, width, eager, graph, standing: right });
    console.log(`PGD-20 on ${count} images, ${batch} at once: ${eager.toFixed(2)} s, by a graph ${graph.toFixed(2)} (${(eager / graph).toFixed(2)} x), ${right.false} and ${right.true} stand`);
  });
