/**
 * TensorBoard event files: TFRecord frames (length, its CRC, an Event in protobuf, its CRC) of scalars.
 * Formats: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto.
 */
import { open, readdir, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import crc32c from 'crc-32/crc32c.js';
import { PbfReader, PbfWriter } from 'pbf';
import { FileError } from '../runtime/errors.js';

const PREFIX = 'events.out.tfevents.';
const HEADER = 12;  // length (8 bytes) and its CRC
const FOOTER = 4;

/** One event file, `events.out.tfevents.<seconds>.<kind>`, at whose end scalars are added. */
export class EventFile {
  private constructor(private readonly file: FileHandle) {}

  /**
   * Opens the file of `kind` in `folder`, or begins one. Events after `step` are cut off, and so is what a killed process left in the middle of writing:
   * a resumed run writes no step twice.
   * @throws {@link FileError} when it cannot be written.
   */
  static async open(folder: string, kind: string, step: number): Promise<EventFile> {
    const found = (await readdir(folder)).filter((name) => name.startsWith(PREFIX) && name.slice(PREFIX.length).replace(/^\d+\./, '') === kind).sort().at(-1);
    const path = join(folder, found ?? `${PREFIX}${Math.floor(Date.now() / 1000)}.${kind}`);
    try {
      const file = await open(path, 'a+');
      const length = wholeUpTo(await file.readFile(), step);
      await file.truncate(length);
      if (length === 0) await file.appendFile(frame(event(0, (pbf) => pbf.writeStringField(3, 'brain.Event:2'))));
      return new EventFile(file);
    } catch (error) {
      throw new FileError(path, `cannot be written (${(error as Error).message})`, { cause: error });
    }
  }

  /** Adds the finite values among `scalars`, by tag, at `step`. */
  async add(step: number, scalars: Readonly<Record<string, number>>): Promise<void> {
    const finite = Object.entries(scalars).filter(([, value]) => Number.isFinite(value));
    await this.file.appendFile(frame(event(step, (pbf) => pbf.writeMessage(5, writeSummary, finite))));
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

function event(step: number, what: (pbf: PbfWriter) => void): Uint8Array {
  const pbf = new PbfWriter();
  pbf.writeDoubleField(1, Date.now() / 1000);
  pbf.writeVarintField(2, step);
  what(pbf);
  return pbf.finish();
}

function writeSummary(scalars: [string, number][], pbf: PbfWriter): void {
  for (const scalar of scalars) pbf.writeMessage(1, writeValue, scalar);
}

function writeValue([tag, value]: [string, number], pbf: PbfWriter): void {
  pbf.writeStringField(1, tag);
  pbf.writeFloatField(2, value);
}

function frame(payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(HEADER + payload.length + FOOTER);
  bytes.writeBigUInt64LE(BigInt(payload.length));
  bytes.writeUInt32LE(masked(bytes.subarray(0, 8)), 8);
  bytes.set(payload, HEADER);
  bytes.writeUInt32LE(masked(payload), HEADER + payload.length);
  return bytes;
}

/** The CRC of a frame: rotated and shifted, as TFRecord has it. */
function masked(bytes: Uint8Array): number {
  const crc = crc32c.buf(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** The length of the whole frames at the beginning whose step is at most `step`. */
function wholeUpTo(bytes: Buffer, step: number): number {
  for (let at = 0; ;) {
    if (bytes.length < at + HEADER + FOOTER || bytes.readUInt32LE(at + 8) !== masked(bytes.subarray(at, at + 8))) return at;
    const end = at + HEADER + Number(bytes.readBigUInt64LE(at));
    if (bytes.length < end + FOOTER) return at;
    const payload = bytes.subarray(at + HEADER, end);
    if (bytes.readUInt32LE(end) !== masked(payload) || stepOf(payload) > step) return at;
    at = end + FOOTER;
  }
}

const stepOf = (payload: Uint8Array): number =>
  new PbfReader(payload).readFields((tag, found: { step: number }, pbf) => void (tag === 2 && (found.step = pbf.readVarint())), { step: 0 }).step;
