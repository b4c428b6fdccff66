#!/usr/bin/env node
import { run } from './run.js';

// Whoever reads our output may leave early (`a-infonce ... | head`): end as quietly as any program that SIGPIPE ends.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(141);
  });

process.exitCode = await run(process.argv.slice(2));
