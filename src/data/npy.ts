/**
 * NumPy's .npy files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html). Read here and not by npyjs, which takes a whole file
 * into memory before it looks at it, compares its size with nothing, and cannot read rows out of the middle.
 */
import { open } from 'node:fs/promises';
import { ArgumentRangeError, ArgumentTypeError, check, FileError } from '../runtime/errors.js';
import { DTYPES, type DType } from '../tensor/dtype.js';
import { fileError, MAX_BYTES, readFully } from './files.js';

/** The element types that are read, by NumPy's kind and size. */
const KINDS = {
  u1: 'uint8', i1: 'int8', i2: 'int16', i4: 'int32', i8: 'int64', f2: 'float16', f4: 'float32', f8: 'float64', b1: 'bool',
} as const satisfies Record<string, DType>;

/** An array out of a .npy file. */
export interface NpyArray {
  /** C order. float16 as its 16 bits, bool as bytes. */
  data: InstanceType<(typeof DTYPES)[(typeof KINDS)[keyof typeof KINDS]]['array']>;
  /** [] for a single number. */
  shape: number[];
  dtype: (typeof KINDS)[keyof typeof KINDS];
}

export interface NpyHeader {
  shape: number[];
  dtype: NpyArray['dtype'];
  bigEndian: boolean;
  /** Where the data begin, in bytes. */
  offset: number;
}

/** Which rows of an array are read. */
export interface NpyOptions {
  /** The first row. Default 0. */
  start?: number;
  /** The one after the last. Default: all. */
  end?: number;
}

const MAGIC = Buffer.from('\x93NUMPY', 'latin1');
const longestHeader = 65_535;  // all that version 1 can have

/**
 * Reads an array, or the rows `start` to `end` - 1 of its first dimension, straight into the array that is returned. Format versions 1 to 3; bool, int8
 * to int64, uint8, float16 to float64 of either byte order. No pickle is ever opened.
 * @throws FileError for anything that is no such file: another kind, Python objects, Fortran order, a size that is not the header's
 * @throws ArgumentRangeError for rows that the array does not have
 */
export async function readNpy(path: string, options?: NpyOptions): Promise<NpyArray> {
  const given = check.options('options', options, ['start', 'end']);
  return withNpy(path, async (file, header) => {
    const { shape: [rows, ...row], dtype, bigEndian, offset } = header;
    const { bytes, array } = DTYPES[dtype];
    if (rows === undefined && (given.start !== undefined || given.end !== undefined)) throw new FileError(path, 'expected rows, the array is a single number');
    const start = check.integer('options.start', given.start ?? 0, { min: 0, max: rows ?? 1 });
    const end = check.integer('options.end', given.end ?? rows ?? 1, { min: start, max: rows ?? 1 });
    const stride = row.reduce((product, length) => product * length, bytes);
    const length = (end - start) * stride;
    if (length > MAX_BYTES) throw new FileError(path, `expected at most ${MAX_BYTES} bytes, got ${length}: read fewer rows at a time`);
    const buffer = Buffer.from(new ArrayBuffer(length));
    await readFully(file, path, buffer, offset + start * stride);
    if (bigEndian) {
      if (bytes === 2) buffer.swap16();
      if (bytes === 4) buffer.swap32();
      if (bytes === 8) buffer.swap64();
    }
    return { data: new array(buffer.buffer), shape: rows === undefined ? [] : [end - start, ...row], dtype };
  });
}

/** What the header of a .npy file says, its size compared with that of the file. */
export const readNpyHeader = (path: string): Promise<NpyHeader> => withNpy(path, async (_, header) => header);

async function withNpy<Result>(path: string, use: (file: Awaited<ReturnType<typeof open>>, header: NpyHeader) => Promise<Result>): Promise<Result> {
  check.string('path', path);
  try {
    const file = await open(path, 'r');
    try {
      const status = await file.stat();
      if (!status.isFile()) throw new FileError(path, 'expected a .npy file, got something that is no file');
      const start = Buffer.alloc(Math.min(12, status.size));
      await readFully(file, path, start, 0);
      const { length, offset } = measure(path, start);
      if (offset + length > status.size) throw new FileError(path, `expected ${offset + length} bytes of header, the file has ${status.size}`);
      const text = Buffer.alloc(length);
      await readFully(file, path, text, offset);
      const header = { ...parse(path, text.toString('latin1')), offset: offset + length };
      const expected = header.offset + header.shape.reduce((product, size) => product * size, DTYPES[header.dtype].bytes);
      if (status.size !== expected)
        throw new FileError(path, `expected ${expected} bytes for ${header.dtype} of shape [${header.shape.join(', ')}], got ${status.size}`);
      return await use(file, header);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw error instanceof ArgumentRangeError || error instanceof ArgumentTypeError ? error : fileError(path, error);
  }
}

/** Length and place of the header's text. */
function measure(path: string, start: Buffer): { length: number; offset: number } {
  if (!start.subarray(0, MAGIC.length).equals(MAGIC)) {
    const kind = start.subarray(0, 2).toString('latin1') === 'PK' ? ', got a zip archive (.npz?): unpack it first'
      : start[0] === 0x80 ? ', got a pickle, which is not opened' : '';
    throw new FileError(path, `expected a .npy file, which begins with \\x93NUMPY${kind}`);
  }
  const version = start[6];
  if (start.length < 12 || version === undefined || version < 1 || version > 3)
    throw new FileError(path, start.length < 12 ? `expected a header, the file has ${start.length} bytes` : `expected format version 1 to 3, got ${version}`);
  const [length, offset] = version === 1 ? [start.readUInt16LE(8), 10] : [start.readUInt32LE(8), 12];
  if (length > longestHeader) throw new FileError(path, `expected a header of at most ${longestHeader} bytes, got ${length}`);
  return { length, offset };
}

/** The header is a Python dictionary literal with three keys: read as that and nothing more. */
function parse(path: string, text: string): Omit<NpyHeader, 'offset'> {
  const found: Record<string, string> = {};
  const body = /^\{(.*)\}\s*$/s.exec(text)?.[1];
  const item = /\s*'(descr|fortran_order|shape)'\s*:\s*('[^']*'|True|False|\([\dL,\s]*\)|\[.*\])\s*(,|$)/sy;
  for (let at = 0; body !== undefined && at < body.trimEnd().length; at = item.lastIndex) {
    item.lastIndex = at;
    const [, key, value] = item.exec(body) ?? [];
    if (key === undefined || Object.hasOwn(found, key)) throw malformed(path, text);
    found[key] = value!;
  }
  const { descr, fortran_order: fortran, shape } = found;
  const sizes = /^\(\s*((?:\d{1,15}L?\s*,\s*)*)(?:(\d{1,15})L?\s*)?\)$/.exec(shape ?? '');
  if (descr === undefined || !/^(True|False)$/.test(fortran ?? '') || !sizes) throw malformed(path, text);
  if (descr.startsWith('[')) throw new FileError(path, 'expected numbers of one type, got records (a structured dtype)');
  const [, order, kind] = /^'([<>|=])(\w+)'$/.exec(descr) ?? [];
  if (kind?.startsWith('O')) throw new FileError(path, 'expected numbers, got Python objects (a pickle, which is not opened)');
  if (kind === undefined || !Object.hasOwn(KINDS, kind))
    throw new FileError(path, `expected elements of ${Object.values(KINDS).join(', ')}, got ${descr} (in Python: array.astype('int64') or 'float32')`);
  const lengths = (shape!.match(/\d+/g) ?? []).map(Number);
  if (fortran === 'True' && lengths.filter((length) => length !== 1).length > 1)
    throw new FileError(path, 'expected C order, got Fortran order (in Python: numpy.ascontiguousarray)');
  // Also the rows of an array without any are counted.
  if (lengths.reduce((product, length) => product * Math.max(1, length), 8) > Number.MAX_SAFE_INTEGER) throw new FileError(path, `expected a size that fits on a disk, got shape ${shape}`);
  return { shape: lengths, dtype: KINDS[kind as keyof typeof KINDS], bigEndian: order === '>' };
}

const malformed = (path: string, text: string) =>
  new FileError(path, `expected a header as {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}, got ${JSON.stringify(text.trimEnd().slice(0, 80))}`);
