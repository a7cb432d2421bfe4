"""Tables of text: aligned columns for a terminal, Markdown for pages that render it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from adaptformer.base import names


def aligned(rows: Iterable[Sequence[str]], headers: Sequence[str] = ()) -> str:
    """Return rows as lines whose columns are aligned, two spaces apart, below a line of headers if there are any."""
    safe = [[names.shown(cell) for cell in row] for row in [*([headers] if headers else []), *rows]]
    table = tabulate(safe, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in table.splitlines())


def markdown(rows: Iterable[Sequence[str]], headers: Sequence[str], numbers: Sequence[str] = ()) -> str:
    """Return a Markdown table; the columns named in `numbers` are right-aligned. Cells must be escaped already."""
    sides = ["---:" if name in numbers else "---" for name in headers]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headers, sides, *rows)) + "\n"


def escaped(text: str) -> str:
    """Return text in which Markdown and HTML have no special characters: names of classes may hold any character."""
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", names.shown(" ".join(text.split())))
