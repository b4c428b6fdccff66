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

/** The longest header of a safetensors file, as in the reference implementation: what begins with a larger number is something else. */
export const MAX_HEADER = 100_000_000;

const KINDS = {
  '\x89PNG': 'a PNG image', '\xff\xd8\xff': 'a JPEG image', 'GIF8': 'a GIF image', 'RIFF': 'a WebP image', '\x93NUMPY': 'a NumPy array', '\x89HDF': 'an HDF5 file', '%PDF': 'a PDF',
  '\x1f\x8b': 'a gzip archive', '\x7fELF': 'a program or library', 'GGUF': 'a GGUF model',
};

/** What the first 8 bytes of a file, or all of a shorter one, look like; undefined for what may be safetensors, for PyTorch's files and for bytes that say nothing. */
export function looksLike(start: Buffer): string | undefined {
  if (start.length === 0 || (start.length >= 8 && start.readBigUInt64LE() <= MAX_HEADER)) return undefined;
  const text = start.toString('latin1');
  for (const [magic, kind] of Object.entries(KINDS)) if (text.startsWith(magic)) return kind;
  if (!/^[\t\n\r -~]*$/.test(text) || text.startsWith('PK')) return undefined;
  return /^\s*[[{]/.test(text) ? 'JSON' : 'text';
}

/** @internal */
export const pickleError = (path: string) => new FileError(path, `a PyTorch archive: it holds a pickle, which can run any code, and is never opened here. Convert it in Python:
  state = torch.load('model.pth', map_location='cpu', weights_only=True)
  safetensors.torch.save_file({k: v.clone() for k, v in state.get('state_dict', state.get('model', state)).items()}, 'model.safetensors')`);
