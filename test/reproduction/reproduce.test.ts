import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Classifier, memory, presets, proceduralDataset, readResults, reproduce, resolveConfig, tableCells, tableNotes, type ReproduceOptions, type RoclConfig } from 'a-infonce';
import { configOf, gridOf, PUBLISHED } from '../../src/reproduction/grid.js';
import { markdownOf, tableOf, type CellResult } from '../../src/reproduction/table.js';
import { eventsOf, only, stages, workplace } from './tiny.js';
import { live } from '../fixtures/live.js';

const { folder, data, all } = workplace();

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

  it('at scale small gives every row the same rates of fine-tuning, and AdvCL one in proportion to the batch', () => {
    const configs = gridOf(['cifar10'], [0]).cells.map((cell) => {
      const { preset, overrides } = configOf(cell, { scale: 'small', batchSize: 64 }, 10_000, 'labels');
      return { preset, config: resolveConfig(preset, overrides), mode: cell.mode };
    });
    expect(new Set(configs.map(({ config, mode }) => config.finetuning[mode].schedule.rate))).toEqual(new Set([0.1]));
    for (const { preset, config } of configs) {
      if (config.method === 'advcl') expect(config.schedule.rate).toBe((presets[preset].schedule.rate * 64) / 512);
      else expect((config as RoclConfig).groups).toBe(1);
    }
  });

  it('keeps the groups of a preset whose batch is replaced, and divides a rate once where two divisions fall on one epoch', () => {
    const config = (method: 'rocl' | 'advcl') => {
      const { preset, overrides } = configOf({ data: 'cifar10', seed: 0, method, variant: 'base' }, { scale: 'paper', batchSize: 128, finetuneEpochs: 3 }, 50_000, 'labels');
      return resolveConfig(preset, overrides);
    };
    expect(config('rocl')).toMatchObject({ batchSize: 128, groups: 2 });
    expect(config('advcl').finetuning.alf.schedule).toMatchObject({ rate: 0.1, at: [2] });   // 15 and 20 of 25 epochs
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
    expect(table.warnings).toEqual([]);
    expect(markdown).not.toContain('†');
  });

  it('says of how many images the numbers are, not how many were to be', () => {
    const sizes = { scale: 'small', epochs: 1, images: 10_000, testImages: 1_000, autoAttackImages: 5 } as const;
    const small = tableOf([{ cell: { ...cell, data: 'own', seed: 0 }, scores: { sa: 0.5, aa: 0.2 }, images: { sa: 10, aa: 5 }, trainingImages: 40 }], sizes, ['sa', 'aa']);
    expect(tableNotes(small).slice(0, 3)).toEqual([
      'Scale small (epochs 1, 40 training images): its numbers compare with each other, not with those that were published. In percent, one seed.',
      'SA: accuracy on all 10 test images.', 'AA: accuracy under standard AutoAttack, Linf 8/255, on the first 5 test images.',
    ]);
    const two = tableOf([
      { cell: { ...cell, data: 'own', seed: 0 }, scores: { sa: 0.5 }, images: { sa: 10 }, trainingImages: 40 }, { cell: { ...cell, seed: 0 }, scores: { sa: 0.5 }, images: { sa: 1_000 }, trainingImages: 10_000 },
    ], sizes, ['sa']);
    expect(tableNotes(two).slice(0, 2)).toEqual([expect.stringContaining('(epochs 1, 40 training images of own, 10000 training images of cifar10)'), 'SA: accuracy on all 10 test images of own, the first 1000 test images of cifar10.']);
  });

  it('marks the numbers that were warned of, and says each warning once', () => {
    const [first, second, ...rest] = results as [CellResult, CellResult, ...CellResult[]], warnings = { aa: ['Too good.'] };
    const table = tableOf([{ ...first, warnings }, { ...second, warnings: { ...warnings, sa: ['Never asked.'] } }, ...rest], { scale: 'paper' }, ['aa']);
    expect(table.rows[0]!.scores.slf!.aa).toEqual({ mean: 20, std: 0, seeds: 2, doubtful: true });
    expect(tableCells(table)[1]).toEqual(['cifar10', 'AdvCL-IP+HN', '20.00 ± 0.00 †']);
    expect(tableNotes(table).filter((note) => note.startsWith('†'))).toEqual(['† cifar10 AdvCL-IP+HN slf, seed 0, AA; cifar10 AdvCL-IP+HN slf, seed 1, AA: Too good.']);
    expect(markdownOf(table)).toContain('| 20.00 ± 0.00 † |');
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

  it('refuses AutoAttack of too few classes before it trains', async () => {
    const three = { ...data, name: 'three', classes: ['a', 'b', 'c'] };
    const events = await eventsOf(join(folder, 'three'), three, { only: ['rocl', 'base', 'slf'] });
    expect(stages(events)).toEqual([]);
    expect(only(events, 'cell')[0]!.result).toMatchObject({ scores: {}, error: 'only: expected measures that three has the classes for, of sa, ra, got aa: AutoAttack takes at least 4, it has 3' });
  });

  it('keeps what is measured, whatever is asked for next, and refuses what is not that', async () => {
    const { tensors: before } = await live();
    const words = ['rocl', 'base', 'slf', 'sa', 'ra'];
    const controller = new AbortController();
    const stopped = all({ only: words, signal: controller.signal }, (event) => event.type === 'stage' && event.stage === 'evaluate' && controller.abort(new Error('enough')));
    await expect(stopped).rejects.toThrow('enough');
    expect(memory().tensors).toBe(before);
    const { table } = only(await all({ only: words }), 'end')[0]!;
    const run = join(folder, 'grid', 'procedural', 'seed-0', 'rocl-base'), cell = join(run, 'cell-slf.json'), results = join(run, 'results.jsonl');
    const failure = async (options: Partial<ReproduceOptions> = {}) => only(await all({ only: words, ...options }), 'cell')[0]!.result.error;

    // A narrower part prints its own and leaves the rest in the files.
    const part = only(await all({ only: ['rocl', 'base', 'alf', 'sa'] }), 'end')[0]!;
    expect(tableCells(part.table)[0]).toEqual(['data', 'method', 'ALF SA']);
    const kept = JSON.parse(readFileSync(join(folder, 'grid', 'table1.json'), 'utf8')) as typeof table & { cells: CellResult[] };
    expect(kept.cells.map(({ cell }) => cell.mode)).toEqual(['alf', 'slf']);
    expect(kept.rows[0]!.scores).toEqual({ slf: table.rows[0]!.scores.slf, alf: part.table.rows[0]!.scores.alf });
    expect(readFileSync(join(folder, 'grid', 'table1.md'), 'utf8')).toMatch(/^\| data \| method \| SLF SA \| SLF RA \| ALF SA \|\n/);

    // Killed between the cell's file and results.jsonl, or with the cell's file lost: nothing is missing, nothing is there twice.
    expect((await readResults(run)).map(({ sha256 }) => sha256)).toEqual(['', '', '-alf'].map((mode) =>
      createHash('sha256').update(readFileSync(join(run, `classifier${mode}.safetensors`))).digest('hex')));
    const lines = (await readResults(run)).map(({ model, name, correct }) => [model, name, correct]);
    expect(lines.map(([model, name]) => [model, name])).toEqual([['classifier.safetensors', 'clean'], ['classifier.safetensors', 'pgd20'], ['classifier-alf.safetensors', 'clean']]);
    const [first, second, third] = readFileSync(results, 'utf8').trim().split('\n');
    writeFileSync(results, `${first}\n${third}\n`);
    expect(stages(await all({ only: words }))).toEqual([]);
    expect((await readResults(run)).map(({ model, name, correct }) => [model, name, correct])).toEqual([lines[0], lines[2], lines[1]]);
    const measured = readFileSync(cell, 'utf8');
    rmSync(cell);
    expect(stages(await all({ only: words }))).toEqual(['rocl-base evaluate slf']);
    expect(await readResults(run)).toHaveLength(3);
    expect(second).toBeDefined();
    expect(readFileSync(cell, 'utf8')).toBe(measured);

    // What was warned of when a cell was measured is told again.
    const doubtful = JSON.parse(measured) as { scores: Record<string, object> };
    writeFileSync(cell, JSON.stringify({ ...doubtful, scores: { ...doubtful.scores, ra: { ...doubtful.scores['ra'], warnings: ['Too good.'] } } }));
    const again = only(await all({ only: words }), 'end')[0]!;
    expect(again.table.warnings).toMatchObject([{ cell: { mode: 'slf' }, measure: 'ra', warning: 'Too good.' }]);
    expect(again.markdown).toContain('- † procedural RoCL slf, seed 0, RA: Too good.\n');
    expect(readFileSync(join(folder, 'grid', 'table1.md'), 'utf8')).toContain('Too good.');

    // Other images, another configuration, another classifier.
    using others = proceduralDataset({ train: 40, test: 12, size: 8, seed: 5 });
    expect(await failure({ data: [others] })).toMatch(/^data: expected the images of procedural that .*cell-slf\.json was trained on/);
    expect(await failure({ data: [{ ...data, test: others.test }] })).toMatch(/^data: expected the test images of procedural that .*cell-slf\.json was measured on/);
    expect(await failure({ data: [others], only: ['rocl', 'base', 'aff', 'sa'] })).toMatch(/^data: expected the images of procedural that .*rocl-base was trained on/);
    writeFileSync(cell, measured.replace('"rate": 0.2', '"rate": 0.3'));
    expect(await failure()).toMatch(/^schedule\.rate: expected 0\.3, as recorded in .*cell-slf\.json, got 0\.2/);
    writeFileSync(cell, measured.slice(0, -5));
    expect(await failure()).toMatch(/cell-slf\.json: not valid JSON/);
    rmSync(cell);
    const path = join(run, 'classifier.safetensors');
    {
      using classifier = await Classifier.load(path);
      Object.assign(classifier.finetuning!, { seed: 9 });
      await classifier.save(path);
      expect(await failure()).toMatch(/^seed: expected 9, as recorded in .*classifier\.safetensors, got 0/);
      classifier.finetuning = undefined;
      await classifier.save(path);
      expect(await failure()).toMatch(/^config: expected as recorded in .*classifier\.safetensors, got another .*\n {2}mode: none -> "slf"/);
    }
    others.dispose();
    expect(memory().tensors).toBe(before);
  });
});
