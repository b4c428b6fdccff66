/** What is known of a LibTorch: without a `problem` it can be used. */
export interface LibTorch {
  dir: string;
  version?: string;
  problem?: string;
}
export const SUPPORTED: string;
export function inspectLibTorch(dir: string, options?: { headers?: boolean }): LibTorch;
/** Whether the permissions of a file, or of a folder that it lies in, keep it from being read. */
export function forbidden(path: string): boolean;
/** The LibTorch that one of the environment's `variables` asks for (`A_INFONCE_LIBTORCH` or `LIBTORCH`): a folder or `python`; without headers it can be run, not built with. */
export function askedLibTorch(variables?: string[], options?: { headers?: boolean }): (LibTorch & { source: string }) | undefined;
export function findLibTorch(): (LibTorch & { source: string }) | undefined;
export function libTorchCandidates(): (LibTorch & { source: string })[];
export function buildProblems(): string[];
/** Of the C library of this process; undefined where it is another one. */
export function glibcVersion(): string | undefined;
