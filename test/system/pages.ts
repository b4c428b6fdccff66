import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export type Language = 'ts' | 'sh' | 'py';
export interface Block { name: string; language: Language; code: string; file: string }
/** Its blocks run one after another in `folder`. */
export interface Page { path: string; folder: string; blocks: Block[] }

const files = (dir: string, ending: string) =>
  readdirSync(join(root, dir), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith(ending) && !/^site|generated/.test(name)).map((name) => join(dir, name)).sort();
const texts = ['README.md', 'CONTRIBUTING.md', ...files('docs', '.md')];

/** The pages, and the sources with their examples, that have blocks to run: `ts`, `sh` and `py`. The README's two commands set up and test the whole, and are not among them. */
export function pages(place: string): Page[] {
  rmSync(place, { recursive: true, force: true });
  return [...texts, ...files('src', '.ts')].map((path) => {
    const folder = join(place, path.replace(/\W+/g, '-'));
    const blocks = fences(path).map(({ language, code }, i): Block => ({ name: `${path} #${i + 1}`, language, code, file: join(folder, `${i + 1}.${language}`) }));
    if (blocks.length > 0) mkdirSync(folder, { recursive: true });
    for (const { file, language, code } of blocks) writeFileSync(file, language === 'ts' ? `${imports(code)}${code}\nexport {};\n` : code);
    return { path, folder, blocks };
  }).filter(({ blocks }) => blocks.length > 0);
}

function fences(path: string): { language: Language; code: string }[] {
  const text = readFileSync(join(root, path), 'utf8');
  if (path.endsWith('.ts'))
    return [...text.matchAll(/@example\n\s*\* ```ts\n([\s\S]*?)\s*\* ```/g)].map((match) => ({ language: 'ts', code: match[1]!.replace(/^\s*\* ?/gm, '') }));
  const found = [...text.replace(/^## Two commands\n[\s\S]*?^(?=## )/m, '').matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map((match) => ({ language: match[1]!, code: match[2]! }));
  const unknown = found.find(({ language }) => !['ts', 'sh', 'py', 'text'].includes(language));
  if (unknown) throw new Error(`${path}: a block of '${unknown.language}' would not be tested; ts, sh and py are, text is no code`);
  return found.filter((block): block is { language: Language; code: string } => block.language !== 'text');
}

/** Names that a docstring example may use without importing them: everything public. */
function imports(code: string): string {
  if (/from 'a-infonce'/.test(code)) return '';
  const names = [...readFileSync(join(root, 'src/index.ts'), 'utf8').matchAll(/export \{([^}]*)\}/g)]
    .flatMap((match) => match[1]!.split(',')).map((name) => name.trim()).filter((name) => name && !name.startsWith('type '));
  const used = names.filter((name) => new RegExp(`\\b${name}\\b`).test(code));
  return used.length > 0 ? `import { ${used.join(', ')} } from 'a-infonce';\n` : '';
}

/** Lines of the pages that call the program, the indented ones too, which are not run. */
export function commandLines(): { path: string; line: string }[] {
  return texts.flatMap((path) =>
    [...readFileSync(join(root, path), 'utf8').matchAll(/^ *(?:npx |node dist\/cli\/main\.js |)(?:a-infonce ([^<\n]*)|npm run bench -- (.*))$/gm)]
      .map((match) => ({ path, line: (match[1] ?? `bench ${match[2]}`).replace(/\s+#.*$/, '') })));
}
