"""The page docs/api.md, from the docstrings of the API: `python -m adaptformer.api.reference > docs/api.md`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import adaptformer

HEAD = """# Python API

```python
import adaptformer as af

run = af.fit("photos/", backbone="dinov2-small", epochs=10, out="runs/pets")
run.metrics["top1"]  # a number, with .low and .high
run.report  # shows itself in a notebook
model = af.load("runs/pets")  # needs no torch; also a model.onnx, or "models:/pets@champion"
model.predict(["a.jpg"], top_k=3)[0].label
```

The same code as the command line: with the same images and values, the same files with the same bytes. The default of
every value is that of [params.md](params.md). `adaptformer fit PHOTOS --backbone dinov2-small --output runs/pets` is
`af.fit` in one command; it needs no project, git, DVC or MLflow.

`import adaptformer` takes no time and changes nothing in the process. When a name is first used, its module is imported
and the variables of [telemetry.md](telemetry.md) are set, unless they are set already. While a call works, its log
lines appear on standard error, unless the program has set up `logging` itself.

This page is generated from the docstrings, whose examples are tested:
`python -m adaptformer.api.reference > docs/api.md`.
"""
ORDER = ("fit", "Run", "Score", "Metrics", "Report", "load", "Model", "Answer", "check", "label_errors", "Classifier")
"""The names in the order of the page; UserError closes it."""
_MADE = ("Run", "Score", "Classifier")
"""The classes that a program calls; the others are what functions return."""


def markdown() -> str:
    """Return the page."""
    names = (*ORDER, "UserError")
    return "\n".join([HEAD, *(line for name in names for line in _entry(name))])


def public_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the methods and properties that a class itself defines for its users, in order, by name."""
    for name, member in vars(kind).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            yield name, member


def _entry(name: str) -> Iterator[str]:
    value = getattr(adaptformer, name)
    called = name in _MADE or not inspect.isclass(value)
    yield from (f"## {name}", "", *(_code(f"af.{name}{_signature(value)}") if called else ()), _prose(value), "")
    if not inspect.isclass(value):
        return
    for member, function in public_members(value):
        yield from (f"### {name}.{member}", "")
        if not isinstance(function, property):
            yield from _code(f".{member}{_signature(function, method=True)}")
        yield from (_prose(function), "")


def _signature(value: Any, *, method: bool = False) -> str:
    """Return the arguments as the source has them, without types: the text says what they are."""
    signature = inspect.signature(value)
    given = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    shown = signature.replace(parameters=given[1:] if method else given, return_annotation=signature.empty)
    return str(shown)


def _code(line: str) -> tuple[str, str, str, str]:
    return "```python", line, "```", ""


def _prose(value: Any) -> str:
    """Return a docstring as Markdown: its examples become blocks of code."""
    lines: list[str] = []
    within = False
    for line in (inspect.getdoc(value) or "").splitlines():
        if line.startswith(">>>") and not within:
            lines.append("```pycon")
            within = True
        elif within and not line:
            lines.append("```")
            within = False
        lines.append(line if within else re.sub(r"(?<!`)<(?!`)", r"\\<", line))
    return "\n".join([*lines, *(["```"] if within else [])])


if __name__ == "__main__":
    sys.stdout.write(markdown())
