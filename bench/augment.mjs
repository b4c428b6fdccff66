// Images of 32 x 32 that a second of a core's time gives views of, beside torchvision's in turn: medians.
// On a device images a second of wall clock, of all that it does at once.
//   npm run build && node bench/augment.mjs [--python <python with torchvision>] [--rounds 9] [--seconds 0.2] [--threads 1] [--device cpu] [--json]
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { augmentSync, cuda, proceduralDataset, runtimeInfo, setThreads } from '../dist/index.js';
import { Companion } from '../dist/benchmark/companion.js';

const defaults = { python: 'python3', rounds: '9', seconds: '0.2', threads: '1', device: 'cpu' };
const { values } = parseArgs({
  options: { ...Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, { type: 'string', default: value }])), json: { type: 'boolean', default: false } },
});
const [rounds, seconds, threads] = ['rounds', 'seconds', 'threads'].map((name) => Number(values[name]));
const COUNT = 512, pipelines = ['rocl', 'advcl-strong', 'weak'], indices = Array.from({ length: COUNT }, (_, k) => k);
setThreads(threads);
const { device } = values, onDevice = device !== 'cpu';
const data = proceduralDataset({ train: COUNT, test: 10 }), train = onDevice ? data.train.to(device) : data.train;

function ours(pipeline) {
  const before = process.cpuUsage(), start = performance.now(), end = start + seconds * 1000;
  let epoch = 0;
  for (; epoch === 0 || performance.now() < end; ++epoch) augmentSync(train, indices, { pipeline, epoch }).dispose();
  if (onDevice) {
    cuda.synchronize(device);
    return { images: epoch * COUNT, cpu: (performance.now() - start) / 1000 };
  }
  const { user, system } = process.cpuUsage(before);
  return { images: epoch * COUNT, cpu: (user + system) / 1e6 };
}

const folder = mkdtempSync(join(tmpdir(), 'augment-'));
writeFileSync(join(folder, 'pixels'), data.train.pixels.toTypedArray());
const companion = new Companion(values.python, [fileURLToPath(new URL('augment_peers.py', import.meta.url)), join(folder, 'pixels'), COUNT, 32, threads, device].map(String), { env: { OMP_NUM_THREADS: values.threads } });
const makers = { 'a-infonce': ours };
let torchvision, absent;
try {
  ({ torchvision } = await companion.answer());
  if (!onDevice) makers['torchvision, image by image'] = (pipeline) => companion.ask({ peer: 'single', pipeline, seconds });
  makers['torchvision v2, a batch at once'] = (pipeline) => companion.ask({ peer: 'batch', pipeline, seconds });
} catch ({ message }) {
  absent = `no torchvision: ${message} (pip install torchvision, --python <path>)`;
}

const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
const { cpu, instructionSet } = runtimeInfo(), imagesPerSecond = {}, ratio = {};
try {
  for (const pipeline of pipelines) {
    const rates = Object.fromEntries(Object.keys(makers).map((name) => [name, []]));
    for (let round = -1; round < rounds; ++round)
      for (const [name, make] of Object.entries(makers)) {
        const made = await make(pipeline);
        if (round >= 0) rates[name].push(made.images / made.cpu);
      }
    const of = ([name, list]) => [name, median(list.map((rate, i) => rates['a-infonce'][i] / rate))];
    ratio[pipeline] = Object.fromEntries(Object.entries(rates).map(of));
    imagesPerSecond[pipeline] = Object.fromEntries(Object.entries(rates).map(([name, list]) => [name, median(list)]));
  }
} finally {
  companion[Symbol.dispose]();
  rmSync(folder, { recursive: true });
}
if (values.json) console.log(JSON.stringify({ cpu, instructionSet, threads, torchvision, absent, imagesPerSecond, ratio }));
else {
  console.log(`${onDevice ? device : `${cpu}, ${instructionSet}, ${threads} thread(s)`}, torchvision ${torchvision ?? 'none'}; images a second${onDevice ? '' : " of one core's time"}, medians of ${rounds} rounds in turn`);
  if (absent) console.log(absent);
  for (const pipeline of pipelines)
    for (const name of Object.keys(makers))
      console.log(`${pipeline.padEnd(14)}${name.padEnd(33)}${Math.round(imagesPerSecond[pipeline][name]).toString().padStart(8)}${name === 'a-infonce' ? '' : `   ours ${ratio[pipeline][name].toFixed(1)} times as many`}`);
}
