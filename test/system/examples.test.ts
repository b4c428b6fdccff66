// Every TypeScript example of README.md, docs/*.md and the docstrings is type-checked and run.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = join(root, 'test', 'system', '.examples');

interface Example { name: string; file: string }

function blocks(path: string, text: string): string[] {
  if (path.endsWith('.md')) return [...text.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map((match) => match[1]!);
  return [...text.matchAll(/@example\n\s*\* ```ts\n([\s\S]*?)\s*\* ```/g)].map((match) => match[1]!.replace(/^\s*\* ?/gm, ''));
}

function sources(): string[] {
  const under = (dir: string, ending: string) =>
    readdirSync(join(root, dir), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith(ending)).map((name) => join(root, dir, name));
  return [join(root, 'README.md'), ...under('docs', '.md'), ...under('src', '.ts').filter((name) => !name.includes('generated'))];
}

/** Names that a docstring example may use without importing them: everything public. */
function imports(code: string): string {
  if (/from 'a-infonce'/.test(code)) return '';
  const names = [...readFileSync(join(root, 'src/index.ts'), 'utf8').matchAll(/export \{([^}]*)\}/g)]
    .flatMap((match) => match[1]!.split(',')).map((name) => name.trim()).filter((name) => name && !name.startsWith('type '));
  const used = names.filter((name) => new RegExp(`\\b${name}\\b`).test(code));
  return used.length > 0 ? `import { ${used.join(', ')} } from 'a-infonce';\n` : '';
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const examples: Example[] = sources().flatMap((path) =>
  blocks(path, readFileSync(path, 'utf8')).map((code, i) => {
    const name = `${relative(root, path)} #${i + 1}`;
    const file = join(folder, `${name.replace(/\W+/g, '-')}.ts`);
    writeFileSync(file, `${imports(code)}${code}\nexport {};\n`);
    return { name, file };
  }));
const before = process.cwd();
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true, force: true });
});

describe('examples', () => {
  it('are there', () => expect(examples.length).toBeGreaterThan(3)); // an empty list would pass everything
  it('have correct types', () => {
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ extends: '../../tsconfig.json', compilerOptions: { rootDir: '../../..', noUnusedLocals: false, paths: { 'a-infonce': ['../../../src/index.ts'] } }, include: ['*.ts'] }));
    const run = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder], { encoding: 'utf8' });
    expect(run.stdout).toBe('');
  });
  it.each(examples)('$name runs', async ({ file }) => {
    process.chdir(folder);
    await import(/* @vite-ignore */ pathToFileURL(file).href);
  });
});
