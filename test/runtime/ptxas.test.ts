import { expect, it } from 'vitest';

const { boundsOf, kernelsOf, refusals } = await import(new URL('../../scripts/ptxas.mjs', import.meta.url).href) as {
  kernelsOf(log: string): Map<string, { architecture: string; registers: number; spilled: number; shared: number }[]>;
  boundsOf(ptx: string): Map<string, number>;
  refusals(kernel: { architecture: string; registers: number; spilled: number; shared: number }, threads?: number): string[];
};

it('a kernel that a multiprocessor cannot hold is refused', () => {
  const log = (use: string, spill = 0) => kernelsOf(`ptxas info    : Compiling entry function 'k' for 'sm_90a'\n    8 bytes stack frame, ${spill} bytes spill stores, 0 bytes spill loads\nptxas info    : Used ${use}`).get('k')![0]!;
  expect(log('168 registers, used 1 barriers, 1024 bytes smem, 536 bytes cmem[0]')).toEqual({ architecture: 'sm_90a', registers: 168, spilled: 0, shared: 1024 });
  expect(refusals(log('128 registers'), 512)).toEqual([]);
  expect(refusals(log('129 registers'), 512)).toEqual(['69632 registers of 65536 for 512 threads']);
  expect(refusals(log('65 registers'))).toEqual(['73728 registers of 65536 for 1024 threads']);
  expect(refusals(log('32 registers', 4))).toEqual(['spills 4 bytes']);
  expect(refusals(log('32 registers, 200000 bytes smem'))).toEqual([]);
  expect(refusals({ ...log('32 registers, 200000 bytes smem'), architecture: 'sm_80' })).toEqual(['200000 bytes of shared memory of 166912']);
  expect([...boundsOf('.visible .entry k(\n.param .u64 k_param_0\n)\n.maxntid 512\n.minnctapersm 1\n{\n}\n.visible .entry other(\n)\n{ ret; }')]).toEqual([['k', 512]]);
});
