"""The parts of a self-contained HTML page: its style, tables and figures. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from profiling.plots import NARROW, WIDE

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--soft:#f5f6f8;--line:#d9dde3;--grid:#e7eaee;--text:#1b1f24;--muted:#57606a;
--accent:#0b5fb0;--warn-bg:#fff4d6;--warn-line:#c08a00;
--sync:#7fb2e8;--query:#3f87d0;--fetch:#1d5ea8;--report:#0f3a70;--classify:#f0b24a;--tune:#d9682b;--gate:#8f4a23;
--other:#8a919b;--up:#d9682b;--down:#1d5ea8;--cloud:#57606a;--local:#c25b12;--coda:#0b5fb0}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--soft:#1d2125;--line:#353b42;--grid:#282d33;--text:#e6e9ec;
--muted:#a3acb6;--accent:#6cb2f5;--warn-bg:#332a10;--warn-line:#d9a521;
--sync:#b5d6f7;--query:#7db6ee;--fetch:#4189d6;--report:#2a62a6;--classify:#f5c773;--tune:#ea8147;--gate:#b56b40;
--other:#8a929c;--up:#ea8147;--down:#4f97e3;--cloud:#b3bbc4;--local:#f09a55;--coda:#6cb2f5}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1000px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:1.75rem;line-height:1.25;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:1.2rem;line-height:1.35;margin:44px 0 4px}
p{margin:6px 0 12px;max-width:72ch}
.muted{color:var(--muted)} .small{font-size:.875rem}
.banner{border-left:4px solid var(--warn-line);background:var(--warn-bg);padding:10px 14px;
margin:18px 0;border-radius:3px}
.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:10px;margin:22px 0 6px}
.card{background:var(--soft);border-radius:6px;padding:12px 14px}
.card b{display:block;font-size:1.4rem;line-height:1.25;font-variant-numeric:tabular-nums;font-weight:600}
.card span{font-size:.84rem;color:var(--muted)}
.scroll{overflow-x:auto;margin:12px 0;border:1px solid var(--line);border-radius:6px}
table{border-collapse:separate;border-spacing:0;width:100%;font-size:.875rem;line-height:22px;
font-variant-numeric:tabular-nums}
th,td{padding:7px 11px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--grid)}
th{font-weight:600;color:var(--muted);vertical-align:bottom;background:var(--soft)}
th.group{text-align:center;border-bottom:0;padding-bottom:0} tr+tr th{padding-top:2px}
th.text,td.text{text-align:left} td.wrap{white-space:normal;min-width:46em}
tr:last-child td{border-bottom:0} tr.strong td{font-weight:600;background:var(--soft)}
th:first-child,td:first-child{position:sticky;left:0;background:var(--bg)}
th:first-child,tr.strong td:first-child{background:var(--soft)}
figure{margin:12px 0 0} figure svg{display:block;max-width:100%;height:auto} figure .narrow{display:none}
@media (max-width:960px){.cards{grid-template-columns:repeat(2,1fr)}
main{padding:22px 16px 48px} h1{font-size:1.45rem} figure .wide{display:none}
figure .narrow{display:block}}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:.84rem;color:var(--muted);margin:8px 0 4px;
padding:0;list-style:none}
.legend svg{width:14px;height:14px;display:inline-block;vertical-align:-2px;margin-right:6px}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--muted)}
.label{text-anchor:end;fill:var(--text)} .strong{font-weight:600} .tick,.axis{text-anchor:middle}
.trace{fill:none;stroke:var(--coda);stroke-width:1.6;stroke-linejoin:round}
.note{fill:var(--text);font-variant-numeric:tabular-nums}
.grid{stroke:var(--grid)} .rule{stroke:var(--muted);stroke-width:2;opacity:.45}
.range{stroke:var(--coda);stroke-width:3;opacity:.45}
.s-sync{fill:var(--sync)}.s-query{fill:var(--query)}.s-fetch{fill:var(--fetch)}.s-report{fill:var(--report)}
.s-classify{fill:var(--classify)}.s-tune{fill:var(--tune)}.s-gate{fill:var(--gate)}.s-other{fill:var(--other)}
.s-up{fill:var(--up)}.s-down{fill:var(--down)}.s-cloud{fill:var(--cloud);stroke:var(--cloud)}.s-local{fill:var(--local)}
.s-coda{fill:var(--coda)} .ring{fill:var(--bg);stroke-width:2}
dl{display:grid;grid-template-columns:minmax(8em,max-content) 1fr;gap:4px 18px;font-size:.92rem;margin:12px 0}
dt{color:var(--muted)} dd{margin:0;overflow-wrap:anywhere}
@media (max-width:520px){dl{grid-template-columns:1fr;gap:0} dd{margin-bottom:8px}}
code{font:0.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
footer{margin-top:56px;padding-top:14px;border-top:1px solid var(--line);font-size:.84rem;color:var(--muted)}
.hint{margin:-6px 0 12px} @media (min-width:961px){.on-phones{display:none}}
@media print{main{max-width:none} .scroll{overflow:visible} .hint{display:none}}
"""
_MOST_ON_A_DESK, _MOST_ON_A_PHONE = 9, 4  # columns that fit the screen


@dataclass(frozen=True)
class Column:
    """A table's column: heading, and whether its cells are words (left) or numbers (right)."""

    heading: str
    words: bool = False
    group: str = ""


def page(title: str, body: str, footer: str) -> str:
    """A whole HTML document that needs no other file."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}<footer>{escape(footer)}</footer></main></body></html>\n"
    )


def section(title: str, *content: str) -> str:
    """A section under its finding."""
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>"


def paragraph(text: str, style: str = "") -> str:
    """One paragraph of plain text."""
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def banner(title: str, text: str) -> str:
    """What a reader must know before believing a number."""
    return f'<div class="banner" role="note"><strong>{escape(title)}</strong> {escape(text)}</div>'


def cards(values: Sequence[tuple[str, str]]) -> str:
    """Headline numbers: value and what it is."""
    cells = "".join(f'<div class="card"><b>{escape(v)}</b><span>{escape(label)}</span></div>' for v, label in values)
    return f'<div class="cards">{cells}</div>'


def definitions(values: Sequence[tuple[str, str]]) -> str:
    """Terms and what they are."""
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in values) + "</dl>"


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], strong: Sequence[int] = ()) -> str:
    """A table that scrolls within its own box on a narrow screen.

    Args:
        columns: Headings; neighbours of one group share a heading above.
        rows: Cells as plain text.
        strong: Indices of rows to stress.
    """
    body = []
    for i, row in enumerate(rows):
        cells = "".join(_cell(column, text) for column, text in zip(columns, row, strict=True))
        body.append(f'<tr class="strong">{cells}</tr>' if i in strong else f"<tr>{cells}</tr>")
    head = "".join(f'<th class="{"text" if c.words else "number"}">{escape(c.heading)}</th>' for c in columns)
    inner = f"<thead>{_groups(columns)}<tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    style = "hint" if len(columns) > _MOST_ON_A_DESK else "hint on-phones" if len(columns) > _MOST_ON_A_PHONE else ""
    hint = f'<p class="muted small {style}">Scroll the table sideways for more.</p>' if style else ""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>{inner}</table></div>{hint}'


def _cell(column: Column, text: str) -> str:
    style = ("text wrap" if len(text) > 40 else "text") if column.words else ""
    return f'<td class="{style}">{escape(text)}</td>' if style else f"<td>{escape(text)}</td>"


def _groups(columns: Sequence[Column]) -> str:
    if not any(column.group for column in columns):
        return ""
    spans: list[tuple[str, int]] = []
    for column in columns:
        if spans and spans[-1][0] == column.group and column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return "<tr>" + "".join(f'<th class="group" colspan="{n}">{escape(group)}</th>' for group, n in spans) + "</tr>"


def figure(draw: Callable[[int], str], legend: Sequence[tuple[str, str, str]] = ()) -> str:
    """A chart, drawn once for a desk and once for a phone.

    Args:
        draw: Draws it at a width.
        legend: Style, shape (square, disc, ring or diamond) and meaning of each mark.
    """
    keys = "".join(f"<li>{_key(style, shape)}{escape(text)}</li>" for style, shape, text in legend)
    listing = f'<ul class="legend">{keys}</ul>' if legend else ""
    wide, narrow = draw(WIDE), draw(NARROW)
    return f'<figure>{listing}<div class="wide">{wide}</div><div class="narrow">{narrow}</div></figure>'


def _key(style: str, shape: str) -> str:
    marks = {
        "square": f'<rect class="{style}" x="1" y="1" width="12" height="12" rx="2"/>',
        "disc": f'<circle class="{style}" cx="7" cy="7" r="5"/>',
        "ring": f'<circle class="{style} ring" cx="7" cy="7" r="5"/>',
        "diamond": f'<polygon class="{style}" points="7,1 13,7 7,13 1,7"/>',
    }
    return f'<svg viewBox="0 0 14 14" aria-hidden="true">{marks[shape]}</svg>'
