/** The methods there are. A new one: its file, and its two lines here. */
import { z } from 'zod';
import { acl, aclConfig } from './acl.js';
import { advcl, advclConfig } from './advcl.js';
import { dynacl, dynaclConfig } from './dynacl.js';
import type { Method } from './method.js';
import { moco, mocoConfig } from './moco.js';
import { rocl, roclConfig } from './rocl.js';
import { simclr, simclrConfig } from './simclr.js';
import { supcon, supconConfig } from './supcon.js';

export const pretrainConfig = z.discriminatedUnion('method', [roclConfig, advclConfig, aclConfig, dynaclConfig, simclrConfig, supconConfig, mocoConfig]);
/** Everything that decides the result of a pre-training run; what `config.json` holds. Which keys there are depends on `method`. */
export type PretrainConfig = z.infer<typeof pretrainConfig>;

export const methods: Record<PretrainConfig['method'], Method> = { rocl, advcl, acl, dynacl, simclr, supcon, moco };
