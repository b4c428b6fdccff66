import { ArgumentTypeError, Encoder, memory, noGrad, openDataset, ops, randomEncoder, scope, type Dataset } from 'a-infonce';
import { expect, it } from 'vitest';
import { live } from '../fixtures/live.js';

const procedural = { train: 40, test: 2, size: 8 };

it('has random weights of its own and the statistics of the training images', async () => {
  using data = await openDataset('procedural', { procedural });
  using trained = Encoder.create({ width: 2, seed: 1, projector: { hidden: [8], output: 4 } });
  const { tensors: before } = await live();
  const random = await randomEncoder(trained, data, { seed: 7 });
  await scope(async () => {
    expect([random.training, random.config.projector, random.featureDim]).toEqual([false, undefined, trained.featureDim]);
    const images = data.train.images(), expected = Encoder.create({ width: 2, seed: 7 }).train();
    for (let update = 0; update < 64; ++update) noGrad(() => expected.forward(images));
    const wanted = expected.state();
    for (const [name, tensor] of random.state()) expect(ops.aten.allclose(tensor, wanted.get(name)!), name).toBe(true);
    const spread = (encoder: Encoder) => ops.aten.mean(ops.aten.std(encoder.eval().forward(images), [0])).item();
    const untouched = Encoder.create({ width: 2, seed: 7 });
    expect(spread(random)).toBeGreaterThan(5 * spread(untouched));
  });
  random.dispose();
  expect(memory().tensors).toBe(before);
});

it('says what is wrong, and stops when told', async () => {
  using data = await openDataset('procedural', { procedural });
  using trained = Encoder.create({ width: 1 });
  await expect(randomEncoder({} as Encoder, data)).rejects.toThrow(ArgumentTypeError);
  await expect(randomEncoder(trained, {} as Dataset)).rejects.toThrow(/^data: expected a Dataset/);
  await expect(randomEncoder(trained, data, { seed: -1 })).rejects.toThrow(/^options\.seed/);
  await expect(randomEncoder(trained, data, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
});
