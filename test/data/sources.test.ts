import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync, writeSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ArgumentRangeError, FileError, limitDataset, memory, openDataset, proceduralDataset, type Dataset } from 'a-infonce';
import { live } from '../fixtures/live.js';

let root: string;
beforeEach(() => { root = mkdtempSync(join(tmpdir(), 'a-infonce-data-')); });
afterEach(() => { rmSync(root, { recursive: true, force: true }); });

const at = (...names: string[]) => join(root, ...names);
function write(path: string, data: Uint8Array | string): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, data);
  return path;
}
/** What openDataset throws; it must be a FileError about `path`, and leave no tensor behind. */
async function failure(name: string, path: string, options = {}): Promise<string> {
  const before = memory();
  const error = await openDataset(name, options).then((data: Dataset) => { data.dispose(); throw new Error('it opened'); }, (error: unknown) => error);
  expect(error).toBeInstanceOf(FileError);
  expect((error as FileError).path).toBe(path);
  expect((error as FileError).code).toBe('ERR_FILE');
  expect(memory().tensors).toBeLessThanOrEqual(before.tensors);
  return (error as Error).message;
}

describe('CIFAR binary batches', () => {
  const record = 3073;
  /** Six files of the right size, all zero but for the given records. */
  function cifar10(folder: string) {
    for (const name of ['data_batch_1', 'data_batch_2', 'data_batch_3', 'data_batch_4', 'data_batch_5', 'test_batch'])
      truncateSync(write(join(folder, `${name}.bin`), ''), 10_000 * record);
  }
  const patch = (path: string, index: number, bytes: number[]) => {
    truncateSync(write(path, ''), 10_000 * record);
    const file = openSync(path, 'r+');
    writeSync(file, Uint8Array.from(bytes), 0, bytes.length, index * record);
    closeSync(file);
  };

  it('reads images, labels and class names, by path and by name', async () => {
    const folder = at('cifar-10-batches-bin');
    cifar10(folder);
    patch(join(folder, 'data_batch_3.bin'), 7, [9, ...Array.from({ length: 3072 }, (_, k) => k % 251)]);
    patch(join(folder, 'test_batch.bin'), 9999, [3, 255]);
    using data = await openDataset('cifar10', { root });
    expect([data.name, data.channels, data.size, data.train.length, data.test.length]).toEqual(['cifar10', 3, 32, 50_000, 10_000]);
    expect(data.classes[9]).toBe('truck');
    using image = data.train.images(20_007, 20_008);
    expect(image.shape).toEqual([1, 3, 32, 32]);
    expect(image.toTypedArray()).toEqual(Float32Array.from({ length: 3072 }, (_, k) => Math.fround((k % 251) / 255)));
    using labels = data.train.labels(20_006, 20_009);
    expect(labels.toTypedArray()).toEqual(BigInt64Array.of(0n, 9n, 0n));
    using last = data.test.gatherLabels([9999]);
    expect(last.item()).toBe(3);
  });

  it('names a file that is missing, cut short, too long or mislabelled', async () => {
    const folder = at('cifar-10-batches-bin');
    cifar10(folder);
    const third = join(folder, 'data_batch_3.bin');
    truncateSync(third, 10_000 * record - 1);
    expect(await failure(root, third)).toContain('expected 30730000 bytes, got 30729999');
    truncateSync(third, 10_000 * record + 5);
    expect(await failure(folder, third)).toContain('expected 30730000 bytes, got 30730005');
    patch(third, 12, [10]);
    expect(await failure(folder, third)).toContain('expected labels from 0 to 9, got 10 for image 12');
    rmSync(third);
    expect(await failure(folder, third)).toContain('there is no such file');
  });

  it('reads the fine and the coarse labels of CIFAR-100', async () => {
    const folder = at('cifar-100-binary');
    truncateSync(write(join(folder, 'test.bin'), ''), 10_000 * 3074);
    truncateSync(write(join(folder, 'train.bin'), Buffer.of(19, 99, 51)), 50_000 * 3074);
    using fine = await openDataset(folder);
    expect([fine.name, fine.classes.length, fine.classes[99], fine.train.gatherLabels([0]).item(), fine.train.length]).toEqual(['cifar100', 100, 'worm', 99, 50_000]);
    expect(fine.train.images(0, 1).toTypedArray()[0]).toBe(Math.fround(51 / 255));
    using coarse = await openDataset(folder, { coarse: true });
    expect([coarse.classes.length, coarse.classes[19], coarse.train.gatherLabels([0]).item()]).toEqual([20, 'vehicles_2', 19]);
  });
});

describe('IDX files', () => {
  const header = (magic: number, ...sizes: number[]) => {
    const buffer = Buffer.alloc(4 + 4 * sizes.length);
    [magic, ...sizes].forEach((value, k) => buffer.writeUInt32BE(value, 4 * k));
    return buffer;
  };
  const images = (count: number, side = 4, width = side) =>
    Buffer.concat([header(0x803, count, side, width), Buffer.from(Array.from({ length: count * side * width }, (_, k) => k % 256))]);
  const labels = (...values: number[]) => Buffer.concat([header(0x801, values.length), Buffer.from(values)]);
  function idx(folder: string, files: Partial<Record<string, Buffer>> = {}) {
    const all = {
      'train-images-idx3-ubyte.gz': gzipSync(images(3)), 'train-labels-idx1-ubyte': labels(0, 9, 2),
      't10k-images.idx3-ubyte': images(2), 't10k-labels-idx1-ubyte.gz': gzipSync(labels(1, 1)), ...files,
    };
    for (const [name, data] of Object.entries(all)) write(join(folder, name), data!);
  }

  it('reads plain and gzipped files, with a dash or a dot', async () => {
    idx(at('fashion-mnist'));
    using data = await openDataset('fashion-mnist', { root });
    expect([data.name, data.channels, data.size, data.classes[9], data.train.length, data.test.length]).toEqual(['fashion-mnist', 1, 4, 'Ankle boot', 3, 2]);
    expect(data.train.pixels.toTypedArray()).toEqual(Uint8Array.from({ length: 48 }, (_, k) => k));
    expect(data.train.labels().toTypedArray()).toEqual(BigInt64Array.of(0n, 9n, 2n));
    using own = await openDataset(at('fashion-mnist'));
    expect(own.name).toBe('fashion-mnist');
  });

  it('numbers the classes of a set that it does not know', async () => {
    idx(at('letters'), { 'train-labels-idx1-ubyte': labels(0, 25, 2) });
    using data = await openDataset(at('letters'));
    expect([data.name, data.classes.length]).toEqual(['letters', 26]);
  });

  it.each<[string, string, () => Buffer, string]>([
    ['another magic number', 'train-labels-idx1-ubyte', () => images(3), 'expected the magic number 0x00000801 (bytes in 1 dimensions), got 0x00000803'],
    ['a file that is cut short', 't10k-images.idx3-ubyte', () => images(2).subarray(0, 40), 'expected 48 bytes as the header says, got 40'],
    ['a file that is too long', 't10k-images.idx3-ubyte', () => Buffer.concat([images(2), Buffer.of(0)]), 'expected 48 bytes as the header says, got more'],
    ['a header that is cut short', 't10k-images.idx3-ubyte', () => Buffer.of(0, 0, 8), 'expected a header of 16 bytes, got 3'],
    ['an empty file', 'train-labels-idx1-ubyte', () => Buffer.alloc(0), 'expected a header of 8 bytes, got 0'],
    ['a header that claims terabytes', 't10k-images.idx3-ubyte', () => header(0x803, 2 ** 31, 2 ** 15, 2 ** 15), 'expected at most'],
    ['damaged gzip', 'train-images-idx3-ubyte.gz', () => gzipSync(images(3)).subarray(0, 30), 'cannot be read: unexpected end of file'],
    ['what is not gzip', 'train-images-idx3-ubyte.gz', () => images(3), 'cannot be read: incorrect header check'],
    ['gzip that swells', 't10k-labels-idx1-ubyte.gz', () => gzipSync(Buffer.concat([labels(1, 1), Buffer.alloc(1 << 24)])), 'got more'],
    ['a label that is no class', 'train-labels-idx1-ubyte', () => labels(0, 10, 2), 'expected labels from 0 to 9, got 10 for image 1'],
    ['another number of labels', 'train-images-idx3-ubyte.gz', () => gzipSync(images(4)), 'expected 3 images as in train-labels-idx1-ubyte, got 4'],
    ['images that are not square', 't10k-images.idx3-ubyte', () => images(2, 4, 8), 'expected square images, got 4 x 8'],
    ['images of another size', 't10k-images.idx3-ubyte', () => images(2, 5), 'expected images of 4 x 4, got 5 x 5'],
    ['no images', 't10k-images.idx3-ubyte', () => images(0), 'expected at least one element, the header says 0 x 4 x 4'],
  ])('refuses %s', async (_what, name, make, message) => {
    idx(at('fashion-mnist'), { [name]: make() });
    expect(await failure('fashion-mnist', at('fashion-mnist', name), { root })).toContain(message);
  });

  it('names the file that is missing', async () => {
    idx(at('mnist'));
    rmSync(at('mnist', 't10k-labels-idx1-ubyte.gz'));
    expect(await failure('mnist', at('mnist', 't10k-labels-idx1-ubyte'), { root })).toContain('there is no such file');
  });
});

describe('image folders', () => {
  const image = (color: [number, number, number], width = 6, height = width) =>
    sharp({ create: { width, height, channels: 3, background: { r: color[0], g: color[1], b: color[2] } } });
  const png = async (path: string, color: [number, number, number], width = 6, height = width) => write(path, await image(color, width, height).png().toBuffer());
  async function folders() {
    await png(at('train', 'cat', 'a.png'), [255, 0, 51]);
    write(at('train', 'cat', 'b.webp'), await image([0, 255, 0]).webp({ lossless: true }).toBuffer());
    write(at('train', 'dog', 'c.JPG'), await image([10, 20, 30]).jpeg({ quality: 100, chromaSubsampling: '4:4:4' }).toBuffer());
    write(at('train', 'dog', 'notes.txt'), 'not an image');
    await png(at('test', 'cat', 'd.png'), [1, 2, 3]);
    await png(at('test', 'dog', 'e.png'), [4, 5, 6]);
  }

  it('reads png, jpeg and webp of train and test, planes in order', async () => {
    await folders();
    const seen: number[] = [];
    using data = await openDataset(root, { onProgress: ({ done }) => seen.push(done) });
    expect([data.classes, data.channels, data.size, data.train.length, data.test.length]).toEqual([['cat', 'dog'], 3, 6, 3, 2]);
    const plane = (value: number) => Array<number>(36).fill(value);
    const bytes = data.train.pixels.toTypedArray() as Uint8Array;
    expect([...bytes.subarray(0, 108)]).toEqual([...plane(255), ...plane(0), ...plane(51)]);
    expect([...bytes.subarray(216, 324)]).toEqual([...plane(0), ...plane(255), ...plane(0)]);
    for (const [k, value] of [10, 20, 30].entries()) expect(Math.abs(bytes[108 + 36 * k]! - value)).toBeLessThanOrEqual(2);
    expect(data.train.labels().toTypedArray()).toEqual(BigInt64Array.of(0n, 1n, 0n));
    expect([...data.test.pixels.toTypedArray()].filter((_, k) => k % 36 === 0)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(seen).toEqual([1, 2, 3, 4, 5]);
  });

  it('reads gray files as color, color files as gray, and drops transparency', async () => {
    await folders();
    write(at('train', 'cat', 'a.png'), await image([90, 90, 90]).toColourspace('b-w').png().toBuffer());
    write(at('train', 'cat', 'b.webp'), await image([90, 90, 90]).ensureAlpha(0.5).webp({ lossless: true }).toBuffer());
    using color = await openDataset(root);
    const bytes = color.train.pixels.toTypedArray() as Uint8Array;
    expect(new Set([...bytes.subarray(0, 108), ...bytes.subarray(216)])).toEqual(new Set([90]));
    using gray = await openDataset(root, { channels: 1 });
    expect([gray.channels, gray.train.pixels.shape]).toEqual([1, [3, 1, 6, 6]]);
    expect(new Set(gray.train.pixels.toTypedArray().subarray(0, 36) as Uint8Array)).toEqual(new Set([90]));
  });

  it('resizes when asked, and says so when it must', async () => {
    await folders();
    const odd = await png(at('train', 'dog', 'odd.png'), [1, 1, 1], 12, 6);
    expect(await failure(root, odd)).toContain('expected 6 x 6 pixels of 3 bytes, got 6 x 12 of 3 (to resize: set size, or --image-size)');
    await png(at('train', 'dog', 'odder.png'), [1, 1, 1], 5, 5);
    for (let run = 0; run < 8; run++) expect(await failure(root, odd)).toContain('got 6 x 12');
    using data = await openDataset(root, { size: 4 });
    expect([data.size, data.train.length]).toEqual([4, 5]);
  });

  it('splits a folder of classes by a seed, the same share of each class', async () => {
    for (const name of ['x', 'y']) for (let k = 0; k < 10; k++) await png(at(name, `${k}.png`), [k, 0, 0], 2);
    const reds = (data: Dataset) => [...data.test.pixels.toTypedArray()].filter((_, k) => k % 12 === 0);
    using data = await openDataset(root, { testFraction: 0.3, seed: 1 });
    expect([data.train.length, data.test.length, [...data.test.labels().toTypedArray()]]).toEqual([14, 6, [0n, 1n, 0n, 1n, 0n, 1n]]);
    using again = await openDataset(root, { testFraction: 0.3, seed: 1 });
    using other = await openDataset(root, { testFraction: 0.3, seed: 2 });
    expect(reds(again)).toEqual(reds(data));
    expect(reds(other)).not.toEqual(reds(data));
    expect(await failure(root, root, { testFraction: 0.01 })).toContain('images for both splits');
  });

  it('refuses what is not an image, a cut image, an empty file and an empty class', async () => {
    await folders();
    const fake = write(at('train', 'dog', 'fake.png'), 'GIF? no, text');
    expect(await failure(root, fake)).toContain('cannot be read');
    writeFileSync(fake, (await image([1, 2, 3], 64).png({ compressionLevel: 0 }).toBuffer()).subarray(0, 3000));
    expect(await failure(root, fake, { size: 6 })).toContain('cannot be read');
    writeFileSync(fake, (await image([1, 2, 3]).png().toBuffer()).subarray(0, 20));
    expect(await failure(root, fake)).toMatch(/fake\.png: cannot be read: Input file has corrupt header$/);
    writeFileSync(fake, '');
    expect(await failure(root, fake)).toContain('got 0 bytes');
    // Those in the order of the images, which mixes the classes; the first sets the size where it can be read.
    const others = [write(at('test', 'cat', 'd.png'), 'text'), write(at('train', 'cat', 'a.png'), 'text')];
    expect(await failure(root, others[1]!)).toMatch(/a\.png: cannot be read: .*; nor can 2 more: .*fake\.png, .*d\.png$/);
    for (const each of [fake, ...others]) rmSync(each);
    mkdirSync(at('test', 'emu'));
    expect(await failure(root, at('test'))).toContain('expected the classes of train (cat, dog), got cat, dog, emu');
    mkdirSync(at('train', 'emu'));
    expect(await failure(root, at('train', 'emu'))).toContain('expected images (.png, .jpg, .jpeg, .webp), got none');
  });

  it('follows links to folders, and stops when aborted', async () => {
    await folders();
    symlinkSync(at('train', 'cat'), at('train', 'linked'));
    symlinkSync(at('test', 'cat'), at('test', 'linked'));
    using data = await openDataset(root);
    expect(data.classes).toEqual(['cat', 'dog', 'linked']);
    await expect(openDataset(root, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
    const controller = new AbortController();
    await expect(openDataset(root, { signal: controller.signal, onProgress: () => controller.abort(new Error('midway')) })).rejects.toThrow('midway');
  });
});

describe('openDataset', () => {
  it('says where it looked and what to type', async () => {
    const message = await failure('cifar100', root, { root });
    expect(message).toContain('cifar100 is not here, nor in');
    expect(message).toContain(join(root, 'cifar-100-binary'));
    expect(message).toContain('say so with --data-root <folder> or A_INFONCE_DATA; else type: a-infonce data cifar100');
  });

  it('looks in A_INFONCE_DATA and in the cache', async () => {
    vi.stubEnv('A_INFONCE_DATA', at('data'));
    vi.stubEnv('XDG_CACHE_HOME', at('cache'));
    try {
      const message = await failure('cifar10', at('data', 'cifar-10-batches-bin'));
      expect(message).toContain(at('cache', 'a-infonce', 'data', 'cifar-10-batches-bin'));
    } finally {
      vi.unstubAllEnvs();
    }
  });

  it('refuses paths that are no data set, and bad options', async () => {
    expect(await failure(at('nowhere'), at('nowhere'))).toContain('there is no such folder');
    expect(await failure(root, root)).toContain('got none of them');
    expect(await failure(write(at('cifar-10-binary.tar.gz'), 'x'), at('cifar-10-binary.tar.gz'))).toContain('got an archive: unpack it first');
    await expect(openDataset('cifar10', { rot: root } as never)).rejects.toThrow('options.rot');
    await expect(openDataset(root, { channels: 2 as never })).rejects.toThrow(ArgumentRangeError);
    await expect(openDataset(root, { testFraction: 1 })).rejects.toThrow('options.testFraction');
    await expect(openDataset(5 as never)).rejects.toThrow('nameOrPath');
  });
});

describe('Split', () => {
  it('gives batches and copies, checks rows, and outlives the scope it was made in', async () => {
    const { scope, tensor, proceduralDataset } = await import('a-infonce');
    const before = await live();
    let made: Dataset | undefined;
    scope(() => { made = proceduralDataset({ train: 40, test: 10 }); });
    const { train } = made!;
    const bytes = train.pixels.toTypedArray() as Uint8Array;
    scope(() => {
      const all = train.images();
      // Number by number this would take a second.
      const exact = Float32Array.from(bytes, (byte) => Math.fround(byte / 255));
      expect(Buffer.from(all.toTypedArray().buffer).equals(Buffer.from(exact.buffer))).toBe(true);
      const some = train.gather([3, 0, 3]);
      const image = 3 * 32 * 32;
      expect(some.toTypedArray().subarray(0, image)).toEqual(all.toTypedArray().subarray(3 * image, 4 * image));
      expect(some.shape).toEqual([3, 3, 32, 32]);
      expect(train.gather(tensor(BigInt64Array.of(3n, 0n, 3n))).toTypedArray()).toEqual(some.toTypedArray());
      expect(train.gather(Int32Array.of(3, 0, 3)).toTypedArray()).toEqual(some.toTypedArray());
      expect(train.images(40).shape).toEqual([0, 3, 32, 32]);
      for (const bad of [[40], [-1], [0.5], [NaN], BigInt64Array.of(40n), tensor(BigInt64Array.of(-1n))]) expect(() => train.gather(bad)).toThrow('indices');
      expect(() => train.gather('1' as never)).toThrow('indices');
      expect(() => train.gather(tensor([1, 2]))).toThrow('int64');
      expect(() => train.images(0, 41)).toThrow('end');
      expect(() => train.images(5, 4)).toThrow('end');
    });
    using few = train.subset(25);
    const counts = Array.from({ length: 10 }, (_, k) => few.labels().toTypedArray().filter((label) => label === BigInt(k)).length);
    expect(counts).toEqual([3, 3, 3, 3, 3, 2, 2, 2, 2, 2]);
    using last = train.subset([39]);
    expect(last.pixels.toTypedArray()).toEqual(bytes.subarray(39 * 3072));
    expect(() => train.subset(41)).toThrow('which');
    few.dispose();
    last.dispose();
    made!.dispose();
    made!.dispose();
    expect(memory().bytes - before.bytes).toBeLessThan(10_000);
  });

  it('limits the training images, of its own or beside the whole', async () => {
    const { tensors: before } = await live();
    using whole = proceduralDataset({ train: 40, test: 10, size: 8 });
    const open = memory().tensors;
    expect([limitDataset(whole, undefined), limitDataset(whole, 40)]).toEqual([whole, whole]);
    {
      using beside = limitDataset(whole, 25, { keep: true });
      expect([beside.train.length, beside.test, whole.train.length]).toEqual([25, whole.test, 40]);
    }
    expect(memory().tensors).toBe(open);
    using image = whole.train.images(39);
    expect(image.shape).toEqual([1, 3, 8, 8]);
    expect(() => limitDataset(whole, 0)).toThrow(/^images/);
    {
      using own = limitDataset(whole, 25);
      expect(own.train.length).toBe(25);
    }
    image.dispose();
    whole.dispose();
    expect(memory().tensors).toBe(before);
  });
});
