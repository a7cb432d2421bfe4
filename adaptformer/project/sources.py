"""The files of a project as the installed package has them, or the checkout that it is installed from."""

from __future__ import annotations

import re
from pathlib import Path

from adaptformer.pipeline.library_version import FILE
from adaptformer.project import contents


def source(name: str) -> Path:
    """Return the path of a file in the root of the checkout, or of its copy in the package (setup.py)."""
    packaged = Path(__file__).with_name("root")
    return (packaged if packaged.is_dir() else Path(__file__).parents[2]) / name


def texts() -> dict[str, str]:
    """Return the text of each file of a new project, by its path there."""
    root = source("")
    paths = {name: root / path for name, path in contents.FILES.items()}
    code = (path for folder in contents.FOLDERS for path in sorted((root / folder).rglob("*.py")))
    paths |= {path.relative_to(root).as_posix(): path for path in code}
    paths["README.md"] = Path(__file__).with_name("README.md")
    read = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
    return read | {"dvc.yaml": stages_text(read["dvc.yaml"]), ".dvc/config": _for_any_folder(read[".dvc/config"])}


def stages_text(text: str) -> str:
    """Return dvc.yaml for a project: each stage depends on its line of library.yaml, not on the library's code."""
    text = re.sub(r"^      - adaptformer/.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^    deps:\n(?!      - )", "", text, flags=re.MULTILINE)
    stage = re.compile(r"^  (\w+):\n(?:    .*\n)*?    params:\n(?:      - .*\n)+", re.MULTILINE)
    return stage.sub(lambda found: f"{found[0]}      - {FILE}:\n          - stages.{found[1]}\n", text)


def _for_any_folder(config: str) -> str:
    """Return DVC's settings without the one that `git archive` fills in; each project is looked at by itself."""
    return "".join(line for line in config.splitlines(keepends=True) if not re.search("In an archive|no_scm", line))
