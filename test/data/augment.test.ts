import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  ArgumentRangeError, ArgumentTypeError, augment, augmentChoices, augmentSync, getThreads, highFrequency, memory, ops, PIPELINES, runtimeInfo, scope,
  setInstructionSet, setThreads, Split, tensor, type InstructionSet, type Pipeline, type Tensor,
} from 'a-infonce';
import { live } from '../fixtures/live.js';
import { restoreSettings } from '../fixtures/settings.js';

/** The tensors of a small safetensors file. */
function fixture(name: string): Record<string, Tensor> {
  const file = readFileSync(fileURLToPath(new URL(`../fixtures/${name}.safetensors`, import.meta.url)));
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + length)) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  const arrays = { U8: Uint8Array, I64: BigInt64Array, F32: Float32Array, F64: Float64Array };
  return Object.fromEntries(Object.entries(header).filter(([key]) => key !== '__metadata__').map(([key, { dtype, shape, data_offsets: [from, to] }]) => {
    const bytes = new Uint8Array(file.subarray(8 + length + from, 8 + length + to));
    return [key, tensor(new arrays[dtype as keyof typeof arrays](bytes.buffer), { shape })];
  }));
}
const numbers = (values: Tensor) => values.toTypedArray() as Float32Array;
/** Equal for equal bits; quicker to compare than the numbers. */
function bits(values: Tensor | Float32Array): string {
  const array = values instanceof Float32Array ? values : numbers(values);
  return createHash('sha1').update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength)).digest('hex');
}
function largestDifference(a: Tensor, b: Tensor): number {
  expect(a.shape).toEqual(b.shape);
  return ops.aten.amax(ops.aten.abs(ops.aten.sub(a.to({ dtype: 'float64' }), b.to({ dtype: 'float64' })))).item();
}
const rows = (n: number) => Array.from({ length: n }, (_, k) => k);
const view = (split: Split, indices: number[], pipeline: keyof typeof PIPELINES | Pipeline, more = {}) => augmentSync(split, indices, { pipeline, ...more });

/** Images that differ from one another, color or gray. */
function someImages(count: number, channels = 3, size = 32): Split {
  let state = 1;
  const pixels = Uint8Array.from({ length: count * channels * size * size }, () => (state = (state * 48271) % 2147483647) & 255);
  return Split.from({ pixels, labels: new Uint8Array(count), channels, size });
}

describe('what a choice does', () => {
  const cases = fixture('augment-reference');
  const apply = (size: number, color_first: boolean, count = cases['choices']!.shape[0]!) => {
    const part = (value: Tensor) => ops.aten.slice(value, 0, 0, count);
    return ops.a_infonce.augment_apply(cases['pixels']!, part(cases['indices']!), part(cases['choices']!), { size, color_first });
  };

  it.each<[string, number, boolean, number?]>([['geometry_first', 16, false], ['color_first', 16, true], ['smaller', 10, false, 8]])(
    'equals the floating-point reference: %s', (name, size, colorFirst, count) => {
      expect(largestDifference(apply(size, colorFirst, count), cases[`${name}.expected`]!)).toBeLessThan(2e-6);
    });

  it('is Pillow on bytes but for its rounding', () => {
    for (const [name, colorFirst] of [['geometry_first', false], ['color_first', true]] as const) {
      const bytes = ops.aten.div(cases[`${name}.pillow`]!.to({ dtype: 'float32' }), 255);
      const difference = ops.aten.abs(ops.aten.sub(apply(16, colorFirst), bytes));
      expect(ops.aten.mean(difference).item()).toBeLessThan(1 / 255);
      // Pillow keeps hue and saturation in bytes too (a step of hue is 6 / 256 of a channel's range), and what follows may widen the gap.
      expect(ops.aten.amax(difference).item()).toBeLessThan(20 / 255);
    }
  });

  it('takes brightness and contrast alone on gray images', () => {
    const gray = ops.aten.slice(cases['pixels']!, 1, 0, 1);
    const out = ops.a_infonce.augment_apply(gray, cases['indices']!, cases['choices']!, { size: 16, color_first: false });
    expect(largestDifference(out, cases['one_channel.expected']!)).toBeLessThan(2e-6);
  });

  it('refuses choices that cannot be', () => {
    const [pixels, index] = [tensor(new Uint8Array(3 * 16), { shape: [1, 3, 4, 4] }), tensor(BigInt64Array.of(0n))];
    const good = [0, 0, 4, 4, 0, 0, -1, 1, 1, 1, 0];
    for (const [column, value] of [[2, 0], [3, 1e9], [0, -1e9], [4, 2], [6, 24], [7, -1], [8, NaN], [9, Infinity], [10, 0.6], [1, 0.5]] as const) {
      const choices = tensor(Float64Array.from(good.with(column, value)), { shape: [1, 11] });
      expect(() => ops.a_infonce.augment_apply(pixels, index, choices, { size: 4, color_first: false })).toThrow(`column ${column}`);
    }
  });
});

describe('what is drawn', () => {
  const count = 4000;
  using pixels = someImages(1, 3, 32).pixels;
  const many = Split.own(ops.aten.expand(pixels, [count, 3, 32, 32]), tensor(new BigInt64Array(count)));
  const column = (choices: Tensor, k: number) => numbers(choices).filter((_, i) => i % 11 === k);
  const mean = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0) / values.length;
  // Five standard errors: a fixed seed either passes or does not.
  const near = (value: number, expected: number, deviation: number, n = count) => expect(Math.abs(value - expected)).toBeLessThan((5 * deviation) / Math.sqrt(n));

  it('has the frequencies and ranges of the RoCL view', () => {
    const choices = augmentChoices(many, rows(count), { pipeline: 'rocl', seed: 3 });
    const [top, left, height, width, flip, gray, order, ...factors] = rows(11).map((k) => column(choices, k)) as Float32Array[];
    near(mean(flip!), 0.5, 0.5);
    near(mean(gray!), 0.2, 0.4);
    near(mean(order!.map((value) => Number(value >= 0))), 0.8, 0.4);
    const jittered = order!.filter((value) => value >= 0);
    for (let k = 0; k < 24; k++) near(mean(jittered.map((value) => Number(value === k))), 1 / 24, Math.sqrt(1 / 24), jittered.length);
    for (const [factor, low, high] of [[factors[0]!, 0.6, 1.4], [factors[1]!, 0.6, 1.4], [factors[2]!, 0.6, 1.4], [factors[3]!, -0.1, 0.1]] as const) {
      expect(Math.min(...factor)).toBeGreaterThanOrEqual(Math.fround(low));
      expect(Math.max(...factor)).toBeLessThanOrEqual(Math.fround(high));
      near(mean(factor), (low + high) / 2, (high - low) / Math.sqrt(12));
      near(mean(factor.map((value) => (value - (low + high) / 2) ** 2)), (high - low) ** 2 / 12, (high - low) ** 2 / 13.4);
    }
    for (let i = 0; i < count; i++) {
      expect(top![i]! >= 0 && left![i]! >= 0 && top![i]! + height![i]! <= 32 && left![i]! + width![i]! <= 32).toBe(true);
      expect(height![i]! * width![i]!).toBeGreaterThan(0.08 * 1024 * 0.85);  // sides are rounded
    }
    // torchvision's law: areas above what fits the drawn ratio are drawn again, which this integral over (area, ratio) repeats.
    let [weight, area] = [0, 0];
    for (let a = 0.5; a < 400; a++) for (let r = 0.5; r < 100; r++) {
      const [share, ratio] = [0.08 + (0.92 * a) / 400, (3 / 4) * (16 / 9) ** (r / 100)];
      const [w, h] = [Math.round(32 * Math.sqrt(share * ratio)), Math.round(32 * Math.sqrt(share / ratio))];
      if (w <= 32 && h <= 32) [weight, area] = [weight + 1, area + w * h];
    }
    near(mean(height!.map((h, i) => h * width![i]!)), area / weight, 280);
    near(mean(top!.map((t, i) => (32 === height![i] ? 0.5 : t / (32 - height![i]!)))), 0.5, 0.35);
  });

  it('has every offset of the padded crop, and no other operation', () => {
    const choices = augmentChoices(many, rows(count), { pipeline: 'weak' });
    for (const k of [0, 1]) {
      const offsets = column(choices, k);
      for (let offset = -4; offset <= 4; offset++) near(mean(offsets.map((value) => Number(value === offset))), 1 / 9, Math.sqrt(8) / 9);
      expect(Math.min(...offsets) === -4 && Math.max(...offsets) === 4).toBe(true);
    }
    expect(new Set(column(choices, 2))).toEqual(new Set([32]));
    expect(new Set(column(choices, 6))).toEqual(new Set([-1]));
    expect(new Set(column(choices, 5))).toEqual(new Set([0]));
  });

  it('falls back to the largest centred box when no attempt fits', () => {
    const choices = augmentChoices(many, [0], { pipeline: { resizedCrop: { scale: [1, 1], ratio: [2, 2] } } });
    expect(choices.toArray()).toEqual([[8, 0, 16, 32, 0, 0, -1, 1, 1, 1, 0]]);
    const tall = augmentChoices(many, [0], { pipeline: { resizedCrop: { scale: [1, 1], ratio: [0.5, 0.5] } } });
    expect(tall.toArray()).toEqual([[0, 8, 32, 16, 0, 0, -1, 1, 1, 1, 0]]);
  });
});

describe('augment', () => {
  const split = someImages(48);

  it('is what the choices say', async () => {
    for (const pipeline of ['rocl', 'advcl-strong', 'weak', 'none'] as const) {
      const options = { pipeline, seed: 5, epoch: 2, view: 1 };
      using direct = await augment(split, rows(48), options);
      using choices = augmentChoices(split, rows(48), options);
      using indices = split.rows(rows(48));
      using applied = ops.a_infonce.augment_apply(split.pixels, indices, choices, { size: 32, color_first: pipeline === 'rocl' });
      using sync = augmentSync(split, rows(48), options);
      expect(bits(direct)).toBe(bits(applied));
      expect(bits(sync)).toBe(bits(direct));
      expect(direct.shape).toEqual([48, 3, 32, 32]);
      expect(ops.aten.amin(direct).item()).toBeGreaterThanOrEqual(0);
      expect(ops.aten.amax(direct).item()).toBeLessThanOrEqual(1);
    }
  });

  it('gives each sample its own randomness, whatever the batch', () => {
    scope(() => {
      const image = 3 * 32 * 32;
      const all = numbers(view(split, rows(48), 'rocl', { seed: 1 }));
      const some = numbers(view(split, [40, 3, 3], 'rocl', { seed: 1 }));
      for (const [k, row] of [40, 3, 3].entries())
        expect(bits(some.subarray(k * image, (k + 1) * image))).toBe(bits(all.subarray(row * image, (row + 1) * image)));
      for (const change of [{ seed: 2 }, { seed: 1, epoch: 1 }, { seed: 1, view: 1 }]) expect(bits(view(split, [40, 3, 3], 'rocl', change))).not.toBe(bits(some));
      // The same picture twice in the data set is two samples.
      const twins = split.subset([7, 7]);
      const [a, b] = [0, 1].map((k) => bits(view(twins, [k], 'rocl')));
      expect(a).not.toBe(b);
      twins.dispose();
    });
  });

  it('has the same bits at any thread count', () => {
    const before = getThreads();
    const at = (threads: number) => {
      setThreads(threads);
      return scope(() => Object.keys(PIPELINES).map((name) => bits(view(split, rows(48), name as keyof typeof PIPELINES))));
    };
    try {
      expect(at(2)).toEqual(at(1));
    } finally {
      setThreads(before);
    }
  });

  it('has the same bits on every instruction set, for sides that fill no vector too', () => {
    const pipelines = [...Object.values(PIPELINES), ...[7, 50].map((size): Pipeline => ({ resizedCrop: { scale: [0.1, 1] }, size, flip: 0.5 }))];
    try {
      for (const [channels, side] of [[3, 32], [3, 13], [1, 28]] as const) {
        const images = someImages(24, channels, side);
        const [portable, ...others] = runtimeInfo().instructionSets.map((set) => {
          setInstructionSet(set as InstructionSet);
          return scope(() => pipelines.map((pipeline) => bits(view(images, rows(24), pipeline))));
        });
        for (const other of others) expect(other).toEqual(portable);
        images.dispose();
      }
    } finally {
      restoreSettings();
    }
  });

  it('leaves images alone where nothing happens', () => {
    scope(() => {
      const plain = bits(split.images());
      expect(bits(view(split, rows(48), 'none'))).toBe(plain);
      expect(bits(view(split, rows(48), { resizedCrop: { scale: [1, 1], ratio: [1, 1] } }))).toBe(plain);
      expect(bits(view(split, rows(48), { jitter: { probability: 1 } }))).toBe(plain);
      expect(bits(view(split, rows(48), { jitter: { probability: 1 }, colorFirst: true }))).toBe(plain);
      expect(bits(view(split, rows(48), { flip: 1 }))).toBe(bits(ops.aten.flip(split.images(), [3])));
      expect(view(split, [], 'rocl').shape).toEqual([0, 3, 32, 32]);
    });
  });

  it('pads with black and resizes to another size', () => {
    scope(() => {
      const white = Split.from({ pixels: new Uint8Array(3 * 64).fill(255), labels: [0], channels: 3, size: 8 });
      const padded = numbers(view(white, [0], { padding: 2, size: 12 }));
      expect(padded.filter((value) => value === 1)).toHaveLength(3 * 64);
      expect(padded.filter((value) => value === 0)).toHaveLength(3 * (144 - 64));
      for (const size of [1, 3, 8, 50]) {
        const resized = view(white, [0], { resizedCrop: { scale: [0.3, 1] }, size });
        expect(resized.shape).toEqual([1, 3, size, size]);
        expect(Math.min(...numbers(resized))).toBeGreaterThan(1 - 1e-6);
      }
      white.dispose();
    });
  });

  it('works on gray images', () => {
    scope(() => {
      const gray = someImages(4, 1, 28);
      expect(view(gray, rows(4), 'rocl').shape).toEqual([4, 1, 28, 28]);
      expect(bits(view(gray, rows(4), { grayscale: 1 }))).toBe(bits(gray.images()));
      expect(bits(view(gray, rows(4), { jitter: { probability: 1, saturation: 0.9, hue: 0.5 } }))).toBe(bits(gray.images()));
      expect(bits(view(gray, rows(4), { jitter: { probability: 1, brightness: 0.9 } }))).not.toBe(bits(gray.images()));
      gray.dispose();
    });
  });

  it('refuses what cannot work', async () => {
    const refuse = (pipeline: unknown, text: string, more = {}) =>
      expect(() => augmentSync(split, [0], { pipeline: pipeline as Pipeline, ...more })).toThrow(text);
    refuse('simclr', 'options.pipeline');
    refuse(undefined, 'options.pipeline');
    refuse({ crop: 1 }, 'options.pipeline.crop');
    refuse({ size: 40 }, 'size: expected at most 32');
    refuse({ size: 0 }, 'size');
    refuse({ flip: 1.5 }, 'flip');
    refuse({ grayscale: -1 }, 'grayscale');
    refuse({ padding: -1 }, 'padding');
    refuse({ padding: 4, resizedCrop: { scale: [0.1, 1] } }, 'padding');
    refuse({ resizedCrop: { scale: [0, 1] } }, 'scale');
    refuse({ resizedCrop: { scale: [0.5, 0.2] } }, 'scale');
    refuse({ resizedCrop: { scale: [0.5, 1.2] } }, 'scale');
    refuse({ resizedCrop: { scale: [0.5, 1], ratio: [0, 1] } }, 'ratio');
    refuse({ jitter: { probability: 1, hue: 0.6 } }, 'hue');
    refuse({ jitter: { probability: 1, contrast: NaN } }, 'jitter');
    refuse({ jitter: { probability: 2 } }, 'jitter probability');
    refuse('weak', 'options.view', { view: 1 << 16 });
    refuse('weak', 'options.epoch', { epoch: -1 });
    refuse('weak', 'options.seed', { seed: 0.5 });
    expect(() => augmentSync(split, [48], { pipeline: 'weak' })).toThrow(ArgumentRangeError);
    expect(() => augmentSync({} as Split, [0], { pipeline: 'weak' })).toThrow(ArgumentTypeError);
    await expect(augment(split, [0], { pipeline: { size: 33 } })).rejects.toThrow('size: expected at most 32');
    await expect(augment(split, [-1], { pipeline: 'weak' })).rejects.toThrow('indices');
    await expect(augment(split, [0], { pipeline: 'weak', signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
    using floats = tensor([[[[1]]]]);
    using index = tensor(BigInt64Array.of(0n));
    expect(() => ops.a_infonce.augment_apply(floats, index, floats, { size: 1, color_first: false })).toThrow('pixels');
  });

  it('frees what it made', async () => {
    const before = await live();
    for (let i = 0; i < 20; i++) (await augment(split, rows(48), { pipeline: 'rocl', epoch: i })).dispose();
    for (let i = 0; i < 20; i++) augmentSync(split, rows(48), { pipeline: 'rocl', epoch: i }).dispose();
    expect(memory()).toEqual(before);
  });
});

describe('the high-frequency component', () => {
  it.each([['hfc-s32-r8', 8], ['hfc-s28-r6', 6]])('equals the released code: %s', (name, radius) => {
    scope(() => {
      const { images, high } = fixture(`golden/${name}`) as { images: Tensor; high: Tensor };
      expect(largestDifference(highFrequency(images, radius), high)).toBeLessThan(1e-6);
      expect(largestDifference(highFrequency(images.to({ dtype: 'float64' }), radius), high)).toBeLessThan(1e-12);
    });
  });

  it('is the definition by complex transforms for any side and radius, and its own derivative', () => {
    scope(() => {
      for (const [side, radius] of [[7, 2], [8, 4], [8, 4.5], [9, 6], [1, 1], [6, 0]] as const) {
        const x = ops.aten.randn([2, side, side], { dtype: 'float64' });
        const middle = Math.floor(side / 2);
        const mask = tensor(Float64Array.from({ length: side * side }, (_, k) =>
          Number(Math.hypot(Math.floor(k / side) - middle, (k % side) - middle) >= radius)), { shape: [side, side] });
        const spectrum = ops.aten.fft_fftshift(ops.aten.fft_fft2(x), [-2, -1]);
        const expected = ops.aten.real(ops.aten.fft_ifft2(ops.aten.fft_ifftshift(ops.aten.mul(spectrum, mask), [-2, -1])));
        expect(largestDifference(highFrequency(x, radius), expected)).toBeLessThan(1e-12);
        x.requiresGrad = true;
        const weights = ops.aten.randn([2, side, side], { dtype: 'float64' });
        ops.aten.sum(ops.aten.mul(highFrequency(x, radius), weights)).backward();
        expect(largestDifference(x.grad!, highFrequency(weights, radius))).toBeLessThan(1e-12);  // a symmetric projection
      }
    });
  });

  it('keeps nothing of a flat image, and refuses what is not square', () => {
    scope(() => {
      expect(ops.aten.amax(ops.aten.abs(highFrequency(ops.aten.ones([1, 3, 32, 32], { dtype: 'float32' })))).item()).toBeLessThan(1e-6);
      expect(() => highFrequency(ops.aten.ones([3, 4], { dtype: 'float32' }))).toThrow('images');
      expect(() => highFrequency(ops.aten.ones([4, 4], { dtype: 'int64' }))).toThrow('images');
      expect(() => highFrequency(ops.aten.ones([4, 4], { dtype: 'float32' }), -1)).toThrow('radius');
    });
  });
});
