import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LoadError } from 'a-infonce';
import { BINARIES, locate } from '../../src/runtime/locate.js';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
/** The shortest file that could be a library: a header that ends where its table of sections, which has no entries, does. */
const library = Buffer.alloc(64);
library.write('\x7fELF\x02', 'latin1');

let folder: string, root: string, packaged: string, own: string, asked: string | undefined;
const write = (path: string, content: string | Buffer) => (mkdirSync(join(path, '..'), { recursive: true }), writeFileSync(path, content));
function libtorch(dir: string, release: string) {
  for (const name of ['libc10.so', 'libtorch_cpu.so', 'libtorch.so']) write(join(dir, 'lib', name), library);
  write(join(dir, 'version.py'), `from typing import Optional\n__version__ = '${release}+cpu'\n`);
}
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'a-infonce-locate-')), root = join(folder, 'a-infonce'), packaged = join(folder, 'linux-x64'), own = join(folder, 'torch');
  mkdirSync(root);
  libtorch(packaged, '2.13.0');
  libtorch(own, '2.12.1');
  write(join(packaged, 'package.json'), JSON.stringify({ version, libtorch: '2.13.0' }));
  write(join(packaged, 'preload.node'), library);
  for (const minor of ['2.12', '2.13']) for (const name of ['a_infonce.node', 'liba_infonce.so']) write(join(packaged, 'addons', minor, 'prebuilds', 'linux-x64', name), library);
  asked = process.env['A_INFONCE_LIBTORCH'];
  delete process.env['A_INFONCE_LIBTORCH'];
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  if (asked === undefined) delete process.env['A_INFONCE_LIBTORCH'];
  else process.env['A_INFONCE_LIBTORCH'] = asked;
});

test('the addon of the package, or the one for the LibTorch that is asked for', () => {
  expect(locate(root, packaged)).toEqual({ dir: join(packaged, 'addons', '2.13'), preload: join(packaged, 'preload.node') });
  process.env['A_INFONCE_LIBTORCH'] = own;
  const libtorch = { dir: own, source: 'the environment variable A_INFONCE_LIBTORCH' };
  expect(locate(root, packaged)).toEqual({ dir: join(packaged, 'addons', '2.12'), preload: join(packaged, 'preload.node'), libtorch });
  rmSync(join(packaged, 'addons', '2.12'), { recursive: true });
  expect(() => locate(root, packaged)).toThrow(`A_INFONCE_LIBTORCH asks for LibTorch 2.12.1, but ${BINARIES} ${version} has addons for LibTorch 2.13. Take one of these, or build from source.`);
});

test('a build in the folder comes first, with its own LibTorch or another of that minor version', () => {
  write(join(root, 'build', 'Release', 'a_infonce.node'), library);
  write(join(root, 'build', 'libtorch.json'), JSON.stringify({ dir: join(folder, 'gone'), version: '2.12.0', source: 'pip' }));
  const built = { dir: root, preload: join(root, 'build', 'preload', 'preload.node') };
  expect(locate(root, packaged)).toEqual(built);
  process.env['A_INFONCE_LIBTORCH'] = own;
  expect(locate(root, packaged)).toMatchObject({ ...built, libtorch: { dir: own } });
  write(join(root, 'build', 'libtorch.json'), JSON.stringify({ dir: join(folder, 'gone'), version: '2.13.0', source: 'pip' }));
  expect(() => locate(root, packaged)).toThrow(/asks for LibTorch 2\.12\.1, but the addon was built with 2\.13\.0; build again\. Type: /);
});

test.each([
  ['lib/libtorch_cpu.so'], ['addons/2.13/prebuilds/linux-x64/liba_infonce.so'], ['addons/2.13/prebuilds/linux-x64/a_infonce.node'], ['preload.node'],
])('a damaged package: %s', (file) => {
  const path = join(packaged, file), long = Buffer.from(library);
  long.writeBigUInt64LE(1000n, 40);
  for (const [content, problem] of [[long, 'was cut short: it has 64 of 1000 bytes'], [Buffer.from('<html>'), 'is no library']] as const) {
    writeFileSync(path, content);
    expect(() => locate(root, packaged)).toThrow(`${path} ${problem}. Type: rm -r ${packaged} && npm install ${BINARIES}@${version}`);
  }
  rmSync(path);
  expect(() => locate(root, packaged)).toThrow(LoadError);
  expect(() => locate(root, packaged)).toThrow(`${path} is missing`);
});

test('a folder that is no LibTorch, or does not say of which version', () => {
  process.env['A_INFONCE_LIBTORCH'] = join(folder, 'none');
  expect(() => locate(root, packaged)).toThrow(/A_INFONCE_LIBTORCH is set to .*none, but there is no such folder/);
  process.env['A_INFONCE_LIBTORCH'] = own;
  rmSync(join(own, 'version.py'));
  expect(() => locate(root, packaged)).toThrow(/neither headers, nor version\.py, nor build-version say which version it is/);
  write(join(own, 'build-version'), '2.12.0+cu130\n');
  writeFileSync(join(own, 'lib', 'libtorch.so'), '');
  expect(() => locate(root, packaged)).toThrow(/libtorch\.so is no library/);
});
