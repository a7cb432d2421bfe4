"""The version of the library in a project that uses the installed package: the file library.yaml.

In the library's checkout DVC compares the code that each stage depends on. A project has no such code, so there each
stage depends on its line of this file, and the file is kept equal to the package.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from adaptformer.base import files, yaml_text
from adaptformer.base.errors import UserError
from adaptformer.pipeline import stages

log = logging.getLogger("adaptformer")

FILE = Path("library.yaml")
_HEAD = """\
# The installed package adaptformer that this project uses. Every run and `adaptformer init --update` keep it current.
# code: a hash of all code that stages run; stages: hashes of each one's code by its syntax tree, on which the stage
# depends in dvc.yaml; files: hashes of the project's files as adaptformer wrote them, which show the ones you changed.
"""


@dataclass(frozen=True)
class LibraryVersion:
    """What library.yaml holds. `code` is a hash of bytes, which takes no time to compute; `stages` are by name."""

    version: str
    code: str
    stages: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the content of the file."""
        return _HEAD + yaml_text.dump(asdict(self))


def installed() -> LibraryVersion:
    """Return the version that is installed, without files of a project; this takes a second."""
    try:
        version = metadata.version("adaptformer")
    except metadata.PackageNotFoundError:  # code that is only on the path
        version = "unknown"
    return LibraryVersion(version, _code(), {name: stages.code(name) for name in stages.STAGES})


def read(root: Path = Path()) -> LibraryVersion | None:
    """Return what a project's file holds, None if there is none. Raises UserError for a file that cannot be read."""
    path = root / FILE
    try:
        content = yaml_text.parse(path.read_text(encoding="utf-8"))
        return LibraryVersion(
            _text(content["version"]), _text(content["code"]), _texts(content["stages"]), _texts(content["files"])
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{path} cannot be read: {reason}", f"restore it, in a git repository with `git checkout {path}`"
        ) from error


def _texts(content: Any) -> dict[str, str]:
    return {_text(name): _text(content[name]) for name in content}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value} is no text")
    return value


def follow() -> None:
    """Write the present folder's file again if the package was replaced since, and log that."""
    recorded = read()
    if recorded is None or recorded.code == _code():
        return
    present = replace(installed(), files=recorded.files)
    files.write_text(FILE, present.text())
    changed = [name for name, code in present.stages.items() if recorded.stages.get(name) != code]
    if changed:
        log.info(
            "adaptformer is another one now (%s, before %s), with other code for %s; `adaptformer init --update` "
            "brings its files into this project",
            *(present.version, recorded.version, ", ".join(changed)),
        )


def require(stage: str) -> None:
    """Raise UserError if the present folder's file names other code for a stage than that of the package.

    DVC started the stage, and would record its outputs as made by the code that the file names.
    """
    recorded = read()
    if recorded is None or recorded.code == _code() or recorded.stages.get(stage) == stages.code(stage):
        return
    raise UserError(
        f"{FILE} names the code of adaptformer {recorded.version}, and the installed one has other code for {stage}",
        "run `adaptformer init --update`, then the same command again",
    )


def _code() -> str:
    """Return the sha256 of the bytes of all code that stages depend on."""
    sources = sorted({source for name in stages.STAGES for source in stages.sources(name)})
    digest = hashlib.sha256()
    for source in sources:
        content = source.read_bytes()
        digest.update(f"{source.relative_to(Path(stages.__file__).parents[1]).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
