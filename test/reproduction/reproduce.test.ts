import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { memory, presets, proceduralDataset, readResults, reproduce, resolveConfig, type Dataset, type ReproduceEvent, type ReproduceOptions } from 'a-infonce';
import { configOf, gridOf, PUBLISHED } from '../../src/reproduction/grid.js';
import { markdownOf, tableCells, tableOf, type CellResult } from '../../src/reproduction/table.js';

const folder = mkdtempSync(join(tmpdir(), 'a-infonce-'));
let data: Dataset;
beforeAll(() => {
  data = proceduralDataset({ train: 40, test: 12, size: 8 });
});
afterAll(() => {
  data.dispose();
  rmSync(folder, { recursive: true, force: true });
});

// Ten steps, so that BatchNorm's running statistics are those of the images: fewer, and features in eval mode overflow.
const tiny = { scale: 'small', epochs: 1, finetuneEpochs: 1, batchSize: 4, width: 1, testImages: 8, autoAttackImages: 1 } as const;
async function all(options: Partial<ReproduceOptions>, hear?: (event: ReproduceEvent) => void): Promise<ReproduceEvent[]> {
  const events: ReproduceEvent[] = [];
  for await (const event of reproduce({ out: join(folder, 'grid'), data: [data], ...tiny, ...options })) {
    events.push(event);
    hear?.(event);
  }
  return events;
}
const only = <Type extends ReproduceEvent['type']>(events: ReproduceEvent[], type: Type) => events.filter((event): event is Extract<ReproduceEvent, { type: Type }> => event.type === type);
const stages = (events: ReproduceEvent[]) => only(events, 'stage').map(({ stage, of, mode }) => `${of.method}-${of.variant} ${stage}${mode ? ` ${mode}` : ''}`);

describe('the grid', () => {
  it('is every method, variant, data set, mode and seed, and what `only` leaves of it', () => {
    const { cells, measures } = gridOf(['cifar10', 'cifar100'], [0, 1]);
    expect(cells).toHaveLength(2 * 2 * 2 * 4 * 3);
    expect(new Set(cells.map((cell) => JSON.stringify(cell))).size).toBe(cells.length);
    expect(measures).toEqual(['sa', 'ra', 'aa']);
    const part = gridOf(['cifar10', 'cifar100'], [3], ['advcl', 'iphn', 'ip', 'slf', 'cifar100', 'aa']);
    expect(part).toEqual({ cells: ['ip', 'iphn'].map((variant) => ({ data: 'cifar100', seed: 3, method: 'advcl', variant, mode: 'slf' })), measures: ['aa'] });
  });

  it('at scale paper is the presets', () => {
    for (const { data, seed, method, variant } of gridOf(['cifar10', 'cifar100'], [0]).cells) {
      const { preset, overrides } = configOf({ data, seed, method, variant }, { scale: 'paper' }, 50_000, method === 'advcl' ? 'labels' : undefined);
      const expected = presets[preset];
      const { pseudoLabels, ...config } = resolveConfig(preset, overrides) as Record<string, unknown>;
      const { pseudoLabels: own, ...rest } = expected as unknown as Record<string, unknown>;
      expect(config).toEqual(rest);
      if (method === 'advcl') expect(pseudoLabels).toEqual({ ...(own as object), path: 'labels' });
      expect(preset).toContain(data);
    }
  });

  it('at scale small is a configuration that can be, smaller where it says so', () => {
    for (const { data, seed, method, variant } of gridOf(['cifar10', 'cifar100'], [2]).cells) {
      const { preset, overrides } = configOf({ data, seed, method, variant }, { scale: 'small', epochs: 15, width: 8, batchSize: 128, finetuneEpochs: 5 }, 10_000, 'labels');
      const config = resolveConfig(preset, overrides);
      expect(config).toMatchObject({ seed: 2, epochs: 15, batchSize: 128, encoder: { width: 8 } });
      for (const mode of ['slf', 'alf', 'aff'] as const) {
        expect(config.finetuning[mode].epochs).toBe(5);
        expect(config.finetuning[mode].schedule.at.every((at) => at >= 1 && at <= 5)).toBe(true);
      }
// Warm-ups shrink with the run: 10, 30 and 20 of 400 epochs.
      expect(config.schedule).toMatchObject({ kind: 'cosine', warmupEpochs: 1 });
      const { inferiorPositive, ...objective } = config.objective as { inferiorPositive?: { adaptive?: { warmupEpochs: number } } };
      const { inferiorPositive: own, ...rest } = presets[preset].objective as { inferiorPositive?: object };
      expect(objective).toEqual(rest);
      expect(inferiorPositive).toEqual(own && (method === 'advcl' ? { ...own, adaptive: { warmupEpochs: 1, dMin: data === 'cifar10' ? 0.4 : 0.5 } } : own));
    }
  });
});

describe('the table', () => {
  const cell = { data: 'cifar10', method: 'advcl', variant: 'iphn', mode: 'slf' } as const;
  const results: CellResult[] = [
    { cell: { ...cell, seed: 0 }, scores: { sa: 0.5, aa: 0.2 } }, { cell: { ...cell, seed: 1 }, scores: { sa: 0.54, aa: 0.2 } }, { cell: { ...cell, seed: 2 }, scores: { sa: 0.52 }, error: 'no luck\nat all' },
    { cell: { ...cell, seed: 0, mode: 'aff' }, scores: { sa: 0.25 } },
  ];

  it('holds means and standard deviations beside what others published', () => {
    const table = tableOf(results, { scale: 'paper' }, ['sa', 'aa']);
    const row = table.rows.find(({ published }) => !published)!;
    expect(row).toMatchObject({ name: 'AdvCL-IP+HN', data: 'cifar10' });
    expect(row.scores.slf!.sa!.mean).toBeCloseTo(52, 10);
    expect(row.scores.slf!.sa!.std).toBeCloseTo(2, 10);   // 50, 54, 52: sum of squares 8 over n - 1 = 2
    expect(row.scores.slf!.aa).toEqual({ mean: 20, std: 0, seeds: 2 });
    expect(row.scores.aff!.sa).toEqual({ mean: 25, seeds: 1 });
    expect(tableCells(table)).toEqual([
      ['data', 'method', 'SLF SA', 'SLF AA', 'AFF SA'],
      ['cifar10', 'AdvCL-IP+HN', '52.00 ± 2.00', '20.00 ± 0.00', '25.00'],
      ['cifar10', 'A-InfoNCE (published)', '83.70', '42.72', '82.99'],
      ['cifar10', 'AdvCL (published)', '82.36', '43.18', '83.00'],
      ['cifar10', 'DynACL (published)', '75.41', '45.09', '81.86'],
      ['cifar10', 'DynACL-AIR++ (published)', '81.80', '46.99', '82.36'],
    ]);
    expect(table.failed).toEqual([{ cell: { ...cell, seed: 2 }, error: 'no luck\nat all' }]);
    const markdown = markdownOf(table);
    expect(markdown).toContain('| cifar10 | AdvCL-IP+HN | 52.00 ± 2.00 | 20.00 ± 0.00 | 25.00 |');
    expect(markdown).toContain('- Failed: cifar10 AdvCL-IP+HN slf, seed 2: no luck\n');
    expect(PUBLISHED).toHaveLength(18);
  });
});

describe('reproduce', () => {
  it('refuses what cannot be before it starts', () => {
    expect(() => reproduce(undefined as never)).toThrow(/^options/);
    expect(() => reproduce({ out: 'x', scale: 'large' as never })).toThrow(/^scale: expected one of 'small', 'paper'/);
    expect(() => reproduce({ out: 'x', only: ['slow'] })).toThrow(/^only: expected some of rocl, advcl, .*, got 'slow'/);
    expect(() => reproduce({ out: 'x', seeds: 0 })).toThrow(/^seeds/);
    expect(() => reproduce({ out: 'x', width: 0 })).toThrow(/^width/);
    expect(() => reproduce({ out: 'x', data: ['cifar10', 'somewhere/cifar10'] })).toThrow(/^data: expected each data set once/);
    expect(() => reproduce({ out: 'x', sise: 3 } as never)).toThrow(/^options\.sise/);
  });

  it('does every cell once, keeps all, and goes on where it stopped', async () => {
    const before = memory().tensors;
    const words = ['base', 'slf', 'aff', 'sa', 'ra'];
    const controller = new AbortController();
    const stopped = all({ only: words, signal: controller.signal }, (event) => event.type === 'stage' && event.stage === 'evaluate' && controller.abort(new Error('enough')));
    await expect(stopped).rejects.toThrow('enough');
    expect(memory().tensors).toBe(before);

    const events = await all({ only: words });
    expect(stages(events)).toEqual([
      'rocl-base evaluate slf', 'rocl-base finetune aff', 'rocl-base evaluate aff',
      'rocl-base pseudo-labels', 'advcl-base pretrain', 'advcl-base finetune slf', 'advcl-base evaluate slf', 'advcl-base finetune aff', 'advcl-base evaluate aff',
    ]);
    expect(only(events, 'cell').map(({ result }) => result.error)).toEqual([undefined, undefined, undefined, undefined]);
    const { table, markdown } = only(events, 'end')[0]!;
    expect(tableCells(table)[0]).toEqual(['data', 'method', 'SLF SA', 'SLF RA', 'AFF SA', 'AFF RA']);
    expect(table.rows.map(({ name }) => name)).toEqual(['RoCL', 'AdvCL']);
    const run = join(folder, 'grid', 'procedural', 'seed-0', 'rocl-base');
    const results = await readResults(run);
    expect(results.map(({ model, name, total }) => [model, name, total])).toEqual([
      ['classifier.safetensors', 'clean', 8], ['classifier.safetensors', 'pgd20', 8],
      ['classifier-aff.safetensors', 'clean', 8], ['classifier-aff.safetensors', 'pgd20', 8],
    ]);
    expect(results[1]!.settings).toMatchObject({ epsilon: 0.0314, stepSize: 0.00314 });
    expect(table.rows[0]!.scores.slf!.ra!.mean).toBeCloseTo(100 * results[1]!.accuracy, 10);
    expect(readFileSync(join(folder, 'grid', 'table1.md'), 'utf8')).toBe(markdown);
    expect((JSON.parse(readFileSync(join(folder, 'grid', 'table1.json'), 'utf8')) as { cells: unknown[] }).cells).toHaveLength(4);

    const encoder = join(run, 'encoder.safetensors'), written = statSync(encoder).mtimeMs;
    const again = await all({ only: words });
    expect(stages(again)).toEqual([]);
    expect(only(again, 'end')[0]!.table).toEqual(table);
    expect(statSync(encoder).mtimeMs).toBe(written);
    // A wider part does what is new only; another size is another reproduction.
    const attacked = only(await all({ only: ['rocl', 'base', 'slf', 'sa', 'aa'] }), 'end')[0]!.table;
    expect(attacked.rows[0]!.scores.slf!.sa).toEqual(table.rows[0]!.scores.slf!.sa);
    expect((await readResults(run)).at(-1)).toMatchObject({ name: 'autoattack', total: 1, model: 'classifier.safetensors', settings: { epsilon: 8 / 255, version: 'standard' } });
    expect(stages(await all({ only: ['rocl', 'base', 'ip', 'slf', 'sa'] }))).toEqual(['rocl-ip pretrain', 'rocl-ip finetune slf', 'rocl-ip evaluate slf']);
    await expect(all({ only: words, width: 2 })).rejects.toMatchObject({ argument: 'width', received: '2' });
    expect(memory().tensors).toBe(before);
    using others = proceduralDataset({ train: 40, test: 12, size: 8, seed: 5 });
    const foreign = await all({ data: [others], only: ['rocl', 'base', 'alf', 'sa'] });
    expect(only(foreign, 'cell')[0]!.result.error).toMatch(/^data: expected the images of procedural that .*rocl-base was trained on/);
  }, 60_000);

  it('tells of a cell that fails, and does the others', async () => {
    const out = join(folder, 'failing');
    const words = ['rocl', 'base', 'ip', 'slf', 'alf', 'sa'];
    await all({ out, only: ['rocl', 'base', 'slf', 'sa'] });
    // A file where the folder of a run should be.
    writeFileSync(join(out, 'procedural', 'seed-0', 'rocl-ip'), '');
    const events = await all({ out, only: words });
    expect(only(events, 'cell').map(({ result: { cell, error } }) => [cell.variant, cell.mode, error === undefined])).toEqual([
      ['base', 'slf', true], ['base', 'alf', true], ['ip', 'slf', false], ['ip', 'alf', false],
    ]);
    const { table } = only(events, 'end')[0]!;
    expect(table.failed).toHaveLength(2);
    expect(table.rows[1]!.scores.slf).toEqual({});
    rmSync(join(out, 'procedural', 'seed-0', 'rocl-ip'));
    expect(only(await all({ out, only: words }), 'end')[0]!.table.failed).toEqual([]);
    expect(existsSync(join(out, 'procedural', 'seed-0', 'rocl-ip', 'classifier-alf.safetensors'))).toBe(true);
  }, 60_000);

  it('means over seeds, each with data of its own folder', async () => {
    const events = await all({ out: join(folder, 'seeds'), only: ['rocl', 'base', 'slf', 'sa'], seeds: 2, seed: 4 });
    expect(only(events, 'cell').map(({ result }) => result.cell.seed)).toEqual([4, 5]);
    expect(only(events, 'end')[0]!.table.rows[0]!.scores.slf!.sa).toMatchObject({ seeds: 2, std: expect.any(Number) });
    for (const seed of [4, 5]) expect(existsSync(join(folder, 'seeds', 'procedural', `seed-${seed}`, 'rocl-base', 'encoder.safetensors'))).toBe(true);
  }, 30_000);
});
