/** The files of the unit part share their processes: what one leaves to the collector must not be counted in the next. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { setImmediate } from 'node:timers/promises';
import { beforeAll } from 'vitest';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

beforeAll(async () => {
  for (let round = 0; round < 2; ++round) {
    collect();
    await setImmediate();
  }
});
