import { ArgumentRangeError, ArgumentTypeError, DTYPES, OperatorError, Tensor, full, memory, ones, ops, rand, randn, manualSeed, tensor, zeros, type DType } from 'a-infonce';
import { describe, expect, it } from 'vitest';
import { inspect } from 'node:util';
import { live } from '../fixtures/live.js';

const values = (x: Tensor) => Array.from(x.toTypedArray() as Float32Array);

describe('making tensors', () => {
  it('takes the dtype and the elements of every typed array', () => {
    for (const [dtype, { array, bytes }] of Object.entries(DTYPES) as [DType, (typeof DTYPES)[DType]][]) {
      const data = dtype === 'int64' ? BigInt64Array.of(1n, 0n, 1n) : (array as Uint8ArrayConstructor).of(1, 0, 1);
      using x = tensor(data as Uint8Array, { dtype });
      expect([x.dtype, x.shape, x.size]).toEqual([dtype, [3], 3]);
      const back = x.toTypedArray();
      expect(back).toBeInstanceOf(array);
      expect(back.byteLength).toBe(3 * bytes);
      expect(Array.from(back as Uint8Array)).toEqual(Array.from(data as Uint8Array));
    }
  });
  it('copies: the caller may reuse the array', () => {
    const data = Float32Array.of(1, 2);
    using x = tensor(data);
    data[0] = 9;
    expect(values(x)).toEqual([1, 2]);
    x.toTypedArray()[0] = 7;
    expect(values(x)).toEqual([1, 2]);
  });
  it('reads a view with its own offset', () => {
    using x = tensor(new Float32Array(Float32Array.of(1, 2, 3, 4).buffer, 4, 2));
    expect(values(x)).toEqual([2, 3]);
  });
  it('infers shape and dtype of nested arrays, numbers, booleans and bigints', () => {
    using a = tensor([[1, 2, 3], [4, 5, 6]]);
    expect([a.shape, a.dtype, a.toArray()]).toEqual([[2, 3], 'float32', [[1, 2, 3], [4, 5, 6]]]);
    using b = tensor(3);
    expect([b.shape, b.item()]).toEqual([[], 3]);
    using c = tensor([true, false]);
    expect([c.dtype, c.toArray()]).toEqual(['bool', [true, false]]);
    using d = tensor([1n, -(2n ** 62n)]);
    expect([d.dtype, d.toArray()]).toEqual(['int64', [1n, -(2n ** 62n)]]);
    using e = tensor([1.5, 2], { dtype: 'bfloat16' });
    expect([e.dtype, e.toArray()]).toEqual(['bfloat16', [1.5, 2]]);
    using f = tensor([]);
    expect(f.shape).toEqual([0]);
  });
  it('keeps half precision bit for bit', () => {
    using x = tensor(Uint16Array.of(0x3c00, 0xc000, 0x7bff), { dtype: 'float16' });
    expect(x.toArray()).toEqual([1, -2, 65504]);
    expect(Array.from(x.toTypedArray() as Uint16Array)).toEqual([0x3c00, 0xc000, 0x7bff]);
  });
  it('keeps integers exactly, or says which does not fit', () => {
    for (const [data, dtype] of [[[300, -1], 'uint8'], [[0, 300], 'uint8'], [[2n ** 64n], undefined], [[1n, 2n ** 63n], undefined], [[128], 'int8'], [[-32769], 'int16'],
      [[2 ** 31], 'int32'], [[NaN], 'int32'], [[0, 1.5], 'int16'], [[Infinity], 'int64'], [[2 ** 53], 'int64']] as [unknown[], DType?][])
      expect(() => tensor(data, { dtype })).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: expect.stringMatching(/^data\[[01]\]$/) }));
    using mixed = tensor([2n ** 60n + 1n, 1]);
    expect([mixed.dtype, mixed.toArray()]).toEqual(['int64', [2n ** 60n + 1n, 1n]]);
    for (const [dtype, low, high] of [['uint8', 0, 255], ['int8', -128, 127], ['int16', -32768, 32767], ['int32', -(2 ** 31), 2 ** 31 - 1]] as [DType, number, number][]) {
      using limits = tensor([low, high], { dtype });
      expect(values(limits)).toEqual([low, high]);
    }
    using widest = tensor([-(2n ** 63n), 2n ** 63n - 1n]);
    expect(widest.toArray()).toEqual([-(2n ** 63n), 2n ** 63n - 1n]);
    using fraction = tensor([1n, 1.5]);
    expect([fraction.dtype, values(fraction)]).toEqual(['float32', [1, 1.5]]);
  });
  it('copies shared memory too', () => {
    const shared = Float32Array.from(new Float32Array(new SharedArrayBuffer(8)).fill(3));
    for (const data of [new Float32Array(new SharedArrayBuffer(8)).fill(3), shared]) {
      using x = tensor(data);
      data[0] = 9;
      expect(values(x)).toEqual([3, 3]);
    }
    using half = tensor(new Uint16Array(new SharedArrayBuffer(2)).fill(0x3c00), { dtype: 'float16' });
    expect(half.item()).toBe(1);
  });
  it('takes 64 dimensions and no more', () => {
    const nested = (depth: number) => { let data: unknown = 1; for (let i = 0; i < depth; ++i) data = [data]; return data as number[]; };
    using deep = tensor(nested(64));
    expect(deep.shape.length).toBe(64);
    for (const depth of [65, 20_000]) {
      expect(() => tensor(nested(depth))).toThrow(/^data: expected at most 64 nested arrays/);
      expect(() => tensor([1, nested(depth)])).toThrow(ArgumentRangeError);
      expect(() => ops.aten.cat(nested(depth) as never)).toThrow(/nested arrays at most/);
      expect(() => ops.aten.zeros([2], { dtype: nested(depth) as never })).toThrow(ArgumentRangeError);
    }
  });
  it('has the everyday constructors', () => {
    using a = zeros([2, 2]);
    using b = ones([2], { dtype: 'int64' });
    using c = full([2], 1);
    expect([values(a), b.toArray(), c.dtype, values(c)]).toEqual([[0, 0, 0, 0], [1n, 1n], 'float32', [1, 1]]);
    manualSeed(7);
    using r1 = randn([4]);
    using u1 = rand([4]);
    manualSeed(7n);
    using r2 = randn([4]);
    expect(values(r1)).toEqual(values(r2));
    expect(values(u1).every((v) => v >= 0 && v < 1)).toBe(true);
    using z = randn([2], { requiresGrad: true });
    expect(z.requiresGrad).toBe(true);
  });
  it('names what is wrong', () => {
    expect(() => tensor([[1, 2], [3]])).toThrow(ArgumentRangeError);
    expect(() => tensor([[1], 2] as unknown as number[])).toThrow(ArgumentTypeError);
    expect(() => tensor('1' as unknown as number)).toThrow(/^data: expected numbers, nested arrays of numbers or a typed array, got '1'/);
    expect(() => tensor(new Float32Array(5), { shape: [2, 3] })).toThrow(/^options\.shape: expected 5 elements in all, got \[2, 3\]/);
    expect(() => tensor([1], { shape: [1.5] })).toThrow(/^options\.shape\[0\]: expected an integer/);
    expect(() => tensor([1], { shape: [-1] })).toThrow(ArgumentRangeError);
    expect(() => tensor([1], { dtype: 'float8' as DType })).toThrow(/^options\.dtype: expected one of 'float32'/);
    using x = tensor([1]);
    for (const [argument, ask] of [
      ['options.device', (device) => tensor([1], { device })], ['options.device', (device) => randn([1], { device })], ['options.device', (device) => zeros([1], { device })],
      ['target.device', (device) => x.to({ device })],
    ] as [string, (device: string) => Tensor][]) {
      expect(() => ask('cuda:99')).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument, message: expect.stringMatching(/: expected 'cpu'.*, got 'cuda:99'$/) }));
      for (const device of ['tpu9', 'gpu', 'CUDA', 'cuda:-1', 'cpu:1', '', 0, null]) {
        const message = `${argument}: expected 'cpu', 'cuda' or 'cuda:<index>', got ${typeof device === 'string' ? `'${device}'` : device}`;
        expect(() => ask(device as string)).toThrow(expect.objectContaining({ code: typeof device === 'string' ? 'ERR_ARGUMENT_RANGE' : 'ERR_ARGUMENT_TYPE', argument, message }));
      }
      expect(['cpu', 'cpu:0', 'meta'].map((device) => ask(device).device)).toEqual(['cpu', 'cpu', 'meta']);
    }
    expect(() => ops.aten.zeros([1], { device: 'cuda:99' })).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: 'device' }));
    for (const [argument, ask] of [
      ['shape', zeros], ['shape', ones], ['shape', rand], ['shape', randn], ['shape', (shape) => full(shape, 1)], ['options.shape', (shape) => tensor([1, 2], { shape })],
    ] as [string, (shape: never) => Tensor][]) {
      expect(() => ask(3 as never)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_TYPE', argument, message: `${argument}: expected an array of integers (pass [3]), got 3` }));
      for (const shape of [null, '2', {}]) expect(() => ask(shape as never)).toThrow(expect.objectContaining({ argument, message: expect.stringContaining(`${argument}: expected an array of integers, got `) }));
      expect(() => ask(['2'] as never)).toThrow(expect.objectContaining({ argument: `${argument}[0]` }));
      expect(() => ask(Array(1) as never)).toThrow(expect.objectContaining({ argument: `${argument}[0]` }));
    }
    for (const value of [undefined, null, '1', [1]])
      expect(() => full([2], value as never)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_TYPE', argument: 'value', expected: 'a number' }));
    expect([full([1], true as never).toArray(), full([1], 2n as never).toArray(), full([1], Infinity).toArray()]).toEqual([[1], [2], [Infinity]]);
    expect(() => (zeros as () => Tensor)()).toThrow(/^shape: expected an array of integers, got undefined$/);
    for (const ask of [() => zeros([2], { dtype: 'int64', requiresGrad: true }), () => tensor([1n, 2n], { requiresGrad: true }), () => tensor([1, 2], { dtype: 'int64', requiresGrad: true })])
      expect(ask).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT_RANGE', argument: 'options.requiresGrad', message: expect.stringContaining('expected false for dtype int64') }));
    expect(() => zeros([2], { requiresGrad: 1 as never })).toThrow(/^options\.requiresGrad: expected a boolean, got 1$/);
    expect(() => zeros([2], { dtype: 'float8' as DType })).toThrow(/^options\.dtype: expected one of 'float32'/);
    expect(() => tensor([1], { shapes: [1] } as object)).toThrow(/^options\.shapes: expected a known option/);
    expect(() => tensor([1.5], { dtype: 'int64' })).toThrow(/^data\[0\]: expected an integer, got 1.5/);
    expect(() => zeros([1e9, 1e9])).toThrow(/allocate|overflow|memory/i);
    expect(() => manualSeed(-1)).toThrow(ArgumentRangeError);
    expect(() => manualSeed('1' as unknown as number)).toThrow(ArgumentTypeError);
    expect(() => tensor([1, 2], { dtype: 'int32' }).requiresGrad = true).toThrow(OperatorError);
    expect(() => ((zeros([2]) as unknown as Record<string, unknown>)['requiresgrad'] = true)).toThrow(/Cannot add property requiresgrad/);
  });
});

describe('reading tensors', () => {
  it('item() takes one element of any dtype', () => {
    for (const dtype of Object.keys(DTYPES) as DType[]) {
      using x = tensor([1], { dtype });
      expect(x.item()).toBe(1);
    }
    using two = tensor([1, 2]);
    expect(() => two.item()).toThrow(/one element, got shape \[2\]/);
    using safe = tensor(BigInt64Array.of(2n ** 53n - 1n));
    expect(safe.item()).toBe(Number.MAX_SAFE_INTEGER);
    for (const value of [2n ** 53n, 2n ** 60n + 1n, -(2n ** 63n)]) {
      using x = tensor(BigInt64Array.of(value));
      expect(() => x.item()).toThrow(/^tensor: expected a safe integer, got -?\d+n/);
    }
    using complex = ops.aten.complex(tensor([1]), tensor([0]));
    expect(() => complex.item()).toThrow(/^tensor: expected a real number, got complex64/);
  });
  it('reads transposed memory in row-major order', () => {
    using x = tensor([[1, 2, 3], [4, 5, 6]]);
    using t = ops.aten.t(x);
    expect(t.toArray()).toEqual([[1, 4], [2, 5], [3, 6]]);
  });
  it('converts with gradients', () => {
    using x = tensor([1.25, 2], { requiresGrad: true });
    using y = x.to({ dtype: 'float64' });
    expect(y.dtype).toBe('float64');
    using sum = ops.aten.sum(y);
    sum.backward();
    expect(values(x.grad!)).toEqual([1, 1]);
    using i = x.to({ dtype: 'int8' });
    expect(i.toArray()).toEqual([1, 2]);
  });
  it('prints itself', () => {
    using x = tensor([[1, 2]], { requiresGrad: true });
    expect(String(x)).toBe('Tensor(float32 [1, 2] requiresGrad)');
    expect(inspect(x)).toContain('[ [ 1, 2 ] ]');
    using large = zeros([1000]);
    expect(inspect(large)).toBe('Tensor(float32 [1000])');
    x.dispose();
    expect(inspect(x)).toBe('Tensor(disposed)');
  });
});

describe('autograd', () => {
  it('accumulates into leaves, frees the graph, and says so', () => {
    using x = tensor([[1, 2, 3], [4, 5, 6]], { requiresGrad: true });
    using y = ops.aten.mm(x, ops.aten.t(x));
    using s = ops.aten.sum(y);
    expect(x.grad).toBeNull();
    s.backward(undefined, { retainGraph: true });
    expect(x.grad!.toArray()).toEqual([[10, 14, 18], [10, 14, 18]]);
    s.backward();
    expect(x.grad!.toArray()).toEqual([[20, 28, 36], [20, 28, 36]]);
    expect(() => s.backward()).toThrow(OperatorError);
    x.grad = null;
    expect(x.grad).toBeNull();
    expect(() => y.backward()).toThrow(/scalar outputs/);
  });
  it('takes a gradient of the same shape, dtype and device only, and known options', () => {
    using x = tensor([1, 2], { requiresGrad: true });
    using y = ops.aten.mul(x, x);
    for (const [wrong, error] of [[5, ArgumentTypeError], [undefined, ArgumentTypeError], [tensor([1]), ArgumentRangeError], [tensor([1n, 2n]), ArgumentTypeError],
      [x, ArgumentRangeError], [tensor([1, 2], { dtype: 'float64' }), ArgumentTypeError]] as const) {
      expect(() => { x.grad = wrong as Tensor; }).toThrow(error);
      if (wrong !== undefined && wrong !== x) expect(() => y.backward(wrong as Tensor)).toThrow(error);
    }
    expect(x.grad).toBeNull();
    using g = tensor([3, 4]);
    x.grad = g;
    expect(values(x.grad!)).toEqual([3, 4]);
    expect(() => y.backward(g, { retain_graph: true } as object)).toThrow(/^options\.retain_graph: expected a known option/);
    expect(() => y.backward(g, { retainGraph: 1 as never })).toThrow(/^options\.retainGraph: expected a boolean/);
  });
  it('takes a gradient for what is no scalar', () => {
    using x = tensor([1, 2], { requiresGrad: true });
    using y = ops.aten.mul(x, x);
    y.backward(tensor([1, 10]));
    expect(values(x.grad!)).toEqual([2, 40]);
  });
});

describe('lifetime', () => {
  it('dispose is idempotent, and any use afterwards is a typed error', async () => {
    const before = await live();
    const x = zeros([1000]);
    const view = ops.aten.view(x, [10, 100]);
    expect(memory()).toEqual({ tensors: before.tensors + 2, bytes: before.bytes + 4000 });
    x.dispose();
    x.dispose();
    expect(x.disposed).toBe(true);
    expect(view.shape).toEqual([10, 100]);
    expect(memory()).toEqual({ tensors: before.tensors + 1, bytes: before.bytes + 4000 });
    for (const use of [() => x.shape, () => x.item(), () => x.toTypedArray(), () => x.backward(), () => ops.aten.add(x, 1), () => ops.aten.cat([x])])
      expect(use).toThrow(/a live Tensor, got a disposed Tensor/);
    view.dispose();
    expect(memory()).toEqual(before);
  });
  it('frees what was forgotten when the event loop turns', async () => {
    const { bytes: before } = await live();
    (() => { for (let i = 0; i < 200; ++i) zeros([1000]); })();
    expect(memory().bytes).toBeGreaterThanOrEqual(before + 800_000);
    expect((await live()).bytes).toBeLessThan(before + 80_000);
  });
});
