"""`adaptformer data`: images into data/."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaptformer.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    data = commands.add_parser("data", help="bring images into data/ and record them with DVC")
    kinds = data.add_subparsers(required=True, metavar="KIND")
    sample = kinds.add_parser("sample", help="write the sample: scikit-learn's 1,797 digits")
    sample.set_defaults(command=_sample)
    imported = kinds.add_parser("import", help="copy class folders, with or without splits, into data/")
    imported.add_argument("path", type=Path, help="CLASS/FILE, or train|validation|test/CLASS/FILE below it")
    imported.add_argument("--replace", action="store_true", help="put the new images in place of those in data/")
    imported.set_defaults(command=_import)


def _sample(_given: argparse.Namespace) -> None:
    from adaptformer.dataset_import import importing, sample
    from adaptformer.run_folder import RunFolder

    data = RunFolder().data
    sample.write_sample(data)
    _print_result(importing.dvc_add(data), "the sample's 1,797 digits")


def _import(given: argparse.Namespace) -> None:
    from adaptformer import params
    from adaptformer.dataset_import import importing
    from adaptformer.run_folder import RunFolder

    data = RunFolder().data
    loaded = params.load()
    summary = importing.import_folder(given.path, data, loaded.data, given.replace)
    _print_result(importing.dvc_add(data), str(summary))
    print(
        f"the model will be registered as {loaded.registry.model}: registry.model in params.yaml should name these data"
    )


def _print_result(recorded: bool, what: str) -> None:
    print(f"data/ holds {what}" + ("; recorded in data.dvc" if recorded else ""))
