/** Names of presets as people type them. */
import { UsageError } from './failure.js';

/** Throws unless `given` is one of the presets: what to type instead is the name that shares the most pairs of letters with it (Dice), if any does. */
export function checkPreset(given: string | undefined, names: string[]): void {
  if (given === undefined || names.includes(given)) return;
  const pairs = (text: string) => Array.from(text.toLowerCase().slice(1), (letter, at) => text[at]!.toLowerCase() + letter);
  const likeness = (name: string) => (2 * pairs(name).filter((pair) => pairs(given).includes(pair)).length) / (pairs(name).length + pairs(given).length);
  const best = names.reduce((a, b) => (likeness(b) > likeness(a) ? b : a));
  throw new UsageError(`--preset: there is no ${given}.${likeness(best) >= 0.25 ? ` Did you mean ${best}?` : ''} All of them: a-infonce pretrain --presets`);
}
