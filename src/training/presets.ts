/** The paper's runs, value for value, and how a caller changes any of them. */
import type { z } from 'zod';
import { PIPELINES } from '../data/augment.js';
import { ArgumentRangeError, ArgumentTypeError, describe } from '../runtime/errors.js';
import { pretrainConfig, type PretrainConfig } from './methods/index.js';
import type { AdvclConfig } from './methods/advcl.js';
import { aclAirPreset, aclPreset, dynaclAirPreset, dynaclPreset, mocoPreset, simclrPreset, supconPreset } from './methods/presets.js';
import type { RoclConfig } from './methods/rocl.js';
import { fineTunings, type FinetuneConfigs } from './schema.js';

export type { FinetuneConfigs, PretrainConfig };
/** A configuration in part: objects merge key by key, anything else (arrays too) replaces; `null` takes an optional key away. */
export type Overrides<T> = { [K in keyof T]?: (T[K] extends readonly unknown[] ? T[K] : T[K] extends object | undefined ? Overrides<NonNullable<T[K]>> : T[K]) | (undefined extends T[K] ? null : never) };

const attack = { norm: 'linf', epsilon: 0.0314, stepSize: 0.007, steps: 7, randomStart: true } as const;
const strong = { norm: 'linf', epsilon: 8 / 255, stepSize: 2 / 255, steps: 20, randomStart: true } as const;
const trades = { beta: 6, startNoise: 0.001, attack: { ...strong, steps: 10, randomStart: false } };
const sgd = (weightDecay: number) => ({ kind: 'sgd', momentum: 0.9, weightDecay }) as const;
const tenth = (rate: number, ...at: number[]) => ({ kind: 'steps', rate, at, divisor: 10 }) as const;

/** RoCL as released (Asym-RoCL): 2 x 256 images, LARS around SGD, 1,000 epochs. */
const rocl: RoclConfig = {
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
    aff: { epochs: 25, batchSize: 1024, schedule: tenth(0.1, 16, 21), optimizer: sgd(2e-4), trades },
  },
  evaluation: {
    pgd20: { ...attack, stepSize: 0.00314, steps: 20 },
    autoattack: { norm: 'linf', epsilon: 8 / 255, version: 'standard' },
  },
};

const inferiorPositive = { alpha: 0.2, weight: 1 };
const variant = (preset: string, rate: number, objective: Overrides<RoclConfig['objective']> = {}): RoclConfig =>
  mergeConfig(rocl, { preset, data: { name: preset.slice(preset.lastIndexOf('-') + 1) }, schedule: { rate }, objective }) as RoclConfig;

/** AdvCL as released with A-InfoNCE (Asym-AdvCL). Two choices of that code are options here: the file of pseudo-labels, and its drop-in for CIFAR-100. */
const advcl: AdvclConfig = {
  preset: 'advcl-cifar10',
  data: { name: 'cifar10' },
  method: 'advcl',
  seed: 0,
  epochs: 400,
  batchSize: 512,
  encoder: { architecture: 'resnet18', stem: 'cifar', width: 64, branches: ['normal', 'pgd', 'pgd_ce'], initialisation: 'kaiming' },
  projector: { hidden: [512], output: 128, batchNorm: true },
  optimizer: sgd(1e-4),
  schedule: { kind: 'cosine', rate: 0.5, final: 1e-3, warmupEpochs: 10, warmupFrom: 0.01 },
  views: PIPELINES['advcl-strong'],
  weakView: PIPELINES.weak,
  highFrequencyRadius: 8,
  attack: { ...strong, steps: 5, clampStart: false, order: 'project-clamp' },
  objective: { form: 'advcl', temperature: 0.5 },
  pseudoLabels: { classes: [2, 10, 50, 100, 500], weight: 0.2 },
  finetuning: advclFinetuning(0.1, 0.1, 0.1),
  evaluation: { pgd20: strong, autoattack: { norm: 'linf', epsilon: 8 / 255, version: 'standard' } },
};

function advclFinetuning(slf: number, alf: number, aff: number): AdvclConfig['finetuning'] {
  const values = (rate: number) => ({ epochs: 25, batchSize: 512, schedule: tenth(rate, 15, 20), optimizer: sgd(2e-4), views: PIPELINES.weak, branch: 'pgd' });
  return { slf: values(slf), alf: { ...values(alf), attack: strong }, aff: { ...values(aff), trades } };
}

const asymmetric = (preset: string, rate: number, objective: Partial<AdvclConfig['objective']>, finetuning = advcl.finetuning): AdvclConfig =>
  ({ ...advcl, preset, data: { name: preset.slice(preset.lastIndexOf('-') + 1) }, schedule: { ...advcl.schedule, rate }, objective: { ...advcl.objective, ...objective }, finetuning });
const adaptive = (alpha: number, weight: number, warmupEpochs: number, dMin: number) => ({ inferiorPositive: { alpha, weight, adaptive: { warmupEpochs, dMin } } });
/** The encoders of CIFAR-10's IP, HN and IP+HN runs: a tenth of the rate for the head. */
const gentle = advclFinetuning(0.01, 0.01, 0.1);

/** Small enough for minutes on two cores; its fine-tuning and evaluation are short too. */
const quickstart: RoclConfig = mergeConfig(rocl, {
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
}) as RoclConfig;

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
  'advcl-cifar10': advcl,
  'advcl-cifar100': asymmetric('advcl-cifar100', 0.5, {}),
  'advcl-ip-cifar10': asymmetric('advcl-ip-cifar10', 1, adaptive(0.2, 1.2, 30, 0.4), gentle),
  'advcl-ip-cifar100': asymmetric('advcl-ip-cifar100', 2, adaptive(0.3, 1.5, 20, 0.5)),
  'advcl-hn-cifar10': asymmetric('advcl-hn-cifar10', 1.2, { hardNegative: { beta: 1, tauPlus: 0.12 } }, gentle),
  'advcl-hn-cifar100': asymmetric('advcl-hn-cifar100', 2, { hardNegative: { beta: 1, tauPlus: 0.01 } }),
  'advcl-iphn-cifar10': asymmetric('advcl-iphn-cifar10', 2, { ...adaptive(0.2, 0.7, 30, 0.4), hardNegative: { beta: 1, tauPlus: 0.1 } }, gentle),
  'advcl-iphn-cifar100': asymmetric('advcl-iphn-cifar100', 2, { ...adaptive(0.3, 1.5, 20, 0.5), hardNegative: { beta: 1, tauPlus: 0.01 } }),
  'simclr-cifar10': simclrPreset,
  'supcon-cifar10': supconPreset,
  'moco-cifar10': mocoPreset,
  'acl-cifar10': aclPreset,
  'acl-air-cifar10': aclAirPreset,
  'dynacl-cifar10': dynaclPreset,
  'dynacl-air-cifar10': dynaclAirPreset,
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

/** The same for the values of one mode of fine-tuning. */
export function checkFinetuneConfig<Mode extends keyof FinetuneConfigs>(mode: Mode, value: unknown): FinetuneConfigs[Mode] {
  return parse(fineTunings.shape[mode] as unknown as z.ZodType<FinetuneConfigs[Mode]>, value);
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
