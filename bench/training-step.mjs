// A training step of RoCL and of AdvCL (IP+HN) against the released code's in PyTorch, on the same weights, images and starts: steps in turn, medians. Ours in both precisions
// where the processor has bfloat16; the released steps in float32, what ratios are to, and then with their encoder under autocast.
//   npm run build && node bench/training-step.mjs --python <python with torch and numpy> [--methods rocl,advcl] [--threads 1] [--width 16] [--batch 32] [--rounds 5]
//     [--device cpu] [--json <file>] [--channels-last]: the peers too in the layout that ours takes where the width is a multiple of 16
//     [--compile]: the peers' encoder by torch.compile; [--precisions full,tf32,bf16]: tf32 on a card alone, what PyTorch does by default
// Fails where the losses of the first step are not the same to a hundredth: the sign in the attack makes much of the last bits.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cuda, Encoder, ops, rand, runtimeInfo, setThreads, tensor, writeSafetensors } from '../dist/index.js';
import { Companion } from '../dist/benchmark/companion.js';
import { job } from '../dist/runtime/job.js';
import { native } from '../dist/runtime/native.js';
import { writeJson } from './json.mjs';

const defaults = { python: 'python3', methods: 'rocl,advcl', threads: '1', width: '16', batch: '32', rounds: '5', device: 'cpu', json: '', precisions: '' };
const { values } = parseArgs({
  options: { ...Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, { type: 'string', default: value }])), 'channels-last': { type: 'boolean', default: false }, compile: { type: 'boolean', default: false } },
});
const [threads, width, n, rounds] = ['threads', 'width', 'batch', 'rounds'].map((name) => Number(values[name]));
setThreads(threads);
const { device } = values, onDevice = device !== 'cpu', settle = () => onDevice && cuda.synchronize(device);
const integers = (length, of) => tensor(BigInt64Array.from({ length }, (_, i) => BigInt(of(i))));
const images = () => rand([n, 3, 32, 32]);
const samples = integers(n, (i) => i), seed = 1;
const start = (x, numbers, { epsilon, clampStart }) => ops.a_infonce.pgd_start_linf(x, numbers, epsilon, seed, 0, clampStart);

/** For each method the encoder, the images of a step, what the native step is given and what the peer is. */
const methods = {
  rocl() {
    const projector = { hidden: [32 * width], output: 128, batchNorm: false };
    const attack = { epsilon: 0.0314, stepSize: 0.007, steps: 7, randomStart: true, clampStart: true, clampThenProject: true };
    const [view1, view2] = [images(), images()];
    return {
      encoder: Encoder.create({ width, projector }), projector, inputs: { view1, view2 }, starts: { start: start(view1, samples, attack) },
      optimizer: { momentum: 0.9, weightDecay: 1e-6, lars: { trust: 1e-3, epsilon: 1e-8 } }, rate: 0.3,
      options: { groups: 1, regularizerWeight: 1 / 256, sharedForward: false, objective: { form: 'rocl', temperature: 0.5, inferiorPositive: { alpha: 0.2, weight: 1 }, hardNegative: { beta: 1, tauPlus: 0.12 } }, attack },
      peer: { optimizer: { lr: 0.3, momentum: 0.9, weight_decay: 1e-6, trust: 1e-3, epsilon: 1e-8 },
        step: { steps: 7, epsilon: attack.epsilon, step_size: attack.stepSize, temperature: 0.5, regularizer_weight: 1 / 256, weight: 1, alpha: 0.2, beta: 1, tau: 0.12 } },
    };
  },
  advcl() {
    const projector = { hidden: [8 * width], output: 128 }, classes = [2, 10, 50, 100, 500];
    const attack = { epsilon: 8 / 255, stepSize: 2 / 255, steps: 5, randomStart: true, clampStart: false, clampThenProject: false };
    const [aug1, aug2, org] = [images(), images(), images()];
    const labels = ops.aten.view(integers(classes.length * n, (i) => i % classes[Math.floor(i / n)]), [classes.length, n]);
    return {
      encoder: Encoder.create({ width, branches: ['normal', 'pgd', 'pgd_ce'], projector, heads: classes, initialisation: 'kaiming' }), projector, classes,
      inputs: { aug1, aug2, org, labels }, starts: { start1: start(org, samples, attack), start2: start(org, ops.aten.bitwise_not(samples), attack) },
      optimizer: { momentum: 0.9, weightDecay: 1e-4 }, rate: 0.1,
      options: { labelWeight: 0.2, highFrequencyRadius: 8, adaptive: { dMin: 0.4 }, objective: { form: 'advcl', temperature: 0.5, inferiorPositive: { alpha: 0.2, weight: 0.7 }, hardNegative: { beta: 1, tauPlus: 0.1 } }, attack },
      peer: { optimizer: { lr: 0.1, momentum: 0.9, weight_decay: 1e-4 },
        step: { steps: 5, epsilon: attack.epsilon, step_size: attack.stepSize, radius: 8, temperature: 0.5, label_weight: 0.2, weight: 0.7, alpha: 0.2, beta: 1, tau: 0.1, d_min: 0.4 } },
    };
  },
};

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const { cpu, libtorch, instructionSet } = runtimeInfo();
const precisions = values.precisions ? values.precisions.split(',') : onDevice || instructionSet.endsWith('bf16') ? ['full', 'bf16'] : ['full'];
const results = {};  // of methods
const wrong = [];
for (const method of values.methods.split(',')) {
  const { encoder, projector, classes, inputs, starts, optimizer, rate, options, peer: given } = methods[method]();
  const folder = mkdtempSync(join(tmpdir(), 'training-step-'));
  encoder.to(device);
  await encoder.save(join(folder, 'encoder.safetensors'));
  await writeSafetensors(join(folder, 'images.safetensors'), new Map(Object.entries({ ...inputs, ...starts })));
  writeFileSync(join(folder, 'options.json'), JSON.stringify({ method, width, threads, device, classes, projector: [...projector.hidden, projector.output], channelsLast: values['channels-last'], ...given }));
  const there = Object.entries({ ...inputs, samples }).map(([name, tensor]) => [name, tensor.to({ device })]);
  const handles = Object.fromEntries(there.map(([name, { handle }]) => [name, handle]));
  const ours = (precision) => {
    const network = encoder.clone(), trainer = native().create_trainer(network.handle, optimizer, '', precision === 'bf16' ? 'bf16' : 'full');
    return async () => {
      cuda.allowTF32 = precision === 'tf32';
      const wall = performance.now(), before = process.cpuUsage();
      const numbers = await job(() => native().training_step(trainer, method, handles, { ...options, learningRate: rate, seed }));
      settle();
      const { user, system } = process.cpuUsage(before);
      return { ...numbers, wall: performance.now() - wall, cpu: (user + system) / 1000 };
    };
  };
  const companions = [];
  try {
    let torch;
    const parties = precisions.map((precision) => ({ name: `ours, ${precision}`, step: ours(precision) }));
    for (const precision of precisions) {
      const peer = new Companion(values.python, [fileURLToPath(new URL('training_step.py', import.meta.url)), folder, precision, ...(values.compile ? ['compile'] : [])], { env: { OMP_NUM_THREADS: String(threads) } });
      companions.push(peer);
      ({ torch } = await peer.answer());
      parties.push({ name: `the released steps in PyTorch${{ full: '', tf32: ', TF32', bf16: ', autocast to bf16' }[precision]}${values.compile ? ', compiled' : ''}`, precision, released: precision === precisions[0], step: () => peer.ask({}) });
    }
    for (let round = -1; round < rounds; ++round) {
      for (const party of parties) {
        const took = await party.step();
        if (round < 0) party.loss = took.loss, party.wall = [], party.cpu = [];
        else party.wall.push(took.wall), party.cpu.push(took.cpu);
      }
      if (round < 0) continue;
      results[method] = parties.map(({ name, loss, wall }) => ({ method, name, batch: n, width, ms: median(wall), rounds: wall.length, loss, torch }));
      writeJson(values.json, Object.values(results).flat());
    }
    const released = parties.find((party) => party.released), [wall, processor] = ['wall', 'cpu'].map((kind) => median(released[kind]));
    console.log(`${method}, ResNet-18 of width ${width}, ${n} images of 32 x 32, ${onDevice ? device : `${threads} thread(s); ${cpu}`}, LibTorch ${libtorch}, the peer's torch ${torch}; medians of ${rounds} steps in turn`);
    for (const { name, loss, wall: times, cpu: busy } of parties) {
      const ms = median(times);
      console.log(`  ${name}: ${ms.toFixed(onDevice ? 1 : 0)} ms, ratio ${(wall / ms).toFixed(2)}, of the processor's time ${(processor / median(busy)).toFixed(2)}; loss of the first step ${loss.toFixed(6)}`);
      if (!(Math.abs(loss - released.loss) <= 0.01 * Math.abs(released.loss))) wrong.push(`${method}: ${name} takes another step`);
    }
  } finally {
    for (const peer of companions) peer[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  }
}
if (wrong.length > 0) throw new Error(wrong.join('; '));
