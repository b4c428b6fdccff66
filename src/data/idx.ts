/** IDX files, the format of MNIST and Fashion-MNIST: a big-endian header (magic, sizes), then bytes; gzipped or not. */
import { basename, join } from 'node:path';
import { FileError } from '../runtime/errors.js';
import { makeDataset, Split, type Dataset } from './dataset.js';
import { checkLabels, kindOf, readMeasured } from './files.js';

/** The file `<part>-<what>-idx<dimensions>-ubyte` in `folder`, with a dash or a dot before idx and with or without .gz. */
async function find(folder: string, part: 'train' | 't10k', what: 'images' | 'labels'): Promise<string | undefined> {
  const suffix = `idx${what === 'images' ? 3 : 1}-ubyte`;
  for (const name of [`${part}-${what}-${suffix}`, `${part}-${what}.${suffix}`])
    for (const ending of ['', '.gz']) {
      const path = join(folder, name + ending);
      if ((await kindOf(path)) === 'file') return path;
    }
  return undefined;
}

/** Whether `folder` holds an IDX data set. */
export async function isIdx(folder: string): Promise<boolean> {
  return (await find(folder, 'train', 'images')) !== undefined;
}

/** Reads an IDX file of bytes with so many dimensions. */
async function readIdx(path: string, dimensions: number): Promise<{ sizes: number[]; data: Buffer }> {
  let sizes: number[] = [];
  const magic = 0x0800 + dimensions;
  const data = await readMeasured(path, 4 + 4 * dimensions, (header) => {
    const found = header.readUInt32BE(0);
    const hex = (value: number) => `0x${value.toString(16).padStart(8, '0')}`;
    if (found !== magic) throw new FileError(path, `expected the magic number ${hex(magic)} (bytes in ${dimensions} dimensions), got ${hex(found)}`);
    sizes = Array.from({ length: dimensions }, (_, k) => header.readUInt32BE(4 + 4 * k));
    if (sizes.includes(0)) throw new FileError(path, `expected at least one element, the header says ${sizes.join(' x ')}`);
    return sizes.reduce((product, length) => product * length, 1);
  });
  return { sizes, data };
}

/** Reads the four files in `folder`. Without `classes`, the classes are the numbers up to the largest label. */
export async function openIdx(folder: string, classes?: readonly string[]): Promise<Dataset> {
  const read = async (part: 'train' | 't10k') => {
    const [imagePath, labelPath] = [await find(folder, part, 'images'), await find(folder, part, 'labels')];
    if (!imagePath) throw new FileError(join(folder, `${part}-images-idx3-ubyte`), 'there is no such file, with or without .gz');
    if (!labelPath) throw new FileError(join(folder, `${part}-labels-idx1-ubyte`), 'there is no such file, with or without .gz');
    const { data: labels } = await readIdx(labelPath, 1);
    if (classes) checkLabels(labelPath, labels, classes.length);
    const { sizes, data: pixels } = await readIdx(imagePath, 3);
    const [count, height, width] = sizes as [number, number, number];
    if (count !== labels.length) throw new FileError(imagePath, `expected ${labels.length} images as in ${basename(labelPath)}, got ${count}`);
    if (height !== width) throw new FileError(imagePath, `expected square images, got ${height} x ${width}`);
    return { pixels, labels, channels: 1, size: height, path: imagePath };
  };
  const [train, test] = [await read('train'), await read('t10k')];
  if (train.size !== test.size) throw new FileError(test.path, `expected images of ${train.size} x ${train.size}, got ${test.size} x ${test.size}`);
  const largest = [train, test].reduce((most, { labels }) => labels.reduce((a, b) => Math.max(a, b), most), 0);
  const names = classes ?? Array.from({ length: largest + 1 }, (_, k) => String(k));
  return makeDataset(basename(folder), names, Split.from(train), Split.from(test));
}
