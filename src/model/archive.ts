import { FileError } from '../runtime/errors.js';

/** What PyTorch wrote: a pickle (`torch.save`; a zip archive since 1.6, bare before) or a TorchScript module (`torch.jit.save`: its code beside the data). */
export type PyTorchFile = 'pickle' | 'torchscript';

/** Bytes of a file's end that {@link pytorchFile} wants: a zip archive's directory lies there, some 100 bytes an entry. */
export const ARCHIVE_TAIL = 1 << 20;

/** Tells PyTorch's files by the first 8 bytes and the last {@link ARCHIVE_TAIL}; undefined for any other file, and for a zip archive whose directory is lost. */
export function pytorchFile(start: Buffer, tail: Buffer): PyTorchFile | undefined {
  if (start.length < 8) return undefined;
  if (start.readUInt32BE(0) !== 0x504b0304) return start[0] === 0x80 && start[1]! <= 5 && start.readUInt32LE(4) !== 0 ? 'pickle' : undefined;
  const names: string[] = [];
  for (let at = 0; (at = tail.indexOf('PK\x01\x02', at, 'latin1')) >= 0 && at + 46 <= tail.length; at += 46)
    names.push(tail.toString('latin1', at + 46, at + 46 + tail.readUInt16LE(at + 28)));
  if (names.some((name) => /^[^/]+\/constants\.pkl$/.test(name)) && names.some((name) => /^[^/]+\/code\//.test(name))) return 'torchscript';
  return names.some((name) => /^[^/]+\/data\.pkl$/.test(name)) ? 'pickle' : undefined;
}

/** @internal */
export const pickleError = (path: string) => new FileError(path, `a PyTorch archive: it holds a pickle, which can run any code, and is never opened here. Convert it in Python:
  state = torch.load('model.pth', map_location='cpu', weights_only=True)
  safetensors.torch.save_file({k: v.clone() for k, v in state.get('state_dict', state.get('model', state)).items()}, 'model.safetensors')`);
