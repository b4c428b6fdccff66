import { describe, expect, it } from 'vitest';
import { ArgumentRangeError, ArgumentTypeError, presets, resolveConfig, type PresetName, type PretrainConfig } from 'a-infonce';

describe('presets', () => {
  // The values, copied from the protocol once more so that presets and tests can disagree.
  const linf = { norm: 'linf', epsilon: 8 / 255, stepSize: 2 / 255, steps: 20, randomStart: true };
  const small = { ...linf, epsilon: 0.0314, stepSize: 0.007, steps: 7 };
  const trades = { beta: 6, startNoise: 0.001, attack: { ...linf, steps: 10, randomStart: false } };
  const sgd = (weightDecay: number) => ({ kind: 'sgd', momentum: 0.9, weightDecay });
  const lars = { kind: 'lars', momentum: 0.9, weightDecay: 1e-6, trust: 1e-3 };
  const steps = (rate: number, ...at: number[]) => ({ kind: 'steps', rate, at, divisor: 10 });
  const weak = { padding: 4, flip: 0.5 };
  const strong = (leastArea: number) => ({
    resizedCrop: { scale: [leastArea, 1], ratio: [3 / 4, 4 / 3] }, flip: 0.5,
    jitter: { probability: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }, grayscale: 0.2,
  });
  const encoder = (initialisation: string, ...branches: string[]) => ({ architecture: 'resnet18', stem: 'cifar', width: 64, branches, initialisation });
  /** AdvCL's fine-tuning, with a rate of the linear head's own. */
  const finetuning = (linear: number, branch?: string) => {
    const values = (rate: number) => ({ epochs: 25, batchSize: 512, schedule: steps(rate, 15, 20), optimizer: sgd(2e-4), views: weak, ...(branch && { branch }) });
    return { slf: values(linear), alf: { ...values(linear), attack: linf }, aff: { ...values(0.1), trades } };
  };
  const evaluation = { pgd20: linf, autoattack: { norm: 'linf', epsilon: 8 / 255, version: 'standard' } };
  const named = (preset: PresetName) => ({ preset, data: { name: preset.slice(preset.lastIndexOf('-') + 1) }, seed: 0, evaluation });

  // preset, learning rate, IP: alpha / weight, HN: beta / tau plus
  const table: [PresetName, number, [number, number] | undefined, [number, number] | undefined][] = [
    ['rocl-cifar10', 0.1, undefined, undefined],
    ['rocl-cifar100', 0.1, undefined, undefined],
    ['rocl-ip-cifar10', 0.1, [0.2, 1], undefined],
    ['rocl-ip-cifar100', 0.1, [0.2, 1], undefined],
    ['rocl-hn-cifar10', 0.2, undefined, [1, 0.12]],
    ['rocl-hn-cifar100', 0.1, undefined, [1, 0.1]],
    ['rocl-iphn-cifar10', 0.3, [0.2, 1], [1, 0.12]],
    ['rocl-iphn-cifar100', 0.2, [0.2, 1], [1, 0.1]],
  ];
  it.each(table)('%s has the values of the paper', (name, rate, ip, hn) => {
    expect(resolveConfig(name)).toEqual({
      ...named(name),
      method: 'rocl',
      epochs: 1000,
      batchSize: 512,
      groups: 2,
      encoder: encoder('framework', 'normal'),
      projector: { hidden: [2048], output: 128, batchNorm: false },
      optimizer: { ...lars, epsilon: 1e-8 },
      schedule: { kind: 'rocl', rate, multiplier: 15, warmupEpochs: 10 },
      views: { ...strong(0.08), colorFirst: true },
      attack: { ...small, clampStart: true, order: 'clamp-project' },
      objective: {
        form: 'rocl', temperature: 0.5,
        ...(ip && { inferiorPositive: { alpha: ip[0], weight: ip[1] } }), ...(hn && { hardNegative: { beta: hn[0], tauPlus: hn[1] } }),
      },
      regularizer: { weight: 1 / 256, sharedForward: false },
      finetuning: {
        slf: { epochs: 150, batchSize: 1024, schedule: steps(0.1, 31, 51, 101), optimizer: sgd(5e-4) },
        alf: { epochs: 25, batchSize: 1024, schedule: steps(0.1, 16, 21), optimizer: sgd(2e-4), attack: linf },
        aff: { epochs: 25, batchSize: 1024, schedule: steps(0.1, 16, 21), optimizer: sgd(2e-4), trades },
      },
      evaluation: { ...evaluation, pgd20: { ...small, stepSize: 0.00314, steps: 20 } },
    });
  });

  // preset, learning rate, IP: least alpha / weight / warm-up epochs / d_min, HN: beta / tau plus, rate of SLF and ALF
  const advcl: [PresetName, number, [number, number, number, number] | undefined, [number, number] | undefined, number][] = [
    ['advcl-cifar10', 0.5, undefined, undefined, 0.1],
    ['advcl-cifar100', 0.5, undefined, undefined, 0.1],
    ['advcl-ip-cifar10', 1, [0.2, 1.2, 30, 0.4], undefined, 0.01],
    ['advcl-hn-cifar10', 1.2, undefined, [1, 0.12], 0.01],
    ['advcl-iphn-cifar10', 2, [0.2, 0.7, 30, 0.4], [1, 0.1], 0.01],
    ['advcl-ip-cifar100', 2, [0.3, 1.5, 20, 0.5], undefined, 0.1],
    ['advcl-hn-cifar100', 2, undefined, [1, 0.01], 0.1],
    ['advcl-iphn-cifar100', 2, [0.3, 1.5, 20, 0.5], [1, 0.01], 0.1],
  ];
  it.each(advcl)('%s has the values of the paper', (name, rate, ip, hn, headRate) => {
    expect(resolveConfig(name)).toEqual({
      ...named(name),
      method: 'advcl',
      epochs: 400,
      batchSize: 512,
      encoder: encoder('kaiming', 'normal', 'pgd', 'pgd_ce'),
      projector: { hidden: [512], output: 128, batchNorm: true },
      optimizer: sgd(1e-4),
      schedule: { kind: 'cosine', rate, final: 1e-3, warmupEpochs: 10, warmupFrom: 0.01 },
      views: strong(0.2),
      weakView: weak,
      highFrequencyRadius: 8,
      attack: { ...linf, steps: 5, clampStart: false, order: 'project-clamp' },
      objective: {
        form: 'advcl', temperature: 0.5,
        ...(ip && { inferiorPositive: { alpha: ip[0], weight: ip[1], adaptive: { warmupEpochs: ip[2], dMin: ip[3] } } }), ...(hn && { hardNegative: { beta: hn[0], tauPlus: hn[1] } }),
      },
      pseudoLabels: { classes: [2, 10, 50, 100, 500], weight: 0.2 },
      finetuning: finetuning(headRate, 'pgd'),
    });
  });

  // VITA-Group/Adversarial-Contrastive-Learning: defaults of train_simCLR.py, LARS(momentum .9, eta .001) of optimizer/lars.py, proj_head of models/resnet_multi_bn.py, nt_xent(t .5) of utils.py.
  const simclr = {
    method: 'simclr', epochs: 1000, batchSize: 512, encoder: encoder('kaiming', 'normal'), projector: { hidden: [512], output: 512, batchNorm: true },
    optimizer: { ...lars, epsilon: 0, rateInMomentum: true }, schedule: { kind: 'warmup-cosine', rate: 5, final: 2e-7, warmupEpochs: 10, by: 'step' },
    views: strong(0.1), objective: { form: 'paper', temperature: 0.5 }, finetuning: finetuning(0.1),
  };
  // The same with --ACL_DS; PGD_contrastive's eps and alpha, 5 steps.
  const acl = {
    ...simclr, method: 'acl', encoder: encoder('kaiming', 'normal', 'pgd'), attack: { ...linf, steps: 5, clampStart: false, order: 'project-clamp' }, finetuning: finetuning(0.1, 'pgd'),
  };
  // PKU-ML/DYNACL: defaults of train_DynACL.py, a scheduler that steps after each epoch, three layers in proj_head.
  const dynacl = {
    ...acl, method: 'dynacl', projector: { hidden: [512, 512], output: 512, batchNorm: true },
    schedule: { ...simclr.schedule, by: 'epoch' }, annealing: { period: 50, reweighting: 2 / 3, early: true },
  };
  // GodXuxilie/Enhancing_ACL_via_AIR: defaults of pretraining.py (lambda1, lambda2), with --DynAug K and LAMBDA; a scheduler that steps before each step.
  const invariance = { standard: 0.5, adversarial: 0.5 };
  it.each<[PresetName, object]>([
    ['simclr-cifar10', simclr],
    // HobbitLong/SupContrast: main_supcon.py --batch_size 1024 --learning_rate 0.5 --temp 0.1 --cosine (README), SupConHead of resnet_big.py, base_temperature .07 of losses.py.
    ['supcon-cifar10', {
      method: 'supcon', epochs: 1000, batchSize: 1024, encoder: { ...encoder('kaiming', 'normal'), architecture: 'resnet50' }, projector: { hidden: [2048], output: 128, batchNorm: false },
      optimizer: sgd(1e-4), schedule: { kind: 'cosine', rate: 0.5, final: 1e-3, warmupEpochs: 10, warmupFrom: 0.01 },
      views: strong(0.2), objective: { form: 'paper', temperature: 0.1, scale: 0.1 / 0.07 }, finetuning: finetuning(0.1),
    }],
    // facebookresearch/moco: colab/moco_cifar10_demo.ipynb, the Namespace that it prints; convolutions as torchvision's ResNet draws them, on which it builds.
    ['moco-cifar10', {
      method: 'moco', epochs: 200, batchSize: 512, groups: 8, queue: { size: 4096, momentum: 0.99 }, encoder: encoder('kaiming', 'normal'), projector: { hidden: [], output: 128, batchNorm: false },
      optimizer: sgd(5e-4), schedule: { kind: 'cosine', rate: 0.06, final: 0, warmupEpochs: 0, warmupFrom: 0 },
      views: strong(0.08), objective: { form: 'paper', temperature: 0.1 }, finetuning: finetuning(0.1),
    }],
    ['acl-cifar10', acl],
    ['acl-air-cifar10', { ...acl, invariance }],
    ['dynacl-cifar10', dynacl],
    ['dynacl-air-cifar10', { ...dynacl, schedule: acl.schedule, annealing: { period: 50, reweighting: 2 / 3 }, invariance }],
  ])("%s has the values of its authors' code", (name, values) => expect(resolveConfig(name)).toEqual({ ...named(name), ...values }));

  it('are all valid, quickstart included', () => {
    for (const name of Object.keys(presets) as PresetName[]) expect(resolveConfig(name).preset).toBe(name);
  });
});

describe('resolveConfig', () => {
  it('gives a copy of its own; presets cannot be changed', () => {
    const path = (config: PretrainConfig) => [config, config.encoder, config.encoder.branches, config.views.resizedCrop!.scale, config.finetuning.slf.schedule.at];
    for (const name of Object.keys(presets) as PresetName[]) {
      for (const part of path(presets[name])) expect(Object.isFrozen(part)).toBe(true);
      path(resolveConfig(name)).forEach((part, i) => {
        expect(Object.isFrozen(part)).toBe(false);
        expect(part).not.toBe(path(presets[name])[i]);
      });
    }
    expect(() => { (presets['rocl-cifar10'] as PretrainConfig).projector.output = 1; }).toThrow(TypeError);
    const config = resolveConfig('rocl-cifar10');
    config.views.resizedCrop!.scale[0] = 0.5;
    expect(resolveConfig('rocl-cifar10').views.resizedCrop!.scale).toEqual([0.08, 1]);
  });

  it('merges deeply, replaces arrays, takes optional keys away with null', () => {
    const config = resolveConfig('rocl-iphn-cifar10', {
      epochs: 3, attack: { steps: 2 }, projector: { hidden: [8, 8] }, objective: { hardNegative: null, inferiorPositive: { alpha: 0.4 } },
    });
    expect(config).toMatchObject({ epochs: 3, attack: { steps: 2, epsilon: 0.0314 }, projector: { hidden: [8, 8], output: 128 } });
    expect(config.objective).toEqual({ form: 'rocl', temperature: 0.5, inferiorPositive: { alpha: 0.4, weight: 1 } });
    expect(presets['rocl-iphn-cifar10'].attack.steps).toBe(7);
  });

  it('keeps nothing of a schedule or optimizer of another kind', () => {
    const sgd = { kind: 'sgd', momentum: 0, weightDecay: 0 } as const;
    expect(resolveConfig('rocl-cifar10', { optimizer: sgd }).optimizer).toEqual(sgd);
  });

  const wrong: [object, new (...args: never[]) => Error, string][] = [
    [{ epoch: 3 }, ArgumentRangeError, 'epoch'],
    [{ attack: { radius: 1 } }, ArgumentRangeError, 'attack.radius'],
    [{ optimizer: { kind: 'adam' } }, ArgumentRangeError, 'optimizer.kind'],
    [{ epochs: 0 }, ArgumentRangeError, 'epochs'],
    [{ batchSize: 7, groups: 4 }, ArgumentRangeError, 'batchSize'],
    [{ epochs: 1.5 }, ArgumentRangeError, 'epochs'],
    [{ epochs: '3' }, ArgumentTypeError, 'epochs'],
    [{ attack: { epsilon: NaN } }, ArgumentRangeError, 'attack.epsilon'],
    [{ attack: { epsilon: 8 } }, ArgumentRangeError, 'attack.epsilon'],
    [{ attack: { stepSize: 2 } }, ArgumentRangeError, 'attack.stepSize'],
    [{ finetuning: { aff: { trades: { attack: { epsilon: 8 } } } } }, ArgumentRangeError, 'finetuning.aff.trades.attack.epsilon'],
    [{ evaluation: { autoattack: { epsilon: 8 } } }, ArgumentRangeError, 'evaluation.autoattack.epsilon'],
    [{ attack: 7 }, ArgumentTypeError, 'attack'],
    [{ objective: { hardNegative: { beta: 1, tauPlus: 1 } } }, ArgumentRangeError, 'objective.hardNegative.tauPlus'],
    [{ objective: { hardNegative: { beta: 1 } } }, ArgumentTypeError, 'objective.hardNegative.tauPlus'],
    [{ pseudoLabels: { weight: 1 } }, ArgumentRangeError, 'pseudoLabels'],
    [{ method: 'byol' }, ArgumentRangeError, 'method'],
    [{ encoder: { architecture: 'vgg' } }, ArgumentRangeError, 'encoder.architecture'],
    [{ views: { resizedCrop: { scale: [0.1] } } }, ArgumentRangeError, 'views.resizedCrop.scale'],
  ];
  it.each(wrong)('%j is refused by name', (overrides, kind, argument) => {
    const thrown = (() => { try { return resolveConfig('rocl-cifar10', overrides); } catch (error) { return error; } })();
    expect(thrown).toBeInstanceOf(kind);
    expect(thrown).toMatchObject({ argument });
  });

  it('says in which units a radius and a step are', () => {
    expect(() => resolveConfig('rocl-cifar10', { attack: { epsilon: 8 } })).toThrow('attack.epsilon: expected a number from 0 to 1 (pixels are in [0, 1]: 8/255, not 8), got 8');
    expect(() => resolveConfig('rocl-cifar10', { attack: { stepSize: 2 } })).toThrow('attack.stepSize: expected a number above 0, at most 1 (pixels are in [0, 1]: 2/255, not 2), got 2');
  });

  it('lists the presets when the name is not one', () => {
    expect(() => resolveConfig('rocl' as never)).toThrow(/preset: expected one of rocl-cifar10, .*, got 'rocl'/);
    expect(() => resolveConfig('toString' as never)).toThrow(ArgumentRangeError);
  });
});
