/** Charts as SVG: drawn by Observable Plot, in the text's own colour, so that they follow light and dark. */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { Html, html, type Part } from './html.js';

const { document } = parseHTML('<html></html>');

/** Colours that stand out from white and from black, told apart by the colour-blind too (Okabe and Ito, the light ones darker). */
export const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#b8860b', '#56a0d3', '#8c6bb1', '#7a7a7a', '#6a9a00', '#e7298a'];
const DASHES = ['', '6 3', '2 2', '8 3 2 3', '1 3'];

/** How a line is drawn, everywhere on the page: a colour a run, a dash a classifier of it. */
export interface Look {
  style: number;
  /** Default 0: solid. */
  dash?: number;
}
export const colourOf = (at: number): string => COLOURS[at % COLOURS.length]!;
const dashOf = (at = 0): string => DASHES[at % DASHES.length]!;

export interface Series extends Look {
  name: string;
  /** With `lower` and `upper` a bar is drawn between them. */
  points: readonly (readonly [x: number, y: number, lower?: number, upper?: number])[];
}

export interface Axes {
  x: string;
  y: string;
  /** Where the axes begin and end, if not with the data. */
  xDomain?: [number, number];
  yDomain?: [number, number];
  percent?: boolean;
  logX?: boolean;
  logY?: boolean;
  /** Default: round numbers. */
  xTicks?: number[];
}

/** A figure with its caption; a label for readers who do not see it. */
export function figure(caption: Part, label: string, chart: Plot.PlotOptions): Html {
  const svg = Plot.plot({ ...chart, document: document as never, style: { overflow: 'visible' } }) as unknown as { outerHTML: string };
  return html`<figure><figcaption>${caption}</figcaption><svg role="img" aria-label="${label}"${new Html(short(svg.outerHTML).replace(/^<svg/, ''))}</figure>`;
}

/** Coordinates to a hundredth of a pixel: a third of the size. */
function short(svg: string): string {
  return svg.replace(/ (?:d|transform|x|y|x1|x2|y1|y2|width|height|cx|cy)="[^"]*"/g, (attribute) => attribute.replace(/(\.\d\d)\d+/g, '$1'));
}

/** One line a series; dots too where there are few points. */
export function lineChart(caption: Part, label: string, series: readonly Series[], { x, y, xDomain, yDomain, percent = false, logX = false, logY = false, xTicks }: Axes): Html {
  // The one tick of an axis over a single value would have six decimals, more than its margin holds.
  const single = (axis: 0 | 1) => new Set(series.flatMap(({ points }) => points.map((point) => point[axis]))).size === 1 && { tickFormat: (at: number) => String(Number(at.toPrecision(6))) };
  const few = series.every(({ points }) => points.length <= 30);
  return figure(caption, label, {
    width: 400, height: 245, marginLeft: 50, marginBottom: 38,
    x: { label: x, labelAnchor: 'center', labelArrow: 'none', ...(xDomain && { domain: xDomain }), ...(logX ? { type: 'log' as const, tickFormat: '~s' } : single(0)), ...(xTicks && { ticks: xTicks, tickFormat: String, inset: 6 }) },
    y: { label: y, labelArrow: 'none', grid: true, ...(logY ? { type: 'log' as const, tickFormat: '~g' } : { nice: true, ...single(1) }), ...(yDomain && { domain: yDomain }), ...(percent && { percent: true }) },
    marks: [
      ...series.filter(({ points }) => points.some((point) => point.length > 2)).map(({ points, style }) => Plot.ruleX(points, { x: '0', y1: '2', y2: '3', stroke: colourOf(style), strokeOpacity: 0.5 })),
      ...series.map(({ points, style, dash }) => Plot.line(points, { x: '0', y: '1', stroke: colourOf(style), strokeWidth: 1.8, strokeDasharray: dashOf(dash), ...(few && { marker: 'dot' as const }) })),
    ],
  });
}

/** Densities over [-1, 1], one outline a distribution. */
export function densityChart(caption: Part, label: string, distributions: readonly (Look & { name: string; counts: readonly number[] })[]): Html {
  return figure(caption, label, {
    width: 400, height: 215, marginLeft: 42, marginBottom: 38,
    x: { label: 'cosine similarity', labelAnchor: 'center', labelArrow: 'none', domain: [-1, 1] },
    y: { label: 'density', labelArrow: 'none', grid: true, nice: true },
    marks: distributions.flatMap(({ counts: fine, style, dash }) => {
      const total = fine.reduce((sum, each) => sum + each, 0);
      // Few pairs: wider bins, or noise is all that shows.
      const merged = total < 2000 ? 4 : 1, width = (2 / fine.length) * merged;
      const bins = Array.from({ length: fine.length / merged }, (_, bin) => fine.slice(bin * merged, (bin + 1) * merged).reduce((sum, each) => sum + each, 0) / total / width);
      const points = [...bins, bins.at(-1)!].map((density, edge) => [edge * width - 1, density]);
      const common = { x: '0', y: '1', curve: 'step-after' as const };
      return [Plot.areaY(points, { ...common, fill: colourOf(style), fillOpacity: 0.15 }), Plot.lineY(points, { ...common, stroke: colourOf(style), strokeDasharray: dashOf(dash) })];
    }),
  });
}

/** Points in two dimensions, a colour a class: filled for images, crosses for adversaries. */
export function mapChart(caption: Part, label: string, labels: readonly number[], images: readonly (readonly [number, number])[], adversaries: readonly (readonly [number, number])[]): Html {
  const point = (of: readonly (readonly [number, number])[]) => of.map(([x, y], row) => ({ x, y, colour: colourOf(labels[row]!) }));
  return figure(caption, label, {
    width: 400, height: 340, margin: 8, axis: null,
    marks: [
      Plot.dot(point(adversaries), { x: 'x', y: 'y', stroke: 'colour', symbol: 'times', r: 2.5, strokeWidth: 1, strokeOpacity: 0.75 }),
      Plot.dot(point(images), { x: 'x', y: 'y', fill: 'colour', r: 2.2, fillOpacity: 0.85 }),
    ],
    color: { type: 'identity' },
  });
}

/** What the colours and dashes mean. */
export function legend(names: readonly (Look & { name: Part; kind?: 'line' | 'dot' })[]): Html {
  return html`<ul class="legend">${names.map(({ name, kind = 'line', ...look }) => html`<li>${swatch(look, kind)} ${name}</li>`)}</ul>`;
}

export function swatch({ style, dash }: Look, kind: 'line' | 'dot' = 'line'): Html {
  const mark = kind === 'dot'
    ? html`<circle cx="5" cy="6" r="4" fill="${colourOf(style)}"/>`
    : html`<line x1="0" x2="28" y1="6" y2="6" stroke="${colourOf(style)}" stroke-width="3" stroke-dasharray="${dashOf(dash)}"/>`;
  return html`<svg class="swatch" aria-hidden="true" width="${kind === 'dot' ? 10 : 28}" height="12">${mark}</svg>`;
}
