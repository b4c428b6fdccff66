/** A reproduction of seconds. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { proceduralDataset, reproduce, type Dataset, type ReproduceEvent, type ReproduceOptions } from 'a-infonce';

// Images of 16 pixels: of 8, the last layers normalise four values each, and gradients overflow. Ten steps, so that BatchNorm's running statistics are those of the images: fewer, and features in eval mode overflow.
const tiny = { scale: 'small', epochs: 1, finetuneEpochs: 1, batchSize: 4, width: 1, testImages: 8, autoAttackImages: 1 } as const;

/** Everything that the reproduction in `out` tells. */
export async function eventsOf(out: string, data: Dataset, options: Partial<ReproduceOptions>, hear?: (event: ReproduceEvent) => void): Promise<ReproduceEvent[]> {
  const events: ReproduceEvent[] = [];
  for await (const event of reproduce({ out, data: [data], ...tiny, ...options })) {
    events.push(event);
    hear?.(event);
  }
  return events;
}

/** A folder for a file of tests, data, and what reproductions in `<folder>/grid` tell. */
export function workplace() {
  const folder = mkdtempSync(join(tmpdir(), 'a-infonce-')), data = proceduralDataset({ train: 40, test: 12, size: 16 });
  afterAll(() => {
    data.dispose();
    rmSync(folder, { recursive: true, force: true });
  });
  return { folder, data, all: (options: Partial<ReproduceOptions>, hear?: (event: ReproduceEvent) => void) => eventsOf(join(folder, 'grid'), data, options, hear) };
}

export const only = <Type extends ReproduceEvent['type']>(events: ReproduceEvent[], type: Type) => events.filter((event): event is Extract<ReproduceEvent, { type: Type }> => event.type === type);
export const stages = (events: ReproduceEvent[]) => only(events, 'stage').map(({ stage, of, mode }) => `${of.method}-${of.variant} ${stage}${mode ? ` ${mode}` : ''}`);
