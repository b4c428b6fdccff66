/** Settings of the process. */
import { availableParallelism } from 'node:os';
import { ArgumentRangeError, ArgumentTypeError, check, describe } from './errors.js';
import { native } from './native.js';

/** The instruction sets that the kernels are compiled for, weakest first. */
export type InstructionSet = 'portable' | 'avx2' | 'avx512' | 'avx512_bf16' | 'amx_bf16';

/** Seeds LibTorch's default generator (`randn`, `rand`, dropout). Attacks and training take their own seeds and ignore it. */
export function manualSeed(seed: number | bigint): void {
  if (typeof seed !== 'bigint' && typeof seed !== 'number') throw new ArgumentTypeError('seed', 'an integer (number or bigint)', describe(seed));
  if (typeof seed === 'number') check.integer('seed', seed, { min: 0 });
  else if (seed < 0n || seed >= 1n << 64n) throw new ArgumentRangeError('seed', 'an integer from 0 to 2^64 - 1', describe(seed));
  native().manual_seed(BigInt(seed));
}

/** Sets how many threads one operation uses, in the whole process; 0 takes every core. */
export function setThreads(threads: number): void {
  check.integer('threads', threads, { min: 0, max: 1024 });
  native().set_threads(threads === 0 ? availableParallelism() : threads);
}

/** How many threads one operation uses. */
export function getThreads(): number {
  return native().get_threads();
}

/**
 * Forces the kernels of the whole process onto one instruction set; `''` takes the best one of this processor, whatever the environment variable A_INFONCE_ISA, which
 * chooses the first one, says. To go back: what `runtimeInfo().instructionSet` was.
 * @throws ArgumentRangeError when this processor does not have it
 */
export function setInstructionSet(name: InstructionSet | ''): void {
  native().set_instruction_set(check.oneOf('name', name, ['', 'portable', 'avx2', 'avx512', 'avx512_bf16', 'amx_bf16']));
}

/** What the loaded addon runs on. */
export function runtimeInfo(): { libtorch: string; instructionSet: string; instructionSets: string[]; threads: number; cuda: boolean; openmp: boolean; cpu: string } {
  return native().info();
}
