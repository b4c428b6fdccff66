import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ArgumentRangeError, ArgumentTypeError, corrupt, CORRUPTIONS, getThreads, ops, proceduralDataset, readNpy, setThreads, SEVERITIES, tensor, type CorruptionName,
  type Severity, type Tensor,
} from 'a-infonce';

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}.npy`, import.meta.url));
const bytes = (values: Tensor) => values.toTypedArray() as Uint8Array;
/** n images [channels, height, width] of one value. */
const flat = (value: number, n: number, channels = 3, height = 32, width = 32) =>
  tensor(new Uint8Array(n * channels * height * width).fill(value), { shape: [n, channels, height, width] });
const moments = (values: Uint8Array) => {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, deviation: Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length) };
};

describe('the corruptions', () => {
  let image: Tensor;
  let reference: Uint8Array;
  beforeAll(async () => {
    image = tensor((await readNpy(fixture('corruption-image'))).data as Uint8Array, { shape: [1, 3, 32, 32] });
    reference = (await readNpy(fixture('corruption-reference'))).data as Uint8Array;
  });
  // Made by SciPy, scikit-image, OpenCV and Pillow from the same random numbers: see make_corruption_reference.py.
  it.each(CORRUPTIONS.filter((type) => type !== 'frost').map((type, at) => [type, at] as const))('%s is what the libraries of CIFAR-10-C make', async (type, at) => {
    for (const severity of SEVERITIES) {
      using made = await corrupt(image, { type, severity, seed: 7, first: 5 });
      const expected = reference.subarray((at * 5 + severity - 1) * 3072, (at * 5 + severity) * 3072);
      const apart = bytes(made).map((value, i) => Math.abs(value - expected[i]!)).filter((difference) => difference > 0);
      // Rounding down turns the last bit of a double into a byte now and then.
      expect(Math.max(0, ...apart)).toBeLessThanOrEqual(1);
      expect(apart.length).toBeLessThanOrEqual(10);
      expect(bytes(made).some((value, i) => value !== bytes(image)[i])).toBe(true);
    }
  });

  const noise: Record<'gaussian-noise' | 'shot-noise', (severity: Severity, value: number) => number> = {
    'gaussian-noise': (severity) => [0.04, 0.06, 0.08, 0.09, 0.1][severity - 1]!,
    'shot-noise': (severity, value) => Math.sqrt(value / 255 / [500, 250, 100, 75, 50][severity - 1]!),
  };
  it.each(['gaussian-noise', 'shot-noise'] as const)('%s has the spread of its law', async (type) => {
    for (const severity of SEVERITIES) for (const value of [90, 130]) {
      using images = flat(value, 40);
      using made = await corrupt(images, { type, severity, seed: severity });
      const { mean, deviation } = moments(bytes(made));
      expect(Math.abs(mean + 0.5 - value)).toBeLessThan(0.6);  // rounded down: half a byte darker
      expect(deviation / 255).toBeCloseTo(noise[type](severity, value), 2.5);
    }
  });

  it('impulse noise makes the given share of the samples black or white, as often the one as the other', async () => {
    using images = flat(90, 40);
    for (const severity of SEVERITIES) {
      using made = await corrupt(images, { type: 'impulse-noise', severity });
      const [black, white] = [0, 255].map((value) => bytes(made).filter((each) => each === value).length / (40 * 3072)) as [number, number];
      const share = [0.01, 0.02, 0.03, 0.05, 0.07][severity - 1]! / 2;
      const spread = 5 * Math.sqrt(share / (40 * 3072));
      expect(Math.abs(black - share)).toBeLessThan(spread);
      expect(Math.abs(white - share)).toBeLessThan(spread);
      expect(bytes(made).filter((each) => each !== 0 && each !== 255).every((each) => each === 90)).toBe(true);
    }
  });

  it('frost lays a bluish texture over the image, of the weight of its severity and another for each image', async () => {
    using images = flat(0, 20);
    for (const severity of SEVERITIES) {
      using made = await corrupt(images, { type: 'frost', severity });
      const ice = bytes(made), weight = [0.2, 0.3, 0.4, 0.4, 0.45][severity - 1]!;
      const [red, , blue] = [0, 1, 2].map((c) => moments(ice.filter((_, i) => Math.floor(i / 1024) % 3 === c)));
      expect(Math.max(...ice)).toBe(Math.floor(weight * 255));  // the brightest needle of every image
      expect(blue!.mean).toBeGreaterThan(red!.mean + 10 * weight);
      expect(red!.deviation).toBeGreaterThan(25 * weight);
      expect(Buffer.compare(ice.subarray(0, 3072), ice.subarray(3072, 6144))).not.toBe(0);
    }
    using light = flat(200, 1);
    using lit = await corrupt(light, { type: 'frost', severity: 5 });
    expect(Math.min(...bytes(lit))).toBeGreaterThan(0.75 * 200);
  });

  it.each(['defocus-blur', 'motion-blur', 'contrast', 'pixelate', 'impulse-noise'] as const)('%s leaves a flat image flat', async (type) => {
    for (const value of [0, 1, 77, 254, 255]) {
      using images = flat(value, 1);
      using made = await corrupt(images, { type, severity: 4 });
      const others = bytes(made).filter((each) => each !== value);
      expect(others.every((each) => type === 'impulse-noise' && (each === 0 || each === 255))).toBe(true);
    }
  });

  it.each(['defocus-blur', 'glass-blur', 'motion-blur', 'zoom-blur', 'snow', 'fog', 'brightness', 'contrast', 'elastic-transform', 'pixelate', 'jpeg-compression'] as const)(
    '%s makes of a gray image what it makes of the same image in color', async (type) => {
      using gray = ops.aten.slice(image, 1, 0, 1).clone();
      using color = gray.clone();
      using three = ops.aten.cat([color, color, color], 1);
      for (const severity of [1, 5] as const) {
        using one = await corrupt(gray, { type, severity });
        using all = await corrupt(three, { type, severity });
        expect(one.shape).toEqual([1, 1, 32, 32]);
        const apart = bytes(one).map((value, i) => Math.abs(value - bytes(all)[i]!));
        expect(Math.max(...apart)).toBeLessThanOrEqual(1);
      }
    });

  it('takes images of any size', async () => {
    for (const [height, width] of [[8, 8], [9, 13], [40, 24], [65, 33]] as const)
      for (const type of CORRUPTIONS) for (const severity of [1, 5] as const) for (const channels of [1, 3]) {
        using images = flat(128, 2, channels, height, width);
        using made = await corrupt(images, { type, severity });
        expect([type, made.dtype, made.shape]).toEqual([type, 'uint8', [2, channels, height, width]]);
        if (type !== 'frost' && type !== 'snow' && type !== 'fog') expect(Math.abs(moments(bytes(made)).mean - 128)).toBeLessThan(type === 'brightness' ? 90 : 30);
      }
  });
});

describe('corrupt', () => {
  const threads = getThreads();
  afterAll(() => setThreads(threads));

  it('depends on seed, row, type and severity alone: not on the batch or the threads', async () => {
    using data = proceduralDataset({ train: 10, test: 40 });
    const one = async (type: CorruptionName, seed: number) => bytes((await corrupt(data.test, { type, severity: 3, seed })).pixels);
    for (const type of CORRUPTIONS) {
      setThreads(1);
      const whole = await one(type, 1);
      setThreads(2);
      expect(Buffer.compare(await one(type, 1), whole)).toBe(0);
      using part = ops.aten.slice(data.test.pixels, 0, 17, 23).clone();
      using again = await corrupt(part, { type, severity: 3, seed: 1, first: 17 });
      expect(Buffer.compare(bytes(again), whole.subarray(17 * 3072, 23 * 3072))).toBe(0);
      const fixed = ['defocus-blur', 'zoom-blur', 'brightness', 'contrast', 'pixelate', 'jpeg-compression'].includes(type);
      expect([type, Buffer.compare(await one(type, 2), whole) === 0]).toEqual([type, fixed]);
    }
  });

  it('gives a split for a split and floats for floats', async () => {
    using data = proceduralDataset({ train: 10, test: 12 });
    using made = await corrupt(data.test, { type: 'fog', severity: 2, seed: 3 });
    expect([made.length, made.channels, made.size]).toEqual([12, 3, 32]);
    expect(made.labels().toTypedArray()).toEqual(data.test.labels().toTypedArray());
    using floats = await corrupt(data.test.images(), { type: 'fog', severity: 2, seed: 3 });
    expect(floats.dtype).toBe('float32');
    expect(floats.toTypedArray()).toEqual(made.images().toTypedArray());
    using none = await corrupt(data.test.images(0, 0), { type: 'fog', severity: 2 });
    expect(none.shape).toEqual([0, 3, 32, 32]);
  });

  it('refuses what it cannot take, by name', async () => {
    using images = flat(1, 1);
    const failure = async (value: unknown, options: object) => corrupt(value as Tensor, options as never).then(() => undefined, (error: unknown) => error);
    const message = async (value: unknown, options: object) => String(await failure(value, options));
    const good = { type: 'fog', severity: 1 };
    expect(await message(images, { ...good, type: 'rain' })).toContain('options.type: expected one of \'gaussian-noise\'');
    expect(await message(images, { ...good, type: 'speckle-noise' })).toContain('options.type');
    expect(await failure(images, { severity: 1 })).toBeInstanceOf(ArgumentTypeError);
    expect(await message(images, { ...good, severity: 6 })).toContain('options.severity: expected an integer from 1 to 5, got 6');
    expect(await message(images, { ...good, severity: 0 })).toContain('options.severity');
    expect(await message(images, { ...good, seed: -1 })).toContain('options.seed');
    expect(await message(images, { ...good, first: 0.5 })).toContain('options.first');
    expect(await message(images, { ...good, strength: 2 })).toContain('options.strength');
    expect(await failure([1], good)).toBeInstanceOf(ArgumentTypeError);
    expect(await message(flat(1, 1, 2), good)).toContain('images: expected shape [images, 1 or 3, height, width]');
    expect(await failure(flat(1, 1, 3, 7, 32), good)).toBeInstanceOf(ArgumentRangeError);
    expect(await message(tensor([1, 2]), good)).toContain('images');
    expect(await message(images.to({ dtype: 'int64' }), good)).toContain('images');
    for (const value of [-0.1, 1.5, NaN]) expect(await message(ops.aten.full([1, 3, 8, 8], value), good)).toContain('values from 0 to 1');
  });

  it.each(['zoom-blur', 'jpeg-compression'] as const)('stops %s when told to', async (type) => {
    using images = flat(100, 4000);
    const early = new AbortController();
    early.abort(new Error('before'));
    await expect(corrupt(images, { type, severity: 5, signal: early.signal })).rejects.toThrow('before');
    const late = new AbortController();
    const running = corrupt(images, { type, severity: 5, signal: late.signal });
    setTimeout(() => late.abort(new Error('meanwhile')), 20);
    await expect(running).rejects.toThrow('meanwhile');
  });
});
