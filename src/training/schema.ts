/** The parts that configurations are made of, and the keys that every method shares. */
import { z } from 'zod';
import { ArgumentRangeError, ArgumentTypeError, describe } from '../runtime/errors.js';
import { nearest } from '../runtime/likeness.js';

export const positive = z.number().positive();
export const share = z.number().min(0).max(1);
export const count = z.int().positive();
const rates = { momentum: z.number().min(0).lt(1), weightDecay: z.number().min(0) };

const sgd = z.strictObject({ kind: z.literal('sgd'), ...rates });
const lars = z.strictObject({ kind: z.literal('lars'), ...rates, trust: positive, epsilon: z.number().min(0), rateInMomentum: z.boolean().optional() });
const optimizer = z.discriminatedUnion('kind', [sgd, lars]);
const stepSchedule = z.strictObject({ kind: z.literal('steps'), rate: positive, at: z.array(z.int().min(0)), divisor: positive });
const schedule = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('rocl'), rate: positive, multiplier: positive, warmupEpochs: z.int().min(0) }),
  z.strictObject({ kind: z.literal('cosine'), rate: positive, final: share, warmupEpochs: z.int().min(0), warmupFrom: z.number().min(0) }),
  z.strictObject({ kind: z.literal('warmup-cosine'), rate: positive, final: share, warmupEpochs: z.int().min(0), by: z.enum(['step', 'epoch']) }),
  stepSchedule,
]);
/** What {@link learningRate} takes, by its name. */
export const scheduled = z.strictObject({ schedule });

/** A pipeline of `augment`. */
export const pipeline = z.strictObject({
  size: count.optional(), resizedCrop: z.strictObject({ scale: z.tuple([share, share]), ratio: z.tuple([positive, positive]) }).optional(),
  padding: z.int().min(0).optional(), flip: share.optional(),
  jitter: z.strictObject({
    probability: share, brightness: z.number().min(0), contrast: z.number().min(0), saturation: z.number().min(0), hue: z.number().min(0).max(0.5),
  }).optional(),
  grayscale: share.optional(), colorFirst: z.boolean().optional(),
});

/** A radius or a step of linf: pixels are in [0, 1], as `attack.ts` says of the functions. */
const radius = z.number().min(0).max(1, 'expected a number from 0 to 1 (pixels are in [0, 1]: 8/255, not 8)');
const step = positive.max(1, 'expected a number above 0, at most 1 (pixels are in [0, 1]: 2/255, not 2)');
export const pgd = z.strictObject({ norm: z.literal('linf'), epsilon: radius, stepSize: step, steps: z.int().min(0), randomStart: z.boolean() });
/** The attack of a training step. */
export const trainingAttack = pgd.extend({
  /** Clamp the random start to [0, 1]. */
  clampStart: z.boolean(),
  order: z.enum(['clamp-project', 'project-clamp']),
}).refine(({ steps, randomStart, clampStart }) => steps > 0 || clampStart || !randomStart,
  { path: ['steps'], error: 'expected at least 1: the random start is not clamped and would be no image' });
export const hardNegative = z.strictObject({ beta: z.number().min(0), tauPlus: z.number().min(0).lt(1) });

/** The objective of two clean views, or of two adversarial ones: form `paper`, on rows of one kind. */
export const pairObjective = z.strictObject({ form: z.literal('paper'), temperature: positive, hardNegative: hardNegative.optional() });

/**
 * What encoders compute in during a step, its attack included: `full` is float32; `bf16` is bfloat16 from the images to the last block, with sums, BatchNorm statistics,
 * projector, heads, loss, parameters and optimizer in float32, on processors with AVX512_BF16. Left out: `full`.
 */
const precision = z.enum(['full', 'bf16']).optional();

const fineTuning = z.strictObject({
  epochs: count, batchSize: count, schedule: stepSchedule, optimizer: sgd,
  /** How training images are augmented; left out: not at all. */
  views: pipeline.optional(),
  /** The encoder's BatchNorm branch that is used; left out: `pgd` where it has one, else its first. */
  branch: z.string().optional(),
});

/** The modes of fine-tuning: SLF trains a linear head on clean images, ALF on PGD adversaries, AFF everything with TRADES. */
export const fineTunings = z.strictObject({
  slf: fineTuning,
  alf: fineTuning.extend({ attack: pgd, precision }),
  aff: fineTuning.extend({ precision, trades: z.strictObject({ beta: z.number().min(0), startNoise: z.number().min(0), attack: pgd }) }),
});

/** The keys of every method; each adds its own. */
export const shared = z.strictObject({
  /** The preset this configuration began as. */
  preset: z.string(),
  /** The data set by name, where it lay, what it was made with, and what was found in it (the SHA-256 of its training pixels): another set or order under the same name does not pass for it. */
  data: z.strictObject({
    name: z.string(), path: z.string().optional(),
    procedural: z.strictObject({ train: count.optional(), test: count.optional(), size: count.optional(), seed: z.int().min(0).optional() }).optional(),
    images: count.optional(), channels: count.optional(), size: count.optional(), sha256: z.string().optional(),
  }),
  /** Every random choice of the run is a function of it. */
  seed: z.int().min(0),
  epochs: count,
  /** Images a step; a last batch that is smaller counts too if the method can learn from it. */
  batchSize: count,
  precision,
  encoder: z.strictObject({
    architecture: z.enum(['resnet18', 'resnet34', 'resnet50']), stem: z.enum(['cifar', 'imagenet']), width: count, branches: z.array(z.string()).nonempty(),
    /** First values: `framework` (PyTorch's defaults) or `kaiming` (convolutions normal, fan-out). */
    initialisation: z.enum(['framework', 'kaiming']),
  }),
  projector: z.strictObject({ hidden: z.array(count), output: count, batchNorm: z.boolean() }),
  optimizer,
  schedule,
  /** The pipeline that draws the contrasted views (see `augment`); images are floats in [0, 1] and nothing normalises them. */
  views: pipeline,
  /** What `finetune` takes for this preset's name, and the command for a run's folder. */
  finetuning: fineTunings,
  /** How the method's published numbers were taken. `a-infonce evaluate` takes `pgd20` for a run's folder; the function `evaluate` has defaults of its own. */
  evaluation: z.strictObject({
    pgd20: pgd,
    autoattack: z.strictObject({ norm: z.literal('linf'), epsilon: radius, version: z.literal('standard') }),
  }),
});

/** Of the config.json of a run or a fine-tuning, what commands take for their own; the rest as it is. */
export const recordedConfig = z.looseObject({
  preset: z.string(), data: z.looseObject(shared.shape.data.shape), evaluation: z.looseObject({ pgd20: pgd }).optional(),
});

export type SharedConfig = z.infer<typeof shared>;
/** The values of fine-tuning, mode by mode. */
export type FinetuneConfigs = z.infer<typeof fineTunings>;

/** `value` as the schema has it, or the typed error that names the first key at fault; `whole` is what the value itself is called. */
export function parse<T>(schema: z.ZodType<T>, value: unknown, whole: string): T {
  const { data, error } = schema.safeParse(value);
  if (!error) return data;
  const issue = error.issues[0]!;
  const path = issue.path.join('.');
  const received = issue.path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], value);
  if (issue.code === 'unrecognized_keys') {
    const [key] = issue.keys, meant = nearest(key!, Object.keys(received as object).filter((each) => !issue.keys.includes(each)));
    throw new ArgumentRangeError([path, key].filter(Boolean).join('.'), `a known key${meant ? `, as '${meant}'` : ''}`, `'${key}'`);
  }
  const number = typeof received === 'number' && issue.code === 'invalid_type' && /^(number|int)$/.test(issue.expected);
  const Wrong = issue.code === 'invalid_type' && !number ? ArgumentTypeError : ArgumentRangeError;
  throw new Wrong(path || whole, issue.message.replace(/^.*?expected /i, '').replace(/, received.*$/, ''), describe(received));
}
