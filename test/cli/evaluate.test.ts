import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Classifier, Encoder, ops, readResults, scope, writeSafetensors, zeros, type Tensor } from 'a-infonce';
import { unchanged } from '../../src/cli/model.js';
import { call } from './call.js';

let folder: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'a-infonce-cli-evaluate-'));
  using encoder = Encoder.create({ width: 2 });
  using classifier = Classifier.create({ encoder, classes: 10 });
  await classifier.save(join(folder, 'classifier.safetensors'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({
    preset: 'quickstart', data: { name: 'procedural', procedural: { train: 10, test: 30, size: 8, seed: 0 } }, evaluation: { pgd20: { norm: 'linf', epsilon: 0.1, stepSize: 0.05, steps: 20, randomStart: false } },
  }));
});
afterEach(() => { rmSync(folder, { recursive: true, force: true }); });

const scoresOf = (stdout: string) => Object.fromEntries(stdout.split('\n').flatMap((line) => { const [, name, right] = /^(\S+) +\d+\.\d\d % +(\d+)/.exec(line) ?? []; return name ? [[name, Number(right)]] : []; }));

test('evaluate, interrupted, shows and names what it kept; the values of the run are for pgd alone', async () => {
  const log = join(folder, 'results.jsonl');
  const watch = setInterval(() => { if (existsSync(log) && readFileSync(log, 'utf8').trim().split('\n').length === 3) { clearInterval(watch); process.emit('SIGINT', 'SIGINT'); } }, 5);
  const { code, stdout, stderr } = await call('evaluate', folder, '--attacks', 'pgd1,clean,fgsm,pgd99999', '--limit', '20');
  const results = await readResults(folder);
  expect(results.map(({ name }) => name)).toEqual(['clean', 'pgd1', 'fgsm']);
  expect(results.map(({ settings }) => [settings['epsilon'], settings['stepSize'], settings['randomStart']])).toEqual([[undefined, undefined, undefined], [0.1, 0.05, false], [8 / 255, 8 / 255, false]]);
  expect([code, stderr]).toEqual([130, expect.stringMatching(/a-infonce evaluate: stopped\n$/)]);
  expect(scoresOf(stdout)).toEqual(Object.fromEntries(results.map(({ name, correct }) => [name, correct])));
  expect(stdout).toContain(`Not measured: pgd99999.\nKept in ${log}: clean, pgd1, fgsm.\n`);
});

test('evaluate shows what it measured before a failure, of a classifier in no run too', async () => {
  const images = join(folder, 'images'), lone = join(mkdtempSync(join(folder, 'lone-')), 'lone.safetensors');
  for (const part of ['train', 'test']) for (const name of ['cat', 'dog']) {
    mkdirSync(join(images, part, name), { recursive: true });
    await sharp({ create: { width: 8, height: 8, channels: 3, background: name === 'cat' ? 'red' : 'blue' } }).png().toFile(join(images, part, name, '0.png'));
  }
  using encoder = Encoder.create({ width: 2 });
  using classifier = Classifier.create({ encoder, classes: 2 });
  await classifier.save(lone);
  // Two classes are too few for the DLR loss, which is found when it is run.
  const args = ['evaluate', lone, '--data', images, '--attacks', 'clean,pgd1,apgd-dlr'];
  const text = await call(...args), json = await call(...args, '--json');
  expect([text.code, text.stderr]).toEqual([2, expect.stringContaining('at least 3')]);
  expect(Object.keys(scoresOf(text.stdout))).toEqual(['clean', 'pgd1']);
  expect(text.stdout).toContain('Not measured: apgd-dlr.\nKept nowhere but here.\n');
  expect(json.code).toBe(2);
  const document = JSON.parse(json.stdout) as { scores: object; partial: boolean };
  expect([Object.keys(document.scores), document.partial, 'kept' in document]).toEqual([['clean', 'pgd1'], true, false]);
  expect(JSON.parse(json.stderr)).toMatchObject({ error: { code: 'ERR_ARGUMENT_RANGE' } });
});

test('evaluate says so where the epsilon of the run is not that of all attacks', async () => {
  const evaluate = async (...args: string[]) => (await call('evaluate', folder, '--limit', '2', ...args)).stderr;
  expect(await evaluate('--attacks', 'clean,pgd1,fgsm,mim2')).toBe("Warning: pgd has the run's epsilon, 0.1, fgsm, mim2 the default, 8/255: --epsilon is for all of them\n");
  for (const args of [['--attacks', 'clean,pgd1'], ['--attacks', 'clean,fgsm'], ['--attacks', 'pgd1,fgsm', '--epsilon', '0.1']]) expect(await evaluate(...args)).toBe('');
});

test('attack says what its success rate is of, and refuses no images', async () => {
  const out = join(folder, 'x.safetensors'), images = join(folder, 'images.safetensors');
  expect((await call('attack', folder, '--attack', 'pgd3', '--limit', '30', '--out', out)).stdout).toMatch(/a success rate of \d+\.\d\d % \(pgd, linf, epsilon 0\.1, 3 steps of 0\.05\)\.\n/);
  await scope(() => writeSafetensors(images, [['images', zeros([0, 3, 8, 8])], ['labels', zeros([0], { dtype: 'int64' })]], {}));
  expect(await call('attack', folder, '--images', images, '--out', out)).toMatchObject({ code: 1, stdout: '', stderr: `a-infonce attack: ${images}: there are no images in it\n` });
});

test('evaluate shows scores that cannot be kept, and asks for a place for the state first', async () => {
  mkdirSync(join(folder, 'results.jsonl'));
  const unkept = await call('evaluate', folder, '--attacks', 'clean,fgsm', '--limit', '20');
  expect([unkept.code, Object.keys(scoresOf(unkept.stdout)), unkept.stderr]).toEqual([0, ['clean', 'fgsm'], expect.stringMatching(/^Warning: .*results\.jsonl: cannot be written .* What is measured is shown, but not kept\n$/)]);
  const nowhere = await call('evaluate', folder, '--attacks', 'clean,autoattack', '--limit', '20', '--state', join(folder, 'nowhere', 'state'));
  expect([nowhere.code, nowhere.stdout]).toEqual([1, '']);
});

test('evaluate and attack warn of the same', async () => {
  using flat = await Classifier.load(folder);
  flat.loadState(new Map([...flat.state()].map(([name, value]) => [name, name.startsWith('head.') ? ops.aten.zeros_like(value) as Tensor : value])));
  await flat.save(join(folder, 'classifier.safetensors'));
  const warning = expect.stringMatching(/^The cross-entropy has no gradient at (\d+) of \1 images/) as string;
  const evaluated = JSON.parse((await call('evaluate', folder, '--attacks', 'pgd1,apgd-dlr', '--json')).stdout) as { scores: Record<string, { warnings?: string[] }> };
  expect(Object.entries(evaluated.scores).map(([name, { warnings }]) => [name, warnings])).toEqual([['pgd1', [warning]], ['apgd-dlr', undefined]]);
  const attacked = JSON.parse((await call('attack', folder, '--attack', 'pgd1', '--out', join(folder, 'x.safetensors'), '--json')).stdout) as { warnings?: string[] };
  expect(attacked.warnings).toEqual([warning]);
});

test('what is loaded is what its digest is of', async () => {
  const file = join(folder, 'classifier.safetensors');
  const loaded = await unchanged(file, () => Classifier.load(file));
  expect(loaded.sha256).toBe(createHash('sha256').update(readFileSync(file)).digest('hex'));
  const { model } = loaded;
  loaded[Symbol.dispose]();
  expect(() => model.handle).toThrow('disposed');
  const replaced = unchanged(file, async () => { const classifier = await Classifier.load(file); appendFileSync(file, ' '); return classifier; });
  await expect(replaced).rejects.toThrow('it was written while it was read');
});

test.each([
  [['--attacks', 'clean,fgsm', '--step-size', '0.1'], /--step-size: expected left out, since 'fgsm' has none/],
  [['--attacks', 'fgsm', '--restarts', '2'], /--restarts: expected left out/],
  [['--attacks', 'pgd2,pgd2'], /--attacks: expected each name once, got 'pgd2'/],
  [['--attacks', 'clean,pdg20'], /--attacks: expected 'clean', 'autoattack', 'pgd<steps>'.*got 'pdg20'/],
  [['--state', 'x'], /--state is of autoattack/],
  [['--graph'], /--graph is of a GPU/],
])('evaluate %j says what is wrong', async (args, message) => {
  const { code, stderr } = await call('evaluate', folder, '--limit', '4', ...args);
  expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  expect(await readResults(folder)).toEqual([]);
});

test.each([
  [['--no-random-start', '--attack', 'fgsm'], /--no-random-start: expected left out, since 'fgsm' has none/],
  [['--restarts', '2', '--attack', 'autoattack'], /--restarts: expected left out, since 'autoattack' has none/],
  [['--attack', 'pgd1000000'], /--attack: expected 'pgd', 'autoattack', 'pgd<steps>' \(as in 'pgd20', from 1 to 99999 steps\).*got 'pgd1000000'/],
  [['--step-size', '0.1', '--attack', 'autoattack'], /--step-size: expected left out, since 'autoattack' has none/],
  [['--no-random-start', '--attack', 'autoattack'], /--no-random-start: expected left out, since 'autoattack' has none/],
  [['--attack', 'apgd'], /--attack: expected 'pgd', 'autoattack', 'pgd<steps>'.*got 'apgd'/],
  [['--attack', 'fgsm', '--steps', '3'], /--steps is of pgd/],
  [['--graph'], /--graph is of a GPU/],
  [['--graph', '--attack', 'fgsm'], /--graph: expected left out, since 'fgsm' has none/],
])('attack %j says what is wrong', async (args, message) => {
  const { code, stderr } = await call('attack', folder, '--limit', '4', '--out', join(folder, 'x.safetensors'), ...args);
  expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
});
