/** The presets by name, and how a caller changes any of them. */
import type { z } from 'zod';
import { ArgumentRangeError, ArgumentTypeError, describe } from '../runtime/errors.js';
import { pretrainConfig, type PretrainConfig } from './methods/index.js';
import { mergeConfig, type Overrides } from './merge.js';
import { aclAirPreset, aclPreset, dynaclAirPreset, dynaclPreset, mocoPreset, paperPresets, quickstart, simclrPreset, supconPreset } from './methods/presets.js';
import { fineTunings, type FinetuneConfigs, parse } from './schema.js';

export type { FinetuneConfigs, Overrides, PretrainConfig };

/** Presets by name, frozen: {@link resolveConfig} gives a copy to change. `quickstart` is RoCL-IP+HN on procedural images, small enough for minutes on two cores. */
export const presets = frozen({
  ...paperPresets,
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
  try {
    return parse(pretrainConfig, value, 'config');
  } catch (error) {
    const { argument, expected, received } = error as ArgumentRangeError;
    if (!expected?.startsWith('a known key') || !Object.values<object>(presets).some((preset) => Object.hasOwn(preset, argument))) throw error;
    throw new ArgumentRangeError(argument, `left out, since ${(value as { method: string }).method} has none`, received);
  }
}

/** The same for the values of one mode of fine-tuning. */
export function checkFinetuneConfig<Mode extends keyof FinetuneConfigs>(mode: Mode, value: unknown): FinetuneConfigs[Mode] {
  return parse(fineTunings.shape[mode] as unknown as z.ZodType<FinetuneConfigs[Mode]>, value, 'config');
}

function frozen<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === 'object') frozen(part as object);
  return Object.freeze(value);
}
