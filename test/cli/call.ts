import { Writable } from 'node:stream';
import { run } from '../../src/cli/run.js';

/** What a command printed, and how it ended. */
export async function call(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const text = { stdout: '', stderr: '' };
  const kept = (name: 'stdout' | 'stderr') => new Writable({ write: (chunk: Buffer, _, done) => { text[name] += String(chunk); done(); } });
  return { code: await run(args, { stdout: kept('stdout'), stderr: kept('stderr') }), ...text };
}
