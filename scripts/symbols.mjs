// What a binary asks of the system's libraries.   node scripts/symbols.mjs <file>...
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The versions that Debian 11 has. */
export const FLOOR = { GLIBC: '2.31', GLIBCXX: '3.4.28', CXXABI: '1.3.12', GCC: '10.0.0' };
/** What a binary may ask the system for; everything else must be beside it. */
const SYSTEM = /^(ld-linux-x86-64|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+))\.so\.\d+$/;
/** What is in the package of binaries, or in any LibTorch. */
const SHIPPED = /^lib(a_infonce|torch|torch_cpu|c10|gomp)\.so(\.1)?$/;

const newer = (a, b) => a.localeCompare(b, 'en', { numeric: true }) > 0;

/** Why `file` would not run on Debian 11, or would look outside its own folder for libraries, as lines; empty when all is well. */
export function floorProblems(file) {
  const text = execFileSync('objdump', ['-p', file], { encoding: 'utf8' }), problems = [];
  const references = text.slice(text.indexOf('Version References:')).split('\n\n')[0];
  for (const [, name] of references.matchAll(/0x[0-9a-f]+ 0x[0-9a-f]+ \d+ (\S+)/g)) {
    const [, kind, version] = /^([A-Z]+)_([\d.]+)$/.exec(name) ?? [];
    if (version === undefined ? /^GLIBC/.test(name) : FLOOR[kind] !== undefined && newer(version, FLOOR[kind])) problems.push(`${file} needs ${name}; Debian 11 has ${FLOOR[kind] ?? 'none such'}`);
  }
  for (const [, name] of text.matchAll(/NEEDED\s+(\S+)/g)) if (!SYSTEM.test(name) && !SHIPPED.test(name)) problems.push(`${file} needs ${name}, which is neither of the system nor shipped`);
  for (const path of (/R(?:UN)?PATH\s+(.*)/.exec(text)?.[1] ?? '').split(':')) if (path && !path.startsWith('$ORIGIN')) problems.push(`${file} looks for libraries in ${path}`);
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) for (const file of process.argv.slice(2)) console.log(floorProblems(file).join('\n') || `${file} runs on Debian 11`);
