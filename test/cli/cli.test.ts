import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { checkLines } from '../../src/cli/checks.js';
import { parseNumber, setting } from '../../src/cli/options.js';
import { bytes, duration, Output, table } from '../../src/cli/output.js';
import { Progress } from '../../src/cli/progress.js';
import { typed } from '../../src/cli/run-folder.js';
import { run } from '../../src/cli/run.js';
import { call } from './call.js';

/** A stream that keeps what is written. */
class Kept extends Writable {
  text = '';
  constructor(readonly isTTY = false, readonly columns = 80) {
    super();
  }
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

test.each([
  ['12', 12], ['-0.5', -0.5], ['1e-3', 1e-3], ['.5', 0.5], ['8/255', 8 / 255], [' 2 / 255 ', 2 / 255],
  ['', NaN], ['x', NaN], ['1/2/3', NaN], ['0x10', NaN], ['1,5', NaN], ['Infinity', NaN], ['8/', NaN], ['/255', NaN],
])('the number %j is %d', (text, value) => expect(parseNumber(text)).toBe(value));

test('--set collects paths into one object', () => {
  const calls = ['attack.steps=3', 'attack.epsilon=8/255', 'schedule.kind=cosine', 'objective.hardNegative=null', 'projector.hidden=[64,32]', 'name=a=b'];
  expect(calls.reduce<Record<string, unknown> | undefined>((before, text) => setting(text, before), undefined)).toEqual({
    attack: { steps: 3, epsilon: 8 / 255 }, schedule: { kind: 'cosine' }, objective: { hardNegative: null }, projector: { hidden: [64, 32] }, name: 'a=b',
  });
  for (const wrong of ['steps', '=3', 'a..b=1', '__proto__.x=1']) expect(() => setting(wrong)).toThrow();
  expect(({} as { x?: number }).x).toBeUndefined();
});

test('amounts, as people read them', () => {
  expect([0, 59.4, 59.6, 3661, NaN, Infinity].map(duration)).toEqual(['0 s', '59 s', '1:00', '1:01:01', '?', '?']);
  expect([0, 999, 1000, 170_498_071, 2.5e12].map(bytes)).toEqual(['0 B', '999 B', '1.0 kB', '170 MB', '2.5 TB']);
  expect(table([['a', 'long'], ['name', '1']])).toEqual(['a      long', 'name      1']);
  expect(table([['a', 'long'], ['name', '1']], 2)).toEqual(['a      long', 'name   1']);
  expect(['runs/a-1', "it's mine"].map(typed)).toEqual(['runs/a-1', "'it'\\''s mine'"]);
});

test('checks are lines, and a sentence on what they come to', () => {
  const checks = [{ check: 'data', ok: true, message: '2 samples of 2 classes.', numbers: {} }, { check: 'gradients', ok: false, message: 'None.', numbers: {} }] as const;
  const settings = { norm: 'linf', epsilon: 0.1, stepSize: 0.025, steps: 2, queries: 3, limit: 4, seed: 0, batchSize: 5 } as const;
  const output = new Output({ stdout: new Kept(), stderr: new Kept() }, { json: false });
  expect(checkLines({ ok: false, checks: [...checks], settings }, output)).toEqual([
    '', '  ✔ data       2 samples of 2 classes.', '  ✖ gradients  None.', '', 'One check fails: these numbers may be wrong.',
  ]);
  expect(checkLines({ ok: true, checks: [checks[0]], settings }, output).at(-1)).toBe('Nothing speaks against these numbers.');
});

test('help and lists fit a terminal', async () => {
  const commands = ['quickstart', 'pretrain', 'cluster', 'finetune', 'evaluate', 'corruptions', 'attack', 'analyze', 'report', 'reproduce', 'data', 'bench', 'doctor'];
  for (const args of [['--help'], ...commands.map((command) => [command, '--help']), ['pretrain', '--presets']]) {
    const { code, stdout } = await call(...args);
    expect([code, stdout.split('\n').filter((line) => line.length > 80)], args.join(' ')).toEqual([0, []]);
  }
});

test('progress is lines where there is no terminal, a bar that fits where there is one, nothing with --json', async () => {
  const show = async (stderr: Kept, json = false) => {
    const progress = new Progress(new Output({ stdout: new Kept(), stderr }, { json }), { label: 'Working', total: 10 });
    progress.update(5, 'loss 1.2500');
    await new Promise((resolve) => setTimeout(resolve, 250));
    progress.print();
    progress.stop();
    progress.update(10);
    progress.print();
    return stderr.text;
  };
  expect(await show(new Kept())).toBe('Working   50 %  loss 1.2500\n');
  expect(await show(new Kept(true, 60))).toContain('Working  ████████████░░░░░░░░░░░░   50 %  loss 1.2500');
  expect(await show(new Kept(true, 30))).toContain('Working   50 %  loss 1.2500');
  expect(await show(new Kept(), true)).toBe('');
});

test.each([
  [['--help'], 0, /^Usage: a-infonce/, /^$/],
  [['--version'], 0, /^\d+\.\d+\.\d+\n$/, /^$/],
  [['evaluate', '--help'], 0, /^Usage: a-infonce evaluate \[options\] <classifier>/, /^$/],
  [['evaluat'], 2, /^$/, /^a-infonce: unknown command 'evaluat' \(Did you mean evaluate\?\)\nSee: a-infonce --help\n$/],
  [['evaluate', '--json'], 2, /^$/, /^\{"error":\{"name":"CommanderError".*missing required argument/],
  [['evaluate', 'nowhere.safetensors', '--data', 'procedural'], 1, /^$/, /^a-infonce evaluate: nowhere\.safetensors: there is no such file or folder\. Expected the folder of a run, a classifier as \.safetensors, or a TorchScript model as \.pt;/],
  [['pretrain', '--preset', 'simclr'], 2, /^$/, /--preset: there is no simclr\. Did you mean simclr-cifar10\? All of them: a-infonce pretrain --presets\n/],
  [['finetune', 'nowhere', '--preset', 'rocl-cifar'], 2, /^$/, /--preset: there is no rocl-cifar\. Did you mean rocl-cifar10\? All of them/],
  [['finetune', 'nowhere', '--label-fraction', '10'], 2, /^$/, /Expected a number \(0\.0314, 8\/255\) above 0 and at most 1\./],
  [['reproduce', 'table1', '--data', 'cifar11', '--out', 'nowhere/table'], 2, /^$/, /--data: expected a folder or one of cifar10, .*, got 'cifar11'\n/],
  [['cluster', 'nowhere', '--data', 'procedural'], 1, /^$/, /^a-infonce cluster: nowhere: there is no such file or folder\. Expected the folder of a run, an encoder/],
  [['evaluate', 'package.json'], 1, /^$/, /^a-infonce evaluate: package\.json: it looks like JSON\. Expected the folder of a run, a classifier as \.safetensors, or a TorchScript model as \.pt\n$/],
  [['finetune', 'nowhere'], 1, /^$/, /^a-infonce finetune: nowhere: there is no such file or folder\. Expected the folder of a run, or an encoder/],
  [['pretrain', '--preset', 'advcl-cifar10'], 2, /^$/, /advcl-cifar10 learns from pseudo-labels: --pseudo-labels <file>\. Make one .*:\n  a-infonce cluster <encoder> --data cifar10 --out labels\.safetensors\n/],
  [['pretrain', '--preset', 'advcl-cifar10', '--data', 'procedural', '--pseudo-labels', 'nowhere.safetensors'], 2, /^$/, /there is no nowhere\.safetensors.*--data procedural --out nowhere\.safetensors\n/s],
  [['pretrain', '--preset', 'advcl-cifar10', '--limit', '64'], 2, /^$/, /cluster <encoder> --data cifar10 --limit 64 --k 2,10,50 --out labels/],
  [['pretrain', '--preset', 'rocl-cifar10', '--pseudo-labels', 'labels.safetensors'], 2, /^$/, /--pseudo-labels: rocl-cifar10 learns from none/],
])('%j ends with %d', async (args, code, stdout, stderr) => {
  const streams = { stdout: new Kept(), stderr: new Kept() };
  expect(await run(args, streams)).toBe(code);
  expect(streams.stdout.text).toMatch(stdout);
  expect(streams.stderr.text).toMatch(stderr);
});
