"""Pages: templates (`*.html.j2`, `*.md.j2`) beside the code that fills them, and what all of them share.

`base.html.j2` is the shell of every HTML page, `macros.html.j2` has the parts that pages are made of.
"""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape


def render(template: str, **values: object) -> str:
    """Return a page; `template` is its path below adaptformer/, `values` are what it shows.

    In HTML values are escaped wherever they stand; a Markdown template escapes them itself. A value that is missing is
    an error. Equal values give equal text.
    """
    return _environment().get_template(template).render(values, headings=[])


def percent(share: float) -> str:
    """Return a share of 1 as text."""
    return f"{100 * share:.2f} %"


def between(low: float, high: float) -> str:
    """Return a range of shares of 1 as text."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1]),
        autoescape=select_autoescape(disabled_extensions=("md.j2",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "anchor": _anchor,
        "base64": _base64,
        "percent": percent,
        "thousands": "{:,}".format,
        "unbroken": _unbroken,
    }
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
