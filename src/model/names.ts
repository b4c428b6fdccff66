/**
 * State dictionaries of others under our names. Known are torchvision's (`layer1.0.downsample.0.weight`, `fc.*`), those of the kuangliu-style
 * ResNets of RoCL (`layer1.0.shortcut.0.weight`, `linear.*`, projector `linear_1`, `linear_2`), those of AdvCL and A-InfoNCE
 * (`bn1.bn_list.1.weight`, `layer2.0.downsample.conv.weight`, `head_proj.*`), and our own, each behind any of the usual prefixes.
 */
import { ArgumentRangeError } from '../runtime/errors.js';
import type { EncoderConfig } from './encoder.js';

const PREFIX = /^(?:(?:module|model|state_dict|net|backbone|encoder|encoder_q)\.)+/;
const TRUNK = /^(conv1|bn1|layer[1-4]\.\d{1,3}\.(?:conv[123]|bn[123]|downsample\.[01]))\.(?:(?:bn_list\.)?([A-Za-z0-9_-]+)\.)?(weight|bias|running_mean|running_var|num_batches_tracked)$/;
const HEAD = /^(?:fc|linear|head|classifier)\.(?:(?:fc|linear|0)\.)?(weight|bias)$/;
/** Our heads of pseudo-labels. */
const HEADS = /^heads\.(\d{1,3})\.(?:weight|bias)$/;
/** AdvCL's five pseudo-label heads and two more that only its pre-training uses. */
const AUXILIARY = /^(?:fc_\d{3}|head_ce|head_pred)\./;

interface Known {
  part: 'encoder' | 'projector' | 'head' | 'heads' | 'auxiliary';
  /** Our name within the part, without a BatchNorm branch. */
  name: string;
  /** The BatchNorm branch: a name, or a number in AdvCL's lists. */
  branch?: string | undefined;
}

function recognise(source: string): Known | undefined {
  const name = source.replace(PREFIX, '');
  if (AUXILIARY.test(name)) return { part: 'auxiliary', name };
  if (HEADS.test(name)) return { part: 'heads', name };
  const projector = name.replace(/^(?:projector\.)?linear_1\./, 'projector.0.').replace(/^(?:projector\.)?linear_2\./, 'projector.2.').replace(/^head_proj\./, 'projector.');
  if (projector.startsWith('projector.')) return { part: 'projector', name: projector };
  const head = HEAD.exec(name);
  if (head) return { part: 'head', name: `head.${head[1]}` };
  const trunk = TRUNK.exec(
    name.replace('.shortcut.', '.downsample.').replace('.downsample.conv.', '.downsample.0.').replace('.downsample.bn.', '.downsample.1.').replace('.bn_list.weight', '.weight')
      .replace(/\.bn_list\.(?=(?:weight|bias|running_mean|running_var|num_batches_tracked)$)/, '.'),
  );
  return trunk ? { part: 'encoder', name: `encoder.${trunk[1]}.#.${trunk[3]}`, branch: trunk[2] } : undefined;
}

/** What a model has, for {@link translate}. */
export interface Target {
  branches: readonly string[];
  projector: boolean;
  head: boolean;
  heads: boolean;
}

/**
 * Source names to our names. Names of parts that the model does not have (a head, a projector, AdvCL's pseudo-label heads) are left out; names
 * that are not known are kept as they are, so that loading lists them as unexpected.
 * @param branch for a model with one BatchNorm branch: which of the source's branches to take (`'pgd'`, or a number as text in AdvCL's lists).
 * @throws {@link ArgumentRangeError} when the source has several branches, the model one, and `branch` names none of them.
 */
export function translate(names: Iterable<string>, target: Target, branch?: string): Map<string, string> {
  const known = [...names].map((source) => [source, recognise(source)] as const);
  const sourceBranches = [...new Set(known.flatMap(([, entry]) => entry?.branch ?? []))];
  const single = target.branches.length === 1;
  const position = (name: string) => (sourceBranches.includes(name) ? name : String(ADVCL_BRANCHES.indexOf(name)));
  const wanted = branch === undefined ? undefined : position(branch);
  if (single && sourceBranches.length > 1 && (wanted === undefined || !sourceBranches.includes(wanted)))
    throw new ArgumentRangeError('branch', `one of the file's BatchNorm branches (${sourceBranches.join(', ')})`, branch ?? 'none');

  const result = new Map<string, string>();
  for (const [source, entry] of known) {
    if (entry === undefined) result.set(source, source);
    else if (entry.part === 'encoder') {
      if (single) {
        if (entry.branch === undefined || sourceBranches.length === 1 || entry.branch === wanted) result.set(source, entry.name.replace('.#', ''));
      } else {
        const ours = entry.branch !== undefined && /^\d+$/.test(entry.branch) ? target.branches[Number(entry.branch)] : entry.branch;
        result.set(source, entry.name.replace('.#', isNorm(entry.name) && ours !== undefined ? `.${ours}` : ''));
      }
    } else if ((entry.part === 'projector' && target.projector) || (entry.part === 'head' && target.head) || (entry.part === 'heads' && target.heads)) result.set(source, entry.name);
  }
  const taken = new Set<string>();
  for (const name of result.values()) {
    if (taken.has(name)) throw new ArgumentRangeError('state', `one tensor for ${name}`, 'several');
    taken.add(name);
  }
  return result;
}

/** The names of the BatchNorm branches in AdvCL's and A-InfoNCE's pre-training, in the order of their lists. */
export const ADVCL_BRANCHES: readonly string[] = ['normal', 'pgd', 'pgd_ce'];

const isNorm = (name: string) => /\.(?:bn\d|downsample\.1)\./.test(name);

/**
 * The network that a state dictionary belongs to, from names and shapes alone.
 * @throws {@link ArgumentRangeError} when it is none of ours.
 */
export function infer(shapes: ReadonlyMap<string, readonly number[]>): { encoder: EncoderConfig; classes: number | undefined } {
  const found = new Map<string, readonly number[]>();
  const branches = new Set<string>();
  for (const [source, shape] of shapes) {
    const entry = recognise(source);
    if (!entry || entry.part === 'auxiliary') continue;
    found.set(entry.name.replace('.#', ''), shape);
    if (entry.branch !== undefined) branches.add(entry.branch);
  }
  const refuse = (received: string) => new ArgumentRangeError('state', 'names and shapes of a ResNet-18, 34 or 50', received);
  const stem = found.get('encoder.conv1.weight');
  if (stem === undefined) throw refuse('no conv1.weight');
  const [width = 0, channels = 0, kernel] = stem;
  if (stem.length !== 4 || (kernel !== 3 && kernel !== 7)) throw refuse(`conv1.weight of shape [${stem}]`);

  const bottleneck = found.has('encoder.layer1.0.conv3.weight');
  const counts = [1, 2, 3, 4].map((layer) => {
    let blocks = 0;
    while (found.has(`encoder.layer${layer}.${blocks}.conv1.weight`)) blocks++;
    // Sizes that the file really holds, before anything is allocated for them.
    const planes = found.get(`encoder.layer${layer}.0.conv1.weight`)?.[0];
    if (planes !== width * 2 ** (layer - 1)) throw refuse(`layer${layer}.0.conv1.weight with ${planes} planes beside a stem of ${width}`);
    return blocks;
  }).join();
  const architecture = bottleneck && counts === '3,4,6,3' ? 'resnet50' : !bottleneck && counts === '3,4,6,3' ? 'resnet34' : !bottleneck && counts === '2,2,2,2' ? 'resnet18' : undefined;
  if (architecture === undefined) throw refuse(`layers of ${counts} ${bottleneck ? 'bottleneck' : 'basic'} blocks`);

  const linears = [...found].flatMap(([name, shape]) => {
    const match = /^projector\.(\d{1,3})\.weight$/.exec(name);
    return match && shape.length === 2 ? [{ index: Number(match[1]), output: shape[0]! }] : [];
  }).sort((a, b) => a.index - b.index);
  const batchNorm = [...found.keys()].some((name) => /^projector\..*running_mean$/.test(name));
  const projector = linears.length === 0 ? undefined : { hidden: linears.slice(0, -1).map(({ output }) => output), output: linears.at(-1)!.output, batchNorm };

  const heads = [...found].flatMap(([name, shape]) => (HEADS.test(name) && name.endsWith('weight') ? [{ index: Number(HEADS.exec(name)![1]), classes: shape[0]! }] : []))
    .sort((a, b) => a.index - b.index).map(({ classes }) => classes);
  const numbered = [...branches].every((name) => /^\d+$/.test(name));
  const names = branches.size === 0 ? ['normal'] : !numbered ? [...branches] : branches.size <= ADVCL_BRANCHES.length ? ADVCL_BRANCHES.slice(0, branches.size) : [...branches];
  return { encoder: { architecture, width, channels, stem: kernel === 3 ? 'cifar' : 'imagenet', branches: names, projector, heads }, classes: found.get('head.weight')?.[0] };
}
