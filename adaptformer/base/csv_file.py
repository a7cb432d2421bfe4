r"""CSV as this project writes and reads it: UTF-8, line feeds, a header, rows of equal length, safe texts.

People open these files in spreadsheets, which take a cell such as `=cmd|...` for a formula. A text that begins with one
of `= + - @`, a tab or a line end gets an apostrophe in front, as OWASP advises against CSV injection; a text that has
apostrophes there already gets one more, so each text reads back as it was. Numbers stay numbers. Bytes of a file name
that are not UTF-8 are written as escapes such as \udcff, because otherwise the whole file could not be read.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from adaptformer.base import names

if TYPE_CHECKING:
    import pandas as pd

_STARTS = "=+@\t\r\n＝＋－＠-"
"""Characters that begin a formula in a spreadsheet: OWASP's list, with the wide forms of East Asian keyboards."""
_GUARDED_STARTS = {*_STARTS, "'"}
_UNSAFE = re.compile(f"'*[{_STARTS}]")
_SAFE = re.compile(f"'+[{_STARTS}]")


def guarded(text: str) -> str:
    """Return a text as a cell that no spreadsheet takes for a formula, and that can be stored as UTF-8."""
    return names.storable(f"'{text}" if _UNSAFE.match(text) else text)


def unguarded(cell: str) -> str:
    """Return the text of a cell that `guarded` made."""
    return cell[1:] if _SAFE.match(cell) else cell


class _LineFeeds:
    """Ends rows in a line feed. Python's csv only quotes its own line ends, and a name may hold a carriage return."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, row: str) -> None:
        """Write a row that ends in CR LF."""
        self._out.write(row.removesuffix("\r\n") + "\n")


class Writer:
    """Writes rows as CSV to an open text file, each cell by `guarded`; no cell can steer a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._rows = csv.writer(_LineFeeds(out), lineterminator="\r\n")
        self._terminal = out.isatty()

    def row(self, cells: Iterable[object]) -> None:
        """Write a row; a number is written as it is, None as an empty cell, everything else as a text."""
        self._rows.writerow(map(self._cell, cells))

    def _cell(self, cell: object) -> object:
        if cell is None or isinstance(cell, int | float):
            return cell
        return guarded(names.shown(str(cell)) if self._terminal else str(cell))


def text(table: pd.DataFrame, columns: Sequence[str] | None = None) -> str:
    """Return a table, or only these `columns` of it, as CSV; equal rows give equal text."""
    import pandas as pd

    selected = table if columns is None else table[list(columns)]
    safe = selected.copy(deep=False)
    for name, values in selected.items():
        if values.dtype.kind not in "iufb" and (cells := _guarded(list(values))) is not None:
            safe[name] = pd.Series(cells, selected.index, dtype=object)
    out = io.StringIO()
    rows = cast("TextIO", _LineFeeds(out))  # pandas only calls `write`
    safe.to_csv(rows, index=False, header=[guarded(str(name)) for name in safe], lineterminator="\r\n")
    return names.storable(out.getvalue())


def _guarded(cells: list[object]) -> list[object] | None:
    """Return cells as `guarded` makes them; None if that changes none of them, which is nearly always so."""
    if not any(isinstance(cell, str) and cell[:1] in _GUARDED_STARTS for cell in cells):
        return None
    return [guarded(cell) if isinstance(cell, str) else cell for cell in cells]


def read(source: Path) -> pd.DataFrame:
    """Return the rows of a CSV file, all cells as texts.

    Raises OSError, and ValueError with one line of reason if it is not such a file.
    """
    import pandas as pd

    with source.open(encoding="utf-8-sig", newline="") as file:
        lines = rows(file)
        header = next(lines)
        columns: list[Sequence[str]] = list(zip(*lines, strict=True)) or [()] * len(header)
    return pd.DataFrame({name: pd.Series(cells, dtype="str") for name, cells in zip(header, columns, strict=True)})


def rows(file: Iterable[str]) -> Iterator[list[str]]:
    """Yield the header of an open CSV file, then each row as texts; empty lines are skipped.

    Raises ValueError for a file without a header, a column twice, or a row with more or fewer cells than the header.
    """
    reader = csv.reader(file, strict=True)
    width = 0
    try:
        for cells in reader:
            if not cells:
                continue
            joined = "".join(cells)
            row = [unguarded(cell) for cell in cells] if "'" in joined else cells
            if "\0" in joined:
                raise ValueError(f"line {reader.line_num} has a NUL character")
            if not width:
                width = len(row)
                row = [row[0].lstrip("\ufeff"), *row[1:]]  # joined files may begin with several such marks
                if twice := {name for name in row if row.count(name) > 1}:
                    raise ValueError(f"it has the column {min(twice)!r} twice")
            elif len(row) != width:
                raise ValueError(f"line {reader.line_num} has {len(row)} cells, and the header {width}")
            yield row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    if not width:
        raise ValueError("it is empty")
