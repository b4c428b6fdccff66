export function floorProblems(file: string): string[];
