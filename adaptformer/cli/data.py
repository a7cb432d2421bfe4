"""`adaptformer data`: commands that bring images into data/ and correct them there."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.base import files
from adaptformer.base.errors import UserError, without_credentials
from adaptformer.cli.parsing import add_overrides, options, positive, resolved

if TYPE_CHECKING:
    from adaptformer.cli.parsing import Commands
    from adaptformer.config.params import Params
    from adaptformer.curation.importing.growth import Growth
    from adaptformer.curation.importing.importing import ImportSummary
    from adaptformer.curation.importing.replacement import Change


LEFT_OUT = Path("artifacts/left_out.csv")
"""List of the files that an import left out, each with its reason."""
DOWNLOADS = Path("artifacts/downloads")
"""The working folder of `data download`, which is removed when all images are in data/."""
KNOWN = ("cifar10", "cifar100", "fashion-mnist", "flowers102", "food101", "svhn")
"""The data sets of curation/importing/known_data_sets.py; named here, because importing that module takes seconds."""
RELABELLED = Path("artifacts/relabelled.csv")
"""List of the images that `data relabel` moved, so that it can be undone."""


DEDUPLICATED = Path("artifacts/deduplicated.csv"), Path("artifacts/deduplicated")
"""List of the images that `data dedupe` moved and removed, and the folder that keeps the removed ones."""


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    data = commands.add_parser("data", help="bring images into data/ and record them with DVC")
    kinds = data.add_subparsers(required=True, metavar="KIND")
    for add_kind in (_add_sample, _add_import, _add_get, _add_check, _add_labels, _add_relabel, _add_dedupe):
        add_kind(kinds)


def _add_sample(kinds: Commands) -> None:
    command = kinds.add_parser("sample", help="write the sample: scikit-learn's 1,797 digits")
    command.set_defaults(command=_sample)


def _add_import(kinds: Commands) -> None:
    command = kinds.add_parser("import", help="copy the images of class folders or of a CSV file into data/")
    command.add_argument(
        "path",
        help="a folder with CLASS/FILE or train|validation|test/CLASS/FILE; a CSV: path,label[,split][,group]; tar or "
        "Parquet shards, 'train-{000..099}.tar'; any of the first and last by URL, such as s3://bucket/photos",
    )
    how = command.add_mutually_exclusive_group()
    how.add_argument("--add", action="store_true", help="add the images to those in data/, which keep their splits")
    how.add_argument("--replace", action="store_true", help="replace the images in data/ by the new ones")
    command.add_argument(
        "--skip-bad",
        action="store_true",
        help=f"leave out files that are not images or have no label, and list them in {LEFT_OUT}",
    )
    command.add_argument(
        "--repair", action="store_true", help="accept JPEG files that lack their end; the missing part becomes grey"
    )
    command.add_argument("--model", metavar="NAME", help="set registry.model, the registered model's name")
    command.set_defaults(command=_import)


def _add_get(kinds: Commands) -> None:
    command = kinds.add_parser(
        "download", help="download a known data set, or take ImageNet's folder, with official splits"
    )
    command.add_argument(
        "name", choices=[*KNOWN, "imagenet"], metavar="NAME", help=f"{', '.join(KNOWN)}, or imagenet (with a folder)"
    )
    command.add_argument("folder", type=Path, nargs="?", help="for imagenet: a folder with train/WNID/ and val/WNID/")
    command.add_argument("--replace", action="store_true", help="replace the images in data/ by it")
    command.set_defaults(command=_get)


def _add_check(kinds: Commands) -> None:
    command = kinds.add_parser("check", help="look for faults and copies in any number of images without an import")
    command.add_argument(
        "sources", nargs="+", metavar="PATH",
        help="a folder with CLASS/FILE or SPLIT/CLASS/FILE; tar or Parquet shards, 'train-{000..099}.tar'; or a URL",
    )  # fmt: skip
    command.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for the results; a repeated command continues"
    )
    command.add_argument(
        "--features", action="store_true", help="also store the fetched backbone's features of each image (on the CPU)"
    )
    command.add_argument("--engine", choices=["local", "dask", "ray"], default="local", help="default: %(default)s")
    command.add_argument("--workers", type=positive, default=0, help="number of processes (default: one per core)")
    command.add_argument("--address", help="address of a running Dask or Ray cluster, instead of processes here")
    command.set_defaults(command=_check)


def _add_labels(kinds: Commands) -> None:
    command = kinds.add_parser(
        "label-errors", help="list labels that are likely wrong, and a first accuracy before training"
    )
    add_overrides(command)
    command.set_defaults(command=_labels)


def _add_relabel(kinds: Commands) -> None:
    command = kinds.add_parser("relabel", help="move images to the classes that a CSV file gives: path,new_label")
    command.add_argument("file", type=Path, nargs="?", metavar="FILE")
    command.add_argument("--undo", action="store_true", help="undo the last relabelling")
    command.set_defaults(command=_relabel)


def _add_dedupe(kinds: Commands) -> None:
    command = kinds.add_parser(
        "dedupe", help="bring each group of near duplicates that `validate` found into one split, removing none"
    )
    manner = command.add_mutually_exclusive_group()
    manner.add_argument("--keep-one", action="store_true", help="remove all but one image of each group instead")
    manner.add_argument("--undo", action="store_true", help="undo the last dedupe")
    command.set_defaults(command=_dedupe)


def _sample(_given: argparse.Namespace) -> None:
    from adaptformer.curation.importing import sample
    from adaptformer.curation.importing.replacement import Change

    request = "adaptformer data sample"

    def write(data: Path) -> tuple[str, ...]:
        change = Change(request, lines=(_result(data, "the sample's 1,797 digits"),), once=True)
        sample.write_sample(data, change)
        return change.lines

    _change(request, write)


def _change(request: str, make: Callable[[Path], tuple[str, ...]], inputs: str = "") -> None:
    """Let `make` change data/, which no other process can change meanwhile, and print the lines that it returns.

    If the same command has made the change already before it was killed, only print its lines.
    """
    from adaptformer.base import interruption
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.curation.importing import replacement

    data = RunFolder().data
    with replacement.exclusive(data):
        done = replacement.repeated(data, request, inputs)
        lines = make(data) if done is None else done.lines
        interruption.too_late()
        if done is not None:
            print("This command has done its work already; it was stopped before it could report that.")
        print("\n".join(lines), flush=True)
        replacement.forget(data)


def _import(given: argparse.Namespace) -> None:
    from adaptformer.config import params
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.curation.importing import copying, growth, importing
    from adaptformer.data.stat_cache import StatCache

    file = params.read()
    named = file.replaced({"registry.model": given.model} if given.model else {})  # refuses a bad name before copying
    request = _request(given)

    def copy(data: Path) -> tuple[str, ...]:
        def grown(made: Growth) -> Change:
            return _addition(request, data, made, given.model)

        def imported(made: ImportSummary) -> Change:
            return _imported(request, data, made, named, given)

        known = StatCache(RunFolder().stat_cache)
        manner = copying.Manner(given.skip_bad, LEFT_OUT, DOWNLOADS / "source", known, given.repair)
        if given.add:
            change = grown(growth.add_images(given.path, data, named.data, manner, grown))
        else:
            change = imported(importing.import_folder(given.path, data, named.data, given.replace, manner, imported))
        known.write()
        return change.lines

    _change(request, copy)


def _request(given: argparse.Namespace) -> str:
    """Return the import as a command."""
    words = ["adaptformer", "data", "import", given.path]
    words += [
        f"--{name.replace('_', '-')}" for name in ("add", "replace", "skip_bad", "repair") if getattr(given, name)
    ]
    return shlex.join([*words, *(["--model", given.model] if given.model else [])])


def _imported(request: str, data: Path, summary: ImportSummary, named: Params, given: argparse.Namespace) -> Change:
    """Return the record of an import: its printed lines and the new values of params.yaml."""
    from adaptformer.curation.importing import csv_list
    from adaptformer.curation.importing.replacement import Change

    values = {**_about(given.model), "data.name": given.model or _name(given.path)}
    lines = [_result(data, str(summary))]
    if summary.groups and named.data.group_pattern != csv_list.GROUP_PATTERN:
        values["data.group_pattern"] = csv_list.GROUP_PATTERN
        lines.append(f"the list names groups: data.group_pattern in params.yaml is now {csv_list.GROUP_PATTERN}")
    lines.append(_next_steps(summary, named, Path(given.path)))
    return Change(request, lines=tuple(lines), params=values, once=not given.replace)


def _addition(request: str, data: Path, grown: Growth, model: str | None) -> Change:
    """Return the record of an addition: its printed lines and the new values of params.yaml."""
    from adaptformer.curation.importing.replacement import Change

    return Change(request, lines=(_result(data, "more images"), *grown.lines()), params=_about(model))


def _about(model: str | None) -> dict[str, str]:
    """Return the values of params.yaml that every change of the images sets."""
    return {"data.date": files.utc_now()[:10], **({"registry.model": model} if model else {})}


def _name(path: str) -> str:
    """Return a first name of the data set for pages, from its folder, list or shards; the user can change it."""
    place = Path(path)
    return place.stem if place.is_file() else place.resolve().name if place.is_dir() else without_credentials(path)


def _get(given: argparse.Namespace) -> None:
    from adaptformer import presets
    from adaptformer.config import params
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.curation.importing import copying, importing, known_data_sets
    from adaptformer.curation.importing.replacement import Change
    from adaptformer.data.stat_cache import StatCache

    if (given.name == "imagenet") != (given.folder is not None):
        raise UserError("only imagenet takes a folder, and it needs one", "see `adaptformer data download --help`")
    downloads = DOWNLOADS / given.name
    settings = params.read().params
    request = shlex.join(
        ["adaptformer", "data", "download", given.name, *([str(given.folder)] if given.folder else [])]
        + (["--replace"] if given.replace else [])
    )

    def download(data: Path) -> tuple[str, ...]:
        def change(summary: ImportSummary) -> Change:
            next_one = (
                f"next: adaptformer params --preset {given.name} --write   # image size, flips, the registered name"
            )
            known_one = given.name in presets.available()
            lines = (
                _result(data, str(summary)),
                next_one if known_one else _next_steps(summary, settings, Path(given.name)),
            )
            values = {"data.name": given.name, **_about(None)}
            return Change(request, lines=lines, params=values, once=not given.replace)

        if not given.replace:  # checked before hours of downloading
            importing.refuse_occupied(data, given.name, can_add=False)
        listed = (
            known_data_sets.imagenet(given.folder, downloads)
            if given.folder
            else known_data_sets.get(given.name, downloads)
        )
        facts = StatCache(RunFolder().stat_cache)
        # Published sets hold the same bytes in several splits or classes: such files are left out and listed.
        manner = copying.Manner(skip_bad=True, left_out=LEFT_OUT, known=facts)
        summary = importing.import_folder(listed, data, settings.data, given.replace, manner, change)
        facts.write()
        return change(summary).lines

    _change(request, download)
    known_data_sets.remove(downloads)


def _check(given: argparse.Namespace) -> None:
    from adaptformer.config import params
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.curation.sharded_checks import check_folder, checking
    from adaptformer.sharding.engines import Engine

    if given.address and given.engine == "local":
        raise UserError("--address is that of a Dask or Ray cluster", "give --engine dask or --engine ray as well")
    settings = params.read().params
    features = check_folder.features_of(RunFolder(), settings.image) if given.features else None
    engine = Engine(given.engine, given.workers, given.address)
    print("\n".join(checking.check(given.output, given.sources, engine, settings.checks, features).lines()))


def _labels(given: argparse.Namespace) -> None:
    from adaptformer.config import run_folder
    from adaptformer.curation.labels.label_errors import review
    from adaptformer.pipeline import stage_runner

    file, run_params = resolved(given)
    folder = run_folder.folder_for(file.params, run_params)
    stage_runner.require_inputs("train", folder, options(given))
    with folder.lock("adaptformer data label-errors"):
        label_review = review(run_params, folder)
    print("\n".join(label_review.lines(folder)))


def _relabel(given: argparse.Namespace) -> None:
    from adaptformer.config import params
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.curation.importing import relabelling

    if given.undo == (given.file is not None):
        raise UserError(
            "relabel takes a file, or --undo", f"run `adaptformer data relabel {RunFolder().label_ranking}`"
        )
    request = f"adaptformer data relabel {'--undo' if given.undo else shlex.quote(str(given.file))}"
    inputs = files.sha256_file(given.file) if given.file and given.file.is_file() else ""

    def move(data: Path) -> tuple[str, ...]:
        if given.undo:
            return tuple(relabelling.undo(data, RELABELLED, request))
        return tuple(relabelling.relabel(given.file, data, params.read().params.data, RELABELLED, request).lines())

    _change(request, move, inputs)
    _tell_next()


def _dedupe(given: argparse.Namespace) -> None:
    from adaptformer.config import params
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.curation.checks import findings
    from adaptformer.curation.importing import deduplication
    from adaptformer.data import manifest

    folder, places = RunFolder(), deduplication.Places(*DEDUPLICATED)
    options = [name for name in ("--keep-one", "--undo") if getattr(given, name.strip("-").replace("-", "_"))]
    request = shlex.join(["adaptformer", "data", "dedupe", *options])
    inputs = files.sha256_file(folder.findings) if folder.findings.is_file() and not given.undo else ""

    def settle(data: Path) -> tuple[str, ...]:
        if given.undo:
            return tuple(deduplication.undo(data, places, request))
        settings = params.read().params
        if not folder.findings.is_file():
            raise UserError(f"{folder.findings} is missing", "run `adaptformer validate` first")
        if off := [
            kind for kind in ("leaks", "label_conflicts", "duplicates") if getattr(settings.checks, kind) == "none"
        ]:
            print(f"checks.{' and checks.'.join(off)} are none: such pairs were not looked for")
        done = deduplication.dedupe(
            data, findings.read_pairs(folder.findings), manifest.read_manifest(folder.manifest), settings.data, places,
            keep_one=given.keep_one, request=request, inputs=inputs,
        )  # fmt: skip
        return tuple(done.lines())

    _change(request, settle, inputs)
    _tell_next()


def _tell_next() -> None:
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.curation.importing import recording

    recorded = recording.is_recorded(RunFolder().data)
    print("data.dvc records it; next: `make run`" if recorded else "next: `adaptformer run`")


def _next_steps(summary: ImportSummary, params: Params, source: Path) -> str:
    """Return the next commands for the images that were found, as lines."""
    from adaptformer.curation.importing import sample

    middle, size = summary.shorter_side, params.image.size
    lines = [f"half of the images have a shorter side of {middle} pixels or more; image.size is {size}"]
    if middle >= 4 * size:
        lines += [
            "next: put settings for photos into params.yaml, then run the pipeline",
            "  adaptformer params --preset photos --write   # without a GPU: --preset photos-small",
            "  make run",
        ]
    else:
        lines += ["next: run the pipeline, without or with Prefect", "  adaptformer run", "  make run"]
    registered = params.registry.model
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", source.resolve().name).strip("-_") or "photos"
    lines.append(f"the model will be registered as {registered}")
    if registered == sample.REGISTERED_AS:
        lines[-1] += f", the sample's name: `adaptformer params registry.model={name} --write` gives it its own"
    return "\n".join(lines)


def _result(data: Path, what: str) -> str:
    from adaptformer.curation.importing import recording

    return f"data/ holds {what}" + ("; recorded in data.dvc" if recording.is_recorded(data) else "")
