import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { memory, readResults, tableCells } from 'a-infonce';
import { only, stages, workplace } from '../reproduction/tiny.js';

const { folder, all } = workplace();

describe('reproduce', () => {
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
  });

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
  });

  it('means over seeds, each with data of its own folder', async () => {
    const events = await all({ out: join(folder, 'seeds'), only: ['rocl', 'base', 'slf', 'sa'], seeds: 2, seed: 4 });
    expect(only(events, 'cell').map(({ result }) => result.cell.seed)).toEqual([4, 5]);
    expect(only(events, 'end')[0]!.table.rows[0]!.scores.slf!.sa).toMatchObject({ seeds: 2, std: expect.any(Number) });
    for (const seed of [4, 5]) expect(existsSync(join(folder, 'seeds', 'procedural', `seed-${seed}`, 'rocl-base', 'encoder.safetensors'))).toBe(true);
  });
});
