/** Failures: one message that says what to type, and the exit code. */
import { CommanderError, type Command } from 'commander';
import type { Output } from './output.js';
import { Interrupted } from './interrupt.js';

/** Something typed on the command line that cannot work. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly code = 'ERR_USAGE';
}

/** Something that went wrong for a reason that the message explains. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly code = 'ERR_COMMAND';
}

type Failure = Error & { code?: string; argument?: string; expected?: string; received?: string; path?: string; syscall?: string; dest?: string };

/** Arguments that the library refuses came from options: they are bad usage too. */
const isUsage = (error: unknown): boolean => ['ERR_USAGE', 'ERR_ARGUMENT_TYPE', 'ERR_ARGUMENT_RANGE'].includes((error as Failure).code ?? '');

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof Interrupted) return error.exitCode;
  return isUsage(error) ? 2 : 1;
}

export function printFailure(thrown: unknown, output: Output, command?: Command): void {
  if (thrown instanceof CommanderError && (thrown.exitCode === 0 || thrown.code === 'commander.help')) return;  // it was help
  const error = (thrown instanceof Error ? thrown : new Error(String(thrown))) as Failure;
  const message = explain(error, command);
  if (output.json) {
    const { name, code, argument, expected, received } = error;
    output.streams.stderr.write(`${JSON.stringify({ error: { name, code, message, argument, expected, received } })}\n`);
    return;
  }
  const { stderr } = output.streams;
  const name = command ? `a-infonce ${command.name()}` : 'a-infonce';
  stderr.write(`${output.style('red', `${name}:`, stderr)} ${message}\n`);
  if (isUsage(error) || error instanceof CommanderError) stderr.write(`See: ${name} --help\n`);
  if (output.verbose) for (let at: unknown = error; at instanceof Error; at = at.cause) stderr.write(`${at === error ? '' : 'because of '}${at.stack}\n`);
}

function explain(error: Failure, command?: Command): string {
  if (error instanceof CommanderError) return error.message.replace(/^error: /, '').replace(/\n\(/, ' (');
  if (isUsage(error) && error.argument !== undefined) return `${optionFor(error.argument, command)}: expected ${error.expected}, got ${error.received}`;
  if (error.syscall !== undefined && error.path !== undefined) return explainSystemError(error);
  const known = error.code?.startsWith('ERR_') && error.name !== 'TypeError' && error.name !== 'Error';
  if (known || error instanceof Interrupted) return error.message;
  return `${error.message}\nThis was not foreseen; --verbose shows where it happened.`;
}

/** `batchSize`, `options.batchSize` or `options.batchSize[0]` as `--batch-size`, or `--no-batch-size`, where the command has that option. */
function optionFor(argument: string, command?: Command): string {
  const name = argument.replace(/^options\./, '').replace(/\[\d+\]$/, '').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return [`--${name}`, `--no-${name}`].find((long) => command?.options.some((option) => option.long === long)) ?? argument;
}

function explainSystemError(error: Failure): string {
  const path = error.dest ?? error.path;
  switch (error.code) {
    case 'ENOENT': return `${path}: there is no such file or folder`;
    case 'EACCES': case 'EPERM': return `${path}: permission denied. Choose another place, or change its permissions`;
    case 'EROFS': return `${path}: the file system is read-only. Choose another place`;
    case 'ENOSPC': case 'EDQUOT': return `${path}: no space is left there. Choose another place, or make room`;
    case 'ENOTDIR': return `${path}: a part of this path is a file, not a folder`;
    case 'EEXIST': return `${path}: it exists already`;
    case 'EISDIR': return `${path}: it is a folder, not a file`;
    default: return `${path}: ${error.message}`;
  }
}
