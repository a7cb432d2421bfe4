"""HTML pages: templates (`*.html.j2`) that lie beside the code that fills them, and what all of them share.

`base.html.j2` is the shell of every page, `macros.html.j2` has the parts that pages are made of.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape as _html_escape
from numbers import Real
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape


def render(template: str, **values: object) -> str:
    """Return a page; `template` is its path below adaptformer/, `values` are what it shows.

    Values are escaped wherever they stand, and one that is missing is an error. Equal values give equal text.
    """
    return _environment().get_template(template).render(values, headings=[])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"anchor": _anchor, "base64": _base64, "percent": percent, "unbroken": _unbroken}
    environment.globals |= {"between": between}
    return environment


def _anchor(heading: str) -> str:
    """Return the id of the section with this heading."""
    return "-".join(re.findall("[a-z0-9]+", heading.lower()))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _unbroken(text: object) -> Markup:
    """Return text, escaped, in which no line breaks between a number and "%" or within "top-1"."""
    content = str(escape(text)).replace(" %", "\u00a0%")
    return Markup(re.sub(r"\btop-\d", r'<span class="unbroken">\g<0></span>', content))  # noqa: S704


_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5b6169; --paper: #ffffff; --raised: #f4f5f7;
  --line: #d9dce1; --accent: #2f6fab; --warn: #8a5a00; --warn-paper: #fff6e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --soft: #a3aab3; --paper: #16181b; --raised: #202328;
  --line: #363b42; --accent: #6fb1ee; --warn: #f0c66b; --warn-paper: #332a14; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 0; }
.tiles div { background: var(--raised); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .9rem; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.45rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 0 0 1.25rem; }
table { border-collapse: collapse; min-width: 50%; }
caption { text-align: left; color: var(--soft); padding-bottom: .35rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
.bar { display: block; height: .7rem; min-width: 1px; background: var(--accent); border-radius: .15rem; }
.bars { display: block; width: 12rem; }
.pictures { display: flex; flex-wrap: wrap; gap: .75rem; margin: 0; padding: 0; list-style: none; }
figure { margin: 0; }
figcaption { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; white-space: pre-line; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1.25rem 0 0; padding: 0; list-style: none; }
img { max-width: 100%; background: #fff; border: 1px solid var(--line); border-radius: .25rem; }
.pictures img { display: block; width: 6rem; height: 6rem; object-fit: contain; background: var(--raised); }
.pictures figure { width: max-content; min-width: 6rem; max-width: 9rem; }
section > figure { margin-bottom: 1.25rem; }
.warnings { background: var(--warn-paper); color: var(--warn); border-left: 4px solid var(--warn); margin: 1rem 0;
  padding: .6rem 1rem .6rem 2rem; }
@media print { body { max-width: none; padding: 0; } }
"""


def page(title: str, body: str) -> str:
    """Return a whole HTML page. `title` is escaped; `body` is HTML, made with the functions below or escaped before."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_html_escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{_html_escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(heading: str, body: str) -> str:
    """Return a part of a page below its heading, by which `contents` finds it. `heading` is escaped, `body` is HTML."""
    return f'<section id="{_anchor(heading)}">\n<h2>{_html_escape(heading)}</h2>\n{body}\n</section>'


def contents(headings: Iterable[str]) -> str:
    """Return links to the sections of these headings, so that a keyboard need not pass through all of a long page."""
    links = "".join(f'<li><a href="#{_anchor(heading)}">{_html_escape(heading)}</a></li>' for heading in headings)
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav>'


def tiles(values: Sequence[tuple[str, str]]) -> str:
    """Return large figures side by side, each with its name above: pairs of (name, value), both escaped."""
    pairs = "".join(f"<div><dt>{_html_escape(name)}</dt><dd>{_html_escape(value)}</dd></div>" for name, value in values)
    return f'<dl class="tiles">{pairs}</dl>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Return a table that scrolls sideways where it is too wide.

    Numbers are right-aligned, in columns of numbers also the heading. Cells are escaped, except those that `bar` or
    `picture` made (Html).
    """
    body = [list(row) for row in rows]
    numeric = [bool(body) and all(isinstance(row[i], _NUMBERS) for row in body) for i in range(len(columns))]
    head = "".join(
        f'<th scope="col"{_class(right)}>{_html_escape(name)}</th>'
        for name, right in zip(columns, numeric, strict=True)
    )
    lines = "\n".join(
        "<tr>" + "".join(f"<td{_class(isinstance(cell, _NUMBERS))}>{_cell(cell)}</td>" for cell in row) + "</tr>"
        for row in body
    )
    label = f"<caption>{_html_escape(caption)}</caption>" if caption else ""
    # A region that scrolls must be reachable by keyboard, and then needs a name.
    name = _html_escape(caption or ", ".join(columns), quote=True)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{name}">\n<table>{label}'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table>\n</div>"
    )


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


class Number(str):
    """A number written out, such as "98.05 %"; in a table it is right-aligned as other numbers are."""

    __slots__ = ()


def percent(share: float) -> Number:
    """Return a share of 1 as text."""
    return Number(f"{100 * share:.2f} %")


def between(low: float, high: float) -> Number:
    """Return a range of shares of 1 as text."""
    return Number(f"{100 * low:.1f} to {100 * high:.1f} %")


_NUMBERS = (Real, Number)


def _class(right: bool) -> str:
    return ' class="number"' if right else ""


def _cell(cell: object) -> str:
    return cell if isinstance(cell, Html) else _html_escape(str(cell))


def bar(share: float) -> Html:
    """Return a bar for a table's cell, `share` (0 to 1) of its column wide. The number must stand in a cell beside."""
    width = min(max(share, 0.0), 1.0) * 100
    return Html(f'<span class="bars" aria-hidden="true"><span class="bar" style="width:{width:.1f}%"></span></span>')


def picture(png: bytes, alt: str) -> Html:
    """Return a PNG as an image inside the page. `alt`, which says what it shows, is escaped."""
    encoded = base64.b64encode(png).decode("ascii")
    return Html(f'<img src="data:image/png;base64,{encoded}" alt="{_html_escape(alt, quote=True)}">')


def figure(png: bytes, alt: str, caption: str) -> str:
    """Return a PNG as large as it is, above its caption; both texts are escaped."""
    return f"<figure>{picture(png, alt)}<figcaption>{_html_escape(caption)}</figcaption></figure>\n"


def note(text: str) -> str:
    """Return a paragraph that explains what stands beside it, escaped."""
    return f'<p class="soft">{_html_escape(text)}</p>\n'


def pictures(items: Iterable[tuple[bytes, str]]) -> str:
    """Return small PNGs in a grid, each above its caption, which is escaped and serves as its description."""
    figures = "".join(
        f"<li><figure>{picture(png, caption)}<figcaption>{_html_escape(caption)}</figcaption></figure></li>"
        for png, caption in items
    )
    return f'<ul class="pictures">{figures}</ul>'


def warnings(lines: Sequence[str]) -> str:
    """Return a highlighted list of warnings, escaped; nothing when there are none."""
    if not lines:
        return ""
    return '<ul class="warnings">' + "".join(f"<li>{_html_escape(line)}</li>" for line in lines) + "</ul>"
