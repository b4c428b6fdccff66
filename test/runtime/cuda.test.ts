import { Classifier, cuda, Encoder, pretrain, proceduralDataset, reproduce, runtimeInfo, tensor } from 'a-infonce';
import { expect, it } from 'vitest';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const refused = (argument: string, received = "'cuda:99'") =>
  expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument, message: expect.stringMatching(new RegExp(`^${argument}: expected '(cpu|cuda)'.*, got ${received}$`)) });

it('says what there is, and nothing more where there is nothing', () => {
  const devices = cuda.devices();
  expect(cuda.isAvailable()).toBe(devices.length > 0);
  expect(devices.map(({ device }) => device)).toEqual(devices.map((_, at) => `cuda:${at}`));
  if (!runtimeInfo().cuda) expect(devices).toEqual([]);
  cuda.releaseMemory();
});

it('names the argument where a device is not there', async () => {
  expect(() => cuda.synchronize('cuda:99')).toThrow(refused('device'));
  expect(() => cuda.memory('cuda:99')).toThrow(refused('device'));
  expect(() => cuda.memory(1 as never)).toThrow(/^device: expected 'cpu', 'cuda' or 'cuda:<index>', got 1$/);
  using encoder = Encoder.create({ width: 2 });
  expect(() => encoder.to('cuda:99')).toThrow(refused('device'));
  expect(() => encoder.to('gpu')).toThrow(/^device: expected 'cpu', 'cuda' or 'cuda:<index>', got 'gpu'$/);
  await expect(Encoder.load('nowhere', { device: 'cuda:99' })).rejects.toThrow(refused('options.device'));
  await expect(Classifier.load('nowhere', { device: 'cuda:99' })).rejects.toThrow(refused('options.device'));
  using data = proceduralDataset({ train: 4, test: 4, size: 8 });
  expect(() => data.train.to('cuda:99')).toThrow(refused('device'));
  const out = join(tmpdir(), 'a-infonce-never-made');
  expect(() => pretrain({ preset: 'quickstart', out, device: 'cuda:99' })).toThrow(refused('device'));
  expect(() => reproduce({ out, device: 'cuda:99' })).toThrow(refused('device'));
});

it('takes TF32 only when it is allowed', () => {
  expect(cuda.allowTF32).toBe(false);
  try {
    cuda.allowTF32 = true;
    expect(cuda.allowTF32).toBe(true);
    expect(() => (cuda.allowTF32 = 1 as never)).toThrow(/^cuda.allowTF32: expected a boolean, got 1$/);
    expect(cuda.allowTF32).toBe(true);
    const settings = cuda as unknown as Record<string, unknown>;
    for (const name of ['allowTf32', 'memory'])  // where nothing is strict, too
      for (const assign of [() => (settings[name] = false), Function('settings', 'name', 'settings[name] = false').bind(null, settings, name)])
        expect(assign).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: `cuda.${name}`, expected: 'a property that can be set (allowTF32)', received: `'${name}'` }));
    expect(() => Object.defineProperty(cuda, 'allowTf32', { value: true })).toThrow(TypeError);
    expect(cuda.allowTF32).toBe(true);
  } finally {
    cuda.allowTF32 = false;
  }
});

it('knows where models are and moves data whole', () => {
  using encoder = Encoder.create({ width: 2 });
  using classifier = Classifier.create({ encoder, classes: 3 });
  expect([encoder.device, classifier.device, classifier.to('cpu') === classifier]).toEqual(['cpu', 'cpu', true]);
  using data = proceduralDataset({ train: 4, test: 4, size: 8 });
  using there = data.train.to('meta');  // a device without memory, which every LibTorch has
  expect([there.device, there.images().device, there.labels().device, there.rows([1, 0]).device]).toEqual(['meta', 'meta', 'meta', 'cpu']);
  using copy = data.train.to('cpu');
  expect(copy.sha256()).toBe(data.train.sha256());
  using rows = tensor([1, 0], { dtype: 'int64' });
  expect(copy.rows(rows)).toBe(rows);
});
