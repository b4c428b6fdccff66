import { ArgumentRangeError, ArgumentTypeError, Classifier, Encoder, memory, ops, rand, scope, type Tensor } from 'a-infonce';
import { describe, expect, test as unscoped } from 'vitest';
import { equal, expectClose, reference, test } from './fixtures.js';
import { live } from '../fixtures/live.js';

describe('against PyTorch', () => {
  test('ResNet-18, CIFAR stem, under the names of RoCL: eval, gradient, train, running statistics', async () => {
    const { state, test: stored, after } = await reference('rocl-resnet18.safetensors');
    const encoder = Encoder.create({ width: 4, seed: 3 }).eval();
    expect(encoder.featureDim).toBe(32);
    expect(encoder.loadState(state)).toEqual({ missing: [], unexpected: [] });

    const images = stored('input').detach();
    images.requiresGrad = true;
    const features = encoder.forward(images);
    expectClose(features, stored('eval'));
    ops.aten.sum(ops.aten.mul(features, features)).backward();
    expectClose(images.grad!, stored('grad'), 2e-5);

    expectClose(encoder.train().forward(images), stored('train'), 1e-5);
    const own = encoder.state();
    for (const [name, tensor] of after) {
      const mine = own.get(`encoder.${name.replace('module.', '').replace('shortcut', 'downsample')}`)!;
      if (tensor.dtype === 'int64') expect(mine.item()).toBe(tensor.item());
      else expectClose(mine, tensor, 1e-5);
    }
    expect(after.length).toBe(60);
  });

  test('torchvision stem and names', async () => {
    const { state, test: stored } = await reference('torchvision-resnet18.safetensors');
    const encoder = Encoder.create({ width: 4, stem: 'imagenet' }).eval();
    encoder.loadState(state);
    expectClose(encoder.forward(stored('input')), stored('eval'));
    const classifier = Classifier.create({ encoder, classes: 7 });
    classifier.loadState(state);
    expectClose(classifier.forward(stored('input')), stored('logits'));
    expect(classifier.predict(stored('input'))).toEqual((ops.aten.argmax(stored('logits'), 1).toArray() as number[]).map(Number));
  });

  test('ResNet-50: bottlenecks, eval and train', async () => {
    const { state, test: stored } = await reference('torchvision-resnet50.safetensors');
    const encoder = Encoder.create({ architecture: 'resnet50', width: 2 }).eval();
    encoder.loadState(state);
    expectClose(encoder.forward(stored('input')), stored('eval'));
    expectClose(encoder.train().forward(stored('input')), stored('train'), 1e-4); // 3 x 2 x 2 values a channel in the last layer
  });

  test('AdvCL and A-InfoNCE: three BatchNorm branches and a projector; one branch taken out of them', async () => {
    const { state, test: stored } = await reference('advcl-resnet18.safetensors');
    const branches = ['normal', 'pgd', 'pgd_ce'];
    const encoder = Encoder.create({ width: 2, branches, projector: { hidden: [5], output: 6 } }).eval();
    expect(encoder.loadState(state)).toEqual({ missing: [], unexpected: [] });
    const input = stored('input');
    for (const [i, branch] of branches.entries()) {
      expectClose(encoder.forward(input, { branch }), stored(`eval.${i}`));
      expectClose(encoder.forward(input, { branch, output: 'projection' }), stored(`projection.${i}`), 1e-5);
      const single = Encoder.create({ width: 2, branches: [branch] }).eval();
      single.loadState(state, { branch });
      expectClose(single.forward(input), stored(`eval.${i}`));
    }
    expect(equal(encoder.forward(input), encoder.forward(input, { branch: 'normal' }))).toBe(true);
    const single = Encoder.create({ width: 2 });
    expect(() => single.loadState(state)).toThrow(/branch: expected one of the file's BatchNorm branches \(0, 1, 2\), got none/);
    expect(() => single.loadState(state, { branch: 'adv' })).toThrow(ArgumentRangeError);
  });

  test('first values are PyTorch\'s own, to the bit', async () => {
    const { tensors } = await reference('first-values.safetensors');
    const own = Encoder.create({ width: 2, seed: 7 }).state();
    for (const [name, tensor] of tensors) expect(equal(own.get(`encoder.${name.replace('shortcut', 'downsample')}`)!, tensor)).toBe(true);
    expect(tensors.size).toBe(20);
  });

  test('parameter counts are those of torchvision\'s networks without their heads', () => {
    const count = (architecture: 'resnet18' | 'resnet34' | 'resnet50', width: number) => Encoder.create({ architecture, width, stem: 'imagenet' }).parameterCount;
    expect([count('resnet18', 64), count('resnet18', 8), count('resnet34', 8), count('resnet50', 8)]).toEqual([11_176_512, 176_712, 335_464, 374_152]);
  });
});

describe('modes, branches, seeds', () => {
  const options = { width: 2, branches: ['normal', 'pgd'], projector: { hidden: [4], output: 3 } };
  const statistics = (encoder: Encoder, branch: string) =>
    [...encoder.state()].filter(([name]) => name.includes(`.${branch}.running`) || name.includes(`.${branch}.num`));

  test('a forward in train mode moves the statistics of its branch only; eval moves none', () => {
    const encoder = Encoder.create(options);
    expect(encoder.training).toBe(true);
    const before = new Map([...encoder.state()].map(([name, tensor]) => [name, ops.aten.clone(tensor)]));
    encoder.forward(rand([4, 3, 8, 8]), { branch: 'pgd' });
    for (const [name, tensor] of statistics(encoder, 'normal')) expect(equal(tensor, before.get(name)!)).toBe(true);
    const moved = statistics(encoder, 'pgd');
    expect(moved.length).toBe(60);
    for (const [name, tensor] of moved) expect(equal(tensor, before.get(name)!)).toBe(false);
    const now = new Map([...encoder.eval().state()].map(([name, tensor]) => [name, ops.aten.clone(tensor)]));
    encoder.forward(rand([4, 3, 8, 8]), { branch: 'pgd', output: 'projection' });
    for (const [name, tensor] of encoder.state()) expect(equal(tensor, now.get(name)!)).toBe(true);
  });

  test('the same seed gives the same weights whatever has drawn in between; another gives others', () => {
    const values = (seed: number, initialisation: 'framework' | 'kaiming') => {
      rand([3]);
      return Encoder.create({ ...options, seed, initialisation }).state();
    };
    for (const scheme of ['framework', 'kaiming'] as const) {
      const [a, b, c] = [values(5, scheme), values(5, scheme), values(6, scheme)];
      for (const [name, tensor] of a) expect(equal(tensor, b.get(name)!)).toBe(true);
      expect(equal(a.get('encoder.conv1.weight')!, c.get('encoder.conv1.weight')!)).toBe(false);
    }
  });

  test('kaiming: variance 2 / fan-out for convolutions, BatchNorm 1 and 0, linear layers within 1 / sqrt(fan-in)', () => {
    const state = Encoder.create({ width: 16, initialisation: 'kaiming', projector: { hidden: [64] } }).state();
    const deviation = (name: string) => ops.aten.std(state.get(name)!, true).item() as number;
    expect(deviation('encoder.layer4.1.conv2.weight') / Math.sqrt(2 / (128 * 9))).toBeCloseTo(1, 2);
    expect(deviation('encoder.layer4.0.downsample.0.weight') / Math.sqrt(2 / 128)).toBeCloseTo(1, 1);
    expect(deviation('projector.0.weight') * Math.sqrt(128) * Math.sqrt(3)).toBeCloseTo(1, 1);
    expect(ops.aten.max(ops.aten.abs(state.get('projector.0.weight')!)).item()).toBeLessThanOrEqual(1 / Math.sqrt(128));
    expect(ops.aten.mean(state.get('encoder.bn1.weight')!).item()).toBe(1);
    expect(ops.aten.max(state.get('encoder.bn1.bias')!).item()).toBe(0);
  });

  test('a classifier shares its encoder, a clone shares nothing', () => {
    const images = rand([2, 3, 8, 8]);
    const encoder = Encoder.create(options).eval();
    const classifier = Classifier.create({ encoder, classes: 3, branch: 'pgd' });
    expect(classifier.training).toBe(false);
    expect(equal(classifier.features(images), encoder.forward(images, { branch: 'pgd' }))).toBe(true);
    const [copy, before] = [classifier.clone(), classifier.forward(images)];
    ops.aten.mul_(encoder.state().get('encoder.layer4.1.bn2.pgd.weight')!.detach(), 3);
    expect(equal(classifier.forward(images), before)).toBe(false);
    expect(equal(copy.forward(images), before)).toBe(true);
    encoder.dispose();
    expect(classifier.forward(images).shape).toEqual([2, 3]);
  });

  test('predict runs in eval mode, records nothing, and leaves the mode', () => {
    const classifier = Classifier.create({ encoder: Encoder.create({ width: 1 }), classes: 4 });
    const tracked = () => classifier.state().get('encoder.bn1.num_batches_tracked')!.item();
    expect(classifier.predict(rand([1, 3, 8, 8])).length).toBe(1);
    expect([classifier.training, tracked()]).toEqual([true, 0]);
    expect(classifier.eval().predict(rand([5, 3, 8, 8])).every((id) => Number.isInteger(id) && id >= 0 && id < 4)).toBe(true);
    expect(classifier.training).toBe(false);
  });

  test('predict refuses what are no images in [0, 1], as the function does; forward takes anything', () => {
    const classifier = Classifier.create({ encoder: Encoder.create({ width: 1 }), classes: 4 }).eval(), images = rand([2, 3, 8, 8]);
    const gone = images.clone();
    gone.dispose();
    for (const wrong of [ops.aten.mul(images, 255), ops.aten.sub(images, 1), ops.aten.mul(images, NaN)]) {
      expect(() => classifier.predict(wrong)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: 'images', expected: expect.stringContaining('[0, 1]') as string }));
      expect(classifier.forward(wrong).shape).toEqual([2, 4]);
    }
    for (const use of [() => classifier.predict(gone), () => classifier.forward(gone), () => classifier.features(gone)])
      expect(use).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_TYPE', argument: 'images', received: 'a disposed Tensor' }));
  });

  test('gradients reach every parameter that the output uses, and no other', () => {
    const encoder = Encoder.create(options);
    ops.aten.sum(ops.aten.pow(encoder.forward(rand([4, 3, 8, 8]), { branch: 'pgd', output: 'projection' }), 2)).backward();
    for (const [name, tensor] of encoder.state()) if (tensor.requiresGrad) expect([name, tensor.grad !== null]).toEqual([name, !name.includes('.normal.')]);
  });
});

describe('loading a state', () => {
  const encoder = Encoder.create({ width: 1 });
  const state = () => new Map([...encoder.state()].map(([name, tensor]) => [name, ops.aten.clone(tensor).detach()]));

  test('missing and unexpected names are listed, and allowed with strict: false', () => {
    const given: Map<string, Tensor> = state();
    given.delete('encoder.conv1.weight');
    given.set('extra.weight', rand([1]));
    expect(() => encoder.loadState(given)).toThrow(/state: expected exactly the names of this model, got missing: encoder\.conv1\.weight; unexpected: extra\.weight/);
    expect(encoder.loadState(given, { strict: false })).toEqual({ missing: ['encoder.conv1.weight'], unexpected: ['extra.weight'] });
  });

  test('nothing that matches is an error, strict or not', () => {
    for (const strict of [true, false]) {
      expect(() => encoder.loadState({ 'features.0.weight': rand([1]) }, { strict })).toThrow(/expected names of this model, .*unexpected: features\.0\.weight/);
      expect(() => encoder.loadState({}, { strict })).toThrow(ArgumentRangeError);
    }
  });

  test('a wrong shape changes nothing', () => {
    const before = state();
    const given = new Map([...before].map(([name, tensor]) => [name, tensor.dtype === 'float32' ? ops.aten.add(tensor, 1) : tensor]));
    given.set('encoder.layer4.1.bn2.weight', rand([9]));
    expect(() => encoder.loadState(given)).toThrow(/encoder\.layer4\.1\.bn2\.weight: expected shape \[8\], got \[9\]/);
    for (const [name, tensor] of encoder.state()) expect(equal(tensor, before.get(name)!)).toBe(true);
  });

  test('two names for one tensor are refused', () => {
    const given = state();
    given.set('module.conv1.weight', given.get('encoder.conv1.weight')!);
    expect(() => encoder.loadState(given)).toThrow(/one tensor for encoder\.conv1\.weight/);
  });

  test('dictionaries from before num_batches_tracked load', () => {
    const given = new Map([...state()].filter(([name]) => !name.endsWith('num_batches_tracked')));
    expect(encoder.loadState(given)).toEqual({ missing: [], unexpected: [] });
  });
});

describe('bad input and lifetimes', () => {
  unscoped.each([
    [{ width: 0 }, 'width'], [{ width: 1.5 }, 'width'], [{ architecture: 'vgg' }, 'architecture'], [{ stem: 'big' }, 'stem'], [{ branches: [] }, 'branches'],
    [{ branches: ['a', 'a'] }, 'branches'], [{ branches: ['a.b'] }, 'branches'], [{ seed: -1 }, 'seed'], [{ channels: 0 }, 'channels'], [{ initialisation: 'zero' }, 'initialisation'],
    [{ projector: { hidden: [0] } }, 'projector.hidden[0]'], [{ projector: { output: 0 } }, 'projector.output'], [{ depth: 3 }, 'options.depth'],
  ])('Encoder.create(%j) names %s', (options, argument) => {
    expect(() => Encoder.create(options as never)).toThrow(expect.objectContaining({ argument, code: 'ERR_ARGUMENT_RANGE' }));
  });

  test('wrong batches are refused by name', () => {
    const encoder = Encoder.create({ width: 1 });
    const classifier = Classifier.create({ encoder, classes: 2 });
    for (const model of [encoder, classifier]) {
      expect(() => model.forward(rand([2, 1, 8, 8]))).toThrow(/images: expected shape \[N, 3, height, width\], got \[2, 1, 8, 8\]/);
      expect(() => model.forward(rand([3, 8, 8]))).toThrow(ArgumentRangeError);
      expect(() => model.forward(rand([2, 3, 8, 8]).to({ dtype: 'float64' }))).toThrow(/images: expected dtype float32, got float64/);
      expect(() => model.forward([] as never)).toThrow(ArgumentTypeError);
    }
    expect(() => encoder.forward(rand([1, 3, 1, 1]))).toThrow(/more than one value a channel in train mode/);
    expect(() => encoder.forward(rand([2, 3, 8, 8]), { branch: 'pgd' })).toThrow(/branch: expected one of 'normal', got 'pgd'/);
    expect(() => encoder.forward(rand([2, 3, 8, 8]), { output: 'projection' })).toThrow(/without a projector/);
    expect(encoder.eval().forward(rand([0, 3, 8, 8])).shape).toEqual([0, 8]);
    expect(encoder.forward(rand([1, 3, 1, 1])).shape).toEqual([1, 8]);
    expect(() => Classifier.create({ encoder, classes: 0 })).toThrow(ArgumentRangeError);
    expect(() => Classifier.create({ encoder: classifier as never, classes: 2 })).toThrow(ArgumentTypeError);
  });

  test('a disposed model says so, twice is harmless, and nothing grows', async () => {
    const encoder = Encoder.create({ width: 1 });
    const classifier = Classifier.create({ encoder, classes: 2 });
    classifier.dispose();
    classifier[Symbol.dispose]();
    expect(classifier.disposed).toBe(true);
    expect(() => classifier.forward(rand([2, 3, 8, 8]))).toThrow(/model: expected a live Classifier, got a disposed Classifier/);
    expect(() => classifier.state()).toThrow(ArgumentTypeError);
    expect(() => classifier.training).toThrow(ArgumentTypeError);
    const { tensors: before } = await live();
    for (let i = 0; i < 3; i++)
      scope(() => {
        encoder.forward(rand([2, 3, 8, 8]));
        encoder.state();
        void encoder.parameterCount;
      });
    expect(memory().tensors).toBe(before);
  });

  test('one-channel images', () => {
    expect(Encoder.create({ width: 1, channels: 1 }).forward(rand([2, 1, 28, 28])).shape).toEqual([2, 8]);
  });
});
