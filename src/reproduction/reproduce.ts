import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { limitDataset, type Dataset } from '../data/dataset.js';
import { sha256 } from '../data/hash.js';
import { DATASETS, openDataset } from '../data/open.js';
import { evaluate, type AttackName } from '../evaluation/evaluate.js';
import { readResults, recordResult, type Result } from '../evaluation/results.js';
import { Classifier } from '../model/classifier.js';
import { Encoder, robustBranch } from '../model/encoder.js';
import { checkDevice } from '../runtime/cuda.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe, FileError } from '../runtime/errors.js';
import { atomically, fileSha256 } from '../runtime/files.js';
import type { JobOptions } from '../runtime/job.js';
import { readJson } from '../runtime/json.js';
import { scope } from '../tensor/scope.js';
import { cluster } from '../training/cluster.js';
import { finetune, type FinetuneRun } from '../training/finetune.js';
import { classifierFile, CLUSTERS, workFolder } from '../training/names.js';
import { pretrainConfig } from '../training/methods/index.js';
import { pretrain } from '../training/pretrain.js';
import { mergeConfig } from '../training/merge.js';
import { resolveConfig, type PretrainConfig } from '../training/presets.js';
import { writePseudoLabels } from '../training/pseudo-labels.js';
import { requireRecorded, RunFolder } from '../training/run.js';
import { deriveSeed } from '../training/seeds.js';
import { classesOf, configOf, gridOf, MEASURES, METHODS, MODES, SMALL, VARIANTS, type Cell, type Encoding, type Measure, type Scale, type Sizes } from './grid.js';
import { markdownOf, tableOf, type CellResult, type Table } from './table.js';

/** Share of the training images that fine-tuning holds out to choose its epoch on. */
const VALIDATION = 0.1;

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
  /** Where to compute: `'cpu'` (default), `'cuda'` or `'cuda:<index>'`. */
  device?: string;
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
 * what was measured, on which images and with which configuration, which a later call checks; `<out>/table1.json` and `table1.md` hold the table of all
 * that is there, whatever `only` says. Whatever is there is not done again, and what was interrupted goes on
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
  const { out, scale = 'paper', data = scale === 'small' ? ['cifar10'] : ['cifar10', 'cifar100'], dataRoot, only = [], device = 'cpu', seeds = 1, seed = 0, signal, ...given } =
    check.options<ReproduceOptions>('options', options, ['out', 'scale', 'data', 'dataRoot', 'only', 'device', 'seeds', 'seed', 'signal',
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
  const places: readonly string[] = [...DATASETS, 'procedural'];
  for (const each of data)
    if (typeof each === 'string' && !places.includes(each) && !existsSync(each)) throw new ArgumentRangeError('data', `a folder or one of ${places.join(', ')}`, describe(each));
  for (const [name, value] of Object.entries(given)) if (value !== undefined) check.integer(name, value, { min: name === 'batchSize' ? 4 : 1 });
  const known = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const sizes: Sizes = { scale, ...(scale === 'small' && SMALL), ...known };
  const grid = gridOf(names, Array.from({ length: seeds }, (_, at) => seed + at), only);
  const stop = new AbortController();
  const plan = { out, sizes, device: checkDevice('device', device), ...grid, dataRoot, data: new Map(names.map((name, at) => [name, data[at]!])), signal: AbortSignal.any([stop.signal, ...(signal ? [signal] : [])]) };
  return streamed<ReproduceEvent>((tell) => new Reproduction(plan, tell).run(), stop);
}

interface Plan {
  out: string;
  device: string;
  sizes: Sizes;
  cells: Cell[];
  measures: Measure[];
  dataRoot: string | undefined;
  data: ReadonlyMap<string, string | Dataset>;
  signal: AbortSignal;
}

const score = z.object({ name: z.string(), accuracy: z.number(), correct: z.int(), total: z.int(), settings: z.record(z.string(), z.unknown()), sha256: z.string().optional(), warnings: z.array(z.string()).optional() });
/** What `cell-<mode>.json` holds: the numbers, the config.json of the encoder, and the SHA-256 of the test images and their labels. */
const measured = z.object({
  cell: z.object({ data: z.string(), seed: z.int(), method: z.enum(METHODS), variant: z.enum(VARIANTS), mode: z.enum(MODES) }),
  config: pretrainConfig,
  test: z.string(),
  scores: z.partialRecord(z.enum(MEASURES), score),
});
type Measured = z.infer<typeof measured>;

interface Opened {
  data: Dataset;
  /** SHA-256 of the training images, as a run records it; of the test images and their labels. */
  train: string;
  test: string;
  dispose(): void;
}

class Reproduction {
  private opened: Opened | undefined;
  /** All cells of the folder, by the file that holds what was measured. */
  private readonly found = new Map<string, CellResult>();
  /** Encoders that could not be trained, by folder: not tried again for every mode. */
  private readonly failed = new Map<string, unknown>();
  private cell = 0;

  constructor(private readonly plan: Plan, private readonly tell: (event: ReproduceEvent) => void) {}

  async run(): Promise<void> {
    const { plan: { out, sizes, device, cells, measures, signal }, tell } = this;
    signal.throwIfAborted();
    const folder = await RunFolder.open(out, true);
    try {
      const config = { reproduction: 'table1', ...sizes };
      if (folder.config !== undefined) requireRecorded(out, folder.config, config);
      for (const message of await folder.describe(config, device)) tell({ type: 'warning', message });
      tell({ type: 'start', out: folder.path, cells, measures, sizes });
      await this.gather();
      const results: CellResult[] = [];
      for (const [at, cell] of cells.entries()) {
        this.cell = at;
        const path = join(this.folderOf(cell), `cell-${cell.mode}.json`);
        const result = await this.result(cell, path);
        results.push(result);
        this.found.set(path, result);
        tell({ type: 'cell', cell: at, result });
        await this.write();
      }
      const table = tableOf(results, sizes, measures);
      tell({ type: 'end', table, markdown: markdownOf(table) });
    } finally {
      this.opened?.dispose();
      await folder.close();
    }
  }

  /** The table of all that the folder holds, whatever part of it was asked for. */
  private async write(): Promise<void> {
    const cells = [...this.found].sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true })).map(([, result]) => result);
    const table = tableOf(cells, this.plan.sizes, MEASURES);
    await atomically(join(this.plan.out, 'table1.json'), (file) => file.writeFile(`${JSON.stringify({ ...table, cells }, null, 2)}\n`));
    await atomically(join(this.plan.out, 'table1.md'), (file) => file.writeFile(markdownOf(table)));
  }

  /** Reads the cells that earlier calls measured. */
  private async gather(): Promise<void> {
    const names = await readdir(this.plan.out, { recursive: true });
    for (const name of names.filter((name) => /^[^/]+\/seed-\d+\/[^/]+\/cell-[a-z]+\.json$/.test(name))) {
      const path = join(this.plan.out, name);
      try {
        const { cell, config, scores } = (await readJson(path, measured))!;
        this.found.set(path, { cell, ...told({ config, scores }) });
      } catch (error) {
        if (!(error instanceof FileError)) throw error;
        this.tell({ type: 'warning', message: `${error.message}; left out of the table` });
      }
    }
  }

  /** Does what is missing of a cell. Rejects only when the whole is to stop. */
  private async result(cell: Cell, path: string): Promise<CellResult> {
    const { plan: { measures, signal } } = this;
    let found: Omit<CellResult, 'cell'> = { scores: {} };
    try {
      const { data, test } = await this.open(cell.data);
      const done = await readJson(path, measured);
      if (done) {
        this.requireSame(path, done.config, cell);
        if (done.test !== test) throw new ArgumentRangeError('data', `the test images of ${data.name} that ${path} was measured on`, 'others');
        found = told(done);
        await this.record(done);
      }
      const missing = measures.filter((measure) => !done?.scores[measure]);
      if (missing.length > 0) {
        if (missing.includes('aa') && data.classes.length < 4)
          throw new ArgumentRangeError('only', `measures that ${data.name} has the classes for, of ${MEASURES.filter((measure) => measure !== 'aa').join(', ')}`, `aa: AutoAttack takes at least 4, it has ${data.classes.length}`);
        await this.encoder(cell, data);
        const file = await this.classifier(cell, data);
        const record: Measured = done ?? { cell, config: await configIn(this.folderOf(cell)), test, scores: {} };
        for await (const score of this.measure(cell, data, file, missing)) {
          Object.assign(record.scores, score);
          // results.jsonl after it, from it: what is killed in between loses nothing and doubles nothing.
          await atomically(path, (file) => file.writeFile(`${JSON.stringify(record, null, 2)}\n`));
          found = told(record);
          await this.record(record);
        }
      }
      return { cell, ...found };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      return { cell, ...found, error: error instanceof Error ? error.message : String(error) };
    }
  }

  /** Adds to results.jsonl what it does not hold yet of a cell. */
  private async record({ cell, test, scores }: Measured): Promise<void> {
    const folder = this.folderOf(cell), model = classifierFile(cell.mode);
    const identity = ({ model, sha256, name, correct, total, settings }: Omit<Result, 'time'>) => JSON.stringify([model, sha256, name, correct, total, settings]);
    const known = new Set((await readResults(folder, { onWarning: (message) => this.tell({ type: 'warning', message }) })).map(identity));
    for (const score of Object.values(scores)) {
      const line = { model, mode: cell.mode, data: cell.data, dataSha256: test, ...score };
      if (!known.has(identity(line))) await recordResult(folder, line);
    }
  }

  private folderOf({ data, seed, method, variant }: Encoding): string {
    return join(this.seedFolder(data, seed), `${method}-${variant}`);
  }

  private seedFolder(data: string, seed: number): string {
    return join(this.plan.out, data.replace(/[^\w.-]+/g, '-'), `seed-${seed}`);
  }

  private labelsOf({ data, seed }: Pick<Encoding, 'data' | 'seed'>): string {
    return join(this.seedFolder(data, seed), 'labels.safetensors');
  }

  /** One data set at a time, with as many training images as wanted. */
  private async open(name: string): Promise<Opened> {
    if (this.opened?.data.name === name) return this.opened;
    this.opened?.dispose();
    this.opened = undefined;
    const { data: sources, dataRoot, sizes: { images }, signal } = this.plan;
    const source = sources.get(name)!, own = typeof source === 'string';
    const whole = own ? await openDataset(source, { signal, ...(dataRoot !== undefined && { root: dataRoot }) }) : source;
    const data = limitDataset(whole, images, { keep: !own });
    const test = data.test.sha256();
    this.opened = { data: { ...data, name }, train: data.train.sha256({ labels: false }), test, dispose: () => (own || data !== whole) && data.dispose() };
    return this.opened;
  }

  private stage(stage: Stage, of: Encoding, mode?: Cell['mode']): (share: number, ...details: string[]) => void {
    const { cell, tell } = this;
    tell({ type: 'stage', cell, stage, of, ...(mode && { mode }) });
    return (share, ...details) => tell({ type: 'progress', cell, stage, share, details });
  }

  /** Sees to it that the encoder's folder holds one. */
  private async encoder(encoding: Encoding, data: Dataset): Promise<void> {
    const folder = this.folderOf(encoding), { plan: { sizes, device, signal } } = this;
    if (existsSync(join(folder, 'encoder.safetensors'))) return this.requireSame(folder, await configIn(folder), encoding);
    if (this.failed.has(folder)) throw this.failed.get(folder);
    try {
      const labels = encoding.method === 'advcl' ? await this.labels(encoding, data) : undefined;
      const progress = this.stage('pretrain', encoding);
      let steps = 1, epochs = 0;
      for await (const event of pretrain({ ...configOf(encoding, sizes, data.train.length, labels), data, out: folder, resume: true, device, signal })) {
        if (event.type === 'start') [steps, epochs] = [event.steps, event.config.epochs];
        else if (event.type === 'warning') this.tell(event);
        else if (event.type === 'step') progress(event.step / steps, `epoch ${event.epoch + 1}/${epochs}`, `loss ${event.loss.toFixed(4)}`);
      }
    } catch (error) {
      this.failed.set(folder, error);
      throw error;
    }
  }

  /** That what `place` records was trained on the images that are open, and as this call would train it. */
  private requireSame(place: string, recorded: PretrainConfig, encoding: Encoding): void {
    const { data, train } = this.opened!;
    if (recorded.data.sha256 !== train) throw new ArgumentRangeError('data', `the images of ${data.name} that ${place} was trained on`, 'others');
    const { preset, overrides } = configOf(encoding, this.plan.sizes, data.train.length, this.labelsOf(encoding));
    const settled = { data: recorded.data, ...('pseudoLabels' in recorded && { pseudoLabels: { sha256: recorded.pseudoLabels.sha256 } }) };
    requireRecorded(place, recorded, mergeConfig(resolveConfig(preset, overrides), settled));
  }

  /** The file of pseudo-labels for AdvCL: clusters of what RoCL's encoder sees. */
  private async labels({ data: name, seed }: Encoding, data: Dataset): Promise<string> {
    const path = this.labelsOf({ data: name, seed });
    if (existsSync(path)) return path;
    const source: Encoding = { data: name, seed, method: 'rocl', variant: 'base' };
    await this.encoder(source, data);
    const progress = this.stage('pseudo-labels', source);
    using encoder = await Encoder.load(this.folderOf(source), { device: this.plan.device });
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
    const config = await configIn(folder);
    using encoder = await Encoder.load(folder, { device: this.plan.device });
    let steps = 1;
    using classifier = await finetune(encoder, data, {
      mode: cell.mode, preset: config, seed: cell.seed, validation: VALIDATION, out: workFolder(path), resume: true, signal: this.plan.signal,
      onEvent: (event) => {
        if (event.type === 'start') steps = event.steps;
        else if (event.type === 'warning') this.tell(event);
        else if (event.type === 'unsaved') this.tell({ type: 'warning', message: event.error.message });
        else if (event.type === 'step' || event.type === 'epoch') progress(event.step / steps, `epoch ${event.epoch + 1}`, `loss ${event.loss.toFixed(4)}`);
      },
    });
    await classifier.save(path);
    return path;
  }

  /** That a classifier is what fine-tuning makes of the cell's encoder: another may lie at its name. */
  private async requireFinetuned(path: string, classifier: Classifier, { data, seed, mode, ...rest }: Cell): Promise<void> {
    const folder = this.folderOf({ data, seed, ...rest });
    const { preset, finetuning } = await configIn(folder);
    using encoder = await Encoder.load(folder);
    const made = classifier.finetuning as Partial<FinetuneRun> | undefined;
    requireRecorded(path, { ...made }, {
      ...made, mode, preset, seed, labelFraction: undefined, validation: VALIDATION, branch: finetuning[mode].branch ?? robustBranch(encoder.config),
      data: { ...made?.data, name: data, sha256: this.opened!.train }, encoder: scope(() => sha256(...encoder.state().values())), config: finetuning[mode],
    });
  }

  /** Measures what is missing, one after the other. */
  private async *measure(cell: Cell, data: Dataset, path: string, missing: readonly Measure[]): AsyncGenerator<Measured['scores'], void, void> {
    const { plan: { sizes: { testImages, autoAttackImages }, signal } } = this;
    const folder = this.folderOf(cell);
    const { evaluation: { pgd20, autoattack } } = await configIn(folder);
    using classifier = await Classifier.load(path, { device: this.plan.device });
    const digest = await fileSha256(path);
    await this.requireFinetuned(path, classifier, cell);
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
      const { accuracy, correct, total, settings, warnings } = scores[name]!;
      yield { [measure]: { name, accuracy, correct, total, settings: { ...settings }, sha256: digest, ...(warnings && { warnings }) } };
    }
  }
}

/** What a cell's numbers come to, and what speaks against them. */
function told({ config, scores }: Pick<Measured, 'config' | 'scores'>): Omit<CellResult, 'cell' | 'error'> {
  const each = Object.entries(scores) as [Measure, z.infer<typeof score>][], warned = each.filter(([, { warnings = [] }]) => warnings.length > 0);
  return {
    scores: Object.fromEntries(each.map(([measure, { accuracy }]) => [measure, accuracy])),
    images: Object.fromEntries(each.map(([measure, { total }]) => [measure, total])),
    ...(config.data.images !== undefined && { trainingImages: config.data.images }),
    ...(warned.length > 0 && { warnings: Object.fromEntries(warned.map(([measure, { warnings }]) => [measure, warnings])) }),
  };
}

const configIn = async (folder: string): Promise<PretrainConfig> => JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as PretrainConfig;

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
