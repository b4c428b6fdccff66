// The site stands alone: every link within it has its file and its anchor, and no page loads anything from elsewhere.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const site = fileURLToPath(new URL('dist', import.meta.url));
const files = readdirSync(site, { recursive: true }).filter((name) => /\.(html|css|js|svg)$/.test(name)).map((name) => join(site, name));
const texts = new Map(files.map((file) => [file, readFileSync(file, 'utf8')])), wrong = new Set();
for (const [file, text] of texts) {
  const page = relative(site, file);
  // In a program any address in quotes counts but the names of XML's namespaces; elsewhere what is loaded, not what is linked to.
  const outside = file.endsWith('.js') ? /["'`]((?:https?:)?\/\/(?!www\.w3\.org\/)[\w.-]+\.[^"'`]+)/g
    : /(?:\bsrc="|<(?:link|image|use|script|feImage)\b[^>]*\bhref="|url\(["']?|@import ["'])((?:https?:)?\/\/[^"')]+)/g;
  for (const [, address] of text.matchAll(outside)) wrong.add(`${page} loads ${address}`);
  if (!file.endsWith('.html')) continue;
  for (const [, address] of text.matchAll(/\b(?:href|src)="([^"]+)"/g)) {
    if (/^[a-z]+:/.test(address)) continue;
    const [path, anchor] = address.split('#'), target = path === '' ? file : join(dirname(file), decodeURIComponent(path));
    if (!existsSync(target)) wrong.add(`${page}: ${address} is not there`);
    else if (anchor && texts.has(target) && !texts.get(target).includes(`id="${decodeURIComponent(anchor)}"`)) wrong.add(`${page}: ${address}: the page has no such anchor`);
  }
}
for (const each of wrong) console.error(each);
if (wrong.size > 0) process.exit(1);
console.log(`${files.length} files; every link has its end, and nothing comes from elsewhere`);
