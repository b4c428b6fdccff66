import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ArgumentTypeError, FileError, loadTorchScript, OperatorError, rand, readSafetensors, TorchScriptModel } from 'a-infonce';
import { describe, expect } from 'vitest';
import { temporary } from '../fixtures/runs.js';
import { equal, expectClose, fixture, test } from './fixtures.js';

const { folder } = temporary();

describe('TorchScript', () => {
  test('forward, mode, state and running statistics are PyTorch\'s, from a path and from bytes', async () => {
    const { tensors } = await readSafetensors(fixture('tiny.safetensors'));
    for (const source of [fixture('tiny.pt'), await readFile(fixture('tiny.pt'))]) {
      using model = await loadTorchScript(source);
      expect(model).toBeInstanceOf(TorchScriptModel);
      expect(model.training).toBe(true);
      expectClose(model.eval().forward(tensors.get('test.input')!), tensors.get('test.eval')!);
      expect(model.training).toBe(false);
      expectClose(model.train().forward(tensors.get('test.input')!), tensors.get('test.train')!);
      const state = model.state();
      for (const [name, tensor] of tensors) {
        if (!name.startsWith('after.')) continue;
        const own = state.get(name.slice(6))!;
        if (tensor.dtype === 'int64') expect(own.item()).toBe(tensor.item());
        else expectClose(own, tensor);
      }
      expect(model.parameterCount).toBe(3 * 4 * 9 + 4 + 4 + 4 + 20 + 5);
    }
  });

  test('the first call and the tenth give the same bits', async () => {
    using model = (await loadTorchScript(fixture('tiny.pt'))).eval();
    const images = rand([2, 3, 6, 6]);
    const first = model.forward(images);
    for (let i = 0; i < 9; i++) expect(equal(model.forward(images), first)).toBe(true);
  });

  test('a frozen module is in eval mode and works', async () => {
    const { tensors } = await readSafetensors(fixture('tiny.safetensors'));
    using model = await loadTorchScript(fixture('frozen.pt'));
    expect(model.training).toBe(false);
    expectClose(model.eval().forward(tensors.get('test.input')!), tensors.get('test.eval')!);
  });

  test('a refused batch is an OperatorError with its shape; so is an output that is no tensor', async () => {
    using model = await loadTorchScript(fixture('tiny.pt'));
    expect(() => model.forward(rand([2, 1, 6, 6]))).toThrow(OperatorError);
    expect(() => model.forward(rand([2, 1, 6, 6]))).toThrow(/TorchScript module on images \[2, 1, 6, 6\] float32: .*channels/);
    expect(() => model.forward(rand([7]))).toThrow(/\[7\]/);
    using pair = await loadTorchScript(fixture('pair.pt'));
    expect(() => pair.forward(rand([1, 3, 6, 6]))).toThrow(/expected a tensor from forward, got Tuple/);
    model.dispose();
    expect(() => model.forward(rand([2, 3, 6, 6]))).toThrow(/a disposed TorchScriptModel/);
  });

  test('an exception of the module is an OperatorError that says what was raised and where', async () => {
    using model = await loadTorchScript(fixture('raises.pt'));
    expect(model.forward(rand([1, 3])).shape).toEqual([1, 3]);
    const raised = /^TorchScript module on images \[2, 3\] float32: ValueError: kaputt\n  File "make_resnet_reference\.py", line \d+, in forward\n[\s\S]*raise ValueError.*\n.*<--- HERE$/;
    expect(() => model.forward(rand([2, 3]))).toThrow(OperatorError);
    expect(() => model.forward(rand([2, 3]))).toThrow(raised);
  });

  test('other files, truncations and damage are FileErrors', async () => {
    const bytes = await readFile(fixture('tiny.pt'));
    const path = join(folder, 'bytes.pt');
    await writeFile(path, 'PK');
    await expect(loadTorchScript(path)).rejects.toThrow(expect.objectContaining({ path, code: 'ERR_FILE' }));
    await expect(loadTorchScript(fixture('tiny.safetensors'))).rejects.toThrow(/not a TorchScript archive/);
    const stateDict = await readFile(fixture('state-dict.pt'));
    await expect(loadTorchScript(fixture('state-dict.pt'))).rejects.toThrow(/state-dict\.pt: .*pickle.*never opened[\s\S]*safetensors\.torch\.save_file/);
    await expect(loadTorchScript(stateDict)).rejects.toThrow(/TorchScript bytes: .*pickle/);
    await expect(loadTorchScript(stateDict.subarray(0, 2000))).rejects.toThrow(/not a TorchScript module/); // its directory is lost
    await expect(loadTorchScript(Buffer.from('80028a0a6cfc9c46f9206aa850192e80', 'hex'))).rejects.toThrow(/pickle/); // torch.save before 1.6
    await expect(loadTorchScript(fixture('none.pt'))).rejects.toThrow(/none\.pt: no such file/);
    for (let length = 0; length < bytes.length; length += 997) await expect(loadTorchScript(bytes.subarray(0, length))).rejects.toThrow(FileError);
    await expect(loadTorchScript(3 as never)).rejects.toThrow(ArgumentTypeError);
    await expect(loadTorchScript(bytes, { signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
  });
});
