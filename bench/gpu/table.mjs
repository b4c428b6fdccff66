// The short table of what bench/gpu.sh measured, from its folder: of what is there. With a second argument, seconds since 1970: which files are older.
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, began] = process.argv.slice(2), earlier = [];
const unread = [];
function read(name) {
  try {
    if (existsSync(join(folder, name)) && statSync(join(folder, name)).mtimeMs < 1000 * began) earlier.push(name);
    return existsSync(join(folder, name)) ? JSON.parse(readFileSync(join(folder, name), 'utf8')) : undefined;
  } catch {
    unread.push(name);
  }
}
const found = { machine: readFileSync(join(folder, 'machine.txt'), 'utf8').trim(), loss: read('loss.json') ?? [], steps: ['rocl', 'advcl'].map((method) => ({ eager: read(`steps-${method}.json`) ?? [], compiled: read(`compiled-${method}.json`) ?? [] })), attack: read('attack.json') ?? [], graph: read('attack-graph.json') ?? [], views: read('views.json') };
writeFileSync(join(folder, 'all.json'), JSON.stringify(found, null, 1));
const line = (...cells) => console.log(cells.map((cell, at) => (at === 0 ? String(cell).padEnd(34) : String(cell).padStart(13))).join(' '));
const fixed = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : '-');

console.log(found.machine);
line('loss, forward + backward', 'ms', 'TFLOP/s', 'MB', 'eager', 'compiled');
for (const row of found.loss.filter(({ who }) => who === 'ours')) {
  // Against the peer in the precision that is nearest.
  const peer = (name) => found.loss.find(({ who, n, loss, precision }) => who === name && n === row.n && loss === row.loss && precision === (row.precision === 'bf16' ? 'bf16' : 'full'))?.ms;
  line(`  ${row.loss}, ${row.precision}, n ${row.n}`, fixed(row.ms, 3), fixed(row.tflops, 1), fixed(row.bytes / 1e6, 0), `${fixed(peer('PyTorch') / row.ms, 1)} x`, `${fixed(peer('torch.compile') / row.ms, 1)} x${row.refused ? '  REFUSED' : ''}`);
}
line('training step, ResNet-18', 'ms', '', '', 'eager', 'compiled');
for (const { eager, compiled } of found.steps)
  for (const { method, batch, name, ms, rounds } of [...eager, ...compiled.filter(({ name }) => !eager.some((row) => row.name === name))].filter(({ name }) => name.startsWith('ours'))) {
    // Of the steps that were taken in turn with these.
    const ratio = (rows) => rows.find((row) => row.name.includes('PyTorch') && row.name.includes('bf16') === name.endsWith('bf16') && row.name.includes('TF32') === name.endsWith('tf32'))?.ms / rows.find((row) => row.name === name)?.ms;
    line(`  ${method}, batch ${batch}, ${name.slice(6)}`, fixed(ms, 1), `${rounds} rounds`, '', `${fixed(ratio(eager))} x`, `${fixed(ratio(compiled))} x`);
  }
for (const { norm, shape, eager, fused, copy } of found.attack) line(`  PGD step ${norm} [${shape}]`, fixed(fused, 4), `copy ${fixed(copy, 4)}`, '', `${fixed(eager / fused, 1)} x`);
for (const { images, batch, eager, graph } of found.graph) line(`  ${images ? `PGD-20, ${images} images` : 'PGD'} by a graph, batch ${batch}`, images ? fixed(1000 * graph, 0) : fixed(graph, 3), '', '', `${fixed(eager / graph)} x`);
for (const [pipeline, rates] of Object.entries(found.views?.imagesPerSecond ?? {}))
  line(`  views, ${pipeline}`, `${Math.round(rates['a-infonce'])}/s`, '', '', `${fixed(rates['a-infonce'] / rates['torchvision v2, a batch at once'], 1)} x`);
if (found.steps.some(({ eager, compiled }) => eager.length + compiled.length > 0)) console.log('The peers choose cuDNN\'s algorithms by trying them (cudnn.benchmark), ours are the deterministic ones.');
if (unread.length > 0) console.log(`not whole: ${unread.join(', ')}`);
if (earlier.length > 0) console.log(`from an earlier call: ${earlier.join(', ')}`);
