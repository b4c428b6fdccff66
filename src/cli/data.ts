/** The data set of a command: the one that is asked for, or the one that the run was trained on. */
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Option } from 'commander';
import type { RecordedData } from '../data/open.js';
import type { Classifier, Dataset, Encoder, Model, PretrainConfig } from '../index.js';
import type { Context } from './command.js';
import { UsageError } from './failure.js';
import { integer } from './options.js';
import { counted } from './output.js';
import { Progress } from './progress.js';

export interface DataOptions {
  data?: string;
  dataRoot?: string;
  imageSize?: number;
}

export const dataOptions = (fallback: string): Option[] => [
  new Option('--data <name|folder>', `a data set by name (see: a-infonce data) or folder; default: ${fallback}`),
  new Option('--data-root <folder>', 'where to look for it first'),
  new Option('--image-size <n>', 'resize the images of a folder to n x n pixels').argParser(integer({ min: 1, max: 4096 })),
];

/** What a command takes from the configuration of a run. */
export interface RecordedRun {
  folder: string;
  preset: string;
  data: RecordedData;
  evaluation?: Pick<PretrainConfig['evaluation'], 'pgd20'> | undefined;
  /** All of it, as it was written. */
  config: unknown;
}

/**
 * What the configuration of the run at `path` (its folder, or a file in it) says, if there is one: beside a file, config.json may be anybody's.
 * @throws FileError when it is damaged
 */
export async function recordedRun(path: string): Promise<RecordedRun | undefined> {
  const there = await stat(path).catch(() => undefined);
  if (!there) return undefined;
  const { checkJson, readJson } = await import('../runtime/json.js'), { recordedConfig } = await import('../training/schema.js'), { z } = await import('zod');
  const folder = there.isDirectory() ? path : dirname(path), file = join(folder, 'config.json');
  const config = await readJson(file, z.looseObject({}));
  if (config === undefined || 'reproduction' in config || (there.isFile() && !('preset' in config))) return undefined;
  const { preset, data, evaluation } = checkJson(recordedConfig, config, file);
  return { folder, preset, data, evaluation, config };
}

/** Throws unless the images have as many channels as the network takes; a TorchScript model does not tell. */
export function requireChannels({ name, channels }: Dataset, model: Model | Encoder): void {
  if (!('config' in model)) return;
  const { config } = model as Classifier | Encoder, taken = 'encoder' in config ? config.encoder.channels : config.channels;
  if (channels !== taken) throw new UsageError(`--data: ${name} has ${counted(channels, 'channel')}, the network takes ${taken}`);
}

/** Opens what --data names, else `recorded`, and no other images under its name; those of a folder that --data names are resized to `fallbackSize`, if any. */
export async function openData({ output, signal }: Context, { data, dataRoot, imageSize }: DataOptions, recorded?: RecordedData, fallbackSize?: number): Promise<Dataset> {
  const name = data ?? recorded?.name;
  if (name === undefined) throw new UsageError('which data? --data <name|folder>; the names: a-infonce data');
  const { openDataset, openRecorded } = await import('../data/open.js');
  using progress = new Progress(output, { label: `Reading ${name}`, rate: (images) => `${Math.round(images)} images/s` });
  const options = { root: dataRoot, size: imageSize, signal, onProgress: ({ done, total }: { done: number; total: number }) => progress.outOf(total).update(done) };
  const { procedural, size = fallbackSize } = recorded !== undefined && data === recorded.name ? recorded : {} as Partial<RecordedData>;
  const opened = data === undefined ? await openRecorded(recorded!, options) : await openDataset(data, { ...options, size: imageSize ?? size, procedural });
  if (imageSize === undefined || imageSize === opened.size) return opened;
  opened.dispose();
  throw new UsageError(`--image-size: ${name} has images of ${opened.size} x ${opened.size}; only those of a folder of images are resized`);
}
