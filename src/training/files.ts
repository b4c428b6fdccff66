/** Files that survive a kill or a power cut at any moment: whole or not there. */
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Writes a file under a passing name, syncs it, then gives it its name: readers see the old contents or the new ones. */
export async function writeAtomically(path: string, data: string | Uint8Array): Promise<void> {
  const passing = `${path}.${process.pid}.partial`;
  try {
    const file = await open(passing, 'w');
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(passing, path);
  } catch (error) {
    await rm(passing, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Makes the names in a folder durable. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** `mkdir -p`, durable. */
export async function makeFolder(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true });
  if (first) await syncFolder(dirname(first));
}
