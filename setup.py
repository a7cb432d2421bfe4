"""Puts params.yaml, the one file of default values, into the wheel; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithDefaults(build_py):
    """Copies params.yaml beside its loader, where adaptformer/api/settings.py looks for it."""

    def run(self) -> None:
        """Build as usual, then copy the file; a checkout that is installed as editable has it in its root."""
        super().run()
        if not self.editable_mode:
            self.copy_file("params.yaml", str(Path(self.build_lib, "adaptformer", "config", "params.yaml")))


setup(cmdclass={"build_py": BuildWithDefaults})
