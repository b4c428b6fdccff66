/** The parts of the page. Each says what to type where there is nothing to show. */
import { join } from 'node:path';
import sharp from 'sharp';
import type { Distribution } from '../analysis/distribution.js';
import type { RecordedAnalysis } from '../analysis/file.js';
import { FROST_NOTE } from '../data/corrupt.js';
import type { Result } from '../evaluation/results.js';
import { densityChart, legend, lineChart, mapChart, swatch, type Series } from './charts.js';
import { dataTable, html, missing, type Html, type Part } from './html.js';
import { ball, duration, flatten, grouped, halfInterval, percent, value } from './numbers.js';
import type { Section } from './page.js';
import type { Metric, RunFiles } from './read.js';
import type { StepValues } from '../training/methods/method.js';
import { corruptionOf, contradictions, curvesOf, doubtful, rowsOf, subjectsOf, unidentified, type Curve, type Subject } from './results.js';

/** Shell quoting of the folders, as one types them. */
const typed = (runs: readonly RunFiles[]): string => runs.map(({ given }) => (/^[\w./+=:@%-]+$/.test(given) ? given : `'${given.replaceAll("'", `'\\''`)}'`)).join(' ');

const named = ({ name }: { name: string }, style: number, dash = 0): Html => html`<span class="run">${swatch({ style, dash })} ${name}</span>`;

export function overview(runs: readonly RunFiles[]): Section {
  const rows = runs.map((run, style) => {
    const { config, metrics } = run;
    const steps = metrics.filter(({ type }) => type === 'step'), last = steps.at(-1);
    const at = flatten(config), epochs = metrics.filter(({ type }) => type === 'epoch').length;
    const seconds = metrics.reduce((sum, each) => sum + (each.type === 'epoch' && typeof each['seconds'] === 'number' ? each['seconds'] : 0), 0);
    const loss = metrics.findLast(({ type }) => type === 'epoch')?.['loss'] ?? last?.['loss'];
    return [
      named(run, style), config.preset, variant(at), `${config.data.name}${config.data.images ? `, ${grouped(config.data.images)} images` : ''}`,
      `${value(at.get('encoder.architecture'))}, width ${value(at.get('encoder.width'))}`, `${epochs} of ${config.epochs}`, grouped(last?.step ?? 0), config.batchSize,
      value(at.get('schedule.rate')), seconds > 0 ? duration(seconds) : '–', typeof loss === 'number' ? loss.toFixed(3) : '–', run.finished ? 'finished' : 'not finished',
    ];
  });
  const open = runs.filter(({ finished }) => !finished);
  return {
    id: 'runs', title: 'Runs',
    body: html`${dataTable('What was trained. The line before a name is how the run is drawn in every chart; classifiers of a run differ in their dashes.',
      ['run', 'preset', 'objective', 'data', 'encoder', 'epochs', 'steps', 'batch (images)', 'rate', 'training time', 'loss, last epoch', 'state'], rows, { text: 5 })}
${open.map((run) => missing(`${run.name} is not finished.`, `a-infonce pretrain --out ${typed([run])} --resume`))}`,
  };
}

/** IP, HN, IP+HN with their values, or the plain loss. */
function variant(at: Map<string, unknown>): string {
  const parts = [['IP', 'inferiorPositive'], ['HN', 'hardNegative']].flatMap(([name, key]) => {
    const prefix = `objective.${key}.`, values = [...at].filter(([path]) => path.startsWith(prefix));
    return values.length > 0 ? [`${name} (${values.map(([path, each]) => `${path.slice(prefix.length)} ${value(each)}`).join(', ')})`] : [];
  });
  return parts.join(' + ') || 'plain';
}

/** Settings that are put into words; the others follow by name. */
const SPOKEN = ['attack', 'norm', 'epsilon', 'stepSize', 'steps', 'randomStart', 'restarts', 'batchSize', 'limit', 'clampStart'];

/** How a number was measured, or all numbers of a curve: there the step may be a share of epsilon. */
function protocol({ data, total, settings, ratio }: Pick<Result, 'data' | 'total' | 'settings'> & { ratio?: number }): string {
  const { norm, epsilon, stepSize, steps, randomStart, restarts, clampStart } = settings;
  return [
    `${grouped(total)} images of ${data}`, ...(norm === undefined ? [] : [value(norm)]),
    ...(typeof epsilon === 'number' ? [`epsilon ${ball(epsilon)}`] : []), ...(typeof stepSize === 'number' ? [`step ${ball(stepSize)}`] : []),
    ...(ratio === undefined ? [] : [`step ${Number(ratio.toPrecision(4))} epsilon`]),
    ...(steps === undefined ? [] : [`${value(steps)} step${steps === 1 ? '' : 's'}`]), ...(randomStart === undefined ? [] : [`${randomStart ? 'random start' : 'start at the image'}${randomStart && clampStart === false ? ', not clamped' : ''}`]),
    ...(restarts === undefined || restarts === 1 ? [] : [`${value(restarts)} restarts`]),
    ...Object.entries(settings).filter(([key, each]) => !SPOKEN.includes(key) && each !== false && each !== null && !(key === 'momentum' && each === 0)).map(([key, each]) => (each === true ? key : `${key} ${value(inOrder(each))}`)),
  ].join(', ');
  /** Of attacks one after the other (AutoAttack), their names and what tells them apart. */
  function inOrder(each: unknown): unknown {
    const attacks = each as { attack: string; loss?: unknown; targets?: unknown; queries?: unknown }[];
    return Array.isArray(each) && each.every((one) => typeof (one as { attack?: unknown } | null)?.attack === 'string') ? attacks.map(({ attack, loss, targets, queries }) => {
      const towards = targets !== undefined && (attack === 'fab' || loss === 'dlr-targeted');
      const what = [...(loss === undefined ? [] : [value(loss)]), ...(towards ? [`${value(targets)} targets`] : []), ...(queries === undefined ? [] : [`${value(queries)} queries`])];
      return what.length > 0 ? `${attack} (${what.join(', ')})` : attack;
    }).join(' + ') : each;
  }
}

const shareOf = (result: Result): Part => html`${percent(result.accuracy)}${unidentified(result) && html`<sup>†</sup>`}`;

const accuracyCell = (result: Result | undefined, best: boolean): Part =>
  (result === undefined ? '–' : html`<span${best ? html` class="best"` : ''}>${shareOf(result)}</span> <span class="soft">± ${(100 * halfInterval(result)).toFixed(1)}</span>`);

/** The footnote of a table. */
const daggers = (results: readonly (Result | undefined)[]): Part =>
  results.some((each) => each && unidentified(each)) && html`<p class="soft">† Recorded without the classifier's digest: whether it is of the classifier that is in the folder now cannot be told.</p>`;

/** What to type to measure a classifier of the run, made first if there is none. */
function measuring(run: RunFiles, command: string): string {
  const [file] = run.classifiers, folder = typed([run]);
  const of = file === undefined || file === 'classifier.safetensors' ? folder : typed([{ ...run, given: join(run.given, file) }]);
  return `${file === undefined ? `a-infonce finetune ${folder} && ` : ''}a-infonce ${command.replace('*', of)}`;
}

export function accuracy(runs: readonly RunFiles[], subjects: readonly Subject[]): Section {
  const rows = rowsOf(subjects);
  const without = runs.filter(({ results }) => results.every(corruptionOf)), stale = runs.filter((run) => run.stale > 0);
  const table = rows.length > 0 && dataTable(
    'Share of test images classified right; an image counts as right under attack only if it is right without it too. Each row is one protocol, its best in bold; ± is half the 95 % interval of the sample (Wilson). Epsilon and step: in units of pixels in [0, 1].',
    ['measure and protocol', ...subjects.map((subject) => named(subject, subject.style, subject.dash))],
    rows.map(({ protocol: measured, results }) => {
      const most = Math.max(...results.map((each) => each?.accuracy ?? -1));
      return [html`<strong>${measured.name}</strong><span class="soft protocol">${protocol(measured)}</span>`, ...results.map((each) => accuracyCell(each, each?.accuracy === most && results.filter(Boolean).length > 1))];
    }));
  return {
    id: 'accuracy', title: 'Accuracy, clean and under attack',
    body: html`${table}${daggers(rows.flatMap((row) => row.results))}${[...contradictions(subjects), ...doubtful(subjects)].map((each) => html`<p class="missing">${each}</p>`)}
${stale.map((run) => missing(`${run.stale} numbers of ${run.name} are of classifiers that are no longer in its folder, and left out.`, measuring(run, 'evaluate *')))}
${without.map((run) => missing(`No accuracy, clean or under attack, was recorded of ${run.name}.`, measuring(run, 'evaluate * --attacks clean,pgd20')))}`,
  };
}

export function curveSection(runs: readonly RunFiles[], subjects: readonly Subject[], curves: readonly Curve[]): Section {
  const shown = curves.map((curve) => {
    const { of, lines } = curve, same = protocol(curve), linf = curve.settings['norm'] === 'linf' && of === 'epsilon';
    const series: Series[] = lines.map(({ subject, points }) => ({ name: subject.name, style: subject.style, dash: subject.dash, points: [...points].map(([at, { accuracy: each }]) => [linf ? 255 * at : at, each] as const) }));
    const all = [...new Set(lines.flatMap(({ points }) => [...points.keys()]))].sort((a, b) => a - b);
    const title = `Accuracy against ${of === 'epsilon' ? 'epsilon' : 'the number of steps'} (PGD)`;
    return {
      chart: lineChart(html`${title}. ${same}`, `${title}: ${same}. The table below holds the numbers.`, series,
        { x: of === 'epsilon' ? (linf ? 'epsilon (1/255)' : 'epsilon') : 'steps', y: 'accuracy (%)', percent: true, logX: of === 'steps' && all[0]! > 0 }),
      table: dataTable(`${title}. ${same}`, [of, ...lines.map(({ subject }) => named(subject, subject.style, subject.dash))],
        all.map((at) => [of === 'epsilon' ? ball(at) : at, ...lines.map(({ points }) => accuracyCell(points.get(at), false))])),
    };
  });
  const drawn = new Set(curves.flatMap(({ lines }) => lines.map(({ subject }) => subject.run)));
  const without = runs.filter((run) => !drawn.has(run)), usual = without.filter(({ classifiers: [file] }) => file === 'classifier.safetensors');
  const uncurved = (some: RunFiles[], type: string) => missing(`No curves were measured of ${some.map(({ name }) => name).join(', ')}.`, type);
  return {
    id: 'curves', title: 'Accuracy against epsilon and steps',
    body: html`${shown.length > 0 && html`${legend(subjects.filter((subject) => curves.some(({ lines }) => lines.some((line) => line.subject === subject))))}<div class="charts">${shown.map(({ chart }) => chart)}</div>`}${shown.map(({ table }) => table)}
${usual.length > 0 && uncurved(usual, `a-infonce analyze ${typed(usual)} --curves --limit 200`)}${without.filter((run) => !usual.includes(run)).map((run) => {
    const { classifiers: [file] } = run, folder = typed([run]);
    return uncurved([run], `${file === undefined ? `a-infonce finetune ${folder} && ` : ''}a-infonce analyze ${folder}${file === undefined ? '' : ` --classifier ${file}`} --curves --limit 200`);
  })}`,
  };
}

/** What the numbers of a step are called. Those of a method that is not here are shown under their own names. */
const METRICS: Record<keyof StepValues | 'learningRate' | 'imagesPerSecond', string> = {
  loss: 'loss', contrastive: 'contrastive term of the loss', regularizer: 'regulariser (unweighted)', gradientNorm: 'norm of the gradient',
  clean: 'contrastive loss of the clean stream', adversarial: 'contrastive loss of the adversarial stream',
  standardInvariance: 'invariance, clean (unweighted)', adversarialInvariance: 'invariance, adversarial (unweighted)',
  perturbation: 'mean change of a pixel / epsilon', crossEntropy: 'cross-entropy of the pseudo-labels (unweighted)', alpha: 'alpha of the inferior positives',
  distance: 'distance of features, image and adversary', learningRate: 'learning rate', imagesPerSecond: 'images per second',
};
const UNDRAWN = ['step', 'epoch', 'secondsLeft'];
const POINTS = 180;
/** Of files that name more metrics than any method has. */
const CHARTS = 30;

export function training(runs: readonly RunFiles[]): Section {
  const keys = [...new Set(runs.flatMap(({ metrics }) => metrics.filter(({ type }) => type === 'step').flatMap((each) => Object.entries(each).filter(([, v]) => typeof v === 'number').map(([key]) => key))))]
    .filter((key) => !UNDRAWN.includes(key));
  const charts = keys.slice(0, CHARTS).map((key) => {
    const series = runs.map((run, style) => ({ name: run.name, style, points: thinned(run.metrics, key) })).filter(({ points }) => points.length > 0);
    const name = METRICS[key as keyof typeof METRICS] ?? inWords(key);
    return lineChart(name, `${name} over the epochs of ${series.map((each) => each.name).join(', ')}; last: ${series.map(({ points }) => points.at(-1)![1].toPrecision(4)).join(', ')}`, series, { x: 'epoch', y: '' });
  });
  const without = runs.filter(({ metrics }) => metrics.length === 0);
  return {
    id: 'training', title: 'Training',
    body: html`${charts.length > 0 && html`<p class="soft">Over the epochs; where there are many steps a point is the median of neighbours. Losses of different objectives are not to be compared.</p>
${legend(runs.map((run, style) => ({ name: run.name, style })))}<div class="charts">${charts}</div>${keys.length > CHARTS && html`<p class="soft">${grouped(keys.length - CHARTS)} more are in metrics.jsonl, not drawn here.</p>`}`}
${without.map((run) => missing(`There is no metrics.jsonl in ${run.name}.`, `a-infonce pretrain --out ${typed([run])} --resume`))}`,
  };
}

/** `crossEntropy` as `cross entropy`. */
const inWords = (key: string): string => key.replace(/([a-z])([A-Z])/g, (_, end: string, start: string) => `${end} ${start.toLowerCase()}`);

/** A number of the steps over the epochs, in at most POINTS points. */
function thinned(metrics: readonly Metric[], key: string): [number, number][] {
  const steps = metrics.filter((each) => each.type === 'step' && Number.isFinite(each[key]));
  // Steps of an epoch: from the first epoch that ended, else those that were done.
  const end = metrics.find(({ type }) => type === 'epoch');
  const each = end ? end.step / (end.epoch + 1) : Math.max(1, steps.at(-1)?.step ?? 1);
  // The median, so that a short last batch of an epoch does not stand out.
  const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1]!;
  const count = Math.min(POINTS, steps.length), edge = (at: number) => Math.round((at * steps.length) / count);
  return Array.from({ length: count }, (_, at) => {
    const some = steps.slice(edge(at), edge(at + 1));
    return [median(some.map(({ step }) => step)) / each, median(some.map((metric) => metric[key] as number))];
  });
}

async function png(pixels: Uint8Array, size: number): Promise<string> {
  return `data:image/png;base64,${(await sharp(pixels, { raw: { width: size, height: size, channels: 3 } }).png({ compressionLevel: 9 }).toBuffer()).toString('base64')}`;
}

export async function images(runs: readonly RunFiles[]): Promise<Section> {
  const grids: Part[] = [];
  for (const [style, run] of runs.entries()) {
    const { analysis, examples } = run;
    if (!analysis || !examples) continue;
    const name = (label: number | undefined) => (label === undefined ? '–' : analysis.classes[label] ?? String(label));
    const row = async (title: string, pixels: readonly Uint8Array[], alt: (at: number) => string) =>
      html`<tr><th scope="row">${title}</th>${await Promise.all(pixels.map(async (each, at) => html`<td><img src="${await png(each, examples.size)}" width="68" height="68" alt="${alt(at)}"></td>`))}</tr>\n`;
    const label = (at: number) => name(analysis.examples[at]!.label);
    const { attack, classifier } = analysis;
    const of = classifier ? 'the classifier' : 'the contrastive loss';
    const { norm, epsilon } = attack;
    const gray = norm === 'linf' ? `black is -${ball(epsilon)}, white +${ball(epsilon)}` : 'black and white are the largest change';
    const [clean, adversarial, difference] = [
      await row('clean', examples.clean, (at) => `${label(at)}, clean`), await row('adversarial', examples.adversarial, (at) => `${label(at)}, adversarial`),
      await row('difference', examples.difference, (at) => `change of the ${label(at)}, amplified`)];
    const says = (title: string, key: 'predicted' | 'adversarial') => html`<tr><th scope="row">${title}</th>${analysis.examples.map((each) => html`<td>${each[key] === each.label ? name(each[key]) : html`<strong>${name(each[key])}</strong>`}</td>`)}</tr>\n`;
    grids.push(html`<h3>${named(run, style)}</h3><div class="scroll" tabindex="0"><table class="grid">
<caption><span>The first test image of each class, its adversary against ${of} (${norm}, epsilon ${ball(epsilon)}, ${attack.steps} steps), and the change, amplified: gray is none, ${gray}.${classifier ? ' Wrong predictions in bold.' : ''}</span></caption>
<thead><tr><td></td>${analysis.examples.map((each) => html`<th scope="col">${name(each.label)}</th>`)}</tr></thead>
<tbody>${clean}${classifier && says('predicted', 'predicted')}${adversarial}${classifier && says('predicted', 'adversarial')}${difference}</tbody></table></div>`);
  }
  return { id: 'images', title: 'Images, adversaries and what changed', body: [...grids, unanalysed(runs, 'No images')] };
}

const unanalysed = (runs: readonly RunFiles[], what: string): Part => {
  const without = runs.filter(({ analysis, examples }) => !analysis || (what === 'No images' && !examples));
  const names = (some: RunFiles[]) => some.map(({ name }) => name).join(', '), stale = without.filter(({ analysisStale }) => analysisStale), never = without.filter((run) => !stale.includes(run));
  const why = [...(never.length > 0 ? [`${what} of ${names(never)}: not analysed yet.`] : []),
    ...(stale.length > 0 ? [`${what} of ${names(stale)}: what was analysed is an encoder or a classifier that is no longer in its folder.`] : [])].join(' ');
  return without.length > 0 && missing(why, `a-infonce analyze ${typed(without)} --limit 1000`);
};

/** Drawn in styles that few runs reach. */
const KINDS = [['positive', 'two views of an image', { style: 5, dash: 0 }], ['adversarialPositive', 'adversary and other view', { style: 9, dash: 4 }], ['negative', 'views of different images', { style: 7, dash: 2 }]] as const;

export function similarity(runs: readonly RunFiles[]): Section {
  const found = runs.flatMap((run, style) => (run.analysis ? [{ run, style, analysis: run.analysis }] : []));
  const charts = found.map(({ run, style, analysis }) => densityChart(named(run, style),
    `Densities of cosine similarities of ${run.name}: ${KINDS.map(([key, name]) => `${name}, mean ${analysis.similarity[key].mean.toFixed(3)}`).join('; ')}`,
    KINDS.map(([key, name, look]) => ({ name, ...look, counts: analysis.similarity[key].counts }))));
  const row = (name: Part, kind: string, { count, mean, quantiles }: Distribution): Part[] => [name, kind, grouped(count), mean.toFixed(3), ...Object.values(quantiles).map((each) => each.toFixed(3))];
  const levels = Object.keys(found[0]?.analysis.similarity.positive.quantiles ?? {}).map((level) => `${Math.round(100 * Number(level))} %`);
  const settingsOf = ({ attack, images: count, space }: RecordedAnalysis) =>
    `${grouped(count)} images, ${attack.norm}, epsilon ${ball(attack.epsilon)}, step ${ball(attack.stepSize)}, ${attack.steps} steps, batches of ${attack.batchSize}, compared in the ${space}`;
  const same = new Set(found.map(({ analysis }) => settingsOf(analysis))).size === 1;
  const share = ({ identity, class: other }: { identity: number; class: number }): Part => html`${percent(identity)} <span class="soft">(${percent(other)})</span>`;
  return {
    id: 'similarity', title: 'Similarities and identity confusion',
    body: html`${found.length > 0 && html`<p>Each image has two random views. The contrastive adversary moves view 1, or the image as it is, up the contrastive loss against view 2, the method's own attack
(${same ? settingsOf(found[0]!.analysis) : found.map(({ run, analysis }) => `${run.name}: ${settingsOf(analysis)}`).join('; ')}).</p>
${dataTable('Identity confusion: the share whose nearest neighbour is another image (in brackets: an image of another class): of view 1 and of its adversary among the second views, of the adversaries of the images among the images. Lower is better. Alignment: mean squared distance of two views; uniformity: log mean exp(-2 squared distance) of different images; both lower is better.',
    ['run', 'view 1', 'its adversary', 'image, contrastive adversary', "image, classifier's adversary", 'alignment', 'alignment of adversaries', 'uniformity'],
    found.map(({ run, style, analysis: { confusion, classifier, alignment, uniformity } }) => [
      named(run, style), share(confusion.views.clean), share(confusion.views.adversarial), share(confusion.images),
      classifier ? share(classifier.confusion) : '–', alignment.clean.toFixed(3), alignment.adversarial.toFixed(3), uniformity.clean.toFixed(3),
    ]))}
${legend(KINDS.map(([, name, look]) => ({ name, ...look })))}<div class="charts">${charts}</div>
${dataTable('Cosine similarities: pairs, mean and quantiles.', ['run', 'pairs of', 'pairs', 'mean', ...levels], found.flatMap(({ run, style, analysis }) => [
    ...KINDS.map(([key, kind]) => row(named(run, style), kind, analysis.similarity[key])),
    row(named(run, style), 'adversary and views of other images', analysis.similarity.adversarialNegative),
    ...(analysis.classifier ? [row(named(run, style), "classifier's adversary and its image", analysis.classifier.similarity)] : []),
  ]), { text: 2 })}`}${unanalysed(runs, 'No similarities')}`,
  };
}

export function maps(runs: readonly RunFiles[]): Section {
  const found = runs.flatMap((run, style) => (run.analysis ? [{ run, style, analysis: run.analysis }] : []));
  const charts = found.flatMap(({ run, style, analysis: { map: { labels, pca, umap } } }) => [
    mapChart(html`${named(run, style)}: UMAP`, `UMAP of ${labels.length} images and their adversaries of ${run.name}`, labels, umap.images, umap.adversaries),
    mapChart(html`${named(run, style)}: PCA, ${percent(pca.explained[0] + pca.explained[1])} of the variance`, `Principal axes of ${labels.length} images and their adversaries of ${run.name}`, labels, pca.images, pca.adversaries),
  ]);
  const classes = [...new Set(found.flatMap(({ analysis }) => analysis.map.labels))].sort((a, b) => a - b).slice(0, 20);
  return {
    id: 'maps', title: 'Maps of the embeddings',
    body: html`${found.length > 0 && html`<p>Dots are images as they are, crosses their contrastive adversaries, a colour a class. UMAP: ${found[0]!.analysis.map.umap.neighbours} neighbours by cosine distance, images and adversaries together.
Neither axis has a unit; in UMAP only neighbourhoods mean something.</p>
${legend(classes.map((label) => ({ name: found[0]!.analysis.classes[label] ?? String(label), style: label, kind: 'dot' as const })))}<div class="charts pairs">${charts}</div>`}${unanalysed(runs, 'No maps')}`,
  };
}

export function corruptions(runs: readonly RunFiles[], subjects: readonly Subject[]): Section {
  const ours = new Set<unknown>(); // tables with a frost that is not the published one
  const tables = subjects.flatMap(({ name, style, dash, results }) => {
    const found = new Map<string, Map<string, (Result | undefined)[]>>();
    for (const result of results.values()) {
      const corruption = corruptionOf(result);
      if (!corruption) continue;
      const { source } = result.settings;
      const substitute = corruption.type === 'frost' && source === 'generated';
      const key = `${result.data}, ${grouped(result.total)} images${source === undefined ? '' : `, ${value(source)}`}`;
      const table = found.get(key) ?? found.set(key, new Map()).get(key)!;
      if (substitute) ours.add(table);
      (table.get(corruption.type) ?? table.set(corruption.type, Array<Result | undefined>(5).fill(undefined)).get(corruption.type)!)[corruption.severity - 1] = result;
    }
    const mean = (some: readonly (Result | undefined)[]) => {
      const there = some.filter((each) => each !== undefined);
      return there.length === 0 ? '–' : percent(there.reduce((sum, { accuracy: each }) => sum + each, 0) / there.length);
    };
    const means = (title: string, types: Map<string, (Result | undefined)[]>): Part[] =>
      [title, ...[0, 1, 2, 3, 4].map((at) => mean([...types.values()].map((each) => each[at]))), mean([...types.values()].flat())];
    return [...found].map(([of, types]) => dataTable(html`${swatch({ style, dash })} ${name}: accuracy on ${of}`, ['corruption', ...[1, 2, 3, 4, 5].map((each) => `severity ${each}`), 'mean'], [
      ...[...types].map(([type, each]) => [type, ...each.map((one) => (one ? shareOf(one) : '–')), mean(each)]),
      means('mean', types),
      ...(ours.has(types) && types.size > 1 ? [means('mean without frost', new Map([...types].filter(([type]) => type !== 'frost')))] : []),
    ]));
  });
  return {
    id: 'corruptions', title: 'Common corruptions',
    body: tables.length > 0 ? [...tables, ours.size > 0 && html`<p class="soft">${FROST_NOTE}</p>`] : missing('No corruptions were measured.', measuring(runs[0]!, 'corruptions *')),
  };
}

export function settings(runs: readonly RunFiles[]): Section {
  const shown = (key: string, of: unknown): string => (typeof of === 'number' && /(epsilon|stepSize)$/.test(key) ? ball(of) : value(of));
  const table = (caption: string, each: (run: RunFiles) => unknown) => {
    const flat = runs.map((run) => flatten(each(run) ?? {}));
    const keys = [...new Set(flat.flatMap((one) => [...one.keys()]))].filter((key) => key !== '');
    const cells = keys.map((key) => ({ key, values: flat.map((one) => shown(key, one.get(key))) }));
    const differs = ({ values }: { values: string[] }) => new Set(values).size > 1;
    const line = (row: { key: string; values: string[] }) => html`<tr${differs(row) ? html` class="differs"` : ''}><th scope="row" class="text"><code>${row.key}</code></th>${row.values.map((one) => html`<td>${one}</td>`)}</tr>\n`;
    return html`<div class="scroll" tabindex="0"><table><caption><span>${caption}</span></caption><thead><tr><th scope="col">key</th>${runs.map((run, style) => html`<th scope="col">${named(run, style)}</th>`)}</tr></thead>
<tbody>${[...cells.filter(differs), ...cells.filter((row) => !differs(row))].map(line)}</tbody></table></div>`;
  };
  const marked = runs.length > 1 ? ' What differs comes first and is marked.' : '';
  return {
    id: 'settings', title: 'Environment and configuration',
    body: html`${table(`What the runs were computed with (environment.json).${marked}`, ({ environment }) => environment)}
${table(`Everything resolved (config.json).${marked} Epsilon and step sizes: in units of pixels in [0, 1].`, ({ config }) => config)}`,
  };
}

/** All parts, in the order of the page. */
export async function sections(runs: readonly RunFiles[]): Promise<Section[]> {
  const subjects = subjectsOf(runs), curves = curvesOf(subjects);
  return [
    overview(runs), accuracy(runs, subjects), curveSection(runs, subjects, curves), training(runs), await images(runs), similarity(runs), maps(runs),
    corruptions(runs, subjects), settings(runs),
  ];
}
