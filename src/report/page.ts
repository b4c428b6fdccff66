/** A page of HTML that needs nothing beside it and runs no scripts. */
import { version } from '../runtime/version.js';
import { Html, html, type Part } from './html.js';
import { STYLE } from './style.js';

export interface Section {
  id: string;
  title: string;
  body: Part;
}

export function htmlPage(title: string, sections: readonly Section[]): string {
  return `<!doctype html>\n${html`<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<style>${new Html(STYLE)}</style>
</head>
<body>
<header><h1>${title}</h1><p class="soft">Written by a-infonce ${version} on ${new Date().toISOString().slice(0, 16).replace('T', ' at ')} UTC</p></header>
<nav aria-label="Parts of this page"><ul>${sections.map(({ id, title: name }) => html`<li><a href="#${id}">${name}</a></li>`)}</ul></nav>
<main>
${sections.map(({ id, title: name, body }) => html`<section id="${id}" aria-labelledby="${id}-title"><h2 id="${id}-title">${name}</h2>
${body}</section>
`)}</main>
</body>
</html>`.text}\n`;
}
