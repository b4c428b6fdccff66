/** The checks of an evaluation on the terminal. */
import type { CheckEvaluationOptions, EvaluationDiagnosis, Model, Split } from '../index.js';
import type { Context } from './command.js';
import type { Output } from './output.js';
import { Progress } from './progress.js';

/** Makes the checks and shows how far they are. */
export async function examine({ output, signal }: Context, model: Model, split: Split, options: CheckEvaluationOptions): Promise<EvaluationDiagnosis> {
  const { checkEvaluation } = await import('../index.js');
  using progress = new Progress(output, { label: 'Checking', rate: (checks) => `${checks.toFixed(1)} checks/s` });
  return await checkEvaluation(model, split, { ...options, signal, onProgress: ({ check, done, total }) => progress.outOf(total).update(done, check) });
}

/** A line a check, and what they come to. */
export function checkLines({ ok, checks }: EvaluationDiagnosis, output: Output): string[] {
  const width = Math.max(...checks.map(({ check }) => check.length)), failed = checks.filter((each) => !each.ok).length;
  const mark = (fine: boolean) => (fine ? output.style('green', '✔') : output.style('red', '✖'));
  return [
    '', ...checks.map(({ check, ok: fine, message }) => `  ${mark(fine)} ${check.padEnd(width)}  ${message}`), '',
    ok ? 'Nothing speaks against these numbers.' : `${failed === 1 ? 'One check fails' : `${failed} checks fail`}: these numbers may be wrong.`,
  ];
}
