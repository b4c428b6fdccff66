// Every example of README.md, CONTRIBUTING.md, docs/ and the docstrings is type-checked and run; commands that take too long for that are understood at least.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Command } from 'commander';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { call } from '../cli/call.js';
import { libtorchPython, operatorLibrary } from '../fixtures/python.js';
import { commandLines, pages, root, type Language } from './pages.js';

const place = join(root, 'test/system/.examples'), all = pages(place), before = process.cwd(), python = libtorchPython();
const bin = join(place, 'bin'), program = join(bin, 'a-infonce');
mkdirSync(bin);
writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${join(root, 'dist/cli/main.js')}' "$@"\n`);
chmodSync(program, 0o755);
afterEach(() => {
  process.chdir(before);
  vi.restoreAllMocks();
});
afterAll(() => rmSync(place, { recursive: true, force: true }));

/** Runs a file. @returns why it cannot be run here, if it cannot */
const runners: Record<Language, (file: string) => Promise<string | void>> = {
  ts: async (file) => void (await import(/* @vite-ignore */ pathToFileURL(file).href)),
  sh: async (file) => ended('bash', ['-e', file], { ...process.env, PATH: `${bin}${delimiter}${process.env['PATH']}` }),
  py: async (file) => (typeof python === 'string' ? python : ended(python.command, [file], { ...python.env, A_INFONCE_LIBRARY: operatorLibrary() })),
};

function ended(command: string, args: string[], env: NodeJS.ProcessEnv): string | void {
  const { status, stdout, stderr } = spawnSync(command, args, { env, encoding: 'utf8' });
  const missing = /ModuleNotFoundError: (No module named '(?:numpy|safetensors)[.\w]*')/.exec(stderr)?.[1]; // torch: `python` says where that is lacking
  if (missing) return `${command}: ${missing}`;
  expect(status, `${stdout}\n${stderr}`).toBe(0);
}

describe('examples', () => {
  it('are there', () => {
    expect(all.flatMap(({ blocks }) => blocks).length).toBeGreaterThan(60); // an empty list would pass everything
    expect(new Set(all.flatMap(({ blocks }) => blocks.map(({ language }) => language)))).toEqual(new Set(['ts', 'sh', 'py']));
  });
  it('have correct types', () => {
    const options = { rootDir: '../../..', noEmit: true, noUnusedLocals: false, paths: { 'a-infonce': ['../../../src/index.ts'] } };
    writeFileSync(join(place, 'tsconfig.json'), JSON.stringify({ extends: '../../../tsconfig.json', compilerOptions: options, include: ['*/*.ts'] }));
    const run = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', place], { encoding: 'utf8' });
    expect(run.stdout).toBe('');
  });
  for (const { folder, blocks } of all) {
    let lacking: string | void;
    for (const { name, language, file } of blocks)
      it(`${name} runs`, async (context) => {
        process.chdir(folder);
        lacking ||= await runners[language](file);
        if (lacking) context.skip(lacking); // what follows may need what this block would have made
      });
  }
});

describe('command lines', () => {
  const lines = commandLines();
  it('are there', () => expect(lines.length).toBeGreaterThan(30));
  it.each(lines)('$path: a-infonce $line', async ({ line }) => {
    const run = vi.fn(), original = Command.prototype.action;
    vi.spyOn(Command.prototype, 'action').mockImplementation(function (this: Command) { return original.call(this, run); }); // all but the work itself
    const words = [...line.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2]!);
    expect(await call(...words)).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(run).toHaveBeenCalledOnce();
  });
});
