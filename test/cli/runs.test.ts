import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { getThreads, presets, pretrain, setThreads } from 'a-infonce';
import { native } from '../../src/runtime/native.js';
import { temporary } from '../fixtures/runs.js';
import { call } from './call.js';

const { folder, fresh } = temporary(), at = (name: string) => join(folder, name);
const json = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
const tiny = ['--epochs', '1', '--batch-size', '8', '--set', 'encoder.width=2', '--set', 'attack.steps=1', '--set', 'projector.hidden=[4]', '--set', 'projector.output=4'];

/** A folder of images, three classes of so many each. */
async function images(path: string, seed: number, each = 6, size = 10): Promise<string> {
  for (const [label, name] of ['a', 'b', 'c'].entries()) {
    mkdirSync(join(path, name), { recursive: true });
    for (let at = 0; at < each; at++) {
      const pixels = Buffer.from(Array.from({ length: size * size * 3 }, (_, k) => (seed + 80 * label + 13 * at + 7 * k) % 256));
      await sharp(pixels, { raw: { width: size, height: size, channels: 3 } }).png().toFile(join(path, name, `${at}.png`));
    }
  }
  return path;
}

// What this machine has of the known data sets is not there.
beforeAll(() => {
  vi.stubEnv('XDG_CACHE_HOME', folder);
  vi.stubEnv('A_INFONCE_DATA', undefined);
});
afterAll(() => vi.unstubAllEnvs());

/** Types what `cluster` prints, with a network of no size. */
async function trainsNext(data: string, run: string, limit: string): Promise<void> {
  const labels = `${fresh()}.safetensors`, { code, stderr } = await call('cluster', run, '--k', '2,3', '--limit', limit, '--out', labels);
  const [, line] = /\nNext: a-infonce (.*)\n/.exec(stderr)!;
  expect([code, line]).toEqual([0, expect.stringContaining(`--data ${data} `)]);
  const args = line!.match(/'[^']*'|\S+/g)!.map((word) => word.replaceAll("'", ''));
  const small = ['--epochs', '1', '--batch-size', '4', '--set', 'encoder.width=1', '--set', 'attack.steps=1', '--set', 'projector.hidden=[4]', '--set', 'projector.output=4'];
  expect(await call(...args, ...small, '--out', fresh())).toMatchObject({ code: 0 });
}

test('pseudo-labels of images made on the spot are trained with by the command that is printed', async () => {
  const run = fresh();
  expect(await call('pretrain', '--preset', 'quickstart', '--set', 'data.procedural.train=16', '--set', 'data.procedural.test=8', '--set', 'data.procedural.size=8', ...tiny, '--out', run)).toMatchObject({ code: 0 });
  await trainsNext('procedural', run, '8');
});

describe('a run on a folder of images', () => {
  const data = at('images/cifar100'), run = at('run');   // a name that a data set has, too
  const config = join(run, 'config.json');
  beforeAll(async () => {
    await images(data, 0);
    expect(await call('pretrain', '--preset', 'quickstart', '--data', data, '--image-size', '8', '--limit', '10', ...tiny, '--out', run)).toMatchObject({ code: 0 });
  });

  test('goes on, and is fine-tuned and evaluated, on its images by nothing but its folder', async () => {
    expect(json(config)).toMatchObject({ data: { name: 'cifar100', path: data, size: 8, images: 10 } });
    for (const args of [['pretrain', '--out', run, '--resume'], ['finetune', run, '--epochs', '1'], ['evaluate', run, '--limit', '3'], ['cluster', run, '--k', '2', '--out', at('labels.safetensors')]])
      expect(await call(...args), args.join(' ')).toMatchObject({ code: 0 });
    const events = [];
    for await (const event of pretrain({ out: run, resume: true })) events.push(event.type);
    expect(events.at(-1)).toBe('end');
  });

  test('has pseudo-labels that the command printed then trains with', async () => {
    await trainsNext(data, run, '8');
  });

  test('has its images resized to another size where that is typed', async () => {
    const larger = at('larger.safetensors'), tune = ['finetune', run, '--epochs', '1', '--out', larger];
    for (const args of [['evaluate', run, '--limit', '2'], ['attack', run, '--limit', '2', '--steps', '1', '--out', at('adversarial.safetensors')], tune])
      expect(await call(...args, '--image-size', '10'), args.join(' ')).toMatchObject({ code: 0 });
    expect(json(`${larger.slice(0, -'.safetensors'.length)}.run/config.json`)).toMatchObject({ data: { path: data, size: 10, images: 10 } });
    for (const args of [['evaluate', larger, '--limit', '2'], [...tune, '--resume']]) expect(await call(...args), args.join(' ')).toMatchObject({ code: 0 });
    expect(await call(...tune, '--resume', '--image-size', '8')).toMatchObject({ stderr: expect.stringContaining('data.size: 10 -> 8') as string });
  });

  test('and a fine-tuning go on where the folder was moved to, and remember it', async () => {
    const moved = at('moved-images'), before = readFileSync(config, 'utf8'), out = at('tuned.safetensors'), work = at('tuned.run/config.json');
    expect(await call('finetune', run, '--epochs', '1', '--out', out)).toMatchObject({ code: 0 });
    renameSync(data, moved);
    try {
      for (const [file, args] of [[work, ['finetune', run, '--epochs', '1', '--out', out, '--resume']], [config, ['pretrain', '--out', run, '--resume']]] as const) {
        const recorded = json(file) as { data: object };
        expect(await call(...args)).toMatchObject({ code: 1, stderr: expect.stringContaining('say where: --data <folder>') as string });
        expect(json(file)).toEqual(recorded);
        expect(await call(...args, '--data', moved, '--image-size', '8')).toMatchObject({ code: 0 });
        expect(json(file)).toEqual({ ...recorded, data: { ...recorded.data, path: moved } });
        expect(await call(...args)).toMatchObject({ code: 0 });
      }
      expect(await call('evaluate', out, '--limit', '2')).toMatchObject({ code: 0 });
    } finally {
      writeFileSync(config, before);
      renameSync(moved, data);
    }
  });

  test('is not measured on others, unless they are named', async () => {
    const aside = fresh(), before = readFileSync(config, 'utf8');
    renameSync(data, aside);
    const commands = [['evaluate', run], ['evaluate', run, '--image-size', '10'], ['finetune', run, '--overwrite'], ['attack', run, '--out', at('adversarial.safetensors')], ['pretrain', '--out', run, '--resume']];
    try {
      for (const args of commands)
        expect(await call(...args)).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining(`${data}: there is no such folder, from which the images of the run were read. If they lie elsewhere, say where: --data <folder>\n`) as string });
      await images(data, 1);
      for (const args of commands)
        expect(await call(...args)).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/cifar100: these are not the images of the run \(SHA-256 [0-9a-f]{12}\.\.\., recorded [0-9a-f]{12}\.\.\.\)\. If .*: --data <folder>\n/) as string });
      expect(await call('evaluate', run, '--limit', '2', '--data', data)).toMatchObject({ code: 0 });
      expect(await call('pretrain', '--out', run, '--resume', '--data', aside)).toMatchObject({ code: 0 });
      // As runs were recorded that do not tell the folder.
      for (const [name, code] of [[data, 1], [aside, 0]] as const) {
        writeFileSync(config, JSON.stringify({ ...JSON.parse(before) as object, data: { ...(JSON.parse(before) as { data: object }).data, name, path: undefined } }));
        expect(await call('cluster', run, '--k', '2', '--out', at('labels.safetensors'))).toMatchObject({ code });
        expect(await call('pretrain', '--out', run, '--resume')).toMatchObject({ code });
      }
    } finally {
      writeFileSync(config, before);
      rmSync(data, { recursive: true });
      renameSync(aside, data);
    }
  });
});

test('a run on a data set that --data-root found finds it again', async () => {
  const root = at('root'), lies = join(root, 'mnist'), run = fresh();
  mkdirSync(lies, { recursive: true });
  const header = (magic: number, ...sizes: number[]) => Buffer.concat([magic, ...sizes].map((value) => { const four = Buffer.alloc(4); four.writeUInt32BE(value); return four; }));
  for (const [part, count] of [['train', 12], ['t10k', 4]] as const) {
    writeFileSync(join(lies, `${part}-images-idx3-ubyte`), Buffer.concat([header(0x803, count, 8, 8), Buffer.from(Array.from({ length: count * 64 }, (_, at) => (7 * at) % 256))]));
    writeFileSync(join(lies, `${part}-labels-idx1-ubyte`), Buffer.concat([header(0x801, count), Buffer.from(Array.from({ length: count }, (_, at) => at % 10))]));
  }
  const args = ['pretrain', '--preset', 'quickstart', '--set', 'views.jitter=null', '--set', 'views.grayscale=null', ...tiny, '--out', run];
  expect(await call(...args, '--data', 'mnist', '--data-root', root)).toMatchObject({ code: 0 });
  for (const again of [['pretrain', '--out', run, '--resume'], ['finetune', run, '--epochs', '1'], ['evaluate', run, '--limit', '2']]) expect(await call(...again)).toMatchObject({ code: 0 });
  // On a machine where it lies elsewhere.
  cpSync(root, at('moved'), { recursive: true });
  rmSync(root, { recursive: true });
  expect(await call('evaluate', run, '--limit', '2', '--data-root', at('moved'))).toMatchObject({ code: 0 });
  expect(await call('evaluate', run, '--limit', '2')).toMatchObject({ code: 1, stderr: expect.stringContaining(`${lies}: there is no such folder, from which the images`) as string });
});

test('a configuration that is damaged is refused, not passed over for defaults', async () => {
  const run = fresh(), config = join(run, 'config.json'), classifier = join(run, 'classifier.safetensors');
  expect(await call('pretrain', '--preset', 'quickstart', '--set', 'data.procedural={"train":16,"test":8,"size":8}', ...tiny, '--out', run)).toMatchObject({ code: 0 });
  expect(await call('finetune', run, '--epochs', '1')).toMatchObject({ code: 0 });
  const whole = readFileSync(config, 'utf8'), { evaluation, ...rest } = JSON.parse(whole) as { evaluation: { pgd20: object } };
  for (const [text, why] of [['{', 'not valid JSON'], ['{}', 'preset: '], [JSON.stringify({ ...rest, evaluation: { pgd20: { ...evaluation.pgd20, epsilon: '8/255' } } }), 'evaluation.pgd20.epsilon: ']] as const) {
    writeFileSync(config, text);
    for (const args of [['evaluate', run], ['attack', run, '--out', at('adversarial.safetensors')], ['finetune', run, '--overwrite'], ['cluster', run, '--k', '2'], ...(text === '{}' ? [] : [['evaluate', classifier]])])
      expect(await call(...args, '--data', 'procedural'), args.join(' ')).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining(`${config}: ${why}`) as string });
  }
  writeFileSync(config, whole);
  expect(await call('evaluate', classifier, '--limit', '2')).toMatchObject({ code: 0 });
});

test.skipIf(availableParallelism() < 2)('a run goes on with the threads that it began with, unless others are asked for', async () => {
  const run = fresh(), before = getThreads();
  try {
    expect(await call('pretrain', '--preset', 'quickstart', '--set', 'data.procedural={"train":16,"test":8,"size":8}', ...tiny, '--threads', '2', '--out', run)).toMatchObject({ code: 0 });
    setThreads(1);
    expect((await call('pretrain', '--out', run, '--resume', '--threads', '1')).stderr).toMatch(/^Warning: threads are not what they were/m);
    const { stderr } = await call('pretrain', '--out', run, '--resume');
    expect(stderr).toContain('With 2 threads, as the run began; --threads says another number.\n');
    expect(stderr).not.toContain('Warning: threads');
    expect(getThreads()).toBe(2);
  } finally {
    setThreads(before);
  }
});

test('a run that is being trained is not said to wait for somebody to go on with it', async () => {
  const run = fresh();
  mkdirSync(run);
  writeFileSync(join(run, 'config.json'), JSON.stringify(presets.quickstart));
  for (const command of ['finetune', 'evaluate', 'analyze']) expect((await call(command, run)).stderr).toContain(`the run in ${run} is not finished. Go on with it:\n`);
  const lock = native().lock_file(join(run, 'run.lock'));
  try {
    for (const command of ['finetune', 'evaluate', 'analyze'])
      expect((await call(command, run)).stderr).toMatch(new RegExp(`: the run in ${run} is not finished: .*another run writes this folder \\(process ${process.pid}\\)`));
  } finally {
    native().unlock_file(lock);
  }
});
