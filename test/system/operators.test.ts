import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runtimeInfo } from 'a-infonce';
import { test } from 'vitest';

test('the types of the operators are those that this LibTorch generates', () => {
  const [, made] = /LibTorch ([\d.]+)\./.exec(readFileSync(new URL('../../src/tensor/operators.generated.ts', import.meta.url), 'utf8'))!;
  // Another LibTorch has other schemas: there, only this package's own operators must agree.
  const own = runtimeInfo().libtorch === made ? [] : ['--own'];
  execFileSync(process.execPath, [fileURLToPath(new URL('../../scripts/generate-operators.mjs', import.meta.url)), '--check', ...own]);
});
