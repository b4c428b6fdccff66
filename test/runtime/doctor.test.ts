import { expect, it } from 'vitest';
import { native } from '../../src/runtime/native.js';
import { diagnose } from '../../src/runtime/doctor.js';

it('whoever asks for a device that is not there reads why, and what to type', async () => {
  const { ok, findings } = await diagnose({ device: 'cuda:99' });
  expect(ok).toBe(false);
  const { text, fix } = findings.find(({ subject, state }) => subject === 'GPU' && state === 'problem')!;
  expect(text).toContain('cuda:99 was asked for');
  expect(fix).toMatch(/docs\/guides\/gpu\.md|--device cuda:\d/);
  const { version, cards } = native().cuda_info();
  if (version === undefined) expect([text, fix]).toEqual([expect.stringContaining('this LibTorch is built for the processor only'), expect.stringContaining('take a LibTorch with CUDA')]);
  else if ((cards ?? []).length > 0) expect(fix).toBe(`--device cuda:${cards!.length - 1}`);
});
