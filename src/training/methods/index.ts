/** The methods there are. A new one: its file, and its two lines here. */
import { z } from 'zod';
import type { Method } from './method.js';
import { rocl, roclConfig } from './rocl.js';

export const pretrainConfig = z.discriminatedUnion('method', [roclConfig]);
/** Everything that decides the result of a pre-training run; what `config.json` holds. Which keys there are depends on `method`. */
export type PretrainConfig = z.infer<typeof pretrainConfig>;

export const methods: Record<PretrainConfig['method'], Method> = { rocl };
