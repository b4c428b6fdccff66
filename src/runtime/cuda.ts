/** CUDA devices. Where there is none everything computes on the processor, and nothing of CUDA is opened. */
import { ArgumentRangeError, ArgumentTypeError, check, describe } from './errors.js';
import { native } from './native.js';

/** A card. */
export interface CudaDevice {
  /** As tensors on it call it: `'cuda:0'`. */
  device: string;
  name: string;
  /** Of its architecture: `'9.0'`. */
  architecture: string;
  /** Bytes. */
  memory: number;
}

/** Bytes of a device's memory. */
export interface CudaMemory {
  /** That tensors hold now, and held at most since {@link cuda.resetPeakMemory}. */
  allocated: number;
  peak: number;
  /** That LibTorch holds: what is allocated, and what it keeps for tensors to come. */
  reserved: number;
  /** That the card has left, for everybody; and has. */
  free: number;
  total: number;
}

/** The device of that name, with its index; a typed error naming the argument where there is none. @internal */
export function checkDevice(argument: string, value: unknown): string {
  if (typeof value !== 'string') throw new ArgumentTypeError(argument, "'cpu', 'cuda' or 'cuda:<index>'", describe(value));
  return native().device_named(value, argument);
}

/** What is there is all that can be set, also by code that is not strict: a misspelt property is an error. */
function closed<T extends object>(name: string, object: T): T {
  const settable = Object.entries(Object.getOwnPropertyDescriptors(object)).filter(([, { set }]) => set).map(([key]) => key);
  return new Proxy(Object.freeze(object), {
    set(target, key, value) {
      if (!settable.includes(String(key))) throw new ArgumentRangeError(`${name}.${String(key)}`, `a property that can be set (${settable.join(', ')})`, `'${String(key)}'`);
      return Reflect.set(target, key, value);
    },
  });
}

/**
 * The CUDA devices of this machine. Work on them is queued: an operator returns before it is done, and whoever reads a number waits for it.
 * @example
 * ```ts
 * const device = cuda.isAvailable() ? 'cuda' : 'cpu';
 * using features = randn([256, 128], { device });
 * ```
 */
export const cuda = closed('cuda', {
  /** Whether there is a device, a LibTorch that is built with CUDA, and the library of CUDA kernels, `liba_infonce_cuda.so`. */
  isAvailable(): boolean {
    const { devices = 0, architectures } = native().cuda_info();
    return devices > 0 && architectures !== undefined;
  },
  /** The devices, `'cuda:0'` first; none where {@link cuda.isAvailable} is false. */
  devices(): CudaDevice[] {
    return native().cuda_info().cards ?? [];
  },
  /** Waits until a device, by default the first, has done all that was queued on it. @throws ArgumentRangeError when there is no such device */
  synchronize(device = 'cuda'): void {
    native().cuda_synchronize(checkDevice('device', device));
  },
  /** What a device, by default the first, has of memory. @throws ArgumentRangeError when there is no such device */
  memory(device = 'cuda'): CudaMemory {
    return native().cuda_memory(checkDevice('device', device));
  },
  /** Lets `peak` of {@link cuda.memory} begin anew. @throws ArgumentRangeError when there is no such device */
  resetPeakMemory(device = 'cuda'): void {
    native().cuda_reset_peak_memory(checkDevice('device', device));
  },
  /**
   * Whether LibTorch's convolutions and products of float32 on a card may take TF32: 10 bits of mantissa instead of 23, sooner. By default they may not, so that a card
   * computes the processor's numbers to rounding; PyTorch lets its convolutions. Our own kernels do not ask.
   * Of the process: workers, and jobs that are under way, follow it at once.
   * @throws ArgumentTypeError when something else than a boolean is assigned; any other property that is assigned is an ArgumentRangeError
   */
  get allowTF32(): boolean {
    return native().cuda_allow_tf32();
  },
  set allowTF32(allowed: boolean) {
    native().cuda_allow_tf32(check.boolean('cuda.allowTF32', allowed));
  },
  /** Gives memory that LibTorch keeps without using it back, for other processes. */
  releaseMemory(): void {
    native().cuda_release_memory();
  },
} as const);
