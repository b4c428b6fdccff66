/** How a command is put together: its options beside the common ones, its examples, and what runs around it. */
import { Option, type Argument, type Command } from 'commander';
import { Interrupted, interruptible } from './interrupt.js';
import { commonOptions, type CommonOptions } from './options.js';
import { Output, type Streams } from './output.js';
import { typed } from './run-folder.js';

/** One call of the program. */
export interface Session {
  readonly args: readonly string[];
  readonly streams: Streams;
  exitCode: number;
  /** Known once a command's options are. */
  output?: Output;
}

export interface Context {
  readonly output: Output;
  /** Aborted by ctrl-C. */
  readonly signal: AbortSignal;
  /** What was typed, as one types it in a shell. */
  readonly call: string;
  /** Where to compute, and the option that says so when the same is to be done again. */
  readonly device: string;
  readonly onDevice: string;
}

export interface Definition<Options> {
  name: string;
  /** One line in the list of commands. */
  summary: string;
  /** What it does, in the command's own help. */
  description: string;
  arguments?: Argument[];
  /** One with the name of a common option takes its place. */
  options?: Option[];
  /** Calls that one could type, and what they do. */
  examples: [call: string, effect: string][];
  /** Runs it; the result is the exit code (nothing: 0). An argument that takes several comes as several. */
  action(context: Context, options: Options & Omit<CommonOptions, keyof Options>, ...args: (string | undefined)[]): Promise<number | void>;
}

export type AddCommand = (program: Command, session: Session) => void;

export function define<Options extends object>({ name, summary, description, arguments: positional = [], options = [], examples, action }: Definition<Options>): AddCommand {
  return (program, session) => {
    const command = program.command(name).summary(summary).description(description);
    for (const argument of positional) command.addArgument(argument);
    for (const option of options) command.addOption(option);
    for (const option of commonOptions()) if (!options.some(({ long }) => long === option.long)) command.addOption(option.helpGroup('Common options:'));
    command.addHelpOption(new Option('-h, --help', 'print this help').helpGroup('Common options:'));
    command.addHelpText('after', ['', 'Examples:', ...exampleLines(examples)].join('\n'));
    command.action(async (...given: unknown[]) => {
      const values = command.opts<Options & Omit<CommonOptions, keyof Options>>();
      const output = (session.output = new Output(session.streams, values));
      const asked = () => {
        for (const each of output.shown) each.stop();
        output.note('Stopping; ctrl-C again ends at once.');
      };
      const code = await interruptible(async (signal) => {
        try {
          const device = await prepare(name, values);
          const call = ['a-infonce', ...session.args.map(typed)].join(' '), onDevice = device === 'cpu' ? '' : ` --device ${device}`;
          return await action({ output, signal, call, device, onDevice }, values, ...(given.slice(0, positional.length).flat() as (string | undefined)[]));
        } catch (error) {
          throw signal.aborted && !(error instanceof Interrupted) && isAbort(error) ? signal.reason : error;
        }
      }, asked);
      session.exitCode = code ?? 0;
    });
  };
}

/** Calls and effects side by side where that fits a terminal, else effects below the calls. */
function exampleLines(examples: Definition<object>['examples'], columns = 80): string[] {
  const width = Math.max(...examples.map(([call]) => call.length)), lines = examples.map(([call, effect]) => `  ${call.padEnd(width)}  ${effect}`);
  if (lines.every(({ length }) => length <= columns)) return lines;
  const broken = (call: string) => call.split(/(?= --)/).reduce<string[]>((parts, part) => {
    const last = parts.at(-1);
    return last !== undefined && `  ${last}${part} \\`.length <= columns ? [...parts.slice(0, -1), last + part] : [...parts, last === undefined ? part : `     ${part}`];
  }, []);
  return examples.flatMap(([call, effect]) => [`  ${broken(call).join(' \\\n  ')}`, `      ${effect}`]);
}

/** Sets --threads for the process, and gives the --device once it is found. The doctor does both in the process that it looks at. */
async function prepare(command: string, { threads, device }: { threads?: unknown; device?: unknown }): Promise<string> {
  if (command === 'doctor') return 'cpu';
  if (typeof threads === 'number') (await import('../index.js')).setThreads(threads);
  return typeof device === 'string' && device !== 'cpu' ? (await import('../runtime/cuda.js')).checkDevice('--device', device) : 'cpu';
}

const isAbort = (error: unknown): boolean => error instanceof Error && (error.name === 'AbortError' || (error as { code?: string }).code === 'ERR_CANCELLED');
