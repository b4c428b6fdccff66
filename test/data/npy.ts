/** A .npy file of version 1 as NumPy writes it: `dtype` as in `<f4`. */
export function npyFile(dtype: string, shape: readonly number[], data: Uint8Array): Buffer {
  const text = Buffer.from(`{'descr': '${dtype}', 'fortran_order': False, 'shape': (${shape.map((size) => `${size},`).join(' ')}), }\n`, 'latin1');
  const length = Buffer.alloc(2);
  length.writeUInt16LE(text.length);
  return Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), length, text, data]);
}
