import type { FinetuneMode } from './finetune.js';

/** The file of a classifier in the folder of its run. */
export const classifierFile = (mode: FinetuneMode): string => (mode === 'slf' ? 'classifier.safetensors' : `classifier-${mode}.safetensors`);

export const MODES = ['slf', 'alf', 'aff'] as const satisfies readonly FinetuneMode[];

/** Whether what a config.json holds is of a fine-tuning. */
export const isFinetuning = (config: unknown): boolean => MODES.includes((config as { mode?: FinetuneMode } | undefined)?.mode as FinetuneMode);

/** The numbers of clusters that AdvCL's pseudo-labels come from. */
export const CLUSTERS: readonly number[] = [2, 10, 50, 100, 500];

/** The folder beside a classifier's file in which its fine-tuning keeps its state. */
export const workFolder = (file: string): string => `${file.replace(/\.safetensors$/, '')}.run`;
