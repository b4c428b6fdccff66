import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Dataset } from '../data/dataset.js';
import { sha256 } from '../data/hash.js';
import { openDataset } from '../data/open.js';
import { evaluate, type AttackName, type Score } from '../evaluation/evaluate.js';
import { recordResult } from '../evaluation/results.js';
import { Classifier } from '../model/classifier.js';
import { Encoder } from '../model/encoder.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe, FileError } from '../runtime/errors.js';
import { atomically } from '../runtime/files.js';
import type { JobOptions } from '../runtime/job.js';
import { cluster } from '../training/cluster.js';
import { finetune } from '../training/finetune.js';
import { classifierFile, workFolder } from '../training/names.js';
import { pretrain } from '../training/pretrain.js';
import type { PretrainConfig } from '../training/presets.js';
import { writePseudoLabels } from '../training/pseudo-labels.js';
import { requireRecorded, RunFolder } from '../training/run.js';
import { deriveSeed } from '../training/seeds.js';
import { classesOf, configOf, gridOf, SMALL, type Cell, type Encoding, type Measure, type Scale, type Sizes } from './grid.js';
import { markdownOf, tableOf, type CellResult, type Table } from './table.js';

/** Share of the training images that fine-tuning holds out to choose its epoch on. */
const VALIDATION = 0.1;
const CLUSTERS = [2, 10, 50, 100, 500];

export interface ReproduceOptions extends JobOptions, Partial<Sizes> {
  /** The folder of the reproduction, made if needed; a later call with the same sizes goes on there. */
  out: string;
  /** `'paper'` (default): the presets as they are. `'small'`: the same code at a size that two cores finish in a night; the sizes given replace its own. */
  scale?: Scale;
  /** Data sets by name, or open (they stay open). Default: `'cifar10'`, at scale `'paper'` `'cifar100'` too. */
  data?: readonly (string | Dataset)[];
  /** Where to look for data sets by name. */
  dataRoot?: string;
  /** A part of the grid: methods (`rocl`, `advcl`), variants (`base`, `ip`, `hn`, `iphn`), data, modes (`slf`, `alf`, `aff`), measures (`sa`, `ra`, `aa`). Default: all. */
  only?: readonly string[];
  /** How many seeds: `seed`, `seed + 1`, ... Default 1. */
  seeds?: number;
  /** The first seed. Default 0. */
  seed?: number;
}

/** What is being done for a cell. */
export type Stage = 'pseudo-labels' | 'pretrain' | 'finetune' | 'evaluate';

/** What a reproduction tells. Cells are counted from 0. */
export type ReproduceEvent =
  | { type: 'start'; out: string; cells: Cell[]; measures: Measure[]; sizes: Sizes }
  | { type: 'stage'; cell: number; stage: Stage; of: Encoding; mode?: Cell['mode'] }
  /** `share` of the stage, from 0 to 1. */
  | { type: 'progress'; cell: number; stage: Stage; share: number; details: string[] }
  | { type: 'warning'; message: string }
  | { type: 'cell'; cell: number; result: CellResult }
  | { type: 'end'; table: Table; markdown: string };

/**
 * The paper's table: every method, variant, data set and mode of fine-tuning is pre-trained, fine-tuned and measured, one cell after the other, and set
 * beside the published numbers. An iterable of events, driven by whoever iterates.
 *
 * Everything is on disk: `<out>/<data>/seed-<n>/<method>-<variant>` is the folder of a run with its classifiers, results.jsonl and a `cell-<mode>.json` of
 * what was measured; `<out>/table1.json` and `table1.md` hold the table. Whatever is there is not done again, and what was interrupted goes on
 * (pre-training, fine-tuning and AutoAttack in their middle). A cell that fails is told of, and the others go on; the next call tries it again.
 *
 * AdvCL's pseudo-labels are clusters of the features of the RoCL encoder (`base`) of the same data and seed, which is pre-trained for that if need be.
 * @throws at once: {@link ArgumentTypeError} or {@link ArgumentRangeError} on a bad option. While iterating: {@link ArgumentRangeError} when `out` was begun with
 * other sizes, {@link FileError} when another process works there, the reason of `signal` when it is aborted: what was done is saved.
 * @example
 * ```ts
 * using data = proceduralDataset({ train: 40, test: 10, size: 8 });
 * const tiny = { scale: 'small', epochs: 1, finetuneEpochs: 1, batchSize: 20, width: 2 } as const;
 * for await (const event of reproduce({ out: 'runs/table1', data: [data], only: ['rocl', 'ip', 'slf', 'sa'], ...tiny }))
 *   if (event.type === 'end') console.log(event.markdown);
 * ```
 */
export function reproduce(options: ReproduceOptions): AsyncIterableIterator<ReproduceEvent> {
  if (options === undefined) throw new ArgumentTypeError('options', 'an object', 'undefined');
  const { out, scale = 'paper', data = scale === 'small' ? ['cifar10'] : ['cifar10', 'cifar100'], dataRoot, only = [], seeds = 1, seed = 0, signal, ...given } =
    check.options<ReproduceOptions>('options', options, ['out', 'scale', 'data', 'dataRoot', 'only', 'seeds', 'seed', 'signal',
      'epochs', 'finetuneEpochs', 'batchSize', 'images', 'testImages', 'autoAttackImages', 'width']);
  check.string('out', out);
  check.oneOf('scale', scale, ['small', 'paper']);
  if (dataRoot !== undefined) check.string('dataRoot', dataRoot);
  check.integer('seeds', seeds, { min: 1 });
  check.integer('seed', seed, { min: 0 });
  check.signal('options.signal', signal);
  if (!Array.isArray(data) || data.length === 0) throw new ArgumentTypeError('data', 'an array of data sets or their names', describe(data));
  for (const [at, each] of data.entries()) if (typeof each !== 'string' && typeof each?.train !== 'object') throw new ArgumentTypeError(`data[${at}]`, 'a Dataset or the name of one', describe(each));
  const names = data.map((each) => (typeof each === 'string' ? basename(each) : each.name));
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new ArgumentRangeError('data', 'each data set once', twice);
  for (const [name, value] of Object.entries(given)) if (value !== undefined) check.integer(name, value, { min: name === 'batchSize' ? 4 : 1 });
  const known = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const sizes: Sizes = { scale, ...(scale === 'small' && SMALL), ...known };
  const grid = gridOf(names, Array.from({ length: seeds }, (_, at) => seed + at), only);
  const stop = new AbortController();
  const plan = { out, sizes, ...grid, dataRoot, data: new Map(names.map((name, at) => [name, data[at]!])), signal: AbortSignal.any([stop.signal, ...(signal ? [signal] : [])]) };
  return streamed<ReproduceEvent>((tell) => new Reproduction(plan, tell).run(), stop);
}

interface Plan {
  out: string;
  sizes: Sizes;
  cells: Cell[];
  measures: Measure[];
  dataRoot: string | undefined;
  data: ReadonlyMap<string, string | Dataset>;
  signal: AbortSignal;
}

/** What `cell-<mode>.json` holds. */
type Measured = Partial<Record<Measure, Pick<Score, 'accuracy' | 'correct' | 'total' | 'settings'>>>;

class Reproduction {
  private opened: { name: string; data: Dataset; sha256?: string; dispose(): void } | undefined;
  /** Encoders that could not be trained, by folder: not tried again for every mode. */
  private readonly failed = new Map<string, unknown>();
  private cell = 0;

  constructor(private readonly plan: Plan, private readonly tell: (event: ReproduceEvent) => void) {}

  async run(): Promise<void> {
    const { plan: { out, sizes, cells, measures, signal }, tell } = this;
    signal.throwIfAborted();
    const folder = await RunFolder.open(out, true);
    try {
      const config = { reproduction: 'table1', ...sizes };
      if (folder.config !== undefined) requireRecorded(out, folder.config, config);
      for (const message of await folder.describe(config)) tell({ type: 'warning', message });
      tell({ type: 'start', out: folder.path, cells, measures, sizes });
      const results: CellResult[] = [];
      for (const [at, cell] of cells.entries()) {
        this.cell = at;
        results.push(await this.result(cell));
        tell({ type: 'cell', cell: at, result: results.at(-1)! });
        await this.write(results);
      }
      const table = tableOf(results, sizes, measures);
      tell({ type: 'end', table, markdown: markdownOf(table) });
    } finally {
      this.opened?.dispose();
      await folder.close();
    }
  }

  private async write(results: readonly CellResult[]): Promise<void> {
    const table = tableOf(results, this.plan.sizes, this.plan.measures);
    await atomically(join(this.plan.out, 'table1.json'), (file) => file.writeFile(`${JSON.stringify({ ...table, cells: results }, null, 2)}\n`));
    await atomically(join(this.plan.out, 'table1.md'), (file) => file.writeFile(markdownOf(table)));
  }

  /** Does what is missing of a cell. Rejects only when the whole is to stop. */
  private async result(cell: Cell): Promise<CellResult> {
    const { plan: { measures, signal } } = this;
    let scores: CellResult['scores'] = {};
    try {
      const path = join(this.folderOf(cell), `cell-${cell.mode}.json`);
      const done = await readMeasured(path);
      const missing = measures.filter((measure) => !done[measure]);
      scores = accuracies(done, measures);
      if (missing.length > 0) {
        const data = await this.open(cell.data);
        await this.encoder(cell, data);
        const file = await this.classifier(cell, data);
        await this.measure(cell, data, file, missing, async (found) => {
          Object.assign(done, found);
          await atomically(path, (file) => file.writeFile(`${JSON.stringify(done, null, 2)}\n`));
          scores = accuracies(done, measures);
        });
      }
      return { cell, scores };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      return { cell, scores, error: error instanceof Error ? error.message : String(error) };
    }
  }

  private folderOf({ data, seed, method, variant }: Encoding): string {
    return join(this.seedFolder(data, seed), `${method}-${variant}`);
  }

  private seedFolder(data: string, seed: number): string {
    return join(this.plan.out, data.replace(/[^\w.-]+/g, '-'), `seed-${seed}`);
  }

  /** One data set at a time, with as many training images as wanted. */
  private async open(name: string): Promise<Dataset> {
    if (this.opened?.name === name) return this.opened.data;
    this.opened?.dispose();
    this.opened = undefined;
    const { data: sources, dataRoot, sizes: { images }, signal } = this.plan;
    const source = sources.get(name)!;
    const data = typeof source === 'string' ? await openDataset(source, { signal, ...(dataRoot !== undefined && { root: dataRoot }) }) : source;
    const train = images === undefined || images >= data.train.length ? undefined : data.train.subset(images);
    this.opened = {
      name, data: { ...data, name, ...(train && { train }) },
      dispose() {
        train?.dispose();
        if (typeof source === 'string') data.dispose();
      },
    };
    return this.opened.data;
  }

  private stage(stage: Stage, of: Encoding, mode?: Cell['mode']): (share: number, ...details: string[]) => void {
    const { cell, tell } = this;
    tell({ type: 'stage', cell, stage, of, ...(mode && { mode }) });
    return (share, ...details) => tell({ type: 'progress', cell, stage, share, details });
  }

  /** Sees to it that the encoder's folder holds one. */
  private async encoder(encoding: Encoding, data: Dataset): Promise<void> {
    const folder = this.folderOf(encoding), { plan: { sizes, signal } } = this;
    if (existsSync(join(folder, 'encoder.safetensors'))) return this.requireSame(folder, data);
    if (this.failed.has(folder)) throw this.failed.get(folder);
    try {
      const labels = encoding.method === 'advcl' ? await this.labels(encoding, data) : undefined;
      const progress = this.stage('pretrain', encoding);
      let steps = 1, epochs = 0;
      for await (const event of pretrain({ ...configOf(encoding, sizes, data.train.length, labels), data, out: folder, resume: true, signal })) {
        if (event.type === 'start') [steps, epochs] = [event.steps, event.config.epochs];
        else if (event.type === 'warning') this.tell(event);
        else if (event.type === 'step') progress(event.step / steps, `epoch ${event.epoch + 1}/${epochs}`, `loss ${event.loss.toFixed(4)}`);
      }
    } catch (error) {
      this.failed.set(folder, error);
      throw error;
    }
  }

  /** That what is there was trained on these images. */
  private async requireSame(folder: string, data: Dataset): Promise<void> {
    const { data: recorded } = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as PretrainConfig;
    this.opened!.sha256 ??= sha256(data.train.pixels);
    if (recorded.sha256 !== this.opened!.sha256) throw new ArgumentRangeError('data', `the images of ${data.name} that ${folder} was trained on`, 'others');
  }

  /** The file of pseudo-labels for AdvCL: clusters of what RoCL's encoder sees. */
  private async labels({ data: name, seed }: Encoding, data: Dataset): Promise<string> {
    const path = join(this.seedFolder(name, seed), 'labels.safetensors');
    if (existsSync(path)) return path;
    const source: Encoding = { data: name, seed, method: 'rocl', variant: 'base' };
    await this.encoder(source, data);
    const progress = this.stage('pseudo-labels', source);
    using encoder = await Encoder.load(this.folderOf(source));
    const k = classesOf(CLUSTERS, data.train.length);
    using found = await cluster(encoder, data, {
      k, seed: deriveSeed(seed, 'clusters'), encoder: `${source.method}-${source.variant}`, signal: this.plan.signal,
      onProgress: (event) => event.type === 'cluster' && progress((k.indexOf(event.k) + event.restart / event.restarts) / k.length, `${event.k} clusters`),
    });
    await writePseudoLabels(path, found);
    return path;
  }

  /** The classifier's file, made if it is not there. */
  private async classifier(cell: Cell, data: Dataset): Promise<string> {
    const folder = this.folderOf(cell), path = join(folder, classifierFile(cell.mode));
    if (existsSync(path)) return path;
    const progress = this.stage('finetune', cell, cell.mode);
    const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as PretrainConfig;
    using encoder = await Encoder.load(folder);
    let steps = 1;
    using classifier = await finetune(encoder, data, {
      mode: cell.mode, preset: config, seed: cell.seed, validation: VALIDATION, out: workFolder(path), resume: true, signal: this.plan.signal,
      onEvent: (event) => {
        if (event.type === 'start') steps = event.steps;
        else if (event.type === 'warning') this.tell(event);
        else if (event.type === 'step' || event.type === 'epoch') progress(event.step / steps, `epoch ${event.epoch + 1}`, `loss ${event.loss.toFixed(4)}`);
      },
    });
    await classifier.save(path);
    return path;
  }

  /** Measures what is missing; `found` hears of each as soon as it is there. */
  private async measure(cell: Cell, data: Dataset, path: string, missing: readonly Measure[], found: (scores: Measured) => Promise<void>): Promise<void> {
    const { plan: { sizes: { testImages, autoAttackImages }, signal } } = this;
    const folder = this.folderOf(cell);
    const { evaluation: { pgd20, autoattack } } = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as PretrainConfig;
    using classifier = await Classifier.load(path);
    const progress = this.stage('evaluate', cell, cell.mode);
    for (const measure of missing) {
      const name: AttackName = measure === 'sa' ? 'clean' : measure === 'ra' ? `pgd${pgd20.steps}` : 'autoattack';
      const { epsilon, stepSize, randomStart } = pgd20;
      const scores = await evaluate(classifier, data.test, {
        attacks: [name], seed: deriveSeed(cell.seed, 'attack'), signal, limit: measure === 'aa' ? autoAttackImages : testImages,
        ...(measure === 'ra' && { epsilon, stepSize, randomStart }),
        ...(measure === 'aa' && { norm: autoattack.norm, epsilon: autoattack.epsilon, state: join(folder, `autoattack-${cell.mode}.safetensors`) }),
        onProgress: ({ done, total }) => progress(done / total, measure.toUpperCase()),
      });
      const { accuracy, correct, total, settings } = scores[name]!;
      await recordResult(folder, { model: basename(path), mode: cell.mode, data: data.name, name, accuracy, correct, total, settings });
      await found({ [measure]: { accuracy, correct, total, settings } });
    }
  }
}

const accuracies = (measured: Measured, measures: readonly Measure[]) =>
  Object.fromEntries(measures.flatMap((measure) => (measured[measure] ? [[measure, measured[measure].accuracy]] : []))) as CellResult['scores'];

async function readMeasured(path: string): Promise<Measured> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Measured;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new FileError(path, `not valid JSON (${(error as Error).message})`, { cause: error });
  }
}

/** What `work` tells, as an iterable that is over when the work is; leaving it aborts `stop` and waits for the work to end. */
async function* streamed<T>(work: (tell: (event: T) => void) => Promise<void>, stop: AbortController): AsyncGenerator<T, void, void> {
  const queue: T[] = [];
  let wake = () => {}, over = false;
  const running = work((event) => {
    queue.push(event);
    wake();
  }).finally(() => {
    over = true;
    wake();
  });
  running.catch(() => {});
  try {
    for (;;) {
      while (queue.length > 0) yield queue.shift()!;
      if (over) break;
      await new Promise<void>((resolve) => (wake = resolve));
    }
    await running;
  } finally {
    stop.abort();
    await running.catch(() => {});
  }
}
