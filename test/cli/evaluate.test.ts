import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Classifier, Encoder, readResults } from 'a-infonce';
import { call } from './call.js';

let folder: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'a-infonce-cli-evaluate-'));
  using encoder = Encoder.create({ width: 2 });
  using classifier = Classifier.create({ encoder, classes: 10 });
  await classifier.save(join(folder, 'classifier.safetensors'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({
    preset: 'quickstart', data: { name: 'procedural', procedural: { train: 10, test: 30, size: 8, seed: 0 } }, evaluation: { pgd20: { epsilon: 0.1, stepSize: 0.05, steps: 20, randomStart: false } },
  }));
});
afterEach(() => { rmSync(folder, { recursive: true, force: true }); });

test('evaluate keeps what it measured before a failure; the values of the run are for pgd alone', async () => {
  const { code, stdout } = await call('evaluate', folder, '--attacks', 'clean,pgd1,fgsm,autoattack', '--limit', '20', '--state', join(folder, 'nowhere', 'state.safetensors'));
  expect([code, stdout]).toEqual([1, '']);
  const results = await readResults(folder);
  expect(results.map(({ name }) => name)).toEqual(['clean', 'pgd1', 'fgsm']);
  expect(results.map(({ settings }) => [settings['epsilon'], settings['stepSize'], settings['randomStart']])).toEqual([[undefined, undefined, undefined], [0.1, 0.05, false], [8 / 255, 8 / 255, false]]);
});

test.each([
  [['--attacks', 'clean,fgsm', '--step-size', '0.1'], /--step-size: expected left out, since 'fgsm' has none/],
  [['--attacks', 'fgsm', '--restarts', '2'], /--restarts: expected left out/],
  [['--attacks', 'clean,pdg20'], /--attacks: expected 'clean', 'autoattack', 'pgd<steps>'.*got 'pdg20'/],
  [['--state', 'x'], /--state is of autoattack/],
])('evaluate %j says what is wrong', async (args, message) => {
  const { code, stderr } = await call('evaluate', folder, '--limit', '4', ...args);
  expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  expect(await readResults(folder)).toEqual([]);
});

test.each([
  [['--no-random-start', '--attack', 'fgsm'], /--no-random-start: expected left out, since 'fgsm' has none/],
  [['--restarts', '2', '--attack', 'autoattack'], /--restarts: expected left out, since 'autoattack' has none/],
  [['--attack', 'apgd'], /--attack: expected 'pgd', 'autoattack', 'pgd<steps>'.*got 'apgd'/],
  [['--attack', 'fgsm', '--steps', '3'], /--steps is of pgd/],
])('attack %j says what is wrong', async (args, message) => {
  const { code, stderr } = await call('attack', folder, '--limit', '4', '--out', join(folder, 'x.safetensors'), ...args);
  expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
});
