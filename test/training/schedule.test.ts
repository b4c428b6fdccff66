import { describe, expect, it } from 'vitest';
import { ArgumentRangeError, ArgumentTypeError, learningRate, presets, type Schedule } from 'a-infonce';

const at = (schedule: Schedule, epochs: number, epoch: number, step = 0, stepsPerEpoch = 98) => learningRate(schedule, { epoch, epochs, step, stepsPerEpoch });

describe('learningRate', () => {
  it("follows RoCL's warm-up and cosine", () => {
    const { schedule } = presets['rocl-cifar10'];
    const rates = [0, 4, 9, 10, 510, 999].map((epoch) => at(schedule, 1000, epoch));
    // .1 (1.4 + 1), .1 (7 + 1), .1 (14 + 1), .75 (1 + 1), .75 (1 + cos(pi / 2)), .75 (1 + cos(.989 pi))
    [0.24, 0.8, 1.5, 1.5, 0.75, 4.47788733e-4].forEach((expected, i) => expect(rates[i]).toBeCloseTo(expected, 10));
    expect(at(schedule, 1000, 3, 97)).toBe(at(schedule, 1000, 3, 0));
  });

  it("follows AdvCL's cosine, reached step by step", () => {
    const schedule = { kind: 'cosine', rate: 0.5, final: 1e-3, warmupEpochs: 10, warmupFrom: 0.01 } as const;
    // c(10) = .0005 + .4995 (1 + cos(pi / 40)) / 2
    const onto = 0.49923014;
    expect(at(schedule, 400, 0)).toBe(0.01);
    expect(at(schedule, 400, 5, 49)).toBeCloseTo(0.01 + 0.55 * (onto - 0.01), 7);
    expect(at(schedule, 400, 10)).toBeCloseTo(0.49906857, 7);
    expect(at(schedule, 400, 199)).toBeCloseTo(0.25025, 12);
    expect(at(schedule, 400, 399)).toBeCloseTo(0.0005, 12);
  });

  it('divides by ten from each epoch named', () => {
    const { schedule } = presets['rocl-cifar10'].finetuning.slf;
    expect([0, 30, 31, 50, 51, 100, 101, 149].map((epoch) => at(schedule, 150, epoch))).toEqual([0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]);
  });

  it('refuses what is no schedule and no position, by name', () => {
    const cosine = { kind: 'cosine', rate: 0.2, final: 1e-3, warmupEpochs: 0, warmupFrom: 0 } as const, first = { epoch: 0, epochs: 1, step: 0, stepsPerEpoch: 1 };
    const { final: _, ...endless } = cosine, { stepsPerEpoch: __, ...unmeasured } = first;
    const wrong: [argument: string, error: new (...given: never[]) => Error, schedule: unknown, position?: unknown][] = [
      ['schedule.kind', ArgumentRangeError, { ...cosine, kind: 'cosin' }], ['schedule.final', ArgumentTypeError, endless], ['schedule.rate', ArgumentRangeError, { ...cosine, rate: NaN }],
      ['schedule.finale', ArgumentRangeError, { ...cosine, finale: 0 }], ['schedule', ArgumentTypeError, undefined], ['schedule', ArgumentTypeError, 0.1],
      ['schedule.at', ArgumentTypeError, { kind: 'steps', rate: 0.1, divisor: 10 }],
      ['position.epoch', ArgumentRangeError, cosine, { ...first, epoch: 5 }], ['position.epoch', ArgumentRangeError, cosine, { ...first, epoch: -1 }],
      ['position.stepsperepoch', ArgumentRangeError, cosine, { ...unmeasured, stepsperepoch: 4 }], ['position.stepsPerEpoch', ArgumentTypeError, cosine, unmeasured],
      ['position.step', ArgumentRangeError, cosine, { ...first, step: 1 }], ['position.epochs', ArgumentTypeError, cosine, undefined], ['position', ArgumentTypeError, cosine, 3],
    ];
    for (const [argument, error, schedule, ...position] of wrong) {
      const call = () => learningRate(schedule as Schedule, (position.length > 0 ? position[0] : first) as typeof first);
      expect(call).toThrow(error);
      expect(call).toThrow(expect.objectContaining({ argument }));
    }
  });
});
