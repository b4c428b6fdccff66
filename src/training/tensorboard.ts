/**
 * TensorBoard event files: TFRecord frames (length, its CRC, an Event in protobuf, its CRC) of scalars.
 * Formats: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto.
 */
import { open, readdir, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import crc32c from 'crc-32/crc32c.js';
import { PbfWriter } from 'pbf';
import { FileError } from '../runtime/errors.js';

const PREFIX = 'events.out.tfevents.';
const HEADER = 12;  // length (8 bytes) and its CRC
const FOOTER = 4;

/** One event file, `events.out.tfevents.<seconds>.<kind>`, at whose end scalars are added. */
export class EventFile {
  private constructor(private readonly file: FileHandle, private bytes: number) {}

  get length(): number {
    return this.bytes;
  }

  /**
   * Opens the file of `kind` in `folder`, or begins one. It is cut back to `bytes` bytes, the {@link length} that it had at a checkpoint, and what a killed
   * process left in the middle of writing is cut off too: a resumed run writes nothing twice.
   * @throws {@link FileError} when it cannot be written.
   */
  static async open(folder: string, kind: string, bytes: number): Promise<EventFile> {
    const found = (await readdir(folder)).filter((name) => name.startsWith(PREFIX) && name.slice(PREFIX.length).replace(/^\d+\./, '') === kind).sort().at(-1);
    const path = join(folder, found ?? `${PREFIX}${Math.floor(Date.now() / 1000)}.${kind}`);
    try {
      const file = await open(path, 'a+');
      const length = wholeUpTo(await file.readFile(), bytes);
      await file.truncate(length);
      const events = new EventFile(file, length);
      if (length === 0) await events.append(event(0, (pbf) => pbf.writeStringField(3, 'brain.Event:2')));
      return events;
    } catch (error) {
      throw new FileError(path, `cannot be written (${(error as Error).message})`, { cause: error });
    }
  }

  /** Adds the finite values among `scalars`, by tag, at `step`. */
  async add(step: number, scalars: Readonly<Record<string, number>>): Promise<void> {
    const finite = Object.entries(scalars).filter(([, value]) => Number.isFinite(value));
    await this.append(event(step, (pbf) => pbf.writeMessage(5, writeSummary, finite)));
  }

  private async append(payload: Uint8Array): Promise<void> {
    const bytes = frame(payload);
    await this.file.appendFile(bytes);
    this.bytes += bytes.length;
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

/** The length of the whole frames among the first `limit` bytes. */
function wholeUpTo(bytes: Buffer, limit: number): number {
  const length = Math.min(bytes.length, limit);
  for (let at = 0; ;) {
    if (length < at + HEADER + FOOTER || bytes.readUInt32LE(at + 8) !== masked(bytes.subarray(at, at + 8))) return at;
    const end = at + HEADER + Number(bytes.readBigUInt64LE(at));
    if (length < end + FOOTER || bytes.readUInt32LE(end) !== masked(bytes.subarray(at + HEADER, end))) return at;
    at = end + FOOTER;
  }
}
