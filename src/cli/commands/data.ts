import { basename } from 'node:path';
import { Argument, Option } from 'commander';
import type { DatasetName, DownloadOptions } from '../../index.js';
import { define, type Context } from '../command.js';
import { UsageError } from '../failure.js';
import { bytes, table } from '../output.js';
import { Progress } from '../progress.js';

interface Options {
  list?: boolean;
  dataRoot?: string;
  mirror?: string;
}

export const data = define<Options>({
  name: 'data',
  summary: 'list the data sets and where they are; download one',
  description: 'Without a name: the data sets that are known by name and where they were found. With one: fetches it from its official address, ' +
    'verifies it, and puts it where every command finds it. A transfer that broke off goes on where it stopped.',
  arguments: [new Argument('[name]', 'the data set to download')],
  options: [
    new Option('--list', 'list them (as without a name)'),
    new Option('--data-root <folder>', 'a folder to look in first, or to download to; default: the cache'),
    new Option('--mirror <url>', 'download from here: an address with the files under their official names'),
  ],
  examples: [
    ['a-infonce data', 'what there is'],
    ['a-infonce data cifar10', 'fetch CIFAR-10 (170 MB)'],
  ],
  async action(context, options, name) {
    if (name === undefined || options.list) return list(context, options);
    await fetch(context, options, name);
  },
});

async function list({ output }: Context, { dataRoot: root }: Options): Promise<void> {
  const { dataCacheFolder, DATASETS, findDataset } = await import('../../index.js');
  const found = await Promise.all(DATASETS.map(async (name) => ({ name: name as string, folder: (await findDataset(name, { root })) ?? null })));
  const cache = dataCacheFolder();
  output.result({ cache, dataSets: [...found, { name: 'procedural', folder: null, builtIn: true }] }, [
    ...table([
      ['name', 'where'],
      ...found.map(({ name, folder }) => [name, folder ?? `not here; to fetch it: a-infonce data ${name}`]),
      ['procedural', 'made on the spot'],
    ], Infinity),
    '', 'A folder of CIFAR binary batches, IDX files or images (train/<class>/*, test/<class>/*) can be given in place of a name.',
  ]);
}

async function fetch({ output, signal }: Context, { dataRoot: root, mirror }: Options, name: string): Promise<void> {
  const { DATASETS, DOWNLOADABLE, downloadDataset, findDataset } = await import('../../index.js');
  if (name === 'procedural') throw new UsageError('procedural is made on the spot: there is nothing to download');
  if (!(DOWNLOADABLE as readonly string[]).includes(name)) throw new UsageError(`there is no data set '${name}' to download; there are ${DOWNLOADABLE.join(', ')}`);
  const there = (DATASETS as readonly string[]).includes(name) ? await findDataset(name as DatasetName, { root }) : undefined;
  if (there !== undefined) return output.result({ name, folder: there, downloaded: false }, [`${name} is here already: ${there}`]);
  let file: string | undefined;
  let progress: Progress | undefined;
  const options: DownloadOptions = {
    dir: root, baseUrl: mirror, signal,
    onProgress({ file: now, received, total }) {
      if (now !== file) {
        progress?.stop();
        progress = new Progress(output, { label: basename((file = now)), from: received, total, rate: (each) => `${bytes(each)}/s` });
      }
      progress!.update(received, total === undefined ? bytes(received) : `${bytes(received)} of ${bytes(total)}`);
    },
  };
  try {
    const folder = await downloadDataset(name as DatasetName, options);
    progress?.stop();
    output.result({ name, folder, downloaded: true }, [`${name}: ${folder}`]);
  } finally {
    progress?.stop();
  }
}
