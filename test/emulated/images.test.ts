// The operators of images and attacks, and the attacks on them, as they are on a CUDA device: the same calls before and after the emulated kernels take the place of the CPU's.
import { apgd, fab, manualSeed, ops, pgd, rand, randn, scope, square, type Tensor } from 'a-infonce';
import { expect, it } from 'vitest';
import { int64, loadNet, reference } from '../attack/fixtures.js';
import { emulatedLibrary } from './build.js';

const { aten, a_infonce } = ops;
const launches = () => (ops as unknown as { a_infonce_emulated: { launches(): number } }).a_infonce_emulated.launches();
const random = <T>(make: () => T): T => {
  manualSeed(1);
  return make();
};

/** Results, and how far they may be apart: 0 where the bits are the same. */
const cases: { name: string; run: () => Tensor | Promise<Tensor>; near: number }[] = [];
for (const dtype of ['float32', 'float64'] as const) {
  const near = dtype === 'float32' ? 2e-7 : 1e-13, epsilon = 0.1;
  const [x, y, grad] = random(() => [rand([5, 3, 9, 7], { dtype }), rand([5, 3, 9, 7], { dtype }), randn([5, 3, 9, 7], { dtype })]);
  const apart = (z: Tensor) => aten.slice(aten.repeat_interleave(z, 2, 3), 3, 0, 14, 2);  // strided
  const layouts: Record<string, (z: Tensor) => Tensor> = { 'dense': (z) => z, 'channels last': (z) => aten.contiguous(z, { memory_format: 'channels_last' }), 'strided': apart };
  const samples = int64([4, 0, 9, 1, 2 ** 40]);
  for (const norm of ['linf', 'l2'] as const) {
    for (const [layout, of] of Object.entries(layouts))
      for (const clampThenProject of [false, true])
        cases.push({
          name: `${norm} step, ${layout}, ${dtype}${clampThenProject ? ', the other order' : ''}`, near: norm === 'linf' ? 0 : near,
          run: () => (norm === 'linf' ? a_infonce.pgd_step_linf_ : a_infonce.pgd_step_l2_)(of(y.clone()), of(grad), of(x), epsilon, 0.05, clampThenProject) as Tensor,
        });
    for (const clamp of [false, true])
      cases.push({ name: `${norm} start, ${dtype}, clamp ${clamp}`, near: norm === 'linf' ? 0 : near, run: () => (norm === 'linf' ? a_infonce.pgd_start_linf : a_infonce.pgd_start_l2)(x, samples, epsilon, 7, 2, clamp) as Tensor });
    cases.push({ name: `fab step, ${norm}, ${dtype}`, near, run: () => a_infonce.fab_step_(y.clone(), x, grad, aten.sum(grad, [1, 2, 3]), norm === 'l2') as Tensor });
  }
  const numbers = random(() => rand([5, 64], { dtype })), u = (count: number) => aten.slice(numbers, 1, 0, count);
  cases.push({ name: `square start, linf, ${dtype}`, near: 0, run: () => a_infonce.square_start_linf(x, u(3 * 7), epsilon) });
  cases.push({ name: `square step, linf, ${dtype}`, near: 0, run: () => a_infonce.square_step_linf(y, x, u(5), epsilon, 4) });
  cases.push({ name: `square start, l2, ${dtype}`, near, run: () => a_infonce.square_start_l2(x, aten.slice(aten.cat([numbers, numbers, numbers, numbers], 1), 1, 0, 9 * 7 * 4), epsilon) });
  cases.push({ name: `square step, l2, ${dtype}`, near, run: () => a_infonce.square_step_l2(y, x, u(8), epsilon, 5) });
}
for (const channels of [1, 3]) {
  const pixels = random(() => aten.randint(0, 256, [6, channels, 20, 13], { dtype: 'uint8' })), indices = int64([3, 3, 0, 5, 1]);
  const drawn = { seed: 3, epoch: 1, view: 0, ratio: [0.75, 4 / 3], padding: 2, flip: 0.5, jitter: [0.4, 0.4, 0.4, 0.1], jitter_probability: 0.8, gray: 0.3 };
  for (const color_first of [false, true]) {
    cases.push({ name: `crops resized, ${channels} channels, color first ${color_first}`, near: 0, run: () => a_infonce.augment(pixels, indices, { ...drawn, size: 17, scale: [0.1, 1], color_first }) });
    cases.push({ name: `crops, ${channels} channels, color first ${color_first}`, near: 0, run: () => a_infonce.augment(pixels, indices, { ...drawn, size: 12, scale: [], color_first }) });
  }
  const choices = () => a_infonce.augment_choices(pixels, indices, { ...drawn, size: 17, scale: [0.1, 1], color_first: false });
  cases.push({ name: `choices applied, ${channels} channels`, near: 0, run: () => a_infonce.augment_apply(pixels, indices, choices(), { size: 17, color_first: false }) });
  cases.push({ name: `no images, ${channels} channels`, near: 0, run: () => a_infonce.augment(pixels, int64([]), { ...drawn, size: 12, scale: [], color_first: false }) });
}

const net = await loadNet(), { images, labels } = reference();
const linf = { epsilon: 0.1, seed: 3 }, l2 = { norm: 'l2', epsilon: 0.7, seed: 3 } as const;
const attacks: [string, () => Promise<Tensor>][] = [
  ['pgd', () => pgd(net, images, labels, { ...linf, stepSize: 0.03, steps: 4, restarts: 2, momentum: 0.9 })], ['pgd, l2', () => pgd(net, images, labels, { ...l2, stepSize: 0.2, steps: 4, batchSize: 5 })],
  ['apgd', () => apgd(net, images, labels, { ...linf, steps: 6 })], ['apgd, l2', () => apgd(net, images, labels, { ...l2, steps: 6, loss: 'dlr' })],
  ['fab', () => fab(net, images, labels, { ...linf, steps: 4, targets: 1, restarts: 2 })], ['fab, l2', () => fab(net, images, labels, { ...l2, steps: 4, targets: 1, restarts: 2 })],
  ['square', () => square(net, images, labels, { ...linf, queries: 12 })], ['square, l2', () => square(net, images, labels, { ...l2, queries: 12 })],
];
for (const [name, run] of attacks) cases.push({ name, near: 1e-9, run });

const evaluated = (run: () => Tensor | Promise<Tensor>) => scope(async () => Float64Array.from((await run()).toTypedArray() as ArrayLike<number>, Number));
const expected: Float64Array[] = [];
for (const { run } of cases) expected.push(await evaluated(run));
process.dlopen({ exports: {} }, emulatedLibrary);

it.each(cases.map((each, index) => ({ ...each, index })))('$name', async ({ run, near, index }) => {
  const before = launches(), found = await evaluated(run), wanted = expected[index]!;
  expect(found.length).toBe(wanted.length);
  expect(found.reduce((most, value, i) => Math.max(most, Math.abs(value - wanted[i]!)), 0)).toBeLessThanOrEqual(near);
  if (found.length > 0) expect(launches()).toBeGreaterThan(before);
});

// What the CPU's tests ask of the operators, and of steps of training that draw noise.
await import('../attack/steps.test.js');
await import('../training/finetune-steps.test.js');
