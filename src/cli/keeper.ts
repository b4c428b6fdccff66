/** What is measured is shown even where it cannot be kept. */
import type { Output } from './output.js';

export class Keeper {
  /** Why not everything could be kept. */
  problem: string | undefined;
  private readonly told = new Set<string>();
  constructor(private readonly output: Output) {}

  /** Whether `write` could write into `folder`. Where it could not, a warning says why, once a folder. */
  async keep(folder: string, write: () => Promise<unknown>): Promise<boolean> {
    try {
      await write();
      return true;
    } catch (error) {
      const { name, message } = error as Error;
      if (name !== 'FileError') throw error;
      if (!this.told.has(folder)) this.output.warn(`${message}. What is measured is shown, but not kept`);
      this.told.add(folder);
      this.problem ??= message;
      return false;
    }
  }

  /** For the JSON of a result. */
  get document(): { notKept?: string } {
    return this.problem === undefined ? {} : { notKept: this.problem };
  }
}
