import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readResults } from 'a-infonce';
import { expect, test } from 'vitest';
import { temporary } from '../fixtures/runs.js';

const { folder } = temporary();

test('writers in several processes lose nothing of one another', async () => {
  const program = join(folder, 'writer.mjs'), line = { model: 'classifier.safetensors', data: 'cifar10', accuracy: 0.25, correct: 1, total: 4 };
  writeFileSync(program, `import { recordResult } from ${JSON.stringify(new URL('../../dist/evaluation/results.js', import.meta.url).href)};
    const [folder, who] = process.argv.slice(2);
    for (let i = 0; i < 50; i++) await recordResult(folder, { ...${JSON.stringify(line)}, name: who + '-' + i, settings: { long: 'x'.repeat(20000) } });`);
  const writers = ['a', 'b', 'c'].map((who) => new Promise((resolve) => fork(program, [folder, who]).on('exit', resolve)));
  expect(await Promise.all(writers)).toEqual([0, 0, 0]);
  const names = (await readResults(folder)).map(({ name }) => name);
  expect(names.length).toBe(150);
  for (const who of ['a', 'b', 'c']) expect(names.filter((name) => name.startsWith(who))).toEqual(Array.from({ length: 50 }, (_, i) => `${who}-${i}`));
});
