// A step of AdvCL with its clean views computed once, against one that computes them with every attack step, in one process: interleaved, medians.
//   npm run build && node bench/advcl-step.mjs [--threads 1] [--width 16] [--batch 32] [--attack-steps 5] [--rounds 7]
import { parseArgs } from 'node:util';
import * as api from '../dist/index.js';
import { job } from '../dist/runtime/job.js';
import { native } from '../dist/runtime/native.js';
import { advclStepByStep } from '../test/training/advcl-step-by-step.mjs';

const { Encoder, Optimizer, rand, runtimeInfo, scope, setThreads, tensor } = api;
const { values } = parseArgs({
  options: Object.fromEntries(Object.entries({ 'threads': '1', 'width': '16', 'batch': '32', 'attack-steps': '5', 'rounds': '7' }).map(([name, value]) => [name, { type: 'string', default: value }])),
});
const [threads, width, n, steps, rounds] = ['threads', 'width', 'batch', 'attack-steps', 'rounds'].map((name) => Number(values[name]));
setThreads(threads);

const classes = [2, 10, 50, 100, 500], sgd = { momentum: 0.9, weightDecay: 1e-4 };
const encoder = Encoder.create({ width, branches: ['normal', 'pgd', 'pgd_ce'], projector: { hidden: [8 * width], output: 128 }, heads: classes, initialisation: 'kaiming' });
const copy = encoder.clone();
const trainer = native().create_trainer(encoder.handle, sgd, '');
const optimizer = new Optimizer(Object.fromEntries([...copy.state()].filter(([, value]) => value.requiresGrad)), sgd);
const batch = {
  aug1: rand([n, 3, 32, 32]), aug2: rand([n, 3, 32, 32]), org: rand([n, 3, 32, 32]),
  labels: tensor(BigInt64Array.from({ length: classes.length * n }, (_, i) => BigInt(i % classes[Math.floor(i / n)])), { shape: [classes.length, n] }),
  samples: tensor(BigInt64Array.from({ length: n }, (_, i) => BigInt(i))),
};
const handles = Object.fromEntries(Object.entries(batch).map(([name, { handle }]) => [name, handle]));
const options = {
  learningRate: 0.01, seed: 1, labelWeight: 0.2, highFrequencyRadius: 8,
  objective: { form: 'advcl', temperature: 0.5, inferiorPositive: { alpha: 0.2, weight: 0.7 }, hardNegative: { beta: 1, tauPlus: 0.1 } },
  adaptive: { dMin: 0.4 },
  attack: { epsilon: 8 / 255, stepSize: 2 / 255, steps, randomStart: true, clampStart: false, clampThenProject: false },
};

const variants = {
  'once a batch': () => job(() => native().training_step(trainer, 'advcl', handles, options)),
  'with every attack step': () => scope(() => void advclStepByStep(api, copy, optimizer, batch, options)),
};
const times = Object.fromEntries(Object.keys(variants).map((name) => [name, { wall: [], cpu: [] }]));
for (let round = -1; round < rounds; round++)
  for (const [name, run] of Object.entries(variants)) {
    const start = performance.now(), before = process.cpuUsage();
    await run();
    const { user, system } = process.cpuUsage(before);
    if (round >= 0) times[name].wall.push(performance.now() - start), times[name].cpu.push((user + system) / 1000);
  }
const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
const { cpu, libtorch } = runtimeInfo();
console.log(`${cpu}, ${threads} thread(s), LibTorch ${libtorch}; a step of AdvCL-IP+HN, ResNet-18 of width ${width}, ${n} images of 32 x 32, PGD-${steps}; medians of ${rounds} interleaved rounds`);
const [once, every] = Object.entries(times).map(([name, { wall, cpu }]) => {
  const result = { wall: median(wall), cpu: median(cpu) };
  console.log(`clean views ${name}: ${result.wall.toFixed(0)} ms, of the processor ${result.cpu.toFixed(0)} ms`);
  return result;
});
console.log(`ratio ${(every.wall / once.wall).toFixed(2)}, of the processor's time ${(every.cpu / once.cpu).toFixed(2)}`);
