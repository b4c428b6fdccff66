import { InvalidArgumentError, Option } from 'commander';
import type { BenchmarkOptions, BenchmarkReport, Quartiles } from '../../index.js';
import { short } from '../../report/numbers.js';
import { atomically } from '../../runtime/files.js';
import { define } from '../command.js';
import { UsageError } from '../failure.js';
import { countOption, integer, integers, real } from '../options.js';
import { bytes, counted, duration, table } from '../output.js';
import { Progress } from '../progress.js';
import { checkPlace } from '../run-folder.js';

interface Options extends Pick<BenchmarkOptions, 'quick' | 'sizes' | 'dim' | 'seconds' | 'only' | 'peersUpTo' | 'python'> {
  threads?: number[];
  out?: string;
}

export const bench = define<Options>({
  name: 'bench',
  summary: 'measure the loss on this machine, beside other implementations of it',
  description: 'Times every form and variant of the loss, forward and backward, in units of one matrix product n x n x dim, and finds the extra memory of a call. In the\n' +
    'same rounds: the same formulas composed of LibTorch operators, and in a Python with PyTorch the released losses, torch.compile, lightly and\n' +
    'pytorch-metric-learning, as far as they are there. Who does not give the same loss and gradient does not count.',
  options: [
    new Option('--quick', 'under a minute: n = 768 and 3072, one number of threads, peers at 768, no torch.compile'),
    new Option('--sizes <numbers>', 'rows, multiples of 12 with commas between; default: 768,1536,3072,6144,12288').argParser(multiples),
    countOption('dim', 'columns; default: 128'),
    new Option('--threads <numbers>', 'numbers of threads, with commas between; default: 1,2').argParser(integers({ min: 1, max: 1024 })),
    new Option('--seconds <s>', 'of our calls, for each loss, size and number of threads; three rounds at least; default: 1').argParser(real({ min: 0 })),
    new Option('--only <text>', 'only losses with this in their names, as rocl or IP+HN'),
    new Option('--peers-up-to <n>', 'other implementations up to so many rows: their time and memory grow with n x n; default: 3072').argParser(integer({ min: 0 })),
    new Option('--python <interpreter>', 'a Python with PyTorch; default: python3, if it has that'),
    new Option('--no-python', 'no peers in Python'),
    new Option('--out <file>', 'write also a page with table and plots'),
  ],
  examples: [
    ['a-infonce bench --quick', 'a first look'],
    ['a-infonce bench --python ~/venv/bin/python --out bench.html', 'everything, with plots'],
    ["a-infonce bench --only 'advcl, IP+HN' --sizes 6144 --peers-up-to 6144 --threads 2", 'one loss, large'],
  ],
  async action({ output, signal, device }, { out, quick, sizes, dim, threads, seconds, only, peersUpTo, python, seed }) {
    if (device !== 'cpu') throw new UsageError('--device: this measures the processor; of a GPU, bench/gpu.sh of the repository does');
    if (out !== undefined) await checkPlace(out, 'page', [], 'bench.html');
    const { benchmark } = await import('../../index.js');
    using progress = new Progress(output, { label: 'Measuring' });
    const found = await benchmark({
      quick, sizes, dim, threads, seconds, only, peersUpTo, python, seed, signal, onProgress: ({ done, total, what }) => progress.outOf(total).update(done, what),
    });
    progress.stop();
    if (out !== undefined) {
      const { benchmarkPage } = await import('../../benchmark/page.js'); // the plotting library: only where a page is written
      await atomically(out, (file) => file.writeFile(benchmarkPage(found)));
    }
    output.result(found, [...lines(found), ...(out === undefined ? [] : [`${out}: the same with plots`])]);
  },
});

function multiples(text: string): number[] {
  const numbers = integers({ min: 24 })(text);
  if (numbers.some((n) => n % 12 !== 0)) throw new InvalidArgumentError('Expected multiples of 12.');
  return numbers;
}

const spread = ({ lower, upper }: Quartiles): string => `${short(lower)} to ${short(upper)}`;

function lines({ environment, settings, products, call, rows, absent, seconds }: BenchmarkReport): string[] {
  const { processor, cores, load, instructionSet, libtorch, node, torch, python } = environment;
  return [
    `${processor}, ${counted(cores, 'core')}, load ${load.toFixed(1)}; ${instructionSet}, LibTorch ${libtorch}, Node.js ${node}${torch ? `; peers: PyTorch ${torch}, Python ${python}` : ''}`,
    `Forward and backward, rows of ${settings.dim} float32, temperature ${settings.temperature}, seed ${settings.seed}; medians, quartiles after them.`, '',
    ...table([['one matrix product', 'n', 'threads', 'ms', '', 'GFLOP/s'], ...products.map(({ n, threads, ms, gflops }) => ['', String(n), String(threads), short(ms.median), spread(ms), short(gflops)])]), '',
    `A call on four rows of two numbers: ${short(call.forward.median)} µs forward (${spread(call.forward)}), ${short(call.both.median)} µs with backward (${spread(call.both)}): what does not grow with n. A sum, one operator of LibTorch: ${short(call.sum.median)} µs with backward (${spread(call.sum)}).`, '',
    ...table([
      ['loss', 'by', 'n', 'threads', 'ms', '', 'products', '', 'CPU time', 'of ours', 'memory', 'runs'],
      ...rows.map(({ loss, by, n, threads, ms, products: units, cpuProducts, ofOurs, peakBytes, runs }) => [
        loss, by, String(n), String(threads), short(ms.median), spread(ms), short(units.median), spread(units), short(cpuProducts), short(ofOurs),
        peakBytes === undefined ? '?' : bytes(peakBytes), String(runs),
      ]),
    ], 2), '',
    'products: time in units of one matrix product of the same round (of a queue: n / 12 anchors with n rows); CPU time: the same of processor time; of ours: time in units of a-infonce; memory: extra peak of a call.',
    ...absent.map(({ what, why }) => `Not measured: ${what} (${why})`),
    ...(load > cores / 2 ? [`Other programs kept this machine busy (load ${load.toFixed(1)} when it began): trust the ratios of CPU time.`] : []),
    `Took ${duration(seconds)}.`,
  ];
}
