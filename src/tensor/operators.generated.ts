import type { Tensor } from './tensor.js';
// eslint-disable-next-line
export type Operators = Record<string, Record<string, (...args: any[]) => any>>;
export type { Tensor };
