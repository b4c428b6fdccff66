// The second half of attack_agreement.py: our attacks on the files that it wrote, beside what the originals found.
//     node bench/attack-agreement.mjs <folder> [attack,attack]
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { evaluate, loadTorchScript, ops, readSafetensors, setThreads } from '../dist/index.js';

setThreads(1);
const folder = process.argv[2];
const { norm, epsilon, right, attacks: original } = JSON.parse(readFileSync(join(folder, 'original.json'), 'utf8'));
const names = process.argv[3]?.split(',') ?? Object.keys(original);
const model = (await loadTorchScript(join(folder, 'model.pt'))).eval();
const { tensors } = await readSafetensors(join(folder, 'images.safetensors'));
const cut = (name) => (start, end) => ops.aten.slice(tensors.get(name), 0, start, end).clone();
const data = { length: right.length, images: cut('images'), labels: cut('labels') };
const percent = (share) => `${(100 * share).toFixed(2)} %`;
const total = right.length;

const { clean } = await evaluate(model, data, { attacks: ['clean'] });
console.log(`clean: ours ${percent(clean.accuracy)}, original ${percent(right.filter(Boolean).length / total)}, of ${total} images; ${norm}, epsilon ${epsilon.toFixed(4)}`);
for (const name of names) {
  const began = performance.now();
  const { [name]: score } = await evaluate(model, data, { attacks: [name], norm, epsilon });
  const seconds = (performance.now() - began) / 1000;
  const theirs = original[name].standing.filter(Boolean).length / total;
  console.log(`${name}: ours ${percent(score.accuracy)} (${seconds.toFixed(0)} s), original ${percent(theirs)} (${original[name].seconds.toFixed(0)} s), ` +
    `difference ${(100 * (score.accuracy - theirs)).toFixed(2)} points`);
}
const both = right.map((_, i) => ['apgd-ce', 'apgd-t', 'fab-t', 'square'].every((name) => !original[name] || original[name].standing[i]));
const { autoattack } = await evaluate(model, data, { attacks: ['autoattack'], norm, epsilon });
console.log(`autoattack: ours ${percent(autoattack.accuracy)}, original (worst case of its four) ${percent(both.filter(Boolean).length / total)}; ` +
  `${autoattack.autoAttack.secondsPerImage.toFixed(2)} s an image`);
for (const { attack, attacked, broken, seconds } of autoattack.autoAttack.attacks) console.log(`  ${attack}: broke ${broken} of ${attacked} in ${seconds.toFixed(0)} s`);
writeFileSync(join(folder, 'ours.json'), JSON.stringify(autoattack));
