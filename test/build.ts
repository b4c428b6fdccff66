import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** Workers and child processes run the compiled package: what is tested is what stands in src/. */
export default function build(): void {
  const root = fileURLToPath(new URL('..', import.meta.url));
  execFileSync(process.execPath, [`${root}node_modules/typescript/bin/tsc`, '-p', root], { stdio: 'inherit' });
}
