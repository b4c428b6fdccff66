// What compute-sanitizer is to run (bench/gpu/sanitize.mjs), on the emulated kernels as a GPU of the given compute capability has them; the last line is where those that ran are.
const [library, capability] = process.argv.splice(2, 2);
const { ops, setThreads } = await import('../../dist/index.js');
setThreads(1);
process.dlopen({ exports: {} }, library);
ops.a_infonce_emulated.set_capability(Number(capability));
process.argv.push('--device', 'cpu', '--precisions', capability === '90' ? 'bf16' : 'full,bf16x3,bf16');  // only bf16 has kernels of the newer one
await import('../../bench/gpu/sanitize.mjs');
console.log(JSON.stringify(ops.a_infonce_emulated.kernels().map(Number)));
