/** Configurations as plain objects: in part, one over another, and where two differ. */

/** A configuration in part: objects merge key by key, anything else (arrays too) replaces; `null` takes an optional key away. */
export type Overrides<T> = { [K in keyof T]?: (T[K] extends readonly unknown[] ? T[K] : T[K] extends object | undefined ? Overrides<NonNullable<T[K]>> : T[K]) | (undefined extends T[K] ? null : never) };

/** The paths at which two configurations differ, as `schedule.rate`. */
export function differences(a: unknown, b: unknown, path = ''): string[] {
  if (!isPlain(a) || !isPlain(b)) return JSON.stringify(a) === JSON.stringify(b) ? [] : [path];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) => differences(a[key], b[key], path ? `${path}.${key}` : key));
}

/** `changes` over `base`, as {@link Overrides} says. */
export function mergeConfig(base: unknown, changes: unknown): unknown {
  if (changes === null) return undefined;
  if (!isPlain(changes)) return changes === undefined ? base : changes;
  // Another kind of schedule or optimizer shares no keys with the one it replaces.
  const merged: Record<string, unknown> = isPlain(base) && (!('kind' in changes) || changes['kind'] === base['kind']) ? { ...base } : {};
  for (const [key, value] of Object.entries(changes)) merged[key] = mergeConfig(merged[key], value);
  return merged;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
