/** What ptxas -v says of each kernel: registers, bytes that they spill and of shared memory, by architecture. */
export function kernelsOf(log) {
  const result = new Map();
  let kernel;
  for (const line of log.split('\n')) {
    const entry = /Compiling entry function '(\S+)' for '(\S+)'/.exec(line), spill = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line), uses = /Used (\d+) registers/.exec(line);
    if (entry) {
      if (!result.has(entry[1])) result.set(entry[1], []);
      result.get(entry[1]).push((kernel = { architecture: entry[2], registers: 0, spilled: 0, shared: 0 }));
    } else if (spill && kernel) kernel.spilled += Number(spill[1]) + Number(spill[2]);
    else if (uses && kernel) kernel.registers = Number(uses[1]), kernel.shared = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
  }
  return result;
}

/** The threads of a block that PTX says a kernel has at most (__launch_bounds__). */
export const boundsOf = (ptx) => new Map([...ptx.matchAll(/\.entry\s+(\w+)\([^{]*?\.maxntid\s+(\d+)/g)].map(([, name, threads]) => [name, Number(threads)]));

/** Why a multiprocessor cannot hold one block of `threads`, by default the 1024 that a launch may ask for. Registers come to a warp 256 at a time. */
export function refusals({ architecture, registers, spilled, shared }, threads = 1024) {
  const taken = Math.ceil(registers / 8) * 8 * threads, room = (/^sm_(9|1\d)/.test(architecture) ? 227 : 163) * 1024;
  return [spilled > 0 && `spills ${spilled} bytes`, taken > 65_536 && `${taken} registers of 65536 for ${threads} threads`, shared > room && `${shared} bytes of shared memory of ${room}`].filter(Boolean);
}
