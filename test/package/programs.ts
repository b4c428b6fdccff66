/** What is run of an installed package. */
const LOSS = `
const features = randn([3 * 16, 8], { requiresGrad: true });
const loss = aInfoNCE(features, { views: 3, adversarialView: 2, inferiorPositive: { alpha: 0.2 }, hardNegative: { beta: 1, tauPlus: 0.12 } });
loss.backward();
console.log(Number.isFinite(loss.item()), JSON.stringify(features.grad.shape));`;
export const ESM = `import { aInfoNCE, randn } from 'a-infonce';${LOSS}`;
export const COMMONJS = `const { aInfoNCE, randn } = require('a-infonce');${LOSS}`;
/** What either prints. */
export const ANSWER = 'true [48,8]';

/** From images to robust accuracy. */
export const TRAINING = `
import { rmSync } from 'node:fs';
import { Encoder, evaluate, finetune, openDataset, pretrain } from 'a-infonce';
rmSync('run', { recursive: true, force: true });
const procedural = { train: 32, test: 20, size: 8 };
for await (const event of pretrain({ preset: 'quickstart', out: 'run', epochs: 1, batchSize: 16, overrides: { data: { procedural }, encoder: { width: 2 } } }));
const data = await openDataset('procedural', { procedural });
const classifier = await finetune(await Encoder.load('run'), data, { mode: 'slf', preset: 'quickstart' });
const { clean, pgd20 } = await evaluate(classifier, data.test, { attacks: ['clean', 'pgd20'] });
console.log(clean.total, pgd20.correct <= clean.correct);`;
export const TRAINED = '20 true';
