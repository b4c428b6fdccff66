import { readFileSync } from 'node:fs';

/** Of this package, and what it runs on. @internal */
export const { version, engines } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string; engines: { node: string } };

/** Whether a version of Node.js is of `engines.node`, whose ranges are of the forms `^20.19` and `>=22.12`. @internal */
export function runsOn(node: string): boolean {
  const [major, minor] = node.split('.').map(Number) as [number, number];
  return engines.node.split(' || ').some((range) => {
    const [from, least] = range.replace(/^\D+/, '').split('.').map(Number) as [number, number];
    return major === from ? minor >= least : range.startsWith('>=') && major > from;
  });
}
