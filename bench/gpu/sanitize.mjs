// Every kernel of a device once, at sizes that compute-sanitizer takes seconds for.
import { parseArgs } from 'node:util';
import { aInfoNCE, augmentSync, cuda, ops, PIPELINES, proceduralDataset, rand, randn, scope, tensor } from '../../dist/index.js';

const { device } = parseArgs({ options: { device: { type: 'string', default: 'cuda' } } }).values;
const { a_infonce } = ops, done = [];
const losses = [
  { views: 3, adversarialView: 2, inferiorPositive: {}, hardNegative: {} }, { views: 3, temperature: 0.01 },
  { form: 'advcl', views: 3, normalize: true, hardNegative: {} }, { form: 'rocl', views: 3, inferiorPositive: {}, hardNegative: {} },
];
for (const [n, dim] of [[30, 7], [3 * 130, 128]])
  for (const dtype of ['float32', 'float64'])
    for (const options of losses)
      for (const precision of dtype === 'float64' ? ['full'] : ['full', 'bf16x3', 'bf16'])
        scope(() => {
          const rows = randn([n, dim], { device, dtype, requiresGrad: true });
          const loss = aInfoNCE(rows, { ...options, precision });
          loss.backward();
          done.push(loss.item());
        });
scope(() => {
  const [x, grad, z] = [rand([3, 3, 17, 17], { device }), randn([3, 3, 17, 17], { device }), rand([3, 3, 17, 17], { device })];
  const samples = tensor(BigInt64Array.of(2n, 0n, 7n), { device });
  for (const start of [a_infonce.pgd_start_linf, a_infonce.pgd_start_l2]) start(x, samples, 0.1, 1);
  a_infonce.pgd_step_linf_(z, grad, x, 0.1, 0.01);
  a_infonce.pgd_step_l2_(z, grad, x, 0.5, 0.1);
  for (const l2 of [true, false]) a_infonce.fab_step_(z, x, grad, rand([3], { device }), l2);
  const data = proceduralDataset({ train: 8, test: 1, size: 24 }), train = device === 'cpu' ? data.train : data.train.to(device);
  for (const pipeline of Object.keys(PIPELINES)) augmentSync(train, [7, 0, 3], { pipeline });
});
if (device !== 'cpu') cuda.synchronize(device);
console.log(`${done.length} losses, ${done.every(Number.isFinite) ? 'all finite' : 'not all finite'}`);
if (!done.every(Number.isFinite)) process.exit(1);
