/** A program: the extra peak memory of one call, for each line of JSON on stdin, in bytes on stdout. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setThreads } from '../runtime/settings.js';
import { scope } from '../tensor/scope.js';
import { eager, fused, lossNamed, makeRows } from './losses.js';
import type { PeakRequest } from './memory.js';

const peak = (): number => 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]);

function extraPeak({ loss: name, kind, n, dim, threads }: PeakRequest): number {
  const loss = lossNamed(name);
  const call = (rows: number) => {
    const given = makeRows(loss, rows, dim);
    return kind === 'eager' ? eager(loss, given) : fused(loss, given, kind);
  };
  setThreads(threads);
  scope(() => { call(24).run(); }); // what is allocated once
  return scope(() => {
    const { run } = call(n);
    writeFileSync('/proc/self/clear_refs', '5'); // the peak starts anew
    const before = peak();
    run();
    return Math.max(0, peak() - before); // the kernel counts pages in batches
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply: object;
  try {
    reply = { bytes: extraPeak(JSON.parse(line) as PeakRequest) };
  } catch (error) {
    reply = { error: (error as Error).message };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
