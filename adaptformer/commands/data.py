"""`adaptformer data`: images into data/."""

from __future__ import annotations

import argparse
import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer import files
from adaptformer.commands.parsing import add_overrides, options, positive, resolved
from adaptformer.errors import UserError

if TYPE_CHECKING:
    from adaptformer.commands.parsing import Commands
    from adaptformer.dataset_import.importing import ImportSummary
    from adaptformer.params import Params


SKIPPED = Path("artifacts/import_skipped.csv")
"""What `--skip-bad` left out."""
DOWNLOADS = Path("artifacts/downloads")
"""Where `data get` works; it leaves nothing there when all is in data/."""
KNOWN = ("cifar10", "cifar100", "fashion-mnist", "flowers102", "food101", "svhn")
"""The data sets of dataset_import/known.py, whose import takes seconds."""
RELABELLED = Path("artifacts/relabelled.csv")
"""What `data relabel` moved, so that it can be undone."""


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    data = commands.add_parser("data", help="bring images into data/ and record them with DVC")
    kinds = data.add_subparsers(required=True, metavar="KIND")
    sample = kinds.add_parser("sample", help="write the sample: scikit-learn's 1,797 digits")
    sample.set_defaults(command=_sample)
    imported = kinds.add_parser("import", help="copy the images of class folders or of a CSV file into data/")
    imported.add_argument(
        "path",
        help="a folder with CLASS/FILE or train|validation|test/CLASS/FILE; a CSV: path,label[,split][,group]; tar or "
        "Parquet shards, 'train-{000..099}.tar'; any of the first and last by URL, such as s3://bucket/photos",
    )
    how = imported.add_mutually_exclusive_group()
    how.add_argument(
        "--add", action="store_true", help="bring new images in beside those in data/, which keep their splits"
    )
    how.add_argument("--replace", action="store_true", help="put the new images in place of those in data/")
    imported.add_argument(
        "--skip-bad", action="store_true", help=f"leave out what is no image, and list it in {SKIPPED}"
    )
    imported.add_argument("--model", metavar="NAME", help="set registry.model, the registered model's name, to this")
    imported.set_defaults(command=_import)
    known = kinds.add_parser("get", help="download a known data set, or take ImageNet's folder, with official splits")
    known.add_argument(
        "name", choices=[*KNOWN, "imagenet"], metavar="NAME", help=f"{', '.join(KNOWN)}, or imagenet (with a folder)"
    )
    known.add_argument("folder", type=Path, nargs="?", help="for imagenet: a folder with train/WNID/ and val/WNID/")
    known.add_argument("--replace", action="store_true", help="put it in place of what is in data/")
    known.set_defaults(command=_get)
    checked = kinds.add_parser("check", help="look for faults and copies in any number of images, where they are")
    checked.add_argument(
        "sources", nargs="+", metavar="PATH",
        help="a folder with CLASS/FILE or SPLIT/CLASS/FILE; tar or Parquet shards, 'train-{000..099}.tar'; or a URL",
    )  # fmt: skip
    checked.add_argument("--into", type=Path, required=True, metavar="DIR", help="again: look at what is missing")
    checked.add_argument(
        "--features", action="store_true", help="keep what the fetched backbone makes of each image, too (on the CPU)"
    )
    checked.add_argument("--engine", choices=["local", "dask", "ray"], default="local", help="default: %(default)s")
    checked.add_argument("--workers", type=positive, default=0, help="number of processes (default: one a core)")
    checked.add_argument("--address", help="of a Dask or Ray cluster that is up, instead of processes here")
    checked.set_defaults(command=_check)
    labels = kinds.add_parser("labels", help="list labels that are likely wrong, and a first accuracy before training")
    add_overrides(labels)
    labels.set_defaults(command=_labels)
    relabelled = kinds.add_parser("relabel", help="give images the classes that a CSV file says: path,new_label")
    relabelled.add_argument("file", type=Path, nargs="?", metavar="FILE")
    relabelled.add_argument("--undo", action="store_true", help="take the last relabelling back")
    relabelled.set_defaults(command=_relabel)


def _sample(_given: argparse.Namespace) -> None:
    from adaptformer.dataset_import import importing, sample
    from adaptformer.run_folder import RunFolder

    data = RunFolder().data
    sample.write_sample(data)
    _print_result(importing.dvc_add(data), "the sample's 1,797 digits")


def _import(given: argparse.Namespace) -> None:
    from adaptformer import params
    from adaptformer.data.known_facts import KnownFacts
    from adaptformer.dataset_import import csv_list, growth, importing, shards
    from adaptformer.presets import writing
    from adaptformer.run_folder import RunFolder

    data = RunFolder().data
    file = params.read()
    named = file.replaced({"registry.model": given.model} if given.model else {})  # refuses a bad name before copying
    skipped = SKIPPED if given.skip_bad else None
    if shards.is_source(given.path) and not given.add and not given.replace:
        importing.refuse_occupied(data, given.path)  # before anything is downloaded
    known = KnownFacts(RunFolder().known_facts)
    with _source(given.path, named.data.max_file_mb * 1_000_000) as source:
        if given.add:
            grown = growth.add_images(source, data, named.data, skipped, known)
        else:
            summary = importing.import_folder(source, data, named.data, given.replace, skipped, known)
    known.write()
    if given.add:
        _print_result(importing.dvc_add(data), "more images")
        print("\n".join(grown.lines()))
    else:
        _print_result(importing.dvc_add(data), str(summary))
        if summary.groups and named.data.group != csv_list.GROUP_PATTERN:
            writing.put(Path("params.yaml"), {"data.group": csv_list.GROUP_PATTERN})
            print(f"the list names groups: data.group in params.yaml is now {csv_list.GROUP_PATTERN}")
        print(_next_steps(summary, named, Path(given.path)))
    about = {} if given.add else {"data.name": given.model or _name(given.path)}
    model = {"registry.model": given.model} if given.model else {}
    writing.put(Path("params.yaml"), {**about, "data.date": files.utc_now()[:10], **model})


def _name(path: str) -> str:
    """Return what the data set is called on pages until the user says better: its folder, list or shards."""
    place = Path(path)
    return place.stem if place.is_file() else place.resolve().name if place.is_dir() else path


def _source(path: str, limit: int) -> contextlib.AbstractContextManager[Path]:
    """Return a folder or a list as it is, and shards or what a URL names as a folder for the body."""
    from adaptformer.dataset_import import shards

    if shards.is_source(path):
        return shards.as_folder(path, DOWNLOADS / "shards", limit)
    return contextlib.nullcontext(Path(path))


def _get(given: argparse.Namespace) -> None:
    from adaptformer import params, presets
    from adaptformer.data.known_facts import KnownFacts
    from adaptformer.data.layout import occupied
    from adaptformer.dataset_import import importing, known
    from adaptformer.presets import writing
    from adaptformer.run_folder import RunFolder

    if (given.name == "imagenet") != (given.folder is not None):
        raise UserError("only imagenet takes a folder, and it needs one", "see `adaptformer data get --help`")
    data, downloads = RunFolder().data, DOWNLOADS / given.name
    settings = params.read().params
    if occupied(data) and not given.replace:  # before hours of downloading
        raise UserError(f"{data}/ is not empty", f"move {data}/ away, then run the same command again")
    listed = known.imagenet(given.folder, downloads) if given.folder else known.get(given.name, downloads)
    facts = KnownFacts(RunFolder().known_facts)
    summary = importing.import_folder(listed, data, settings.data, given.replace, known=facts)
    facts.write()
    known.remove(downloads)
    _print_result(importing.dvc_add(data), str(summary))
    writing.put(Path("params.yaml"), {"data.name": given.name, "data.date": files.utc_now()[:10]})
    if given.name in presets.available():
        print(f"next: adaptformer params --preset {given.name} --write   # image size, flips, the registered name")
    else:
        print(_next_steps(summary, settings, Path(given.name)))


def _check(given: argparse.Namespace) -> None:
    from adaptformer import params
    from adaptformer.batch_prediction.running import Engine
    from adaptformer.large_data import checking, job
    from adaptformer.run_folder import RunFolder

    if given.address and given.engine == "local":
        raise UserError("--address is that of a Dask or Ray cluster", "give --engine dask or --engine ray as well")
    settings = params.read().params
    features = job.features_of(RunFolder(), settings.image) if given.features else None
    engine = Engine(given.engine, given.workers, given.address)
    print("\n".join(checking.check(given.into, given.sources, engine, settings.checks, features).lines()))


def _labels(given: argparse.Namespace) -> None:
    from adaptformer import run_folder, stage_runner
    from adaptformer.labels.review import review

    file, wanted = resolved(given)
    folder = run_folder.of(file.params, wanted)
    stage_runner.require_inputs("train", folder, options(given))
    with folder.lock("adaptformer data labels"):
        found = review(wanted, folder)
    print("\n".join(found.lines(folder)))


def _relabel(given: argparse.Namespace) -> None:
    from adaptformer import params
    from adaptformer.dataset_import import importing, relabelling
    from adaptformer.run_folder import RunFolder

    if given.undo == (given.file is not None):
        raise UserError(
            "relabel takes a file, or --undo", f"run `adaptformer data relabel {RunFolder().label_ranking}`"
        )
    data = RunFolder().data
    if given.undo:
        count = relabelling.undo(data, RELABELLED)
        said = [f"gave {count:,} images their labels back, and every image its place"]
    else:
        said = relabelling.relabel(given.file, data, params.read().params.data, RELABELLED).lines()
    recorded = importing.dvc_add(data)
    print("\n".join(said))
    print("data.dvc records it; next: `make run`" if recorded else "next: `adaptformer pipeline`")


def _next_steps(summary: ImportSummary, params: Params, source: Path) -> str:
    """Return what to do with the images that were found: the two commands that come next."""
    from adaptformer.dataset_import import sample

    middle, size = summary.shorter_side, params.image.size
    lines = [f"half of the images have a shorter side of {middle} pixels or more; image.size is {size}"]
    if middle >= 4 * size:
        lines += [
            "next: put settings for photos into params.yaml, then run the pipeline",
            "  adaptformer params --preset photos backbone.sha256=… --write   # the hash: see `adaptformer backbones`",
            "  make run",
        ]
    else:
        lines += ["next: see what training takes, or run the pipeline", "  adaptformer pipeline", "  make run"]
    registered = params.registry.model
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", source.resolve().name).strip("-_") or "photos"
    lines.append(f"the model will be registered as {registered}")
    if registered == sample.REGISTERED_AS:
        lines[-1] += f", the sample's name: `adaptformer params registry.model={name} --write` gives it its own"
    return "\n".join(lines)


def _print_result(recorded: bool, what: str) -> None:
    print(f"data/ holds {what}" + ("; recorded in data.dvc" if recorded else ""))
