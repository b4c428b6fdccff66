// What a binary asks of the system's libraries.   node scripts/symbols.mjs <file>...
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The versions that Debian 11 has. */
export const FLOOR = { GLIBC: '2.31', GLIBCXX: '3.4.28', CXXABI: '1.3.12', GCC: '10.0.0' };

const newer = (a, b) => a.localeCompare(b, 'en', { numeric: true }) > 0;

/** The highest version of each kind that the undefined symbols of `file` ask for: { GLIBC: '2.30', ... }. */
export function neededVersions(file) {
  const needed = {};
  for (const [, kind, version] of execFileSync('objdump', ['-T', file], { encoding: 'utf8', maxBuffer: 1 << 30 }).matchAll(/\*UND\*.*\((GLIBC|GLIBCXX|CXXABI|GCC)_([\d.]+)\)/g))
    if (needed[kind] === undefined || newer(version, needed[kind])) needed[kind] = version;
  return needed;
}

/** Why `file` would not run on Debian 11, and whether it would look outside its own folder for libraries, as lines; empty when all is well. */
export function floorProblems(file) {
  const above = Object.entries(neededVersions(file)).filter(([kind, version]) => newer(version, FLOOR[kind]));
  const paths = /R(?:UN)?PATH\s+(.*)/.exec(execFileSync('objdump', ['-p', file], { encoding: 'utf8' }))?.[1] ?? '';
  const outside = paths.split(':').filter((path) => path && !path.startsWith('$ORIGIN'));
  return [
    ...above.map(([kind, version]) => `${file} needs ${kind}_${version}; Debian 11 has ${FLOOR[kind]}`),
    ...outside.map((path) => `${file} looks for libraries in ${path}`),
  ];
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const file of process.argv.slice(2)) console.log(file, JSON.stringify(neededVersions(file)), floorProblems(file).join('; ') || 'runs on Debian 11');
