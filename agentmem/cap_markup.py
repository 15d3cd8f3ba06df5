"""The pieces that the CAP report's page is made of: escaping, tables, bars, and its one style sheet.

Whatever comes from a report is escaped here, and numbers are numbers: what a user's file says can't become markup.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# A stacked bar's parts, light and dark; of Okabe and Ito's colours, neighbours told apart by lightness too.
SECTION_COLOURS = {
    "system": "#8a8f98", "core": "#CC79A7", "summary": "#E69F00", "compressed": "#D55E00", "queue": "#56B4E9",
    "tail": "#0072B2", "template": "#c4c8ce",
}  # fmt: skip
OTHER_COLOUR = "#009E73"

STYLE = """
:root { color-scheme: light dark; --ink: #16202b; --soft: #55606d; --line: #dfe3e8; --ground: #f6f7f9; --card: #fff;
  --ours: #0072b2; --base: #59636e; --model: #c24f00; --warn: #fff4d6; --warn-line: #e6b800; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaef; --soft: #a3adb8; --line: #323a44; --ground: #12161b; --card: #1b2129;
    --ours: #5cb8f0; --base: #9aa5b1; --model: #ff9a4d; --warn: #3a3010; --warn-line: #b38f00; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 82rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; }
p { margin: .4rem 0; max-width: 70ch; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.warn { background: var(--warn); border-left: 4px solid var(--warn-line); padding: .6rem .9rem; margin: 1rem 0; }
.facts { display: flex; flex-wrap: wrap; gap: .4rem 1.6rem; margin: .9rem 0 0; padding: 0; list-style: none; }
.facts b { font-variant-numeric: tabular-nums; }
.axes { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; min-width: 0; }
.card.wide { margin-bottom: 1rem; }
.card h3 { margin: 0; font-size: 1.1rem; }
.card h3 span { color: var(--ours); margin-right: .4rem; }
.axes .soft { min-height: 2.9rem; margin: .1rem 0 .4rem; }
.row { display: grid; grid-template-columns: 8rem minmax(0, 1fr) 5.6rem; gap: .7rem; align-items: center;
  padding: .2rem 0; font-size: .92rem; }
.name { overflow-wrap: break-word; min-width: 0; line-height: 1.2; }
.ours .name, .ours .value b { color: var(--ours); font-weight: 650; }
.value { text-align: right; font-variant-numeric: tabular-nums; line-height: 1.2; }
.value small { display: block; white-space: nowrap; color: var(--soft); font-size: .78rem; }
.track { position: relative; height: 1.5rem; background: linear-gradient(var(--line), var(--line)) center/100% 1px
  no-repeat; }
.track i { position: absolute; top: 50%; }
.range { height: .36rem; margin-top: -.18rem; background: var(--base); opacity: .5; }
.dot { width: .56rem; height: .56rem; margin: -.28rem 0 0 -.28rem; background: var(--base); }
.ours .range, .ours .dot { background: var(--ours); }
.ours .dot { border-radius: 50%; }
.track .first { width: 0; height: 0; margin: -.4rem 0 0 -.38rem; border: .38rem solid transparent; border-top: 0;
  border-bottom: .7rem solid var(--model); }
.ticks { position: relative; height: 1.1rem; font-size: .75rem; color: var(--soft); }
.ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.stack { display: flex; height: 1.3rem; border-radius: .2rem; overflow: hidden; background: var(--line); }
.stack i { display: block; height: 100%; min-width: 1px; }
.wide .row { grid-template-columns: 8rem minmax(0, 1fr) 4rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .88rem; margin: .6rem 0 0; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: .15rem; margin-right: .35rem; }
.scroll { overflow-x: auto; margin: 0 0 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .7rem .8rem .3rem; font-weight: 600; }
th, td { padding: .38rem .8rem; text-align: right; border-top: 1px solid var(--line); white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; min-width: 5.5rem; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); max-width: 11rem;
  white-space: normal; overflow-wrap: break-word; min-width: 9.2rem; }
tr.ours th { color: var(--ours); }
td small { display: block; color: var(--soft); font-size: .8rem; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: .6rem; background: #fff; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
ul { max-width: 75ch; padding-left: 1.2rem; } li { margin: .25rem 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding: 1rem .7rem 2rem; } h1 { font-size: 1.35rem; } .card { padding: .8rem .7rem; }
  .row { grid-template-columns: 7.4rem minmax(0, 1fr) 5.2rem; gap: .6rem; font-size: .86rem; }
  .wide .row { grid-template-columns: 7.4rem minmax(0, 1fr) 3rem; } .axes .soft { min-height: 0; }
  th, td { padding: .35rem .55rem; } th:first-child { min-width: 8.6rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
}
@media print { body { background: #fff; } .card, .scroll { break-inside: avoid; } }
"""


def esc(value: object) -> str:
    """Text, for between tags and inside of quoted attributes."""
    return html.escape(str(value), quote=True)


def place(share: float) -> str:
    """A share as a CSS percentage between 0 and 100."""
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def track(low: float, high: float, mean: float, first: float | None = None) -> str:
    """A dot on its interval, all as shares of the axis, and a triangle at `first`; the text beside it says the same."""
    mark = "" if first is None else f'<i class="first" style="left:{place(first)}"></i>'
    return (
        f'<span class="track" aria-hidden="true"><i class="range" style="left:{place(low)};'
        f'width:{place(high - low)}"></i><i class="dot" style="left:{place(mean)}"></i>{mark}</span>'
    )


def row(name: str, middle: str, value: str, note: str = "", *, ours: bool = False) -> str:
    """A rung's line of a card: its name, a drawing (markup), its figure and a smaller one."""
    small = f"<small>{esc(note)}</small>" if note else ""
    kind = "row ours" if ours else "row"
    return (
        f'<div class="{kind}"><span class="name">{esc(name)}</span>{middle}'
        f'<span class="value"><b>{esc(value)}</b>{small}</span></div>'
    )


def ticks(labels: Mapping[float, str]) -> str:
    """The labels under a card's axis, by their place as a share of it."""
    spans = "".join(f'<span style="left:{place(at)}">{esc(text)}</span>' for at, text in labels.items())
    return f'<div class="row"><span></span><span class="ticks" aria-hidden="true">{spans}</span><span></span></div>'


def stack(parts: Mapping[str, float], most: float) -> str:
    """A bar of parts of which the longest bar has `most`."""
    shown = "".join(
        f'<i style="width:{place(v / most if most else 0)};background:{colour(k)}" title="{esc(k)}: {v:,.0f}"></i>'
        for k, v in parts.items()
        if v > 0
    )
    return f'<span class="stack" aria-hidden="true">{shown}</span>'


def colour(section: str) -> str:
    """A section's colour."""
    return SECTION_COLOURS.get(section, OTHER_COLOUR)


def legend(sections: Iterable[str]) -> str:
    """Which colour is which section."""
    keys = "".join(f'<span><i style="background:{colour(s)}"></i>{esc(s)}</span>' for s in sections)
    return f'<div class="legend">{keys}</div>'


def table(caption: str, heads: Sequence[str], rows: Sequence[tuple[str, bool, Sequence[tuple[str, str]]]]) -> str:
    """A table that scrolls by itself where it is wide. A row is (name, ours, cells), a cell (figure, small print)."""
    top = "".join(f'<th scope="col">{esc(h)}</th>' for h in heads)
    body = []
    for name, ours, cells in rows:
        shown = "".join(f"<td>{esc(v)}{f'<small>{esc(s)}</small>' if s else ''}</td>" for v, s in cells)
        kind = ' class="ours"' if ours else ""
        body.append(f'<tr{kind}><th scope="row">{esc(name)}</th>{shown}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption)}"><table><caption>{esc(caption)}'
        f"</caption><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def facts(found: Mapping[str, Any]) -> str:
    """Names with values, one below the other."""
    return "<dl>" + "".join(f"<dt>{esc(k)}</dt><dd>{esc(v)}</dd>" for k, v in found.items()) + "</dl>"


def items(texts: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{esc(t)}</li>" for t in texts) + "</ul>"
