/** What somebody probably meant to type. */

const pairs = (text: string) => Array.from(text.toLowerCase().slice(1), (letter, at) => text[at]!.toLowerCase() + letter);

/** The name that shares the most pairs of letters with what was given (Dice), if it shares a quarter of them. */
export function nearest(given: string, names: readonly string[]): string | undefined {
  const likeness = (name: string) => (2 * pairs(name).filter((pair) => pairs(given).includes(pair)).length) / (pairs(name).length + pairs(given).length);
  const best = names.reduce<[number, string | undefined]>((best, name) => (likeness(name) > best[0] ? [likeness(name), name] : best), [0, undefined]);
  return best[0] >= 0.25 ? best[1] : undefined;
}
