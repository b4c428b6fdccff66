import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { ModelHandle } from '../runtime/addon.js';
import { checkDevice } from '../runtime/cuda.js';
import { ArgumentTypeError, describe, FileError } from '../runtime/errors.js';
import { job, type JobOptions } from '../runtime/job.js';
import { native } from '../runtime/native.js';
import { ARCHIVE_TAIL, pickleError, pytorchFile } from './archive.js';
import { Model } from './model.js';

/** A model that PyTorch scripted or traced: `forward(images)` is the module's own. */
export class TorchScriptModel extends Model {
  /** `sha256`: of the file, as hexadecimal digits. The tensors alone do not tell one program from another. @internal */
  constructor(handle: ModelHandle, readonly sha256: string) {
    super(handle);
  }
}

/**
 * Loads what `torch.jit.save` wrote, in the mode it was saved in: call `eval()` before attacking it.
 * A TorchScript file is a program. LibTorch's interpreter runs it with tensors only, but it may compute for ever: load files you trust.
 * @param source a path, or the file's bytes.
 * @param options.device where its parameters and buffers are to be, by default `'cpu'`, wherever it was saved; constants of a traced program stay on the CPU
 * @throws {@link FileError} when the file is missing, damaged, a pickle (a state dictionary: it says how to convert it), or without a `forward` method.
 */
export async function loadTorchScript(source: string | Uint8Array, options: JobOptions & { device?: string } = {}): Promise<TorchScriptModel> {
  const device = checkDevice('options.device', options.device ?? 'cpu');
  if (typeof source !== 'string' && !(source instanceof Uint8Array)) throw new ArgumentTypeError('source', 'a path or a Uint8Array', describe(source));
  const name = typeof source === 'string' ? source : 'TorchScript bytes';
  const bytes = typeof source !== 'string' ? source : await readFile(source).catch((error: NodeJS.ErrnoException) => {
    throw new FileError(name, error.code === 'ENOENT' ? 'no such file' : `cannot be read (${error.code})`, { cause: error });
  });
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (pytorchFile(buffer.subarray(0, 8), buffer.subarray(-ARCHIVE_TAIL)) === 'pickle') throw pickleError(name);
  const handle = await job(() => native().torchscript_load(bytes, name), options.signal);
  return new TorchScriptModel(handle, createHash('sha256').update(buffer).digest('hex')).to(device);
}
