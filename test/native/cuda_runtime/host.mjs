// What the host does for a CUDA device, under the stand-in for the CUDA runtime (runtime.cpp), and how often it waits: scripts/check-cuda.mjs --host runs it.
// Without --values kernels do nothing and values mean nothing: that nothing is thrown which should not be, that what should be is, and the counts are what is checked.
import { readFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import {
  aInfoNCE, analyze, apgd, augmentSync, autoAttack, carliniWagner, Classifier, cluster, cuda, Encoder, evaluate, fab, finetune, FixedViews, fgsm, highFrequency, loadTorchScript, mim, noGrad, ops, pgd, PIPELINES, predict, pretrain,
  proceduralDataset, rand, randn, scope, square, tensor, zeros,
} from '../../../dist/index.js';
import { diagnose } from '../../../dist/runtime/doctor.js';
import { job } from '../../../dist/runtime/job.js';
import { native } from '../../../dist/runtime/native.js';

const { values, positionals } = parseArgs({ options: { device: { type: 'string', default: 'cuda:0' }, values: { type: 'boolean', default: false } }, allowPositionals: true });
const { device } = values;
const { a_infonce, aten } = ops;

const COUNTS = ['kernels', 'own', 'calls', 'waits', 'from', 'to', 'on', 'fills', 'allocations', 'frees', 'captures', 'graphs', 'errors'];
const index = Number(device.split(':')[1] ?? 0), file = process.env.CUDA_STAND_IN_COUNTS;
const counts = (of = index) => {
  const bytes = readFileSync(file), all = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8);
  return Object.fromEntries(COUNTS.map((name, i) => [name, Number(all[of * COUNTS.length + i])]));
};
if (!cuda.isAvailable()) throw new Error(`not built for this: ${native().cuda_info().problem ?? 'LibTorch is not a CUDA build'}`);
let failed = 0;
const long = /^(loss|pretrain|autoAttack|step of \w+, bf16)/;  // with values, and among the tests of a GPU
const graphs = process.env.PYTORCH_NO_CUDA_MEMORY_CACHING === undefined;  // which want LibTorch's allocator
const wanted = (name) => (!values.values || !long.test(name)) && (positionals.length === 0 || positionals.some((part) => name.includes(part)));
const line = (name, cells) => console.log(name.padEnd(58) + cells.map((cell) => String(cell).padStart(12)).join(''));

/** The second of two runs, counted. `most`: of these at the most. */
async function measure(name, run, most = {}) {
  if (!wanted(name)) return;
  try {
    await run();
    const before = counts();
    await run();
    const after = counts();
    line(name, COUNTS.map((key) => after[key] - before[key]));
    for (const [key, bound] of Object.entries(most))
      if (after[key] - before[key] > bound) {
        failed += 1;
        console.log(`  ${key}: ${after[key] - before[key]}, and there should be ${bound} at the most`);
      }
    return after.waits - before.waits;
  } catch (error) {
    if ((error?.code === 'ERR_NON_FINITE' || /not in the ball/.test(error?.message)) && !values.values) return console.log(`${name.padEnd(58)} not further than: ${error.message}`);  // by values that mean nothing
    failed += 1;
    console.log(`${name.padEnd(58)} ${error?.stack ?? error}`);
  }
}
/** `message`: of the error. */
async function expectError(name, code, run, message = /./) {
  if (!wanted(name)) return;
  try {
    await run();
    failed += 1;
    console.log(`${name.padEnd(58)} nothing was thrown`);
  } catch (error) {
    const expected = error.code === code && message.test(error.message);
    if (!expected) failed += 1;
    console.log(`${name.padEnd(58)} ${expected ? '' : `expected ${code}: `}${error.code ?? error.stack}: ${error.message}`);
  }
}

/** make(graph) gives a tensor: to the bit the same by a graph as without. `captures`: how many graphs are recorded for it; `launches`: how often they run. */
async function same(name, make, captures, launches) {
  if (!wanted(name)) return;
  const bits = async (graph) => scope(async () => Buffer.from((await make(graph)).toTypedArray().buffer));
  try {
    const without = await bits(false), before = counts(), by = await bits(true), after = counts();
    const [launched, captured] = ['graphs', 'captures'].map((key) => after[key] - before[key]), right = by.equals(without);
    if (!right || launched === 0 || captured !== captures || launched !== (launches ?? launched)) failed += 1;
    console.log(`${name.padEnd(58)} ${captured} recorded${captured === captures ? '' : `, and there should be ${captures}`}, ${launched} launches of a graph, ${right ? 'the same bits' : 'OTHER BITS'}`);
  } catch (error) {
    failed += 1;
    console.log(`${name.padEnd(58)} ${error?.stack ?? error}`);
  }
}

/** Of one of four steps more. */
function waitsOf(step, few, more, most) {
  if (few === undefined || more === undefined) return;
  const waits = (more - few) / 4;
  if (waits > most) failed += 1;
  console.log(`  waits of a${step === 'step' ? '' : 'n'} ${step}: ${waits}${waits > most ? `, and there should be ${most} at the most` : ''}`);
}

line('', COUNTS);
const never = { waits: 0 }, once = { waits: 1 };
const integers = (length, of = (i) => i) => tensor(BigInt64Array.from({ length }, (_, i) => BigInt(of(i))), { device });

const forms = {
  'paper': { views: 3, adversarialView: 2 },
  'paper, IP': { views: 3, adversarialView: 2, inferiorPositive: {} },
  'paper, IP+HN': { views: 3, adversarialView: 2, inferiorPositive: {}, hardNegative: {} },
  'paper, temperature 0.01': { views: 3, temperature: 0.01 },
  'advcl': { form: 'advcl', views: 3, normalize: true },
  'advcl, IP+HN': { form: 'advcl', views: 3, normalize: true, inferiorPositive: {}, hardNegative: {} },
  'rocl': { form: 'rocl', views: 3 },
  'rocl, IP+HN': { form: 'rocl', views: 3, inferiorPositive: {}, hardNegative: {} },
  'paper, labels': { views: 3, labels: Array.from({ length: 256 }, (_, i) => i % 7) },
  'paper, labels on the device, IP+HN': { views: 3, labels: integers(256, (i) => i % 7), adversarialView: 2, inferiorPositive: { positiveWeight: 0.7 }, hardNegative: {} },
};
for (const [form, options] of Object.entries(forms))
  for (const [precision, dtype] of [['bf16', 'float32'], ['full', 'float32'], ['full', 'float64']]) {
    if (options.labels && precision === 'bf16') continue;
    const rows = randn([3 * 256, 128], { device, dtype, requiresGrad: true });
    await measure(`loss ${form}, ${dtype}, ${precision}`, () => scope(() => { aInfoNCE(rows, { ...options, precision }).backward(); }), once);
  }
await measure('loss, fixed views', () => scope(() => {
  const fixed = new FixedViews(randn([512, 128], { device }), { views: 3, adversarialView: 2 });
  for (let step = 0; step < 2; step++) fixed.loss(randn([256, 128], { device, requiresGrad: true })).backward();
}), { waits: 3 });
for (const [moves, queue] of [['queries', randn([1024, 128], { device })], ['queries and queue', randn([1024, 128], { device, requiresGrad: true })]])
  for (const keywords of [{ temperature: 0.2 }, { temperature: 0.005, beta: 1 }])
    await measure(`loss, queue, ${Object.keys(keywords)}, gradient of ${moves}`, () => scope(() => {
      const queries = randn([256, 128], { device, requiresGrad: true });
      a_infonce.queue_loss(queries, randn([256, 128], { device }), queue, keywords).backward();
    }), once);
const codes = integers(256).to({ dtype: 'int32' });
await measure('log moments', () => scope(() => {
  const [full] = a_infonce.log_moments(randn([256, 128], { device, requiresGrad: true }), codes, 2, [1, 2], 2);
  aten.sum(full).backward();
}), once);

const shape = [16, 3, 32, 32], images = rand(shape, { device }), labels = integers(16, (i) => i % 10), samples = integers(16);
const encoder = () => Encoder.create({ width: 4, branches: ['normal', 'pgd', 'pgd_ce'], projector: { hidden: [32], output: 16, batchNorm: true }, heads: [2, 5], seed: 3 }).to(device);
const network = encoder(), classifier = Classifier.create({ encoder: network, classes: 10, seed: 2 }).eval();
const waiting = (await loadTorchScript(new URL('../../fixtures/model/waits.pt', import.meta.url).pathname, { device })).eval();

for (const l2 of [false, true]) {
  const norm = l2 ? 'l2' : 'linf', z = rand(shape, { device }), grad = randn(shape, { device });
  await measure(`start of PGD, ${norm}`, () => scope(() => { a_infonce[`pgd_start_${norm}`](images, samples, 0.1, 1); }), never);
  await measure(`step of PGD, ${norm}`, () => scope(() => { a_infonce[`pgd_step_${norm}_`](z, grad, images, 0.1, 0.01); }), once);
  await measure(`step of FAB, ${norm}`, () => scope(() => { a_infonce.fab_step_(z, images, grad, rand([16], { device }), l2); }), once);
}
const data = proceduralDataset({ train: 40, test: 24, size: 16 }), resident = data.train.to(device), test = data.test.to(device);
for (const pipeline of Object.keys(PIPELINES)) await measure(`views, ${pipeline}`, () => scope(() => { augmentSync(resident, [7, 0, 3], { pipeline }); }), never);
await measure('gather', () => scope(() => { resident.gather([7, 0, 3]); }), never);
await measure('high frequencies', () => scope(() => { highFrequency(images, 4); }), never);

await measure('forward, eval', () => scope(() => { classifier.forward(images); }), never);
await measure('forward and backward, train', () => scope(() => { aten.sum(network.train().forward(images, { output: 'projection' })).backward(); }), never);
network.eval();
const attacks = {
  'pgd': (steps) => pgd(classifier, images, labels, { steps, epsilon: 0.03 }),
  'pgd, l2': (steps) => pgd(classifier, images, labels, { steps, epsilon: 0.3, norm: 'l2' }),
  'pgd, momentum': (steps) => mim(classifier, images, labels, { steps, epsilon: 0.03 }),
  ...(values.values && { 'pgd, 2 restarts': (steps) => pgd(classifier, images, labels, { steps, epsilon: 0.03, restarts: 2 }) }),
  'pgd, until fooled': (steps) => pgd(classifier, images, labels, { steps, epsilon: 0.03, earlyStop: true }),
  'pgd, contrastive': (steps) => pgd(network, images, null, { objective: { contrastive: rand(shape, { device }) }, steps, epsilon: 0.03 }),
  ...(graphs && {
    'pgd, by a graph': (steps) => pgd(classifier, images, labels, { steps, epsilon: 0.03, graph: true }),
    'pgd, batches by a graph': (steps) => pgd(classifier, rand(shape), labels, { steps, epsilon: 0.3, norm: 'l2', batchSize: 8, graph: true }),
    'pgd, contrastive, by a graph': (steps) => pgd(network, images, null, { objective: { contrastive: rand(shape, { device }) }, steps, epsilon: 0.03, graph: true }),
  }),
  'pgd of a function': (steps) => pgd((x) => classifier.forward(x), images, labels, { steps, epsilon: 0.03 }),
  'fgsm': () => fgsm(classifier, images, labels, { epsilon: 0.03 }),
  'apgd, cross-entropy': (steps) => apgd(classifier, images, labels, { steps, epsilon: 0.03 }),
  'apgd, dlr, l2': (steps) => apgd(classifier, images, labels, { steps, epsilon: 0.3, loss: 'dlr', norm: 'l2' }),
  'fab': (steps) => fab(classifier, images, labels, { steps, epsilon: 0.03, targets: 2 }),
  'square': (queries) => square(classifier, images, labels, { queries, epsilon: 0.03 }),
  'square, l2': (queries) => square(classifier, images, labels, { queries, epsilon: 0.3, norm: 'l2' }),
  'carlini-wagner': (steps) => carliniWagner(classifier, images, labels, { steps, searchSteps: 2 }),
};
/** Waits beside those of steps, where they are more than two, for what an attack is given and at its end: for who is fooled by a start, a target or a search, and for each batch. */
const beside = { 'pgd, 2 restarts': 3, 'pgd, batches by a graph': 5, 'apgd': 4, 'fab': 4, 'square': 3, 'carlini-wagner': 6 };
for (const [name, run] of Object.entries(attacks)) {
  const each = /until|apgd|square/.test(name) ? 1 : 0;  // who is fooled leaves
  const taking = (steps) => measure(`${name}, ${steps} steps`, async () => (await run(steps))[Symbol.dispose](), { waits: (beside[name] ?? beside[name.split(',')[0]] ?? 2) + each * steps, captures: 0 });  // a graph is kept
  waitsOf('step', await taking(4), await taking(8), each);
}
await measure('autoAttack', async () => void await autoAttack(classifier, images, labels, { epsilon: 0.01 }));

if (graphs && values.values) {
  const makeClassifier = (each = encoder()) => Classifier.create({ encoder: each, classes: 10, seed: 2 }).eval();
  const attacked = (model, options = {}, x = images, y = labels) => (graph) => pgd(model, x, y, { epsilon: 0.03, steps: 6, seed: 4, graph, ...options });
  const others = rand(shape), backwards = integers(16, (i) => 9 - (i % 10)), views = rand(shape, { device });
  const kinds = { 'linf': {}, 'l2, momentum': { epsilon: 0.3, norm: 'l2', momentum: 0.9 }, 'restarts': { restarts: 2 }, 'targeted': { targeted: true } };
  for (const [kind, options] of Object.entries(kinds)) await same(`by a graph as without: ${kind}`, attacked(makeClassifier(), { ...options, batchSize: 5 }), 2);
  const contrastive = (x, other) => attacked(network, { objective: { contrastive: other }, batchSize: 8, epsilon: 0.02 }, x, null);
  await same('by a graph as without: contrastive', contrastive(images, views), 1);
  await same('by a graph as without: contrastive, with other views', contrastive(views, others.to({ device })), 0);

  const shared = encoder(), kept = makeClassifier(shared), weight = kept.state().get('encoder.conv1.weight');
  const again = async (what, captures, ...of) => same(`kept by a model: ${what}`, attacked(kept, ...of), captures);
  if (wanted('kept by a model: few steps')) (await attacked(kept, { steps: 2 })(true)).dispose();
  await same('kept by a model: the first call', attacked(kept), 1, 3);  // the steps before it are this call's
  await again('other images, labels, starts, steps', 0, { seed: 5, steps: 9, restarts: 2 }, others, backwards);
  await again('another ball', 1, { epsilon: 0.02 });
  noGrad(() => void aten.mul_(weight, 1.5));
  kept.train().forward(images).dispose();
  kept.eval();
  await again('other weights and statistics', 0);
  if (wanted('kept by a model: a step of training')) {
    const trainer = native().create_trainer(kept.handle, { momentum: 0.9, weightDecay: 1e-4 }, '', 'full');
    await job(() => native().training_step(trainer, 'linear', { images: images.handle, labels: labels.handle, samples: samples.handle }, { learningRate: 0.1, seed: 1 }));
  }
  await again('a step of training', 0);
  cuda.allowTF32 = true;
  await again('with TF32', 1);
  cuda.allowTF32 = false;
  await again('and without', 1);
  kept.to('cpu').to(device);
  await again('there and back', 1);
  await again('after that', 0);
  shared.to('cpu').to(device);
  await again('a shared part there and back', 1);
  noGrad(() => void aten.set_(weight, aten.mul(weight, 0.5)));
  await again('another tensor in the place of one', 1);
  await same('kept by a model: of two at once', async (graph) => {
    const all = await Promise.all([[], [{}, others, backwards], [{ seed: 9 }]].map((of) => attacked(kept, ...of)(graph)));
    return aten.cat(all.map((each) => each.to({ device: 'cpu' })));
  }, 0);
  await expectError('kept by a model: a label that is no class', 'ERR_ARGUMENT_RANGE', () => attacked(kept, {}, images, integers(16, () => 10))(true));
  await again('after that error', 1);
  const controller = new AbortController();
  await expectError('kept by a model: abort', DOMException.ABORT_ERR, () => attacked(kept, { steps: 100, signal: controller.signal, onProgress: ({ done }) => done > 3 && controller.abort() })(true));
  await again('after an abort', 1);
  if (wanted('kept by a model: memory')) {
    const taken = () => (cuda.releaseMemory(), cuda.memory(device).reserved / 2 ** 20), large = rand([16, 3, 64, 64], { device });
    const sizes = async (first, last) => {
      for (let size = first; size <= last; size++) (await attacked(kept, {}, aten.slice(large, 0, 0, size), aten.slice(labels, 0, 0, size))(true)).dispose();
    };
    kept.to(device);
    const found = [taken()];
    for (const [first, last] of [[16, 16], [13, 15], [1, 16]]) await sizes(first, last), found.push(taken());
    kept.dispose();
    const [without, one, four, many, end] = [...found, taken()];
    // LibTorch keeps a workspace of 8 MiB of each thread and stream.
    if (one < without + 20 || four > one + 12 || many > one + 12 || end > without + 10) failed += 1;
    console.log(`${'kept by a model: memory'.padEnd(58)} ${found.map((bytes) => bytes.toFixed(1)).join(', ')} MiB without, of one size, of four, of sixteen more; ${end.toFixed(1)} at the end`);
  }
  const evaluated = makeClassifier(), evaluation = { attacks: ['clean', 'pgd6', 'pgd9'], epsilon: 0.1, batchSize: 10 };
  // Two of three are right without an attack.
  const { predicted } = await predict(evaluated, test.images(0, 24)), twoThirds = { length: 24, images: (from, to) => test.images(from, to), labels: (from, to) => aten.slice(marked, 0, from, to) };
  const marked = aten.remainder(aten.add(predicted, aten.eq(aten.remainder(integers(24), 3), 0)), 10);
  if (wanted('evaluate by a graph')) {
    const first = counts(), by = await evaluate(evaluated, twoThirds, { ...evaluation, graph: true }), captured = counts().captures - first.captures, without = await evaluate(evaluated, twoThirds, evaluation);
    const scores = (of) => Object.values(of).map(({ correct }) => correct).join(', ');
    if (captured !== 2 || scores(by) !== scores(without)) failed += 1;
    console.log(`${'evaluate by a graph'.padEnd(58)} ${captured} recorded, right: ${scores(by)} by graphs and ${scores(without)} without`);
  }
  await measure('evaluate by a graph, again', () => evaluate(evaluated, twoThirds, { ...evaluation, graph: true }), { captures: 0 });
}
if (graphs) {
  const byGraph = (model) => pgd(model, images, labels, { steps: 5, epsilon: 0.03, graph: true });
  await expectError('a model that waits, by a graph', 'ERR_OPERATOR', () => byGraph(waiting));
  await measure('afterwards by a graph: random numbers', () => scope(() => { rand([4], { device }); }));
  await measure('afterwards by a graph: pgd', async () => (await byGraph(classifier.to(device)))[Symbol.dispose]());  // recorded anew
  const encoders = Array.from({ length: 4 }, encoder), models = encoders.map((each) => Classifier.create({ encoder: each, classes: 10 }).eval());
  await measure('graphs of four attacks at once, and waits', async () => {
    for (let round = 0; round < 5; round++) {
      const running = Promise.all(models.map((each) => byGraph(each.to(device))));
      for (let ended = false; !ended; ended = await Promise.race([running.then(() => true), new Promise((resolve) => setImmediate(resolve, false))])) cuda.synchronize(device);
      for (const each of await running) each[Symbol.dispose]();
    }
  });
}

// A step of each method.
const objective = { temperature: 0.5, inferiorPositive: { alpha: 0.2, weight: 1 }, hardNegative: { beta: 1, tauPlus: 0.1 } };
const attack = (steps) => ({ epsilon: 8 / 255, stepSize: 2 / 255, steps, randomStart: true, clampStart: false, clampThenProject: false });
const views = { view1: images, view2: rand(shape, { device }), samples };
const pseudo = aten.view(integers(32, (i) => i % 2), [2, 16]).to({ device: 'cpu' }), known = labels.to({ device: 'cpu' });
/** Waits of a step: for its numbers at the end; for the distance that alpha follows; for labels that are on a device. */
const waits = { rocl: 1, advcl: 2, acl: 1, simclr: 1, supcon: 1, moco: 1, linear: 1, trades: 2 };
const methods = {
  rocl: (steps) => [views, { groups: 1, regularizerWeight: 1 / 256, sharedForward: false, objective: { form: 'rocl', ...objective }, attack: attack(steps) }],
  advcl: (steps) => [{ aug1: images, aug2: views.view2, org: images, labels: pseudo, samples }, { labelWeight: 0.2, highFrequencyRadius: 8, adaptive: { dMin: 0.4 }, objective: { form: 'advcl', ...objective }, attack: attack(steps) }],
  acl: (steps) => [{ ...views, original: images }, { adversarialWeight: 1, invariance: { standard: 1, adversarial: 1 }, objective: { temperature: 0.5 }, attack: attack(steps) }],
  simclr: () => [views, { scale: 1, objective: { form: 'paper', temperature: 0.5 } }],
  supcon: () => [{ ...views, labels }, { scale: 1, objective: { form: 'paper', temperature: 0.5 } }],
  moco: () => [views, { momentum: 0.9, groups: 2, pointer: 0, keys: copy.handle, queue: queue.handle, objective: { temperature: 0.2 } }],
  linear: (steps) => [{ images, labels: known, samples }, { attack: attack(steps) }],
  trades: (steps) => [{ images, labels, samples }, { beta: 6, startNoise: 0.001, attack: attack(steps) }],
};
const copy = encoder(), queue = randn([64, 16], { device });
for (const precision of ['full', 'bf16'])
  for (const [method, make] of Object.entries(methods)) {
    const own = encoder(), model = method === 'linear' || method === 'trades' ? Classifier.create({ encoder: own, classes: 10, seed: 2 }) : own;
    const trainer = native().create_trainer(model.handle, { momentum: 0.9, weightDecay: 1e-4, ...(method === 'rocl' && { lars: { trust: 1e-3, epsilon: 1e-8 } }) }, '', precision);
    const step = (steps) => measure(`step of ${method}, ${precision}${method in { simclr: 1, supcon: 1, moco: 1 } ? '' : `, ${steps} attack steps`}`, async () => {
      const [inputs, options] = make(steps);
      await job(() => native().training_step(trainer, method === 'supcon' ? 'simclr' : method, Object.fromEntries(Object.entries(inputs).map(([name, { handle }]) => [name, handle])), { ...options, learningRate: 0.1, seed: 1 }));
    }, { on: 16, ...(method in waits && { waits: waits[method] }) });  // the running statistics, hundreds of tensors, are copied side by side
    const few = await step(3);
    if (method in { simclr: 1, supcon: 1, moco: 1 }) continue;
    const more = await step(7);
    waitsOf('attack step', few, more, 0);
  }

// Whole programs.
const folder = mkdtempSync(join(tmpdir(), 'a-infonce-host-'));
let runs = 0;
for (const preset of ['rocl-iphn-cifar10', 'advcl-iphn-cifar10', 'acl-cifar10', 'dynacl-cifar10', 'simclr-cifar10', 'supcon-cifar10', 'moco-cifar10'])
  await measure(`pretrain ${preset}, 3 steps`, async () => {
    const overrides = { encoder: { width: 4 }, data: { name: 'procedural', procedural: { train: 24, test: 8, size: 16 } }, ...(/advcl/.test(preset) && { pseudoLabels: { weight: 0 } }), ...(/moco/.test(preset) && { groups: 2, queue: { size: 16 } }) };
    for await (const event of pretrain({ preset, device, out: join(folder, String(runs++)), epochs: 1, batchSize: 8, overrides }))
      if (event.type === 'warning' && event.message.includes('device')) console.log(`  ${event.message}`);
  }, { waits: /advcl/.test(preset) ? 8 : 5 });  // a step one, advcl's two; its files two
for (const [mode, waits] of Object.entries({ slf: 9, alf: 23, aff: 17 }))
  await measure(`finetune ${mode}`, async () => {
    const overrides = mode === 'aff' ? { trades: { attack: { steps: 1 } } } : {};
    (await finetune(network, data, { mode, epochs: 2, batchSize: 16, validation: 0.2, overrides }))[Symbol.dispose]();
  }, { waits });
await measure('predict, images on the device', () => predict(classifier, images, { batchSize: 4 }), { waits: 5 });
await measure('predict, images on the CPU', () => predict(classifier, rand(shape), { batchSize: 4 }), { waits: 4 });
await measure('evaluate, split on the device', () => evaluate(classifier, test, { attacks: ['clean', 'pgd3'], epsilon: 2 / 255, batchSize: 10 }), { waits: 36 });  // 3 a batch, 6 for an attack on it
await measure('evaluate, split on the CPU', () => evaluate(classifier, data.test, { attacks: ['clean', 'pgd3'], epsilon: 2 / 255, batchSize: 10 }), { waits: 17 });
const pixels = tensor(new Uint8Array(24 * 3 * 16 * 16), { shape: [24, 3, 16, 16], device });
await measure('encode', () => job(() => native().encode(network.handle, pixels.handle, '', 8)), never);
await measure('save and load', async () => {
  const path = join(folder, 'encoder.safetensors');
  await network.save(path);
  (await Encoder.load(path, { device }))[Symbol.dispose]();
}, { waits: 1 });
await measure('a model to the CPU and back', () => void network.to('cpu').to(device), { waits: 1 });
rmSync(folder, { recursive: true });
await measure('a worker', () => new Promise((resolve, reject) => {
  const program = `
    import { aInfoNCE, Classifier, Encoder, pgd, rand, randn, tensor } from '${new URL('../../../dist/index.js', import.meta.url)}';
    aInfoNCE(randn([30, 16], { device: '${device}', requiresGrad: true }), { views: 3 }).backward();
    const model = Classifier.create({ encoder: Encoder.create({ width: 4 }), classes: 10 }).to('${device}');
    for (let call = 0; call < 2; call++) await pgd(model, rand([4, 3, 8, 8]), tensor([0, 1, 2, 3], { dtype: 'int64' }), { steps: 5, graph: ${graphs} });`;
  new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`)).on('error', reject).on('exit', resolve);
}));
if (!values.values)  // the programs that it starts would load LibTorch
  await measure('doctor', async () => {
    const { findings } = await diagnose();
    for (const subject of ['GPU', 'CUDA']) if (findings.find((finding) => finding.subject === subject)?.state !== 'ok') throw new Error(`doctor does not find ${subject}`);
  });

// Errors.
await expectError('images on another device', 'ERR_ARGUMENT_RANGE', () => classifier.forward(rand(shape)));
await expectError('no memory', 'ERR_OUT_OF_MEMORY', () => zeros([2 ** 42], { device }));
await expectError('no such device', 'ERR_ARGUMENT_RANGE', () => zeros([1], { device: 'cuda:9' }));
scope(() => { aten.sum(zeros([64, 64], { device })).item(); });
await expectError('no memory in a job', 'ERR_OUT_OF_MEMORY', async () => {
  const large = rand([512, 3, 64, 64], { device }), held = zeros([Math.floor((cuda.memory(device).free - (8 << 20)) / 4)], { device });
  try {
    await pgd(classifier, large, integers(512, (i) => i % 10), { steps: 2, epsilon: 0.03 });
  } finally {
    held[Symbol.dispose]();
    cuda.releaseMemory();
  }
});
if (values.values) {  // of a sample that stays where others, which no attack has to fool, have left
  const six = rand([6, 3, 16, 16], { device }), spoilt = 3;
  scope(() => {
    aten.mul_(aten.slice(six, 1, 0, 1), 0.5);
    aten.fill_(aten.select(aten.select(six, 0, spoilt), 0, 0), 0.9);
  });
  const predicted = aten.argmax(classifier.forward(six), 1).toTypedArray(), classes = integers(6, (i) => (i % 3 === 0 ? predicted[i] : (predicted[i] + 1n) % 10n));
  for (const [name, attack, calls, options] of [['pgd', pgd, 6, { steps: 4, restarts: 2 }], ['apgd', apgd, 2, { steps: 4 }], ['fab', fab, 2, { steps: 4 }], ['square', square, 2, { queries: 4 }], ['carlini-wagner', carliniWagner, 2, { steps: 4, epsilon: 1 }]]) {
    let left = calls;
    const model = (x) => {
      const bad = aten.unsqueeze(aten.gt(aten.mean(aten.select(x, 1, 0), [1, 2]), 0.8), 1), logits = classifier.forward(x);
      return left-- > 0 ? logits : aten.where(bad, NaN, logits);
    };
    await expectError(`NaN of one sample after ${calls} calls of a model: ${name}`, 'ERR_NON_FINITE', () => attack(model, six, classes, { epsilon: 0.001, ...options }), /sample 3\b/);
  }
}
await measure('afterwards: pgd', async () => (await attacks.pgd(2))[Symbol.dispose]());

for (let other = 0; other < cuda.devices().length; other++)
  if (other !== index) {
    const { allocations, kernels, calls, waits } = counts(other);
    if (allocations + kernels + calls + waits > 0) failed += 1;
    console.log(`on cuda:${other}, which nothing asks for: ${allocations} allocations, ${kernels} kernels, ${calls} calls, ${waits} waits`);
  }
console.log(failed ? `${failed} failed` : 'nothing else was thrown');
if (failed) process.exitCode = 1;
