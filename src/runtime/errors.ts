/** Errors: every one carries a stable `code`; bad arguments also carry the argument's name, what was expected and what came. */

/** What is known about a bad argument. */
export interface ArgumentDetails {
  readonly argument: string;
  readonly expected: string;
  readonly received: string;
}

/** An argument of the wrong type. `code` is `'ERR_ARGUMENT_TYPE'`. */
export class ArgumentTypeError extends TypeError implements ArgumentDetails {
  override readonly name = 'ArgumentTypeError';
  readonly code = 'ERR_ARGUMENT_TYPE';
  /** `more` follows in the message. */
  constructor(readonly argument: string, readonly expected: string, readonly received: string, more = '') {
    super(`${argument}: expected ${expected}, got ${received}${more}`);
  }
}

/** An argument of the right type with a value or shape that cannot work. `code` is `'ERR_ARGUMENT_RANGE'`. */
export class ArgumentRangeError extends RangeError implements ArgumentDetails {
  override readonly name = 'ArgumentRangeError';
  readonly code = 'ERR_ARGUMENT_RANGE';
  constructor(readonly argument: string, readonly expected: string, readonly received: string) {
    super(`${argument}: expected ${expected}, got ${received}`);
  }
}

/** Base of everything that goes wrong for reasons other than an argument. */
export class AInfoNCEError extends Error {
  override readonly name: string = 'AInfoNCEError';
  readonly code: string = 'ERR_A_INFONCE';
}

/** The addon or LibTorch cannot be loaded; the message says what to type. */
export class LoadError extends AInfoNCEError {
  override readonly name = 'LoadError';
  override readonly code = 'ERR_LOAD';
}

/** LibTorch refused an operator call; the message names the operator, the arguments and their shapes. */
export class OperatorError extends AInfoNCEError {
  override readonly name = 'OperatorError';
  override readonly code = 'ERR_OPERATOR';
}

/** NaN or infinity where a number was needed. */
export class NonFiniteError extends AInfoNCEError {
  override readonly name = 'NonFiniteError';
  override readonly code = 'ERR_NON_FINITE';
}

/** A file from outside (data set, checkpoint, model, configuration) is missing, damaged or of another kind. */
export class FileError extends AInfoNCEError {
  override readonly name = 'FileError';
  override readonly code = 'ERR_FILE';
  constructor(readonly path: string, message: string, options?: ErrorOptions) {
    super(`${path}: ${message}`, options);
  }
}

/** The machine or the device has no memory left for the call; the process still works. */
export class OutOfMemoryError extends AInfoNCEError {
  override readonly name = 'OutOfMemoryError';
  override readonly code = 'ERR_OUT_OF_MEMORY';
}

/** A job was aborted without a reason of its own (with an `AbortSignal`, the signal's reason is thrown instead). */
export class CancelledError extends AInfoNCEError {
  override readonly name = 'CancelledError';
  override readonly code = 'ERR_CANCELLED';
}

/** A short text for the `received` part of a message. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'string') return value.length > 60 ? `'${value.slice(0, 57)}...'` : `'${value}'`;
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return value.length <= 8 ? `[${value.map((item) => (Array.isArray(item) ? `an array of ${item.length}` : describe(item))).join(', ')}]` : `an array of ${value.length}`;
  if ('train' in (value as object) && 'test' in (value as object)) return 'a whole Dataset (its splits are data.train and data.test)';
  const name = (value as object).constructor?.name;
  return !name || name === 'Object' ? 'an object' : `${/^[AEIOU]/.test(name) ? 'an' : 'a'} ${name}`;
}

/** Checks for the facade: each throws the typed error that names the argument. */
export const check = {
  finite(argument: string, value: unknown, range: { min?: number; max?: number; above?: number; below?: number } = {}): number {
    if (typeof value !== 'number') throw new ArgumentTypeError(argument, 'a number', describe(value));
    const { min = -Infinity, max = Infinity, above = -Infinity, below = Infinity } = range;
    if (!Number.isFinite(value) || value < min || value > max || value <= above || value >= below) {
      const bounds = [
        range.min !== undefined ? `at least ${range.min}` : '', range.above !== undefined ? `above ${range.above}` : '',
        range.max !== undefined ? `at most ${range.max}` : '', range.below !== undefined ? `below ${range.below}` : '',
      ].filter(Boolean).join(' and ');
      throw new ArgumentRangeError(argument, `a finite number${bounds ? ` ${bounds}` : ''}`, String(value));
    }
    return value;
  },
  integer(argument: string, value: unknown, range: { min?: number; max?: number } = {}): number {
    if (typeof value !== 'number') throw new ArgumentTypeError(argument, 'an integer', describe(value));
    const { min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } = range;
    if (!Number.isSafeInteger(value) || value < min || value > max) {
      const bounds = range.max !== undefined ? ` from ${min} to ${max}` : range.min !== undefined ? ` of at least ${min}` : '';
      throw new ArgumentRangeError(argument, `an integer${bounds}`, String(value));
    }
    return value;
  },
  /** The lengths of a tensor's dimensions, as a new array. */
  shape(argument: string, value: unknown): number[] {
    if (!Array.isArray(value)) throw new ArgumentTypeError(argument, `an array of integers${typeof value === 'number' ? ` (pass [${value}])` : ''}`, describe(value));
    return Array.from(value, (length, i) => check.integer(`${argument}[${i}]`, length, { min: 0 }));
  },
  boolean(argument: string, value: unknown): boolean {
    if (typeof value !== 'boolean') throw new ArgumentTypeError(argument, 'a boolean', describe(value));
    return value;
  },
  string(argument: string, value: unknown): string {
    if (typeof value !== 'string') throw new ArgumentTypeError(argument, 'a string', describe(value));
    return value;
  },
  oneOf<const T extends readonly string[]>(argument: string, value: unknown, choices: T): T[number] {
    if (typeof value !== 'string' || !choices.includes(value))
      throw new (typeof value === 'string' ? ArgumentRangeError : ArgumentTypeError)(argument, `one of ${choices.map((c) => `'${c}'`).join(', ')}`, describe(value));
    return value;
  },
  function(argument: string, value: unknown): void {
    if (value !== undefined && typeof value !== 'function') throw new ArgumentTypeError(argument, 'a function', describe(value));
  },
  signal(argument: string, value: unknown): AbortSignal | undefined {
    if (value !== undefined && !(value instanceof AbortSignal)) throw new ArgumentTypeError(argument, 'an AbortSignal', describe(value));
    return value;
  },
  /** An options object (or undefined, read as empty) whose keys are all known: a misspelt option is an error, not a default. */
  options<T extends object>(argument: string, value: T | undefined, known: readonly (keyof T & string)[]): T {
    if (value === undefined) return {} as T;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ArgumentTypeError(argument, 'an object', describe(value));
    for (const key of Object.keys(value))
      if (!(known as readonly string[]).includes(key))
        throw new ArgumentRangeError(`${argument}.${key}`, `a known option (${known.join(', ')})`, `'${key}'`);
    return value;
  },
};
