/** Opening data sets by name or path. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { ArgumentRangeError, check, FileError } from '../runtime/errors.js';
import { CIFAR10, CIFAR100, openCifar } from './cifar.js';
import type { Dataset } from './dataset.js';
import { kindOf } from './files.js';
import { isImageFolder, openFolder, type FolderOptions } from './folder.js';
import { isIdx, openIdx } from './idx.js';
import { proceduralDataset, type ProceduralOptions } from './procedural.js';

/** Options of {@link openDataset}. */
export interface OpenOptions extends FolderOptions {
  /** The folder to look in first. */
  root?: string;
  /** The 20 superclasses of CIFAR-100 instead of its 100 classes. */
  coarse?: boolean;
  /** For `'procedural'`: how many images of which size, and the seed. */
  procedural?: ProceduralOptions;
}

const FASHION_CLASSES = ['T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'];
const MNIST_CLASSES = Array.from({ length: 10 }, (_, k) => String(k));

/** The data sets that are known by name, and the folder inside a root that holds each. */
const known = {
  'cifar10': { folder: 'cifar-10-batches-bin', has: async (folder: string) => (await kindOf(join(folder, 'data_batch_1.bin'))) === 'file' },
  'cifar100': { folder: 'cifar-100-binary', has: async (folder: string) => (await kindOf(join(folder, 'train.bin'))) === 'file' },
  'fashion-mnist': { folder: 'fashion-mnist', has: isIdx },
  'mnist': { folder: 'mnist', has: isIdx },
};
export type DatasetName = keyof typeof known;

/** The data sets that are read from disk by name (`'procedural'` needs no disk). */
export const DATASETS = Object.keys(known) as readonly DatasetName[];

/** Where downloaded data sets are kept: `$XDG_CACHE_HOME/a-infonce/data`, or `~/.cache/a-infonce/data`. */
export function dataCacheFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'a-infonce', 'data');
}

/**
 * Opens a data set and reads it into memory.
 *
 * By name, `'cifar10'`, `'cifar100'`, `'fashion-mnist'` and `'mnist'` are looked for in `options.root` (itself, or a folder in it), in the folder that the environment variable
 * A_INFONCE_DATA names, in {@link dataCacheFolder}, and where system packages put them; `'procedural'` is made on the spot. By path: a folder of CIFAR
 * binary batches, of IDX files (gzipped or not), or of images (train/<class>/* with test/<class>/*, or <class>/*). Nothing is unpacked or downloaded.
 * @throws FileError naming the file and what is wrong with it, or what to type when the data set is not there
 * @example
 * ```ts
 * using data = await openDataset('procedural');
 * using batch = data.test.images(0, 128);   // float32 [128, 3, 32, 32]
 * ```
 */
export async function openDataset(nameOrPath: string, options: OpenOptions = {}): Promise<Dataset> {
  check.string('nameOrPath', nameOrPath);
  check.options('options', options, ['root', 'coarse', 'procedural', 'size', 'channels', 'testFraction', 'seed', 'signal', 'onProgress']);
  if (options.size !== undefined) check.integer('options.size', options.size, { min: 1, max: 4096 });
  if (options.channels !== undefined && options.channels !== 1 && options.channels !== 3)
    throw new ArgumentRangeError('options.channels', '1 or 3', String(options.channels));
  if (options.testFraction !== undefined) check.finite('options.testFraction', options.testFraction, { above: 0, below: 1 });
  if (options.seed !== undefined) check.integer('options.seed', options.seed, { min: 0 });
  check.signal('options.signal', options.signal)?.throwIfAborted();
  if (nameOrPath === 'procedural') return proceduralDataset(options.procedural);
  if (Object.hasOwn(known, nameOrPath)) return openKnown(nameOrPath as DatasetName, options);
  const path = resolve(nameOrPath);
  return { ...(await openPath(path, options)), path };
}

/** What a run records of its data. */
export interface RecordedData extends Pick<OpenOptions, 'procedural'> {
  name: string;
  /** The folder that they were read from; not told by older runs. */
  path?: string | undefined;
  /** How many training images. */
  images?: number | undefined;
  /** Height and width, to which those of a folder were resized if they had another. */
  size?: number | undefined;
  /** Of the pixels of the training images. */
  sha256?: string | undefined;
}

/**
 * Opens the data that a run has recorded where they were, or by their name; another `options.size` than the recorded one is what its images are resized to.
 * @throws FileError where they are not there any more, or others are in their place
 */
export async function openRecorded({ name, path, procedural, images, size, sha256 }: RecordedData, options: OpenOptions = {}): Promise<Dataset> {
  const isKnown = Object.hasOwn(known, name), there = path !== undefined && (await kindOf(path)) !== undefined;
  const elsewhere = `If they lie elsewhere, say where: --data <folder>${isKnown || size === undefined ? '' : ` --image-size ${options.size ?? size}`}`;
  const byItsName = name === 'procedural' || (isKnown ? (await findDataset(name as DatasetName, options)) !== undefined || path === undefined : path === undefined && (await kindOf(resolve(name))) !== undefined);
  if (!there && !byItsName) throw new FileError(path ?? resolve(name), `there is no such folder, from which the images of the run were read. ${elsewhere}`);
  // A folder of images may have the name of a data set.
  const byName = !there || (isKnown && (options.root !== undefined || (await findDataset(name as DatasetName, { root: path })) === path));
  const root = options.root ?? (there && byName ? path : undefined);
  const at = (side: number | undefined) => openDataset(byName ? name : path, { ...options, size: side, procedural, ...(root !== undefined && { root }) });
  if (sha256 === undefined) return at(options.size ?? size);
  const data = await at(size);
  const train = images !== undefined && images < data.train.length ? data.train.subset(images) : data.train, found = train.sha256({ labels: false });
  if (train !== data.train) train.dispose();
  if (found === sha256 && (options.size ?? data.size) === data.size) return data;
  data.dispose();
  if (found === sha256) return at(options.size);
  throw new FileError(data.path ?? name, `these are not the images of the run (SHA-256 ${found.slice(0, 12)}..., recorded ${sha256.slice(0, 12)}...). ${elsewhere}`);
}

/**
 * Where a data set known by name lies, without opening it: a folder, or undefined where it is in none of the places that {@link openDataset} looks in.
 * @throws ArgumentRangeError for a name that is not one of {@link DATASETS}
 */
export async function findDataset(name: DatasetName, options: Pick<OpenOptions, 'root'> = {}): Promise<string | undefined> {
  check.oneOf('name', name, DATASETS);
  for (const place of await placesOf(name, options)) if (await known[name].has(place)) return place;
  return undefined;
}

async function openKnown(name: DatasetName, options: OpenOptions): Promise<Dataset> {
  const found = await findDataset(name, options);
  if (found !== undefined) return { ...(await openAs(name, found, options)), path: found };
  const [first, ...others] = await placesOf(name, options);
  throw new FileError(first!, `${name} is not here, nor in ${others.join(', ')}. If it lies elsewhere, say so with --data-root <folder> or A_INFONCE_DATA; else type: a-infonce data ${name}`);
}

async function placesOf(name: DatasetName, { root }: Pick<OpenOptions, 'root'>): Promise<Set<string>> {
  const own = root ? [resolve(root)] : [];
  const roots = [...own, ...(process.env['A_INFONCE_DATA'] ? [resolve(process.env['A_INFONCE_DATA'])] : []), dataCacheFolder()];
  return new Set([...own, ...roots.flatMap((each) => [join(each, known[name].folder), join(each, name)]), ...(await systemFolders(name))]);
}

async function openPath(path: string, options: OpenOptions): Promise<Dataset> {
  const kind = await kindOf(path);
  if (kind === undefined) throw new FileError(path, `there is no such folder (data sets known by name: ${Object.keys(known).join(', ')}, procedural)`);
  if (kind !== 'folder') throw new FileError(path, /\.(tar|tgz|gz|xz|zip)$/.test(path) ? 'expected a folder, got an archive: unpack it first' : 'expected a folder, got a file');
  for (const name of ['cifar10', 'cifar100'] as const)
    for (const folder of [path, join(path, known[name].folder)]) if (await known[name].has(folder)) return openAs(name, folder, options);
  if (await isIdx(path)) return /fashion/i.test(path) ? openAs('fashion-mnist', path, options) : openIdx(path);
  if (await isImageFolder(path)) return openFolder(path, options);
  throw new FileError(path, 'expected CIFAR binary batches, IDX files, or a folder of images for each class, got none of them');
}

async function openAs(name: DatasetName, folder: string, { coarse }: OpenOptions): Promise<Dataset> {
  switch (name) {
    case 'cifar10': return openCifar(folder, CIFAR10);
    case 'cifar100': return openCifar(folder, CIFAR100, coarse);
    case 'fashion-mnist': return { ...(await openIdx(folder, FASHION_CLASSES)), name };
    case 'mnist': return { ...(await openIdx(folder, MNIST_CLASSES)), name };
  }
}

/** Folders of Debian's packages: the usual one, and the one in the package's list of files. */
async function systemFolders(name: DatasetName): Promise<string[]> {
  const listed = await readFile(`/var/lib/dpkg/info/dataset-${name}.list`, 'utf8').catch(() => '');
  const file = listed.split('\n').find((line) => line.includes('/train-images'));
  return [...new Set([`/usr/share/datasets/${name}`, ...(file ? [dirname(file)] : [])])];
}
