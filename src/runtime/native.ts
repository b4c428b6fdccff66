/** Loads the addon on first use, so that importing the package (and `a-infonce doctor`) works where the addon does not. */
import { readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import type { Addon } from './addon.js';
import {
  AInfoNCEError, ArgumentRangeError, ArgumentTypeError, CancelledError, FileError, LoadError, NonFiniteError, OperatorError, OutOfMemoryError,
} from './errors.js';
import { explainLoadFailure } from './explain.js';
import { locate, root } from './locate.js';

let loaded: Addon | undefined;

/** The native module of this environment (main thread or worker). Throws {@link LoadError} with what to type. */
export function native(): Addon {
  return (loaded ??= load());
}

function load(): Addon {
  const require = createRequire(import.meta.url);
  const { dir, libtorch, preload } = locate();
  let addon: Addon;
  try {
    if (libtorch) openLibTorch(libtorch.dir, require(preload) as Preload);
    const nodeGypBuild = require('node-gyp-build') as (dir: string) => Addon;
    addon = nodeGypBuild(dir);
  } catch (error) {
    throw new LoadError(explainLoadFailure(error as Error, root, libtorch), { cause: error });
  }
  addon.set_error_factory(makeError);
  // process.exit() unloads libraries under running jobs; a worker's end waits for its jobs by itself.
  if (isMainThread) process.on('exit', (code) => addon.stop_jobs(1000, code));
  return addon;
}

/** native/preload */
interface Preload {
  open(library: string): void;
}

/** Opens LibTorch at `dir`. A process has one LibTorch: of the first that is opened, whoever opened it. */
function openLibTorch(dir: string, preload: Preload): void {
  preload.open(join(dir, 'lib', 'libtorch.so'));
  const mapped = /\S*\/libtorch_cpu\.so\b/.exec(readFileSync('/proc/self/maps', 'utf8'))?.[0];
  if (mapped !== undefined && mapped !== realpathSync(join(dir, 'lib', 'libtorch_cpu.so'))) throw new Error(`another one, ${mapped}, is loaded in this process already`);
}

function makeError(kind: string, message: string, argument: string, expected: string, received: string, more: string): Error {
  switch (kind) {
    case 'ArgumentType': return new ArgumentTypeError(argument, expected, received, more);
    case 'ArgumentRange': return new ArgumentRangeError(argument, expected, received);
    case 'Operator': return new OperatorError(message);
    case 'NonFinite': return new NonFiniteError(message);
    case 'Load': return new LoadError(message);
    case 'File': return new FileError(argument, message);
    case 'Cancelled': return new CancelledError(message);
    case 'OutOfMemory': return new OutOfMemoryError(message);
    default: return new AInfoNCEError(message);
  }
}
