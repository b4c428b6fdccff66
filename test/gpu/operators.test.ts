import { augmentChoices, augmentSync, highFrequency, manualSeed, PIPELINES, proceduralDataset, rand, randn, scope, type PipelineName, type Tensor } from 'a-infonce';
import { beforeEach, expect, it } from 'vitest';
import { a_infonce, apart, aten, integers, there } from './device.js';

beforeEach(() => manualSeed(1));
const batch = () => ({ x: rand([5, 3, 17, 17]), grad: randn([5, 3, 17, 17]), samples: integers(5, (i) => 1000 * i + 3) });

it.each(['float32', 'float64'] as const)('steps and starts of PGD in %s are the CPU\'s', (dtype) => {
  scope(() => {
    const { x, grad, samples } = batch(), [images, slope] = [x.to({ dtype }), grad.to({ dtype })];
    for (const clamp of [true, false])
      for (const start of [a_infonce.pgd_start_linf, a_infonce.pgd_start_l2])
        expect(apart(start(there(images), there(samples), 0.3, 7, 2, clamp), start(images, samples, 0.3, 7, 2, clamp))).toBeLessThan(1e-6);
    for (const order of [true, false])
      for (const [step, epsilon, size] of [[a_infonce.pgd_step_linf_, 8 / 255, 2 / 255], [a_infonce.pgd_step_l2_, 0.5, 0.1]] as const)
        expect(apart(step(there(images).clone(), there(slope), there(images), epsilon, size, order), step(images.clone(), slope, images, epsilon, size, order))).toBeLessThan(1e-6);
    const broken = slope.clone();
    aten.fill_(aten.select(broken, 0, 3), NaN);
    expect(() => a_infonce.pgd_step_linf_(there(images).clone(), there(broken), there(images), 0.1, 0.1)).toThrow(expect.objectContaining({ code: 'ERR_NON_FINITE', message: expect.stringContaining('3') }));
  });
});

it('steps of FAB and Square are the CPU\'s', () => {
  scope(() => {
    const { x } = batch(), [z, w, f] = [rand([5, 3, 17, 17]), randn([5, 3, 17, 17]), rand([5])];
    for (const l2 of [true, false]) expect(apart(a_infonce.fab_step_(there(z).clone(), there(x), there(w), there(f), l2), a_infonce.fab_step_(z.clone(), x, w, f, l2))).toBeLessThan(1e-5);
    const uniform = (columns: number) => rand([5, columns]);
    for (const [start, step] of [[a_infonce.square_start_linf, a_infonce.square_step_linf], [a_infonce.square_start_l2, a_infonce.square_step_l2]] as const) {
      // As many random numbers as the operator says that it takes.
      const columns = (call: (u: Tensor) => unknown): number => Number(/(?:\[5, (\d+)\]|(\d+) columns)/.exec(message(() => call(uniform(0))))?.slice(1).find(Boolean));
      const u = uniform(columns((given) => start(x, given, 0.1)));
      const best = start(x, u, 0.1);
      expect(apart(start(there(x), there(u), 0.1), best)).toBeLessThan(1e-6);
      const v = uniform(columns((given) => step(best, x, given, 0.1, 4)));
      expect(apart(step(there(best), there(x), there(v), 0.1, 4), step(best, x, v, 0.1, 4))).toBeLessThan(1e-6);
    }
  });
});

function message(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
}

it.each([...Object.keys(PIPELINES), 'resized'] as const)('views by %s are the CPU\'s', (name) => {
  using data = proceduralDataset({ train: 40, test: 1, size: 24 });
  using train = data.train.to(there(integers(1)).device);
  const pipeline = name === 'resized' ? { size: 40, resizedCrop: { scale: [0.1, 0.9] as const }, flip: 0.5, jitter: { probability: 1, hue: 0.5, contrast: 0.9 } } : (name as PipelineName);
  const rows = [39, 0, 7, 7, 12], drawn = { pipeline, seed: 5, epoch: 3, view: 1 };
  scope(() => {
    expect(apart(augmentChoices(train, rows, drawn), augmentChoices(data.train, rows, drawn))).toBe(0);
    expect(apart(augmentSync(train, rows, drawn), augmentSync(data.train, rows, drawn))).toBeLessThan(2e-5);
    expect(apart(train.gather(rows), data.train.gather(rows))).toBe(0);
  });
});

it('high frequencies are the CPU\'s', () => {
  scope(() => {
    const { x } = batch();
    expect(apart(highFrequency(there(x), 4), highFrequency(x, 4))).toBeLessThan(1e-5);
  });
});
