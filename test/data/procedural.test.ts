import { describe, expect, it } from 'vitest';
import { ArgumentRangeError, memory, openDataset, ops, proceduralDataset, scope, setThreads, getThreads, Split, type Tensor, zeros } from 'a-infonce';
import { live } from '../fixtures/live.js';

/** Ridge regression onto one-hot labels in closed form; the accuracy on the test features. */
function ridge(train: Tensor, trainLabels: Tensor, test: Tensor, testLabels: Tensor, strength: number): number {
  const biased = (x: Tensor) => ops.aten.cat([x.to({ dtype: 'float64' }), ops.aten.ones([x.shape[0]!, 1], { dtype: 'float64' })], 1);
  const [x, z] = [biased(train), biased(test)];
  const targets = ops.aten.one_hot(trainLabels, 10).to({ dtype: 'float64' });
  const gram = ops.aten.add(ops.aten.mm(ops.aten.t(x), x), ops.aten.mul(ops.aten.eye(x.shape[1]!, { dtype: 'float64' }), strength));
  const weights = ops.aten.linalg_solve(gram, ops.aten.mm(ops.aten.t(x), targets));
  return ops.aten.mean(ops.aten.eq(ops.aten.argmax(ops.aten.mm(z, weights), 1), testLabels).to({ dtype: 'float64' })).item();
}

/** Whether two splits' bytes are the same as far as the shorter goes; quicker than comparing number by number. */
function sameStart(a: ArrayBufferView, b: ArrayBufferView): boolean {
  const length = Math.min(a.byteLength, b.byteLength);
  return Buffer.from(a.buffer, a.byteOffset, length).equals(Buffer.from(b.buffer, b.byteOffset, length));
}

/** The pixels of the images at half the resolution, flat. */
const pixels = (split: Split) => ops.aten.flatten(ops.aten.avg_pool2d(split.images(), [2, 2]), 1);

describe('the procedural data set', () => {
  it('has ten balanced classes, splits apart from each other, and bytes that depend on the seed alone', async () => {
    using data = await openDataset('procedural', { procedural: { train: 100, test: 50 } });
    expect([data.name, data.channels, data.size, data.classes.length, data.train.length, data.test.length]).toEqual(['procedural', 3, 32, 10, 100, 50]);
    const labels = data.train.labels().toTypedArray();
    for (let k = 0n; k < 10n; k++) expect(labels.filter((label) => label === k)).toHaveLength(10);

    const bytes = data.train.pixels.toTypedArray();
    using longer = proceduralDataset({ train: 200, test: 50 });
    expect(sameStart(longer.train.pixels.toTypedArray(), bytes)).toBe(true);
    expect(sameStart(data.test.pixels.toTypedArray(), bytes)).toBe(false);
    using other = proceduralDataset({ train: 100, test: 50, seed: 1 });
    expect(sameStart(other.train.pixels.toTypedArray(), bytes)).toBe(false);
  });

  it('splits that are none are errors that name what is wrong', () => {
    const fails = (argument: string, call: () => unknown) => expect(call).toThrow(expect.objectContaining({ argument }));
    const bytes = { pixels: new Uint8Array(2 * 3 * 64), labels: [0, 1], channels: 3, size: 8 };
    fails('pixels', () => new (Split as unknown as new (data: object) => Split)({}));
    fails('pixels', () => Split.from({} as never));
    fails('labels', () => Split.from({ ...bytes, labels: undefined as never }));
    fails('labels[1]', () => Split.from({ ...bytes, labels: [0, 0.5] }));
    fails('pixels', () => Split.from({ ...bytes, size: 9 }));
    fails('data', () => Split.from(undefined as never));
    scope(() => {
      fails('pixels', () => Split.own(zeros([2, 3, 8, 8]), zeros([2], { dtype: 'int64' })));
      fails('labels', () => Split.own(zeros([2, 3, 8, 8], { dtype: 'uint8' }), zeros([3], { dtype: 'int64' })));
    });
    const split = Split.from(bytes);
    split.dispose();
    for (const use of [() => split.images(), () => split.labels(), () => split.subset(1), () => split.sha256()]) fails('split', use);
    split.dispose();   // again, as nothing
  });

  it('is the same at any thread count', () => {
    const before = getThreads();
    const make = (threads: number) => {
      setThreads(threads);
      using data = proceduralDataset({ train: 33, test: 1 });
      return data.train.pixels.toTypedArray();
    };
    try {
      expect(sameStart(make(1), make(2))).toBe(true);
    } finally {
      setThreads(before);
    }
  });

  it('cannot be read off the pixels by a linear model, but off edges that are pooled over the image', () => {
    using data = proceduralDataset({ train: 1500, test: 500 });
    scope(() => {
      const accuracy = (features: (split: Split) => Tensor, strength: number) =>
        ridge(features(data.train), data.train.labels(), features(data.test), data.test.labels(), strength);
      // A fixed random convolution of 5 x 5, rectified, its first and second moments pooled: what a network has before it has learned.
      const generated = proceduralDataset({ train: 40, test: 1, seed: 7 });
      const patches = ops.aten.slice(ops.aten.slice(generated.train.images(), 2, 12, 17), 3, 12, 17);
      const kernels = ops.aten.sub(patches, ops.aten.mean(patches, [2, 3], true));
      const pooled = (split: Split) => {
        const maps = ops.aten.abs(ops.aten.conv2d(split.images(), kernels, null, [2, 2]));
        const moments = ops.aten.cat([ops.aten.mean(maps, [2, 3]), ops.aten.mean(ops.aten.square(maps), [2, 3]), ops.aten.amax(maps, [2, 3])], 1);
        return ops.aten.log(ops.aten.add(moments, 1e-3));
      };
      const linear = accuracy(pixels, 100);
      generated.dispose();
      expect(linear).toBeLessThan(0.25);
      const learned = accuracy(pooled, 1e-2);
      expect(learned).toBeGreaterThan(Math.max(0.45, 2 * linear));
    });
  });

  it('refuses sizes and counts that make no sense', () => {
    expect(() => proceduralDataset({ train: 0 })).toThrow(ArgumentRangeError);
    expect(() => proceduralDataset({ size: 4 })).toThrow('options.size');
    expect(() => proceduralDataset({ sizes: 4 } as never)).toThrow('options.sizes');
    expect(() => ops.a_infonce.procedural_images(0, -1, 0, 1, 32)).toThrow('split');
  });

  it('frees what it made', async () => {
    const before = await live();
    proceduralDataset({ train: 10, test: 10 }).dispose();
    expect(memory()).toEqual(before);
  });
});
