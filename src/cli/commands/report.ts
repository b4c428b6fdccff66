import { stat } from 'node:fs/promises';
import { Argument, Option } from 'commander';
import { define } from '../command.js';
import { bytes, counted } from '../output.js';
import { checkPlace, withoutReproductions } from '../run-folder.js';

interface Options {
  out: string;
  title?: string;
}

export const report = define<Options>({
  name: 'report',
  summary: 'write one HTML page about runs, side by side',
  description: 'Writes a page with everything that the folders hold: configuration, training curves, accuracy with its protocol, curves over epsilon and steps, ' +
    'adversarial images, similarities, maps, corruptions. It needs nothing beside it, runs no scripts, prints, and says what to type for what is missing.',
  arguments: [new Argument('<runs...>', 'folders of runs')],
  options: [
    new Option('--out <file>', 'the page, in the current folder unless told').default('report.html'),
    new Option('--title <text>', 'its heading; default: the names of the runs'),
  ],
  examples: [
    ['a-infonce report runs/*', 'every run, in report.html'],
    ['a-infonce report runs/iphn --out runs/iphn/report.html', 'one run'],
  ],
  async action({ output }, { out, title }, ...runs) {
    const { report: write } = await import('../../index.js');
    await checkPlace(out, 'page', [], 'report.html');
    const warn = (message: string) => output.warn(message);
    const folders = await withoutReproductions(runs as string[], warn);
    const path = await write(folders, { out, title, onWarning: warn });
    const { size } = await stat(path);
    output.result({ out: path, runs: folders.length, bytes: size }, [`${path}: ${counted(folders.length, 'run')}, ${bytes(size)}`]);
  },
});
