/**
 * The contract of the native module, by hand: one interface an area, in the order of native/addon/*.cc.
 * Handles are opaque, type-tagged externals; only the facade's classes hold them.
 */
declare const kind: unique symbol;
export type Handle<K extends string> = { readonly [kind]: K };
export type TensorHandle = Handle<'Tensor'>;
export type ModelHandle = Handle<'Model'>;

/** A running job: see `job()` in runtime/job.ts. */
export interface NativeJob<T> {
  readonly promise: Promise<T>;
  cancel(): void;
}
export type NativeProgress = ((values: Record<string, number>) => void) | undefined;

export interface RuntimeAddon {
  /** Called once an environment with the constructor of typed errors. */
  set_error_factory(factory: (kind: string, message: string, argument: string, expected: string, received: string, more: string) => Error): void;
  info(): { libtorch: string; instructionSet: string; instructionSets: string[]; threads: number; cuda: boolean; openmp: boolean; cpu: string };
  set_threads(threads: number): void;
  get_threads(): number;
  /** '' chooses the best that the processor has. */
  set_instruction_set(name: string): void;
  manual_seed(seed: bigint): void;
  set_grad_enabled(enabled: boolean): boolean;
  /** Nothing where LibTorch is built without CUDA; `architectures` and `cards` where the kernels' library loads, else the `problem`. */
  cuda_info(): {
    version?: string; devices?: number; architectures?: string; cards?: { device: string; name: string; architecture: string; memory: number }[]; problem?: string;
  };
  cuda_memory(device: string): { allocated: number; peak: number; reserved: number; free: number; total: number };
  cuda_reset_peak_memory(device: string): void;
  cuda_synchronize(device: string): void;
  cuda_release_memory(): void;
  cuda_allow_tf32(allowed?: boolean): boolean;
  /** The device as tensors on it call it; throws ArgumentRange, naming the argument, where there is none. */
  device_named(device: string, argument: string): string;
  /** Cancels every job and waits for them; ends the process with `code` at once when they take longer. Nothing can be started afterwards. */
  stop_jobs(milliseconds: number, code: number): void;
}

export interface TensorState {
  dtype: string;
  shape: number[];
  device: string;
  requiresGrad: boolean;
}

export interface TensorAddon {
  from_data(data: ArrayBufferView, dtype: string, shape: number[], device: string): TensorHandle;
  /** Copies of the elements, contiguous, in the tensors' dtypes; a card is waited for once. */
  to_data(tensors: TensorHandle[]): ArrayBuffer[];
  /** Copies into tensors of the same shapes, wherever they are; nothing is recorded. */
  copy_all(targets: TensorHandle[], sources: TensorHandle[]): void;
  /** Of one element. */
  item(tensor: TensorHandle): number;
  state(tensor: TensorHandle): TensorState;
  set_requires_grad(tensor: TensorHandle, value: boolean): void;
  grad(tensor: TensorHandle): TensorHandle | null;
  set_grad(tensor: TensorHandle, grad: TensorHandle | null): void;
  backward(tensor: TensorHandle, gradient: TensorHandle | null, retainGraph: boolean): void;
  to(tensor: TensorHandle, dtype: string | null, device: string | null): TensorHandle;
  dispose(tensor: TensorHandle): void;
  memory(): { tensors: number; bytes: number };
}

export interface NativeSchema {
  schema: string;
  overload: string;
  /** False when a required argument is of a kind that JavaScript cannot pass. */
  callable: boolean;
  arguments: { name: string; type: string; keywordOnly: boolean; optional: boolean; fixedSize: boolean }[];
  returns: string[];
}

export interface OperatorAddon {
  operator_names(): string[];
  operator_schemas(name: string): NativeSchema[];
  /** Tries the overloads of `namespace::base` in order; a result is a handle, a plain value, or an array of these for tuples and lists. */
  call_operator(name: string, overload: string | null, args: unknown[], keywords: Record<string, unknown> | null): unknown;
}

export interface ModelAddon {
  model_create(options: {
    architecture: string; stem: string; width: number; channels: number; branches: string[]; heads: number[]; initialisation: string; seed: number;
    projector?: { hidden: number[]; output: number; batchNorm: boolean } | undefined;
  }): ModelHandle;
  /** A linear head on the encoder of `model`, shared. `branch` may be '' for the first. */
  model_classifier(model: ModelHandle, classes: number, branch: string, seed: number): ModelHandle;
  /** `branch` and `output` for networks only. */
  model_forward(model: ModelHandle, images: TensorHandle, branch?: string, output?: string): TensorHandle;
  /** The model's own tensors, not copies. */
  model_state(model: ModelHandle, parametersOnly: boolean): { name: string; tensor: TensorHandle }[];
  model_load_state(model: ModelHandle, names: string[], tensors: TensorHandle[], strict: boolean): { missing: string[]; unexpected: string[] };
  model_set_training(model: ModelHandle, training: boolean): void;
  model_set_training_in_turn(model: ModelHandle, training: boolean): NativeJob<void>;
  model_training(model: ModelHandle): boolean;
  model_clone(model: ModelHandle): ModelHandle;
  model_device(model: ModelHandle): string;
  model_to(model: ModelHandle, device: string): void;
  model_dispose(model: ModelHandle): void;
  torchscript_load(bytes: Uint8Array, name: string): NativeJob<ModelHandle>;
}
/** A model, or a function that gives its output for a batch by calling `give` before it returns (or its Promise resolves). */
export type NativeModel = ModelHandle | ((images: TensorHandle, give: (output: TensorHandle) => void) => void | Promise<void>);
/** What every attack takes. `samples`: int64 [N], which name the random streams. */
export interface NativeAttackInputs {
  labels?: TensorHandle | undefined;
  samples?: TensorHandle | undefined;
  batchSize: number;
}
/** One member an attack, with every value decided; see native/attack/*.h. */
export type NativeAttack = NativeAttackInputs & (
  | {
    /** Either `labels`, or `positives` and `temperature` for the contrastive objective. */
    attack: 'pgd';
    norm: string; epsilon: number; stepSize: number; steps: number; restarts: number; randomStart: boolean; clampStart: boolean; clampThenProject: boolean;
    momentum: number; earlyStop: boolean; targeted: boolean; trainMode: boolean; seed: number; graph: boolean;
    positives?: TensorHandle | undefined; temperature?: number | undefined;
  }
  | { attack: 'apgd'; norm: string; epsilon: number; loss: string; steps: number; restarts: number; targets: number; rho: number; seed: number }
  | {
    attack: 'fab';
    norm: string; epsilon: number; steps: number; restarts: number; targets: number; alphaMax: number; eta: number; beta: number; seed: number;
  }
  | { attack: 'square'; norm: string; epsilon: number; queries: number; pInit: number; rescaleSchedule: boolean; restarts: number; seed: number }
  | {
    attack: 'carlini-wagner';
    epsilon: number | null; steps: number; searchSteps: number; initialC: number; learningRate: number; confidence: number; abortEarly: boolean; targeted: boolean;
  }
);
export interface AttackAddon {
  /** Adversaries of all images, made by the attack that `options.attack` names. */
  attack(model: NativeModel, images: TensorHandle, options: NativeAttack, progress: NativeProgress): NativeJob<TensorHandle>;
  /** Predicted classes, int64 [N], and the logits [N, classes] that say so. */
  require_unit_range(images: TensorHandle): void;
  predict(model: NativeModel, images: TensorHandle, batchSize: number, progress: NativeProgress): NativeJob<{ predicted: TensorHandle; logits: TensorHandle }>;
}
/** A resolved augmentation pipeline; see native/kernels/augment/augment.h. */
export interface NativePipeline {
  size: number;
  scale: readonly [number, number] | undefined;
  ratio: readonly [number, number];
  padding: number;
  flip: number;
  jitter: number;
  brightness: number;
  contrast: number;
  saturation: number;
  hue: number;
  gray: number;
  colorFirst: boolean;
}
export interface DataAddon {
  augment(pixels: TensorHandle, indices: TensorHandle, options: NativePipeline & { seed: number; epoch: number; view: number }): NativeJob<TensorHandle>;
  /** uint8 [N, C, H, W] to the same; `samples`: int64 [N], which name the random numbers. */
  corrupt(pixels: TensorHandle, samples: TensorHandle, options: { type: string; severity: number; seed: number }): NativeJob<TensorHandle>;
}
export type TrainerHandle = Handle<'Trainer'>;
export type OptimizerHandle = Handle<'Optimizer'>;
export type LockHandle = Handle<'FileLock'>;
export interface OptimizerValues {
  momentum: number;
  weightDecay: number;
  lars?: { trust: number; epsilon: number; rateInMomentum?: boolean } | undefined;
}

export interface TrainingAddon {
  /** Trains the parameters whose names start with `prefix`; `precision` is that of the encoder in its steps, by default 'full'. */
  create_trainer(model: ModelHandle, optimizer: OptimizerValues, prefix: string, precision?: 'full' | 'bf16'): TrainerHandle;
  /** Frees its memory now; the handle is of no more use. */
  dispose_trainer(trainer: TrainerHandle): void;
  /** Momentum by parameter name: the trainer's own tensors, not copies. */
  trainer_state(trainer: TrainerHandle): Record<string, TensorHandle>;
  load_trainer_state(trainer: TrainerHandle, momentum: Record<string, TensorHandle>): void;
  /**
   * One step of a method of native/addon/methods.cc over a batch: its inputs by name (`samples`, int64 [B], names the random streams of the attacks),
   * its options and `learningRate`. Gives `loss`, `gradientNorm` and the method's own numbers.
   */
  training_step(trainer: TrainerHandle, method: string, inputs: Record<string, TensorHandle>, options: { learningRate: number; [name: string]: unknown }):
    NativeJob<{ loss: number; gradientNorm: number; [name: string]: number }>;
  /** Features [N, D] of uint8 pixels [N, C, H, W] in eval mode; `branch` may be '' for the first. Progress: `done` of `total` images. */
  encode(model: ModelHandle, pixels: TensorHandle, branch: string, batchSize: number, progress?: NativeProgress): NativeJob<TensorHandle>;
  /** Clusters of the rows of features [N, D]: labels int64 [N], centers float32 [k, D]. Progress: `restart`, `iteration`, `inertia`. */
  kmeans(features: TensorHandle, options: {
    k: number; miniBatch: boolean; batchSize: number; restarts: number; maxIterations: number; tolerance: number; seed: number;
  }, progress: NativeProgress): NativeJob<{ labels: TensorHandle; centers: TensorHandle; inertia: number; history: number[] }>;
  /** Train-mode passes over the same pixels: BatchNorm's running statistics become theirs, no weight moves. */
  estimate_statistics(model: ModelHandle, pixels: TensorHandle, branch: string, batchSize: number): NativeJob<undefined>;
  /** One pass over features [N, D] and labels [N] in `order`; both and `order` int64 but the features. */
  probe_epoch(trainer: TrainerHandle, features: TensorHandle, labels: TensorHandle, order: TensorHandle, batchSize: number, learningRate: number):
    NativeJob<Record<'loss' | 'accuracy', number>>;
  /** int64 [n]: a permutation of 0..n-1 that depends on seed and stream alone. */
  permutation(n: number, seed: number, stream: number): TensorHandle;
  /** float32 [rows, dim]: rows of length 1 in directions drawn uniformly. */
  random_directions(rows: number, dim: number, seed: number): TensorHandle;
  create_optimizer(parameters: Record<string, TensorHandle>, options: OptimizerValues): OptimizerHandle;
  optimizer_step(optimizer: OptimizerHandle, learningRate: number): void;
  optimizer_zero_grad(optimizer: OptimizerHandle): void;
  optimizer_state(optimizer: OptimizerHandle): Record<string, TensorHandle>;
  load_optimizer_state(optimizer: OptimizerHandle, state: Record<string, TensorHandle>): void;
  /** Locks a file for this process; throws FileError when another run holds it. The kernel gives it back when the process ends. */
  lock_file(path: string): LockHandle;
  unlock_file(lock: LockHandle): void;
}

export interface AnalysisAddon {
  /** The model's output in eval mode, [N, D]. */
  embed(model: ModelHandle, images: TensorHandle, batchSize: number): NativeJob<TensorHandle>;
  /** Cosine similarities of rows [n, d] with gallery [n, d]; see native/analysis/similarity.h. */
  similarity_pairs(rows: TensorHandle, gallery: TensorHandle, k: number, bins: number, excludeOwn: boolean): NativeJob<
    Record<'own' | 'nearest' | 'nearestSimilarity' | 'counts', TensorHandle> & Record<'mean' | 'uniformity', number>>;
  /** Points [m, d] along the first k principal axes of fitted [n, d]. */
  principal_axes(fitted: TensorHandle, points: TensorHandle, k: number): NativeJob<Record<'coordinates' | 'explained', TensorHandle>>;
}

export interface Addon extends RuntimeAddon, TensorAddon, OperatorAddon, ModelAddon, AttackAddon, DataAddon, TrainingAddon, AnalysisAddon {}
