import { readFileSync } from 'node:fs';

/** Of this package, and what it runs on. @internal */
export const { version, engines } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string; engines: { node: string } };
