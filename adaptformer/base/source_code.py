"""Hashes of source code by its syntax tree: an edited comment, docstring or layout changes none of them.

Results that took long to compute are kept with the hash of the code that computed them, and used again as long as the
code means the same.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from types import ModuleType

from adaptformer.base import files


@functools.cache
def sha256(path: Path) -> str:
    """Return the sha256 of a Python file's code without comments and docstrings; of any other file, of its bytes.

    A file is read once in each process: what runs is the code of the first import.
    """
    if path.suffix != ".py":
        return files.sha256_file(path)
    return files.sha256_text(meaning(path.read_text(encoding="utf-8")))


def of(module: ModuleType) -> str:
    """Return the sha256 of a module's code, as above."""
    return sha256(Path(str(module.__file__)))


def meaning(source: str) -> str:
    """Return Python source in one form: as ast.unparse writes it, without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A text that stands alone is a docstring, also below an assignment, as it documents constants here.
            body[:] = [one for one in body if not _is_text(one)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
