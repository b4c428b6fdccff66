import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileError, pretrain } from 'a-infonce';
import { expect, it } from 'vitest';
import { makeFolder } from '../../src/runtime/files.js';

it('makes folders within folders, twice without harm', async () => {
  const base = mkdtempSync(join(tmpdir(), 'a-infonce-'));
  await Promise.all([makeFolder(join(base, 'a/b/c')), makeFolder(join(base, 'a/b/d'))]);
  await makeFolder(join(base, 'a/b/c'));
  expect(statSync(join(base, 'a/b/c')).isDirectory()).toBe(true);
  writeFileSync(join(base, 'file'), '');
  await expect(makeFolder(join(base, 'file'))).rejects.toThrow(/file: a file is there, where a folder should be/);
  await expect(makeFolder(join(base, 'file/below'))).rejects.toThrow(FileError);
  rmSync(base, { recursive: true });
});

it('says so where a file system takes no folders, and does not hang', async () => {
  await expect(makeFolder('/proc/nowhere/run')).rejects.toThrow(/^\/proc\/nowhere: the folder cannot be made/);
  await expect(pretrain({ preset: 'quickstart', out: '/proc/nowhere' }).next()).rejects.toThrow(FileError);
});
