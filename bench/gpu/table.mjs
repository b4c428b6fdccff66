// The short table of what bench/gpu.sh measured, from its folder: of what is there.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = process.argv[2];
const unread = [];
function read(name) {
  try {
    return existsSync(join(folder, name)) ? JSON.parse(readFileSync(join(folder, name), 'utf8')) : undefined;
  } catch {
    unread.push(name);
  }
}
const found = { machine: readFileSync(join(folder, 'machine.txt'), 'utf8').trim(), loss: read('loss.json') ?? [], steps: ['rocl', 'advcl'].flatMap((method) => [read(`steps-${method}.json`), read(`compiled-${method}.json`)].flatMap((list) => list ?? [])), attack: read('attack.json') ?? [], graph: read('attack-graph.json') ?? [], views: read('views.json') };
writeFileSync(join(folder, 'all.json'), JSON.stringify(found, null, 1));
const line = (...cells) => console.log(cells.map((cell, at) => (at === 0 ? String(cell).padEnd(34) : String(cell).padStart(13))).join(' '));
const fixed = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : '-');

console.log(found.machine);
line('loss, forward + backward', 'ms', 'TFLOP/s', 'MB', 'eager', 'compiled');
for (const row of found.loss.filter(({ who }) => who === 'ours')) {
  // Against the peer in the precision that is nearest.
  const peer = (name) => found.loss.find(({ who, n, loss, precision }) => who === name && n === row.n && loss === row.loss && precision === (row.precision === 'bf16' ? 'bf16' : 'full'))?.ms;
  line(`  ${row.loss}, ${row.precision}, n ${row.n}`, fixed(row.ms, 3), fixed(row.tflops, 1), fixed(row.bytes / 1e6, 0), `${fixed(peer('PyTorch') / row.ms, 1)} x`, `${fixed(peer('torch.compile') / row.ms, 1)} x`);
}
line('training step, ResNet-18', 'ms', '', '', 'eager', 'compiled');
for (const row of found.steps.filter(({ name }, at) => name.startsWith('ours') && found.steps.findIndex((each) => each.name === name && each.method === found.steps[at].method) === at)) {
  const bf16 = row.name.endsWith('bf16');
  const peer = (compiled) => found.steps.find(({ method, name }) => method === row.method && name.includes('PyTorch') && name.includes('bf16') === bf16 && name.includes('compiled') === compiled)?.ms;
  line(`  ${row.method}, batch ${row.batch}, ${row.name.slice(6)}`, fixed(row.ms, 1), '', '', `${fixed(peer(false) / row.ms)} x`, `${fixed(peer(true) / row.ms)} x`);
}
for (const { norm, shape, eager, fused, copy } of found.attack) line(`  PGD step ${norm} [${shape}]`, fixed(fused, 4), `copy ${fixed(copy, 4)}`, '', `${fixed(eager / fused, 1)} x`);
for (const { images, batch, eager, graph } of found.graph) line(`  ${images ? `PGD-20, ${images} images` : 'PGD'} by a graph, batch ${batch}`, images ? fixed(1000 * graph, 0) : fixed(graph, 3), '', '', `${fixed(eager / graph)} x`);
for (const [pipeline, rates] of Object.entries(found.views?.imagesPerSecond ?? {}))
  line(`  views, ${pipeline}`, `${Math.round(rates['a-infonce'])}/s`, '', '', `${fixed(rates['a-infonce'] / rates['torchvision v2, a batch at once'], 1)} x`);
if (found.steps.length > 0) console.log('The peers choose cuDNN\'s algorithms by trying them (cudnn.benchmark), ours are the deterministic ones.');
if (unread.length > 0) console.log(`not whole: ${unread.join(', ')}`);
