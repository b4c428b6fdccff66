/**
 * Presets, value for value from the code that their authors released. In those of the methods beside RoCL and AdvCL three things
 * are this package's own: images are not normalised (a radius of 8/255 is one of pixels), crops are resized bilinearly, and a projector's BatchNorm has
 * one set of statistics for all branches and none after the last layer. Their fine-tuning is AdvCL's, the common ground on which methods are compared.
 */
import { PIPELINES } from '../../data/augment.js';
import { mergeConfig } from '../merge.js';
import { CLUSTERS } from '../names.js';
import type { FinetuneConfigs, SharedConfig } from '../schema.js';
import type { AclConfig } from './acl.js';
import type { AdvclConfig } from './advcl.js';
import type { DynaclConfig } from './dynacl.js';
import type { MocoConfig } from './moco.js';
import type { RoclConfig } from './rocl.js';
import type { SimclrConfig } from './simclr.js';
import type { SupconConfig } from './supcon.js';

const jitter = { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
const views = (least: number) => ({ resizedCrop: { scale: [least, 1] as [number, number], ratio: [3 / 4, 4 / 3] as [number, number] }, flip: 0.5, jitter, grayscale: 0.2 });
const sgd = (weightDecay: number) => ({ kind: 'sgd', momentum: 0.9, weightDecay }) as const;
const ball = { norm: 'linf', epsilon: 8 / 255, stepSize: 2 / 255 } as const;
const strong = { ...ball, steps: 20, randomStart: true } as const;
const trades = { beta: 6, startNoise: 0.001, attack: { ...strong, steps: 10, randomStart: false } };
const tenth = (rate: number, ...at: number[]) => ({ kind: 'steps', rate, at, divisor: 10 }) as const;
const evaluation: SharedConfig['evaluation'] = { pgd20: strong, autoattack: { norm: 'linf', epsilon: 8 / 255, version: 'standard' } };

/** AdvCL's as released with A-InfoNCE; `linear` is the rate of the heads alone. */
function finetuning(branch?: string, linear = 0.1): FinetuneConfigs {
  const values = (rate: number) => ({ epochs: 25, batchSize: 512, schedule: tenth(rate, 15, 20), optimizer: sgd(2e-4), views: PIPELINES.weak, ...(branch && { branch }) });
  return { slf: values(linear), alf: { ...values(linear), attack: strong }, aff: { ...values(0.1), trades } };
}

const common = (branch?: string): Pick<SharedConfig, 'data' | 'seed' | 'finetuning' | 'evaluation'> => ({ data: { name: 'cifar10' }, seed: 0, finetuning: finetuning(branch), evaluation });
const encoder = (initialisation: 'framework' | 'kaiming', ...branches: [string, ...string[]]): SharedConfig['encoder'] =>
  ({ architecture: 'resnet18', stem: 'cifar', width: 64, branches, initialisation });

const attack = { norm: 'linf', epsilon: 0.0314, stepSize: 0.007, steps: 7, randomStart: true } as const;

/** RoCL as released (Asym-RoCL): 2 x 256 images, LARS around SGD, 1,000 epochs. */
const rocl: RoclConfig = {
  ...common(), preset: 'rocl-cifar10', method: 'rocl', epochs: 1000, batchSize: 512, groups: 2,
  encoder: encoder('framework', 'normal'), projector: { hidden: [2048], output: 128, batchNorm: false },
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
  evaluation: { ...evaluation, pgd20: { ...attack, stepSize: 0.00314, steps: 20 } },
};

const inferiorPositive = { alpha: 0.2, weight: 1 };

/** AdvCL as released with A-InfoNCE (Asym-AdvCL). Two choices of that code are options here: the file of pseudo-labels, and its drop-in for CIFAR-100. */
const advcl: AdvclConfig = {
  ...common('pgd'), preset: 'advcl-cifar10', method: 'advcl', epochs: 400, batchSize: 512,
  encoder: encoder('kaiming', 'normal', 'pgd', 'pgd_ce'), projector: { hidden: [512], output: 128, batchNorm: true },
  optimizer: sgd(1e-4),
  schedule: { kind: 'cosine', rate: 0.5, final: 1e-3, warmupEpochs: 10, warmupFrom: 0.01 },
  views: PIPELINES['advcl-strong'],
  weakView: PIPELINES.weak,
  highFrequencyRadius: 8,
  attack: { ...strong, steps: 5, clampStart: false, order: 'project-clamp' },
  objective: { form: 'advcl', temperature: 0.5 },
  pseudoLabels: { classes: [...CLUSTERS], weight: 0.2 },
};

const variant = <Config extends RoclConfig | AdvclConfig>(base: Config, preset: string, rate: number, objective: Partial<Config['objective']> = {}, finetuning = base.finetuning): Config =>
  ({ ...base, preset, data: { name: preset.slice(preset.lastIndexOf('-') + 1) }, schedule: { ...base.schedule, rate }, objective: { ...base.objective, ...objective }, finetuning });
const adaptive = (alpha: number, weight: number, warmupEpochs: number, dMin: number) => ({ inferiorPositive: { alpha, weight, adaptive: { warmupEpochs, dMin } } });
/** The encoders of CIFAR-10's IP, HN and IP+HN runs: a tenth of the rate for the head. */
const gentle = finetuning('pgd', 0.01);

/** The twelve runs of the paper. */
export const paperPresets = {
  'rocl-cifar10': rocl,
  'rocl-cifar100': variant(rocl, 'rocl-cifar100', 0.1),
  'rocl-ip-cifar10': variant(rocl, 'rocl-ip-cifar10', 0.1, { inferiorPositive }),
  'rocl-ip-cifar100': variant(rocl, 'rocl-ip-cifar100', 0.1, { inferiorPositive }),
  'rocl-hn-cifar10': variant(rocl, 'rocl-hn-cifar10', 0.2, { hardNegative: { beta: 1, tauPlus: 0.12 } }),
  'rocl-hn-cifar100': variant(rocl, 'rocl-hn-cifar100', 0.1, { hardNegative: { beta: 1, tauPlus: 0.1 } }),
  'rocl-iphn-cifar10': variant(rocl, 'rocl-iphn-cifar10', 0.3, { inferiorPositive, hardNegative: { beta: 1, tauPlus: 0.12 } }),
  'rocl-iphn-cifar100': variant(rocl, 'rocl-iphn-cifar100', 0.2, { inferiorPositive, hardNegative: { beta: 1, tauPlus: 0.1 } }),
  'advcl-cifar10': advcl,
  'advcl-cifar100': variant(advcl, 'advcl-cifar100', 0.5),
  'advcl-ip-cifar10': variant(advcl, 'advcl-ip-cifar10', 1, adaptive(0.2, 1.2, 30, 0.4), gentle),
  'advcl-ip-cifar100': variant(advcl, 'advcl-ip-cifar100', 2, adaptive(0.3, 1.5, 20, 0.5)),
  'advcl-hn-cifar10': variant(advcl, 'advcl-hn-cifar10', 1.2, { hardNegative: { beta: 1, tauPlus: 0.12 } }, gentle),
  'advcl-hn-cifar100': variant(advcl, 'advcl-hn-cifar100', 2, { hardNegative: { beta: 1, tauPlus: 0.01 } }),
  'advcl-iphn-cifar10': variant(advcl, 'advcl-iphn-cifar10', 2, { ...adaptive(0.2, 0.7, 30, 0.4), hardNegative: { beta: 1, tauPlus: 0.1 } }, gentle),
  'advcl-iphn-cifar100': variant(advcl, 'advcl-iphn-cifar100', 2, { ...adaptive(0.3, 1.5, 20, 0.5), hardNegative: { beta: 1, tauPlus: 0.01 } }),
} as const;

/** Small enough for minutes on two cores; its fine-tuning and evaluation are short too. */
export const quickstart: RoclConfig = mergeConfig(rocl, {
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

/** ACL's training without its adversarial stream: train_simCLR.py of VITA-Group/Adversarial-Contrastive-Learning. */
export const simclrPreset: SimclrConfig = {
  ...common(), preset: 'simclr-cifar10', method: 'simclr', epochs: 1000, batchSize: 512,
  encoder: encoder('kaiming', 'normal'), projector: { hidden: [512], output: 512, batchNorm: true },
  optimizer: { kind: 'lars', momentum: 0.9, weightDecay: 1e-6, trust: 1e-3, epsilon: 0, rateInMomentum: true },
  schedule: { kind: 'warmup-cosine', rate: 5, final: 1e-6 / 5, warmupEpochs: 10, by: 'step' },
  views: views(0.1), objective: { form: 'paper', temperature: 0.5 },
};

/** main_supcon.py of HobbitLong/SupContrast with the command of its README: a ResNet-50, and a loss divided by a base temperature of .07. */
export const supconPreset: SupconConfig = {
  ...common(), preset: 'supcon-cifar10', method: 'supcon', epochs: 1000, batchSize: 1024,
  encoder: { ...encoder('kaiming', 'normal'), architecture: 'resnet50' }, projector: { hidden: [2048], output: 128, batchNorm: false },
  optimizer: sgd(1e-4), schedule: { kind: 'cosine', rate: 0.5, final: 1e-3, warmupEpochs: 10, warmupFrom: 0.01 },
  views: views(0.2), objective: { form: 'paper', temperature: 0.1, scale: 0.1 / 0.07 },
};

/** The demonstration on CIFAR-10 of facebookresearch/moco (colab/moco_cifar10_demo.ipynb), asymmetric, 200 epochs, 8 groups. */
export const mocoPreset: MocoConfig = {
  ...common(), preset: 'moco-cifar10', method: 'moco', epochs: 200, batchSize: 512, groups: 8, queue: { size: 4096, momentum: 0.99 },
  encoder: encoder('kaiming', 'normal'), projector: { hidden: [], output: 128, batchNorm: false },
  optimizer: sgd(5e-4), schedule: { kind: 'cosine', rate: 0.06, final: 0, warmupEpochs: 0, warmupFrom: 0 },
  views: views(0.08), objective: { form: 'paper', temperature: 0.1 },
};

/** train_simCLR.py --ACL_DS of VITA-Group/Adversarial-Contrastive-Learning. */
export const aclPreset: AclConfig = {
  ...simclrPreset, ...common('pgd'), preset: 'acl-cifar10', method: 'acl', encoder: encoder('kaiming', 'normal', 'pgd'),
  attack: { ...ball, steps: 5, randomStart: true, clampStart: false, order: 'project-clamp' },
};

/**
 * train_DynACL.py of PKU-ML/DYNACL, without the second, slower network that this code embeds one of the two views with (pretraining.py --DynAug of
 * GodXuxilie/Enhancing_ACL_via_AIR has none either).
 */
export const dynaclPreset: DynaclConfig = {
  ...aclPreset, preset: 'dynacl-cifar10', method: 'dynacl', projector: { hidden: [512, 512], output: 512, batchNorm: true },
  schedule: { kind: 'warmup-cosine', rate: 5, final: 1e-6 / 5, warmupEpochs: 10, by: 'epoch' }, annealing: { period: 50, reweighting: 2 / 3, early: true },
};

/**
 * With adversarial invariant regularisation: lambda 1 and 2 of pretraining.py in GodXuxilie/Enhancing_ACL_via_AIR, whose rate goes by the step, and whose weight rises
 * with the strength's fall.
 */
const invariance = { standard: 0.5, adversarial: 0.5 };
export const aclAirPreset: AclConfig = { ...aclPreset, preset: 'acl-air-cifar10', invariance };
export const dynaclAirPreset: DynaclConfig = {
  ...dynaclPreset, preset: 'dynacl-air-cifar10', schedule: aclPreset.schedule, annealing: { period: 50, reweighting: 2 / 3 }, invariance,
};
