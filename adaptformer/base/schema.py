"""Parsing of files' cards by the types and ranges of their dataclasses: content of a file is never trusted."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from adaptformer.base import files, names

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""The value of `__pydantic_config__` in such a dataclass: exactly its keys, no text as a number, no NaN."""

T = TypeVar("T")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1, le=2**62)]
Mean = Annotated[float, Field(ge=-1000, le=1000)]
Means = tuple[Mean, Mean, Mean]
Deviation = Annotated[float, Field(gt=0, le=1000)]
Deviations = tuple[Deviation, Deviation, Deviation]


def _class_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    for name in classes:
        if fault := names.class_name_fault(name):
            raise ValueError(f"the class name {names.shown(name)!r} {fault}")
    if len(set(classes)) < len(classes):
        raise ValueError(f"the class name {Counter(classes).most_common(1)[0][0]!r} is there twice")
    return classes


ClassNames = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_class_names)]


def parse(kind: type[T], content: object) -> T:
    """Return JSON-able `content` as the dataclass or model `kind`.

    Raises ValueError with a text of one line: the first value that does not fit, and why.
    """
    untyped: Any = kind
    try:
        parsed: T = _adapter(untyped).validate_json(files.canonical_json(content), strict=True)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ValueError(names.shown(f"{place}: {first['msg'].removeprefix('Value error, ')}")[:200]) from error
    return parsed


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
