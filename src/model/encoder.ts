import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ModelHandle } from '../runtime/addon.js';
import { checkDevice } from '../runtime/cuda.js';
import { AInfoNCEError, ArgumentRangeError, ArgumentTypeError, check, describe, FileError } from '../runtime/errors.js';
import { native } from '../runtime/native.js';
import { tensorOf } from '../tensor/check.js';
import { Tensor } from '../tensor/tensor.js';
import { Model, seedOf } from './model.js';
import { infer, type Target, translate } from './names.js';
import { type RawTensor, readRaw, toTensor, writeSafetensors } from './safetensors.js';

/** The head between the features and the contrastive loss: linear layers with ReLU between them. */
export interface ProjectorConfig {
  /** Widths of the hidden layers: RoCL `[2048]`, AdvCL `[512]`. */
  hidden: number[];
  /** Width of the projection. */
  output: number;
  /** BatchNorm before each ReLU, as in AdvCL; shared by the encoder's branches. */
  batchNorm: boolean;
}

/** What an encoder is made of, resolved. */
export interface EncoderConfig {
  architecture: 'resnet18' | 'resnet34' | 'resnet50';
  /** Channels after the stem; features have `8 * width` values, of a ResNet-50 `32 * width`. */
  width: number;
  /** `'cifar'`: 3x3 convolution of stride 1; `'imagenet'`: 7x7 of stride 2, then max-pooling of stride 2. */
  stem: 'cifar' | 'imagenet';
  /** Channels of the images. */
  channels: number;
  /** Each BatchNorm has one set of parameters and running statistics for every name here. */
  branches: readonly string[];
  projector: ProjectorConfig | undefined;
  /** Numbers of classes of linear heads on the features: AdvCL's pseudo-labels, which only its training uses. */
  heads: readonly number[];
}

/** The BatchNorm branch that learned from adversaries, `'pgd'`, where there is one; else the first. @internal */
export const robustBranch = ({ branches }: EncoderConfig): string => (branches.includes('pgd') ? 'pgd' : branches[0]!);

/** Options of {@link Encoder.create}. */
export interface EncoderOptions extends Partial<Omit<EncoderConfig, 'projector'>> {
  /** None by default; `{}` is AdvCL's `{ hidden: [512], output: 128, batchNorm: true }`. */
  projector?: Partial<ProjectorConfig> | undefined;
  /** First values come from a generator of their own with this seed: an integer from 0, by default 0. */
  seed?: number;
  /** `'framework'` (default): PyTorch's; `'kaiming'`: convolutions normal with variance 2 / fan-out (AdvCL). */
  initialisation?: 'framework' | 'kaiming';
}

/** Options of loading a state. */
export interface LoadStateOptions {
  /** By default every name of the model must be there and no other; false loads what matches, and still fails when nothing does. */
  strict?: boolean;
  /** For a model with one BatchNorm branch and a state with several: which to take, e.g. `'pgd'`. */
  branch?: string | undefined;
}

/** Names that a load with `strict: false` did not use. */
export interface LoadedState {
  /** In the model, not in the state. */
  missing: string[];
  /** In the state, not in the model. */
  unexpected: string[];
}

/**
 * A ResNet encoder: images `[N, channels, height, width]` to features `[N, featureDim]`, optionally with a projector.
 *
 * @example
 * ```ts
 * using images = rand([4, 3, 32, 32]);
 * using encoder = Encoder.create({ width: 8, branches: ['normal', 'pgd', 'pgd_ce'], projector: {}, seed: 1 });
 * using features = encoder.forward(images, { branch: 'pgd' });   // [4, 64]
 * ```
 */
export class Encoder extends Model {
  /** @internal */
  private constructor(handle: ModelHandle, readonly config: Readonly<EncoderConfig>) {
    super(handle);
  }

  /** A new encoder in train mode. @throws {@link ArgumentTypeError} or {@link ArgumentRangeError} naming the option. */
  static create(options: EncoderOptions = {}): Encoder {
    check.options('options', options, ['architecture', 'width', 'stem', 'branches', 'channels', 'seed', 'initialisation', 'projector', 'heads']);
    const { branches = ['normal'], heads = [] } = options;
    if (!Array.isArray(branches)) throw new ArgumentTypeError('branches', 'an array of names', describe(branches));
    if (!Array.isArray(heads)) throw new ArgumentTypeError('heads', 'an array of numbers of classes', describe(heads));
    const config: EncoderConfig = {
      architecture: check.oneOf('architecture', options.architecture ?? 'resnet18', ['resnet18', 'resnet34', 'resnet50']),
      width: check.integer('width', options.width ?? 64, { min: 1, max: 4096 }),
      stem: check.oneOf('stem', options.stem ?? 'cifar', ['cifar', 'imagenet']),
      channels: check.integer('channels', options.channels ?? 3, { min: 1, max: 4096 }),
      branches: [...branches],
      projector: options.projector && projectorOf(options.projector),
      heads: heads.map((classes, i) => check.integer(`heads[${i}]`, classes, { min: 1, max: 2 ** 20 })),
    };
    const initialisation = check.oneOf('initialisation', options.initialisation ?? 'framework', ['framework', 'kaiming']);
    const seed = seedOf(options.seed ?? 0);
    return new Encoder(native().model_create({ ...config, branches: [...branches], heads: [...config.heads], initialisation, seed }), config);
  }

  /** Length of a feature vector. */
  get featureDim(): number {
    return this.config.width * (this.config.architecture === 'resnet50' ? 32 : 8);
  }

  /**
   * Features, or the projector's output (not normalised), recorded by autograd when grad mode is on.
   * @param images `[N, channels, height, width]`, float32 in [0, 1]. In train mode every BatchNorm needs more than one value a channel.
   * @param options.branch one of `config.branches`, by default the first.
   * @returns `[N, featureDim]`, or with `output: 'projection'` `[N, projector.output]`.
   * @throws {@link ArgumentRangeError} on a wrong shape, dtype, device, branch, or `'projection'` without a projector.
   */
  override forward(images: Tensor, options: { branch?: string; output?: 'features' | 'projection' } = {}): Tensor {
    check.options('options', options, ['branch', 'output']);
    const branch = options.branch === undefined ? undefined : this.#branch(options.branch);
    const output = check.oneOf('output', options.output ?? 'features', ['features', 'projection']);
    return Tensor.wrap(native().model_forward(this.handle, tensorOf('images', images).handle, branch, output));
  }

  #branch(name: string): string {
    return check.oneOf('branch', name, this.config.branches);
  }

  /** A deep copy, in the same mode. */
  clone(): Encoder {
    return new Encoder(native().model_clone(this.handle), this.config);
  }

  /**
   * Copies values in, all or nothing, from names of ours, torchvision's, or the released RoCL, AdvCL and A-InfoNCE code. Heads that the
   * encoder does not have are passed over. Values are converted to the model's dtype.
   * @throws {@link ArgumentRangeError} when nothing matches, a shape differs, or (strict) names are missing or unexpected; the message lists them.
   */
  loadState(state: ReadonlyMap<string, Tensor> | Record<string, Tensor>, options: LoadStateOptions = {}): LoadedState {
    return loadState(this.handle, state, { branches: this.config.branches, projector: this.config.projector !== undefined, head: false, heads: this.config.heads.length > 0 }, options);
  }

  /** Writes a safetensors file that {@link Encoder.load} needs nothing beside. @throws {@link FileError} */
  async save(path: string): Promise<void> {
    await saveModel(this, path, { kind: 'encoder', ...this.config });
  }

  /**
   * Reads an encoder from a safetensors file (ours, or one with names that {@link Encoder.loadState} knows: architecture, width, stem and
   * branches are read off the tensors), or from a run's folder, in eval mode.
   * @param options.branch see {@link LoadStateOptions}: take one BatchNorm branch of several.
   * @param options.device where it is to be, by default `'cpu'`; files know no device
   * @throws {@link FileError} naming the file and what is wrong.
   */
  static async load(path: string, options: { branch?: string; device?: string } = {}): Promise<Encoder> {
    const { device = 'cpu', ...rest } = check.options('options', options, ['branch', 'device']);
    checkDevice('options.device', device);
    const file = await readModel(path, 'encoder.safetensors');
    return fromFile(file.path, () => {
      const config = options.branch === undefined ? file.encoder : { ...file.encoder, branches: [options.branch] };
      const encoder = Encoder.create(config).eval();
      try {
        withTensors(file.tensors, (state) => encoder.loadState(state, rest));
        return encoder.to(device);
      } catch (error) {
        encoder.dispose();
        throw error;
      }
    });
  }
}

function projectorOf(given: Partial<ProjectorConfig>): ProjectorConfig {
  const { hidden = [512], output = 128, batchNorm = true } = check.options('projector', given, ['hidden', 'output', 'batchNorm']);
  if (!Array.isArray(hidden)) throw new ArgumentTypeError('projector.hidden', 'an array of widths', describe(hidden));
  const width = { min: 1, max: 65536 };
  return {
    hidden: hidden.map((size, i) => check.integer(`projector.hidden[${i}]`, size, width)),
    output: check.integer('projector.output', output, width),
    batchNorm: check.boolean('projector.batchNorm', batchNorm),
  };
}

/** @internal Loads a state under anyone's names into a network. */
export function loadState(handle: ModelHandle, state: ReadonlyMap<string, Tensor> | Record<string, Tensor>, target: Target, options: LoadStateOptions): LoadedState {
  const { strict = true, branch } = check.options('options', options, ['strict', 'branch']);
  check.boolean('strict', strict);
  if (typeof state !== 'object' || state === null) throw new ArgumentTypeError('state', 'a Map or an object of tensors', describe(state));
  const entries = state instanceof Map ? (state as ReadonlyMap<string, Tensor>) : new Map(Object.entries(state));
  const names = translate(entries.keys(), target, branch);
  const tensors = [...names.keys()].map((source) => tensorOf(source, entries.get(source)).handle);
  return native().model_load_state(handle, [...names.values()], tensors, strict);
}

/** What describes a model in its file. */
interface Description extends EncoderConfig {
  kind: 'encoder' | 'classifier';
  /** Of a classifier: the encoder's branch that it uses. */
  branch?: string;
}
const DESCRIPTION = 'a_infonce.model';

/** @internal */
export async function saveModel(model: Model, path: string, description: Description, more: Record<string, string> = {}): Promise<void> {
  const state = model.state();
  try {
    await writeSafetensors(path, state, { [DESCRIPTION]: JSON.stringify(description), ...more });
  } finally {
    for (const tensor of state.values()) tensor.dispose();
  }
}

/** @internal The tensors of a model's file, and what they are of. `inFolder` is the file's name in a run's folder. */
export async function readModel(given: string, inFolder: string) {
  check.string('path', given);
  const folder = await stat(given).then((entry) => entry.isDirectory(), () => false);
  const path = folder ? join(given, inFolder) : given;
  const { tensors, metadata } = await readRaw(path);
  return fromFile(path, () => {
    const { encoder, classes } = infer(new Map([...tensors].map(([name, { shape }]) => [name, shape])));
    let branch: string | undefined;
    if (metadata[DESCRIPTION] !== undefined) {
      // The tensors say what the network is; only names that they do not carry are taken from the text.
      const { branches, branch: own }: Partial<Description> = JSON.parse(metadata[DESCRIPTION]) ?? {};
      if (!Array.isArray(branches) || branches.length !== encoder.branches.length || (own !== undefined && !branches.includes(own)))
        throw new ArgumentRangeError(DESCRIPTION, `the names of ${encoder.branches.length} branches`, describe(branches));
      if (branches.length === 1) encoder.branches = branches;
      branch = own;
    }
    return { path, tensors, encoder, classes, branch, metadata };
  });
}

/** @internal Errors of what was made from a file name the file. */
export function fromFile<T>(path: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof AInfoNCEError || !(error instanceof Error)) throw error;
    throw new FileError(path, error.message, { cause: error });
  }
}

/** @internal Tensors of a file for the length of a call. */
export function withTensors(raw: ReadonlyMap<string, RawTensor>, use: (state: ReadonlyMap<string, Tensor>) => void): void {
  const state = new Map<string, Tensor>();
  try {
    for (const [name, tensor] of raw) state.set(name, toTensor(tensor));
    use(state);
  } finally {
    for (const tensor of state.values()) tensor.dispose();
  }
}
