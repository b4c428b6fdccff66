/** What an analysis leaves in a run's folder: analysis.json and analysis.safetensors. */
import { join } from 'node:path';
import { z } from 'zod';
import { writeSafetensors } from '../model/safetensors.js';
import { check, FileError } from '../runtime/errors.js';
import { atomically, fileSha256 } from '../runtime/files.js';
import { readJson } from '../runtime/json.js';
import { analysisSchema, type AnalysisResult } from './analyze.js';

const FILE = 'analysis.json';

const recorded = analysisSchema.extend({
  time: z.iso.datetime(),
  /** The data set, and the names of its classes. */
  data: z.string(),
  classes: z.array(z.string()),
  /** File names in the folder. */
  encoder: z.string(),
  classifierFile: z.string().optional(),
  /** SHA-256 of these files: others under the same names are told by it. */
  encoderSha256: z.string().optional(),
  classifierSha256: z.string().optional(),
});
/** An {@link Analysis} and what it was made of. */
export type RecordedAnalysis = z.infer<typeof recorded>;

/**
 * Writes `<folder>/analysis.json` and the tensors into `<folder>/analysis.safetensors`, in place of earlier ones. The digests are those of the files in the
 * folder unless given. @throws {@link FileError}
 */
export async function saveAnalysis(
  folder: string, { values, tensors }: AnalysisResult, of: Pick<RecordedAnalysis, 'data' | 'classes' | 'encoder' | 'classifierFile' | 'encoderSha256' | 'classifierSha256'>,
): Promise<void> {
  check.string('folder', folder);
  const time = new Date().toISOString(), digest = (name: string | undefined) => (name === undefined ? undefined : fileSha256(join(folder, name)));
  const digests = { encoderSha256: of.encoderSha256 ?? await digest(of.encoder), classifierSha256: of.classifierSha256 ?? await digest(of.classifierFile) };
  await writeSafetensors(join(folder, 'analysis.safetensors'), Object.entries(tensors), { time });
  await atomically(join(folder, FILE), (file) => file.writeFile(`${JSON.stringify({ time, ...of, ...digests, ...values } satisfies RecordedAnalysis)}\n`));
}

/** The analysis in a run's folder, if there is one. @throws {@link FileError} when it is not one of ours, naming the value at fault. */
export async function readAnalysis(folder: string): Promise<RecordedAnalysis | undefined> {
  const path = join(check.string('folder', folder), FILE);
  try {
    return await readJson(path, recorded);
  } catch (error) {
    throw error instanceof FileError ? new FileError(path, `${error.message.slice(path.length + 2)}. To make it anew, type: a-infonce analyze`, { cause: error }) : error;
  }
}
