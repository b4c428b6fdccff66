import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { emulatedLibrary } from './build.js';

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

it('compute-sanitizer gets to see every kernel there is', { timeout: 600_000 }, () => {
  const sources = readdirSync(path('../../native/kernels'), { recursive: true, encoding: 'utf8' }).filter((file) => /\.(cu|h)$/.test(file));
  const names = sources.flatMap((file) => [...readFileSync(path(`../../native/kernels/${file}`), 'utf8').matchAll(/__global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(/g)].map((found) => found[1]!));
  expect(names.length).toBeGreaterThan(40);
  const symbols = execFileSync('nm', ['--demangle', emulatedLibrary], { encoding: 'utf8', maxBuffer: 1 << 28 }).split('\n').map((line) => /^([0-9a-f]+) [tTwW] (.*)$/.exec(line)).filter((found) => found !== null)
    .map(([, at, symbol]) => ({ at: parseInt(at!, 16), name: symbol!.replaceAll(/a_infonce::kernels::|cuda::|sm90a::|\(anonymous namespace\)::|^void /g, '').replace(/>?\([^()]*(\([^()]*\)[^()]*)*\)$/, (end) => (end.startsWith('>') ? '>' : '')) }))
    .filter(({ name }) => names.includes(name.replace(/<.*/, '')) && !name.includes('lambda'));
  expect(new Set(symbols.map(({ name }) => name.replace(/<.*/, '')))).toEqual(new Set(names));
  const ran = new Set([80, 90].flatMap((capability) => JSON.parse(execFileSync(process.execPath, [path('sanitized.mjs'), emulatedLibrary, String(capability)], { encoding: 'utf8' }).trim().split('\n').at(-1)!) as number[]));
  const unused = ({ name }: { name: string }) => name.startsWith('sum_rows_kernel<double'); // rows of float64 have no centres, but the template is theirs too
  expect(symbols.filter(({ at }) => !ran.has(at)).filter((each) => !unused(each)).map(({ name }) => name)).toEqual([]);
});
