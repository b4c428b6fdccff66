import type { ModelHandle } from '../runtime/addon.js';
import { checkDevice } from '../runtime/cuda.js';
import { ArgumentRangeError, ArgumentTypeError, check, describe, FileError } from '../runtime/errors.js';
import { native } from '../runtime/native.js';
import { checkImages, tensorOf } from '../tensor/check.js';
import { ops } from '../tensor/ops.js';
import { noGrad } from '../tensor/scope.js';
import { Tensor } from '../tensor/tensor.js';
import { Encoder, type EncoderConfig, fromFile, type LoadedState, loadState, type LoadStateOptions, readModel, saveModel, withTensors } from './encoder.js';
import { Model, seedOf } from './model.js';

/** What a classifier is made of, resolved. */
export interface ClassifierConfig {
  encoder: Readonly<EncoderConfig>;
  classes: number;
  /** The encoder's BatchNorm branch that it uses. */
  branch: string;
}

/** How a classifier was made, and on what: goes with it into its file. `finetune` records all that decides the result (see FinetuneRun). */
export interface ClassifierOrigin {
  mode: 'slf' | 'alf' | 'aff';
  data: { name: string; size?: number | undefined; procedural?: { train?: number | undefined; test?: number | undefined; size?: number | undefined; seed?: number | undefined } | undefined };
}

/** Options of {@link Classifier.create}. */
export interface ClassifierOptions {
  /** Shared, not copied: its weights are the classifier's, and disposing it leaves the classifier whole. */
  encoder: Encoder;
  classes: number;
  /** By default the encoder's first branch. AdvCL fine-tunes through `'pgd'`. */
  branch?: string;
  /** Of the head's first values, by default 0. The head is made where the encoder is. */
  seed?: number;
}

/** An encoder and a linear head: images `[N, channels, height, width]` to logits `[N, classes]`. */
export class Classifier extends Model {
  /** How `finetune` made it, or whoever wrote its file; undefined for a classifier of another origin. */
  finetuning: ClassifierOrigin | undefined;

  /** @internal */
  private constructor(handle: ModelHandle, readonly config: Readonly<ClassifierConfig>) {
    super(handle);
  }

  /** A new head on `encoder`. @throws {@link ArgumentTypeError} or {@link ArgumentRangeError} naming the option. */
  static create(options: ClassifierOptions): Classifier {
    const { encoder, classes, branch, seed = 0 } = check.options('options', options, ['encoder', 'classes', 'branch', 'seed']);
    if (!(encoder instanceof Encoder)) throw new ArgumentTypeError('encoder', 'an Encoder', describe(encoder));
    const config: ClassifierConfig = {
      encoder: { ...encoder.config, projector: undefined, heads: [] },
      classes: check.integer('classes', classes, { min: 1, max: 1 << 20 }),
      branch: check.oneOf('branch', branch ?? encoder.config.branches[0], encoder.config.branches),
    };
    return new Classifier(native().model_classifier(encoder.handle, config.classes, config.branch, seedOf(seed)), config);
  }

  /**
   * The encoder's features of a batch, through the classifier's branch.
   * @param images `[N, channels, height, width]`, float32 in [0, 1]. @returns `[N, featureDim]`. @throws {@link ArgumentRangeError} as `forward`.
   */
  features(images: Tensor): Tensor {
    return Tensor.wrap(native().model_forward(this.handle, tensorOf('images', images).handle, this.config.branch, 'features'));
  }

  /**
   * Class ids of a batch, in eval mode and without recording; the classifier's mode is as before afterwards.
   * @param images `[N, channels, height, width]`, float32 in [0, 1]. @returns N ids from 0 to `classes - 1`.
   * @throws {@link ArgumentRangeError} as `forward`, and for values that are NaN or not in [0, 1].
   */
  predict(images: Tensor): number[] {
    checkImages('images', images);
    native().require_unit_range(images.handle);
    const { training } = this;
    this.eval();
    try {
      return noGrad(() => {
        using logits = this.forward(images);
        using ids = ops.aten.argmax(logits, 1);
        return Array.from(ids.toTypedArray(), Number);
      });
    } finally {
      if (training) this.train();
    }
  }

  /** A deep copy, in the same mode. */
  clone(): Classifier {
    return Object.assign(new Classifier(native().model_clone(this.handle), this.config), { finetuning: this.finetuning });
  }

  /** As {@link Encoder.loadState}; heads may be called `head`, `fc`, `linear` or `classifier`. */
  loadState(state: ReadonlyMap<string, Tensor> | Record<string, Tensor>, options: LoadStateOptions = {}): LoadedState {
    return loadState(this.handle, state, { branches: this.config.encoder.branches, projector: false, head: true, heads: false }, options);
  }

  /** Writes a safetensors file that {@link Classifier.load} needs nothing beside. @throws {@link FileError} */
  async save(path: string): Promise<void> {
    await saveModel(this, path, { kind: 'classifier', ...this.config.encoder, branch: this.config.branch }, this.finetuning && { [ORIGIN]: JSON.stringify(this.finetuning) });
  }

  /**
   * Reads a classifier from a safetensors file (ours, or one with names that {@link Classifier.loadState} knows), or from a run's folder, in eval mode.
   * @param options.branch see {@link LoadStateOptions}: take one BatchNorm branch of several.
   * @param options.device where it is to be, by default `'cpu'`; files know no device
   * @throws {@link FileError} naming the file and what is wrong.
   */
  static async load(path: string, options: { branch?: string; device?: string } = {}): Promise<Classifier> {
    const { device = 'cpu', ...rest } = check.options('options', options, ['branch', 'device']);
    checkDevice('options.device', device);
    const { path: file, tensors, encoder: found, classes, branch, metadata } = await readModel(path, 'classifier.safetensors');
    if (classes === undefined) throw new FileError(file, 'no linear head (head.weight, fc.weight or linear.weight): an encoder, not a classifier');
    return fromFile(file, () => {
      using encoder = Encoder.create({ ...found, projector: undefined, heads: [], ...(options.branch === undefined ? {} : { branches: [options.branch] }) });
      const classifier = Classifier.create({ encoder, classes, ...(branch === undefined || options.branch !== undefined ? {} : { branch }) }).eval();
      try {
        classifier.finetuning = metadata[ORIGIN] === undefined ? undefined : origin(JSON.parse(metadata[ORIGIN]));
        withTensors(tensors, (state) => classifier.loadState(state, rest));
        return classifier.to(device);
      } catch (error) {
        classifier.dispose();
        throw error;
      }
    });
  }
}

const ORIGIN = 'a_infonce.finetuning';

function origin(value: Partial<ClassifierOrigin> | null): ClassifierOrigin {
  if (!['slf', 'alf', 'aff'].includes(value?.mode as string) || typeof value?.data?.name !== 'string') throw new ArgumentRangeError(ORIGIN, 'a mode and the name of its data', describe(value));
  return value as ClassifierOrigin;
}
