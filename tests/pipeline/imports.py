"""The imports of this repository's files, found by parsing, for the tests that hold their direction."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("adaptformer", "tasks", "flows")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports, anywhere in it, but for type checking only."""
    return set(_imports(ast.parse(path.read_text()).body))


def imported_by_function(path: Path) -> dict[str, set[str]]:
    """Modules imported within each top-level function of a file; under "" those imported outside of them."""
    tree = ast.parse(path.read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    found = {function.name: set(_imports(function.body)) for function in functions}
    return {**found, "": set(_imports(node for node in tree.body if node not in functions))}


def _imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            yield from (_resolved(node.module or "", alias.name) for alias in node.names)
        else:
            yield from _imports(ast.iter_child_nodes(node))


def _resolved(module: str, name: str) -> str:
    """`from a import b` imports the module a.b where there is one, else a."""
    place = ROOT.joinpath(*module.split("."), name)
    return f"{module}.{name}" if place.with_suffix(".py").is_file() or place.is_dir() else module


DIVIDED = {"curation"}
"""Folders whose own folders are units: stages depend on some of them only."""


def unit(module: str) -> str | None:
    """Folder or top-level file of the library that a module belongs to; None outside of it."""
    first, *rest = module.split(".")
    if first != "adaptformer" or not rest:
        return None
    if rest[0] in DIVIDED and len(rest) > 1:
        return "/".join(rest[:2])
    return rest[0] if (ROOT / "adaptformer" / rest[0]).is_dir() else f"{rest[0]}.py"


def units_imported_by(name: str) -> set[str]:
    """Units that a unit's files import, itself left out."""
    place = ROOT / "adaptformer" / name
    inner = place.glob("*.py") if name in DIVIDED else place.rglob("*.py")
    files = sorted(inner) if place.is_dir() else [place]
    return {other for path in files for module in imported(path) if (other := unit(module))} - {name}


def closure(units: set[str]) -> set[str]:
    """The units and all that they import, directly or not."""
    reached: set[str] = set()
    waiting = set(units)
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= units_imported_by(name) - reached
    return reached
