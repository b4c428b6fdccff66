import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Classifier, Encoder, readAnalysis, readResults } from 'a-infonce';
import { makeFolder } from '../../src/runtime/files.js';
import { expect, test } from 'vitest';
import { temporary } from '../fixtures/runs.js';
import { call } from './call.js';

const { fresh } = temporary();

test('analyze records of which files its numbers are, those of the curves too', async () => {
  const folder = fresh(), sha256 = (name: string) => createHash('sha256').update(readFileSync(join(folder, name))).digest('hex');
  await makeFolder(folder);
  using encoder = Encoder.create({ width: 1, projector: { hidden: [4], output: 4 } });
  using classifier = Classifier.create({ encoder, classes: 10 });
  await encoder.save(join(folder, 'encoder.safetensors'));
  await classifier.save(join(folder, 'classifier.safetensors'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ preset: 'quickstart', data: { name: 'procedural', procedural: { train: 10, test: 20, size: 8, seed: 0 } } }));
  const { code, stdout } = await call('analyze', folder, '--limit', '20', '--steps', '1', '--curves');
  expect([code, stdout.split('\n').filter((line) => line.length > 80), stdout]).toEqual([0, [], expect.stringMatching(/\nrun {2,}\S+\nimages +20\n(.+ %\n){4}(.+\.\d{3}\n){5}$/)]);
  expect(await readAnalysis(folder)).toMatchObject({ encoderSha256: sha256('encoder.safetensors'), classifierFile: 'classifier.safetensors', classifierSha256: sha256('classifier.safetensors') });
  const results = await readResults(folder);
  expect(results).toHaveLength(16);
  expect(new Set(results.map((result) => result.sha256))).toEqual(new Set([sha256('classifier.safetensors')]));
});
