"""The page's style sheet: a paper's table rules and measure, light and dark, narrow screens, and print."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f6f7f9; --ink: #1f2329; --muted: #5b6470; --rule: #d9dee5; --grid: #e4e8ed;
  --link: #0b62a8; --won: #1a7f4b; --lost: #b3372b; --open: #8a6100; --tint: rgb(213 94 0 / .07);
  --sans: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "Liberation Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --raised: #1c2026; --ink: #e7eaee; --muted: #a3adb8; --rule: #343b44; --grid: #2b3138;
    --link: #7db8ee; --won: #5cc792; --lost: #f0897c; --open: #e0b64f; --tint: rgb(213 94 0 / .16);
  }
}
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans); }
.page { max-width: 71rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
h1, h2, h3 { line-height: 1.25; text-wrap: balance; }
h1 { margin: 0 0 .35rem; font-size: 1.95rem; letter-spacing: -.015em; }
h2 { margin: 3.5rem 0 .75rem; font-size: 1.3rem; letter-spacing: -.005em; scroll-margin-top: 1rem; }
h3 { margin: 2rem 0 .5rem; font-size: 1rem; }
p, li { max-width: 46rem; }
a { color: var(--link); text-underline-offset: .15em; }
code { font: .86em/1.4 var(--mono); overflow-wrap: anywhere; }
.skip { position: absolute; left: -100vw; }
.skip:focus { left: 1rem; top: 1rem; background: var(--paper); padding: .5rem 1rem; outline: 2px solid var(--link); }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

.facts { display: flex; flex-wrap: wrap; gap: .15rem 1.5rem; margin: 0; color: var(--muted); font-size: .88rem; }
.facts div { display: flex; gap: .4rem; min-width: 0; }
.facts dt::after { content: ":"; }
.facts dd { margin: 0; color: var(--ink); overflow-wrap: anywhere; }
.verdict { margin: 1.75rem 0 0; padding: 1rem 1.25rem; border-left: 4px solid var(--open); background: var(--raised); }
.verdict.won { border-color: var(--won); } .verdict.lost { border-color: var(--lost); }
.verdict strong { display: block; font-size: 1.2rem; line-height: 1.35; }
.verdict p { margin: .3rem 0 0; max-width: 56rem; }
nav { margin-top: 1.5rem; font-size: .9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.25rem; margin: 0; padding: 0; list-style: none; }

.scroll { position: relative; overflow-x: auto; overscroll-behavior-x: contain; }
.scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 4px; }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.35; font-variant-numeric: tabular-nums lining-nums; }
.caption { margin: 1.5rem 0 .7rem; max-width: 52rem; color: var(--muted); font-size: .9rem; line-height: 1.5; }
.caption b, figcaption b { color: var(--ink); font-weight: 600; }
th { font-weight: 500; text-align: left; }
.results { min-width: 100%; border-top: 1.5px solid var(--ink); border-bottom: 1.5px solid var(--ink); }
.results th, .results td { padding: .4rem .42rem; vertical-align: top; white-space: nowrap; }
.results thead th { vertical-align: bottom; text-align: right; }
.results thead th[scope="colgroup"] { padding-bottom: .2rem; text-align: left; }
.results thead th[scope="colgroup"] span { display: block; border-bottom: 1px solid var(--muted); padding-bottom: .2rem; }
.results thead th[scope="col"] { border-bottom: 1px solid var(--ink); }
.results td { text-align: right; }
.results tbody th, .results thead .name {
  position: sticky; left: 0; z-index: 1; text-align: left; background: var(--paper); padding-left: 0; padding-right: 1rem;
}
.results tbody tr + tr > * { border-top: 1px solid var(--grid); }
.results .first { padding-left: 1.1rem; }
.results .spread { display: block; color: var(--muted); font-size: .84em; }
.results td b { font-weight: 700; }
.results .ours > * { background-image: linear-gradient(var(--tint), var(--tint)); }
.results .ours th { font-weight: 700; }
.swatch { display: inline-block; width: .68em; height: .68em; margin-right: .5em; border-radius: 2px; }
.tag { display: block; width: fit-content; margin: .15em 0 0 1.2em; padding: .05em .45em;
  border: 1px solid var(--rule); border-radius: 99px; color: var(--muted); font-size: .8em; font-weight: 400; }
.won-text { color: var(--won); } .lost-text { color: var(--lost); } .open-text { color: var(--muted); }

figure { margin: 1.5rem 0 2.25rem; }
figcaption { margin-top: .75rem; max-width: 52rem; color: var(--muted); font-size: .9rem; line-height: 1.5; }
.plot svg { display: block; height: auto; max-width: none; }
.plot svg * { stroke-linejoin: round; stroke-linecap: butt; }
.plot svg text { font-family: var(--sans) !important; }
.picture img { display: block; height: auto; max-width: none; }
.sheet { display: inline-block; min-width: min(100%, 42rem); max-width: 100%; background: #fff; }
@media (prefers-color-scheme: dark) { .sheet { padding: .75rem; border-radius: 6px; } }

.clips { margin: 0; padding: 0; border: 0; min-width: 0; }
.clips > label {
  display: inline-block; margin: 0 .35rem .5rem 0; padding: .2rem .8rem;
  border: 1px solid var(--rule); border-radius: 99px; font-size: .9rem; cursor: pointer; }
.clips > input { position: absolute; opacity: 0; pointer-events: none; }
.clips > input:checked + label { background: var(--ink); border-color: var(--ink); color: var(--paper); }
.clips > input:focus-visible + label { outline: 2px solid var(--link); outline-offset: 2px; }
.clips > figure { margin-top: .75rem; }

details { margin: .25rem 0; border-top: 1px solid var(--rule); }
details:last-of-type { border-bottom: 1px solid var(--rule); }
summary { padding: .5rem 0; cursor: pointer; font-weight: 500; }
summary .count { color: var(--muted); font-weight: 400; font-size: .9em; margin-left: .4em; }
summary:focus-visible { outline: 2px solid var(--link); }
.settings { width: 100%; margin: 0 0 1rem; }
.settings th, .settings td { padding: .28rem .9rem .28rem 0; text-align: left; vertical-align: baseline; }
.settings tr + tr > * { border-top: 1px solid var(--grid); }
.settings thead th { color: var(--muted); font-size: .9em; border-bottom: 1px solid var(--rule); }
.settings .meaning { color: var(--muted); }
.settings code { color: var(--ink); }
.protocols dt { margin-top: .7rem; font-weight: 600; }
.protocols dd { margin: .1rem 0 0; max-width: 52rem; color: var(--muted); }

@media (max-width: 40rem) {
  body { font-size: 15px; }
  .page { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  h2 { margin-top: 2.5rem; }
  .scroll { margin-inline: -1rem; padding-inline: 1rem; }
  .results tbody th, .results thead .name { left: -1rem; padding-left: 1rem; }
  .settings .meaning { display: none; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; --ink: #000; --muted: #444; --rule: #bbb; --grid: #ddd; --raised: #f4f4f4; }
  @page { margin: 16mm 14mm; }
  body { font-size: 10pt; }
  .page { max-width: none; padding: 0; }
  nav, .skip, .clips > label { display: none; }
  h2 { break-after: avoid; margin-top: 1.6rem; }
  figure, .results, .verdict { break-inside: avoid; }
  .scroll { overflow: visible; margin: 0; padding: 0; }
  .scroll svg, .scroll img { max-width: 100% !important; min-width: 0 !important; }
  .results { font-size: 6.9pt; min-width: 0; } .results th, .results td { padding: .25rem .28rem; }
  .clips > figure { display: block !important; }
  details::details-content { content-visibility: visible; height: auto; }
  a { color: inherit; text-decoration: none; }
}
"""
