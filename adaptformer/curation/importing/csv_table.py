"""Reader of tables in CSV files with any common encoding, separator and column names."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from adaptformer.base import csv_file
from adaptformer.base.errors import UserError
from adaptformer.base.names import one_form, quoted, shown

_SEPARATORS = (",", ";", "\t")
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Row(NamedTuple):
    """A row: the number of its line, and its values by the requested names."""

    line: int
    values: Mapping[str, str]


class Table(NamedTuple):
    """The rows of a table, the numbers of blank lines, the names of the other columns, and the file's encoding."""

    rows: Sequence[Row]
    blank: Sequence[int]
    other: Sequence[str]
    encoding: str


def read(source: Path, headers_of: Mapping[str, Sequence[str]], needed: Sequence[str], remedy: str) -> Table:
    """Return columns by name; each name has possible headers, `headers_of`, of which the first one in the file counts.

    Headers match in any case. Raises UserError with `remedy` if the file cannot be read, lacks a `needed` column,
    repeats a wanted column, or has a row that is longer than the header.
    """
    text, encoding = _decoded(source, remedy)
    separator = max(_SEPARATORS, key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    try:
        header = [one_form(name.strip().casefold()) for name in next(reader, [])]
        columns = _columns(source, header, headers_of, needed, remedy)
        rows, blank = [], []
        for fields in reader:
            if not any(field.strip() for field in fields):
                blank.append(reader.line_num)
                continue
            if len(fields) > len(header) and any(field.strip() for field in fields[len(header) :]):
                raise UserError(
                    f"{source}, line {reader.line_num}: {len(fields)} fields, and the header has {len(header)}", remedy
                )
            padded = [*fields, *[""] * (len(header) - len(fields))]
            values = {name: csv_file.unguarded(padded[index]) for name, index in columns.items()}
            rows.append(Row(reader.line_num, values))
    except csv.Error as error:
        raise UserError(f"{source} cannot be read: line {reader.line_num}: {error}", remedy) from error
    if not rows:
        raise UserError(f"{source} lists no images", remedy)
    other = [shown(name) or "one without a name" for index, name in enumerate(header) if index not in columns.values()]
    return Table(rows, blank, other, encoding)


def _decoded(source: Path, remedy: str) -> tuple[str, str]:
    """Return the text of a file and its encoding: by its byte order mark, else UTF-8, else Windows-1252."""
    try:
        content = source.read_bytes()
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}", remedy) from error
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    for encoding in [marked] if marked else ["utf-8", "cp1252"]:
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise UserError(f"{source} is neither UTF-8, UTF-16 nor Windows-1252", f"save it as UTF-8; {remedy}")


def _columns(
    source: Path, header: list[str], headers_of: Mapping[str, Sequence[str]], needed: Sequence[str], remedy: str
) -> dict[str, int]:
    """Return the index of each wanted column that is there."""
    columns = {}
    for name, headers in headers_of.items():
        there = [one for one in headers if one in header]
        if there and header.count(there[0]) > 1:
            raise UserError(f"{source} has the column {quoted(there[0])} {header.count(there[0])} times", remedy)
        if there:
            columns[name] = header.index(there[0])
    if [name for name in needed if name not in columns]:
        raise UserError(f"{source} has the columns {shown(', '.join(header)) or '(none)'}", remedy)
    return columns
