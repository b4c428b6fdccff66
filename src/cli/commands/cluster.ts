import { extname } from 'node:path';
import { Argument, InvalidArgumentError, Option } from 'commander';
import type { ClusterOptions, Dataset, Encoder, PseudoLabels, TorchScriptModel } from '../../index.js';
import type { RecordedData } from '../../data/open.js';
import { CLUSTERS } from '../../training/names.js';
import { define, type Context } from '../command.js';
import { dataOptions, openData, recordedRun, requireChannels, type DataOptions } from '../data.js';
import { UsageError } from '../failure.js';
import { countOption, integers } from '../options.js';
import { counted, table } from '../output.js';
import { Progress } from '../progress.js';
import { checkPlace, checkSource, typed } from '../run-folder.js';

interface Options extends DataOptions {
  check?: string;
  k?: number[];
  algorithm?: ClusterOptions['algorithm'];
  batchSize?: number;
  restarts?: number;
  maxIterations?: number;
  branch?: string;
  limit?: number;
  out?: string;
}

const DEFAULT_OUT = 'labels.safetensors';

export const cluster = define<Options>({
  name: 'cluster',
  summary: 'make pseudo-labels from the features of an encoder',
  description: 'Finds clusters (k-means) among the features of the training images and writes which image is in which to a safetensors file, for the\n' +
    'methods that learn from pseudo-labels. With --check: looks at a file of labels that others made (.npy, .json, .safetensors), and converts it with --out.',
  arguments: [new Argument('[encoder]', 'the folder of a run, an encoder as .safetensors, or a TorchScript model that gives features as .pt')],
  options: [
    ...dataOptions("the run's"),
    new Option('--k <numbers>', 'how many clusters, with commas between; default: 2,10,50,100,500').argParser(counts),
    countOption('restarts', 'runs of which the best is kept; default: 10'),
    new Option('--algorithm <name>', 'how centres move; default: mini-batch').choices(['mini-batch', 'lloyd']),
    countOption('batch-size', 'rows of a mini-batch; default: 1024'),
    countOption('max-iterations', 'passes over the features, at most; default: 100'),
    new Option('--branch <name>', "the encoder's BatchNorm branch; default: its first"),
    countOption('limit', 'so many training images, as pretrain --limit takes them'),
    new Option('--out <file>', `where to write the labels; default: ${DEFAULT_OUT}`),
    new Option('--check <file>', 'only check the labels in this file; with --out, write them there'),
  ],
  examples: [
    ['a-infonce cluster runs/simclr --data cifar10', "AdvCL's pseudo-labels in labels.safetensors"],
    ['a-infonce cluster runs/simclr --k 10 --restarts 20 --algorithm lloyd', 'one set of labels, more thoroughly'],
    ['a-infonce cluster --check labels.npy --data cifar10 --out labels.safetensors', 'labels from elsewhere'],
  ],
  async action(context, options, from) {
    if (options.check !== undefined) return checkLabels(context, options, options.check, from);
    if (from === undefined) throw new UsageError('which encoder? a-infonce cluster <encoder>, or --check <file> for labels that are there');
    const { output, signal } = context;
    const { out = DEFAULT_OUT, k, algorithm, batchSize, restarts, maxIterations, branch, seed } = options;
    await checkPlace(out, 'labels', [from], DEFAULT_OUT);
    const run = await recordedRun(from);
    using model = await loadEncoder(context, from);
    using data = await openPart(context, options, run?.data);
    requireChannels(data, model);
    const { cluster: find, writePseudoLabels } = await import('../../index.js');
    const bars: { encode?: Progress; cluster?: Progress } = {};
    const wanted = k ?? CLUSTERS;
    const images = data.train.length, fitting = wanted.filter((each) => each <= images);
    if (fitting.length < wanted.length)
      throw new UsageError(`--k: expected at most ${images}, the number of images, got ${wanted.join(',')}. Those that fit: --k ${fitting.join(',') || Math.min(10, images)}`);
    try {
      using found = await find(model, data, {
        k: wanted, algorithm, batchSize, restarts, maxIterations, branch, seed, signal, encoder: from,
        onProgress: (event) => {
          if (event.type === 'encode') {
            bars.encode ??= new Progress(output, { label: 'Encoding', total: event.total, rate: (images) => `${Math.round(images)} images/s` });
            return bars.encode.update(event.done);
          }
          bars.encode?.stop();
          bars.cluster ??= new Progress(output, { label: 'Clustering', total: wanted.length * event.restarts });
          bars.cluster.update(wanted.indexOf(event.k) * event.restarts + event.restart, `k ${event.k}`, `pass ${event.iteration}`);
        },
      });
      bars.cluster?.stop();
      await writePseudoLabels(out, found);
      const scores = [...found.scores].map(([k, { inertia, iterations, sizes }]) => ({ k, inertia, iterations, ...extremes(sizes) }));
      output.result({ out, data: data.name, images: found.images, clusters: scores }, [
        ...table([['clusters', 'inertia', 'passes', 'smallest', 'largest'],
          ...scores.map((each) => [String(each.k), each.inertia.toPrecision(6), String(each.iterations), String(each.smallest), String(each.largest)])]),
        `labels of ${found.images} images are in ${out}`,
      ]);
    } finally {
      bars.encode?.stop();
      bars.cluster?.stop();
    }
    await next(context, data, out, wanted);
  },
});

const extremes = (sizes: number[]) => ({ smallest: Math.min(...sizes), largest: Math.max(...sizes) });

async function checkLabels(context: Context, options: Options, path: string, encoder: string | undefined): Promise<void> {
  if (encoder !== undefined) throw new UsageError('--check looks at a file of labels: it takes no encoder');
  if (options.k !== undefined && options.k.length !== 1) throw new UsageError('--k with --check is the number of classes of the one list in the file');
  const { readPseudoLabels, writePseudoLabels } = await import('../../index.js');
  const { classSizes } = await import('../../training/pseudo-labels.js');
  if (options.out !== undefined) await checkPlace(options.out, 'labels', [path], DEFAULT_OUT);
  using data = await openPart(context, options);
  const sha256 = data.train.sha256({ labels: false });
  using found: PseudoLabels = await readPseudoLabels(path, { images: data.train.length, sha256, k: options.k?.[0] });
  const rows = [...found.labels].map(([k, labels]) => ({ k, ...extremes(classSizes(labels, k)) }));
  if (options.out !== undefined) await writePseudoLabels(options.out, { ...found, source: { ...found.source, data: data.name, sha256 } });
  context.output.result({ file: path, out: options.out, data: data.name, images: found.images, clusters: rows }, [
    ...table([['classes', 'smallest', 'largest'], ...rows.map(({ k, smallest, largest }) => [String(k), String(smallest), String(largest)])]),
    `${path}: labels of the ${counted(found.images, 'training image')} of ${data.name}${options.out === undefined ? '' : `; written to ${options.out}`}`,
  ]);
  await next(context, data, options.out ?? path, [...found.labels.keys()]);
}

/** The data set, with so many training images as --limit says or the run was trained on. */
async function openPart(context: Context, options: Options, recorded?: RecordedData): Promise<Dataset & { limit?: number }> {
  const { limitDataset } = await import('../../index.js');
  const whole = await openData(context, options, recorded), images = whole.train.length;
  const data = limitDataset(whole, options.limit ?? (options.data === undefined ? recorded?.images : undefined));
  return data.train.length < images ? { ...data, limit: data.train.length } : data;
}

/** What to type to train with the labels, on the very images that they are of. */
async function next({ output }: Context, { name, path, procedural, size, limit }: Dataset & { limit?: number }, labels: string, counts: readonly number[]): Promise<void> {
  const { DATASETS, findDataset } = await import('../../index.js');
  const preset = name === 'cifar100' ? 'advcl-cifar100' : 'advcl-cifar10', known = DATASETS.find((each) => each === name);
  const byName = path === undefined || (known !== undefined && (await findDataset(known)) === path);
  output.note(['\nNext: a-infonce pretrain --preset', preset,
    ...(byName ? (preset.endsWith(name) ? [] : ['--data', typed(name)]) : ['--data', typed(path), '--image-size', size]), ...(procedural ? [`--set 'data.procedural=${JSON.stringify(procedural)}'`] : []),
    ...(limit === undefined ? [] : ['--limit', limit]), '--pseudo-labels', typed(labels), ...(String(counts) === String(CLUSTERS) ? [] : [`--set 'pseudoLabels.classes=[${counts.join(', ')}]'`])].join(' '));
}

async function loadEncoder({ signal, device }: Context, path: string): Promise<Encoder | TorchScriptModel> {
  await checkSource(path, 'the folder of a run, an encoder as .safetensors, or a TorchScript model that gives features as .pt');
  const { Encoder, loadTorchScript } = await import('../../index.js');
  if (extname(path) === '.pt') return await loadTorchScript(path, { signal, device });
  return await Encoder.load(path, { device });
}

function counts(text: string): number[] {
  const values = integers({ min: 1 })(text);
  if (new Set(values).size !== values.length) throw new InvalidArgumentError('Expected each number once.');
  return values;
}
