import { ArgumentRangeError, getThreads, ops, randn, runtimeInfo, setInstructionSet, setThreads } from 'a-infonce';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { explainLoadFailure } from '../../src/runtime/explain.js';
import { restoreSettings } from '../fixtures/settings.js';

afterEach(restoreSettings);

describe('settings', () => {
  it('says what it runs on', () => {
    const info = runtimeInfo();
    expect(info.libtorch).toMatch(/^2\.1[1-3]\./);
    expect(info.instructionSets[0]).toBe('portable');
    expect(info.instructionSets).toContain(info.instructionSet);
    expect(info.openmp).toBe(true);
  });
  it('sets the threads of one operation', () => {
    setThreads(1);
    expect(getThreads()).toBe(1);
    setThreads(2);
    expect(getThreads()).toBe(2);
    setThreads(0);
    expect(getThreads()).toBeGreaterThanOrEqual(1);
    for (const bad of [-1, 1.5, 1e9]) expect(() => setThreads(bad)).toThrow(ArgumentRangeError);
    using a = randn([8, 8]);
    expect(ops.aten.equal(ops.aten.mm(a, a), ops.aten.mm(a, a))).toBe(true);
  });
  it('forces an instruction set that is there, and no other', () => {
    for (const name of runtimeInfo().instructionSets) {
      setInstructionSet(name as 'portable');
      expect(runtimeInfo().instructionSet).toBe(name);
    }
    expect(() => setInstructionSet('sse9' as 'portable')).toThrow(/^name: expected one of '', 'portable', 'avx2', 'avx512'/);
    setInstructionSet('');
    expect(runtimeInfo().instructionSet).toBe(runtimeInfo().instructionSets.at(-1));
  });
});

describe('a failed load says what to type', () => {
  const say = (message: string) => explainLoadFailure(new Error(message), '/nowhere/node_modules/a-infonce');
  it('for each cause', () => {
    expect(say('No native build was found for platform=linux')).toMatch(/@a-infonce\/linux-x64, are not installed: .* Type: npm install @a-infonce\/linux-x64@.*\nOr build from source: npm install --no-save cmake-js/);
    expect(say('libtorch_cpu.so: cannot open shared object file: No such file or directory')).toMatch(/libtorch_cpu\.so was not found.*Type: npm install --no-save cmake-js/s);
    expect(say("/lib/libc.so.6: version `GLIBC_2.38' not found (required by x.node)")).toMatch(/too old: GLIBC_2\.38 is needed/);
    expect(say('x.node: undefined symbol: _ZN2at3fooE')).toMatch(/do not fit together.*Build again/s);
    expect(say('something else')).toMatch(/something else/);
  });
  it('when there is no addon at all', () => {
    const dist = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
    const empty = mkdtempSync(join(tmpdir(), 'a-infonce-'));
    const script = `import(${JSON.stringify(dist)}).then(({ tensor }) => tensor([1])).catch((error) => console.log(error.name, error.message));`;
    const text = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8', env: { ...process.env, A_INFONCE_PREBUILD: empty } });
    expect(text).toMatch(/^LoadError The native addon is not built yet\. Type: npm run build:native/);
    rmSync(empty, { recursive: true });
  });
});

describe('the build', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const dir = mkdtempSync(join(tmpdir(), 'libtorch-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  const build = (env: Record<string, string>) => {
    const run = spawnSync(process.execPath, ['scripts/build-native.mjs'], { cwd: root, encoding: 'utf8', env: { ...process.env, ...env } });
    return { status: run.status, text: run.stderr };
  };
  it('stops with what to type when the compiler is missing', () =>
    expect(build({ CXX: 'no-such-compiler' })).toEqual({ status: 1, text: expect.stringMatching(/No C\+\+ compiler.*apt-get install g\+\+/s) }));
  it('stops when CMake is missing', () => {
    const bin = mkdtempSync(join(tmpdir(), 'a-infonce-bin-'));
    const { status, text } = build({ PATH: bin, CXX: '/usr/bin/c++' });
    expect([status, text]).toEqual([1, expect.stringMatching(/CMake was not found.*Ninja nor Make/s)]);
    rmSync(bin, { recursive: true });
  });
  it('stops when the LibTorch it was told to take is none, or of a wrong version', () => {
    expect(build({ A_INFONCE_LIBTORCH: join(dir, 'none') }).text).toMatch(/there is no such folder/);
    expect(build({ A_INFONCE_LIBTORCH: dir }).text).toMatch(/no LibTorch headers/);
    mkdirSync(join(dir, 'include/torch/headeronly'), { recursive: true });
    mkdirSync(join(dir, 'lib'));
    writeFileSync(join(dir, 'lib/libtorch_cpu.so'), '');
    writeFileSync(join(dir, 'include/torch/headeronly/version.h'), '#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 4\n#define TORCH_VERSION_PATCH 1\n');
    expect(build({ A_INFONCE_LIBTORCH: dir }).text).toMatch(/it is LibTorch 2\.4\.1; 2\.11 to 2\.13 are supported/);
  });
  it.each([[2, 10, false], [2, 11, true], [2, 13, true], [2, 14, false], [3, 12, false]])('LibTorch %i.%i is supported: %s, and tried when that is asked for', (major, minor, good) => {
    writeFileSync(join(dir, 'include/torch/headeronly/version.h'), `#define TORCH_VERSION_MAJOR ${major}\n#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH 0\n`);
    const problem = (any: string) => execFileSync(process.execPath, ['--input-type=module', '-e',
      `import { inspectLibTorch } from ${JSON.stringify(join(root, 'scripts/libtorch.mjs'))}; console.log(inspectLibTorch(${JSON.stringify(dir)}).problem ?? 'none')`,
    ], { encoding: 'utf8', env: { ...process.env, A_INFONCE_ANY_LIBTORCH: any } }).trim();
    expect(problem('')).toMatch(good ? /^none$/ : /supported \(A_INFONCE_ANY_LIBTORCH=1 tries another\)/);
    expect(problem('1')).toBe('none');
  });
});
