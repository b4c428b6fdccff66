/** Names of presets as people type them. */
import { nearest } from '../runtime/likeness.js';
import { UsageError } from './failure.js';

/** Throws unless `given` is one of the presets, with what to type instead. */
export function checkPreset(given: string | undefined, names: string[]): void {
  if (given === undefined || names.includes(given)) return;
  const meant = nearest(given, names);
  throw new UsageError(`--preset: there is no ${given}.${meant ? ` Did you mean ${meant}?` : ''} All of them: a-infonce pretrain --presets`);
}
