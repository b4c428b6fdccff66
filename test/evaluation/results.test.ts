import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { record } from '../../src/cli/measuring.js';
import { FileError, readResults, recordResult, type Result } from 'a-infonce';

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'results-'))));
afterEach(() => rmSync(folder, { recursive: true }));
const line = { model: 'classifier.safetensors', mode: 'slf', data: 'cifar10', name: 'pgd20', accuracy: 0.25, correct: 1, total: 4, settings: { epsilon: 0.1 } } as const;

test('what is recorded is read, in order; without a file there is nothing', async () => {
  expect(await readResults(folder)).toEqual([]);
  await recordResult(folder, { ...line, time: '2026-01-02T03:04:05.678Z' });
  await recordResult(folder, { ...line, name: 'clean', mode: undefined });
  const [first, second] = await readResults(folder);
  expect(first).toEqual({ ...line, time: '2026-01-02T03:04:05.678Z' });
  expect(second).toMatchObject({ name: 'clean' });
  expect(Math.abs(Date.now() - Date.parse(second!.time))).toBeLessThan(60_000);
});

test('why a number may be wrong is recorded with it', async () => {
  const { model, data, accuracy, correct, total, settings } = line, score = { accuracy, correct, total, settings };
  const of = (warnings: string[]) => ({ ...score, warnings });
  await record(folder, { model, data } as Parameters<typeof record>[1], { clean: score, autoattack: of(['masked']), sure: of([]) });
  expect((await readResults(folder)).map(({ name, warnings }) => [name, warnings])).toEqual([['clean', undefined], ['autoattack', ['masked']], ['sure', undefined]]);
});

test('a line without its end is passed over, and the next one is whole', async () => {
  await recordResult(folder, line);
  appendFileSync(join(folder, 'results.jsonl'), '{"time":"2026');
  await recordResult(folder, { ...line, name: 'clean' });
  const warnings: string[] = [];
  expect((await readResults(folder, { onWarning: (message) => warnings.push(message) })).map(({ name }) => name)).toEqual(['pgd20', 'clean']);
  expect(warnings).toEqual([`${join(folder, 'results.jsonl')}: line 2 is not whole; passed over`]);
});

test.each<[string, Partial<Record<keyof Result, unknown>>]>([
  ['accuracy', { accuracy: 0.5 }], ['accuracy', { accuracy: NaN }], ['correct', { correct: -1 }], ['accuracy', { correct: 5, accuracy: 1 }],
  ['total', { total: 0 }], ['name', { name: '' }], ['mode', { mode: 'x' }], ['time', { time: 'now' }], ['settings', { settings: null }],
])('a bad %s is an error when recorded and when read: %j', async (key, change) => {
  const bad = { ...line, time: '2026-01-02T03:04:05Z', ...change };
  const named = expect.objectContaining({ message: expect.stringContaining(`, ${key}: `) as string });
  await expect(recordResult(folder, bad as Result)).rejects.toThrow(named);
  writeFileSync(join(folder, 'results.jsonl'), `${JSON.stringify(bad)}\n`);
  await expect(readResults(folder)).rejects.toThrow(named);
  await expect(readResults(folder)).rejects.toBeInstanceOf(FileError);
});
