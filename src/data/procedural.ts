import { check } from '../runtime/errors.js';
import { ops } from '../tensor/ops.js';
import type { Tensor } from '../tensor/tensor.js';
import { makeDataset, Split, type Dataset } from './dataset.js';

/** Options of {@link proceduralDataset}. */
export interface ProceduralOptions {
  /** Images to train on. Default 5000. */
  train?: number;
  /** Images to test on, drawn apart from those. Default 1000. */
  test?: number;
  /** Height and width in pixels, 8 to 1024. Default 32. */
  size?: number;
  /** Everything is a function of it. Default 0. */
  seed?: number;
}

const shapes = ['disc', 'square', 'triangle', 'cross', 'ring'];

/** The classes of {@link proceduralDataset}. */
export const PROCEDURAL_CLASSES: readonly string[] = [...shapes, ...shapes.map((shape) => `striped ${shape}`)];

/**
 * A data set made on the spot: ten classes, five shapes plain and striped, with colors and their polarity, position, size, orientation, background
 * and noise by chance. The mean image of every class is the same gray, so a linear model on pixels is near chance level (under 20 %) and features
 * have to be learned; every run of ten images holds each class once. The same seed gives the same bytes on every machine.
 */
export function proceduralDataset(options?: ProceduralOptions): Dataset {
  const { train = 5000, test = 1000, size = 32, seed = 0 } = check.options('options', options, ['train', 'test', 'size', 'seed']);
  check.integer('options.train', train, { min: 1 });
  check.integer('options.test', test, { min: 1 });
  check.integer('options.size', size, { min: 8, max: 1024 });
  check.integer('options.seed', seed, { min: 0 });
  const split = (stream: number, count: number) => Split.own(...(ops.a_infonce.procedural_images(seed, stream, 0, count, size) as [Tensor, Tensor]));
  return { ...makeDataset('procedural', PROCEDURAL_CLASSES, split(0, train), split(1, test)), procedural: { train, test, size, seed } };
}
