/** What a pre-training method is; `pretrain` drives any and knows none by name. */
import type { z } from 'zod';
import type { Dataset } from '../../data/dataset.js';
import type { Pipeline } from '../../data/augment.js';
import type { Encoder } from '../../model/encoder.js';
import type { Tensor } from '../../tensor/tensor.js';
import type { Position } from '../schedule.js';
import type { SharedConfig, trainingAttack } from '../schema.js';

export interface Method<Config extends SharedConfig = SharedConfig> {
  /** The name of the native step, which methods may share. */
  readonly step: string;
  /** Numbers of classes of the linear heads that its network needs. */
  heads?(config: Config): number[];
  /** Fewest images that a step learns from; a last batch with fewer is left out. */
  smallestBatch(config: Config): number;
  /** The configuration with what the run alone can know: the SHA-256 of a file that it names, say. `recorded` is that of the run which is resumed. */
  resolve?(config: Config, recorded?: Config): Promise<Config>;
  /** The method in a run. What cannot work with these data is refused here, before the first step. */
  begin(run: { config: Config; data: Dataset; encoder: Encoder }): MethodRun | Promise<MethodRun>;
}

export interface MethodRun {
  /** How each view of an image is drawn, by the name of the native step's input: view 0 first. Pure: batches are loaded ahead of time. */
  views(epoch: number): Readonly<Record<string, Pipeline>>;
  /** More inputs of the batch with these rows of the training images (int64), as labels by row. The tensors are the batch's, which disposes them. */
  inputs?(rows: Tensor): Record<string, Tensor>;
  /** The options of the native step. */
  options(position: Position): object;
  /** Hears of each step that was learnt, in order: the place to change `state`. */
  learned?(values: StepValues, images: number, position: Position): void;
  /**
   * What the next steps depend on besides network and momentum. It goes into every checkpoint and comes back bit for bit: numbers are
   * assigned, tensors copied into those here. A native step may change tensors in place that it lists as its state.
   */
  readonly state?: { readonly numbers?: Record<string, number>; readonly tensors?: Readonly<Record<string, Tensor>> };
  dispose?(): void;
}

/** The numbers of one step: the loss and the norm of its gradient, and what the method tells besides. */
export interface StepValues {
  loss: number;
  gradientNorm: number;
  /** The contrastive term of the loss. */
  contrastive?: number;
  /** RoCL's regulariser, before its weight. */
  regularizer?: number;
  /** ACL's and DynACL's terms: each stream's contrastive loss, and the two of invariant regularisation, before their weights. */
  clean?: number;
  adversarial?: number;
  standardInvariance?: number;
  adversarialInvariance?: number;
  /** Mean |adversary - image| / epsilon. */
  perturbation?: number;
  /** Mean cross-entropy of the pseudo-labels, before its weight. */
  crossEntropy?: number;
  /** That of inferior positives in this step. */
  alpha?: number;
  /** Mean distance between the features of an image and of its adversary. */
  distance?: number;
}

/** What the native step takes of an attack. */
export function attackOptions({ epsilon, stepSize, steps, randomStart, clampStart, order }: z.infer<typeof trainingAttack>) {
  return { epsilon, stepSize, steps, randomStart, clampStart, clampThenProject: order === 'clamp-project' };
}
