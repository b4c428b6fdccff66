/** The table: means and spreads over seeds, beside what others published. */
import { MEASURES, METHODS, MODES, PUBLISHED, PUBLISHED_PROTOCOL, VARIANTS, type Cell, type Measure, type Method, type Sizes, type Variant } from './grid.js';
import type { FinetuneMode } from '../training/finetune.js';

/** What became of a cell: what was measured, as accuracies from 0 to 1, or why nothing was. */
export interface CellResult {
  cell: Cell;
  scores: Partial<Record<Measure, number>>;
  /** Of how many test images each score is; how many training images there were. */
  images?: Partial<Record<Measure, number>>;
  trainingImages?: number;
  /** Why a score may be wrong, a sentence each: see {@link Score}. */
  warnings?: Partial<Record<Measure, string[]>>;
  error?: string;
}

/** A number of the table, in percent: the mean over seeds and their standard deviation (n - 1; left out for one seed). */
export interface Estimate {
  mean: number;
  std?: number;
  seeds: number;
  /** Something speaks against it: {@link Table}`.warnings` says what. */
  doubtful?: true;
}

export interface TableRow {
  data: string;
  /** `RoCL`, `RoCL-IP`, ..., or as its authors call it. */
  name: string;
  method?: Method;
  variant?: Variant;
  published: boolean;
  scores: Partial<Record<FinetuneMode, Partial<Record<Measure, Estimate>>>>;
}

export interface Table {
  name: 'table1';
  settings: Sizes;
  /** How many there were, by data set: of a small one fewer than the settings take. */
  trainingImages: Record<string, number>;
  /** What the measures are. */
  protocol: Record<Measure | 'published', string>;
  rows: TableRow[];
  failed: { cell: Cell; error: string }[];
  /** Why numbers may be wrong, each warning of each cell. */
  warnings: { cell: Cell; measure: Measure; warning: string }[];
}

const NAMES = { rocl: 'RoCL', advcl: 'AdvCL' } as const, SUFFIXES = { base: '', ip: '-IP', hn: '-HN', iphn: '-IP+HN' } as const;
/** What a row of the table is called: `RoCL`, `AdvCL-IP+HN`, ... */
export const rowName = ({ method, variant }: { method: Method; variant: Variant }): string => `${NAMES[method]}${SUFFIXES[variant]}`;

export function tableOf(results: readonly CellResult[], settings: Sizes, measures: readonly Measure[]): Table {
  const names = [...new Set(results.map(({ cell }) => cell.data))];
  const asked = MODES.filter((mode) => results.some(({ cell }) => cell.mode === mode));
  const rows = names.flatMap((data) => {
    const ours = METHODS.flatMap((method) => VARIANTS.flatMap((variant): TableRow[] => {
      const cells = results.filter(({ cell }) => cell.data === data && cell.method === method && cell.variant === variant);
      if (cells.length === 0) return [];
      const scores = asked.map((mode) => [mode, Object.fromEntries(measures.flatMap((measure) => {
        const own = cells.filter(({ cell }) => cell.mode === mode), estimate = estimateOf(own.flatMap(({ scores }) => scores[measure] ?? []));
        return estimate ? [[measure, { ...estimate, ...(own.some(({ warnings }) => warnings?.[measure]) && { doubtful: true }) }]] : [];
      }))]);
      return [{ data, name: rowName({ method, variant }), method, variant, published: false, scores: Object.fromEntries(scores) as TableRow['scores'] }];
    }));
    const others = [...new Set(PUBLISHED.filter((each) => each.data === data).map(({ name }) => name))].map((name): TableRow => {
      const cells = PUBLISHED.filter((each) => each.data === data && each.name === name && asked.includes(each.mode));
      return {
        data, name, ...cells[0]?.row, published: true,
        scores: Object.fromEntries(cells.map((cell) => [cell.mode, Object.fromEntries(measures.flatMap((measure) => (measure === 'ra' ? [] : [[measure, { mean: cell[measure], seeds: 1 }]])))])),
      };
    });
    return [...ours, ...others];
  });
  const images = (measure: Measure) => {
    const most = (measure === 'aa' ? settings.autoAttackImages : settings.testImages) ?? Infinity;
    const counts = new Map(results.map(({ cell, images }) => [cell.data, images?.[measure]] as const).filter(([, count]) => count !== undefined)), one = new Set(counts.values()).size <= 1;
    const text = (count: number | undefined, data = '') => (count === undefined ? `${most < Infinity ? `the first ${most}` : 'all'} test images` : `${count < most ? 'all' : 'the first'} ${count} test images${data}`);
    return one ? text([...counts.values()][0]) : [...counts].map(([data, count]) => text(count, ` of ${data}`)).join(', ');
  };
  return {
    name: 'table1', settings, rows, trainingImages: Object.fromEntries(results.flatMap(({ cell, trainingImages }) => (trainingImages === undefined ? [] : [[cell.data, trainingImages]]))),
    protocol: {
      sa: `accuracy on ${images('sa')}`,
      ra: `accuracy under PGD-20, random start, on ${images('ra')}: AdvCL epsilon 8/255, step 2/255; RoCL .0314 and .00314, as each was published`,
      aa: `accuracy under standard AutoAttack, Linf 8/255, on ${images('aa')}`,
      published: PUBLISHED_PROTOCOL,
    },
    failed: results.flatMap(({ cell, error }) => (error === undefined ? [] : [{ cell, error }])),
    warnings: results.flatMap(({ cell, warnings = {} }) => measures.flatMap((measure) => (warnings[measure] ?? []).map((warning) => ({ cell, measure, warning })))),
  };
}

function estimateOf(shares: number[]): Estimate | undefined {
  if (shares.length === 0) return undefined;
  const values = shares.map((share) => 100 * share), mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (values.length === 1) return { mean, seeds: 1 };
  return { mean, std: Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1)), seeds: values.length };
}

/** The table as cells of text: a head, then a line a row, numbers in percent with two decimals, `-` where there is none, `†` after those that may be wrong. */
export function tableCells({ rows }: Table): string[][] {
  const columns = MODES.flatMap((mode) => MEASURES.map((measure) => ({ mode, measure }))).filter(({ mode, measure }) => rows.some((row) => !row.published && row.scores[mode]?.[measure]));
  const show = (estimate: Estimate | undefined) => (estimate ? `${estimate.mean.toFixed(2)}${estimate.std === undefined ? '' : ` ± ${estimate.std.toFixed(2)}`}${estimate.doubtful ? ' †' : ''}` : '-');
  return [
    ['data', 'method', ...columns.map(({ mode, measure }) => `${mode.toUpperCase()} ${measure.toUpperCase()}`)],
    ...rows.map((row) => [row.data, row.published ? `${row.name} (published)` : row.name, ...columns.map(({ mode, measure }) => show(row.scores[mode]?.[measure]))]),
  ];
}

/** What has to be said beside the numbers, a sentence or more each: the scale, what the measures are, whose numbers are published, which may be wrong, which cells failed. */
export function tableNotes({ settings, trainingImages, protocol, rows, failed, warnings }: Table): string[] {
  const measured = MEASURES.filter((measure) => rows.some(({ published, scores }) => !published && Object.values(scores).some((each) => each[measure])));
  const seeds = Math.max(0, ...rows.filter(({ published }) => !published).flatMap(({ scores }) => Object.values(scores).flatMap((each) => Object.values(each).map((estimate) => estimate.seeds))));
  // How many images there were is said as it was: on the measures' own lines, and of training here.
  const { scale, images: _, testImages: __, autoAttackImages: ___, ...sizes } = settings, trained = Object.entries(trainingImages);
  const given = [
    ...Object.entries(sizes).filter(([, value]) => value !== undefined).map(([key, value]) => `${key} ${value}`),
    ...(trained.length === 1 ? [`${trained[0]![1]} training images`] : trained.map(([data, count]) => `${count} training images of ${data}`)),
  ];
  return [
    `Scale ${scale}${given.length > 0 ? ` (${given.join(', ')})` : ''}${scale === 'small' ? ': its numbers compare with each other, not with those that were published' : ''}. In percent${seeds > 1 ? `, mean ± standard deviation over ${seeds} seeds` : ', one seed'}.`,
    ...measured.map((measure) => `${measure.toUpperCase()}: ${protocol[measure]}.`),
    ...(rows.some(({ published }) => published) ? [`Published: ${protocol.published}.`] : []),
    'The best epoch of a fine-tuning is that of a tenth of the training images held out, never of test images. Pseudo-labels of AdvCL: k-means on the features of the RoCL encoder of the same data and seed.',
    ...[...new Set(warnings.map(({ warning }) => warning))].map((text) =>
      `† ${warnings.filter(({ warning }) => warning === text).map(({ cell, measure }) => `${nameOf(cell)}, ${measure.toUpperCase()}`).join('; ')}: ${text}`),
    ...failed.map(({ cell, error }) => `Failed: ${nameOf(cell)}: ${error.split('\n')[0]}`),
  ];
}

const nameOf = (cell: Cell): string => `${cell.data} ${rowName(cell)} ${cell.mode}, seed ${cell.seed}`;

export function markdownOf(table: Table): string {
  const [head, ...rows] = tableCells(table) as [string[], ...string[][]];
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, at) => (at < 2 ? '---' : '---:'))), ...rows.map(line), '', ...tableNotes(table).map((note) => `- ${note}`), ''].join('\n');
}
