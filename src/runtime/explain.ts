import { join } from 'node:path';
import { forbidden, glibcVersion } from '../../scripts/libtorch.mjs';
import { BINARIES, INSTALL, buildCommand, builtWith, isClone, type Location } from './locate.js';

/** Turns a failed load of the addon of the package at `root` into one message that says what is wrong and what to type. */
export function explainLoadFailure(error: Error, root: string, libtorch?: Location['libtorch']): string {
  const rebuild = buildCommand(root);
  const text = error.message;
  const hint = `\`${isClone(root) ? 'node dist/cli/main.js' : 'npx a-infonce'} doctor\` shows what was found.`;
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return `a-infonce runs on linux-x64 (glibc); this is ${process.platform}-${process.arch}.`;
  if (glibcVersion() === undefined) return 'a-infonce needs glibc; this system has another C library (Alpine?). Use a Debian-based image.';
  if (/No native build was found/.test(text))
    return isClone(root)
      ? `The native addon is not built yet. Type: ${rebuild}\n${hint}`
      : `The binaries for this system, ${BINARIES}, are not installed: optional dependencies were left out, or node_modules came from another system. ` +
        `Type: ${INSTALL}\nOr build from source: ${rebuild}\n${hint}`;
  if (libtorch) return `The LibTorch in ${libtorch.dir}, which ${libtorch.source} asks for, cannot be used: ${text}. Set it to another folder, or unset it.\n${hint}`;
  const missing = /(lib[\w.+-]+\.so[\w.]*): cannot open shared object file/.exec(text)?.[1];
  if (missing !== undefined) {
    const built = builtWith(root)?.dir;
    const closed = built !== undefined && forbidden(join(built, 'lib', missing)) ? join(built, 'lib', missing) : undefined;
    if (closed !== undefined)
      return `${closed} may not be read (permission denied). Change that, or set A_INFONCE_LIBTORCH to another LibTorch and build again. Type: ${rebuild}\n${hint}`;
    return `${missing} was not found${built ? `; the addon was built with LibTorch in ${built}` : ''}. ` +
      `If LibTorch has moved or was removed, build again. Type: ${rebuild}\n${hint}`;
  }
  const glibc = /version [`']?((?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)'? not found/.exec(text)?.[1];
  if (glibc !== undefined)
    return `The C library of this system is too old: ${glibc} is needed. Build from source here. Type: ${rebuild}\n${hint}`;
  if (/undefined symbol|the addon is of LibTorch/.test(text))
    return `The addon and the LibTorch that was loaded do not fit together (${text}). Build again for the LibTorch that you have. Type: ${rebuild}\n${hint}`;
  return `The native addon cannot be loaded: ${text}\nType: ${rebuild}\n${hint}`;
}
