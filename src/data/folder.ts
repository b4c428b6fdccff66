/** Folders of images, one folder a class. */
import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, extname, join } from 'node:path';
import { FileError } from '../runtime/errors.js';
import { makeDataset, Split, type Dataset } from './dataset.js';
import { fileError, kindOf, MAX_BYTES } from './files.js';
import { loadSharp } from './sharp.js';

/** How a folder of images is read. */
export interface FolderOptions {
  /** Resizes every image to this height and width (the shorter side is fitted, the longer one cropped). Default: all images must be square and of one size. */
  size?: number;
  /** 1 reads gray, 3 (default) color images. */
  channels?: 1 | 3;
  /** For a folder without train/ and test/: the share of each class that becomes the test split. Default 0.2. */
  testFraction?: number;
  /** Chooses that share. Default 0. */
  seed?: number;
  /** Stops reading. */
  signal?: AbortSignal;
  /** Called as images are read. */
  onProgress?: (progress: { done: number; total: number }) => void;
}

const endings = new Set(['.png', '.jpg', '.jpeg', '.webp']);
const largestFile = 256 * 2 ** 20;

interface Item {
  path: string;
  label: number;
}

/** Whether `folder` holds train/<class>/<image> or <class>/<image>. */
export async function isImageFolder(folder: string): Promise<boolean> {
  const inner = (await kindOf(join(folder, 'train'))) === 'folder' ? join(folder, 'train') : folder;
  const [first] = await foldersIn(inner).catch(() => []);
  return first !== undefined && (await imagesIn(join(inner, first))).length > 0;
}

/** Reads train/<class>/* and test/<class>/*, or <class>/* split by a seed. Images are png, jpeg or webp; other files are passed over. */
export async function openFolder(folder: string, options: FolderOptions = {}): Promise<Dataset> {
  const { testFraction = 0.2, seed = 0 } = options;
  const [trainFolder, testFolder] = [join(folder, 'train'), join(folder, 'test')];
  const given = (await kindOf(trainFolder)) === 'folder';
  const classes = await foldersIn(given ? trainFolder : folder);
  if (classes.length === 0) throw new FileError(given ? trainFolder : folder, 'expected a folder of images for each class, got none');
  let train = await itemsOf(given ? trainFolder : folder, classes);
  let test: Item[];
  if (given) {
    const others = await foldersIn(testFolder).catch((error: unknown) => { throw fileError(testFolder, error); });
    if (others.join('/') !== classes.join('/'))
      throw new FileError(testFolder, `expected the classes of train (${list(classes)}), got ${list(others)}`);
    test = await itemsOf(testFolder, classes);
  } else {
    const chosen = testShare(train, classes.length, testFraction, seed, folder);
    test = train.filter((item) => chosen.has(item));
    train = train.filter((item) => !chosen.has(item));
  }
  [train, test] = [mixed(train), mixed(test)];
  const items = [...train, ...test];
  const { pixels, channels, size } = await decode(items, options);
  const bytes = channels * size * size;
  const split = (from: number, part: Item[]) =>
    Split.from({ pixels: pixels.subarray(from * bytes, (from + part.length) * bytes), labels: part.map(({ label }) => label), channels, size });
  return makeDataset(basename(folder), classes, split(0, train), split(train.length, test));
}

async function foldersIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const kinds = await Promise.all(entries.map(async (entry) =>
    !entry.name.startsWith('.') && (entry.isDirectory() || (entry.isSymbolicLink() && (await kindOf(join(folder, entry.name))) === 'folder'))));
  return entries.filter((_, k) => kinds[k]).map(({ name }) => name).sort();
}

async function imagesIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => !name.startsWith('.') && endings.has(extname(name).toLowerCase())).sort();
}

async function itemsOf(folder: string, classes: string[]): Promise<Item[]> {
  const items: Item[] = [];
  for (const [label, name] of classes.entries()) {
    const images = await imagesIn(join(folder, name));
    if (images.length === 0) throw new FileError(join(folder, name), `expected images (${[...endings].join(', ')}), got none`);
    for (const image of images) items.push({ path: join(folder, name, image), label });
  }
  return items;
}

/** The classes spread evenly over the whole, each in the order of its names: the first n items hold each class in its share. */
function mixed(items: Item[]): Item[] {
  const sizes = new Map<number, number>(), seen = new Map<number, number>();
  const count = (of: Map<number, number>, label: number) => of.set(label, (of.get(label) ?? 0) + 1).get(label)!;
  for (const { label } of items) count(sizes, label);
  return items.map((item) => ({ item, at: (count(seen, item.label) - 0.5) / sizes.get(item.label)! }))
    .sort((a, b) => a.at - b.at || a.item.label - b.item.label).map(({ item }) => item);
}

/** The same share of each class, in the order of a hash of seed and name: a file stays on its side when others come or go. */
function testShare(items: Item[], classes: number, fraction: number, seed: number, folder: string): Set<Item> {
  const key = ({ path }: Item) => createHash('sha256').update(`${seed}/${path.slice(folder.length)}`).digest('hex');
  const chosen = new Set<Item>();
  for (let label = 0; label < classes; label++) {
    const keyed = items.filter((item) => item.label === label).map((item) => ({ item, key: key(item) })).sort((a, b) => (a.key < b.key ? -1 : 1));
    const count = Math.round(fraction * keyed.length);
    if (count === 0 || count === keyed.length)
      throw new FileError(folder, `expected images for both splits in every class, got ${keyed.length} in class ${label} for a test share of ${fraction}`);
    for (const { item } of keyed.slice(0, count)) chosen.add(item);
  }
  return chosen;
}

/** All images as bytes [items, channels, size, size]. The first one sets the size when none is given. All that cannot be read are named at once. */
async function decode(items: Item[], { size: wanted, channels = 3, signal, onProgress }: FolderOptions) {
  const open = await loadSharp();
  const read = async (path: string) => {
    signal?.throwIfAborted();
    try {
      const { size: bytes } = await stat(path);
      if (bytes === 0 || bytes > largestFile) throw new FileError(path, `expected an image of 1 to ${largestFile} bytes, got ${bytes} bytes`);
      let image = open(path, { failOn: 'warning' });
      if (wanted !== undefined) image = image.resize(wanted, wanted, { fit: 'cover' });
      return await image.removeAlpha().toColourspace(channels === 1 ? 'b-w' : 'srgb').raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    } catch (error) {
      throw fileError(path, error);
    }
  };
  const unreadable = new Map<number, FileError>();
  const attempt = (k: number) => read(items[k]!.path).catch((error: unknown) => {
    if (!(error instanceof FileError)) throw error;
    unreadable.set(k, error);
  });
  const size = wanted ?? (await attempt(0))?.info.height ?? 0;  // 0: only to see which others cannot be read
  const bytes = channels * size * size;
  if (items.length * bytes > MAX_BYTES)
    throw new FileError(items[0]!.path, `expected at most ${MAX_BYTES} bytes of pixels in all, got ${items.length} images of ${bytes} (set size or --image-size)`);
  const pixels = new Uint8Array(items.length * bytes);
  let next = 0;
  let done = 0;
  let failed: { k: number; error: unknown } | undefined;
  const take = async (k: number) => {
    const image = await attempt(k);
    if (!image || size === 0) return;
    const { data, info } = image;
    if (info.height !== size || info.width !== size || info.channels !== channels)
      throw new FileError(items[k]!.path, `expected ${size} x ${size} pixels of ${channels} bytes, got ${info.height} x ${info.width} of ${info.channels} (to resize: set size, or --image-size)`);
    // Pixel by pixel to plane by plane.
    for (let c = 0, to = k * bytes; c < channels; c++) for (let from = c; from < bytes; from += channels) pixels[to++] = data[from]!;
    onProgress?.({ done: ++done, total: items.length });
  };
  const worker = async () => {
    for (let k = next++; k < items.length; k = next++)
      await take(k).catch((error: unknown) => {
        next = items.length;  // the other workers stop
        // All before k are taken already: whichever fails first, the first in order is named.
        if (!failed || k < failed.k) failed = { k, error };
      });
  };
  await Promise.all(Array.from({ length: 2 * availableParallelism() }, worker));
  const [first, ...others] = [...unreadable.keys()].sort((a, b) => a - b);
  if (failed && (!(failed.error instanceof FileError) || first === undefined || failed.k < first)) throw failed.error;
  if (first !== undefined) {
    const error = unreadable.get(first)!, { path } = error;
    throw others.length === 0 ? error
      : new FileError(path, `${error.message.slice(path.length + 2)}; nor can ${others.length} more: ${list(others.map((k) => items[k]!.path))}`, { cause: error });
  }
  return { pixels, channels, size };
}

function list(names: string[]): string {
  return names.length <= 6 ? names.join(', ') : `${names.slice(0, 5).join(', ')} and ${names.length - 5} more`;
}
