import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { pretrain, type PretrainEvent, type PretrainOptions } from 'a-infonce';
import { EventFile } from '../../src/training/tensorboard.js';

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'events-'))));
afterEach(() => rmSync(folder, { recursive: true }));

/** CRC-32C bit by bit (RFC 3720, appendix B.4), masked as TFRecord has it. */
function maskedCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  crc = ~crc >>> 0;
  return Number((BigInt((crc >>> 15) | (crc << 17)) + 0xa282ead8n) & 0xffffffffn);
}

interface Field { tag: number; value: bigint | Buffer }
/** The fields of a message, by the wire format of protobuf alone. */
function fields(bytes: Buffer): Field[] {
  const found: Field[] = [];
  let at = 0;
  const varint = () => {
    for (let value = 0n, shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]!;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const take = (length: number) => bytes.subarray(at, (at += length));
  while (at < bytes.length) {
    const key = Number(varint());
    const value = [varint, () => take(8), () => take(Number(varint())), , , () => take(4)][key & 7]!();
    found.push({ tag: key >> 3, value });
  }
  return found;
}

/** Step, wall time and scalars of every event after the first, which says the version. */
function read(): { step: number; time: number; scalars: Record<string, number> }[] {
  const names = readdirSync(folder).filter((name) => name.startsWith('events.out.tfevents.'));
  expect(names).toHaveLength(1);
  const bytes = readFileSync(join(folder, names[0]!)), events: Field[][] = [];
  for (let at = 0; at < bytes.length;) {
    const length = Number(bytes.readBigUInt64LE(at)), payload = bytes.subarray(at + 12, at + 12 + length);
    expect(bytes.readUInt32LE(at + 8)).toBe(maskedCrc(bytes.subarray(at, at + 8)));
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(maskedCrc(payload));
    events.push(fields(payload));
    at += length + 16;
  }
  const get = (event: Field[], tag: number) => event.find((field) => field.tag === tag)!.value;
  expect(String(get(events[0]!, 3))).toBe('brain.Event:2');
  return events.slice(1).map((event) => ({
    step: Number(get(event, 2)), time: (get(event, 1) as Buffer).readDoubleLE(),
    scalars: Object.fromEntries(fields(get(event, 5) as Buffer).map(({ value }) => {
      const scalar = fields(value as Buffer);
      return [String(get(scalar, 1)), (get(scalar, 2) as Buffer).readFloatLE()];
    })),
  }));
}

test('the checksum of the test is CRC-32C', () => expect(maskedCrc(Buffer.from('123456789'))).toBe((((0xe3069283 >>> 15) | (0xe3069283 << 17)) + 0xa282ead8) >>> 0));

test('scalars are read back by their format; what is not finite is left out', async () => {
  const file = await EventFile.open(folder, 'pretrain', 0);
  await file.add(1, { 'step/loss': 0.1, 'step/é': -3e20 });
  await file.add(300, { 'step/loss': NaN, 'step/rate': 1e-3 });
  await file.close();
  const [first, second] = read();
  expect(first).toMatchObject({ step: 1, scalars: { 'step/loss': Math.fround(0.1), 'step/é': Math.fround(-3e20) } });
  expect(Math.abs(first!.time - Date.now() / 1000)).toBeLessThan(60);
  expect(second).toMatchObject({ step: 300, scalars: { 'step/rate': Math.fround(1e-3) } });
});

test('opened again, it is cut back to the length that is given, and what is not whole is cut off', async () => {
  const write = async (bytes: number, steps: number[]) => {
    const file = await EventFile.open(folder, 'pretrain', bytes), lengths = [];
    for (const step of steps) {
      await file.add(step, { loss: step });
      lengths.push(file.length);
    }
    await file.close();
    return lengths;
  };
  const path = () => join(folder, readdirSync(folder)[0]!), steps = () => read().map(({ step }) => step);
  const [, second, third, fourth] = await write(0, [1, 2, 2, 4]);
  expect(readFileSync(path())).toHaveLength(fourth!);
  await write(second!, [3]);
  expect(steps()).toEqual([1, 2, 3]);
  truncateSync(path(), third! - 1);
  await write(fourth!, [3, 4]);
  expect(steps()).toEqual([1, 2, 3, 4]);
  appendFileSync(path(), Buffer.alloc(40, 7));
  await write(Infinity, [5]);
  expect(steps()).toEqual([1, 2, 3, 4, 5]);
});

test('a run writes the numbers of its metrics, and none twice when it is resumed', async () => {
  const options: PretrainOptions = {
    preset: 'quickstart', out: folder, epochs: 2, batchSize: 8, checkpointEvery: { steps: 3 },
    overrides: { data: { procedural: { train: 28, test: 10, size: 8 } }, encoder: { width: 2 }, projector: { hidden: [8], output: 4 }, attack: { steps: 1 } },
  };
  const until = async (last: number, more: Partial<PretrainOptions>) => {
    const wait = pretrain({ ...options, ...more });
    for await (const event of wait) if ((event as PretrainEvent & { step: number }).step === last && event.type === 'step') break;
  };
  await until(5, {});
  await until(Infinity, { resume: true });
  const lines = readFileSync(join(folder, 'metrics.jsonl'), 'utf8').trim().split('\n').map((line) => JSON.parse(line) as { type: string; step: number; loss: number; gradientNorm?: number });
  expect(read().map(({ step, scalars }) => [step, scalars['step/loss'] ?? scalars['epoch/loss'], scalars['step/gradientNorm']]))
    .toEqual(lines.map(({ step, loss, gradientNorm }) => [step, Math.fround(loss), gradientNorm && Math.fround(gradientNorm)]));
  expect(lines).toHaveLength(10);
});
