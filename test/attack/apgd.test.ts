import { readFileSync } from 'node:fs';
import { ArgumentRangeError, apgd, fgsm, keep, mim, ops, pgd, tensor, type ApgdOptions, type AttackModel, type Model, type Tensor } from 'a-infonce';
import { beforeAll, describe, expect, it } from 'vitest';
import { difference, equal, functionNet, int64, largest, loadNet, reference, rows } from './fixtures.js';

const { aten } = ops;
const all = reference();
let net: Model;
beforeAll(async () => {
  net = await loadNet();
});

interface Trace {
  samples: number;
  cases: { norm: 'linf' | 'l2'; loss: 'ce' | 'dlr' | 'dlr-targeted'; epsilon: number; seed: number; losses: number[][]; fooledAt: number[]; last: string }[];
}
const trace = JSON.parse(readFileSync(new URL('../fixtures/attack/apgd.json', import.meta.url), 'utf8')) as Trace;
const images = aten.slice(all.images, 0, 0, trace.samples).clone(), labels = aten.slice(all.labels, 0, 0, trace.samples).clone();
const wanted = Array.from(labels.toTypedArray() as BigInt64Array, Number);

/** The losses of logits [n, classes], from their definitions. */
function losses(loss: Trace['cases'][number]['loss'], logits: Float64Array[], y: number[], target: number[]): number[] {
  return logits.map((z, i) => {
    const sorted = [...z].sort((a, b) => b - a) as [number, number, number, number];
    const own = z[y[i]!]!;
    if (loss === 'ce') return Math.log(z.reduce((sum, value) => sum + Math.exp(value - sorted[0]), 0)) + sorted[0] - own;
    if (loss === 'dlr') return -(own - Math.max(...z.filter((_, k) => k !== y[i]))) / (sorted[0] - sorted[2] + 1e-12);
    return -(own - z[target[i]!]!) / (sorted[0] - (sorted[2] + sorted[3]) / 2 + 1e-12);
  });
}
const second = (z: Float64Array) => [...z.keys()].sort((a, b) => z[b]! - z[a]!)[1]!;

describe('apgd', () => {
  it.each(trace.cases)('goes step for step where the original goes: $norm, $loss', async ({ norm, loss, epsilon, seed, losses: expected, fooledAt, last }) => {
    const model = functionNet(net), seen: Tensor[] = [];
    using adversaries = await apgd((x) => (seen.push(keep(x.clone())), model(x)), images, labels, { norm, loss, epsilon, seed, targets: 1 });
    const clean = rows(net.forward(images)), found = rows(adversaries);
    expect(seen.length).toBe(1 + 101); // the images; the start and 100 steps
    seen.slice(1).forEach((x, step) => {
      const there = wanted.map((_, i) => i).filter((i) => fooledAt[i]! < 0 || fooledAt[i]! >= step);
      const points = rows(x), z = rows(net.forward(x));
      expect(points.length).toBe(there.length);
      const of = losses(loss, z, there.map((i) => wanted[i]!), there.map((i) => second(clean[i]!)));
      there.forEach((i, row) => {
        expect(of[row]).toBeCloseTo(expected[step]![i]!, 7);
        if (fooledAt[i] === step) expect(found[i]).toEqual(points[row]);
        if (step === 100) {
          const end = new Float64Array(new Uint8Array(Buffer.from(last, 'base64')).buffer).subarray(i * points[row]!.length, (i + 1) * points[row]!.length);
          expect(largest(points[row]!.map((value, k) => value - end[k]!))).toBeLessThan(norm === 'l2' ? 1e-6 : 1e-9); // our l2 ball is 2e-10 smaller
        }
      });
    });
    // The samples that stand get their image back.
    fooledAt.forEach((step, i) => step < 0 && expect(found[i]).toEqual(rows(images)[i]));
    expect(fooledAt.some((step) => step < 0) && fooledAt.some((step) => step >= 0)).toBe(true);
  });

  it.each(['linf', 'l2'] as const)('stays in the ball and in [0, 1] exactly, in float32 too: %s', async (norm) => {
    const epsilon = norm === 'linf' ? 0.1 : 0.7;
    const model = functionNet(net), points: Tensor[] = [];
    const single: AttackModel = (x) => {
      points.push(keep(x.clone()));
      return model(x.to({ dtype: 'float64' }));
    };
    const x32 = images.to({ dtype: 'float32' });
    using adversaries = await apgd(single, x32, labels, { norm, epsilon, loss: 'dlr', steps: 10 });
    expect(adversaries.dtype).toBe('float32');
    for (const delta of difference(adversaries, x32)) expect(norm === 'linf' ? largest(delta) : Math.hypot(...delta)).toBeLessThanOrEqual(epsilon);
    for (const x of points) expect(rows(x).every((row) => row.every((value) => value >= 0 && value <= 1))).toBe(true);
    // The start lies on the surface, where the box lets it.
    expect(Math.max(...difference(points[1]!, x32).map((delta) => largest(delta)))).toBeGreaterThan(norm === 'linf' ? 0.0999 : 0.1);
  });

  it('finds the same whatever the batch size, and more with restarts and targets', async () => {
    const fooled = async (options: ApgdOptions) => {
      using adversaries = await apgd(net, all.images, all.labels, options);
      return { adversaries: rows(adversaries), count: (aten.ne(aten.argmax(net.forward(adversaries), 1), all.labels).toTypedArray() as Uint8Array).filter(Boolean).length };
    };
    for (const loss of ['ce', 'dlr', 'dlr-targeted'] as const) {
      const one = await fooled({ loss, epsilon: 0.03, steps: 10, restarts: 2 });
      const small = await fooled({ loss, epsilon: 0.03, steps: 10, restarts: 2, batchSize: 3 });
      one.adversaries.forEach((row, i) => expect(largest(row.map((value, k) => value - small.adversaries[i]![k]!))).toBeLessThan(1e-12));
      expect((await fooled({ loss, epsilon: 0.03, steps: 10 })).count).toBeLessThanOrEqual(one.count);
    }
    const targets = [await fooled({ loss: 'dlr-targeted', epsilon: 0.03, targets: 1 }), await fooled({ loss: 'dlr-targeted', epsilon: 0.03, targets: 9 })];
    expect(targets[0]!.count).toBeLessThanOrEqual(targets[1]!.count);
    expect(targets[0]!.count).toBeGreaterThan(0);
  });

  it('leaves alone what is classified wrong already, and gives images back for epsilon 0', async () => {
    const wrong = int64(wanted.map((label, i) => (i === 3 ? (label + 1) % 4 : label)));
    using adversaries = await apgd(net, images, wrong, { epsilon: 0.3, steps: 3 });
    expect(rows(adversaries)[3]).toEqual(rows(images)[3]);
    expect(largest(difference(adversaries, images)[2]!)).toBeGreaterThan(0.01);
    using same = await apgd(net, images, labels, { epsilon: 0, steps: 3 });
    expect(equal(same, images)).toBe(true);
  });

  it('names bad arguments and samples', async () => {
    const three: AttackModel = (x) => aten.slice(functionNet(net)(x), 1, 0, 3), two: AttackModel = (x) => aten.slice(functionNet(net)(x), 1, 0, 2);
    const zero = int64(wanted.map(() => 0));
    await expect(apgd(three, images, zero, { loss: 'dlr-targeted' })).rejects.toThrow('model: expected at least 4 classes');
    await expect(apgd(two, images, zero, { loss: 'dlr' })).rejects.toThrow('model: expected at least 3 classes');
    await expect(apgd(two, images, labels)).rejects.toThrow('labels: expected classes from 0 to 1');
    await expect(apgd(net, images, labels, { loss: 'margin' as never })).rejects.toMatchObject({ argument: 'options.loss' });
    await expect(apgd(net, images, labels, { rho: 1.5 })).rejects.toBeInstanceOf(ArgumentRangeError);
    await expect(apgd(net, images, labels, { stepSize: 0.1 } as never)).rejects.toMatchObject({ argument: 'options.stepSize' });
    const broken = tensor(Float64Array.from(wanted, (_, i) => (i === 5 ? NaN : 1)), { shape: [wanted.length, 1] });
    await expect(apgd((x) => aten.mul(functionNet(net)(x), broken), images, labels)).rejects.toThrow('logits of sample 5 are NaN');
    const controller = new AbortController(), reason = new Error('enough');
    setTimeout(() => controller.abort(reason), 20);
    await expect(apgd(net, images, labels, { steps: 1e6, epsilon: 1e-6, signal: controller.signal })).rejects.toBe(reason);
  });
});

describe('fgsm and mim', () => {
  it.each(['linf', 'l2'] as const)('are one long step, and steps along the accumulated direction: %s', async (norm) => {
    const epsilon = 0.05, steps = 4, momentum = 0.7;
    const model = functionNet(net);
    const gradient = (x: Tensor) => {
      const leaf = x.detach();
      leaf.requiresGrad = true;
      aten.cross_entropy_loss(model(leaf), labels, null, 2).backward();
      return rows(leaf.grad!);
    };
    const normed = (g: Float64Array) => (norm === 'linf' ? g.map(Math.sign) : g.map((value) => value / Math.hypot(...g)));
    const x0 = rows(images);
    const project = (x: Float64Array[]) => x.map((row, i) => {
      const delta = row.map((value, k) => value - x0[i]![k]!), length = Math.hypot(...delta);
      return row.map((_, k) => Math.min(1, Math.max(0, x0[i]![k]! + (norm === 'linf' ? Math.min(epsilon, Math.max(-epsilon, delta[k]!)) : delta[k]! * Math.min(1, epsilon / length)))));
    });
    const packed = (x: Float64Array[]) => tensor(Float64Array.from(x.flatMap((row) => [...row])), { shape: [...images.shape] });
    const along = (x: Float64Array[], direction: Float64Array[], size: number) => project(x.map((row, i) => {
      const d = normed(direction[i]!);
      return row.map((value, k) => value + size * d[k]!);
    }));

    using fast = await fgsm(net, images, labels, { norm, epsilon });
    along(x0, gradient(images), epsilon).forEach((row, i) => expect(largest(row.map((value, k) => value - rows(fast)[i]![k]!))).toBeLessThan(1e-9));

    let x = x0, direction = x0.map((row) => row.map(() => 0));
    for (let step = 0; step < steps; step++) {
      const g = gradient(packed(x));
      direction = direction.map((d, i) => {
        const l1 = g[i]!.reduce((sum, value) => sum + Math.abs(value), 0);
        return d.map((value, k) => momentum * value + g[i]![k]! / l1);
      });
      x = along(x, direction, epsilon / steps);
    }
    using iterated = await mim(net, images, labels, { norm, epsilon, steps, momentum });
    x.forEach((row, i) => expect(largest(row.map((value, k) => value - rows(iterated)[i]![k]!))).toBeLessThan(1e-9));
    using plain = await pgd(net, images, labels, { norm, epsilon, steps, stepSize: epsilon / steps, randomStart: false });
    using without = await mim(net, images, labels, { norm, epsilon, steps, momentum: 0 });
    expect(equal(plain, without)).toBe(true);
    expect(equal(plain, iterated)).toBe(false);
  });
});
