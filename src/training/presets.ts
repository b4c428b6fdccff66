/** The paper's runs, value for value, and how a caller changes any of them. */
import { z } from 'zod';
import { PIPELINES } from '../data/augment.js';
import { ArgumentRangeError, ArgumentTypeError, describe } from '../runtime/errors.js';

const positive = z.number().positive();
const share = z.number().min(0).max(1);
const count = z.int().positive();
const rates = { momentum: z.number().min(0).lt(1), weightDecay: z.number().min(0) };

const optimizer = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('sgd'), ...rates }),
  z.strictObject({ kind: z.literal('lars'), ...rates, trust: positive, epsilon: z.number().min(0) }),
]);
const stepSchedule = z.strictObject({ kind: z.literal('steps'), rate: positive, at: z.array(z.int().min(0)), divisor: positive });
const schedule = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('rocl'), rate: positive, multiplier: positive, warmupEpochs: z.int().min(0) }),
  z.strictObject({ kind: z.literal('cosine'), rate: positive, final: share, warmupEpochs: z.int().min(0), warmupFrom: z.number().min(0) }),
  stepSchedule,
]);
const pgd = z.strictObject({ norm: z.literal('linf'), epsilon: z.number().min(0), stepSize: positive, steps: z.int().min(0), randomStart: z.boolean() });
const fineTuning = z.strictObject({
  epochs: count, batchSize: count, schedule: stepSchedule, optimizer: z.strictObject({ kind: z.literal('sgd'), ...rates }),
});

const pretrainConfig = z.strictObject({
  /** The preset this configuration began as. */
  preset: z.string(),
  /** The data set by name, what it was made with, and what was found in it (the SHA-256 of its training pixels): another set or order under the same name does not pass for it. */
  data: z.strictObject({
    name: z.string(),
    procedural: z.strictObject({ train: count.optional(), test: count.optional(), size: count.optional(), seed: z.int().min(0).optional() }).optional(),
    images: count.optional(), channels: count.optional(), size: count.optional(), sha256: z.string().optional(),
  }),
  /** The method: one step over a batch. */
  method: z.literal('rocl'),
  /** Every random choice of the run is a function of it. */
  seed: z.int().min(0),
  epochs: count,
  /** Images a step, at least two a group; a last batch that is smaller counts too if it has as many. */
  batchSize: count,
  /**
   * How many processes the batch stands for: the attack and the regulariser contrast rows of one group only (the released runs had 2 x 256). Groups
   * are runs of neighbours whose sizes differ by at most one, the larger ones first.
   */
  groups: count,
  encoder: z.strictObject({
    architecture: z.enum(['resnet18', 'resnet34', 'resnet50']), stem: z.enum(['cifar', 'imagenet']), width: count, branches: z.array(z.string()).nonempty(),
    /** First values: `framework` (PyTorch's defaults) or `kaiming` (convolutions normal, fan-out). */
    initialisation: z.enum(['framework', 'kaiming']),
  }),
  projector: z.strictObject({ hidden: z.array(count), output: count, batchNorm: z.boolean() }),
  optimizer,
  schedule,
  /** Both views are drawn by this pipeline (see `augment`); images are floats in [0, 1] and nothing normalises them. */
  views: z.strictObject({
    size: count.optional(), resizedCrop: z.strictObject({ scale: z.tuple([share, share]), ratio: z.tuple([positive, positive]) }), flip: share,
    jitter: z.strictObject({ probability: share, brightness: z.number().min(0), contrast: z.number().min(0), saturation: z.number().min(0), hue: z.number().min(0).max(0.5) }),
    grayscale: share, colorFirst: z.boolean(),
  }),
  attack: pgd.extend({
    /** Clamp the random start to [0, 1]. */
    clampStart: z.boolean(),
    order: z.enum(['clamp-project', 'project-clamp']),
  }),
  objective: z.strictObject({
    form: z.literal('rocl'), temperature: positive,
    inferiorPositive: z.strictObject({ alpha: share, weight: z.number().min(0) }).optional(),
    hardNegative: z.strictObject({ beta: z.number().min(0), tauPlus: z.number().min(0).lt(1) }).optional(),
  }),
  /** `weight` times NT-Xent(adversary, view 2); `sharedForward` reads it off the one forward instead of the released code's second one. */
  regularizer: z.strictObject({ weight: z.number().min(0), sharedForward: z.boolean() }),
  /** What `finetune` takes for this preset's name; the command, for a run's folder, by the name of its preset: SLF trains a linear head on clean images, ALF on PGD adversaries, AFF everything with TRADES. */
  finetuning: z.strictObject({
    slf: fineTuning,
    alf: fineTuning.extend({ attack: pgd }),
    aff: fineTuning.extend({ trades: z.strictObject({ beta: z.number().min(0), startNoise: z.number().min(0), attack: pgd }) }),
  }),
  /** How the method's published numbers were taken. `a-infonce evaluate` takes `pgd20` for a run's folder; the function `evaluate` has defaults of its own. */
  evaluation: z.strictObject({
    pgd20: pgd,
    autoattack: z.strictObject({ norm: z.literal('linf'), epsilon: z.number().min(0), version: z.literal('standard') }),
  }),
}).refine(({ batchSize, groups }) => batchSize >= 2 * groups, { path: ['batchSize'], error: 'expected at least two images a group' });

/** Everything that decides the result of a pre-training run; what `config.json` holds. */
export type PretrainConfig = z.infer<typeof pretrainConfig>;
/** The values of one mode of fine-tuning. */
export type FinetuneConfig = z.infer<typeof fineTuning>;
/** A configuration in part: objects merge key by key, anything else (arrays too) replaces; `null` takes an optional key away. */
export type Overrides<T> = { [K in keyof T]?: (T[K] extends readonly unknown[] ? T[K] : T[K] extends object | undefined ? Overrides<NonNullable<T[K]>> : T[K]) | (undefined extends T[K] ? null : never) };

const attack = { norm: 'linf', epsilon: 0.0314, stepSize: 0.007, steps: 7, randomStart: true } as const;
const strong = { norm: 'linf', epsilon: 8 / 255, stepSize: 2 / 255, steps: 20, randomStart: true } as const;
const sgd = (weightDecay: number) => ({ kind: 'sgd', momentum: 0.9, weightDecay }) as const;
const tenth = (rate: number, ...at: number[]) => ({ kind: 'steps', rate, at, divisor: 10 }) as const;

/** RoCL as released (Asym-RoCL): 2 x 256 images, LARS around SGD, 1,000 epochs. */
const rocl: PretrainConfig = {
  preset: 'rocl-cifar10',
  data: { name: 'cifar10' },
  method: 'rocl',
  seed: 0,
  epochs: 1000,
  batchSize: 512,
  groups: 2,
  encoder: { architecture: 'resnet18', stem: 'cifar', width: 64, branches: ['normal'], initialisation: 'framework' },
  projector: { hidden: [2048], output: 128, batchNorm: false },
  optimizer: { kind: 'lars', momentum: 0.9, weightDecay: 1e-6, trust: 1e-3, epsilon: 1e-8 },
  schedule: { kind: 'rocl', rate: 0.1, multiplier: 15, warmupEpochs: 10 },
  views: PIPELINES.rocl,
  attack: { ...attack, clampStart: true, order: 'clamp-project' },
  objective: { form: 'rocl', temperature: 0.5 },
  regularizer: { weight: 1 / 256, sharedForward: false },
  finetuning: {
    slf: { epochs: 150, batchSize: 1024, schedule: tenth(0.1, 31, 51, 101), optimizer: sgd(5e-4) },
    alf: { epochs: 25, batchSize: 1024, schedule: tenth(0.1, 16, 21), optimizer: sgd(2e-4), attack: strong },
    aff: {
      epochs: 25, batchSize: 1024, schedule: tenth(0.1, 16, 21), optimizer: sgd(2e-4),
      trades: { beta: 6, startNoise: 0.001, attack: { ...strong, steps: 10, randomStart: false } },
    },
  },
  evaluation: {
    pgd20: { ...attack, stepSize: 0.00314, steps: 20 },
    autoattack: { norm: 'linf', epsilon: 8 / 255, version: 'standard' },
  },
};

const inferiorPositive = { alpha: 0.2, weight: 1 };
const variant = (preset: string, rate: number, objective: Overrides<PretrainConfig['objective']> = {}): PretrainConfig =>
  mergeConfig(rocl, { preset, data: { name: preset.slice(preset.lastIndexOf('-') + 1) }, schedule: { rate }, objective }) as PretrainConfig;

/** Small enough for minutes on two cores; its fine-tuning and evaluation are short too. */
const quickstart: PretrainConfig = mergeConfig(rocl, {
  preset: 'quickstart',
  data: { name: 'procedural', procedural: { train: 5000, test: 1000, size: 16, seed: 0 } },
  epochs: 16,
  batchSize: 128,
  groups: 1,
  encoder: { width: 8 },
  projector: { hidden: [256], output: 64 },
  optimizer: { kind: 'sgd', momentum: 0.9, weightDecay: 1e-4 },
  schedule: { kind: 'cosine', rate: 0.2, final: 0.001, warmupEpochs: 1, warmupFrom: 0.02 },
  views: { resizedCrop: { scale: [0.3, 1] } },
  attack: { steps: 3, stepSize: 0.0157 },
  objective: { inferiorPositive, hardNegative: { beta: 1, tauPlus: 0.1 } },
  regularizer: { sharedForward: true },
  finetuning: { slf: { epochs: 60, batchSize: 256, schedule: { at: [30, 50] } } },
}) as PretrainConfig;

/** Presets by name, frozen: {@link resolveConfig} gives a copy to change. `quickstart` is RoCL-IP+HN on procedural images, small enough for minutes on two cores. */
export const presets = frozen({
  'rocl-cifar10': rocl,
  'rocl-cifar100': variant('rocl-cifar100', 0.1),
  'rocl-ip-cifar10': variant('rocl-ip-cifar10', 0.1, { inferiorPositive }),
  'rocl-ip-cifar100': variant('rocl-ip-cifar100', 0.1, { inferiorPositive }),
  'rocl-hn-cifar10': variant('rocl-hn-cifar10', 0.2, { hardNegative: { beta: 1, tauPlus: 0.12 } }),
  'rocl-hn-cifar100': variant('rocl-hn-cifar100', 0.1, { hardNegative: { beta: 1, tauPlus: 0.1 } }),
  'rocl-iphn-cifar10': variant('rocl-iphn-cifar10', 0.3, { inferiorPositive, hardNegative: { beta: 1, tauPlus: 0.12 } }),
  'rocl-iphn-cifar100': variant('rocl-iphn-cifar100', 0.2, { inferiorPositive, hardNegative: { beta: 1, tauPlus: 0.1 } }),
  'quickstart': quickstart,
} as const satisfies Record<string, PretrainConfig>);

export type PresetName = keyof typeof presets;

/**
 * A preset with overrides, checked: every key known, every value in its range. The result is the caller's own.
 * @throws {@link ArgumentRangeError} on an unknown preset, an unknown key or a value out of range, naming the key by its path; {@link ArgumentTypeError} on a value of the wrong type.
 */
export function resolveConfig(preset: PresetName, overrides: Overrides<PretrainConfig> = {}): PretrainConfig {
  if (typeof preset !== 'string') throw new ArgumentTypeError('preset', 'a string', describe(preset));
  if (!Object.hasOwn(presets, preset)) throw new ArgumentRangeError('preset', `one of ${Object.keys(presets).join(', ')}`, describe(preset));
  return checkConfig(mergeConfig(presets[preset], overrides));
}

/** `value` as a configuration, or the typed error that names the first key at fault. */
export function checkConfig(value: unknown): PretrainConfig {
  return parse(pretrainConfig, value);
}

/** The same for the values of fine-tuning. */
export function checkFinetuneConfig(value: unknown): FinetuneConfig {
  return parse(fineTuning, value);
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const { data, error } = schema.safeParse(value);
  if (!error) return data;
  const issue = error.issues[0]!;
  const path = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') throw new ArgumentRangeError([path, issue.keys[0]].filter(Boolean).join('.'), 'a known key', `'${issue.keys[0]}'`);
  const received = issue.path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], value);
  const number = typeof received === 'number' && issue.code === 'invalid_type' && /^(number|int)$/.test(issue.expected);
  const Wrong = issue.code === 'invalid_type' && !number ? ArgumentTypeError : ArgumentRangeError;
  throw new Wrong(path || 'config', issue.message.replace(/^.*?expected /i, '').replace(/, received.*$/, ''), describe(received));
}

/** The paths at which two configurations differ, as `schedule.rate`. */
export function differences(a: unknown, b: unknown, path = ''): string[] {
  if (!isPlain(a) || !isPlain(b)) return JSON.stringify(a) === JSON.stringify(b) ? [] : [path];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) => differences(a[key], b[key], path ? `${path}.${key}` : key));
}

/** `changes` over `base`, as {@link Overrides} says. */
export function mergeConfig(base: unknown, changes: unknown): unknown {
  if (changes === null) return undefined;
  if (!isPlain(changes)) return changes === undefined ? base : changes;
  // Another kind of schedule or optimizer shares no keys with the one it replaces.
  const merged: Record<string, unknown> = isPlain(base) && (!('kind' in changes) || changes['kind'] === base['kind']) ? { ...base } : {};
  for (const [key, value] of Object.entries(changes)) merged[key] = mergeConfig(merged[key], value);
  return merged;
}

function frozen<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === 'object') frozen(part as object);
  return Object.freeze(value);
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
