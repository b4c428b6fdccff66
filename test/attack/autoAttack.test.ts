import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  ArgumentRangeError, FileError, apgd, autoAttack, evaluate, fab, loadTorchScript, memory, noGrad, ops, readSafetensors, scope, square, tensor, writeSafetensors,
  type AttackModel, type AutoAttackOptions, type AutoAttackProgress, type AutoAttackReport, type EvaluationData, type Model, type Tensor,
} from 'a-infonce';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runLabelled } from '../../src/attack/attack.js';
import { runAutoAttack } from '../../src/attack/autoAttack.js';
import { namedAttack, type NamedAttack } from '../../src/attack/named.js';
import { difference, functionNet, int64, largest, loadNet, mislabelled, rows } from './fixtures.js';
import { live } from '../fixtures/live.js';

const { aten } = ops;
const { images, wrongly, data } = mislabelled();
const folder = mkdtempSync(join(tmpdir(), 'a-infonce-autoattack-'));
afterAll(() => rmSync(folder, { recursive: true }));
let net: Model;
beforeAll(async () => {
  net = await loadNet();
});
const comparable = ({ attacks, secondsPerImage: _, adversaries: __, settings, ...rest }: AutoAttackReport) =>
  ({ ...rest, attacks: attacks.map(({ attack, attacked, broken, accuracy }) => ({ attack, attacked, broken, accuracy })), epsilon: settings.epsilon });

// Small enough that some samples stand.
const epsilon = 0.02;

/** AutoAttack with fewer steps, for what does not depend on their number. */
const short = (model: AttackModel, from: EvaluationData, options: AutoAttackOptions) => runAutoAttack(model, from, options, (name, given): NamedAttack => {
  const { settings } = namedAttack(name, given, 'name');
  const fewer = settings.attack === 'apgd' ? { ...settings, steps: 4 } : settings.attack === 'fab' ? { ...settings, steps: 3 } : settings.attack === 'square' ? { ...settings, queries: 30 } : undefined;
  if (fewer === undefined) throw new Error(name);
  return { settings: fewer, run: (net, x, y, samples, watch) => runLabelled(net, x, y, fewer, watch, samples) };
});

describe('autoAttack', () => {
  it('counts progress up to the end, and leaves nothing behind', async () => {
    const before = await live();
    const shares: number[] = [];
    await short(net, data, { epsilon, batchSize: 4, onProgress: ({ share, done, total, standing }) => {
      shares.push(share);
      expect(done).toBeLessThanOrEqual(total);
      expect(standing).toBeLessThanOrEqual(16);
    } });
    expect(shares).toEqual([...shares].sort((a, b) => a - b));
    expect(shares.at(-1)).toBe(1);
    expect(memory()).toEqual(before);
  });

  it('is the four attacks one after the other, each on what stands, and keeps count of who broke what', async () => {
    const report = await short(net, data, { epsilon, seed: 3, keepAdversaries: true });
    const label = wrongly.toTypedArray() as BigInt64Array;
    const predicted = (x: Tensor) => aten.argmax(net.forward(x), 1).toTypedArray() as BigInt64Array;
    const clean = predicted(images);
    const brokenBy: AutoAttackReport['brokenBy'] = Array.from(clean, (value, i) => (value === label[i] ? null : 'clean'));
    for (const [name, attack] of [
      ['apgd-ce', () => apgd(net, images, wrongly, { epsilon, seed: 3, steps: 4 })],
      ['apgd-t', () => apgd(net, images, wrongly, { epsilon, seed: 3, steps: 4, loss: 'dlr-targeted' })],
      ['fab-t', () => fab(net, images, wrongly, { epsilon, seed: 3, steps: 3 })],
      ['square', () => square(net, images, wrongly, { epsilon, seed: 3, queries: 30, rescaleSchedule: false })],
    ] as const) {
      using adversaries = await attack();
      const found = predicted(adversaries);
      brokenBy.forEach((by, i) => by === null && found[i] !== label[i] && (brokenBy[i] = name));
    }
    expect(report.brokenBy).toEqual(brokenBy);
    const standing = brokenBy.filter((by) => by === null).length;
    expect(standing).toBeGreaterThan(0);
    expect(standing).toBeLessThan(14);
    expect(report).toMatchObject({ correct: standing, total: 16, accuracy: standing / 16, clean: { correct: 14, accuracy: 14 / 16 } });
    let left = 14;
    for (const step of report.attacks) {
      expect(step.attacked).toBe(left);
      expect(step.broken).toBe(brokenBy.filter((by) => by === step.attack).length);
      left -= step.broken;
      expect(step.accuracy).toBe(left / 16);
      expect(step.settings).toMatchObject({ norm: 'linf', epsilon, seed: 3 });
    }
    expect(report.secondsPerImage).toBeCloseTo(report.attacks.reduce((sum, { seconds }) => sum + seconds, 0) / 16, 10);
    // The adversaries: broken where it says so, within the ball, the image elsewhere.
    using adversaries = report.adversaries!;
    const found = predicted(adversaries), delta = difference(adversaries, images);
    brokenBy.forEach((by, i) => {
      expect(largest(delta[i]!)).toBeLessThanOrEqual(epsilon);
      if (by === null || by === 'clean') expect(rows(adversaries)[i]).toEqual(rows(images)[i]);
      else expect(found[i]).not.toBe(label[i]);
    });
  });

  it('says the same whatever the batch size, of function models too', async () => {
    const expected = comparable(await short(net, data, { epsilon }));
    expect(new Set(expected.brokenBy).size).toBeGreaterThan(2);
    expect(comparable(await short(net, data, { epsilon, batchSize: 5 }))).toEqual(expected);
    expect(comparable(await short(functionNet(net), data, { epsilon }))).toEqual(expected);
  });

  it('takes tensors, and is an attack of evaluate', async () => {
    const limit = 5, large = 0.1; // nothing stands
    const report = await autoAttack(net, images, wrongly, { epsilon: large, limit });
    expect(report).toMatchObject({ correct: 0, total: limit, clean: { correct: 4 } });
    expect(report.attacks.map(({ attack }) => attack)).toEqual(['apgd-ce', 'apgd-t', 'fab-t', 'square']);
    expect(report.attacks.map(({ settings }) => settings)).toMatchObject([
      { attack: 'apgd', loss: 'ce', steps: 100, restarts: 1, rho: 0.75 }, { attack: 'apgd', loss: 'dlr-targeted', steps: 100, targets: 9 },
      { attack: 'fab', steps: 100, targets: 9, restarts: 1 }, { attack: 'square', queries: 5000, pInit: 0.8, rescaleSchedule: false },
    ]);
    const { clean, autoattack } = await evaluate(net, data, { attacks: ['clean', 'autoattack'], epsilon: large, limit });
    expect([clean.correct, autoattack.correct, autoattack.total]).toEqual([4, 0, limit]);
    expect(autoattack.settings).toMatchObject({ attack: 'autoattack', version: 'standard', norm: 'linf', epsilon: large, attacks: [{ attack: 'apgd' }, { attack: 'apgd' }, { attack: 'fab' }, { attack: 'square' }] });
    expect(autoattack.autoAttack!.brokenBy).toEqual(report.brokenBy);
  });

  it('gives the clean accuracy for epsilon 0, and less in larger balls', async () => {
    const robust = async (options: AutoAttackOptions) => (await short(net, data, options)).correct;
    expect(await robust({ epsilon: 0 })).toBe(14);
    const by = [await robust({ epsilon: 0.01 }), await robust({ epsilon: 0.02 }), await robust({ epsilon: 0.1 })];
    expect(by).toEqual([...by].sort((a, b) => b - a));
    expect(by[2]).toBe(0);
    expect((await short(net, data, { norm: 'l2' })).settings).toMatchObject({ norm: 'l2', epsilon: 0.5 });
  });

  it('goes on where it was stopped, to the same end', async () => {
    const state = join(folder, 'state.safetensors'), options = { epsilon, batchSize: 4, state, keepAdversaries: true } as const;
    const whole = await short(net, data, { ...options, state: undefined });
    for (const attack of ['apgd-ce', 'apgd-t', 'fab-t', 'square'] as const) {
      const controller = new AbortController(), reason = new Error('enough');
      const until = ({ attack: now, done }: AutoAttackProgress) => now === attack && done > 2 && controller.abort(reason);
      await expect(short(net, data, { ...options, signal: controller.signal, onProgress: until })).rejects.toBe(reason);
    }
    const seen = new Set<string>();
    const resumed = await short(net, data, { ...options, onProgress: ({ attack }) => seen.add(attack) });
    expect([...seen]).toEqual(['clean', 'square']);
    expect(comparable(resumed)).toEqual(comparable(whole));
    rows(resumed.adversaries!).forEach((row, i) => expect(row).toEqual(rows(whole.adversaries!)[i]));
    // And a finished one costs nothing.
    const again = await short(net, data, { ...options, batchSize: 16, onProgress: ({ attack }) => expect(attack).toBe('clean') });
    expect(comparable(again)).toEqual(comparable(whole));
    expect(again.secondsPerImage).toBe(resumed.secondsPerImage);
    [whole, resumed, again].forEach(({ adversaries }) => adversaries!.dispose());
  });

  it('refuses a state of another model, other data or settings, and files that are none', async () => {
    const state = join(folder, 'other.safetensors'), options = { epsilon: 0.1, limit: 6, state } as const;
    await short(net, data, options);
    const refused = async (message: string, run: Promise<unknown>) => {
      await expect(run).rejects.toBeInstanceOf(FileError);
      await expect(run).rejects.toThrow(message);
    };
    await refused('with other settings', short(net, data, { ...options, seed: 1 }));
    await refused('with other settings', short(net, data, { ...options, limit: 5 }));
    await refused('on other data', short(net, { ...data, images: (start, end) => aten.mul(aten.slice(images, 0, start, end), 0.5) }, options));
    using other = await loadNet();
    noGrad(() => aten.add_(other.state().get('5.bias')!, 1e-6));
    await refused('of another model', short(other, data, options));
    await writeSafetensors(state, [['broken', wrongly]]);
    await refused('not the state', short(net, data, options));
    await refused('cannot be written', short(net, data, { ...options, state: join(folder, 'no', 'such') }));
  });

  it('keeps apart programs with the same tensors and predictions, and asks a name of a function', () => scope(async () => {
    const state = join(folder, 'programs.safetensors'), options = { epsilon, limit: 4, state } as const;
    const masked = (await loadTorchScript(fileURLToPath(new URL('../fixtures/attack/rounding.pt', import.meta.url)))).eval();
    using model = masked;
    const tensors = (of: Model) => [...of.state()].map(([name, value]) => [name, value.toArray()]);
    expect(tensors(model)).toEqual(tensors(net));
    expect(aten.argmax(model.forward(images), 1).toArray()).toEqual(aten.argmax(net.forward(images), 1).toArray());
    await short(model, data, options);
    await expect(short(net, data, options)).rejects.toThrow('of another model');
    rmSync(state);
    const run = (stateKey?: string) => short(functionNet(net), data, { ...options, stateKey: stateKey as string });
    await expect(run()).rejects.toMatchObject({ argument: 'options.stateKey' });
    const report = await run('plain');
    expect(comparable(await run('plain'))).toEqual(comparable(report));
    await expect(run('other')).rejects.toThrow('of another model');
  }));

  it('refuses states that cannot be', () => scope(async () => {
    const state = join(folder, 'contents.safetensors'), options = { epsilon, limit: 6, state, keepAdversaries: true } as const;
    (await short(net, data, options)).adversaries!.dispose();
    const { tensors, metadata } = await readSafetensors(state);
    const key = 'a_infonce.autoattack', kept = JSON.parse(metadata[key]!) as Record<string, unknown>;
    const broken = Uint8Array.from(tensors.get('broken')!.toTypedArray() as Uint8Array), adversaries = tensors.get('adversaries')!;
    const refused = async (message: string, change: { broken?: Uint8Array; adversaries?: Tensor | null; position?: object | string }) => {
      const own = change.adversaries === undefined ? adversaries : change.adversaries;
      const position = typeof change.position === 'string' ? change.position : JSON.stringify({ ...kept, ...change.position });
      await writeSafetensors(state, [['broken', tensor(change.broken ?? broken)], ...(own ? [['adversaries', own] as const] : [])], { [key]: position });
      const run = short(net, data, options);
      await expect(run).rejects.toBeInstanceOf(FileError);
      await expect(run).rejects.toThrow(message);
    };
    await refused('not the state', { position: '{' });
    await refused('not the state', { position: { settings: '[' } });
    await refused('by version 0.0.0', { position: { version: '0.0.0' } });
    await refused('it is of 5 samples, not 6', { broken: broken.slice(0, 5) });
    await refused('sample 0 cannot be 9', { broken: broken.with(0, 9) });
    await refused('sample 0 cannot be 1', { broken: broken.with(0, 1) });
    await refused('sample 2 cannot be 0', { broken: broken.with(2, 0) });
    await refused('it counts more than 6 samples', { position: { attacked: [7, 0, 0, 0] } });
    await refused('its adversaries are missing', { adversaries: null });
    await refused('its adversaries are float32', { adversaries: adversaries.to({ dtype: 'float32' }) });
    await refused('its adversaries are float64 [5', { adversaries: aten.slice(adversaries, 0, 0, 5).clone() });
    await refused('the adversary of sample 3 is not in the ball', { adversaries: aten.index_fill(adversaries, 0, int64([3]), NaN) });
  }));

  it('believes no attack: adversaries outside of the ball are refused, ties that turn with the batch size break nothing', () => scope(async () => {
    const stub = (run: NamedAttack['run']) => (name: Parameters<typeof namedAttack>[0] & string, given: object): NamedAttack => ({ settings: namedAttack(name, given, 'name').settings, run });
    // Samples 2 and 9 are wrong without an attack: the second of those attacked that goes astray is sample 3.
    const astray = stub((_, x) => Promise.resolve(aten.index_copy(x, 0, int64([2]), aten.index_select(aten.sub(x, 2 * epsilon), 0, int64([2])))));
    await expect(runAutoAttack(net, data, { epsilon }, astray)).rejects.toThrow('apgd-ce: the adversary of sample 3 is not in the ball');
    // All of class 0; sample 15 is wrong, so that batches have another size under attack, where all of them turn.
    const tie = (x: Tensor) => {
      const tilt = x.shape[0] === 16 ? 1e-9 : -1e-9, zero = aten.mul(aten.sum(aten.flatten(x, 1), [1], true), 0);
      const right = aten.add(zero, tensor(Array.from({ length: 16 }, (_, i) => (i === 15 ? -1 : tilt)).slice(0, x.shape[0]), { dtype: 'float64', shape: [x.shape[0]!, 1] }));
      return aten.cat([right, zero, aten.sub(zero, 1), aten.sub(zero, 1)], 1);
    };
    const same = { ...data, labels: (start: number, end: number) => int64(Array<number>(end - start).fill(0)) };
    const { brokenBy } = await runAutoAttack(tie, same, { epsilon }, stub((_, x) => Promise.resolve(x.clone())));
    expect(brokenBy).toEqual(Array.from({ length: 16 }, (_, i) => (i === 15 ? 'clean' : null)));
  }));

  it('warns of what makes its result doubtful', () => scope(async () => {
    const plain = functionNet(net), warnings = async (model: AttackModel) => (await short(model, data, { epsilon })).warnings;
    expect(await warnings(net)).toEqual([]);
    let calls = 0;
    expect(await warnings((x) => aten.mul(plain(x), 1 + (calls++ % 2) / 100))).toEqual([expect.stringContaining('Two forward passes')]);
    expect(await warnings((x) => aten.softmax(plain(x), 1))).toContainEqual(expect.stringContaining('probabilities'));
    // Steps of a staircase: no gradient anywhere, but windows of Square climb them.
    const stairs = (x: Tensor) => aten.add(plain(aten.div(aten.round(aten.mul(x, 64)), 64)), aten.mul(aten.sum(aten.flatten(x, 1), [1], true), 0));
    const found = await short(stairs, data, { epsilon: 0.1 });
    expect(found.warnings).toEqual([expect.stringMatching(/no gradient at 14 of 14 images/), expect.stringMatching(/^Square broke \d+ of 16 samples/)]);
    expect(found.brokenBy.filter((by) => by === 'square').length).toBeGreaterThan(0);
  }));

  it('names bad arguments', async () => {
    const three: AttackModel = (x) => aten.slice(functionNet(net)(x), 1, 0, 3);
    await expect(autoAttack(three, { ...data, labels: (start, end) => int64(Array(end - start).fill(0)) })).rejects.toThrow('model: expected at least 4 classes');
    for (const [argument, options] of [['options.version', { version: 'plus' }], ['options.epsilon', { epsilon: 8 }], ['options.limit', { limit: 0 }], ['options.steps', { steps: 3 }]] as const)
      await expect(autoAttack(net, data, options as never)).rejects.toMatchObject({ argument });
    await expect(autoAttack(net, images, aten.slice(wrongly, 0, 0, 3))).rejects.toBeInstanceOf(ArgumentRangeError);
    await expect(evaluate(net, data, { attacks: ['clean'], state: 'x' })).rejects.toMatchObject({ argument: 'options.state' });
    for (const [attack, option, value] of [['fgsm', 'restarts', 2], ['mim5', 'stepSize', 0.01], ['apgd-ce', 'stepSize', 0.01], ['square', 'randomStart', false], ['cw', 'restarts', 2], ['autoattack', 'restarts', 2]] as const)
      await expect(evaluate(net, data, { attacks: ['clean', attack], norm: 'l2', [option]: value })).rejects.toMatchObject({ argument: `options.${option}`, message: expect.stringContaining(`'${attack}' has none`) as string });
    const shared = await evaluate(net, data, { attacks: ['fgsm', 'pgd2'], restarts: 2, stepSize: 0.01 });
    expect([shared.fgsm.settings, shared.pgd2.settings]).toMatchObject([{ restarts: 1, stepSize: 8 / 255 }, { restarts: 2, stepSize: 0.01 }]);
    await expect(evaluate(net, data, { attacks: ['cw'] })).rejects.toMatchObject({ argument: 'options.norm' });
    await expect(evaluate(net, data, { attacks: ['apgd' as never] })).rejects.toMatchObject({ argument: 'options.attacks[0]' });
  });
});
