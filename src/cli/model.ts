/** Models that commands take, and what is recorded with them. */
import { statSync } from 'node:fs';
import { extname, join } from 'node:path';
import type { Classifier, Model } from '../index.js';
import type { Context } from './command.js';
import type { RecordedData } from '../data/open.js';
import type { RecordedRun } from './data.js';
import { CommandError } from './failure.js';
import { checkSource, typed } from './run-folder.js';

/** A model, and the file that it was read from. */
export interface Loaded<Of extends Model> extends Disposable {
  model: Of;
  file: string;
  /** Of the very bytes that were read: what was loaded is what is measured, whatever lies at its name by then. */
  sha256: string | undefined;
}

/** Loads from a file that has the same bytes before and after it. */
export async function unchanged<Of extends Model>(file: string, load: () => Promise<Of>): Promise<Loaded<Of>> {
  const { fileSha256 } = await import('../runtime/files.js');
  const sha256 = await fileSha256(file), model = await load();
  if (await fileSha256(file) === sha256) return { model, file, sha256, [Symbol.dispose]: () => model.dispose() };
  model.dispose();
  throw new CommandError(`${file}: it was written while it was read. Type the same command again`);
}

/** What can be attacked and evaluated, in eval mode. */
export async function loadModel({ signal, device }: Context, path: string): Promise<Loaded<Model>> {
  await checkSource(path, 'the folder of a run, a classifier as .safetensors, or a TorchScript model as .pt');
  const { Classifier, Encoder, loadTorchScript } = await import('../index.js');
  const file = statSync(path).isDirectory() ? join(path, 'classifier.safetensors') : path;
  return await unchanged<Model>(file, async () => {
    if (extname(path) === '.pt') return (await loadTorchScript(path, { signal, device })).eval();
    try {
      return await Classifier.load(path, { device });
    } catch (error) {
      const encoder = await Encoder.load(path).catch(() => undefined);
      if (encoder === undefined) throw error;
      encoder.dispose();
      throw new CommandError(`${path}: there is an encoder here, but no classifier yet. Type: a-infonce finetune ${typed(path)}`, { cause: error });
    }
  });
}

/** The data that a classifier was fine-tuned on, else those of the run. */
export const dataOf = (model: Model, run: RecordedRun | undefined): RecordedData | undefined =>
  ('finetuning' in model ? ((model as Classifier).finetuning?.data as RecordedData | undefined) : undefined) ?? run?.data;
