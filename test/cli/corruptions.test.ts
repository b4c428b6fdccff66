import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Classifier, Encoder, evaluateCorruptions, proceduralDataset, readResults, type CorruptionReport } from 'a-infonce';
import { call } from './call.js';

let folder: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'a-infonce-cli-corruptions-'));
  using encoder = Encoder.create({ width: 4 });
  using classifier = Classifier.create({ encoder, classes: 10 });
  await classifier.save(join(folder, 'classifier.safetensors'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ preset: 'quickstart', data: { name: 'procedural', procedural: { train: 10, test: 30, size: 32, seed: 0 } } }));
});
afterEach(() => { rmSync(folder, { recursive: true, force: true }); });

const some = ['--types', 'fog,contrast', '--severities', '1,4', '--limit', '20'];

test('corruptions measures, keeps the numbers with the run, and measures none of them twice', async () => {
  const first = await call('corruptions', folder, ...some, '--json');
  expect([first.code, first.stderr]).toEqual([0, '']);
  const report = JSON.parse(first.stdout) as CorruptionReport;
  using data = proceduralDataset({ train: 10, test: 30 });
  using classifier = await Classifier.load(folder);
  const expected = await evaluateCorruptions(classifier, data.test, { types: ['fog', 'contrast'], severities: [1, 4], limit: 20 });
  expect(report).toMatchObject({ data: 'procedural', source: 'generated', ...expected });
  const recorded = await readResults(folder);
  expect(recorded.map(({ name }) => name)).toEqual(['fog-1', 'fog-4', 'contrast-1', 'contrast-4']);
  expect(recorded[1]).toMatchObject({
    model: 'classifier.safetensors', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string, dataSha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string, data: 'procedural', correct: expected.scores[1]!.correct, total: 20,
    settings: { corruption: 'fog', severity: 4, limit: 20, source: 'generated', seed: 0 },
  });

  const again = await call('corruptions', folder, ...some, '--severities', '1,4,5');
  expect([again.code, (await readResults(folder)).length]).toEqual([0, 6]);
  expect(again.stdout.split('\n').slice(0, 3).map((line) => line.split(/ {2,}/).map((cell) => cell.trim()))[0]).toEqual(['corruption', 'severity 1', 'severity 4', 'severity 5', 'mean']);
  expect(again.stdout).toMatch(/^fog .* %$/m);
  expect(again.stdout).toContain('20 images of each.');
  await call('corruptions', folder, ...some, '--again');
  expect((await readResults(folder)).length).toBe(10);
  using encoder = Encoder.create({ width: 4, seed: 1 });
  using other = Classifier.create({ encoder, classes: 10 });
  await other.save(join(folder, 'classifier.safetensors'));
  await call('corruptions', folder, ...some);
  expect((await readResults(folder)).length).toBe(14);
});

test('generated frost is said to be a substitute, and a mean goes without it', async () => {
  const { stdout: out } = await call('corruptions', folder, '--types', 'fog,frost', '--severities', '2', '--limit', '20');
  const [, fog] = /^fog .* ([\d.]+ %)$/m.exec(out)!;
  expect(out).toMatch(new RegExp(`^mean without frost +${fog}$`, 'm'));
  expect(out).toContain("Generated frost is a procedural texture in place of the authors' photographs");
  const without = await call('corruptions', folder, ...some);
  expect(without.stdout).not.toMatch(/frost/);
});

test.each([
  [['--types', 'rain'], 2, /--types: expected one of 'gaussian-noise'/],
  [['--severities', '0'], 2, /Expected some of 1, 2, 3, 4, 5/],
  [['--severities', '1,1'], 2, /--severities: expected at least one, each once/],
  [['--published', 'nowhere'], 1, /nowhere: there is no such folder/],
  [['--limit', '0'], 2, /--limit/],
])('corruptions %j says what is wrong', async (args, code, message) => {
  const result = await call('corruptions', folder, ...args);
  expect([result.code, result.stdout]).toEqual([code, '']);
  expect(result.stderr).toMatch(message);
});
