// What the tests of a GPU use of vitest, over its own `expect`: to run them as one file where there are no packages (bench/gpu.sh). Ends with exit code 1 when one fails.
import { ASYMMETRIC_MATCHERS_OBJECT, chai, customMatchers, GLOBAL_EXPECT, getState, JestAsymmetricMatchers, JestChaiExpect, JestExtend, setState } from '@vitest/expect';

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);
export const expect = Object.assign((value, message) => chai.expect(value, message), chai.expect, { getState: () => getState(expect), setState: (state) => setState(state, expect) });
globalThis[GLOBAL_EXPECT] = expect;
Object.assign(expect, globalThis[ASYMMETRIC_MATCHERS_OBJECT]);
setState({ assertionCalls: 0, isExpectingAssertions: false, expectedAssertionsNumber: null }, expect);
expect.extend = (matchers) => chai.expect.extend(expect, matchers);
expect.extend(customMatchers);

const tests = [], after = [];
let skipped = 0;
let scope = { name: '', before: [] };
const text = (name, row, at) => {
  const values = Array.isArray(row) ? row : [row];
  let used = 0;
  return name.replace(/%[sifdj]/g, () => String(values[used++])).replace(/\$(\w+)/g, (_, key) => String(row?.[key])).replace('%#', String(at));
};
const withEach = (define) => Object.assign(define, {
  each: (rows) => (name, body) => rows.forEach((row, at) => define(text(name, row, at), () => (Array.isArray(row) ? body(...row) : body(row)))),
});
export const it = withEach((name, body) => tests.push({ name: `${scope.name}${name}`, body, before: scope.before }));
it.runIf = (wanted) => (wanted ? it : () => void skipped++);
export const test = it;
export const describe = withEach((name, body) => {
  const outer = scope;
  scope = { name: `${outer.name}${name} > `, before: [...outer.before] };
  body();
  scope = outer;
});
export const beforeEach = (body) => scope.before.push(body);
export const afterAll = (body) => after.push(body);

/** Every test of `files`, which are imported one after the other; those whose names contain `part`. */
export async function run(files, part = '') {
  const failed = [], began = performance.now();
  for (const [name, load] of Object.entries(files)) {
    scope = { name: `${name} > `, before: [] };
    await load();
  }
  const chosen = tests.filter(({ name }) => name.includes(part));
  for (const { name, body, before } of chosen) {
    const start = performance.now();
    try {
      for (const each of before) await each();
      await body();
      if (process.env.VERBOSE) console.log(`ok ${name} (${(performance.now() - start).toFixed(0)} ms)`);
    } catch (error) {
      failed.push(name);
      console.log(`FAILED ${name}\n  ${String(error?.stack ?? error).split('\n').slice(0, 6).join('\n  ')}`);
    }
  }
  for (const each of after) await each();
  console.log(`${chosen.length - failed.length} passed, ${failed.length} failed, ${skipped} skipped, in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  process.exit(failed.length > 0 ? 1 : 0);
}
