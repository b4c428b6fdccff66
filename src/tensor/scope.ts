/** Scopes: every tensor made inside is freed at the end, except what the function returns or keeps. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { ArgumentTypeError, describe } from '../runtime/errors.js';
import { native } from '../runtime/native.js';
import { Tensor } from './tensor.js';

type Scope = Set<Tensor>;
// Keyed by the asynchronous context, so that scopes which await at the same time do not mix.
const scopes = new AsyncLocalStorage<Scope>();

/** @internal */
export function currentScope(): Scope | undefined {
  return scopes.getStore();
}

/**
 * Runs `body` and then disposes every tensor that was made in it, whether it returned or threw. Tensors in what it returns (alone or inside
 * arrays, plain objects, Maps and Sets) pass to the enclosing scope. Works for functions that return a Promise too, and nests.
 * @example
 * ```ts
 * using x = randn([4, 4]);
 * const mean = scope(() => ops.aten.mean(ops.aten.square(x)).item());   // nothing but the number is left
 * const doubled = await scope(async () => ops.aten.mul(x, 2));          // the result passes to the enclosing scope
 * ```
 */
export function scope<T>(body: () => T): T {
  if (typeof body !== 'function') throw new ArgumentTypeError('body', 'a function', describe(body));
  const outer = scopes.getStore();
  const inner: Scope = new Set();
  const end = (result?: unknown) => {
    for (const kept of tensorsIn(result)) if (inner.delete(kept)) outer?.add(kept);
    for (const made of inner) made.dispose();
    inner.clear();
  };
  let result: T;
  try {
    result = scopes.run(inner, body);
  } catch (error) {
    end();
    throw error;
  }
  if (isThenable(result)) {
    return result.then(
      (value) => { end(value); return value; },
      (error) => { end(); throw error; },
    ) as T;
  }
  end(result);
  return result;
}

/** Lets a tensor outlive the innermost scope: it passes to nobody, and is yours to dispose. Returns it. */
export function keep<T extends Tensor>(kept: T): T {
  currentScope()?.delete(kept);
  return kept;
}

function* tensorsIn(value: unknown, seen = new Set<unknown>()): Generator<Tensor> {
  if (value === null || typeof value !== 'object' || seen.has(value)) return;
  seen.add(value);
  if (value instanceof Tensor) yield value;
  else if (Array.isArray(value) || value instanceof Set) for (const item of value) yield* tensorsIn(item, seen);
  else if (value instanceof Map) for (const item of value.values()) yield* tensorsIn(item, seen);
  else if (Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null)
    for (const item of Object.values(value)) yield* tensorsIn(item, seen);
}

/** Runs `body` without recording gradients. `body` is synchronous: grad mode belongs to the thread, not to an asynchronous context. */
export function noGrad<T>(body: () => T): T {
  const before = native().set_grad_enabled(false);
  try {
    const result = body();
    if (isThenable(result)) throw new ArgumentTypeError('body', 'a synchronous function', 'a function that returned a Promise');
    return result;
  } finally {
    native().set_grad_enabled(before);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return value !== null && typeof value === 'object' && typeof (value as { then?: unknown }).then === 'function';
}

/**
 * What this environment's live tensors hold: handles, and bytes of the storages under them (a shared storage counts once, with the size it had
 * when its first handle was made: `resize_` and the like do not show).
 */
export function memory(): { tensors: number; bytes: number } {
  return native().memory();
}
