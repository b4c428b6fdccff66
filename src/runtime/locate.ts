/** Where the addon is: built in this folder, or in the package of binaries for this platform; and which LibTorch it is to use. */
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { askedLibTorch, forbidden } from '../../scripts/libtorch.mjs';
import { LoadError } from './errors.js';
import { version } from './version.js';

export const root = fileURLToPath(new URL('../..', import.meta.url));
/** The package with the binaries of this platform, an optional dependency. */
export const BINARIES = '@a-infonce/linux-x64';
/** What to type where it is missing or does not fit. */
export const INSTALL = `npm install ${BINARIES}@${version}`;

export interface Location {
  /** Where node-gyp-build finds the addon. */
  dir: string;
  /** The LibTorch that is opened before the addon and so takes the place of the one that it would find; and who asks for it. */
  libtorch?: { dir: string; source: string };
  /** The module that opens it. */
  preload: string;
}

/** The record of the last build from source, if there was one. */
export function builtWith(folder: string): { dir: string; version: string; source: string } | undefined {
  try {
    const record = JSON.parse(readFileSync(join(folder, 'build', 'libtorch.json'), 'utf8')) as Record<string, unknown>;
    const { dir, version: built, source } = record;
    return typeof dir === 'string' ? { dir, version: String(built), source: String(source) } : undefined;
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

/** Whether the package at `folder` is a clone, not an installation. */
export const isClone = (folder: string) => existsSync(join(folder, 'src'));

/** What to type to build from source in `folder`. */
export const buildCommand = (folder: string) =>
  isClone(folder) ? 'npm run build:native' : `npm install --no-save cmake-js@8 node-addon-api@8 && node ${join(folder, 'scripts', 'build-native.mjs')}`;

/** What is wrong with a shared library, if anything: the system's loader ends the process at the first page that one lacks. */
function brokenLibrary(path: string): string | undefined {
  if (forbidden(path)) return `${path} may not be read (permission denied)`;
  if (!existsSync(path)) return `${path} is missing`;
  const elf = Buffer.alloc(64), file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    if (readSync(file, elf) < 64 || elf.readUInt32BE(0) !== 0x7f454c46) return `${path} is no library`;
    // The table of sections is the last part of a library.
    const end = Number(elf.readBigUInt64LE(40)) + elf.readUInt16LE(58) * elf.readUInt16LE(60);
    return size < end ? `${path} was cut short: it has ${size} of ${end} bytes` : undefined;
  } finally {
    closeSync(file);
  }
}
/** The same of the libraries of the LibTorch at `dir` that are loaded. */
function brokenLibTorch(dir: string): string | undefined {
  const lib = join(dir, 'lib'), needed = ['libc10.so', 'libtorch_cpu.so', 'libtorch.so'];
  const more = existsSync(lib) ? readdirSync(lib).filter((name) => /^lib(c10_cuda|torch_cuda\w*|gomp.*)\.so[\d.]*$/.test(name)) : [];
  return [...needed, ...more].map((name) => brokenLibrary(join(lib, name))).find((problem) => problem !== undefined);
}

const minor = (full: string | undefined) => full?.split('.').slice(0, 2).join('.');

/**
 * What to load for the package at `folder`. A build from source is taken before the package of binaries, and the LibTorch that the environment asks for before the
 * one that either has.
 * @throws {@link LoadError} where there is nothing, something is damaged, or there is no addon for the LibTorch that is asked for
 */
export function locate(folder = root, packaged = binariesPackage(folder)): Location {
  const asked = askedLibTorch(['A_INFONCE_LIBTORCH'], { headers: false });
  const problem = asked && (asked.problem ?? brokenLibTorch(asked.dir));
  if (problem !== undefined) throw new LoadError(`${asked!.source} is set to ${asked!.dir}, but ${problem}. Set it to another folder, or unset it.`);
  const libtorch = asked && { dir: asked.dir, source: asked.source };

  if (existsSync(join(folder, 'build', 'Release', 'a_infonce.node')) || process.env['A_INFONCE_PREBUILD'] || packaged === undefined) {
    const built = builtWith(folder), location = { dir: folder, preload: join(folder, 'build', 'preload', 'preload.node') };
    if (asked === undefined || asked.dir === built?.dir) return location;
    if (built !== undefined && minor(asked.version) !== minor(built.version))
      throw new LoadError(`${asked.source} asks for LibTorch ${asked.version}, but the addon was built with ${built.version}; build again. Type: ${buildCommand(folder)}`);
    return { ...location, ...(libtorch && { libtorch }) };
  }

  const found = JSON.parse(readFileSync(join(packaged, 'package.json'), 'utf8')) as { version: string; libtorch: string };
  if (found.version !== version) throw new LoadError(`${BINARIES} is of version ${found.version}, a-infonce of ${version}: they go together. Type: ${INSTALL}`);
  const wanted = minor(asked?.version ?? found.libtorch)!, addons = join(packaged, 'addons'), dir = join(addons, wanted);
  if (asked && existsSync(addons) && !existsSync(dir))
    throw new LoadError(`${asked.source} asks for LibTorch ${asked.version}, but ${BINARIES} ${version} has addons for LibTorch ${readdirSync(addons).join(', ')}. ` +
      `Take one of these, or build from source. Type: A_INFONCE_LIBTORCH=${asked.dir} ${buildCommand(folder)}`);
  const preload = join(packaged, 'preload.node'), files = [preload, ...['liba_infonce.so', 'a_infonce.node'].map((name) => join(dir, 'prebuilds', 'linux-x64', name))];
  const damaged = files.map(brokenLibrary).find((each) => each !== undefined) ?? (asked ? undefined : brokenLibTorch(packaged));
  if (damaged !== undefined) throw new LoadError(`${damaged}. Type: rm -r ${packaged} && ${INSTALL}`);
  return { dir, preload, ...(libtorch && { libtorch }) };
}
