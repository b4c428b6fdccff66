/** HTML as values: whatever is put into a template is escaped, unless it is HTML itself. */

/** A piece of HTML. */
export class Html {
  constructor(readonly text: string) {}
}

export type Part = Html | string | number | null | undefined | false | readonly Part[];

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

export function html(strings: TemplateStringsArray, ...parts: Part[]): Html {
  return new Html(strings.map((text, at) => text + (at < parts.length ? render(parts[at]) : '')).join(''));
}

function render(part: Part): string {
  if (part instanceof Html) return part.text;
  if (part === null || part === undefined || part === false) return '';
  if (Array.isArray(part)) return part.map(render).join('');
  // Control characters are no HTML; a file name may have them.
  return String(part).replace(/[&<>"']/g, (found) => ENTITIES[found]!).replace(/[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/g, '\ufffd');
}

/** A table with a heading a column; the first cell of a row heads it. `caption` says what it shows. */
export function dataTable(caption: Part, head: readonly Part[], rows: readonly (readonly Part[])[], { text = 1 }: { text?: number } = {}): Html {
  const kind = (column: number) => (column < text ? 'text' : 'number');
  return html`<div class="scroll" tabindex="0"><table><caption><span>${caption}</span></caption>
<thead><tr>${head.map((cell, column) => html`<th scope="col" class="${kind(column)}">${cell}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map((cell, column) => (column === 0 ? html`<th scope="row" class="text">${cell}</th>` : html`<td class="${kind(column)}">${cell}</td>`))}</tr>
`)}</tbody></table></div>`;
}

/** What is not there, and what to type to get it. */
export function missing(what: string, type: string): Html {
  return html`<p class="missing">${what} Type: <code>${type}</code></p>`;
}
