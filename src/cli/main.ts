#!/usr/bin/env node
import { run } from './run.js';

// Whoever reads our output may leave early (`a-infonce ... | head`): end as quietly as any program that SIGPIPE ends.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(141);
    if (stream === process.stderr) process.exit(1);
    process.stderr.write(`a-infonce: the output cannot be written (${error.message})\n`, () => process.exit(1));
  });

process.exitCode = await run(process.argv.slice(2));
