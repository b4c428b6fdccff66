import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Classifier, Encoder, presets, readResults } from 'a-infonce';
import { native } from '../../src/runtime/native.js';
import { unprivileged } from '../fixtures/unprivileged.js';
import { call } from './call.js';

let folder: string, run: string;
const at = (name: string) => join(folder, name), inRun = (name: string) => join(run, name);
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'a-infonce-cli-places-'));
  chmodSync(folder, 0o755);
  mkdirSync((run = at('run')));
  using encoder = Encoder.create({ width: 2, projector: { hidden: [4], output: 4 } });
  using classifier = Classifier.create({ encoder, classes: 10 });
  await encoder.save(inRun('encoder.safetensors'));
  await classifier.save(inRun('classifier.safetensors'));
  writeFileSync(inRun('config.json'), JSON.stringify({ ...presets.quickstart, data: { name: 'procedural', procedural: { train: 20, test: 20, size: 8, seed: 0 } } }));
  for (const name of ['results.jsonl', 'metrics.jsonl', 'checkpoint-00000001.safetensors']) writeFileSync(inRun(name), '');
});
afterEach(() => {
  chmodSync(run, 0o755);
  rmSync(folder, { recursive: true, force: true });
});

/** Presses ctrl-C as soon as a path is there that begins so. */
async function interrupted(path: () => boolean, ...args: string[]) {
  const asked = setInterval(() => {
    if (!path()) return;
    clearInterval(asked);
    process.emit('SIGINT', 'SIGINT');
  }, 5);
  try {
    return await call(...args);
  } finally {
    clearInterval(asked);
  }
}

describe('what is there is not overwritten', () => {
  const of: Record<string, () => string[]> = {
    attack: () => ['attack', run, '--limit', '2', '--steps', '1'], finetune: () => ['finetune', run, '--epochs', '1'],
    cluster: () => ['cluster', run, '--k', '2'], report: () => ['report', run],
  };
  test.each([
    ['attack', ['encoder.safetensors', 'results.jsonl', 'classifier.safetensors', 'config.json', 'checkpoint-00000001.safetensors', 'run.lock', 'classifier-aff.safetensors']],
    ['finetune', ['config.json', 'checkpoint-00000001.safetensors', 'encoder.safetensors', 'metrics.jsonl']],
    ['cluster', ['classifier.safetensors', 'analysis.safetensors', 'config.json']],
    ['report', ['config.json', 'results.jsonl']],
  ])('%s leaves the files of a run alone', async (command, names) => {
    const state = () => Object.fromEntries(readdirSync(run).map((name) => [name, readFileSync(inRun(name), 'base64')])), before = state();
    for (const name of names) {
      const { code, stdout, stderr } = await call(...of[command]!(), '--out', inRun(name));
      expect([code, stdout, stderr]).toEqual([2, '', expect.stringMatching(/would be overwritten\. Choose another --out/)]);
    }
    expect(state()).toEqual(before);
  });

  test.each(['attack', 'finetune', 'cluster', 'report'])('%s writes over its own files only', async (command) => {
    writeFileSync(at('thesis'), 'months of work');
    await (async () => { using encoder = Encoder.create({ width: 2 }); await encoder.save(at('other.safetensors')); })();
    for (const name of ['thesis', 'other.safetensors']) {
      const { code, stderr } = await call(...of[command]!(), '--out', at(name));
      expect([code, stderr]).toEqual([2, expect.stringContaining(`${at(name)} is there already, and not what ${command} writes: it would be overwritten. Choose another --out, or remove it\n`)]);
    }
    expect(readFileSync(at('thesis'), 'utf8')).toBe('months of work');
    writeFileSync(at('new'), '');
    for (const more of [[], command === 'finetune' ? ['--overwrite'] : []]) {
      if (command === 'finetune' && more.length === 0) rmSync(at('new'));
      expect(await call(...of[command]!(), '--out', at('new'), ...more)).toMatchObject({ code: 0 });
    }
  });

  test.each(['attack', 'finetune', 'cluster'])('%s writes safetensors under no other name', async (command) => {
    expect(await call(...of[command]!(), '--out', at('out.pt'))).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(`${at('out.pt')}: what is written there is safetensors, and a name that ends in .pt says something else. Type: --out ${at('out.safetensors')}\n`) as string });
  });

  test('a state and the adversaries are two files', async () => {
    const { code, stderr } = await call('attack', run, '--attack', 'autoattack', '--state', at('x'), '--out', at('./x'));
    expect([code, stderr]).toEqual([2, expect.stringContaining('is what is read')]);
  });
});

describe('a classifier that is there', () => {
  test('is replaced when that is typed', async () => {
    const args = ['finetune', run, '--epochs', '1', '--out', at("o'c.safetensors")];
    expect(await call(...args)).toMatchObject({ code: 0 });
    const first = readFileSync(at("o'c.safetensors"));
    const again = await call(...args, '--seed', '3');
    expect([again.code, again.stderr]).toEqual([2, expect.stringContaining(`already. Choose another --out, or replace it:\n  a-infonce finetune ${run} --epochs 1 --out '${folder}/o'\\''c.safetensors' --seed 3 --overwrite\n`)]);
    expect(await call(...args, '--resume')).toMatchObject({ code: 0, stdout: expect.stringContaining('all of it was done already') as string });
    expect(readFileSync(at("o'c.safetensors"))).toEqual(first);
    expect(await call(...args, '--seed', '3', '--overwrite')).toMatchObject({ code: 0 });
    expect(readFileSync(at("o'c.safetensors"))).not.toEqual(first);
    // Whose fine-tuning is not known, --resume does not begin anew over it.
    expect(await call('finetune', run, '--resume')).toMatchObject({ code: 2, stderr: expect.stringContaining('there is a classifier in') as string });
    expect(await call(...args, '--resume', '--overwrite')).toMatchObject({ code: 2, stderr: expect.stringContaining('cannot be used with') as string });
  });

  test('a fine-tuning that runs is not said to be interrupted; one that is says what to type', async () => {
    const args = ['finetune', run, '--mode', 'alf', '--epochs', '200', '--batch-size', '10', '--set', 'attack.steps=1', '--checkpoint-every', '1'];
    const work = inRun('classifier-alf.run'), saved = () => existsSync(work) && readdirSync(work).some((name) => /^checkpoint-\d+\.safetensors$/.test(name));
    const { code, stderr } = await interrupted(saved, ...args);
    const again = `a-infonce ${args.join(' ')} --resume\n`;
    expect([code, stderr]).toEqual([130, expect.stringMatching(/stopped after step \d+, which is saved\. Go on with:\n/)]);
    expect(stderr.endsWith(`  ${again}`)).toBe(true);
    expect((await call(...args)).stderr).toContain(`an interrupted fine-tuning is in ${work}. Go on with it, or remove that folder:\n  ${again}`);
    const lock = native().lock_file(join(work, 'run.lock'));
    try {
      expect((await call(...args)).stderr).toContain(`another run writes this folder (process ${process.pid})`);
    } finally {
      native().unlock_file(lock);
    }
  });
});

test('AutoAttack that is interrupted says what it kept, and what to type', async () => {
  const state = at('state.safetensors'), ball = ['--epsilon', '0.001', '--state', state];
  for (const args of [['evaluate', run, '--attacks', 'clean,autoattack', ...ball], ['attack', run, '--attack', 'autoattack', '--out', at('adversaries.safetensors'), ...ball]]) {
    const { code, stderr } = await interrupted(() => existsSync(state), ...args);
    expect([code, stderr]).toEqual([130, expect.stringContaining(`stopped. What AutoAttack has found is kept in ${state}. Go on with:\n  a-infonce ${args.join(' ')}\n`)]);
    rmSync(state);
  }
});

describe('a run in a folder that is closed', () => {
  /** As a user who cannot write the run. */
  const closed = async (...args: string[]) => {
    chmodSync(run, 0o555);
    for (const name of ['results.jsonl', 'metrics.jsonl']) chmodSync(inRun(name), 0o444);
    return await unprivileged(() => call(...args));
  };

  test.each([
    ['evaluate', ['--attacks', 'clean'], /^clean +\d/m, { scores: {} }],
    ['corruptions', ['--types', 'fog', '--severities', '1'], /^fog +\d/m, { types: {} }],
    ['analyze', ['--limit', '20', '--steps', '1'], /^images +20$/m, undefined],
  ])('%s shows what it measured, and warns', async (command, args, shown, document) => {
    const { code, stdout, stderr } = await closed(command, run, ...args);
    expect([code, stdout]).toEqual([0, expect.stringMatching(shown)]);
    expect(stderr.match(/Warning: .*cannot be written .*What is measured is shown, but not kept/g)).toHaveLength(1);
    if (document === undefined) return;
    expect(JSON.parse((await closed(command, run, ...args, '--json')).stdout)).toMatchObject({ ...document, notKept: expect.stringContaining('cannot be written') as string });
    expect(await readResults(run)).toEqual([]);
  });

  test('analyze --curves, which are nowhere else, and pretrain --resume end before they begin', async () => {
    expect(await closed('analyze', run, '--curves')).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('results.jsonl: cannot be written') as string });
    rmSync(inRun('checkpoint-00000001.safetensors'));
    writeFileSync(inRun('run.lock'), '');
    chmodSync(inRun('run.lock'), 0o666);
    const { code, stderr } = await closed('pretrain', '--out', run, '--resume', '--json');
    expect([code, (JSON.parse(stderr) as { error: { message: string } }).error.message]).toEqual([1, expect.stringMatching(/run: cannot be written \(EACCES/)]);
  });
});

test.each([['evaluate', '--attacks', 'pgd1'], ['attack', '--steps', '1'], ['analyze', '--steps', '1']])('%s: a step in pixels of 0 to 255 is refused', async (command, ...args) => {
  const { code, stderr } = await call(command, run, ...args, '--step-size', '2');
  expect([code, stderr]).toEqual([2, expect.stringContaining('--step-size: expected a number from 0 to 1 (pixels are in [0, 1]: 2/255, not 2), got 2')]);
});

test('quickstart, wherever it is interrupted, goes on to its table', async () => {
  const args = ['--set', 'data.procedural={"train":24,"test":8,"size":8}', '--epochs', '2', '--batch-size', '8', '--seed', '3', '--checkpoint-every', '1', '--set', 'encoder.width=2', '--set', 'finetuning.slf.epochs=3'];
  const scoresOf = async (...more: string[]) => (JSON.parse((await call('quickstart', ...more, '--json')).stdout) as { scores: object }).scores;
  const whole = await scoresOf('--out', at('whole'), ...args);
  const out = at('quick'), again = ['quickstart', '--out', out, '--resume'], hint = `Go on with:\n  a-infonce ${again.join(' ')}\n`;
  const saved = () => existsSync(out) && readdirSync(out).some((name) => /^checkpoint-\d+\.safetensors$/.test(name));
  expect(await interrupted(saved, 'quickstart', '--out', out, ...args)).toMatchObject({ code: 130, stderr: expect.stringMatching(/stopped after step \d+, which is saved\. Go on with:\n/) as string });
  expect((await call('quickstart', '--out', out, ...args)).stderr).toContain(`there is a run in ${out} already. Choose another --out, or go on with it:\n  a-infonce ${again.join(' ')}\n`);
  expect(await interrupted(() => existsSync(join(out, 'encoder.safetensors')), ...again)).toMatchObject({ code: 130, stderr: expect.stringContaining(hint) as string });
  expect(await scoresOf(...again.slice(1))).toEqual(whole);
  expect(await call('quickstart', '--out', run, '--resume', '--epochs', '3')).toMatchObject({ code: 2 });
  expect((await call('quickstart', '--resume')).stderr).toContain('--resume needs the folder of the run: --out <folder>');
  expect((await call('quickstart', '--out', at('nothing'), '--resume')).stderr).toContain(`there is no quickstart in ${at('nothing')} to go on with`);
});
