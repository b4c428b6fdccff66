import type sharp from 'sharp';
import { LoadError } from '../runtime/errors.js';

/** A file of its own: sharp's types ask for a newer TypeScript than ours, so that no declaration file that the public ones import may name them. @internal */
export async function loadSharp(): Promise<typeof sharp> {
  try {
    return (await import('sharp')).default;
  } catch (error) {
    throw new LoadError(`Image files need the package sharp, which cannot be loaded here (${(error as Error).message}). Type: npm install sharp`, { cause: error });
  }
}
