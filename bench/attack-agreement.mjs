// The second half of attack_agreement.py: our attacks on the files that it wrote, beside what the originals found.
// Exits with 1 where one of ours is weaker than its original by more than half a point.
//     node bench/attack-agreement.mjs <folder> [attack,attack]
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { predict } from '../dist/attack/attack.js';
import { namedAttack } from '../dist/attack/named.js';
import { agreeing, rowsOf } from '../dist/attack/samples.js';
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
let weaker = false;
const rows = rowsOf(right.flatMap((each, i) => (each ? [i] : []))), numbers = rows.toArray().map(Number);
const [images, labels] = ['images', 'labels'].map((key) => ops.aten.index_select(tensors.get(key), 0, rows));
for (const name of names) {
  const began = performance.now();
  const adversaries = await namedAttack(name, { norm, epsilon }, 'attack').run(model, images, labels, rows, {});
  const seconds = (performance.now() - began) / 1000, ours = new Set(agreeing((await predict(model, adversaries, 256)).predicted, labels).map((row) => numbers[row]));
  const { standing, seconds: took } = original[name], theirs = standing.filter(Boolean).length;
  const alone = numbers.filter((i) => !ours.has(i) && standing[i]).length, missed = numbers.filter((i) => ours.has(i) && !standing[i]).length;
  weaker ||= ours.size - theirs > 0.005 * total;
  console.log(`${name}: ours ${percent(ours.size / total)} (${seconds.toFixed(0)} s), original ${percent(theirs / total)} (${took.toFixed(0)} s), ` +
    `difference ${(100 * (ours.size - theirs) / total).toFixed(2)} points: ${alone} broken by ours alone, ${missed} by the original alone`);
}
const four = ['apgd-ce', 'apgd-t', 'fab-t', 'square'];
if (four.every((name) => original[name])) {
  const both = right.filter((each, i) => each && four.every((name) => original[name].standing[i])).length;
  const { autoattack } = await evaluate(model, data, { attacks: ['autoattack'], norm, epsilon });
  weaker ||= autoattack.correct - both > 0.005 * total;
  console.log(`autoattack: ours ${percent(autoattack.accuracy)}, original (worst case of its four) ${percent(both / total)}; ` +
    `${autoattack.autoAttack.secondsPerImage.toFixed(2)} s an image`);
  for (const { attack, attacked, broken, seconds } of autoattack.autoAttack.attacks) console.log(`  ${attack}: broke ${broken} of ${attacked} in ${seconds.toFixed(0)} s`);
  writeFileSync(join(folder, 'ours.json'), JSON.stringify(autoattack));
} else console.log(`no worst case: the original ran without ${four.filter((name) => !original[name]).join(', ')}`);
process.exitCode = weaker ? 1 : 0;
