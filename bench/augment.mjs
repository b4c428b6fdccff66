// Images per second of the augmentation pipelines on one core, beside the same pipelines in Python (Pillow, one process) in the same run.
//   node bench/augment.mjs [--python PATH] [--seconds 2] [--threads 1] [--json]
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { augmentSync, proceduralDataset, runtimeInfo, setThreads } from '../dist/index.js';

const { values } = parseArgs({ options: {
  python: { type: 'string', default: 'python3' }, seconds: { type: 'string', default: '2' }, threads: { type: 'string', default: '1' }, json: { type: 'boolean' },
} });
const seconds = Number(values.seconds);
setThreads(Number(values.threads));
const data = proceduralDataset({ train: 2000, test: 10 });
const pipelines = ['rocl', 'advcl-strong', 'weak'];

function rate(pipeline) {
  const indices = Array.from({ length: 512 }, (_, k) => k);
  augmentSync(data.train, indices, { pipeline }).dispose();
  let done = 0;
  const start = performance.now();
  for (let epoch = 0; performance.now() - start < seconds * 1000; epoch++, done += indices.length) augmentSync(data.train, indices, { pipeline, epoch }).dispose();
  return (done / (performance.now() - start)) * 1000;
}

/** The rates of the Python pipelines, or why there are none. */
function reference() {
  const folder = mkdtempSync(join(tmpdir(), 'a-infonce-bench-'));
  try {
    const pixels = join(folder, 'pixels');
    writeFileSync(pixels, data.train.pixels.toTypedArray());
    const script = fileURLToPath(new URL('augment_reference.py', import.meta.url));
    return JSON.parse(execFileSync(values.python, [script, pixels, '2000', '32', values.seconds], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }));
  } catch (error) {
    return { error: String(error.stderr || error.message).trim().split('\n').at(-1) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const ours = Object.fromEntries(pipelines.map((name) => [name, rate(name)]));
const python = reference();
const result = { threads: Number(values.threads), cpu: runtimeInfo().cpu, imagesPerSecond: ours, python, ratio: Object.fromEntries(pipelines.map((name) => [name, ours[name] / python[name]])) };
if (values.json) console.log(JSON.stringify(result));
else {
  console.log(`32 x 32 color images a second, ${values.threads} thread(s), ${result.cpu}`);
  if (python.error) console.log(`no comparison: ${python.error} (pip install pillow numpy, --python PATH)`);
  for (const name of pipelines)
    console.log(`${name.padEnd(14)}${Math.round(ours[name]).toString().padStart(9)}` + (python[name] ? `   python ${Math.round(python[name]).toString().padStart(7)}   ratio ${(ours[name] / python[name]).toFixed(1)}` : ''));
}
data.dispose();
