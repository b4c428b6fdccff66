/** Where the addon is: built in this folder, or in the package of binaries for this platform; and which LibTorch it is to use. */
import { closeSync, existsSync, fstatSync, openSync, readSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { askedLibTorch } from '../../scripts/libtorch.mjs';
import { LoadError } from './errors.js';
import { version } from './version.js';

export const root = fileURLToPath(new URL('../..', import.meta.url));
/** The package with the binaries of this platform, an optional dependency. */
export const BINARIES = '@a-infonce/linux-x64';

export interface Location {
  /** Where node-gyp-build finds the addon. */
  dir: string;
  /** The LibTorch that is opened before the addon and so takes the place of the one that it would find. */
  libtorch?: { library: string; source: string };
  /** The module that opens it. */
  preload: string;
}

/** The record of the last build from source, if there was one. */
export function builtWith(folder: string): { dir: string; version: string; source: string } | undefined {
  try {
    const record = JSON.parse(readFileSync(join(folder, 'build', 'libtorch.json'), 'utf8')) as Record<string, unknown>;
    const { dir, version, source } = record;
    return typeof dir === 'string' ? { dir, version: String(version), source: String(source) } : undefined;
  } catch {
    return undefined;
  }
}

/** The folder of {@link BINARIES} beside the package at `folder`, if it is installed. */
export function binariesPackage(folder: string): string | undefined {
  try {
    return dirname(createRequire(join(folder, 'package.json')).resolve(`${BINARIES}/package.json`));
  } catch {
    return undefined;
  }
}

/** What to type to build from source in `folder`. */
export function buildCommand(folder: string): string {
  return existsSync(join(folder, 'src')) ? 'npm run build:native' : `npm install --no-save cmake-js node-addon-api && node ${join('node_modules', 'a-infonce', 'scripts', 'build-native.mjs')}`;
}

/** What is wrong with the LibTorch at `dir`, if anything: the system's loader ends the process at the first page that a library lacks. */
function brokenLibrary(dir: string): string | undefined {
  for (const name of ['libc10.so', 'libtorch_cpu.so', 'libtorch.so']) {
    const path = join(dir, 'lib', name), elf = Buffer.alloc(64);
    if (!existsSync(path)) return `${path} is missing`;
    const file = openSync(path, 'r');
    try {
      const { size } = fstatSync(file);
      if (readSync(file, elf) < 64 || elf.readUInt32BE(0) !== 0x7f454c46) return `${path} is no library`;
      // The table of sections is the last part of a library.
      const end = Number(elf.readBigUInt64LE(40)) + elf.readUInt16LE(58) * elf.readUInt16LE(60);
      if (size < end) return `${path} was cut short: it has ${size} of ${end} bytes`;
    } finally {
      closeSync(file);
    }
  }
  return undefined;
}

const minor = (version: string | undefined) => version?.split('.').slice(0, 2).join('.');

/**
 * What to load for the package at `folder`. A build from source is taken before the package of binaries, and what the environment asks for before the LibTorch
 * that either has.
 * @throws {@link LoadError} where there is nothing, or nothing for the LibTorch that is asked for
 */
export function locate(folder = root): Location {
  const asked = askedLibTorch();
  const problem = asked && (asked.problem ?? brokenLibrary(asked.dir));
  if (problem !== undefined) throw new LoadError(`${asked!.source} is set to ${asked!.dir}, but ${problem}. Set it to another folder, or unset it.`);
  const opened = asked && { libtorch: { library: join(asked.dir, 'lib', 'libtorch.so'), source: asked.source } };

  const packaged = binariesPackage(folder);
  if (existsSync(join(folder, 'build', 'Release', 'a_infonce.node')) || process.env['A_INFONCE_PREBUILD'] || packaged === undefined) {
    const built = builtWith(folder), location = { dir: folder, preload: join(folder, 'build', 'preload', 'preload.node') };
    if (asked === undefined || asked.dir === built?.dir) return location;
    if (built !== undefined && minor(asked.version) !== minor(built.version))
      throw new LoadError(`${asked.source} asks for LibTorch ${asked.version}, but the addon was built with ${built.version}; build again. Type: ${buildCommand(folder)}`);
    return { ...location, ...opened };
  }

  const found = JSON.parse(readFileSync(join(packaged, 'package.json'), 'utf8')) as { version: string; libtorch: string };
  if (found.version !== version)
    throw new LoadError(`${BINARIES} is of version ${found.version}, a-infonce of ${version}: they go together. Type: npm install ${BINARIES}@${version}`);
  const wanted = minor(asked?.version ?? found.libtorch)!, dir = join(packaged, 'addons', wanted);
  if (!existsSync(dir)) {
    const there = readdirSync(join(packaged, 'addons')).join(', ');
    throw new LoadError(`${asked!.source} asks for LibTorch ${asked!.version}, but ${BINARIES} ${version} has addons for LibTorch ${there}. ` +
      `Take one of these, or build from source. Type: ${buildCommand(folder)}`);
  }
  const damaged = asked ? undefined : brokenLibrary(packaged);
  if (damaged !== undefined) throw new LoadError(`${damaged}. Type: rm -r ${packaged} && npm install ${BINARIES}@${version}`);
  return { dir, preload: join(packaged, 'preload.node'), ...opened };
}
