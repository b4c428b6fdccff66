// Measures the loss on this machine and draws docs/images/benchmark.svg: processor time, the ratio that a busy machine changes least. With the package built:
//     npm run plots --prefix docs/site -- [--python <interpreter with PyTorch>]      or, of what was measured already: -- --from <json>
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { colourOf, lineChart } from '../../dist/report/charts.js';
import { benchmark } from '../../dist/index.js';

const { values: { python, from, to } } = parseArgs({ options: { python: { type: 'string' }, from: { type: 'string' }, to: { type: 'string', default: fileURLToPath(new URL('../images/benchmark.svg', import.meta.url)) } } });
const LOSSES = { 'paper, two views': 'NT-Xent (two views)', 'advcl, IP+HN': 'AdvCL with IP and HN' };
const measure = async () => {
  const runs = [];
  for (const only of Object.keys(LOSSES)) runs.push(await benchmark({ only, python, threads: [1], sizes: [384, 768, 1536, 3072, 6144], seconds: 0.25 }));
  return { date: new Date().toISOString().slice(0, 10), rows: runs.flatMap(({ rows }) => rows), absent: runs[0].absent, environment: runs[0].environment, settings: runs[0].settings };
};
const report = from ? JSON.parse(readFileSync(from, 'utf8')) : await measure();
if (!from) writeFileSync(to.replace(/\.svg$/, '.json'), `${JSON.stringify(report)}\n`);

const { date, rows, environment: { processor, instructionSet, libtorch, node, torch }, settings: { dim, sizes } } = report;
const everyone = [...new Set(rows.map(({ by }) => by))], WIDTH = 400, HEIGHT = 278, TOP = 44;
const QUANTITIES = [
  { name: 'processor time', y: 'products n × n × dim', of: ({ cpuProducts }) => cpuProducts },
  { name: 'extra peak memory', y: 'MB', of: ({ peakBytes }) => peakBytes && peakBytes / 1e6 },
];
let x = 12;
const legend = everyone.map((by, style) => {
  const at = x;
  x += 34 + by.length * 6.6;
  return `<line x1="${at}" x2="${at + 18}" y1="14" y2="14" stroke="${colourOf(style)}" stroke-width="3"/><text x="${at + 23}" y="18">${by}</text>`;
});
const width = Math.max(2 * WIDTH, x);
const panels = Object.entries(LOSSES).flatMap(([loss, title], row) => QUANTITIES.map(({ name, y, of }, column) => {
  const series = everyone.map((by, style) => ({ name: by, style, points: rows.filter((each) => each.loss === loss && each.by === by).flatMap((each) => (of(each) ? [[each.n, of(each)]] : [])).sort(([a], [b]) => a - b) }))
    .filter(({ points }) => points.length > 0);
  const { text } = lineChart('', '', series, { x: 'n (rows)', y, logX: true, logY: true, xTicks: [...sizes] });
  const svg = /<svg[\s\S]*<\/svg>/.exec(text)[0].replace('<svg', `<svg x="${column * width / 2}" y="${TOP + row * HEIGHT + 22}"`);
  return `<text class="title" x="${column * width / 2 + 12}" y="${TOP + row * HEIGHT + 12}">${title}: ${name}</text>${svg}`;
}));
const where = `${date}: ${processor}, one thread, ${instructionSet}; rows of ${dim} float32; LibTorch ${libtorch}, Node.js ${node}${torch ? `, PyTorch ${torch}` : ''}. Loss and gradient, medians.`;
const height = TOP + 2 * HEIGHT + 24;
writeFileSync(to, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="12">
<style>svg { color: #1b1f24; fill: currentColor; --plot-background: #fff } .page { fill: #fff } .title { font-weight: 600 }
@media (prefers-color-scheme: dark) { svg { color: #e8eaed; --plot-background: #14171b } .page { fill: #14171b } }</style>
<rect class="page" width="100%" height="100%" rx="6"/>${legend.join('')}${panels.join('')}<text x="12" y="${height - 10}" font-size="11" opacity=".75">${where}</text></svg>
`);
