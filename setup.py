"""Puts the files of a project, which are in the root, into the wheel; everything else is in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONTENTS = runpy.run_path("adaptformer/project/contents.py")


class BuildWithProject(build_py):
    """Copies the files of a project to adaptformer/project/root/, where adaptformer/project/sources.py reads them."""

    def run(self) -> None:
        """Build as usual, then copy; a checkout that is installed as editable has the files in its root."""
        super().run()
        if self.editable_mode:
            return
        code = (path for folder in CONTENTS["FOLDERS"] for path in sorted(Path(folder).rglob("*.py")))
        for source in (*map(Path, CONTENTS["FILES"].values()), *code):
            target = Path(self.build_lib, "adaptformer", "project", "root", source)
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))


setup(cmdclass={"build_py": BuildWithProject})
