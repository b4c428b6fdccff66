/** Every operator registered with LibTorch, through one native call. */
import type { TensorHandle } from '../runtime/addon.js';
import { ArgumentRangeError, ArgumentTypeError } from '../runtime/errors.js';
import { native } from '../runtime/native.js';
import type { Operators } from './operators.generated.js';
import { Tensor } from './tensor.js';

/**
 * `ops.<namespace>.<operator>(...)`: `ops.aten.mm(a, b)`, `ops.aten.add(a, b, { alpha: 2 })`. Positional arguments as in the schema,
 * keyword-only (or any named) ones in a last plain object; overloads are chosen by the arguments, or by name: `ops.aten['add.Tensor']`.
 * Integers may be numbers or bigints (int64 results outside the safe integers are bigints), dtypes are names, tuples and lists are arrays,
 * `null` is "none". Gradients flow as in PyTorch. A number without a fraction is an integer scalar: `ops.aten.full([2], 1)` makes int64,
 * `ops.aten.full([2], 1, { dtype: 'float32' })` does not.
 * @throws ArgumentTypeError naming operator and argument (`aten::full.fill_value`), what was expected and what came, of the overload that came nearest; its message then lists the overloads
 * @throws OperatorError naming operator, arguments and shapes when LibTorch refuses the call
 */
export const ops: Operators = namespaces();

function namespaces(): Operators {
  const known = new Map<string, unknown>();
  return new Proxy({} as Operators, {
    get(_target, namespace) {
      if (typeof namespace !== 'string') return undefined;
      if (!known.has(namespace)) known.set(namespace, operatorsOf(namespace));
      return known.get(namespace);
    },
    set: (_target, namespace) => refuse(`ops.${String(namespace)}`),
  });
}

function operatorsOf(namespace: string): Record<string, (...args: unknown[]) => unknown> {
  const known = new Map<string, (...args: unknown[]) => unknown>();
  return new Proxy({} as Record<string, (...args: unknown[]) => unknown>, {
    get(_target, property) {
      if (typeof property !== 'string') return undefined;
      let operator = known.get(property);
      if (operator === undefined) {
        const [base, ...overload] = property.split('.');
        operator = bind(`${namespace}::${base}`, overload.length > 0 ? overload.join('.') : null);
        known.set(property, operator);
      }
      return operator;
    },
    set: (_target, property) => refuse(`ops.${namespace}.${String(property)}`),
  });
}

function refuse(name: string): never {
  throw new ArgumentRangeError(name, 'no value (operators are those of LibTorch)', 'an assignment');
}

function bind(name: string, overload: string | null): (...args: unknown[]) => unknown {
  const wanted = overload === 'default' ? '' : overload;
  return (...args) => {
    const keywords = isPlainObject(args.at(-1)) ? (args.pop() as Record<string, unknown>) : {};
    for (let i = 0; i < args.length; ++i) args[i] = lower(args[i], name, i);
    let named: Record<string, unknown> | null = null;
    for (const key of Object.keys(keywords)) if (keywords[key] !== undefined) (named ??= {})[key] = lower(keywords[key], name, key);
    return lift(native().call_operator(name, wanted, args, named));
  };
}

function isPlainObject(value: unknown): boolean {
  if (value === null || typeof value !== 'object') return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

// Hardly a schema nests lists; the limit spares the stack.
function lower(value: unknown, whole: string, part: number | string, depth = 0): unknown {
  const where = () => (typeof part === 'number' ? `${whole}[${part}]` : `${whole}.${part}`);
  if (depth > 8) throw new ArgumentRangeError(where(), 'a few nested arrays at most', 'more');
  if (value instanceof Tensor) {
    if (value.disposed) throw new ArgumentTypeError(where(), 'a live Tensor', 'a disposed Tensor');
    return value.handle;
  }
  if (!Array.isArray(value)) return value;
  const list = where();
  return value.map((item, i) => lower(item, list, i, depth + 1));
}

function lift(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(lift);
  return value !== null && typeof value === 'object' ? Tensor.wrap(value as TensorHandle) : value;
}
