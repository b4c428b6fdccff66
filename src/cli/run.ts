/** The whole program as a function: arguments in, exit code out. */
import { Command } from 'commander';
import type { Session } from './command.js';
import { analyze } from './commands/analyze.js';
import { attack } from './commands/attack.js';
import { bench } from './commands/bench.js';
import { cluster } from './commands/cluster.js';
import { corruptions } from './commands/corruptions.js';
import { data } from './commands/data.js';
import { doctor } from './commands/doctor.js';
import { evaluate } from './commands/evaluate.js';
import { finetune } from './commands/finetune.js';
import { pretrain } from './commands/pretrain.js';
import { quickstart } from './commands/quickstart.js';
import { report } from './commands/report.js';
import { reproduce } from './commands/reproduce.js';
import { exitCodeOf, printFailure } from './failure.js';
import { Output, type Streams } from './output.js';
import { version } from '../runtime/version.js';

/**
 * Runs `a-infonce` with `args` (without the program's own name).
 * @returns 0 done, 1 failed, 2 bad usage, 130 ended by ctrl-C (128 + the signal's number)
 */
export async function run(args: readonly string[], streams: Streams = process): Promise<number> {
  const session: Session = { args, streams, exitCode: 0 };
  const program = new Command('a-infonce')
    .description('Adversarial contrastive learning: robust encoders without labels, attacks on them, and how well they stand.')
    .version(version, '-v, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => streams.stdout.write(text), writeErr: (text) => streams.stderr.write(text),
      outputError: () => {},  // printed below, like every other failure
    })
    .addHelpText('after', '\nEvery command: a-infonce <command> --help');
  for (const add of [quickstart, pretrain, cluster, finetune, evaluate, corruptions, attack, analyze, report, reproduce, data, bench, doctor]) add(program, session);
  try {
    await program.parseAsync(args, { from: 'user' });
    return session.exitCode;
  } catch (error) {
    // Before a command runs, its options are not known: look for them as typed.
    const output = session.output ?? new Output(streams, { json: args.includes('--json'), verbose: args.includes('--verbose') });
    const command = program.commands.find((each) => each.name() === args[0]);
    printFailure(error, output, command);
    return exitCodeOf(error);
  }
}
