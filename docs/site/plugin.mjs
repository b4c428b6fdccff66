// What the site adds to TypeDoc: a page is called by its heading, the API is sorted by the rooms of src/, and types have their names back.
import { readdirSync } from 'node:fs';
import { basename } from 'node:path';
import { Comment, CommentTag, Converter, LiteralType, ReferenceType, ReflectionKind, UnionType } from 'typedoc';

const ROOMS = {
  objective: 'Objective', attack: 'Attacks', evaluation: 'Evaluation', model: 'Models', data: 'Data', training: 'Training', reproduction: 'Reproduction',
  analysis: 'Analysis and reports', report: 'Analysis and reports', benchmark: 'Benchmark', tensor: 'Tensors', runtime: 'Runtime and errors',
};
const guides = readdirSync(new URL('../guides', import.meta.url)).map((file) => basename(file, '.md'));

const HEADING = /^# (.+)\n+/;

export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    project.readme[0].text = project.readme[0].text.replace(HEADING, ''); // the theme sets the name above it
    for (const page of project.documents) {
      page.frontmatter.category = guides.includes(basename(page.name)) ? 'Guides' : 'Manual';
      [, page.name] = HEADING.exec(page.content[0].text);
    }
    for (const each of project.children) {
      const room = ROOMS[/src\/(\w+)\//.exec(project.getSymbolIdFromReflection(each).packagePath)[1]];
      const { blockTags } = ((each.signatures?.[0] ?? each).comment ??= new Comment());
      blockTags.push(new CommentTag('@category', [{ kind: 'text', text: room }]));
    }
    restoreNames(app, project);
  });
}

/** The compiler forgets the names of inferred types (zod's, `keyof`): where an exported one stands written out, alone or in a union, its name takes its place. */
function restoreNames(app, project) {
  const content = (type) => JSON.stringify(app.serializer.toObject(type), (key, value) => (/^(id|sources|groups|comment|target)$/.test(key) ? undefined : value));
  const members = (type) => (type.type === 'union' ? type.types : [type]);
  const reference = (name) => ReferenceType.createResolvedReference(name, project.getChildByName(name), project);
  const aliases = project.children
    .filter(({ kind, type }) => kind === ReflectionKind.TypeAlias && (type.type === 'union' ? type.types.length > 2 : type.type === 'reflection' && type.declaration.children?.length > 2))
    .map((alias) => ({ alias, contents: members(alias.type).map(content) }))
    .sort((a, b) => b.contents.length - a.contents.length);
  // The exact type of the presets is every value of every preset.
  const presets = project.getChildByName('presets'), record = ReferenceType.createBrokenReference('Record', project, 'typescript');
  aliases.unshift({ alias: project.getChildByName('PresetName'), contents: presets.type.declaration.children.map(({ name }) => content(new LiteralType(name))) });
  record.typeArguments = [reference('PresetName'), reference('PretrainConfig')];
  project.removeReflection(presets.type.declaration);
  presets.type = record;
  const changes = [];
  const visit = (holder, key, owner) => {
    const type = holder[key];
    if (!type || typeof type !== 'object') return;
    let left = members(type).map((member) => ({ member, text: content(member) }));
    const names = [];
    for (const { alias, contents } of aliases)
      if (alias !== owner && contents.every((text) => left.some((each) => each.text === text))) {
        left = left.filter(({ text }) => !contents.includes(text));
        names.push(reference(alias.name));
      }
    if (names.length > 0) changes.push(() => { holder[key] = left.length + names.length === 1 ? names[0] : new UnionType([...names, ...left.map(({ member }) => member)]); });
    for (const list of ['types', 'typeArguments', 'elements']) type[list]?.forEach((_, at) => visit(type[list], at));
    for (const part of ['elementType', 'target', 'objectType', 'trueType', 'falseType', 'element']) visit(type, part);
  };
  for (const reflection of Object.values(project.reflections)) visit(reflection, 'type', reflection);
  for (const change of changes) change(); // all were found before the first changes what the others are compared by
}
