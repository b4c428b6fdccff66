export const FLOOR: Record<'GLIBC' | 'GLIBCXX' | 'CXXABI' | 'GCC', string>;
export function neededVersions(file: string): Partial<typeof FLOOR>;
export function floorProblems(file: string): string[];
