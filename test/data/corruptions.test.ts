import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { FileError, openCorruptions } from 'a-infonce';
import { npyFile } from './npy.js';

const [count, side] = [4, 8];
/** The byte at a place of a file of CIFAR-10-C. */
const value = (file: number, row: number, y: number, x: number, c: number) => (file * 31 + row * 7 + y * 5 + x * 3 + c * 11) % 256;
const images = (file: number, rows = 5 * count) =>
  Uint8Array.from({ length: rows * side * side * 3 }, (_, i) => value(file, Math.floor(i / (side * side * 3)), Math.floor(i / (side * 3)) % side, Math.floor(i / 3) % side, i % 3));
const labels = Uint8Array.from({ length: 5 * count }, (_, row) => (row % count) * 2);

let root: string;
const put = (name: string, dtype: string, shape: number[], data: Uint8Array) => writeFileSync(join(root, `${name}.npy`), npyFile(dtype, shape, data));
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'a-infonce-cifar-c-'));
  put('gaussian_noise', '|u1', [5 * count, side, side, 3], images(1));
  put('jpeg_compression', '|u1', [5 * count, side, side, 3], images(2));
  put('saturate', '|u1', [5 * count, side, side, 3], images(3));
  put('labels', '|u1', [5 * count], labels);
});
afterEach(() => { rmSync(root, { recursive: true, force: true }); });

it('reads each type and severity as a split', async () => {
  const set = await openCorruptions(root);
  expect([set.folder, set.types, set.length, set.size, set.labels]).toEqual([root, ['gaussian-noise', 'jpeg-compression', 'saturate'], count, side, [0, 2, 4, 6]]);
  for (const [file, type] of [[1, 'gaussian-noise'], [2, 'jpeg-compression'], [3, 'saturate']] as const) for (const severity of [1, 3, 5] as const) {
    using split = await set.open(type, severity);
    expect([split.length, split.channels, split.size]).toEqual([count, 3, side]);
    expect(split.labels().toTypedArray()).toEqual(BigInt64Array.of(0n, 2n, 4n, 6n));
    const expected = Uint8Array.from({ length: count * 3 * side * side }, (_, i) =>
      value(file, (severity - 1) * count + Math.floor(i / (3 * side * side)), Math.floor(i / side) % side, i % side, Math.floor(i / (side * side)) % 3));
    expect(split.pixels.toTypedArray()).toEqual(expected);
  }
  await expect(set.open('fog', 1)).rejects.toBeInstanceOf(FileError);
  await expect(set.open('fog', 6 as never)).rejects.toThrow('severity: expected an integer from 1 to 5');
  await expect(set.open('../labels' as never, 1)).rejects.toThrow('type: expected one of');
});

it('takes labels that are not repeated, of any integer type', async () => {
  put('labels', '<i4', [count], new Uint8Array(Int32Array.of(3, 1, 2, 0).buffer));
  expect((await openCorruptions(root)).labels).toEqual([3, 1, 2, 0]);
});

it('names the file that is wrong, and what is', async () => {
  const failure = async (name: string) => {
    const error: unknown = await openCorruptions(root).then(() => undefined, (reason: unknown) => reason);
    expect(error).toBeInstanceOf(FileError);
    expect((error as FileError).path).toBe(name === '' ? root : join(root, `${name}.npy`));
    return (error as Error).message;
  };
  put('fog', '<f4', [5 * count, side, side, 3], new Uint8Array(4 * 5 * count * side * side * 3));
  expect(await failure('fog')).toContain('expected uint8 of shape [5 n, S, S, 3], got float32');
  put('fog', '|u1', [5 * count, 3, side, side], images(4));
  expect(await failure('fog')).toContain('expected uint8 of shape [5 n, S, S, 3]');
  put('fog', '|u1', [count, side, side, 3], images(4, count));
  expect(await failure('fog')).toContain('expected uint8 of shape [5 n, S, S, 3]');
  put('fog', '|u1', [10 * count, side, side, 3], images(4, 10 * count));
  expect(await failure('fog')).toContain('as in gaussian-noise');
  put('fog', '|u1', [5 * count, side, side, 3], images(4).subarray(1));
  expect(await failure('fog')).toContain('bytes for uint8 of shape');
  rmSync(join(root, 'fog.npy'));
  put('labels', '|u1', [count + 1], labels.subarray(0, count + 1));
  expect(await failure('labels')).toContain('expected 20 integers, got uint8 of shape [5]');
  put('labels', '<f4', [count], new Uint8Array(4 * count));
  expect(await failure('labels')).toContain('got float32');
  put('labels', '|u1', [5 * count], labels.with(7, 9));
  expect(await failure('labels')).toContain('the same for each severity, got 9 at 7');
  put('labels', '|i1', [count], Uint8Array.of(0, 255, 0, 0));
  expect(await failure('labels')).toContain('got -1 at 1');
  rmSync(join(root, 'labels.npy'));
  expect(await failure('labels')).toContain('no such file');
  for (const name of ['gaussian_noise', 'jpeg_compression', 'saturate']) rmSync(join(root, `${name}.npy`));
  expect(await failure('')).toContain('gaussian_noise.npy');
  rmSync(root, { recursive: true });
  expect(await failure('')).toContain('there is no such folder');
});
