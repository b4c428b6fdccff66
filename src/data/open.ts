/** Opening data sets by name or path. */
import { ArgumentRangeError } from '../runtime/errors.js';
import type { Dataset } from './dataset.js';
import { proceduralDataset, type ProceduralOptions } from './procedural.js';

/** Options of {@link openDataset}. */
export interface OpenOptions {
  /** For `'procedural'`: how many images of which size, and the seed. */
  procedural?: ProceduralOptions;
}

/** Opens a data set: `'procedural'`, which is made on the spot. */
export async function openDataset(name: string, options: OpenOptions = {}): Promise<Dataset> {
  if (name === 'procedural') return proceduralDataset(options.procedural);
  throw new ArgumentRangeError('name', "'procedural'", `'${name}'`);
}
