import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ArgumentRangeError, FileError, readNpy } from 'a-infonce';

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/npy/${name}.npy`, import.meta.url));
let root: string;
beforeEach(() => { root = mkdtempSync(join(tmpdir(), 'a-infonce-npy-')); });
afterEach(() => { rmSync(root, { recursive: true, force: true }); });

/** A file of version 1 with this text as its header. */
function npy(header: string, data: Uint8Array = new Uint8Array(0), version = 1): string {
  const text = Buffer.from(header, 'latin1');
  const length = version === 1 ? Buffer.alloc(2) : Buffer.alloc(4);
  if (version === 1) length.writeUInt16LE(text.length);
  else length.writeUInt32LE(text.length);
  return raw(Buffer.concat([Buffer.from('\x93NUMPY', 'latin1'), Buffer.of(version, 0), length, text, data]));
}
function raw(data: Uint8Array): string {
  const path = join(root, 'x.npy');
  writeFileSync(path, data);
  return path;
}
const header = (descr: string, shape: string, fortran = 'False') => `{'descr': ${descr}, 'fortran_order': ${fortran}, 'shape': ${shape}, }\n`;
async function failure(path: string): Promise<string> {
  const error: unknown = await readNpy(path).then(() => new Error('it was read'), (reason: unknown) => reason);
  expect(error).toBeInstanceOf(FileError);
  expect((error as FileError).path).toBe(path);
  return (error as Error).message;
}

describe('readNpy', () => {
  // Written by NumPy: arange(-6, 6).reshape(3, 4) * 5 / 2 in the file's own type.
  const values = Array.from({ length: 12 }, (_, k) => ((k - 6) * 5) / 2);
  it.each(['int8', 'int16', 'int32', 'int64', 'float32', 'float64'])('reads what NumPy wrote as %s, in both byte orders and all versions', async (dtype) => {
    const expected = dtype.startsWith('int') ? values.map(Math.trunc) : values;
    for (const name of [`${dtype}-1`, `${dtype}-2`, `${dtype}-3`, `${dtype}-big`]) {
      const { data, shape, dtype: found } = await readNpy(fixture(name));
      expect([found, shape, Array.from(data, Number)]).toEqual([dtype, [3, 4], expected]);
    }
  });

  it('reads bytes, float16 as bits, booleans, a single number, an empty array', async () => {
    expect(await readNpy(fixture('uint8'))).toEqual({ data: Uint8Array.of(0, 1, 254, 255), shape: [4], dtype: 'uint8' });
    expect(await readNpy(fixture('float16'))).toEqual({ data: Uint16Array.of(0x3c00, 0xc000), shape: [2, 1], dtype: 'float16' });
    expect(await readNpy(fixture('bool'))).toEqual({ data: Uint8Array.of(1, 0), shape: [2], dtype: 'bool' });
    expect(await readNpy(fixture('scalar'))).toEqual({ data: Float64Array.of(2.5), shape: [], dtype: 'float64' });
    expect(await readNpy(fixture('empty'))).toEqual({ data: new Int32Array(0), shape: [0, 3], dtype: 'int32' });
    expect((await readNpy(fixture('fortran-column'))).data).toEqual(Int32Array.of(1, 2, 3));  // one dimension: both orders at once
  });

  it('reads rows out of the middle', async () => {
    const { data, shape } = await readNpy(fixture('float32-1'), { start: 1, end: 2 });
    expect([shape, Array.from(data as Float32Array)]).toEqual([[1, 4], values.slice(4, 8)]);
    expect((await readNpy(fixture('float32-big'), { start: 2 })).data).toEqual(Float32Array.from(values.slice(8)));
    await expect(readNpy(fixture('float32-1'), { start: 2, end: 1 })).rejects.toBeInstanceOf(ArgumentRangeError);
    await expect(readNpy(fixture('float32-1'), { end: 4 })).rejects.toThrow('options.end: expected an integer from 0 to 3, got 4');
    await expect(readNpy(fixture('float32-1'), { rows: 4 } as object)).rejects.toBeInstanceOf(ArgumentRangeError);
    await expect(readNpy(fixture('scalar'), { end: 1 })).rejects.toBeInstanceOf(FileError);
  });

  it('refuses what NumPy writes and it cannot take', async () => {
    expect(await failure(fixture('objects'))).toContain('got Python objects (a pickle, which is not opened)');
    expect(await failure(fixture('records'))).toContain('got records');
    expect(await failure(fixture('fortran'))).toContain('got Fortran order');
    for (const name of ['uint64', 'complex', 'text']) expect(await failure(fixture(name))).toContain('expected elements of uint8');
  });

  it('refuses damaged and hostile files by name', async () => {
    expect(await failure(join(root, 'none.npy'))).toContain('there is no such file');
    expect(await failure(root)).toContain('no file');
    expect(await failure(raw(Buffer.of()))).toContain('begins with');
    expect(await failure(raw(Buffer.from('PK\x03\x04 and so on')))).toContain('zip archive');
    expect(await failure(raw(Buffer.of(0x80, 4, 0x95, 1, 2, 3, 4, 5, 6, 7, 8, 9)))).toContain('pickle');
    expect(await failure(raw(Buffer.from('\x93NUMPY\x01', 'latin1')))).toContain('the file has 7 bytes');
    expect(await failure(npy(header("'<f4'", '(2,)'), new Uint8Array(8), 4))).toContain('version 1 to 3, got 4');
    expect(await failure(npy(header("'<f4'", '(2,)'), new Uint8Array(7)))).toContain('for float32 of shape [2], got');
    expect(await failure(npy(header("'<f4'", '(2,)'), new Uint8Array(9)))).toContain('for float32 of shape [2], got');
    // Sizes whose product no machine holds, or which no float tells apart.
    for (const shape of ['(999999999999999, 999999999999999)', `(${'999999999999999,'.repeat(30)})`, `(0, ${'999999999999999,'.repeat(30)})`])
      expect(await failure(npy(header("'<f8'", shape)))).toContain('expected a size that fits on a disk');
    for (const shape of ['(-1,)', '(2', '2', '(2,,3)', '(1e3,)', '(9999999999999999,)', '(__import__("os").system("true"),)'])
      expect(await failure(npy(header("'<f4'", shape)))).toContain('expected a header as');
    for (const text of ['  ', '{}', '{\'descr\': \'<f4\'}', `${header("'<f4'", '(0,)').trim().slice(0, -1)}'shape': (0,)}`, 'x'.repeat(70), `{${' '.repeat(60_000)}`])
      expect(await failure(npy(text))).toContain('expected a header as');
    expect(await failure(raw(Buffer.from('\x93NUMPY\x02\x00\xff\xff\xff\xff', 'latin1')))).toContain('a header of at most 65535 bytes');
    const cut = npy(header("'<f4'", '(2,)'));
    truncateSync(cut, 40);
    expect(await failure(cut)).toContain('bytes of header');
  });
});
