/** What is reproduced: the cells of the paper's table, the configuration of each at a scale, and the numbers that others published. */
import { ArgumentRangeError, ArgumentTypeError, describe } from '../runtime/errors.js';
import { mergeConfig } from '../training/merge.js';
import { resolveConfig, type Overrides, type PresetName, type PretrainConfig } from '../training/presets.js';
import type { FinetuneMode } from '../training/finetune.js';

export const METHODS = ['rocl', 'advcl'] as const;
export const VARIANTS = ['base', 'ip', 'hn', 'iphn'] as const;
export const MODES = ['slf', 'alf', 'aff'] as const satisfies readonly FinetuneMode[];
/** Clean accuracy, accuracy under the method's PGD-20, under standard AutoAttack. */
export const MEASURES = ['sa', 'ra', 'aa'] as const;

export type Method = (typeof METHODS)[number];
export type Variant = (typeof VARIANTS)[number];
export type Measure = (typeof MEASURES)[number];
export type Scale = 'small' | 'paper';

/** A pre-training: one encoder. */
export interface Encoding {
  /** The data set's name. */
  data: string;
  seed: number;
  method: Method;
  variant: Variant;
}

/** One cell of the grid: a classifier, with all that is measured of it. */
export interface Cell extends Encoding {
  mode: FinetuneMode;
}

/** How large everything is; what is left out is the preset's, or all there is. */
export interface Sizes {
  scale: Scale;
  /** Epochs of pre-training, and of fine-tuning in every mode. */
  epochs?: number | undefined;
  finetuneEpochs?: number | undefined;
  batchSize?: number | undefined;
  /** Training images, classes balanced. */
  images?: number | undefined;
  /** The first test images, for clean accuracy and PGD; and for AutoAttack. */
  testImages?: number | undefined;
  autoAttackImages?: number | undefined;
  /** Channels after the stem of the ResNet-18. */
  width?: number | undefined;
}

/** By extrapolation six hours of two cores: some 9 (RoCL) and 16 (AdvCL) CPU milliseconds an image and epoch of pre-training, 16 of TRADES. See docs/reproduction.md. */
export const SMALL = { epochs: 25, images: 10_000, testImages: 1_000, autoAttackImages: 250, width: 8, batchSize: 128 } as const;

/** The grid in its order, reduced to what `only` names: words of one kind widen, of several kinds narrow. */
export function gridOf(data: readonly string[], seeds: readonly number[], only: readonly string[] = []): { cells: Cell[]; measures: Measure[] } {
  const kinds = [METHODS, VARIANTS, data, MODES, MEASURES] as const;
  if (!Array.isArray(only)) throw new ArgumentTypeError('only', 'an array of words', describe(only));
  for (const word of only)
    if (!kinds.some((kind) => (kind as readonly string[]).includes(word))) throw new ArgumentRangeError('only', `some of ${kinds.flat().join(', ')}`, describe(word));
  const kept = <Word extends string>(kind: readonly Word[]): Word[] => {
    const named = kind.filter((word) => only.includes(word));
    return named.length > 0 ? named : [...kind];
  };
  const cells = kept(data).flatMap((data) => seeds.flatMap((seed) => kept(METHODS).flatMap((method) => kept(VARIANTS).flatMap((variant) =>
    kept(MODES).map((mode) => ({ data, seed, method, variant, mode }))))));
  return { cells, measures: kept(MEASURES) };
}

/** The preset of a cell, and what the scale changes about it. Other data than the paper's take the values of CIFAR-10. */
export function configOf({ data, seed, method, variant }: Encoding, sizes: Sizes, images: number, labels?: string): { preset: PresetName; overrides: Overrides<PretrainConfig> } {
  const preset = `${method}${variant === 'base' ? '' : `-${variant}`}-${data === 'cifar100' ? data : 'cifar10'}` as PresetName;
  const base = resolveConfig(preset);
  const epochs = sizes.epochs ?? base.epochs;
  /** A number of epochs in the run that has so many of them. */
  const share = (of: number, whole: number, now = epochs) => Math.max(1, Math.round((of * now) / whole));
  const changes: Record<string, unknown>[] = [{ seed }];
  if (sizes.scale === 'small') changes.push(method === 'rocl' ? smallRocl : smallAdvcl(base, sizes.batchSize ?? base.batchSize));
  changes.push({ epochs, batchSize: sizes.batchSize, encoder: { width: sizes.width } });
  if (epochs !== base.epochs && base.schedule.kind === 'cosine') changes.push({ schedule: { warmupEpochs: share(base.schedule.warmupEpochs, base.epochs) } });
  if (base.method === 'advcl') {
    const adaptive = base.objective.inferiorPositive?.adaptive;
    if (adaptive && epochs !== base.epochs) changes.push({ objective: { inferiorPositive: { adaptive: { warmupEpochs: share(adaptive.warmupEpochs, base.epochs) } } } });
    // Each cluster needs images.
    changes.push({ pseudoLabels: { path: labels, classes: classesOf(base.pseudoLabels.classes, images) } });
  }
  const merged = changes.reduce<Record<string, unknown>>((all, each) => mergeConfig(all, each) as Record<string, unknown>, {});
  if (sizes.finetuneEpochs !== undefined) {
    const { finetuning } = mergeConfig(base, { finetuning: merged['finetuning'] }) as PretrainConfig;
    // Two divisions that fall on one epoch are one.
    const scaled = ({ epochs, schedule }: PretrainConfig['finetuning']['slf']) => [...new Set(schedule.at.map((at) => share(at, epochs, sizes.finetuneEpochs)))];
    const shorter = MODES.map((mode) => [mode, { epochs: sizes.finetuneEpochs, schedule: { at: scaled(finetuning[mode]) } }]);
    return { preset, overrides: mergeConfig(merged, { finetuning: Object.fromEntries(shorter) }) as Overrides<PretrainConfig> };
  }
  return { preset, overrides: merged as Overrides<PretrainConfig> };
}

/** Numbers of clusters of which each has two images or more on average. */
export const classesOf = (classes: readonly number[], images: number): number[] => classes.filter((k) => 2 * k <= images);

/** One rate for every row: those of the presets (.1, and .01 for the heads of some) are made for their epochs, and here would compare heads with heads. */
const shorterTuning = (epochs: number, ...at: number[]) => ({
  slf: { epochs, batchSize: 256, schedule: { rate: 0.1, at } },
  alf: { epochs: 2, batchSize: 128, schedule: { rate: 0.1, at: [1] }, attack: { steps: 10 } },
  aff: { epochs: 4, batchSize: 128, schedule: { rate: 0.1, at: [3] } },
});

/** RoCL with plain SGD: LARS and a rate that warms up for ten epochs are made for a thousand. */
const smallRocl = {
  groups: 1,
  projector: { hidden: [256], output: 64 },
  optimizer: { kind: 'sgd', momentum: 0.9, weightDecay: 1e-4 },
  schedule: { kind: 'cosine', rate: 0.2, final: 1e-3, warmupEpochs: 1, warmupFrom: 0.02 },
  attack: { steps: 3, stepSize: 0.0157 },
  regularizer: { sharedForward: true },
  finetuning: shorterTuning(60, 30, 50),
};

/** AdvCL with the rates of its presets in proportion to the batch. */
const smallAdvcl = (base: PretrainConfig, batchSize: number) => ({
  projector: { hidden: [128], output: 64 },
  schedule: { rate: (base.schedule.rate * batchSize) / base.batchSize },
  attack: { steps: 3, stepSize: 4 / 255 },
  finetuning: shorterTuning(20, 12, 16),
});

/** A number that others published: standard AutoAttack and clean accuracy, in percent. */
export interface Published {
  data: string;
  /** As its authors call it. */
  name: string;
  /** The row of the grid that does the same, if there is one. */
  row?: { method: Method; variant: Variant };
  mode: FinetuneMode;
  sa: number;
  aa: number;
}

/** How the published numbers were taken. */
export const PUBLISHED_PROTOCOL = 'ResNet-18 of width 64, the whole test set, standard AutoAttack Linf 8/255, vanilla fine-tuning, by an independent benchmark';

const numbers = (data: string, name: string, row: Published['row'], ...cells: [aa: number, sa: number][]): Published[] =>
  cells.map(([aa, sa], at) => ({ data, name, ...(row && { row }), mode: MODES[at]!, sa, aa }));
const iphn = { method: 'advcl', variant: 'iphn' } as const, plain = { method: 'advcl', variant: 'base' } as const;

export const PUBLISHED: readonly Published[] = [
  ...numbers('cifar10', 'A-InfoNCE', iphn, [42.72, 83.7], [43.28, 80.3], [49.73, 82.99]),
  ...numbers('cifar10', 'AdvCL', plain, [43.18, 82.36], [44.05, 80.04], [49.61, 83]),
  ...numbers('cifar10', 'DynACL', undefined, [45.09, 75.41], [45.67, 72.97], [50.52, 81.86]),
  ...numbers('cifar10', 'DynACL-AIR++', undefined, [46.99, 81.8], [48.23, 79.56], [50.79, 82.36]),
  ...numbers('cifar100', 'A-InfoNCE', iphn, [20.41, 50.06], [19.53, 44.78], [26.11, 59.08]),
  ...numbers('cifar100', 'AdvCL', plain, [19.1, 44.6], [18.19, 39.85], [25.26, 58.29]),
];
