/** The page's look: light and dark as the reader has it, one column on a telephone, ink saved on paper. */
export const STYLE = `
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f24; --soft: #59636e; --rule: #d4d9df; --panel: #f5f7f9; --mark: #8a4b00; --markback: #fff6e6; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --ink: #e8eaed; --soft: #a3adb8; --rule: #3a424b; --panel: #1d2228; --mark: #ffc46b; --markback: #2c2312; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem clamp(.75rem, 3vw, 2.5rem) 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .5rem 0; max-width: 72ch; }
.soft, figcaption, caption { color: var(--soft); }
nav ul, .legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .75rem 0; padding: 0; }
a { color: inherit; text-underline-offset: .2em; }
.legend { font-size: .9rem; }
.run { white-space: nowrap; }
thead .run { white-space: normal; }
.swatch { vertical-align: baseline; margin-right: .25rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1rem 1.5rem; margin: .75rem 0; }
.charts.pairs { grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figcaption { font-size: .9rem; }
figure > svg { display: block; width: 100%; height: auto; font-size: 12px; --plot-background: var(--page); }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .35rem; font-size: .9rem; }
caption span { display: inline-block; max-width: min(80ch, 90vw); }
tbody th { max-width: 34ch; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid var(--rule); vertical-align: bottom; white-space: normal; }
tbody th { font-weight: 500; }
.number { text-align: right; }
td.number { white-space: nowrap; }
.protocol { display: block; min-width: 13rem; }
.best { font-weight: 700; }
sup { line-height: 0; }
.differs th, .differs td { background: var(--markback); }
.missing { border-left: 3px solid var(--mark); background: var(--markback); padding: .5rem .75rem; max-width: none; }
code { font: .875em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { overflow-x: auto; background: var(--panel); padding: .75rem; font-size: .8rem; }
.grid img { display: block; margin: 0 auto; width: 4.25rem; height: 4.25rem; image-rendering: pixelated; background: var(--panel); }
.grid th, .grid td { border: 0; padding: .15rem .3rem; font-size: .8rem; text-align: center; vertical-align: middle; min-width: 4.9rem; }
.grid tbody th { text-align: right; }
@media print {
  :root { color-scheme: light; --page: #fff; --ink: #000; --soft: #333; --rule: #999; --panel: #fff; --mark: #000; --markback: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  tr, figure, img, .grid { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .charts, .charts.pairs { grid-template-columns: repeat(2, 1fr); }
  pre { white-space: pre-wrap; }
}
`;
