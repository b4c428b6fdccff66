// The tests of a GPU, one file after the other; with an argument, those whose names contain it.
import { run } from 'vitest';

await run({
  loss: () => import('../../test/gpu/loss.test.ts'),
  operators: () => import('../../test/gpu/operators.test.ts'),
  models: () => import('../../test/gpu/models.test.ts'),
}, process.argv[2]);
