import { join } from 'node:path';
import { Argument, Option } from 'commander';
import type { Cell, Measure, ReproduceEvent, Scale, Stage } from '../../index.js';
import { define } from '../command.js';
import { Interrupted } from '../interrupt.js';
import { countOption, integer, list } from '../options.js';
import { counted, duration, percent, table } from '../output.js';
import { Progress } from '../progress.js';

interface Options {
  scale: Scale;
  only?: string[];
  seeds?: number;
  data?: string[];
  dataRoot?: string;
  out?: string;
  epochs?: number;
  finetuneEpochs?: number;
  batchSize?: number;
  images?: number;
  testImages?: number;
  autoattackImages?: number;
  width?: number;
  markdown?: boolean;
}

const size = (flag: string, what: string, min = 1) => new Option(`--${flag} <n>`, what).argParser(integer({ min })).helpGroup('Sizes, in place of those of the scale:');

export const reproduce = define<Options>({
  name: 'reproduce',
  summary: "the paper's table, beside the published numbers",
  description: 'Pre-trains, fine-tunes and measures every method, variant and mode, and prints the table of clean accuracy (SA), accuracy under PGD-20 (RA) and\n' +
    'under AutoAttack (AA) beside the published numbers. What is done is kept: the same command goes on after an interruption. A cell that fails is\n' +
    'reported and the rest goes on; the exit code is then 1, and the same command tries it again.',
  arguments: [new Argument('[table]', 'what to reproduce').choices(['table1']).default('table1')],
  options: [
    new Option('--scale <name>', 'paper: the presets as they are; small: as far as two cores get in a night').choices(['small', 'paper']).default('paper'),
    new Option('--only <words>', 'a part of it: methods (rocl, advcl), variants (base, ip, hn, iphn), data, modes (slf, alf, aff), measures (sa, ra, aa)').argParser(list()),
    countOption('seeds', 'so many runs of everything, for mean and spread; default: 1'),
    new Option('--data <names>', 'data sets by name or folder, with commas between; default: cifar10, at scale paper cifar100 too').argParser(list()),
    new Option('--data-root <folder>', 'where to look for them first'),
    new Option('--out <folder>', 'where everything is kept; default: runs/table1, or runs/table1-small'),
    new Option('--markdown', 'print the table as Markdown'),
    size('epochs', 'of pre-training'), size('finetune-epochs', 'of fine-tuning, in every mode'), size('batch-size', 'images a step of pre-training', 4),
    size('images', 'training images, classes balanced'), size('test-images', 'the first test images, for SA and RA'), size('autoattack-images', 'for AA'),
    size('width', 'channels after the stem of the encoder'),
  ],
  examples: [
    ['a-infonce reproduce table1 --scale small', 'everything on CIFAR-10, in a night on two cores'],
    ['a-infonce reproduce table1 --scale small --only rocl,advcl,iphn,base,slf,sa,ra', 'a part of it'],
    ['a-infonce reproduce table1 --only advcl,iphn,aff --seeds 3', "the paper's own size, three seeds"],
  ],
  async action({ output, signal, call, device }, { scale, out: wanted, only, seeds, seed, data, dataRoot, markdown, autoattackImages, ...options }) {
    const { reproduce: run, rowName, tableCells, tableNotes } = await import('../../index.js');
    const out = wanted ?? join('runs', scale === 'small' ? 'table1-small' : 'table1');
    const { epochs, finetuneEpochs, batchSize, images, testImages, width } = options;
    const began = performance.now();
    const place = { cells: [] as Cell[], measures: [] as Measure[] };
    let progress: Progress | undefined;
    let end: Extract<ReproduceEvent, { type: 'end' }> | undefined;
    const stages: Record<Stage, string> = { 'pseudo-labels': 'pseudo-labels', pretrain: 'pre-training', finetune: 'fine-tuning', evaluate: 'evaluating' };
    try {
      for await (const event of run({ out, scale, only, seeds, seed, data, dataRoot, epochs, finetuneEpochs, batchSize, images, testImages, autoAttackImages: autoattackImages, width, device, signal })) {
        if (event.type !== 'progress') progress?.stop();
        switch (event.type) {
          case 'start':
            Object.assign(place, { cells: event.cells, measures: event.measures });
            output.note(`${counted(event.cells.length, 'cell')} in ${out} (ctrl-C stops; what is done is kept)`);
            break;
          case 'warning': output.warn(event.message); break;
          case 'stage': {
            const { of, cell, mode } = event;
            progress = new Progress(output, { label: `[${cell + 1}/${place.cells.length}] ${of.data} ${rowName(of)}${mode ? ` ${mode}` : ''}, seed ${of.seed}: ${stages[event.stage]}`, total: 1 });
            break;
          }
          case 'progress': progress!.update(event.share, ...event.details); break;
          case 'cell': {
            const { cell, scores, error } = event.result;
            const told = error === undefined ? place.measures.map((measure) => `${measure.toUpperCase()} ${percent(scores[measure]!)}`).join('  ') : `failed: ${error}`;
            output.note(`[${event.cell + 1}/${place.cells.length}] ${cell.data} ${rowName(cell)} ${cell.mode}, seed ${cell.seed}  ${told}`);
            break;
          }
          case 'end': end = event;
        }
      }
    } catch (error) {
      if (error instanceof Interrupted) error.message = `stopped; what is done is kept in ${out}. Go on with:\n  ${call}`;
      throw error;
    } finally {
      progress?.stop();
    }
    const { table: found, markdown: text } = end!;
    output.result(found, markdown ? text.trimEnd().split('\n') : ['', ...table(tableCells(found), 2).map((line, at) => (at === 0 ? output.style('bold', line) : line)), '', ...tableNotes(found)]);
    output.note(`\n${duration((performance.now() - began) / 1000)}. The table is in ${join(out, 'table1.md')} and table1.json; the report: a-infonce report ${join(out, '*', '*', '*-*')}`);
    return found.failed.length > 0 ? 1 : 0;
  },
});
