/** What is known of a LibTorch: without a `problem` it can be used. */
export interface LibTorch {
  dir: string;
  version?: string;
  problem?: string;
}
export const SUPPORTED: string;
export function inspectLibTorch(dir: string): LibTorch;
/** The LibTorch that the environment asks for: `A_INFONCE_LIBTORCH` or `LIBTORCH`, a folder or `python`. */
export function askedLibTorch(): (LibTorch & { source: string }) | undefined;
export function findLibTorch(): (LibTorch & { source: string }) | undefined;
export function libTorchCandidates(): (LibTorch & { source: string })[];
export function buildProblems(): string[];
