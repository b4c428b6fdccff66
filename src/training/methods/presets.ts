/**
 * Presets of the methods beside RoCL and AdvCL, value for value from the code that their authors released. Three things are this package's own: images
 * are not normalised (a radius of 8/255 is one of pixels), crops are resized bilinearly, and a projector's BatchNorm has one set of statistics for all
 * branches and none after the last layer. Fine-tuning is AdvCL's, the common ground on which the methods are compared.
 */
import type { FinetuneConfigs, SharedConfig } from '../schema.js';
import type { AclConfig } from './acl.js';
import type { DynaclConfig } from './dynacl.js';
import type { MocoConfig } from './moco.js';
import type { SimclrConfig } from './simclr.js';
import type { SupconConfig } from './supcon.js';

const jitter = { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
const views = (least: number) => ({ resizedCrop: { scale: [least, 1] as [number, number], ratio: [3 / 4, 4 / 3] as [number, number] }, flip: 0.5, jitter, grayscale: 0.2 });
const sgd = (weightDecay: number) => ({ kind: 'sgd', momentum: 0.9, weightDecay }) as const;
const ball = { norm: 'linf', epsilon: 8 / 255, stepSize: 2 / 255 } as const;

function common(branch?: string): Pick<SharedConfig, 'data' | 'seed' | 'finetuning' | 'evaluation'> {
  const stage: FinetuneConfigs['slf'] = {
    epochs: 25, batchSize: 512, schedule: { kind: 'steps', rate: 0.1, at: [15, 20], divisor: 10 }, optimizer: sgd(2e-4), views: { padding: 4, flip: 0.5 }, ...(branch && { branch }),
  };
  return {
    data: { name: 'cifar10' },
    seed: 0,
    finetuning: {
      slf: stage,
      alf: { ...stage, attack: { ...ball, steps: 20, randomStart: true } },
      aff: { ...stage, trades: { beta: 6, startNoise: 0.001, attack: { ...ball, steps: 10, randomStart: false } } },
    },
    evaluation: { pgd20: { ...ball, steps: 20, randomStart: true }, autoattack: { norm: 'linf', epsilon: 8 / 255, version: 'standard' } },
  };
}

const encoder = (...branches: [string, ...string[]]): SharedConfig['encoder'] => ({ architecture: 'resnet18', stem: 'cifar', width: 64, branches, initialisation: 'kaiming' });

/** ACL's training without its adversarial stream: train_simCLR.py of VITA-Group/Adversarial-Contrastive-Learning. */
export const simclrPreset: SimclrConfig = {
  ...common(), preset: 'simclr-cifar10', method: 'simclr', epochs: 1000, batchSize: 512,
  encoder: encoder('normal'), projector: { hidden: [512], output: 512, batchNorm: true },
  optimizer: { kind: 'lars', momentum: 0.9, weightDecay: 1e-6, trust: 1e-3, epsilon: 0 },
  schedule: { kind: 'warmup-cosine', rate: 5, final: 1e-6 / 5, warmupEpochs: 10, by: 'step' },
  views: views(0.1), objective: { form: 'paper', temperature: 0.5 },
};

/** main_supcon.py of HobbitLong/SupContrast with the command of its README: a ResNet-50, and a loss divided by a base temperature of .07. */
export const supconPreset: SupconConfig = {
  ...common(), preset: 'supcon-cifar10', method: 'supcon', epochs: 1000, batchSize: 1024,
  encoder: { ...encoder('normal'), architecture: 'resnet50' }, projector: { hidden: [2048], output: 128, batchNorm: false },
  optimizer: sgd(1e-4), schedule: { kind: 'cosine', rate: 0.5, final: 1e-3, warmupEpochs: 10, warmupFrom: 0.01 },
  views: views(0.2), objective: { form: 'paper', temperature: 0.1, scale: 0.1 / 0.07 },
};

/** The demonstration on CIFAR-10 of facebookresearch/moco (colab/moco_cifar10_demo.ipynb), asymmetric, 200 epochs, 8 groups. */
export const mocoPreset: MocoConfig = {
  ...common(), preset: 'moco-cifar10', method: 'moco', epochs: 200, batchSize: 512, groups: 8, queue: { size: 4096, momentum: 0.99 },
  encoder: { ...encoder('normal'), initialisation: 'framework' }, projector: { hidden: [], output: 128, batchNorm: false },
  optimizer: sgd(5e-4), schedule: { kind: 'warmup-cosine', rate: 0.06, final: 0, warmupEpochs: 0, by: 'epoch' },
  views: views(0.08), objective: { form: 'paper', temperature: 0.1 },
};

/** train_simCLR.py --ACL_DS of VITA-Group/Adversarial-Contrastive-Learning. */
export const aclPreset: AclConfig = {
  ...simclrPreset, ...common('pgd'), preset: 'acl-cifar10', method: 'acl', encoder: encoder('normal', 'pgd'),
  attack: { ...ball, steps: 5, randomStart: true, clampStart: false, order: 'project-clamp' },
};

/**
 * train_DynACL.py of PKU-ML/DYNACL, without the second, slower network that this code embeds one of the two views with (pretraining.py --DynAug of
 * GodXuxilie/Enhancing_ACL_via_AIR has none either).
 */
export const dynaclPreset: DynaclConfig = {
  ...aclPreset, preset: 'dynacl-cifar10', method: 'dynacl', projector: { hidden: [512, 512], output: 512, batchNorm: true },
  schedule: { kind: 'warmup-cosine', rate: 5, final: 1e-6 / 5, warmupEpochs: 10, by: 'epoch' }, annealing: { period: 50, reweighting: 2 / 3 },
};

/** With adversarial invariant regularisation: lambda 1 and 2 of pretraining.py in GodXuxilie/Enhancing_ACL_via_AIR. */
const invariance = { standard: 0.5, adversarial: 0.5 };
export const aclAirPreset: AclConfig = { ...aclPreset, preset: 'acl-air-cifar10', invariance };
export const dynaclAirPreset: DynaclConfig = { ...dynaclPreset, preset: 'dynacl-air-cifar10', invariance };
