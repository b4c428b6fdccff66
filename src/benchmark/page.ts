/** A benchmark as a page: plots of time, products and memory against n, and every number. */
import { legend, lineChart, type Axes, type Series } from '../report/charts.js';
import { dataTable, html, type Html, type Part } from '../report/html.js';
import { short } from '../report/numbers.js';
import { htmlPage, type Section } from '../report/page.js';
import type { BenchmarkReport, BenchmarkRow, Quartiles } from './benchmark.js';

const FORMS: Record<string, string> = { paper: "The paper's form", advcl: 'The form of released AdvCL', rocl: 'The form of released RoCL', queue: 'A queue of n negatives, n / 12 anchors' };
const formOf = (loss: string): string => loss.split(',')[0]!;
const distinct = <T>(of: Iterable<T>): T[] => [...new Set(of)];

/** A quantity against n. */
interface Quantity {
  name: string;
  y: string;
  of(row: BenchmarkRow): Quartiles | undefined;
}
const QUANTITIES: Quantity[] = [
  { name: 'time', y: 'ms', of: ({ ms }) => ms },
  { name: 'time in matrix products', y: 'products n × n × dim', of: ({ products }) => products },
  { name: 'extra peak memory', y: 'MB', of: ({ peakBytes }) => (peakBytes ? { median: peakBytes / 1e6, lower: peakBytes / 1e6, upper: peakBytes / 1e6 } : undefined) },
];

export function benchmarkPage(report: BenchmarkReport): string {
  const forms = distinct(report.rows.map(({ loss }) => formOf(loss)));
  return htmlPage('Benchmark of the loss', [overview(report, forms), ...forms.map((form) => plots(report, form)), numbers(report), missing(report), machine(report)]);
}

const axes = ({ settings: { sizes } }: BenchmarkReport): Pick<Axes, 'x' | 'logX' | 'xTicks'> => ({ x: 'n (rows)', logX: true, xTicks: [...sizes].sort((a, b) => a - b) });

const line = (rows: readonly BenchmarkRow[], quantity: Quantity['of']): Series['points'] => rows.flatMap((row) => {
  const at = quantity(row);
  return at ? [[row.n, at.median, at.lower, at.upper] as const] : [];
}).sort((a, b) => a[0] - b[0]);

/** Ours alone: what the variants cost beside the plain loss. */
function overview(report: BenchmarkReport, forms: readonly string[]): Section {
  const { rows, settings: { dim, threads } } = report;
  const ours = rows.filter(({ by }) => by.startsWith('a-infonce')), count = Math.max(...threads);
  const variants = distinct(rows.map(({ loss }) => variantOf(loss))), names = distinct(ours.map(({ by }) => by));
  const charts = forms.map((form) => {
    const series = distinct(ours.filter(({ loss }) => formOf(loss) === form).map(({ loss }) => loss)).flatMap((loss) => names.map((by, dash) => ({
      name: `${loss}, ${by}`, style: variants.indexOf(variantOf(loss)), dash, points: line(ours.filter((row) => row.loss === loss && row.by === by && row.threads === count), ({ products }) => products),
    })));
    const most = Math.max(...series.flatMap(({ points }) => points.map(([, , , upper]) => upper!)));
    return lineChart(`${FORMS[form] ?? form}, ${threadsOf(count)}`, `Time in matrix products against n, ${form}. The table below holds the numbers.`, series, { ...axes(report), y: 'products n × n × dim', yDomain: [0, most] });
  });
  return {
    id: 'variants', title: 'The variants beside the plain loss',
    body: html`<p>Loss and gradient of n rows of ${dim} float32 numbers, in units of one matrix product n × n × ${dim}: medians, and quartiles as bars.</p>
${legend([...variants.map((name, style) => ({ name, style })), ...names.slice(1).map((name, at) => ({ name, style: 0, dash: at + 1 }))])}<div class="charts">${charts}</div>`,
  };
}

const variantOf = (loss: string): string => loss.split(', ')[1] ?? 'plain';
const threadsOf = (count: number): string => `${count} thread${count === 1 ? '' : 's'}`;

/** Every loss of a form, with everyone who has it. */
function plots(report: BenchmarkReport, form: string): Section {
  const { rows, settings: { threads } } = report;
  const everyone = distinct(rows.map(({ by }) => by)), of = rows.filter(({ loss }) => formOf(loss) === form), here = distinct(of.map(({ by }) => by));
  const charts = distinct(of.map(({ loss }) => loss)).map((loss): Html => {
    const series = (quantity: Quantity) => everyone.flatMap((by, style) => threads.map((count, dash) => ({
      name: by, style, dash, points: line(of.filter((row) => row.loss === loss && row.by === by && row.threads === count), quantity.of),
    }))).filter(({ points }) => points.length > 0);
    return html`<h3>${loss}</h3><div class="charts">${QUANTITIES.map((quantity) =>
      lineChart(quantity.name, `${loss}: ${quantity.name} against n. The table below holds the numbers.`, series(quantity), { ...axes(report), y: quantity.y, logY: true }))}</div>`;
  });
  return {
    id: form, title: FORMS[form] ?? form,
    body: html`${legend([...here.map((name) => ({ name, style: everyone.indexOf(name) })), ...(threads.length > 1 ? threads.map((count, dash) => ({ name: threadsOf(count), style: 0, dash })) : [])])}${charts}`,
  };
}

const spread = ({ median, lower, upper }: Quartiles): Part => html`${short(median)} <span class="soft">${short(lower)} to ${short(upper)}</span>`;

function numbers({ rows, products, call }: BenchmarkReport): Section {
  return {
    id: 'numbers', title: 'Every number',
    body: html`${dataTable('One matrix product n × n × dim in float32, the unit. Medians, and quartiles in grey.', ['n', 'threads', 'ms', 'GFLOP/s'], products.map(({ n, threads, ms, gflops }) => [n, threads, spread(ms), short(gflops)]), { text: 0 })}
${dataTable('A call on four rows of two numbers, in microseconds: what does not grow with n.', ['', 'µs'], [['forward', spread(call.forward)], ['forward and backward', spread(call.both)], ['the same of a sum, one operator of LibTorch', spread(call.sum)]], { text: 1 })}
${dataTable('Loss and gradient. Products: time in units of a product of the same round (of a queue: of its n / 12 anchors with n rows); CPU time: the same of processor time; of ours: time in units of a-infonce; memory: extra peak of one call, the gradient among it.',
    ['loss', 'by', 'n', 'threads', 'ms', 'products', 'CPU time', 'of ours', 'memory (MB)', 'runs'],
    rows.map(({ loss, by, n, threads, ms, products: units, cpuProducts, ofOurs, peakBytes, runs }) =>
      [loss, by, n, threads, spread(ms), spread(units), short(cpuProducts), short(ofOurs), peakBytes === undefined ? '–' : short(peakBytes / 1e6), runs]), { text: 2 })}`,
  };
}

const missing = ({ absent }: BenchmarkReport): Section => ({
  id: 'missing', title: 'Not measured',
  body: absent.length > 0 ? absent.map(({ what, why }) => html`<p class="missing">${what}: ${why}</p>`) : html`<p>Everyone was there, and gave our loss and our gradient.</p>`,
});

function machine({ environment, settings, seconds }: BenchmarkReport): Section {
  const rows = Object.entries({ ...environment, ...settings, seconds: `${settings.seconds} for each loss, size and number of threads; ${Math.round(seconds)} in all` });
  return { id: 'machine', title: 'Machine and settings', body: dataTable('Where and how it was measured; load: the one-minute average when it began.', ['', 'value'], rows.map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : String(value)]), { text: 2 }) };
}
