import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from 'tar';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DOWNLOADABLE, downloadDataset, FileError, openDataset } from 'a-infonce';
import { downloadFile, fetchSource, unpack } from '../../src/data/download.js';

const content = Buffer.from(Array.from({ length: 300_000 }, (_, k) => (k * k) % 251));
const md5 = (data: Uint8Array) => createHash('md5').update(data).digest('hex');

let root: string;
let server: Server;
let base: string;
/** What the server was asked for: method, path, range. */
let asked: string[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;

/** Sends `data`, or the range asked for. */
function serve(request: IncomingMessage, response: ServerResponse, data: Buffer = content): void {
  const from = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1];
  if (from === undefined) return void response.writeHead(200, { 'content-length': data.length }).end(data);
  const start = Number(from);
  if (start >= data.length) return void response.writeHead(416, { 'content-range': `bytes */${data.length}` }).end();
  response.writeHead(206, { 'content-length': data.length - start, 'content-range': `bytes ${start}-${data.length - 1}/${data.length}` }).end(data.subarray(start));
}
/** Sends what is asked for, but cuts the connection after so many bytes. */
function cut(request: IncomingMessage, response: ServerResponse, after: number): void {
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  const headers = { 'content-length': content.length - start, 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` };
  response.writeHead(start ? 206 : 200, headers);
  response.write(content.subarray(start, start + after), () => setTimeout(() => response.destroy(), 20));
}

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'a-infonce-download-'));
  asked = [];
  answer = serve;
  server = createServer((request, response) => {
    asked.push(`${request.url} ${request.headers.range ?? ''}`.trim());
    answer(request, response);
  });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
  rmSync(root, { recursive: true, force: true });
});

const get = (path: string, sum = md5(content), more = {}) => downloadFile(`${base}/file`, path, sum, { pause: 1, ...more });
const refusal = async (work: Promise<unknown>): Promise<FileError> => {
  const error = await work.then(() => { throw new Error('it worked'); }, (error: unknown) => error);
  expect(error).toBeInstanceOf(FileError);
  return error as FileError;
};

describe('downloadFile', () => {
  it('fetches, reports and leaves nothing but the file', async () => {
    const seen: number[] = [];
    const path = join(root, 'file');
    await get(path, undefined, { onProgress: ({ received, total, file }: { received: number; total?: number; file: string }) => {
      expect([total, file]).toEqual([content.length, path]);
      seen.push(received);
    } });
    expect(content.equals(readFileSync(path))).toBe(true);
    expect(readdirSync(root)).toEqual(['file']);
    expect(seen[0]).toBe(0);
    expect(seen.at(-1)).toBe(content.length);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
  });

  it('goes on after a cut connection, where it stopped', async () => {
    let requests = 0;
    answer = (request, response) => (++requests <= 2 ? cut(request, response, 100_000) : serve(request, response));
    const path = join(root, 'file');
    await get(path);
    expect(content.equals(readFileSync(path))).toBe(true);
    expect(asked).toEqual(['/file', '/file bytes=100000-', '/file bytes=200000-']);
  });

  it('goes on from the part of an earlier call', async () => {
    const path = join(root, 'file');
    writeFileSync(`${path}.part`, content.subarray(0, 1234));
    await get(path);
    expect(asked).toEqual(['/file bytes=1234-']);
    expect(content.equals(readFileSync(path))).toBe(true);
  });

  it('takes a part that is whole already', async () => {
    const path = join(root, 'file');
    writeFileSync(`${path}.part`, content);
    await get(path);
    expect(content.equals(readFileSync(path))).toBe(true);
  });

  it('starts again where the server ignores ranges, or the part was of another file', async () => {
    const path = join(root, 'file');
    writeFileSync(`${path}.part`, Buffer.alloc(1234, 7));
    answer = (_request, response) => response.writeHead(200, { 'content-length': content.length }).end(content);
    await get(path);
    expect(content.equals(readFileSync(path))).toBe(true);

    const other = join(root, 'other');
    writeFileSync(`${other}.part`, Buffer.alloc(1234, 7));
    answer = serve;
    await get(other);
    expect(content.equals(readFileSync(other))).toBe(true);
    expect(asked.slice(1)).toEqual(['/file bytes=1234-', '/file']);
  });

  it('refuses a wrong checksum, and keeps nothing', async () => {
    const error = await refusal(get(join(root, 'file'), '0'.repeat(32)));
    expect(error.message).toBe(`${base}/file: expected the MD5 ${'0'.repeat(32)}, got ${md5(content)}`);
    expect(readdirSync(root)).toEqual([]);
    expect(asked).toHaveLength(1);
  });

  it('says what the server answered, at once for 404, after four tries for 503', async () => {
    answer = (_request, response) => response.writeHead(404).end('nothing here');
    expect((await refusal(get(join(root, 'file')))).message).toContain('the server answered 404 Not Found');
    expect(asked).toHaveLength(1);
    answer = (_request, response) => response.writeHead(503).end();
    expect((await refusal(get(join(root, 'file')))).message).toContain('the transfer broke off 4 times: HTTP 503');
    expect(asked).toHaveLength(5);
    expect(readdirSync(root)).toEqual([]);
  });

  it('refuses a range that was not asked for, and a file without end', async () => {
    writeFileSync(join(root, 'file.part'), content.subarray(0, 10));
    answer = (_request, response) => response.writeHead(206, { 'content-range': `bytes 0-${content.length - 1}/${content.length}` }).end(content);
    expect((await refusal(get(join(root, 'file')))).message).toContain('asked for the bytes from 10');
    answer = (_request, response) => void response.writeHead(200, { 'content-length': 2 ** 40 }).write('x');
    expect((await refusal(get(join(root, 'huge')))).message).toContain('the server announces 1099511627776');
  });

  it('keeps the part when no server is there or the caller aborts', async () => {
    const controller = new AbortController();
    answer = (_request, response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 50_000));  // and then nothing
    };
    const onProgress = ({ received }: { received: number }) => { if (received >= 50_000) controller.abort(new Error('enough')); };
    await expect(get(join(root, 'file'), undefined, { signal: controller.signal, onProgress })).rejects.toThrow('enough');
    expect(content.subarray(0, 50_000).equals(readFileSync(join(root, 'file.part')))).toBe(true);
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
    expect((await refusal(get(join(root, 'file')))).message).toMatch(/the transfer broke off 4 times: .*ECONNREFUSED/);
    expect(existsSync(join(root, 'file.part'))).toBe(true);
  });
});

describe('a whole data set', () => {
  /** A .tar.gz of `folder` as tar makes it. */
  async function archive(folder: string, names: string[], more = {}): Promise<Buffer> {
    const path = join(root, 'made.tar.gz');
    await create({ gzip: true, file: path, cwd: folder, portable: true, ...more }, names);
    const data = readFileSync(path);
    rmSync(path);
    return data;
  }

  it('unpacks an archive into its place, and openDataset finds it', async () => {
    const made = join(root, 'made', 'mnist');
    mkdirSync(made, { recursive: true });
    for (const part of ['train', 't10k']) {
      writeFileSync(join(made, `${part}-images-idx3-ubyte`), Buffer.of(0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 77));
      writeFileSync(join(made, `${part}-labels-idx1-ubyte`), Buffer.of(0, 0, 8, 1, 0, 0, 0, 1, 5));
    }
    const data = await archive(join(root, 'made'), ['mnist']);
    answer = (request, response) => serve(request, response, data);
    const source = { baseUrl: base, archived: 'mnist', files: [{ name: 'm.tar.gz', md5: md5(data) }] };
    const dir = join(root, 'cache');
    expect(await fetchSource('mnist', source, { dir })).toBe(join(dir, 'mnist'));
    expect(readdirSync(dir)).toEqual(['mnist']);
    expect(asked).toEqual(['/m.tar.gz']);
    using opened = await openDataset('mnist', { root: dir });
    expect([...opened.train.pixels.toTypedArray()]).toEqual([77]);
    await fetchSource('mnist', source, { dir });
    expect(asked).toHaveLength(1);
  });

  it('does not inflate an archive without measure', async () => {
    const made = join(root, 'made', 'set');
    mkdirSync(made, { recursive: true });
    writeFileSync(join(made, 'zeros'), '');
    truncateSync(join(made, 'zeros'), 20 * 2 ** 20);
    writeFileSync(join(root, 'bomb.tar.gz'), await archive(join(root, 'made'), ['set']));
    expect((await refusal(unpack(join(root, 'bomb.tar.gz'), 'set', join(root, 'to')))).message).toContain('max decompression ratio exceeded');
    expect(readdirSync(root).sort()).toEqual(['bomb.tar.gz', 'made']);
  });

  it('fetches what is missing of separate files', async () => {
    const source = { baseUrl: base, files: ['a', 'b'].map((name) => ({ name, md5: md5(content) })) };
    const folder = await fetchSource('set', source, { dir: root });
    expect(readdirSync(folder).sort()).toEqual(['a', 'b']);
    writeFileSync(join(folder, 'b'), 'damaged');
    await fetchSource('set', source, { dir: root });
    expect(asked).toEqual(['/a', '/b', '/b']);
    expect(content.equals(readFileSync(join(folder, 'b')))).toBe(true);
  });

  it('asks a mirror for the official names and believes no other content', async () => {
    for (const [name, first] of [
      ['cifar10', '/cifar-10-binary.tar.gz'], ['cifar100', '/cifar-100-binary.tar.gz'],
      ['fashion-mnist', '/train-images-idx3-ubyte.gz'], ['mnist', '/train-images-idx3-ubyte.gz'],
    ] as const) {
      asked = [];
      expect((await refusal(downloadDataset(name, { dir: root, baseUrl: `${base}/` }))).message).toContain('expected the MD5');
      expect(asked).toEqual([first]);
    }
    expect([...DOWNLOADABLE].sort()).toEqual(['cifar10', 'cifar100', 'fashion-mnist', 'mnist']);
    await expect(downloadDataset('imagenet' as never)).rejects.toThrow('name');
    await expect(downloadDataset('mnist', { folder: root } as never)).rejects.toThrow('options.folder');
  });

  it('refuses archives with paths outside, links, other folders, or no archive at all', async () => {
    const inner = join(root, 'made', 'set');
    mkdirSync(inner, { recursive: true });
    writeFileSync(join(inner, 'good'), 'good');
    writeFileSync(join(root, 'outside'), 'outside');
    writeFileSync(join(root, 'made', 'beside'), 'beside');
    const attempt = async (data: Uint8Array) => {
      const path = join(root, 'made.tar.gz');
      writeFileSync(path, data);
      const error = await refusal(unpack(path, 'set', join(root, 'to')));
      expect(error.path).toBe(path);
      expect(existsSync(join(root, 'to'))).toBe(false);
      expect(readdirSync(root).sort()).toEqual(['made', 'made.tar.gz', 'outside']);
      expect(readFileSync(join(root, 'outside'), 'utf8')).toBe('outside');
      return error.message;
    };
    expect(await attempt(await archive(join(root, 'made'), ['set/good', '../outside'], { preservePaths: true }))).toContain('outside');
    expect(await attempt(await archive(join(root, 'made'), ['set/good', join(root, 'outside')], { preservePaths: true }))).toContain('outside');
    expect(await attempt(await archive(join(root, 'made'), ['set', 'beside']))).toContain('got beside (File, 6 bytes)');
    expect(await attempt(await archive(join(root, 'made'), ['beside']))).toContain('beside');
    symlinkSync(join(root, 'outside'), join(inner, 'link'));
    expect(await attempt(await archive(join(root, 'made'), ['set']))).toContain('SymbolicLink');
    expect(await attempt(Buffer.from('not an archive at all'.repeat(100)))).toContain('cannot be read');
    rmSync(join(inner, 'link'));
    expect(await attempt((await archive(join(root, 'made'), ['set'])).subarray(0, 60))).toContain('cannot be read');
  });
});
