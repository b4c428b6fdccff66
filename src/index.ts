/** a-infonce: adversarial contrastive learning for Node.js. */
export {
  AInfoNCEError, ArgumentRangeError, ArgumentTypeError, CancelledError, FileError, LoadError, NonFiniteError, OperatorError, OutOfMemoryError,
  type ArgumentDetails,
} from './runtime/errors.js';
export { manualSeed, setThreads, getThreads, setInstructionSet, runtimeInfo, type InstructionSet } from './runtime/settings.js';
export { cuda, type CudaDevice, type CudaMemory } from './runtime/cuda.js';
export { Tensor, tensor, type NestedArray } from './tensor/tensor.js';
export { DTYPES, type DType, type TensorData } from './tensor/dtype.js';
export { zeros, ones, full, rand, randn, type FactoryOptions } from './tensor/factories.js';
export { ops } from './tensor/ops.js';
export { scope, keep, noGrad, memory } from './tensor/scope.js';
export { openDataset, findDataset, DATASETS, dataCacheFolder, type DatasetName, type OpenOptions } from './data/open.js';
export type { FolderOptions } from './data/folder.js';
export { downloadDataset, DOWNLOADABLE, type DownloadOptions, type DownloadProgress } from './data/download.js';
export { limitDataset, Split, type Dataset, type Indices, type SplitData } from './data/dataset.js';
export { corrupt, CORRUPTIONS, SEVERITIES, type CorruptionName, type CorruptOptions, type Severity } from './data/corrupt.js';
export { openCorruptions, EXTRA_CORRUPTIONS, type CorruptedSet, type PublishedCorruption } from './data/corruptions.js';
export { readNpy, type NpyArray, type NpyOptions } from './data/npy.js';
export { proceduralDataset, PROCEDURAL_CLASSES, type ProceduralOptions } from './data/procedural.js';
export {
  augment, augmentSync, augmentChoices, highFrequency, PIPELINES, type AugmentOptions, type Pipeline, type PipelineName, type Range,
} from './data/augment.js';
export type { BallOptions } from './attack/attack.js';
export { predict, type AttackModel, type PredictOptions } from './model/predict.js';
export type { JobOptions, StepProgress } from './runtime/job.js';
export { autoAttack, type AutoAttackOptions, type AutoAttackProgress, type AutoAttackReport, type AutoAttackStage, type AutoAttackStep } from './attack/autoAttack.js';
export { attack, type AttackOptions, type AttackSettings, type NamedAttackOptions, type SingleAttack } from './attack/named.js';
export { apgd, type ApgdOptions, type ResolvedApgdOptions } from './attack/apgd.js';
export { carliniWagner, type CarliniWagnerOptions, type ResolvedCarliniWagnerOptions } from './attack/carlini-wagner.js';
export { fab, type FabOptions, type ResolvedFabOptions } from './attack/fab.js';
export { square, type ResolvedSquareOptions, type SquareOptions } from './attack/square.js';
export { fgsm, mim, type FgsmOptions, type MimOptions } from './attack/fgsm.js';
export { pgd, type PgdOptions, type ResolvedPgdOptions } from './attack/pgd.js';
export { evaluate, type AttackName, type EvaluateOptions, type EvaluationData, type EvaluationProgress, type Score } from './evaluation/evaluate.js';
export { readResults, recordResult, type Result } from './evaluation/results.js';
export { analyze, type Analysis, type AnalysisResult, type AnalyzeOptions, type AnalyzeProgress } from './analysis/analyze.js';
export { readAnalysis, saveAnalysis, type RecordedAnalysis } from './analysis/file.js';
export type { Distribution } from './analysis/distribution.js';
export { report, type ReportOptions } from './report/report.js';
export {
  evaluateCorruptions, type CorruptionProgress, type CorruptionReport, type CorruptionScore, type CorruptionSettings, type EvaluateCorruptionsOptions,
} from './evaluation/corruptions.js';
export {
  checkEvaluation, type CheckEvaluationOptions, type EvaluationCheck, type EvaluationCheckName, type EvaluationDiagnosis,
} from './evaluation/sanity.js';
export { Model } from './model/model.js';
export { Encoder, type EncoderConfig, type EncoderOptions, type LoadedState, type LoadStateOptions, type ProjectorConfig } from './model/encoder.js';
export { Classifier, type ClassifierConfig, type ClassifierOrigin, type ClassifierOptions } from './model/classifier.js';
export { loadTorchScript, TorchScriptModel } from './model/torchscript.js';
export { readSafetensors, writeSafetensors, type Safetensors } from './model/safetensors.js';
export { pretrain, type PretrainEvent, type PretrainOptions } from './training/pretrain.js';
export type { StepValues } from './training/methods/method.js';
export type { AclConfig } from './training/methods/acl.js';
export type { AdvclConfig } from './training/methods/advcl.js';
export type { DynaclConfig } from './training/methods/dynacl.js';
export type { MocoConfig } from './training/methods/moco.js';
export type { RoclConfig } from './training/methods/rocl.js';
export type { SimclrConfig } from './training/methods/simclr.js';
export type { SupconConfig } from './training/methods/supcon.js';
export { cluster, type ClusterOptions, type ClusterProgress, type ClusterScore, type Clustering } from './training/cluster.js';
export { readPseudoLabels, writePseudoLabels, type PseudoLabels, type ReadPseudoLabelsOptions } from './training/pseudo-labels.js';
export { randomEncoder } from './training/baseline.js';
export { reproduce, type ReproduceEvent, type ReproduceOptions, type Stage } from './reproduction/reproduce.js';
export type { Cell, Encoding, Measure, Scale, Sizes } from './reproduction/grid.js';
export { rowName, tableCells, tableNotes, type CellResult, type Estimate, type Table, type TableRow } from './reproduction/table.js';
export { finetune, type FinetuneEvent, type FinetuneMode, type FinetuneOptions, type FinetuneRun, type FinetuneStepValues } from './training/finetune.js';
export { presets, resolveConfig, type FinetuneConfigs, type Overrides, type PresetName, type PretrainConfig } from './training/presets.js';
export type { SaveInterval } from './training/run.js';
export { learningRate, type CosineSchedule, type Position, type RoclSchedule, type Schedule, type StepSchedule, type WarmupCosineSchedule } from './training/schedule.js';
export { Optimizer, type OptimizerOptions } from './training/optimizer.js';
export { aInfoNCE, FixedViews, type AInfoNCEOptions, type HardNegativeOptions, type InferiorPositiveOptions } from './objective/aInfoNCE.js';
export { benchmark, type BenchmarkOptions, type BenchmarkProgress, type BenchmarkReport, type BenchmarkRow, type Quartiles } from './benchmark/benchmark.js';
