import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'a-infonce-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** `a-infonce ...` in a process of its own. */
async function call(args: string[], env: Record<string, string> = {}): Promise<Result> {
  const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], cwd: folder });
  const result: Result = { code: null, stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => { result.stdout += chunk; });
  child.stderr.on('data', (chunk) => { result.stderr += chunk; });
  return new Promise((resolve) => child.on('close', (code) => resolve({ ...result, code })));
}

const commands = ['quickstart', 'pretrain', 'finetune', 'evaluate', 'attack', 'reproduce', 'data', 'bench', 'doctor'];

test('--help names every command and every command has its own', async () => {
  const { code, stdout, stderr } = await call(['--help']);
  expect([code, stderr]).toEqual([0, '']);
  for (const command of commands) {
    expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
    const help = await call([command, '--help']);
    expect([help.code, help.stderr]).toEqual([0, '']);
    expect(await call(['help', command])).toEqual(help);
    for (const option of ['--json', '--device', '--seed', '--threads', '--help', 'Examples:']) expect(help.stdout).toContain(option);
  }
});

test.each([
  [['docter'], /unknown command 'docter' \(Did you mean doctor\?\)/],
  [['doctor', '--jsno'], /unknown option '--jsno' \(Did you mean --json\?\)/],
  [['doctor', '--threads', 'many'], /--threads <n>' argument 'many' is invalid\. Expected an integer of at least 0/],
  [['doctor', '--device', 'tpu'], /Expected cpu, cuda or cuda:<n>/],
  [['pretrain', '--device', 'cuda:99'], /--device: expected 'cpu'.*, got 'cuda:99'/],
  [['doctor', 'extra'], /too many arguments/],
  [['pretrain', '--preset', 'advlc'], /--preset: there is no advlc\. Did you mean advcl-cifar10\? All of them: a-infonce pretrain --presets/],
  [['pretrain', '--epochs', '0'], /--epochs <n>' argument '0' is invalid\. Expected an integer of at least 1/],
  [['pretrain', '--batch-size', '1'], /--batch-size: expected at least two images a group, got 1/],
  [['pretrain', '--preset', 'quickstart', '--image-size', '20'], /--image-size: procedural has images of 16 x 16/],
  [['pretrain', '--set', 'schedule.rate=-1'], /schedule\.rate: expected .*, got -1/],
  [['pretrain', '--set', 'schedule.speed=1'], /schedule\.speed: expected a known key, got 'speed'/],
  [['pretrain', '--set', 'attack.step=1'], /attack\.step: expected a known key, as 'steps', got 'step'/],
  [['pretrain', '--set', 'nonsense'], /Expected key=value/],
  [['pretrain', '--checkpoint-every', 'often'], /Expected a number of steps \(500\) or of seconds \(300s\)/],
  [['pretrain', '--resume'], /--resume needs the folder of the run: --out <folder>/],
  [['finetune'], /missing required argument 'encoder'/],
  [['finetune', 'x', '--mode', 'slow'], /Allowed choices are slf, alf, aff/],
  [['finetune', 'x', '--label-fraction', '0'], /Expected a number \(0\.0314, 8\/255\) above 0 and at most 1/],
  [['finetune', 'x', '--validation', 'some'], /Expected a number/],
  [['reproduce', 'table2'], /Allowed choices are table1/],
  [['reproduce', '--only', 'rocl,slow'], /--only: expected some of rocl, advcl, base, ip, hn, iphn, cifar10, cifar100, slf, alf, aff, sa, ra, aa, got 'slow'/],
  [['evaluate', 'x', '--epsilon', '8/256/2'], /Expected a number \(0\.0314, 8\/255\) of at least 0/],
  [['evaluate', 'x', '--limit', '1.5'], /Expected an integer of at least 1/],
  [['attack', 'x', '--images', 'y', '--data', 'z'], /cannot be used with/],
  [['data', 'cifar12'], /there is no data set 'cifar12' to download; there are cifar10/],
])('%j is bad usage: exit code 2', async (args, message) => {
  const { code, stdout, stderr } = await call(args);
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toMatch(message);
  expect(stderr).toMatch(/^See: a-infonce( \w+)? --help$/m);
});

test('no command at all: the help, as bad usage', async () => {
  const { code, stdout, stderr } = await call([]);
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toContain('Usage: a-infonce');
});

test('doctor finds what is needed', async () => {
  const { code, stdout } = await call(['doctor', '--json', '--threads', '1']);
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: { subject: string; state: string; text: string }[] };
  expect([code, ok]).toEqual([0, true]);
  const text = (subject: string) => findings.find((finding) => finding.subject === subject)?.text;
  expect(text('Node.js')).toContain(process.versions.node);
  expect(text('LibTorch')).toMatch(/^2\.\d+\.\d+, /);
  expect(text('Threads')).toBe('1');
});

test('doctor finds that a device which was asked for is not there', async () => {
  const { code, stdout } = await call(['doctor', '--device', 'cuda:99']);
  expect(code).toBe(1);
  expect(stdout).toMatch(/✖ GPU .*(\n +.*)*(cuda:99 was asked for|built for the processor only)/);
});

test('doctor works where the addon does not load, and says what to type', async () => {
  const absent = await call(['doctor'], { A_INFONCE_PREBUILD: folder });
  expect(absent.code).toBe(1);
  expect(absent.stdout).toMatch(/✖ Addon .*not built/);
  expect(absent.stdout).toContain('→ unset A_INFONCE_PREBUILD');

  mkdirSync(join(folder, 'build', 'Release'), { recursive: true });
  writeFileSync(join(folder, 'build', 'Release', 'a_infonce.node'), 'not a library');
  const broken = await call(['doctor', '--json'], { A_INFONCE_PREBUILD: folder });
  expect(broken.code).toBe(1);
  const { ok, findings } = JSON.parse(broken.stdout) as { ok: boolean; findings: { subject: string; state: string; fix?: string }[] };
  expect(ok).toBe(false);
  expect(findings.find(({ subject }) => subject === 'Addon')).toMatchObject({ state: 'problem', fix: 'unset A_INFONCE_PREBUILD' });
});

test('data lists what is known and where it is', async () => {
  const { code, stdout } = await call(['data', '--json'], { XDG_CACHE_HOME: folder, A_INFONCE_DATA: '' });
  const { cache, dataSets } = JSON.parse(stdout) as { cache: string; dataSets: { name: string; folder: string | null }[] };
  expect([code, cache]).toEqual([0, join(folder, 'a-infonce', 'data')]);
  expect(dataSets.find(({ name }) => name === 'cifar10')).toEqual({ name: 'cifar10', folder: null });
});

test('failures say what to type, without a stack', async () => {
  const elsewhere = { XDG_CACHE_HOME: folder, A_INFONCE_DATA: '' };
  const missing = await call(['pretrain', '--out', 'none'], elsewhere);
  expect([missing.code, missing.stdout]).toEqual([1, '']);
  expect(missing.stderr).toMatch(/cifar10 is not here.*--data-root <folder> or A_INFONCE_DATA; else type: a-infonce data cifar10\n$/);
  expect(missing.stderr).not.toContain('    at ');
  expect(existsSync(join(folder, 'none'))).toBe(false);

  const verbose = await call(['pretrain', '--out', 'none', '--verbose'], elsewhere);
  expect(verbose.stderr).toContain('    at ');

  writeFileSync(join(folder, 'file'), 'no model');
  const under = await call(['pretrain', '--preset', 'quickstart', '--out', 'file/run', '--limit', '64', '--json']);
  expect([under.code, under.stdout]).toEqual([1, '']);
  expect((JSON.parse(under.stderr) as { error: { message: string } }).error.message).toMatch(/file: a file is there, where a folder should be$/);

  const wrong = await call(['evaluate', 'file', '--data', 'procedural']);
  expect([wrong.code, wrong.stdout]).toEqual([1, '']);
  expect(wrong.stderr).toMatch(/^a-infonce evaluate: file: it looks like text\. Expected the folder of a run, a classifier as \.safetensors, or a TorchScript model as \.pt\n$/);
});

test('whoever reads the output may leave', async () => {
  const child = spawn(process.execPath, [main, 'data'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  let stderr = '';
  child.stderr.on('data', (chunk) => { stderr += chunk; });
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect([code, stderr]).toEqual([141, '']);
});

test('output that cannot be written is one line', async () => {
  const full = openSync('/dev/full', 'w');
  const child = spawn(process.execPath, [main, 'data'], { cwd: folder, stdio: ['ignore', full, 'pipe'] });
  closeSync(full);
  let stderr = '';
  child.stderr!.on('data', (chunk) => { stderr += chunk; });
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect([code, stderr]).toEqual([1, 'a-infonce: the output cannot be written (ENOSPC: no space left on device, write)\n']);
});

test.each([['--preset', 'quickstart'], ['--data', 'procedural']])('%s %s with other images made: trained on, recorded, gone on with, evaluated', async (...which) => {
  const out = `made${which[0]}`;
  const made = { train: 40, test: 10, size: 8 };
  const small = ['encoder.width=1', 'attack.steps=1', 'projector.hidden=[8]', ...Object.entries(made).map(([key, value]) => `data.procedural.${key}=${value}`)];
  const first = await call(['pretrain', ...which, '--out', out, '--epochs', '1', '--batch-size', '20', ...small.flatMap((each) => ['--set', each])]);
  expect([first.code, first.stderr]).toEqual([0, expect.stringContaining(': 40 images of procedural, 1 epoch of 2 steps; ')]);
  expect(JSON.parse(readFileSync(join(folder, out, 'config.json'), 'utf8'))).toMatchObject({ data: { procedural: made, images: 40, size: 8 } });
  const resumed = await call(['pretrain', '--out', out, '--resume']);
  expect([resumed.code, resumed.stderr]).toEqual([0, expect.stringContaining('Going on after step 2 of 2.')]);
  const other = await call(['pretrain', '--out', out, '--resume', '--set', 'data.procedural.size=16']);
  expect([other.code, other.stderr]).toEqual([2, expect.stringContaining('data.procedural.size: expected 8, as the open data set has, got 16')]);
  expect((await call(['finetune', out, '--epochs', '1'])).stdout).toMatch(/ after 1 epoch \(/);
  expect(JSON.parse((await call(['evaluate', out, '--attacks', 'clean', '--json'])).stdout)).toMatchObject({ scores: { clean: { total: 10 } } });
});

test('--image-size resizes a folder of images, and the run remembers it', async () => {
  for (const split of ['train', 'test'])
    for (const name of ['cat', 'dog']) {
      mkdirSync(join(folder, 'pictures', split, name), { recursive: true });
      for (const width of [9, 10]) await sharp({ create: { width, height: 12, channels: 3, background: 'gray' } }).toFile(join(folder, 'pictures', split, name, `${width}.png`));
    }
  const args = ['pretrain', '--preset', 'quickstart', '--data', 'pictures', '--out', 'pictured', '--epochs', '1', '--batch-size', '4', '--set', 'encoder.width=1', '--set', 'attack.steps=1'];
  const odd = await call(args);
  expect([odd.code, odd.stderr]).toEqual([1, expect.stringMatching(/cat\/10\.png: expected 12 x 12 .*--image-size\)\n$/)]);
  expect((await call([...args, '--image-size', '8'])).code).toBe(0);
  expect(await call(['finetune', 'pictured', '--epochs', '1', '--json'])).toMatchObject({ code: 0 });
});

describe('a run', () => {
  const tiny = ['--preset', 'quickstart', '--limit', '64', '--batch-size', '32', '--set', 'encoder.width=1', '--set', 'attack.steps=1'];
  const run = join(folder, 'run');
  beforeAll(async () => {
    const { code, stdout, stderr } = await call(['pretrain', ...tiny, '--out', 'run', '--epochs', '2', '--threads', '1', '--seed', '7']);
    expect([code, stdout]).toEqual([0, '']);
    expect(stderr).toMatch(/^Pre-training +100 % +epoch 2\/2 +loss \d/m);
    expect(stderr).toContain('Next: a-infonce finetune run');
  });

  test('goes on after ctrl-C', async () => {
    const args = ['--out', 'interrupted', '--threads', '1', '--json'];
    let asked = false;
    const child = spawn(process.execPath, [main, 'pretrain', ...tiny, '--epochs', '20', '--seed', '7', ...args], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      // Twice, as it comes through npm.
      if (!asked && stdout.includes('"type":"step"')) asked = child.kill('SIGINT') && child.kill('SIGINT');
    });
    child.stderr.on('data', (chunk) => { stderr += chunk; });
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(130);
    const events = stdout.trim().split('\n').map((line) => JSON.parse(line) as { type: string; step?: number; path?: string });
    const last = events.at(-1)!;
    expect(last.type).toBe('checkpoint');
    expect(existsSync(last.path!)).toBe(true);
    expect((JSON.parse(stderr) as { error: { message: string } }).error.message)
      .toBe(`stopped after step ${last.step}, which is saved. Go on with:\n  a-infonce pretrain --out interrupted --resume`);

    const early = await call(['finetune', 'interrupted']);
    expect([early.code, early.stderr]).toEqual([1, 'a-infonce finetune: the run in interrupted is not finished. Go on with it:\n  a-infonce pretrain --out interrupted --resume\n']);

    const resumed = await call(['pretrain', '--resume', ...args]);
    expect(resumed.code).toBe(0);
    const rest = resumed.stdout.trim().split('\n').map((line) => JSON.parse(line) as { type: string; step?: number; path?: string });
    expect(rest[0]).toMatchObject({ type: 'start', step: last.step, steps: 40 });
    expect(rest.at(-1)).toMatchObject({ type: 'end', step: 40 });
    expect(existsSync(rest.at(-1)!.path!)).toBe(true);
  });

  test('is not overwritten, and says how to go on', async () => {
    const { code, stderr } = await call(['pretrain', ...tiny, '--out', 'run']);
    expect(code).toBe(2);
    expect(stderr).toContain('there is a run in run already. Choose another --out, or go on with it:\n  a-infonce pretrain --out run --resume');
  });

  test('is fine-tuned adversarially by the values that it recorded, and goes on after ctrl-C', async () => {
    const sets = ['encoder.width=2', 'finetuning.aff.epochs=8', 'finetuning.aff.batchSize=20', 'finetuning.aff.trades.attack.steps=1'].flatMap((each) => ['--set', each]);
    expect(await call(['pretrain', '--preset', 'quickstart', '--out', 'tuned', '--limit', '40', '--epochs', '1', '--batch-size', '20', ...sets])).toMatchObject({ code: 0 });
    // On the 40 images of the run: two batches an epoch.
    const args = ['finetune', 'tuned', '--mode', 'aff', '--validation', '.25', '--checkpoint-every', '1', '--threads', '1'];
    const whole = await call([...args, '--out', 'whole.safetensors', '--json']);
    expect(JSON.parse(whole.stdout)).toMatchObject({ classifier: 'whole.safetensors', mode: 'aff', epochs: 8 });

    const child = spawn(process.execPath, [main, ...args], { cwd: folder, stdio: 'ignore' });
    const work = join(folder, 'tuned', 'classifier-aff.run');
    while (!(existsSync(work) && readdirSync(work).some((name) => /^checkpoint-.*[3-9]\.safetensors$/.test(name)))) await new Promise((resolve) => setTimeout(resolve, 1));
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(130);
    expect(existsSync(join(folder, 'tuned', 'classifier-aff.safetensors'))).toBe(false);
    expect(await call(args)).toMatchObject({ code: 2, stderr: expect.stringContaining('an interrupted fine-tuning is in tuned/classifier-aff.run. Go on with it, or remove that folder:\n  a-infonce finetune tuned --mode aff') as string });
    expect((await call([...args, '--resume'])).stderr).toMatch(/Going on after step \d+ of 16\./);
    expect(readFileSync(join(folder, 'tuned', 'classifier-aff.safetensors'))).toEqual(readFileSync(join(folder, 'whole.safetensors')));
    const other = await call([...args, '--resume', '--set', 'trades.beta=5']);
    expect(other.stderr).toMatch(/config\.trades\.beta: expected 6, as recorded in .*, got 5/);
  });

  test('its fine-tuning takes no folder away that is not its own', async () => {
    const foreign = join(folder, 'thesis.run'), note = join(foreign, 'chapter.txt');
    mkdirSync(foreign);
    writeFileSync(note, 'months of work');
    const args = ['finetune', 'run', '--limit', '20', '--epochs', '1', '--out'];
    expect(await call([...args, 'thesis.safetensors'])).toMatchObject({ code: 2, stderr: expect.stringContaining("in thesis.run, and that folder is not a fine-tuning's") as string });
    expect(readFileSync(note, 'utf8')).toBe('months of work');
    // A run of that name, and with an encoder that lies in the folder itself.
    renameSync(run, join(folder, 'own.run'));
    try {
      expect(await call(['finetune', 'own.run', '--limit', '20', '--out', 'own.safetensors'])).toMatchObject({ code: 2, stderr: expect.stringContaining("not a fine-tuning's") as string });
    } finally {
      renameSync(join(folder, 'own.run'), run);
    }
    expect(await call([...args, 'first.safetensors'])).toMatchObject({ code: 0 });
    const first = readFileSync(join(folder, 'first.run', 'classifier.safetensors'));
    expect(await call([...args, 'first.safetensors', '--overwrite', '--set', 'schedule.rat=1'])).toMatchObject({ code: 2 });
    expect(await call(['finetune', 'first.run/classifier.safetensors', '--data', 'procedural', '--out', 'first.safetensors']))
      .toMatchObject({ code: 2, stderr: expect.stringContaining('lies in first.run, which would be overwritten') as string });
    expect(readFileSync(join(folder, 'first.run', 'classifier.safetensors'))).toEqual(first);
    expect(await call([...args, 'first.safetensors', '--overwrite', '--seed', '5'])).toMatchObject({ code: 0 });
    expect(readFileSync(join(folder, 'first.run', 'classifier.safetensors'))).not.toEqual(first);
  });

  test('becomes a classifier, which is evaluated and attacked', async () => {
    const early = await call(['evaluate', 'run']);
    expect(early.code).toBe(1);
    expect(early.stderr).toContain('there is an encoder here, but no classifier yet. Type: a-infonce finetune run');

    const quick = ['--limit', '100', '--epochs', '2', '--json'];
    const fitted = await call(['finetune', 'run', ...quick]);
    expect(fitted.code).toBe(0);
    expect(JSON.parse(fitted.stdout)).toMatchObject({ classifier: join('run', 'classifier.safetensors'), mode: 'slf', epochs: 2 });
    const baseline = await call(['finetune', 'run', '--random-encoder', ...quick]);
    expect(JSON.parse(baseline.stdout)).toMatchObject({ classifier: join('run', 'random-classifier.safetensors') });
    expect(readdirSync(run)).toEqual(expect.arrayContaining(['config.json', 'metrics.jsonl', 'encoder.safetensors', 'classifier.safetensors', 'random-classifier.safetensors']));

    const evaluated = await call(['evaluate', 'run', '--attacks', 'clean,pgd2', '--epsilon', '8/255', '--limit', '64', '--json']);
    expect(evaluated.code).toBe(0);
    const { scores } = JSON.parse(evaluated.stdout) as { scores: Record<string, { accuracy: number; total: number; settings: { epsilon?: number; stepSize?: number } }> };
    expect(scores['clean']!.total).toBe(64);
    expect(scores['pgd2']!.accuracy).toBeLessThanOrEqual(scores['clean']!.accuracy);
    expect(scores['pgd2']!.settings.epsilon).toBe(8 / 255);
    const text = await call(['evaluate', 'run', '--attacks', 'clean', '--limit', '64']);
    expect(text.stdout).toMatch(/^attack +accuracy +right +images +norm +epsilon +step +steps +start\nclean +\d+\.\d\d % +\d+ +64( +-){5}\n$/);
    // Without --epsilon, what the run recorded; with it, steps that fit it.
    const recorded = await call(['evaluate', 'run', '--attacks', 'pgd2', '--limit', '8']);
    expect(recorded.stdout).toMatch(/\npgd2 .* 8 +linf +0\.0314 +0\.00314 +2 +random\n$/);
    expect(scores['pgd2']!.settings.stepSize).toBe(2 / 255);

    const checked = await call(['evaluate', 'run', '--attacks', 'clean', '--limit', '32', '--check', '--json']);
    const { check } = JSON.parse(checked.stdout) as { check: { ok: boolean; checks: { check: string; ok: boolean }[]; settings: object } };
    expect(checked.code).toBe(check.ok ? 0 : 1);
    expect(check.checks.slice(0, 5).map((each) => [each.check, each.ok])).toEqual([['data', true], ['range', true], ['logits', true], ['deterministic', true], ['batch', true]]);
    expect(check.settings).toMatchObject({ epsilon: 0.0314, limit: 32 });

    // One image: should it stand, the square attack is long.
    const strong = ['evaluate', 'run', '--attacks', 'autoattack,fgsm', '--epsilon', '0.5', '--limit', '1', '--state', 'state.safetensors'];
    const worst = await call(strong);
    expect(worst.stdout).toMatch(/\nautoattack +\d+\.\d\d % +[01] +1 +linf +0\.5( +-){3}\n  after apgd-ce .* linf +0\.5 +- +100 +random\n  after apgd-t .*\n  after fab-t .* 100 +image\n  after square .* 5000 +random\nfgsm .* linf +0\.5 +0\.5 +1 +image\nAutoAttack took [\d.e-]+ s an image\.\n$/);
    expect((await call(strong)).stdout).toBe(worst.stdout); // from the state, with the time it took
    const other = await call([...strong, '--seed', '3']);
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining('state.safetensors: the state of an evaluation with other settings')]);
    expect((await call(['evaluate', 'run', '--attacks', 'pgd2', '--state', 'x'])).stderr).toContain('--state is of autoattack: name it among --attacks');

    const named = await call(['attack', 'run', '--attack', 'apgd-dlr', '--epsilon', '0.5', '--limit', '8', '--out', 'apgd.safetensors', '--json']);
    expect(JSON.parse(named.stdout)).toMatchObject({ images: 8, attack: { attack: 'apgd', loss: 'dlr', epsilon: 0.5, steps: 100 } });
    const foreign = await call(['attack', 'run', '--attack', 'fgsm', '--step-size', '0.1', '--limit', '8']);
    expect(foreign.stderr).toContain("--step-size: expected left out, since 'fgsm' has none");
    expect((await call(['attack', 'run', '--state', 'x'])).stderr).toContain('--state is of autoattack');
    const worstOf = ['attack', 'run', '--attack', 'autoattack', '--epsilon', '0.5', '--limit', '1', '--state', 'attack-state.safetensors', '--out', 'worst.safetensors', '--json'];
    const kept = await call(worstOf);
    expect((await call(worstOf)).stdout).toBe(kept.stdout);
    expect((await call([...worstOf, '--seed', '1'])).stderr).toContain('with other settings');
    const misspelt = await call(['attack', 'run', '--attack', 'apgd', '--limit', '8']);
    expect(misspelt.stderr).toContain("--attack: expected 'pgd', 'autoattack', 'pgd<steps>' (as in 'pgd20', from 1 to 99999 steps), 'fgsm'");
    const attacked = await call(['attack', 'run', '--limit', '32', '--steps', '2', '--out', 'adversarial.safetensors', '--json']);
    expect(attacked.code).toBe(0);
    const { pgd20 } = (JSON.parse(readFileSync(join(folder, 'run/config.json'), 'utf8')) as { evaluation: { pgd20: { epsilon: number; stepSize: number } } }).evaluation;
    expect(JSON.parse(attacked.stdout)).toMatchObject({ images: 32, attack: { attack: 'pgd', norm: 'linf', epsilon: pgd20.epsilon, stepSize: pgd20.stepSize, steps: 2, restarts: 1, seed: 0 } });
    const own = await call(['attack', 'run', '--limit', '8', '--steps', '1', '--epsilon', '0.1', '--out', 'own.safetensors', '--json']);
    expect(JSON.parse(own.stdout)).toMatchObject({ attack: { epsilon: 0.1, stepSize: 0.025, randomStart: true, batchSize: 256 } });
    // What it wrote is what it reads.
    const again = await call(['attack', 'run', '--images', 'adversarial.safetensors', '--steps', '2', '--out', 'again.safetensors', '--json']);
    const { out: _, ...same } = JSON.parse(attacked.stdout) as { out: string };
    expect(JSON.parse(again.stdout)).toEqual({ out: 'again.safetensors', ...same });
    expect((await call(['attack', 'run', '--out', 'nowhere/x.safetensors'])).stderr).toContain('Type: mkdir -p nowhere');
    const into = await call(['attack', 'run', '--out', 'run']);
    expect([into.code, into.stderr]).toEqual([1, 'a-infonce attack: run: it is a folder. Name a file in it: --out run/adversarial.safetensors\n']);
    const unfit = await call(['attack', 'run', '--images', 'run/encoder.safetensors']);
    expect(unfit.stderr).toMatch(/expected tensors 'images' and 'labels', got ('[\w.]+', ){4}'[\w.]+' and \d+ more\n$/);
    // What is read is not overwritten.
    for (const args of [['finetune', 'run/classifier.safetensors'], ['finetune', 'run', '--out', 'run/encoder.safetensors'], ['attack', 'run', '--images', 'adversarial.safetensors']]) {
      const { code, stderr } = await call(args);
      expect([code, stderr]).toEqual([2, expect.stringMatching(/safetensors is what is read: it would be overwritten\. Choose another --out/)]);
    }
  });
});

test('quickstart compares with a random encoder, in a folder of its own', async () => {
  const args = ['quickstart', '--json', '--epochs', '1', '--limit', '64', '--batch-size', '32', '--set', 'encoder.width=1', '--set', 'attack.steps=1', '--set', 'data.procedural.test=64'];
  for (const out of [join('runs', 'quickstart'), join('runs', 'quickstart-2')]) {
    const { code, stdout, stderr } = await call(args);
    expect([code, stderr]).toEqual([0, '']);
    const result = JSON.parse(stdout) as { out: string; scores: Record<'pretrained' | 'random', Record<'clean' | 'pgd20', { accuracy: number; total: number }>> };
    expect(result.out).toBe(out);
    for (const { clean, pgd20 } of Object.values(result.scores)) {
      expect(clean.total).toBe(64);
      expect(pgd20.accuracy).toBeLessThanOrEqual(clean.accuracy);
    }
    expect(readdirSync(join(folder, out))).toEqual(expect.arrayContaining(['encoder.safetensors', 'classifier.safetensors', 'quickstart.json']));
  }
});

describe('the table of the paper', () => {
  const sizes = '--scale small --data procedural --images 40 --test-images 20 --width 1 --epochs 1 --finetune-epochs 1 --batch-size 4 --threads 1 --out table'.split(' ');
  test('is printed as text, Markdown and JSON; what is there is not done again', async () => {
    const args = ['reproduce', 'table1', ...sizes, '--only', 'rocl,base,slf,sa'];
    const { code, stdout, stderr } = await call(args);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^data {9}method {3}SLF SA\nprocedural {3}RoCL +\d+\.\d\d$/m);
    expect(stdout).toContain('its numbers compare with each other, not with those that were published');
    expect(stderr).toMatch(/^\[1\/1\] procedural RoCL slf, seed 0 {2}SA \d+\.\d\d %$/m);
    const again = await call([...args, '--markdown']);
    expect(again.stdout).toMatch(/^\| procedural \| RoCL \| \d+\.\d\d \|$/m);
    expect(again.stderr).not.toContain('pre-training');
    expect(`${again.stdout}`).toBe(readFileSync(join(folder, 'table', 'table1.md'), 'utf8'));
    const { rows } = JSON.parse((await call([...args, '--json'])).stdout) as { rows: { name: string }[] };
    expect(rows.map(({ name }) => name)).toEqual(['RoCL']);
  });

  test('says which cells failed, does the others, and ends with 1', async () => {
    writeFileSync(join(folder, 'table', 'procedural', 'seed-0', 'rocl-hn'), '');
    const { code, stdout, stderr } = await call(['reproduce', ...sizes, '--only', 'rocl,hn,ip,slf,sa']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^\[2\/2\] procedural RoCL-HN slf, seed 0 {2}failed: .*rocl-hn/m);
    expect(stdout).toMatch(/^procedural {3}RoCL-IP +\d+\.\d\d$/m);
    expect(stdout).toMatch(/^Failed: procedural RoCL-HN slf, seed 0: /m);
    const other = await call(['reproduce', ...sizes, '--width', '2']);
    expect([other.code, other.stderr]).toEqual([2, expect.stringContaining('--width: expected 1, as recorded in table, got 2')]);
  });
});
