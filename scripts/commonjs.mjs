// After tsc: what `require('a-infonce')` finds. The module itself stays one (Node.js requires ES modules by itself); the types are there a second time, since to
// TypeScript the same declaration file cannot be both.
import { cpSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../dist', import.meta.url)), target = `${dist}/commonjs`;
rmSync(target, { recursive: true, force: true });
cpSync(dist, `${dist}.types`, { recursive: true, filter: (path) => !/\.(js|map)$/.test(path) && !path.startsWith(`${dist}/cli`) });
renameSync(`${dist}.types`, target);  // a folder cannot be copied into itself
writeFileSync(`${target}/package.json`, '{ "type": "commonjs" }\n');
writeFileSync(`${target}/index.js`, "module.exports = require('../index.js');\n");
