"""Checksums in files or beside them, verified whenever a file is read back.

If a disk, a copy or an editor changes a file, this must not silently change a result. Binary files that travel alone
(safetensors, ONNX) hold their checksum inside; JSON records have a key for it; a CSV file has it beside, in the format
of `sha256sum`. A file's own reader returns what was written, or raises the one error of `altered`.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from adaptformer.base import files
from adaptformer.base.errors import UserError

log = logging.getLogger("adaptformer")

KEY = "checksum"
"""The key of a JSON record's own checksum: the sha256 of its canonical JSON without this key."""


def altered(path: Path | str, remedy: str) -> UserError:
    """Return the one error for a file whose checksum differs from its content."""
    return UserError(f"{path} is not what was written: its checksum does not match", remedy)


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with its own checksum, whole or not at all; equal content gives equal bytes."""
    files.write_text(path, record(content))


def record(content: dict[str, Any]) -> str:
    """Return the text of a JSON object with its own checksum."""
    sealed = {**content, KEY: _checksum(content)}
    return json.dumps(sealed, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_record(path: Path, remedy: str) -> dict[str, Any]:
    """Return a JSON object that `write_record` wrote, without its checksum.

    Raises UserError with `remedy` for a file that cannot be read, is no such record, or was altered.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:120]}", remedy) from error
    return parse_record(data, path, remedy)


def parse_record(data: bytes, path: Path | str, remedy: str) -> dict[str, Any]:
    """Return the content of a record's bytes, as `read_record` does; `path` is only for error messages."""
    try:
        content = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:120]}", remedy) from error
    if not isinstance(content, dict) or KEY not in content:
        raise UserError(f"{path} has no checksum", remedy)
    if content.pop(KEY) != _checksum(content):
        raise altered(path, remedy)
    return content


def write_beside(path: Path) -> None:
    """Write the checksum of a file beside it, as `sha256sum` does; `sha256sum --check` verifies it too."""
    files.write_text(beside(path), _line(files.sha256_file(path), path))


def with_beside(path: Path, text: str) -> dict[str, str]:
    """Return the texts to write, by path, for a file with this text and for the checksum beside it."""
    return {str(path): text, str(beside(path)): _line(files.sha256_text(text), path)}


def _line(sha256: str, path: Path) -> str:
    return f"{sha256}  {path.name}\n"


def check_beside(path: Path, remedy: str) -> None:
    """Raise UserError with `remedy` if a file is not what the checksum beside it names, or if there is none."""
    try:
        expected, _, name = beside(path).read_text(encoding="utf-8").rstrip("\n").partition("  ")
        present = files.sha256_file(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be verified: {' '.join(str(error).split())[:120]}", remedy) from error
    if (expected, name) != (present, path.name):
        raise altered(path, remedy)


def is_intact(path: Path) -> bool:
    """Return whether a file that can be computed again is there and is what the checksum beside it names.

    If it is there, but has to be computed again, a warning says so.
    """
    if not path.is_file():
        return False
    try:
        check_beside(path, "")
    except UserError as error:
        log.warning("%s: it is computed again", error.cause)
        return False
    return True


def beside(path: Path) -> Path:
    """Return the path of the file that holds the checksum of `path`."""
    return path.with_name(f"{path.name}.sha256")


def _checksum(content: dict[str, Any]) -> str:
    return files.sha256_text(files.canonical_json(content))
