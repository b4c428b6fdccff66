import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { root } from './pages.js';

it('npm run docs makes a site with every public name, whose links have their ends and that loads nothing from elsewhere', (context) => {
  const { status, stdout, stderr } = spawnSync('npm', ['run', 'docs'], { cwd: root, encoding: 'utf8' });
  if (status !== 0 && /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT/.test(stderr)) return context.skip('the packages of docs/site cannot be fetched here');
  expect(status, `${stdout}\n${stderr}`).toBe(0);
  expect(stdout).toMatch(/every link has its end, and nothing comes from elsewhere/);
  const names = [...readFileSync(join(root, 'src/index.ts'), 'utf8').matchAll(/export (?:type )?\{([^}]*)\}/g)].flatMap((match) => match[1]!.split(',')).map((name) => name.trim().replace(/^type /, ''));
  const undocumented = names.filter((name) => name && !['classes', 'functions', 'interfaces', 'types', 'variables'].some((kind) => existsSync(join(root, 'docs/site/dist', kind, `${name}.html`))));
  expect(undocumented).toEqual([]);
});
