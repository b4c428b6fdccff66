import { Argument, Option } from 'commander';
import type { Model, ResolvedPgdOptions, SingleAttack, StepProgress, Tensor } from '../../index.js';
import { define, type Context } from '../command.js';
import { dataOptions, openData, recordedRun, requireChannels, type DataOptions, type RecordedRun } from '../data.js';
import { CommandError, UsageError } from '../failure.js';
import { ATTACKS, attackOptions, checkGraph, graphOption, recordedPgd, sayWhatIsKept } from '../measuring.js';
import { dataOf, loadModel } from '../model.js';
import { countOption, integer, type CommonOptions } from '../options.js';
import { counted, percent, rounded } from '../output.js';
import { Progress } from '../progress.js';
import { checkKind, checkPlace } from '../run-folder.js';

interface Options extends DataOptions {
  attack: string;
  images?: string;
  out: string;
  norm?: 'linf' | 'l2';
  epsilon?: number;
  stepSize?: number;
  steps?: number | undefined;
  restarts?: number;
  randomStart: boolean;
  batchSize?: number;
  graph?: boolean;
  limit?: number;
  state?: string;
}

export const attack = define<Options>({
  name: 'attack',
  summary: 'make adversarial images and keep them',
  description: 'Attacks a classifier, with PGD unless told, on the test images of a data set, or on images of your own, and writes images, adversarial and labels ' +
    'to a safetensors file. Prints how many of the images that were classified right are now classified wrong.',
  arguments: [new Argument('<classifier>', 'the folder of a run, a classifier as .safetensors, or a TorchScript model as .pt')],
  options: [
    ...dataOptions("the run's"),
    new Option('--images <file>', 'a safetensors file instead: images [N, C, H, W], float32 in [0, 1], and labels [N], int64').conflicts(['data', 'dataRoot']),
    new Option('--out <file>', 'where to write them').default('adversarial.safetensors'),
    new Option('--attack <name>', `${ATTACKS}; default: pgd, with the options for it`).default('pgd', 'pgd'),
    ...attackOptions({ epsilon: "for pgd the run's, else 8/255 (l2: 0.5)", stepSize: "the run's with its epsilon, else a quarter of epsilon" }),
    new Option('--steps <n>', 'steps of pgd; default: 20').argParser(integer({ min: 1, max: 99_999 })),
    new Option('--no-random-start', 'start pgd at the image itself'),
    graphOption(),
    countOption('limit', 'the first images only'),
    new Option('--state <file>', 'where autoattack keeps what it has found: the same command goes on there after an interruption'),
  ],
  examples: [
    ['a-infonce attack runs/iphn --limit 256', 'adversaries of 256 test images in adversarial.safetensors'],
    ['a-infonce attack runs/iphn --attack autoattack --limit 256', 'of each image the adversary of the attack that broke it'],
    ['a-infonce attack model.pt --images batch.safetensors --norm l2 --epsilon 0.5', 'on images of your own'],
  ],
  async action(context, options, path) {
    const { output, signal } = context;
    const { scope, writeSafetensors } = await import('../../index.js');
    await checkAttack(options);
    checkGraph(context.device, options.graph);
    if (options.state !== undefined && options.attack !== 'autoattack') throw new UsageError('--state is of autoattack: type --attack autoattack, or leave it out');
    await checkPlace(options.out, 'adversaries', [path!, options.images, options.state], 'adversarial.safetensors');
    const run = await recordedRun(path!);
    using loaded = await loadModel(context, path!);
    const { model } = loaded;
    await scope(async () => {
      const { images, labels } = await inputs(context, options, model, run);
      const { batchSize = 256 } = options;
      using progress = new Progress(output, { label: 'Attacking' });
      const { adversarial, settings, warnings } = await make(options, run, model, images, labels, { signal, onProgress: ({ done, total }) => progress.outOf(total).update(done) }).catch((error: unknown) => {
        if (options.attack === 'autoattack') sayWhatIsKept(error, options.state, context.call);
        throw error;
      });
      progress.stop();
      const before = await right(context, model, images, labels, batchSize);
      const after = await right(context, model, adversarial, labels, batchSize);
      const standing = before.filter((each, row) => each && after[row]).length;
      const correct = before.filter(Boolean).length;
      const success = correct === 0 ? null : 1 - standing / correct;
      await writeSafetensors(options.out, Object.entries({ images, adversarial, labels }), { attack: JSON.stringify(settings) });
      output.result({ out: options.out, attack: settings, images: before.length, correct, fooled: correct - standing, successRate: success, ...(warnings.length > 0 && { warnings }) }, [
        `${correct} of ${counted(before.length, 'image')} ${before.length === 1 ? 'was' : 'were'} classified right (${percent(correct / before.length)}).`,
        ...(success === null ? [] : [`${correct - standing} of these are fooled: a success rate of ${percent(success)} (${described(settings)}).`]),
        ...warnings.map((warning) => output.warning(warning)),
        `images, adversarial and labels are in ${options.out}`,
      ]);
    });
  },
});

/** What the success rate is of. */
function described(settings: object): string {
  const { attack, norm, epsilon, steps, stepSize, restarts } = settings as Partial<ResolvedPgdOptions> & { attack: string };
  return [
    attack, ...(norm === undefined ? [] : [norm]), ...(epsilon === undefined ? [] : [`epsilon ${rounded(epsilon)}`]),
    ...(steps === undefined ? [] : [`${counted(steps, 'step')}${stepSize === undefined ? '' : ` of ${rounded(stepSize)}`}`]), ...(restarts === undefined || restarts === 1 ? [] : [counted(restarts, 'restart')]),
  ].join(', ');
}

/** The name of the attack asked for, as the library calls it. */
const nameOf = ({ attack, steps = 20 }: Pick<Options, 'attack' | 'steps'>): string => (attack === 'pgd' ? `pgd${steps}` : attack);

/** Throws what is wrong with the attack asked for or its options, before anything is read. */
async function checkAttack({ attack: name, steps, norm, epsilon, stepSize, restarts, randomStart, graph, batchSize, seed }: Options & CommonOptions): Promise<void> {
  if (name !== 'pgd' && steps !== undefined) throw new UsageError(`--steps is of pgd: type --attack pgd${steps}, or leave it out`);
  const { onlyAttack } = await import('../../attack/named.js');
  onlyAttack(nameOf({ attack: name, steps }), { norm, epsilon, stepSize, restarts, randomStart: randomStart ? undefined : false, graph, batchSize, seed }, 'attack', ['pgd', 'autoattack']);
}

/** Adversaries of the attack asked for, its settings, and what makes it doubtful. */
async function make(
  { attack: name, norm, epsilon, stepSize, steps, restarts, randomStart, graph, batchSize, seed, state }: Options & CommonOptions, of: RecordedRun | undefined, model: Model, images: Tensor, labels: Tensor,
  watch: { signal?: AbortSignal | undefined; onProgress: (progress: StepProgress) => void },
): Promise<{ adversarial: Tensor; settings: object; warnings: string[] }> {
  const { attack: run, autoAttack } = await import('../../index.js');
  if (name === 'autoattack') {
    const { adversaries, settings, attacks, warnings } = await autoAttack(model, images, labels, {
      norm, epsilon, batchSize, seed, state, keepAdversaries: true, signal: watch.signal, onProgress: ({ share }) => watch.onProgress({ done: images.shape[0]! * share, total: images.shape[0]! }),
    });
    return { adversarial: adversaries!, settings: { attack: name, ...settings, attacks: attacks.map((step) => step.settings) }, warnings };
  }
  const recorded = name.startsWith('pgd') ? recordedPgd(of, { norm, epsilon }) : undefined;
  return await run(model, images, labels, nameOf({ attack: name, steps }) as SingleAttack, {
    norm, epsilon: epsilon ?? recorded?.epsilon, stepSize: stepSize ?? recorded?.stepSize, restarts, randomStart: randomStart ? recorded?.randomStart : false, graph, seed, batchSize, ...watch,
  });
}

async function inputs(context: Context, options: Options, model: Model, run: RecordedRun | undefined): Promise<{ images: Tensor; labels: Tensor }> {
  if (options.images === undefined) {
    using data = await openData(context, options, dataOf(model, run));
    requireChannels(data, model);
    const count = Math.min(options.limit ?? Infinity, data.test.length);
    return { images: data.test.images(0, count), labels: data.test.labels(0, count) };
  }
  const { ops, readSafetensors } = await import('../../index.js');
  await checkKind(options.images, 'a safetensors file with images [N, C, H, W], float32 in [0, 1], and labels [N], int64');
  const { tensors } = await readSafetensors(options.images);
  const [images, labels] = [tensors.get('images'), tensors.get('labels')];
  if (!images || !labels) throw new CommandError(`${options.images}: expected tensors 'images' and 'labels', got ${some([...tensors.keys()].map((name) => `'${name}'`))}`);
  if (images.shape[0] === 0) throw new CommandError(`${options.images}: there are no images in it`);
  if (options.limit === undefined) return { images, labels };
  if (images.shape[0] !== labels.shape[0]) throw new UsageError(`${options.images}: ${images.shape[0]} images and ${labels.shape[0]} labels`);
  return { images: ops.aten.slice(images, 0, 0, options.limit), labels: ops.aten.slice(labels, 0, 0, options.limit) };
}

/** The first five names, and how many more. */
function some(names: string[]): string {
  return [names.slice(0, 5).join(', ') || 'none', ...(names.length > 5 ? [`${names.length - 5} more`] : [])].join(' and ');
}

/** Which images the model classifies as labelled. */
async function right({ output, signal }: Context, model: Model, images: Tensor, labels: Tensor, batchSize: number): Promise<boolean[]> {
  const { predict } = await import('../../index.js');
  using progress = new Progress(output, { label: 'Classifying' });
  const { predicted } = await predict(model, images, { batchSize, signal, onProgress: ({ done, total }) => progress.outOf(total).update(done) });
  using classes = predicted;
  const [found, wanted] = [classes.toTypedArray(), labels.toTypedArray()];
  return Array.from({ length: found.length }, (_, row) => found[row] === wanted[row]);
}
