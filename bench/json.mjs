import { renameSync, writeFileSync } from 'node:fs';

/** Writes what has been found so far; a file that is there is whole, whenever the benchmark ends. Nothing without a name. */
export function writeJson(file, found) {
  if (!file) return;
  writeFileSync(`${file}.part`, JSON.stringify(found));
  renameSync(`${file}.part`, file);
}
