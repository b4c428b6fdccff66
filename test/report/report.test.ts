import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseHTML } from 'linkedom';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ArgumentRangeError, ArgumentTypeError, FileError, memory, presets, pretrain, readAnalysis, readResults, recordResult, report, type Result } from 'a-infonce';
import { html } from '../../src/report/html.js';
import { ball, flatten, halfInterval, value } from '../../src/report/numbers.js';
import { contradictions, curvesOf, rowsOf, subjectsOf } from '../../src/report/results.js';
import { readRun, type RunFiles } from '../../src/report/read.js';
import { call as cli } from '../cli/call.js';
import { live } from '../fixtures/live.js';

const folder = mkdtempSync(join(tmpdir(), 'report-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const HOSTILE = '<script>alert(1)</script>&"\'';
const hostile = join(folder, HOSTILE.replace('/', '∕')), plain = join(folder, 'plain');
const pgd = (epsilon: number, steps: number) => ({ attack: 'pgd', norm: 'linf', epsilon, stepSize: epsilon / 4, steps, restarts: 1, randomStart: true, clampStart: true, seed: 0 });
const result = (name: string, correct: number, total: number, settings: Record<string, unknown>, more: Partial<Result> = {}): Omit<Result, 'time'> =>
  ({ model: 'classifier.safetensors', mode: 'slf', data: 'procedural', name, accuracy: correct / total, correct, total, settings, ...more });

let page: string, document: Document;
interface Document {
  querySelector(selector: string): Element | null;
  querySelectorAll(selector: string): Element[];
  documentElement: Element;
}
interface Element {
  textContent: string;
  getAttribute(name: string): string | null;
  querySelectorAll(selector: string): Element[];
  parentNode: Element;
}

beforeAll(async () => {
  for await (const event of pretrain({
    preset: 'quickstart', out: plain, epochs: 2, batchSize: 8,
    overrides: { data: { procedural: { train: 16, test: 24, size: 8 } }, encoder: { width: 2 }, projector: { hidden: [8], output: 4 }, attack: { steps: 1 } },
  })) void event;
  expect((await cli('finetune', plain, '--epochs', '1')).code).toBe(0);
  expect((await cli('evaluate', plain, '--attacks', 'clean,pgd1', '--limit', '20')).code).toBe(0);
  expect((await cli('analyze', plain, '--limit', '20', '--steps', '1')).code).toBe(0);
  for (const [i, epsilon] of [0, 0.01, 8 / 255].entries()) await recordResult(plain, result('pgd20', 18 - 4 * i, 24, pgd(epsilon, 20)));
  await recordResult(plain, result('autoattack', 1, 24, { attack: 'autoattack', norm: 'linf', epsilon: 8 / 255, attacks: [
    { attack: 'apgd', loss: 'ce', targets: 9 }, { attack: 'apgd', loss: 'dlr-targeted', targets: 9 }, { attack: 'fab', targets: 9 }, { attack: 'square', queries: 5000 }] }));
  for (const [type, correct] of [['fog', 12], ['frost', 6]] as const) await recordResult(plain, result(`${type}-1`, correct, 24, { source: 'generated' }));
  for (const severity of [1, 2, 3, 4, 5]) await recordResult(plain, result(`gaussian-noise-${severity}`, 20 - severity, 24, {}));
  cpSync(plain, hostile, { recursive: true });
  await recordResult(hostile, result(HOSTILE, 1, 24, { [HOSTILE]: HOSTILE }, { data: HOSTILE }));
  const config = JSON.parse(readFileSync(join(hostile, 'config.json'), 'utf8')) as { data: { name: string }; preset: string };
  writeFileSync(join(hostile, 'config.json'), JSON.stringify({ ...config, preset: HOSTILE, [HOSTILE]: HOSTILE, data: { ...config.data, name: HOSTILE } }));
  writeFileSync(join(hostile, 'environment.json'), JSON.stringify({ cpu: HOSTILE }));
  const analysis = JSON.parse(readFileSync(join(hostile, 'analysis.json'), 'utf8')) as { classes: string[] };
  writeFileSync(join(hostile, 'analysis.json'), JSON.stringify({ ...analysis, classes: analysis.classes.map(() => HOSTILE) }));
  writeFileSync(join(hostile, 'metrics.jsonl'), `${readFileSync(join(hostile, 'metrics.jsonl'), 'utf8')}{"type":"step","step":5,"epoch":2,"loss":1,${JSON.stringify(HOSTILE)}:2}\n{"type":"st`);
  const warnings: string[] = [];
  await report([plain, hostile], { out: join(folder, 'report.html'), title: HOSTILE, onWarning: (message) => warnings.push(message) });
  expect(warnings).toEqual([expect.stringMatching(/metrics\.jsonl: line \d+ is not whole/)]);
  page = readFileSync(join(folder, 'report.html'), 'utf8');
  document = parseHTML(page).document as unknown as Document;
});

describe('the page', () => {
  it('needs nothing beside it and runs nothing', () => {
    expect(document.querySelectorAll('script, iframe, object, embed, link, base, form')).toHaveLength(0);
    for (const element of document.querySelectorAll('*')) for (const name of ['src', 'href', 'action', 'srcset', 'data', 'xlink:href', 'poster']) {
      const target = element.getAttribute(name);
      if (target !== null) expect(target).toMatch(/^(#[a-z]+$|data:image\/png;base64,)/);
    }
    expect(page).not.toMatch(/\son[a-z]+="/);
    expect(page).not.toMatch(/url\((?!#)|@import/);
    expect([...page.matchAll(/https?:\/\/[^\s"'<]+/g)].map(([url]) => url).filter((url) => url !== 'http://www.w3.org/2000/svg' && url !== 'http://www.w3.org/1999/xlink')).toEqual([]);
    expect(document.querySelector('meta[http-equiv="Content-Security-Policy"]')!.getAttribute('content')).toMatch(/^default-src 'none'/);
  });

  it('escapes all that comes from files and names', () => {
    expect(page).not.toContain('<script');
    expect(document.querySelector('h1')!.textContent).toBe(HOSTILE);
    const cells = document.querySelectorAll('th, td, li, figcaption, img').map((each) => each.getAttribute('alt') ?? each.textContent);
    expect(cells.filter((text) => text.includes(HOSTILE)).length).toBeGreaterThan(10);
    expect(document.querySelectorAll('svg').some((each) => each.getAttribute('aria-label')?.includes(HOSTILE.replace('/', '∕')))).toBe(true);
  });

  it('is well-formed: elements are closed where they should be', () => {
    const VOID = new Set(['meta', 'br', 'img']), open: string[] = [];
    for (const [, close, name, self] of page.replace(/<!doctype html>|<style>[\s\S]*?<\/style>/g, '').matchAll(/<(\/?)([a-zA-Z][\w-]*)(?:\s+[^\s=>"'/]+(?:="[^"]*")?)*\s*(\/?)>/g)) {
      if (close) expect(open.pop()).toBe(name);
      else if (!self && !VOID.has(name!)) open.push(name!);
    }
    expect(open).toEqual([]);
    const ids = document.querySelectorAll('[id]').map((each) => each.getAttribute('id'));
    expect(new Set(ids).size).toBe(ids.length);
    for (const link of document.querySelectorAll('nav a')) expect(ids).toContain(link.getAttribute('href')!.slice(1));
  });

  it('is accessible: tables have captions and heads, images and charts say what they show', () => {
    expect(document.documentElement.getAttribute('lang')).toBe('en');
    for (const table of document.querySelectorAll('table')) {
      expect(table.querySelectorAll('caption')).toHaveLength(1);
      expect(table.querySelectorAll('thead th[scope=col]').length).toBeGreaterThan(0);
      expect(table.querySelectorAll('tbody tr').length).toBe(table.querySelectorAll('tbody th[scope=row]').length);
    }
    for (const image of document.querySelectorAll('img')) expect(image.getAttribute('alt')).toBeTruthy();
    for (const chart of document.querySelectorAll('figure > svg')) expect([chart.getAttribute('role'), Boolean(chart.getAttribute('aria-label'))]).toEqual(['img', true]);
    expect(document.querySelectorAll('figure > svg').length).toBeGreaterThan(10);
  });

  it('shows the numbers that were recorded, each with its protocol', () => {
    const text = document.querySelector('#accuracy')!.textContent;
    const lines = readFileSync(join(plain, 'results.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Result);
    for (const { name, accuracy } of lines.filter((line) => line.name === 'clean' || line.name === 'pgd1')) {
      expect(text).toContain(name);
      expect(text).toContain(`${(100 * accuracy).toFixed(1)} %`);
    }
    expect(text).toContain('20 images of procedural, linf, epsilon 0.0314, step 0.00314, 1 step, random start');
    expect(text).toContain('autoattack24 images of procedural, linf, epsilon 8/255, attacks apgd (ce) + apgd (dlr-targeted, 9 targets) + fab (9 targets) + square (5000 queries)');
    expect(document.querySelector('#curves')!.textContent).toMatch(/8\/255\s*41\.7 % ±/);
    expect(document.querySelector('#corruptions')!.textContent).toMatch(/frost25\.0 %(–){4}25\.0 %\s*mean37\.5 %(–){4}37\.5 %\s*mean without frost50\.0 %(–){4}50\.0 %[\s\S]*Generated frost is/);
    expect(document.querySelector('#corruptions')!.textContent).toMatch(/gaussian-noise79\.2 %75\.0 %70\.8 %66\.7 %62\.5 %70\.8 %/);
  });

  it('shows the analysis, and images as they are', async () => {
    const { confusion, similarity, examples } = (await readAnalysis(plain))!;
    const text = document.querySelector('#similarity')!.textContent;
    expect(text).toContain(`${(100 * confusion.views.adversarial.identity).toFixed(1)} %`);
    expect(text).toContain(similarity.positive.mean.toFixed(3));
    const images = document.querySelectorAll('#images table')[0]!.querySelectorAll('img');
    expect(images).toHaveLength(3 * examples.length);
    const { readSafetensors } = await import('a-infonce');
    const { tensors } = await readSafetensors(join(plain, 'analysis.safetensors'));
    const wanted = tensors.get('examples')!.toTypedArray() as Float32Array;
    const { data, info } = await sharp(Buffer.from(images[0]!.getAttribute('src')!.replace(/^.*,/, ''), 'base64')).raw().toBuffer({ resolveWithObject: true });
    expect([info.width, info.height, info.channels]).toEqual([8, 8, 3]);
    data.forEach((byte, i) => expect(byte).toBe(Math.round(255 * wanted[(i % 3) * 64 + Math.floor(i / 3)]!)));
    for (const each of tensors.values()) each.dispose();
  });
});

describe('folders that are not whole', () => {
  it('are reported as far as they go, with what to type', async () => {
    const bare = join(folder, 'bare');
    mkdirSync(bare);
    cpSync(join(plain, 'config.json'), join(bare, 'config.json'));
    const text = readFileSync(await report([bare], { out: join(folder, 'bare.html') }), 'utf8');
    await recordResult(bare, result('fog-1', 1, 4, {}));
    expect(readFileSync(await report([bare], { out: join(folder, 'bare.html') }), 'utf8')).toContain('No accuracy, clean or under attack, was recorded of bare.');
    for (const type of [`pretrain --out ${bare} --resume`, `evaluate ${bare} --attacks`, `analyze ${bare} --limit 1000`, `analyze ${bare} --curves`]) expect(text).toContain(`a-infonce ${type}`);
  });

  it('draw a few dozen metrics at most', async () => {
    const at = join(folder, 'many');
    mkdirSync(at);
    cpSync(join(plain, 'config.json'), join(at, 'config.json'));
    writeFileSync(join(at, 'metrics.jsonl'), `${JSON.stringify({ type: 'step', step: 1, epoch: 0, ...Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`m${i}`, i])) })}\n`);
    const { document: made } = parseHTML(readFileSync(await report([at], { out: join(folder, 'many.html') }), 'utf8')) as unknown as { document: Document };
    expect(made.querySelectorAll('#training figure')).toHaveLength(30);
    expect(made.querySelector('#training')!.textContent).toContain('3 more are in metrics.jsonl');
  });

  it('of every method are read', async () => {
    const folders = Object.entries(presets).map(([name, config]) => {
      const at = join(folder, 'presets', name);
      mkdirSync(at, { recursive: true });
      writeFileSync(join(at, 'config.json'), JSON.stringify(config));
      return at;
    });
    const { document: made } = parseHTML(readFileSync(await report(folders, { out: join(folder, 'presets.html') }), 'utf8')) as unknown as { document: Document };
    const cells = made.querySelectorAll('#runs tbody tr').map((row) => row.querySelectorAll('td')[0]!.textContent);
    expect(cells).toEqual(Object.keys(presets));
  });

  it.each<[string, (at: string) => void, RegExp]>([
    ['no folder', () => {}, /there is no such folder/],
    ['a file', (at) => writeFileSync(at, 'x'), /a file, not the folder of a run/],
    ['no run', (at) => mkdirSync(at), /no config\.json/],
    ['a config that is no JSON', (at) => { mkdirSync(at); writeFileSync(join(at, 'config.json'), '{'); }, /config\.json: not valid JSON/],
    ['a folder of runs', (at) => { mkdirSync(at); cpSync(plain, join(at, 'plain'), { recursive: true }); }, /a-folder-of-runs: there is no run in it \(no config\.json\)\. Its runs: \S*a-folder-of-runs\/plain$/],
    ['a reproduction', (at) => {
      for (const run of ['rocl-base', 'rocl-ip']) cpSync(plain, join(at, 'cifar10', 'seed-0', run), { recursive: true });
      writeFileSync(join(at, 'config.json'), '{"reproduction":"table1"}');
    }, /a-reproduction: a reproduction, not a run\. Its runs: \S*\/cifar10\/seed-0\/rocl-base, \S*\/cifar10\/seed-0\/rocl-ip$/],
    ['a config of something else', (at) => { mkdirSync(at); writeFileSync(join(at, 'config.json'), '{"preset":1}'); }, /config\.json: preset: /],
    ['a config nested without end', (at) => { mkdirSync(at); writeFileSync(join(at, 'config.json'), readFileSync(join(plain, 'config.json'), 'utf8').replace('{', `{"deep":${'{"a":'.repeat(6000)}1${'}'.repeat(6000)},`)); }, /config\.json: nested more than 64 deep/],
    ['metrics of something else', (at) => { cpSync(plain, at, { recursive: true }); writeFileSync(join(at, 'metrics.jsonl'), '{"type":"step","step":"x"}\n'); }, /metrics\.jsonl: line 1, step: /],
    ['an analysis whose tensors are others', (at) => { cpSync(plain, at, { recursive: true }); cpSync(join(at, 'encoder.safetensors'), join(at, 'analysis.safetensors')); }, /expected examples and examplesAdversarial/],
  ])('%s is a clear error', async (what, make, says) => {
    const at = join(folder, what.replaceAll(' ', '-')), out = join(folder, 'none.html');
    make(at);
    const error: unknown = await report([at], { out }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(FileError);
    expect((error as Error).message).toMatch(says);
    expect(existsSync(out)).toBe(false);
  });

  it('bad arguments are named', async () => {
    await expect(report([])).rejects.toBeInstanceOf(ArgumentRangeError);
    await expect(report('runs' as never)).rejects.toBeInstanceOf(ArgumentTypeError);
    await expect(report([plain], { file: 'x' } as never)).rejects.toMatchObject({ argument: 'options.file' });
    expect(await cli('report', plain, '--out', join(folder, 'nowhere', 'r.html'))).toMatchObject({ code: 1, stderr: expect.stringContaining('mkdir -p') });
    expect(await cli('report')).toMatchObject({ code: 2 });
    expect(await cli('analyze', folder)).toMatchObject({ code: 1, stderr: expect.stringContaining('there is no run in it') });
  });
});

it('the commands print a table, or JSON', async () => {
  const { tensors: before } = await live();
  const out = join(folder, 'again.html');
  expect(JSON.parse((await cli('report', plain, '--out', out, '--json')).stdout)).toEqual({ out, runs: 1, bytes: readFileSync(out).length });
  const { stdout } = await cli('analyze', plain, '--limit', '20', '--steps', '1', '--json');
  const { time, data, classes, encoder, classifierFile, encoderSha256, classifierSha256, ...values } = (await readAnalysis(plain))!;
  expect(JSON.parse(stdout)).toEqual({ [plain]: values });
  expect([data, encoder, classifierFile, classes.length]).toEqual(['procedural', 'encoder.safetensors', 'classifier.safetensors', 10]);
  expect(memory().tensors).toBe(before);
});

it('passes over a reproduction, and analyze over runs that are not finished; alone each says what to type', async () => {
  const [table, begun, dark, out] = ['table1', 'begun', 'dark', 'some.html'].map((name) => join(folder, name)) as [string, string, string, string];
  for (const at of [table, begun, dark]) mkdirSync(at);
  writeFileSync(join(table, 'config.json'), JSON.stringify({ reproduction: 'table1', scale: 'small' }));
  cpSync(join(plain, 'config.json'), join(begun, 'config.json'));
  const { stdout } = await cli('report', table, plain, '--out', out, '--json');
  expect(JSON.parse(stdout)).toMatchObject({ runs: 1 });
  expect((await cli('report', table, plain, '--out', out)).stderr).toContain(`Warning: passed over ${table}: a reproduction, not a run. Its runs: ${table}/*/*/*-*`);
  expect(await cli('report', table)).toMatchObject({ code: 2, stderr: expect.stringContaining(`Its runs: ${table}/*/*/*-*`) });
  const several = await cli('analyze', begun, table, plain, '--limit', '20', '--steps', '1');
  expect(several).toMatchObject({ code: 0, stdout: expect.stringContaining(plain), stderr: expect.stringContaining(`Warning: passed over: the run in ${begun} is not finished`) });
  expect(await cli('analyze', begun)).toMatchObject({ code: 1, stderr: expect.stringContaining('is not finished') });
  expect(await cli('analyze', plain, dark)).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/^a-infonce analyze: .*dark: there is no run in it/) });
  expect(await cli('evaluate', folder)).toMatchObject({ code: 1, stderr: expect.stringContaining('a folder of runs, not a run. Name one of them: ') });
  expect(await cli('evaluate', table)).toMatchObject({ code: 1, stderr: expect.stringContaining('a reproduction, not a run') });
});

it('compares the channels of the data with those of the network before anything takes time', async () => {
  const gray = join(folder, 'gray');
  mkdirSync(gray);
  const idx = (name: string, kind: number, shape: number[]) =>
    writeFileSync(join(gray, name), Buffer.concat([Buffer.from([0, 0, 8, kind]), ...shape.map((n) => Buffer.from([0, 0, 0, n])), Buffer.alloc(shape.reduce((a, b) => a * b))]));
  for (const part of ['train', 't10k']) {
    idx(`${part}-images-idx3-ubyte`, 3, [4, 8, 8]);
    idx(`${part}-labels-idx1-ubyte`, 1, [4]);
  }
  for (const command of ['evaluate', 'attack', 'corruptions', 'finetune', 'cluster'])
    expect(await cli(command, plain, '--data', gray, ...(/evaluate|corruptions/.test(command) ? [] : ['--out', join(folder, 'gray.safetensors')])))
      .toMatchObject({ code: 2, stderr: expect.stringContaining('has 1 channel, the network takes 3') });
});

it('analyze --curves measures accuracy against epsilon and against steps', async () => {
  const at = join(folder, 'curves');
  cpSync(plain, at, { recursive: true });
  rmSync(join(at, 'results.jsonl'));
  expect((await cli('analyze', at, '--limit', '20', '--steps', '1', '--curves')).code).toBe(0);
  const curves = curvesOf(subjectsOf([{ name: 'curves', results: await readResults(at) } as RunFiles]));
  expect(curves.map(({ of, settings, lines }) => [of, value(settings['steps'] ?? ball(settings['epsilon'] as number)), [...lines[0]!.points.keys()].map(of === 'steps' ? String : ball)])).toEqual([
    ['epsilon', '20', ['0', ...[1, 2, 4, 6, 8, 12, 16, 32, 64].map((each) => `${each}/255`)]], ['steps', '8/255', ['1', '2', '5', '10', '20', '50']],
  ]);
  const [clean, ...attacked] = [...curves[0]!.lines[0]!.points.values()].map(({ correct }) => correct);
  expect(Math.max(...attacked)).toBeLessThanOrEqual(clean!);
});

it('numbers: three or more that differ in one value are a curve, the newest of a protocol counts, corruptions are apart', () => {
  const at = (of: Omit<Result, 'time'>): Result => ({ time: '2026-01-01T00:00:00Z', ...of });
  const of = (name: string, results: Omit<Result, 'time'>[]) => ({ name, results: results.map(at) }) as RunFiles;
  const subjects = subjectsOf([
    of('a', [result('clean', 1, 4, { attack: 'clean' }), ...[0, 0.1, 0.2].map((e) => result('pgd20', 2, 4, { ...pgd(e, 20), graph: e > 0.1 })), ...[1, 5].map((s) => result('pgd', 1, 4, pgd(0.3, s))), result('snow-3', 1, 4, {})]),
    of('b', [result('clean', 3, 4, { attack: 'clean' }), result('clean', 2, 4, { attack: 'clean', batchSize: 9 }), result('clean', 1, 2, { attack: 'clean' }, { model: 'random-classifier.safetensors' })]),
  ]);
  expect(subjects.map(({ name }) => name)).toEqual(['a (SLF)', 'b (SLF)', 'b (random-classifier, SLF)']);
  const curves = curvesOf(subjects);
  expect(curves.map(({ of: kind, ratio, settings, lines }) => [kind, ratio, settings['steps'], lines.map(({ subject, points }) => [subject.name, [...points.keys()]])])).toEqual([
    ['epsilon', 0.25, 20, [['a (SLF)', [0, 0.1, 0.2]]]],
  ]);
  expect(subjects.map(({ style, dash }) => [style, dash])).toEqual([[0, 0], [1, 0], [1, 1]]);
  expect(rowsOf(subjects).map(({ protocol, results }) => [protocol.name, protocol.total, results.map((each) => each?.accuracy)])).toEqual([
    ['clean', 4, [0.25, 0.5, undefined]], ['clean', 2, [undefined, undefined, 0.5]],
    ...[0.25, 0.25].map((each) => ['pgd', 4, [each, undefined, undefined]]), ...[0.5, 0.5, 0.5].map((each) => ['pgd20', 4, [each, undefined, undefined]]),
  ]);
});

it.each<[string, Record<string, unknown>]>([
  ['step as a share of epsilon', { stepSize: 0.01 }], ['momentum', { momentum: 1 }], ['goal', { targeted: true }], ['start', { clampStart: false }], ['mode', { trainMode: true }], ['seed', { seed: 1 }],
])('numbers of another %s are another curve', (_, other) => {
  const all = [...[0, 0.1, 0.2].map((epsilon) => pgd(epsilon, 20)), ...[0.3, 0.4].map((epsilon) => ({ ...pgd(epsilon, 20), ...other }))];
  const run = { name: 'a', results: all.map((settings) => ({ time: '2026-01-01T00:00:00Z', ...result('pgd20', 1, 4, settings) })) } as RunFiles;
  expect(curvesOf(subjectsOf([run])).map(({ lines }) => lines.map(({ points }) => [...points.keys()]))).toEqual([[[0, 0.1, 0.2]]]);
});

it('numbers that do not say of which classifier are shown with a footnote, beside those that do, which count before them', async () => {
  const at = join(folder, 'old');
  cpSync(plain, at, { recursive: true });
  const lines = (await readResults(at)).map(({ sha256, dataSha256, ...line }) => (line.name === 'pgd1' ? { ...line, sha256, dataSha256 } : line));
  const clean = lines.find(({ name }) => name === 'clean')!;
  const write = (some: object[]) => writeFileSync(join(at, 'results.jsonl'), some.map((line) => `${JSON.stringify(line)}\n`).join(''));
  write(lines);
  const read = async () => parseHTML(readFileSync(await report([at], { out: join(folder, 'old.html') }), 'utf8')).document as unknown as Document;
  expect(await readRun(at, () => {})).toMatchObject({ stale: 0, results: lines });
  const rows = (await read()).querySelectorAll('#accuracy tbody tr').map((row) => row.textContent);
  expect(rows.find((row) => row.startsWith('clean'))).toContain(`${(100 * clean.accuracy).toFixed(1)} %†`);
  expect(rows.find((row) => row.startsWith('pgd1'))).not.toContain('†');
  expect((await read()).querySelector('#accuracy')!.textContent).toContain("† Recorded without the classifier's digest");
  const { sha256, dataSha256 } = lines.find(({ name }) => name === 'pgd1') as Result;
  write([{ ...clean, sha256, dataSha256, correct: 20, total: 20, accuracy: 1 }, { ...clean, correct: 0, total: 20, accuracy: 0 }]);
  const [row, ...rest] = (await read()).querySelectorAll('#accuracy tbody tr').map((each) => each.textContent);
  expect([row, rest]).toEqual([expect.stringMatching(/100\.0 % ±/), []]);
});

it('an analysis of an earlier encoder is left out, and what is typed fits the classifiers that are there', async () => {
  const at = join(folder, 'analysed');
  cpSync(plain, at, { recursive: true });
  const { encoderSha256, ...rest } = JSON.parse(readFileSync(join(at, 'analysis.json'), 'utf8')) as Record<string, unknown>;
  expect(encoderSha256).toMatch(/^[0-9a-f]{64}$/);
  writeFileSync(join(at, 'encoder.safetensors'), 'another');
  rmSync(join(at, 'classifier.safetensors'));
  writeFileSync(join(at, 'classifier-alf.safetensors'), 'one');
  rmSync(join(at, 'results.jsonl'));
  expect(await readRun(at, () => {})).toMatchObject({ analysis: undefined, analysisStale: true, classifiers: ['classifier-alf.safetensors'] });
  const text = readFileSync(await report([at], { out: join(folder, 'analysed.html') }), 'utf8');
  expect(text).toContain('what was analysed is an encoder or a classifier that is no longer in its folder');
  for (const type of [`evaluate ${at}/classifier-alf.safetensors --attacks`, `analyze ${at} --classifier classifier-alf.safetensors --curves`, `corruptions ${at}/classifier-alf.safetensors`]) expect(text).toContain(`a-infonce ${type}`);
  expect(text).not.toContain('a-infonce finetune');
  writeFileSync(join(at, 'analysis.json'), JSON.stringify({ ...rest, classifierSha256: undefined }));
  expect(await readRun(at, () => {})).toMatchObject({ analysis: expect.anything(), analysisStale: false });
});

it('numbers of an earlier classifier are left out', async () => {
  const at = join(folder, 'retrained');
  cpSync(plain, at, { recursive: true });
  const before = (await readRun(at, () => {})).results.length;
  writeFileSync(join(at, 'classifier.safetensors'), 'another');
  expect(await readRun(at, () => {})).toMatchObject({ results: [], stale: before });
  await recordResult(at, result('clean', 3, 24, { attack: 'clean' }));
  await recordResult(at, result('pgd9', 4, 24, pgd(0.1, 9)));
  const run = await readRun(at, () => {});
  expect(run.results.map(({ name }) => name)).toEqual(['clean', 'pgd9']);
  expect(contradictions(subjectsOf([run]))).toEqual([expect.stringContaining('pgd9 has 4 of 24 images right, clean 3')]);
});

it('charts have words for titles, and ticks no longer than their margin', async () => {
  const at = join(folder, 'constant');
  mkdirSync(at);
  cpSync(join(plain, 'config.json'), join(at, 'config.json'));
  writeFileSync(join(at, 'metrics.jsonl'), [1, 2].map((step) => `${JSON.stringify({ type: 'step', step, epoch: 0, alpha: 0.2, crossEntropy: 12345, someThing: 1 })}\n`).join(''));
  const { document: made } = parseHTML(readFileSync(await report([at], { out: join(folder, 'constant.html') }), 'utf8')) as unknown as { document: Document };
  const figures = made.querySelectorAll('#training figure');
  expect(figures.map((each) => each.querySelectorAll('figcaption')[0]!.textContent)).toEqual(['alpha of the inferior positives', 'cross-entropy of the pseudo-labels (unweighted)', 'some thing']);
  expect(figures.map((each) => each.querySelectorAll('[aria-label="y-axis tick label"] text').map((text) => text.textContent))).toEqual([['0.2'], ['12345'], ['1']]);
});

it('what was found doubtful when it was measured stands beside the numbers', async () => {
  const at = join(folder, 'doubtful');
  cpSync(plain, at, { recursive: true });
  for (const name of ['pgd8', 'pgd9']) await recordResult(at, result(name, 4, 24, pgd(0.1, 9), { warnings: ['No gradient.'] }));
  const text = readFileSync(await report([at], { out: join(folder, 'doubtful.html') }), 'utf8');
  expect(text).toContain('doubtful (SLF), pgd8, pgd9: No gradient.');
});

it('numbers as people read them', () => {
  expect([8 / 255, 0.0314, 0, 0.5, 2].map(ball)).toEqual(['8/255', '0.0314', '0', '0.5', '2']);
  expect([3713047268, 4 / 3, [0.75, 4 / 3], 'x', undefined, null].map(value)).toEqual(['3713047268', '1.33333', '[0.75,1.33333]', 'x', '–', 'null']);
  expect([...flatten({ a: { b: 1, c: [2] }, d: null })]).toEqual([['a.b', 1], ['a.c', [2]], ['d', null]]);
  // Wilson, 1927: of 10 successes in 20, centre 1/2, limits .2993 and .7007
  expect(halfInterval({ accuracy: 0.5, total: 20 })).toBeCloseTo((0.7007 - 0.2993) / 2, 4);
  expect(html`<p title="${'"<'}">${[html`<b>1</b>`, '&\u0001', null, false, 0]}</p>`.text).toBe('<p title="&quot;&lt;"><b>1</b>&amp;\ufffd0</p>');
});
