/**
 * The safetensors format (https://github.com/huggingface/safetensors): eight bytes of length, a JSON header, the elements. No npm package that is
 * kept up writes it. Files are read as hostile: nothing is believed that was not checked, and every failure is a {@link FileError}.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { ArgumentRangeError, ArgumentTypeError, describe, FileError } from '../runtime/errors.js';
import { atomically } from '../runtime/files.js';
import { native } from '../runtime/native.js';
import { type DType, DTYPES } from '../tensor/dtype.js';
import { bytesOf, Tensor } from '../tensor/tensor.js';
import { ARCHIVE_TAIL, looksLike, MAX_HEADER, pickleError, pytorchFile } from './archive.js';

const CODES = {
  F64: 'float64', F32: 'float32', F16: 'float16', BF16: 'bfloat16', I64: 'int64', I32: 'int32', I16: 'int16', I8: 'int8', U8: 'uint8', BOOL: 'bool',
} as const satisfies Record<string, DType>;
type Code = keyof typeof CODES;
const codeOf = new Map(Object.entries(CODES).map(([code, dtype]) => [dtype as string, code as Code]));

const CHECKSUM = 'a_infonce.sha256';
const BLANK = '0'.repeat(64);
const CHUNK = 1 << 28;

/** What a file holds, in the order of its header. */
export interface Safetensors {
  tensors: Map<string, Tensor>;
  metadata: Record<string, string>;
}

/** A tensor's elements as they lie in a file. */
export interface RawTensor {
  dtype: DType;
  shape: number[];
  data: ArrayBuffer;
}

/**
 * Writes tensors and text metadata, with a SHA-256 of the whole file among the metadata. The values are those at the call. The file appears
 * whole or not at all: it is written beside `path`, flushed to disk and renamed.
 * @param tensors a Map, or pairs of a name and a tensor.
 * @throws {@link FileError} when the folder cannot be written; {@link ArgumentRangeError} on a name or metadata key that the format reserves.
 */
export async function writeSafetensors(path: string, tensors: Iterable<readonly [string, Tensor]>, metadata: Record<string, string> = {}): Promise<void> {
  if (CHECKSUM in metadata) throw new ArgumentRangeError('metadata', `no key '${CHECKSUM}'`, 'one');
  if (typeof (tensors as Partial<typeof tensors> | undefined)?.[Symbol.iterator] !== 'function') throw new ArgumentTypeError('tensors', 'a Map from names to tensors', describe(tensors));
  const given = [...tensors], codes = given.map(([name, tensor]) => {
    const code = codeOf.get(tensor.dtype);
    if (code === undefined) throw new ArgumentRangeError(`tensors['${name}']`, `dtype ${[...codeOf.keys()].join(', ')}`, tensor.dtype);
    return code;
  });
  const entries = bytesOf(...given.map(([, tensor]) => tensor)).map((data, i) => ({ name: given[i]![0], code: codes[i]!, shape: [...given[i]![1].shape], data, begin: 0 }));
  const names = new Set(entries.map((entry) => entry.name));
  if (names.size !== entries.length || names.has('__metadata__')) throw new ArgumentRangeError('tensors', 'distinct names, none of them __metadata__', 'others');

  // Wide elements first, so that each is aligned for readers that map the file.
  const ordered = [...entries].sort((a, b) => DTYPES[CODES[b.code]].bytes - DTYPES[CODES[a.code]].bytes);
  let end = 0;
  for (const entry of ordered) {
    entry.begin = end;
    end += entry.data.byteLength;
  }
  const header: [string, unknown][] = [['__metadata__', { ...metadata, [CHECKSUM]: BLANK }]];
  for (const { name, code, shape, data, begin } of entries) header.push([name, { dtype: code, shape, data_offsets: [begin, begin + data.byteLength] }]);
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const text = Buffer.concat([json, Buffer.alloc(-json.length & 7, ' ')]);
  if (text.length > MAX_HEADER) throw new ArgumentRangeError('tensors', `a header of at most ${MAX_HEADER} bytes`, `${text.length} bytes`);
  const hash = createHash('sha256').update(text);
  for (const { data } of ordered) hash.update(data);
  text.write(hash.digest('hex'), checksumAt(text, BLANK), 'latin1');

  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  await atomically(path, async (file) => {
    for (const part of [length, text, ...ordered.map((entry) => entry.data)])
      for (let at = 0; at < part.length; ) at += (await file.write(part, at, Math.min(CHUNK, part.length - at))).bytesWritten;
  });
}

/**
 * Reads a file. The checksum is verified where there is one.
 * @param options.requireChecksum refuse a file without one (checkpoints).
 * @throws {@link FileError} naming what is wrong: missing, truncated, altered, of another kind, or not laid out as the format says.
 */
export async function readSafetensors(path: string, options: { requireChecksum?: boolean } = {}): Promise<Safetensors> {
  const { tensors, metadata } = await readRaw(path, options);
  return { tensors: new Map([...tensors].map(([name, raw]) => [name, toTensor(raw)])), metadata };
}

/** @internal */
export function toTensor({ dtype, shape, data }: RawTensor): Tensor {
  return Tensor.wrap(native().from_data(new DTYPES[dtype].array(data), dtype, shape, 'cpu'));
}

/** @internal As {@link readSafetensors}, without making tensors. */
export async function readRaw(path: string, { requireChecksum = false } = {}): Promise<{ tensors: Map<string, RawTensor>; metadata: Record<string, string> }> {
  const fail = (message: string, cause?: unknown) => new FileError(path, message, { cause });
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    throw fail(error.code === 'ENOENT' ? 'no such file' : `cannot be opened (${error.code})`, error);
  });
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw fail('not a file');
    const start = await read(file, 0, Math.min(8, stat.size), fail);
    const looks = looksLike(start);
    if (looks !== undefined) throw fail(`not a safetensors file: it looks like ${looks}`);
    if (start.length < 8) throw fail(`not a safetensors file: ${stat.size} bytes, its length field alone has 8`);
    const length = Number(start.readBigUInt64LE());
    if (length > MAX_HEADER) {
      const tail = Math.min(ARCHIVE_TAIL, stat.size);
      const kind = pytorchFile(start, await read(file, stat.size - tail, tail, fail));
      if (kind === 'pickle') throw pickleError(path);
      if (kind === 'torchscript') throw fail('a TorchScript module, not safetensors: load it with loadTorchScript');
    }
    if (length > MAX_HEADER) throw fail('not a safetensors file: it does not begin with the length of a header');
    if (length > stat.size - 8) throw fail(`truncated: the header has ${length} bytes, the file ${stat.size - 8} after its length field`);
    const header = await read(file, 8, length, fail);
    const { entries, metadata } = parseHeader(header, stat.size - 8 - length, fail);

    const tensors = new Map<string, RawTensor>(entries.map((entry) => [entry.name, { dtype: entry.dtype, shape: entry.shape, data: new ArrayBuffer(0) }]));
    const expected = metadata[CHECKSUM];
    if (expected === undefined && requireChecksum) throw fail(`no checksum (${CHECKSUM}) in its metadata: not a checkpoint`);
    const hash = createHash('sha256');
    if (expected !== undefined) {
      header.write(BLANK, checksumAt(header, expected), 'latin1');
      hash.update(header);
    }
    for (const { name, begin, end, dtype } of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
      const data = await read(file, 8 + length + begin, end - begin, fail);
      if (dtype === 'bool' && data.some((byte) => byte > 1)) throw fail(`tensor '${name}': a bool that is neither 0 nor 1`);
      if (expected !== undefined) hash.update(data);
      tensors.get(name)!.data = data.buffer;
    }
    if (expected !== undefined && hash.digest('hex') !== expected) throw fail('damaged: its checksum does not match its contents');
    return { tensors, metadata: Object.fromEntries(Object.entries(metadata).filter(([key]) => key !== CHECKSUM)) };
  } finally {
    await file.close();
  }
}

/** @internal The text metadata in the header of a file; undefined where there is none that can be read. */
export async function readMetadata(path: string): Promise<Record<string, string> | undefined> {
  const fail = (message: string) => new FileError(path, message);
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat(), start = await read(file, 0, 8, fail), length = Number(start.readBigUInt64LE());
    if (length > MAX_HEADER) return undefined;
    return parseHeader(await read(file, 8, length, fail), size - 8 - length, fail).metadata;
  } catch (error) {
    if (error instanceof FileError) return undefined;
    throw error;
  } finally {
    await file.close();
  }
}

type Fail = (message: string, cause?: unknown) => FileError;
interface Entry {
  name: string;
  dtype: DType;
  shape: number[];
  begin: number;
  end: number;
}

function parseHeader(bytes: Buffer, dataBytes: number, fail: Fail): { entries: Entry[]; metadata: Record<string, string> } {
  let header: Record<string, unknown>;
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    header = JSON.parse(text);
    const twice = duplicateKey(text);
    if (twice !== undefined) throw new SyntaxError(`'${twice}' occurs twice`);
    if (text[0] !== '{') throw new SyntaxError('it does not start with {');
  } catch (error) {
    throw fail(`not a safetensors file: its header is not valid JSON (${(error as Error).message})`, error);
  }
  const { __metadata__: metadata = {}, ...tensors } = header;
  if (!isObject(metadata) || !Object.values(metadata).every((value) => typeof value === 'string'))
    throw fail('__metadata__ must map text to text');
  if (CHECKSUM in metadata && !/^[0-9a-f]{64}$/.test(metadata[CHECKSUM] as string)) throw fail(`damaged: ${CHECKSUM} is not a SHA-256`);

  const entries = Object.entries(tensors).map(([name, value]): Entry => {
    const bad = (what: string) => fail(`tensor '${name}': ${what}`);
    if (!isObject(value) || Object.keys(value).sort().join() !== 'data_offsets,dtype,shape') throw bad('expected dtype, shape and data_offsets');
    const { dtype: code, shape, data_offsets: offsets } = value;
    if (typeof code !== 'string' || !Object.hasOwn(CODES, code)) throw bad(`dtype ${JSON.stringify(code)} is not one of ${Object.keys(CODES).join(', ')}`);
    if (!isSizes(shape) || shape.length > 64) throw bad(`shape ${JSON.stringify(shape)?.slice(0, 80)} is not a list of sizes`);
    if (!isSizes(offsets) || offsets.length !== 2) throw bad(`data_offsets ${JSON.stringify(offsets)?.slice(0, 80)} are not two offsets`);
    const dtype = CODES[code as Code];
    const [begin, end] = offsets as [number, number];
    const size = shape.reduce((product, extent) => product * extent, DTYPES[dtype].bytes);
    if (end - begin !== size) throw bad(`${code} of shape [${shape}] has ${size} bytes, data_offsets [${offsets}] span ${end - begin}`);
    if (end > dataBytes) throw bad(`truncated: it ends at byte ${end} of the data, the file has ${dataBytes}`);
    return { name, dtype, shape, begin, end };
  });

  let covered = 0;
  for (const { name, begin, end } of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== covered) throw fail(`tensor '${name}' begins at byte ${begin} of the data, ${begin < covered ? 'inside another tensor' : 'after a gap'}`);
    covered = end;
  }
  if (covered !== dataBytes) throw fail(`${dataBytes - covered} bytes after the last tensor`);
  return { entries, metadata: metadata as Record<string, string> };
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
const isSizes = (value: unknown): value is number[] => Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);

/** JSON.parse keeps the last of equal keys; a file in which two readers may see different tensors is refused. */
function duplicateKey(json: string): string | undefined {
  const open: Set<string>[] = [];
  for (const [token, text, colon] of json.matchAll(/("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[{}[\]]/g)) {
    if (token === '{' || token === '[') open.push(new Set());
    else if (token === '}' || token === ']') open.pop();
    else if (colon !== undefined) {
      const key: string = JSON.parse(text!);
      if (open.at(-1)!.has(key)) return key;
      open.at(-1)!.add(key);
    }
  }
  return undefined;
}

/** Where the checksum's digits lie in the header. It is our own writing that is looked for, so its spelling is fixed. */
function checksumAt(header: Buffer, digits: string): number {
  const key = `"${CHECKSUM}":"`;
  return Math.max(0, header.indexOf(`${key}${digits}"`)) + key.length;
}

async function read(file: FileHandle, position: number, length: number, fail: Fail): Promise<Buffer<ArrayBuffer>> {
  const bytes = Buffer.from(new ArrayBuffer(length)); // not from Buffer's pool: the tensor takes the whole ArrayBuffer
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(bytes, at, Math.min(CHUNK, length - at), position + at);
    if (bytesRead === 0) throw fail('truncated while being read');
    at += bytesRead;
  }
  return bytes;
}
