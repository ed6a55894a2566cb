"""A page of HTML that needs nothing beside it: tables, and texts to be read next to each other."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 96rem; padding: 0 1.5rem;
  color: #1d2129; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
h3 { font-size: .95rem; margin: 0 0 .3rem; overflow-wrap: anywhere }
p.lead, p.note { color: #5a6270; margin: .2rem 0 } p.note { font-size: .85rem }
div.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #e3e6eb; text-align: right;
  white-space: nowrap; vertical-align: top }
th.text, td.text { text-align: left } td.text { white-space: normal }
tr.marked td { background: #fdeeee }
div.beside { display: flex; gap: 1rem; overflow-x: auto; padding-bottom: .8rem }
div.beside article { flex: 1 0 21rem; max-width: 34rem; border: 1px solid #e3e6eb;
  border-radius: 6px; padding: .8rem 1rem }
div.text { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 34rem; overflow-y: auto;
  font-size: .87rem; margin-top: .5rem }
@media (prefers-color-scheme: dark) {
  body { color: #dde1e8; background: #16181d } th, td, div.beside article { border-color: #343a44 }
  p.lead, p.note { color: #99a2b0 } tr.marked td { background: #45282b } }
"""


class Sheet(NamedTuple):
    """A table for people: every column is text as it is shown."""

    title: str
    rows: pl.DataFrame
    left: tuple[str, ...] = ()  # columns of words; the others are numbers
    marked: tuple[bool, ...] = ()  # rows that want attention
    note: str = ""


class Sample(NamedTuple):
    """One text."""

    title: str
    note: str
    text: str


class Beside(NamedTuple):
    """Texts to be read next to each other."""

    title: str
    samples: tuple[Sample, ...]


def write_page(
    title: str, lead: Sequence[str], sheets: Sequence[Sheet], samples: Sequence[Beside]
) -> str:
    """Write the page. What models wrote is shown as it is, and never read as HTML."""
    body = [f"<h1>{escape(title)}</h1>"]
    body += [f'<p class="lead">{escape(name)}</p>' for name in lead]
    for sheet in sheets:
        body.append(_sheet(sheet))
    for group in samples:
        body.append(f'<h2>{escape(group.title)}</h2><div class="beside">')
        body += [
            f'<article><h3>{escape(sample.title)}</h3><p class="note">{escape(sample.note)}</p>'
            f'<div class="text" dir="auto">{escape(sample.text)}</div></article>'
            for sample in group.samples
        ]
        body.append("</div>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _sheet(sheet: Sheet) -> str:
    def row(cells: Sequence[object], tag: str) -> str:
        sides = (' class="text"' if name in sheet.left else "" for name in sheet.rows.columns)
        return "".join(
            f"<{tag}{side}>{escape(str(cell))}</{tag}>"
            for cell, side in zip(cells, sides, strict=True)
        )

    marks = sheet.marked or (False,) * sheet.rows.height
    lines = [
        f"<tr{' class=marked' if marked else ''}>{row(cells, 'td')}</tr>"
        for cells, marked in zip(sheet.rows.iter_rows(), marks, strict=True)
    ]
    note = f'<p class="note">{escape(sheet.note)}</p>' if sheet.note else ""
    head = f"<thead><tr>{row(sheet.rows.columns, 'th')}</tr></thead>"
    table = f"<table>{head}<tbody>{''.join(lines)}</tbody></table>"
    return f'<h2>{escape(sheet.title)}</h2>{note}<div class="scroll">{table}</div>'
