import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Classifier, Encoder, FileError, memory, rand, readSafetensors, scope, tensor, writeSafetensors } from 'a-infonce';
import { afterAll, beforeAll, describe, expect, test as unscoped } from 'vitest';
import { equal, expectClose, fixture, reference, test } from './fixtures.js';
import { live } from '../fixtures/live.js';

let folder: string;
const at = (name: string) => join(folder, name);
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'a-infonce-model-'))));
afterAll(() => rm(folder, { recursive: true }));

describe('safetensors', () => {
  test('every dtype and shape comes back with its bits, and the metadata', async () => {
    const tensors = {
      bool: tensor(new Uint8Array([0, 1, 1]), { dtype: 'bool' }), u8: tensor(new Uint8Array([255])), i8: tensor(new Int8Array([-128, 3])),
      i16: tensor(new Int16Array([-32768])), i32: tensor(new Int32Array([7, -7])), i64: tensor(new BigInt64Array([-(2n ** 63n), 5n]), { shape: [2, 1] }),
      f32: tensor(new Float32Array([NaN, -0, Infinity, 1e-45]), { shape: [2, 2] }), f64: tensor(new Float64Array([Math.PI])), scalar: tensor(new Float32Array([3]), { shape: [] }),
      f16: tensor(new Float32Array([1.5, -2])).to({ dtype: 'float16' }), bf16: tensor(new Float32Array([1.5])).to({ dtype: 'bfloat16' }), empty: tensor(new Float32Array(0), { shape: [0, 3] }),
      "odd 'name' \u00e9 \"": rand([1]),
    };
    await writeSafetensors(at('all.safetensors'), Object.entries(tensors), { step: '12', text: 'a "quoted" \\ line\n' });
    const read = await readSafetensors(at('all.safetensors'), { requireChecksum: true });
    expect(read.metadata).toEqual({ step: '12', text: 'a "quoted" \\ line\n' });
    expect([...read.tensors.keys()]).toEqual(Object.keys(tensors));
    for (const [name, original] of Object.entries(tensors)) {
      const copy = read.tensors.get(name)!;
      expect([copy.dtype, copy.shape]).toEqual([original.dtype, original.shape]);
      expect(copy.toTypedArray()).toEqual(original.toTypedArray());
    }
  });

  test('a write that fails leaves the old file and nothing beside it', async () => {
    await writeSafetensors(at('kept.safetensors'), [['x', rand([2])]]);
    await expect(writeSafetensors(at('kept.safetensors'), [['x', rand([2])], ['x', rand([2])]])).rejects.toThrow(/distinct names/);
    await expect(writeSafetensors(at('kept.safetensors'), { x: rand([2]) } as never)).rejects.toThrow(/^tensors: expected a Map from names to tensors, got/);
    await expect(writeSafetensors(at('no/such/folder'), [])).rejects.toThrow(FileError);
    expect((await readSafetensors(at('kept.safetensors'))).tensors.size).toBe(1);
    expect((await readdir(folder)).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  describe('hostile files', () => {
    beforeAll(live);
    const file = (header: string | object, data = new Uint8Array(0), length?: bigint) => {
      const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
      const size = Buffer.alloc(8);
      size.writeBigUInt64LE(length ?? BigInt(text.length));
      return Buffer.concat([size, text, data]);
    };
    const refused = async (bytes: Uint8Array, message: RegExp) => {
      await writeFile(at('hostile.safetensors'), bytes);
      const before = memory().tensors;
      const error = await readSafetensors(at('hostile.safetensors')).then(() => undefined, (reason) => reason);
      expect(error).toBeInstanceOf(FileError);
      expect(error.message).toMatch(message);
      expect(error.message).toContain(at('hostile.safetensors'));
      expect(memory().tensors).toBeLessThanOrEqual(before); // the collector may free what is left of other files meanwhile
    };
    const x = (more: object = {}) => ({ x: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...more } });
    const eight = new Uint8Array(8);

    unscoped.each<[string, Buffer, RegExp]>([
      ['empty file', Buffer.alloc(0), /0 bytes/],
      ['huge header', file('{}', eight, 2n ** 63n), /not a safetensors file: it does not begin with the length of a header$/],
      ['PNG', Buffer.from('89504e470d0a1a0a0000000d', 'hex'), /not a safetensors file: it looks like a PNG image$/],
      ['JSON', Buffer.from('{"preset": 1}'), /not a safetensors file: it looks like JSON$/],
      ['short text', Buffer.from('text\n'), /not a safetensors file: it looks like text$/],
      ['header as long as gzip begins', file('{}', eight, 0x88b1fn), /truncated: the header has 559903 bytes/],
      ['header past the end', file('{}', eight, 11n), /truncated: the header has 11 bytes/],
      ['not JSON', file('{"x"'), /not valid JSON/],
      ['not UTF-8', file('{"\xff'.replace('\xff', ''), Buffer.from([0xff])), /not valid JSON|after the last tensor/],
      ['JSON that is no object', file('[]'), /does not start with \{/],
      ['leading space', file(' {}'), /does not start with \{/],
      ['same key twice', file('{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', eight), /'x' occurs twice/],
      ['same key twice, escaped', file('{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\\u0078":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', eight), /'x' occurs twice/],
      ['metadata that is not text', file({ __metadata__: { a: 1 } }), /__metadata__ must map text to text/],
      ['tensor that is no object', file({ x: 3 }), /tensor 'x': expected dtype, shape and data_offsets/],
      ['unknown field', file(x({ more: 1 }), eight), /tensor 'x'/],
      ['unknown dtype', file(x({ dtype: 'F8_E4M3' }), eight), /dtype "F8_E4M3" is not one of/],
      ['inherited name as dtype', file(x({ dtype: 'constructor' }), eight), /dtype "constructor"/],
      ['negative size', file(x({ shape: [-2] }), eight), /is not a list of sizes/],
      ['fractional size', file(x({ shape: [0.5, 4] }), eight), /is not a list of sizes/],
      ['sizes that overflow', file(x({ shape: [2 ** 40, 2 ** 40, 2 ** 40] }), eight), /span 8/],
      ['dtype of another width', file(x({ dtype: 'F64' }), eight), /has 16 bytes, data_offsets \[0,8\] span 8/],
      ['end before begin', file(x({ shape: [0], data_offsets: [8, 0] }), eight), /span -8/],
      ['past the data', file(x(), eight.subarray(4)), /truncated: it ends at byte 8/],
      ['trailing data', file(x(), new Uint8Array(9)), /1 bytes after the last tensor/],
      ['gap', file(x({ data_offsets: [4, 12] }), new Uint8Array(12)), /after a gap/],
      ['overlap', file({ ...x(), y: { dtype: 'U8', shape: [4], data_offsets: [4, 8] } }, eight), /'y' begins at byte 4 of the data, inside another tensor/],
      ['bool of 2', file({ b: { dtype: 'BOOL', shape: [1], data_offsets: [0, 1] } }, new Uint8Array([2])), /neither 0 nor 1/],
      ['checksum that is none', file({ __metadata__: { 'a_infonce.sha256': 'x' } }), /is not a SHA-256/],
    ])('%s', (_, bytes, message) => refused(bytes, message));

    test('a name as __proto__ is a name', async () => {
      await writeFile(at('proto.safetensors'), file('{"__proto__":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', eight));
      expect([...(await readSafetensors(at('proto.safetensors'))).tensors.keys()]).toEqual(['__proto__']);
    });

    test('pickles are not opened, and the message says how to convert', async () => {
      await refused(await readFile(fixture('state-dict.pt')), /pickle.*never opened[\s\S]*safetensors\.torch\.save_file/);
      await refused(Buffer.from('80028a0a6cfc9c46f9206aa850192e80', 'hex'), /pickle/); // torch.save before 1.6
    });

    test('a TorchScript module is named as one', async () => {
      for (const name of ['tiny.pt', 'frozen.pt', 'pair.pt']) await refused(await readFile(fixture(name)), /a TorchScript module.*loadTorchScript/);
    });

    test('missing files and folders', async () => {
      await expect(readSafetensors(at('none'))).rejects.toThrow(/none: no such file/);
      await expect(readSafetensors(folder)).rejects.toThrow(/not a file/);
      await expect(Encoder.load(folder)).rejects.toThrow(/encoder\.safetensors: no such file/);
    });

    test('a file of ours: any truncation and any flipped bit is found', async () => {
      await writeSafetensors(at('ours.safetensors'), [['x', rand([40])], ['y', rand([3])]], { epoch: '3' });
      const bytes = await readFile(at('ours.safetensors'));
      for (let length = 0; length < bytes.length; length += 7) await refused(bytes.subarray(0, length), /./);
      for (let bit = 0; bit < bytes.length * 8; bit += 37) {
        const damaged = Buffer.from(bytes);
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        // A flip inside the checksum's own key turns it into another key: such a file has none, which checkpoints refuse.
        await writeFile(at('flipped.safetensors'), damaged);
        await expect(readSafetensors(at('flipped.safetensors'), { requireChecksum: true })).rejects.toThrow(FileError);
      }
    });
  });
});

describe('models in files', () => {
  const images = rand([3, 3, 16, 16]);

  test('an encoder comes back whole', async () => {
    const encoder = Encoder.create({ architecture: 'resnet34', width: 1, stem: 'imagenet', branches: ['normal', 'pgd'], projector: { hidden: [6, 5], output: 4, batchNorm: true }, seed: 2 });
    encoder.forward(images, { branch: 'pgd', output: 'projection' });
    await encoder.save(at('encoder.safetensors'));
    for (const path of [folder, at('encoder.safetensors')]) {
      const loaded = await Encoder.load(path);
      expect([loaded.training, loaded.config]).toEqual([false, encoder.config]);
      encoder.eval();
      for (const options of [{}, { branch: 'pgd' }, { branch: 'pgd', output: 'projection' as const }])
        expect(equal(loaded.forward(images, options), encoder.forward(images, options))).toBe(true);
    }
    const pgd = await Encoder.load(folder, { branch: 'pgd' });
    expect(pgd.config.branches).toEqual(['pgd']);
    expect(equal(pgd.forward(images), encoder.forward(images, { branch: 'pgd' }))).toBe(true);
    await expect(Encoder.load(folder, { branch: 'other' })).rejects.toThrow(/encoder\.safetensors: branch: expected one of the file's BatchNorm branches \(normal, pgd\), got 'other'|got other/);
  });

  test('a classifier comes back with its branch; its encoder can be loaded from it; an encoder is no classifier', async () => {
    const encoder = Encoder.create({ width: 1, branches: ['clean', 'adversarial'], channels: 1, seed: 4 });
    const classifier = Classifier.create({ encoder, classes: 5, branch: 'adversarial', seed: 9 }).eval();
    await classifier.save(at('classifier.safetensors'));
    const loaded = await Classifier.load(folder);
    expect(loaded.config).toEqual(classifier.config);
    const grey = rand([2, 1, 8, 8]);
    expect(equal(loaded.forward(grey), classifier.forward(grey))).toBe(true);
    const part = await Encoder.load(at('classifier.safetensors'));
    expect(equal(part.forward(grey, { branch: 'adversarial' }), classifier.features(grey))).toBe(true);
    await encoder.save(at('headless.safetensors'));
    await expect(Classifier.load(at('headless.safetensors'))).rejects.toThrow(/no linear head/);
  });

  test('files of others say what they hold by names and shapes', async () => {
    for (const [name, config, classes] of [
      ['rocl-resnet18', { architecture: 'resnet18', width: 4, stem: 'cifar', branches: ['normal'], projector: undefined }, 10],
      ['torchvision-resnet18', { architecture: 'resnet18', width: 4, stem: 'imagenet', branches: ['normal'], projector: undefined }, 7],
      ['torchvision-resnet50', { architecture: 'resnet50', width: 2, stem: 'cifar', branches: ['normal'], projector: undefined }, undefined],
      ['advcl-resnet18', { architecture: 'resnet18', width: 2, stem: 'cifar', branches: ['normal', 'pgd', 'pgd_ce'], projector: { hidden: [5], output: 6, batchNorm: true } }, undefined],
    ] as const) {
      const { state, test: stored, tensors } = await reference(`${name}.safetensors`);
      await writeSafetensors(at('foreign.safetensors'), state);
      const encoder = await Encoder.load(at('foreign.safetensors'));
      expect(encoder.config).toEqual({ ...config, channels: 3, heads: [] });
      expectClose(encoder.forward(stored('input')), stored(tensors.has('test.eval') ? 'eval' : 'eval.0'));
      if (classes === undefined) await expect(Classifier.load(at('foreign.safetensors'))).rejects.toThrow(/no linear head/);
      else expectClose((await Classifier.load(at('foreign.safetensors'))).forward(stored('input')), stored('logits'));
    }
    await expect(Encoder.load(fixture('torchvision-resnet18.safetensors'))).rejects.toThrow(/torchvision-resnet18\.safetensors: state: .*missing: none; unexpected: test\.eval, test\.input, test\.logits/);
  });

  test('a single branch keeps its name', async () => {
    await Encoder.create({ width: 1, branches: ['pgd'] }).save(at('single.safetensors'));
    expect((await Encoder.load(at('single.safetensors'))).config.branches).toEqual(['pgd']);
  });

  test('files of other things are refused without allocating what they claim', async () => {
    const write = (entries: [string, number[]][], metadata = {}) =>
      writeSafetensors(at('other.safetensors'), entries.map(([name, shape]) => [name, rand(shape)]), metadata);
    const load = () => Encoder.load(at('other.safetensors'));
    await write([['features.0.weight', [2, 3, 3, 3]]]);
    await expect(load()).rejects.toThrow(/other\.safetensors: .*no conv1\.weight/);
    await write([['conv1.weight', [4096, 3, 3, 3]]]);
    await expect(load()).rejects.toThrow(/layer1\.0\.conv1\.weight with undefined planes beside a stem of 4096/);
    await write([['conv1.weight', [1, 3, 5, 5]]]);
    await expect(load()).rejects.toThrow(/conv1\.weight of shape \[1,3,5,5\]/);
    const encoder = Encoder.create({ width: 1 });
    await writeSafetensors(at('other.safetensors'), encoder.state(), { 'a_infonce.model': '{"branches":["a","b"]}' });
    await expect(load()).rejects.toThrow(FileError);
    await writeSafetensors(at('other.safetensors'), encoder.state(), { 'a_infonce.model': 'null' });
    await expect(load()).rejects.toThrow(FileError);
    await writeSafetensors(at('other.safetensors'), encoder.state(), { 'a_infonce.model': '{' });
    await expect(load()).rejects.toThrow(FileError);
  });

  test('saving and loading leave no tensors behind', async () => {
    const encoder = Encoder.create({ width: 1 });
    const { tensors: before } = await live();
    await encoder.save(at('counted.safetensors'));
    (await Encoder.load(at('counted.safetensors'))).dispose();
    await scope(async () => void (await readSafetensors(at('counted.safetensors'))));
    expect(memory().tensors).toBe(before);
  });
});
