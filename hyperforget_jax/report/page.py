"""The page that a report is, and the blocks of HTML it is built of.

It is a single file that needs neither network nor JavaScript.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["escape", "fact_table", "figure", "page", "swatch", "table"]

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #17191c; --muted: #5c6570;
  --line: #d5dade; --shade: #eef1f4; --first: #c44e00; --second: #0068a8;
  --notice: #fff3d6; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e7eaed; --muted: #a3adb8; --line: #3b434b;
    --shade: #232930; --first: #ff9552; --second: #62b5f0; --notice: #3d3113; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; overflow-wrap: break-word; }
main { max-width: 74rem; margin: 0 auto; padding: 1rem 1rem 3rem; }
a { color: var(--second); }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.75rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 0.5rem; }
p, figcaption { max-width: 44rem; }
dl { columns: 24rem; column-gap: 2.5rem; margin: 0; }
dl div { break-inside: avoid; padding-bottom: 0.6rem; }
.notice { background: var(--notice); padding: 0.6rem 0.8rem; border-radius: 4px; }
dt { font-weight: 600; }
dd { margin: 0; }
.target { color: var(--muted); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; color: var(--muted);
  padding-top: 0.5rem; }
caption span { position: sticky; left: 0; display: inline-block;
  max-width: min(44rem, calc(100vw - 2rem)); }
th, td { padding: 0.4rem 0.45rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--ink); }
thead .target, tbody th small, td small { display: block; font-weight: normal;
  font-size: 0.75rem; color: var(--muted); }
th[scope=row] { position: sticky; left: 0; background: var(--paper); }
tbody.references :is(th, td) { background: var(--shade); }
tbody.references tr:last-child :is(th, td) { border-bottom: 2px solid var(--ink); }
.numbers td, .numbers thead th + th { text-align: right; }
td small b { font-weight: normal; }
.numbers td { white-space: nowrap; }
.numbers th { min-width: 4.8rem; }
.numbers { font-size: 0.8125rem; }
.numbers :is(th, td) { padding: 0.35rem 0.3rem; }
.hint { color: var(--muted); font-size: 0.875rem; margin: 0.5rem 0; }
@media (min-width: 72rem) { .hint { display: none; } }
.plain th { font-weight: 600; }
.plain td { overflow-wrap: anywhere; min-width: 7rem; }
.access td { min-width: 4.5rem; overflow-wrap: normal; }
code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 0.875em;
  overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figcaption { font-size: 0.9375rem; color: var(--muted); margin-bottom: 0.75rem; }
figcaption b { color: var(--ink); }
svg { display: block; width: 100%; height: auto; stroke-linejoin: round; }
svg text { font-family: inherit; }
.single svg { max-width: 36rem; }
.single svg text { paint-order: stroke; stroke: var(--paper); stroke-width: 2.5px; }
.panels div { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
.panels svg { max-width: 27rem; }
.swatch { display: inline-block; width: 1.1em; height: 0.8em; margin-right: 0.3em;
  border: 2px solid; }
.faint { opacity: 0.55; }
@media print {
  @page { margin: 12mm; }
  html { font-size: 9.5pt; }
  main { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  table, .numbers { font-size: 7pt; }
  .hint, td small b, p a { display: none; }
  th, td { padding: 2pt 3pt; }
  thead .target, tbody th small, td small { font-size: 6.5pt; }
  .numbers td { white-space: normal; }
  .numbers th { min-width: 0; }
  .numbers .spread { display: block; white-space: nowrap; }
  th[scope=row], caption span { position: static; max-width: none; }
  tr, svg, figcaption, .single, .plain { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; }
  .panels div { grid-template-columns: repeat(3, 1fr); gap: 0.5rem; }
  .single svg { max-width: 11cm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole page.

    Args:
        title: the page's, as text.
        parts: its body, as HTML.
    """
    # The policy makes browsers hold what the first paragraph of this module promises.
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *parts,
            "</main>",
            "</body>",
            "</html>\n",
        ]
    )


def table(
    kind: str,
    heads: Sequence[str],
    bodies: Sequence[str],
    caption: str,
    name: str,
) -> str:
    """A table that scrolls sideways where it is wider than the screen.

    Args:
        kind: its class in the style.
        heads: the cells of its head, as HTML.
        bodies: its ``tbody`` elements, as HTML.
        caption: as text.
        name: for who cannot see it, as text.
    """
    # It scrolls by itself, with the keyboard too, and the page stays where it is.
    return "\n".join(
        [
            f'<div class="scroll" role="region" aria-label="{escape(name)}" '
            'tabindex="0">',
            f'<table class="{kind}">',
            f"<caption><span>{escape(caption)}</span></caption>",
            f"<thead>\n<tr>{''.join(heads)}</tr>\n</thead>",
            *bodies,
            "</table>\n</div>",
        ]
    )


def fact_table(facts: Mapping[str, str], head: str, caption: str) -> str:
    """A table of two columns: names, as text, and values, as HTML."""
    heads = [f'<th scope="col">{head}</th>', '<th scope="col">Value</th>']
    lines = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{value}</td></tr>'
        for name, value in facts.items()
    )
    return table("plain", heads, [f"<tbody>\n{lines}\n</tbody>"], caption, caption)


def figure(kind: str, drawings: Sequence[str], caption: str) -> str:
    """Drawings under one caption, all as HTML; ``kind`` is its class in the style."""
    inside = "\n".join(drawings)
    return (
        f'<figure class="{kind}">\n<figcaption>{caption}</figcaption>\n'
        f"<div>\n{inside}\n</div>\n</figure>"
    )


def swatch(fill: str, edge: str, text: str, kind: str = "") -> str:
    """A caption's sample of a colour, and the text that says what is drawn in it."""
    style = f"background: {fill}; border-color: {edge}"
    return f'<span class="swatch{kind}" style="{style}"></span>{escape(text)}'


def escape(text: Any) -> str:
    """The text as HTML, whatever it holds."""
    return html.escape(str(text))
