import type { Encoder, Optimizer, Tensor } from 'a-infonce';

export interface AdvclBatch { aug1: Tensor; aug2: Tensor; org: Tensor; labels: Tensor; samples: Tensor }
export interface AdvclStepOptions {
  learningRate: number; seed: number; labelWeight: number; highFrequencyRadius: number;
  adaptive?: { dMin: number; dMax?: number };
  objective: { form: 'advcl' | 'paper'; temperature: number; inferiorPositive?: { alpha: number; weight: number }; hardNegative?: { beta: number; tauPlus: number } };
  attack: { epsilon: number; stepSize: number; steps: number; randomStart: boolean; clampStart: boolean; clampThenProject: boolean };
}
export function advclStepByStep(api: typeof import('a-infonce'), encoder: Encoder, optimizer: Optimizer, batch: AdvclBatch, options: AdvclStepOptions):
  { loss: number; contrastive: number; crossEntropy: number; alpha: number | undefined; distance: number | undefined; adversaries: [Tensor, Tensor] };
