// Every kernel of a device once, at sizes that compute-sanitizer takes seconds for; test/emulated/sanitize.test.ts finds those that are missing.
import { parseArgs } from 'node:util';
import { aInfoNCE, apgd, augmentSync, cuda, Encoder, fab, finetune, FixedViews, manualSeed, ops, pgd, PIPELINES, proceduralDataset, rand, randn, scope, square, tensor } from '../../dist/index.js';

const { device, precisions } = parseArgs({ options: { device: { type: 'string', default: 'cuda' }, precisions: { type: 'string', default: 'full,bf16x3,bf16' } } }).values;
const { aten, a_infonce } = ops, done = [];
const say = (what) => console.log(`${what}: ${done.length} losses so far`);  // how far it came, where it is stopped
manualSeed(1);

const general = { beta: 0.6, tauPlus: 0.01 };
const losses = [
  { views: 3, adversarialView: 2, inferiorPositive: {}, hardNegative: {}, temperature: 1 }, { views: 3, hardNegative: general, temperature: 1 }, { views: 3, temperature: 0.001 }, { views: 3, temperature: 0.002, hardNegative: {} },
  { form: 'advcl', views: 3, normalize: true, hardNegative: {} }, { form: 'rocl', views: 3, inferiorPositive: {}, hardNegative: { tauPlus: 0.01 } }, { form: 'rocl', views: 3 },
  { views: 6, adversarialView: 1, inferiorPositive: {} }, { form: 'advcl', views: 6, normalize: true, hardNegative: general },
];
// Few blocks of rows, whose columns several thread blocks share, and more of them than multiprocessors; rows that are in shared memory, or pass through it.
const many = device === 'cpu' ? 774 : 25_728;
const few = device === 'cpu' ? 30 : 198, shapes = [[198, 64], [few, 128], [few, 160]];
function backward(rows, loss) {
  loss.backward();
  done.push(loss.item());
  rows.grad = null;
}
for (const dtype of ['float32', 'float64'])
  for (const [n, dim] of shapes)
    for (const options of losses)
      for (const precision of precisions.split(',').filter((each) => dtype === 'float32' || each === 'full'))
        scope(() => {
          const rows = randn([n, dim], { device, dtype, requiresGrad: true });
          backward(rows, aInfoNCE(rows, { ...options, precision }));
        });
for (const options of [{ views: 2 }, { form: 'rocl', views: 3, inferiorPositive: {}, hardNegative: {} }])
  scope(() => {
    const rows = randn([many, 64], { device, requiresGrad: true });
    backward(rows, aInfoNCE(rows, { ...options, precision: 'bf16' }));
  });
for (const dtype of ['float32', 'float64'])
  for (const options of [{ views: 3, adversarialView: 2, hardNegative: general }, { views: 6, adversarialView: 5, temperature: 0.01 }])
    scope(() => {
      const views = options.views, fixed = new FixedViews(randn([65 * (views - 1), 40], { device, dtype }), options), rows = randn([65, 40], { device, dtype, requiresGrad: true });
      backward(rows, fixed.loss(rows));
      fixed[Symbol.dispose]();
    });
say('losses of images');

for (const dtype of ['float32', 'float64'])
  for (const temperature of [0.5, 0.001]) {
    const rows = (n) => randn([n, 40], { device, dtype, requiresGrad: true }), across = { adversarialView: 1, inferiorPositive: { positiveWeight: 0.7 } };
    for (const options of [{}, across, { ...across, hardNegative: general }])
      scope(() => {
        const x = rows(198);
        backward(x, aInfoNCE(x, { views: 2, temperature, ...options, labels: Array.from({ length: 99 }, (_, i) => i % 5) }));
      });
    for (const keywords of [{ temperature }, { temperature, beta: 0.6, tau_plus: 0.01 }])
      for (const moves of [true, false])
        scope(() => {
          const queue = randn([250, 40], { device, dtype, requiresGrad: moves }), x = rows(20);
          backward(x, a_infonce.queue_loss(x, rows(20), queue, keywords));
        });
    for (const powers of [[1], [1, 2]])
      scope(() => {
        const x = rows(100), [full, detached] = a_infonce.log_moments(x, tensor(Int32Array.from({ length: 100 }, (_, i) => i % 7), { device }), 1 / temperature / 40, powers, 3);
        backward(x, aten.mean(aten.add(full, detached)));
      });
  }
say('labels, queues, moments');

for (const dtype of ['float32', 'float64'])
  await scope(async () => {
    const images = () => rand([3, 3, 17, 17], { device, dtype }), [x, z] = [images(), images()], grad = randn([3, 3, 17, 17], { device, dtype });
    const samples = tensor(BigInt64Array.of(2n, 0n, 7n), { device }), labels = tensor(BigInt64Array.of(1n, 0n, 2n), { device });
    for (const start of [a_infonce.pgd_start_linf, a_infonce.pgd_start_l2]) start(x, samples, 0.1, 1);
    const flat = (images) => aten.reshape(images, [-1]), behind = (images) => aten.reshape(aten.slice(aten.cat([flat(images), flat(images)], 0), 0, 1, 1 + 3 * 3 * 17 * 17), images.shape);  // not aligned to 16 bytes
    for (const of of [(images) => images.clone(), behind])
      for (const step of [(order) => a_infonce.pgd_step_linf_(of(z), of(grad), of(x), 0.1, 0.01, order), (order) => a_infonce.pgd_step_l2_(of(z), of(grad), of(x), 0.5, 0.1, order)]) step(true), step(false);
    const small = () => rand([3, 3, 9, 7], { device, dtype }), best = small(), clean = small(), numbers = rand([3, 9 * 7 * 4], { device, dtype }), some = (count) => aten.slice(numbers, 1, 0, count);
    a_infonce.square_start_linf(clean, some(3 * 7), 0.1), a_infonce.square_step_linf(best, clean, some(5), 0.1, 4);
    a_infonce.square_start_l2(clean, some(9 * 7 * 4), 0.1), a_infonce.square_step_l2(best, clean, some(8), 0.1, 5);
    for (const l2 of [true, false]) a_infonce.fab_step_(z, x, grad, rand([3], { device, dtype }), l2);
    const weights = randn([3 * 17 * 17, 4], { device, dtype }), model = (images) => aten.matmul(aten.reshape(images, [images.shape[0], -1]), weights);
    for (const norm of ['linf', 'l2'])
      for (const attack of [(options) => pgd(model, x, labels, { ...options, steps: 2, stepSize: 0.02 }), (options) => apgd(model, x, labels, { ...options, steps: 2 }),
        (options) => fab(model, x, labels, { ...options, steps: 2, targets: 1, restarts: 2 }), (options) => square(model, x, labels, { ...options, queries: 4 })])
        await attack({ norm, epsilon: 0.1, seed: 3 });
  });
say('attacks');
scope(() => {
  const data = proceduralDataset({ train: 8, test: 1, size: 24 }), train = device === 'cpu' ? data.train : data.train.to(device);
  for (const pipeline of Object.keys(PIPELINES)) augmentSync(train, [7, 0, 3], { pipeline });
});
await scope(async () => {  // TRADES begins with normal noise
  const encoder = Encoder.create({ width: 2 }), data = proceduralDataset({ train: 4, test: 1, size: 8 });
  await finetune(device === 'cpu' ? encoder : encoder.to(device), data, { mode: 'aff', epochs: 1, batchSize: 4, overrides: { trades: { attack: { steps: 1 } } } });
});
if (device !== 'cpu') cuda.synchronize(device);
console.log(`${done.length} losses, ${done.every(Number.isFinite) ? 'all finite' : 'not all finite'}`);
if (!done.every(Number.isFinite)) process.exit(1);
