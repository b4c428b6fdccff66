#!/usr/bin/env node
import { engines, runsOn } from '../runtime/version.js';

// Whoever reads our output may leave early (`a-infonce ... | head`): end as quietly as any program that SIGPIPE ends.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(141);
    if (stream === process.stderr) process.exit(1);
    process.stderr.write(`a-infonce: the output cannot be written (${error.message})\n`, () => process.exit(1));
  });

// What follows may not even load on an older Node.js.
if (runsOn(process.versions.node)) process.exitCode = await (await import('./run.js')).run(process.argv.slice(2));
else {
  process.stderr.write(`a-infonce needs Node.js ${engines.node}; this is ${process.versions.node} (${process.execPath}). Type: nvm install --lts\n`);
  process.exitCode = 1;
}
