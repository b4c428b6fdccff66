import { describe, expect, it } from 'vitest';
import { Optimizer, tensor, type OptimizerOptions, type Tensor } from 'a-infonce';

const norm = (x: number[]) => Math.hypot(...x);

/** The update of spec and torchlars, in float64; with `rateInMomentum` that of optimizer/lars.py in VITA-Group/Adversarial-Contrastive-Learning. */
function transcription(weights: number[], gradients: number[][], rates: number[], { momentum = 0.9, weightDecay = 0, lars }: OptimizerOptions) {
  let v = weights.map(() => 0);
  let w = weights;
  gradients.forEach((given, i) => {
    let g = given.map((value, k) => value + weightDecay * w[k]!);
    if (lars) {
      const { trust = 1e-3, epsilon = 1e-8 } = lars;
      const q = norm(w) > 0 && norm(given) > 0 ? (trust * norm(w)) / (norm(given) + weightDecay * norm(w) + epsilon) : 1;
      g = g.map((value) => value * q);
    }
    const [inside, outside] = lars?.rateInMomentum ? [rates[i]!, 1] : [1, rates[i]!];
    v = v.map((value, k) => momentum * value + inside * g[k]!);
    w = w.map((value, k) => value - outside * v[k]!);
  });
  return { w, v };
}

const random = (n: number, seed: number) => Array.from({ length: n }, (_, i) => Math.sin(12.9898 * (i + 1) + 78.233 * seed) * 1.7);
const numbers = (x: Tensor) => Array.from(x.toTypedArray(), Number);

describe('Optimizer', () => {
  const cases: [string, OptimizerOptions][] = [
    ['SGD', {}],
    ['SGD with weight decay', { momentum: 0.8, weightDecay: 0.05 }],
    ['SGD without momentum', { momentum: 0 }],
    ['LARS', { weightDecay: 1e-6, lars: {} }],
    ['LARS, the rate in the momentum', { weightDecay: 1e-2, lars: { epsilon: 0, rateInMomentum: true } }],
    ['LARS with large values', { momentum: 0.5, weightDecay: 0.1, lars: { trust: 0.02, epsilon: 0.1 } }],
  ];
  it.each(cases)('%s equals its float64 transcription over five steps', (_, options) => {
    const rates = [0.1, 0.3, 0.2, 0.7, 0.05];
    const starts = { matrix: random(12, 1), zero: random(5, 2).map(() => 0), vector: random(7, 3) };
    const shapes: Record<string, number[]> = { matrix: [3, 4], zero: [5], vector: [7] };
    const parameters = Object.fromEntries(Object.entries(starts).map(([name, start]) => [name, tensor(Float64Array.from(start), { shape: shapes[name]!, requiresGrad: true })]));
    const optimizer = new Optimizer(parameters, options);
    const gradients: Record<string, number[][]> = { matrix: [], zero: [], vector: [] };
    rates.forEach((rate, step) => {
      for (const [name, parameter] of Object.entries(parameters)) {
        // A gradient of zeros once: LARS then takes q = 1.
        const gradient = random(starts[name as keyof typeof starts].length, 10 * step + name.length).map((value) => (step === 2 ? 0 : value));
        gradients[name]!.push(gradient);
        parameter.grad = tensor(Float64Array.from(gradient), { shape: shapes[name]! });
      }
      optimizer.step(rate);
    });
    const state = optimizer.state();
    for (const [name, start] of Object.entries(starts)) {
      const { w, v } = transcription(start, gradients[name]!, rates, options);
      numbers(parameters[name]!).forEach((value, k) => expect(value).toBeCloseTo(w[k]!, 12));
      numbers(state[name]!).forEach((value, k) => expect(value).toBeCloseTo(v[k]!, 12));
    }
  });

  it('leaves a parameter without a gradient alone, momentum included', () => {
    const [a, b] = [1, 2].map((value) => tensor(Float32Array.of(value), { requiresGrad: true })) as [Tensor, Tensor];
    const optimizer = new Optimizer({ a, b }, { weightDecay: 0.1 });
    a.grad = tensor(Float32Array.of(1));
    b.grad = tensor(Float32Array.of(1));
    optimizer.step(0.1);
    const [before, momentum] = [b.item(), optimizer.state()['b']!.item()];
    optimizer.zeroGrad();
    expect(a.grad).toBeNull();
    a.grad = tensor(Float32Array.of(1));
    const moved = a.item();
    optimizer.step(0.1);
    expect([b.item(), optimizer.state()['b']!.item()]).toEqual([before, momentum]);
    expect(a.item()).toBeLessThan(moved);
  });

  it('takes its state back by name, all or nothing', () => {
    const make = () => {
      const w = tensor(Float64Array.of(1, 2), { requiresGrad: true });
      return { w, optimizer: new Optimizer({ w }) };
    };
    const [one, other] = [make(), make()];
    for (const { w, optimizer } of [one]) {
      w.grad = tensor(Float64Array.of(3, -1));
      optimizer.step(0);
    }
    other.optimizer.loadState(one.optimizer.state());
    expect(numbers(other.optimizer.state()['w']!)).toEqual([3, -1]);
    expect(() => other.optimizer.loadState({})).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: 'momentum.w' }));
    expect(() => other.optimizer.loadState({ w: tensor(Float64Array.of(1)) })).toThrow(expect.objectContaining({ argument: 'momentum.w' }));
    expect(() => other.optimizer.loadState({ w: tensor(Float64Array.of(1, 1)), u: tensor([1]) })).toThrow(expect.objectContaining({ argument: 'momentum.u' }));
    expect(numbers(other.optimizer.state()['w']!)).toEqual([3, -1]);
  });

  it('names what is wrong with its options', () => {
    const w = tensor(Float32Array.of(1), { requiresGrad: true });
    expect(() => new Optimizer({})).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: 'parameters', expected: 'at least one parameter' }));
    const gone = tensor(Float32Array.of(1), { requiresGrad: true });
    gone.dispose();
    expect(() => new Optimizer({ gone })).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_TYPE', argument: 'parameters.gone', received: 'a disposed Tensor' }));
    expect(() => new Optimizer({ w: tensor(Float32Array.of(1)) })).toThrow(expect.objectContaining({ argument: 'parameters.w', expected: 'a leaf that requires grad' }));
    expect(() => new Optimizer({ w }, { momentum: 1 })).toThrow(expect.objectContaining({ argument: 'momentum' }));
    expect(() => new Optimizer({ w }, { lars: { trust: 0 } })).toThrow(expect.objectContaining({ argument: 'lars.trust' }));
    expect(() => new Optimizer({ w }, { nesterov: true } as never)).toThrow(expect.objectContaining({ argument: 'options.nesterov' }));
    new Optimizer({ w }).step(1);   // without a gradient, as torch.optim.SGD
    expect(w.item()).toBe(1);
    expect(() => new Optimizer({ w }).step(NaN)).toThrow(expect.objectContaining({ argument: 'learningRate' }));
  });
});
