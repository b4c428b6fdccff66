import { diagnose, type Finding } from '../../runtime/doctor.js';
import { define } from '../command.js';
import type { Output } from '../output.js';

export const doctor = define({
  name: 'doctor',
  summary: 'show what was found on this machine, and what to type where something is wrong',
  description: 'Looks at Node.js, the native addon, LibTorch, the processor, the tools to build with and the data sets.\n' +
    'Exit code 1 when something that is needed is missing. Works where the addon is not built or does not load.',
  examples: [
    ['a-infonce doctor', 'what was found and what is wrong'],
    ['a-infonce doctor --device cuda', 'whether there is a card, and what it needs'],
    ['a-infonce doctor --json', 'the same for a program'],
  ],
  async action({ output }, { threads, device }) {
    const diagnosis = await diagnose({ threads, device });
    const { ok, version, findings } = diagnosis;
    const width = Math.max(...findings.map(({ subject }) => subject.length));
    const problems = findings.filter(({ state }) => state === 'problem').length;
    output.result(diagnosis, [
      output.style('bold', `a-infonce ${version}`),
      ...findings.flatMap((finding) => lines(finding, width, output)),
      '',
      ok ? 'Everything that is needed is here.' : `${problems === 1 ? 'One thing has' : `${problems} things have`} to be put right; see above what to type.`,
    ]);
    return ok ? 0 : 1;
  },
});

function lines({ subject, state, text, fix }: Finding, width: number, output: Output): string[] {
  const mark = { ok: output.style('green', '✔'), note: output.style('dim', '·'), problem: output.style('red', '✖') }[state];
  const indent = ' '.repeat(width + 6);
  const [first, ...rest] = text.split('\n');
  return [
    `  ${mark} ${subject.padEnd(width)}  ${first}`, ...rest.map((line) => indent + line),
    ...(fix === undefined ? [] : fix.split('\n').map((line, at) => indent + (at === 0 ? output.style('bold', `→ ${line}`) : `  ${line}`))),
  ];
}
