"""Checkpoints, adapter files and exported models: list, inspect, predict, pretrain."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.base.errors import UserError
from adaptformer.cli.parsing import add_model_option, positive, share

if TYPE_CHECKING:
    from adaptformer.cli.parsing import Commands
    from adaptformer.prediction.predictor import Prediction


STANDARD_INPUT = "-"
MANY = ("--engine", "--workers", "--address", "--shard-size")
"""Options of `predict` that need --output."""


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    backbones = commands.add_parser("backbones", help="list the preconfigured checkpoints")
    backbones.set_defaults(command=_backbones, reads_data=False)

    inspect = commands.add_parser("inspect", help="show what an adapter file holds")
    inspect.add_argument("file", type=Path, metavar="FILE", help="an adapter file from training: adapter.safetensors")
    inspect.set_defaults(command=_inspect, reads_data=False)

    predict = commands.add_parser("predict", help="classify images with an exported model, without torch")
    predict.add_argument(
        "paths", nargs="+", metavar="PATH",
        help="an image, a folder, or - for standard input; with --output also a list (.csv, .parquet) and a URL",
    )  # fmt: skip
    add_model_option(predict)
    predict.add_argument(
        "--top-k", type=positive, default=3, help="classes shown for each image (default: %(default)s)"
    )
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="write CSV to standard output instead of a table")
    form.add_argument("--json", action="store_true", help="write one JSON object per line instead")
    predict.add_argument(
        "--min-confidence",
        type=share,
        default=0.0,
        metavar="BELOW",
        help="mark answers whose probability is below this, such as 0.8",
    )
    predict.add_argument("--sort-into", type=Path, metavar="DIR", help="copy each image to DIR/CLASS/ (or DIR/unsure/)")
    predict.add_argument(
        "--unverified", action="store_true", help="accept a model that another tool has rewritten, such as a quantiser"
    )
    predict.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    many = predict.add_argument_group(
        "very many images", "predicted in shards by several processes: docs/batch_prediction.md"
    )
    many.add_argument("--output", metavar="DIR", help="write Parquet files there; a repeated command continues")
    many.add_argument("--engine", choices=["local", "dask", "ray"], help="what runs the processes (default: local)")
    many.add_argument("--workers", type=positive, help="number of processes (default: one per core, one with a GPU)")
    many.add_argument("--address", help="address of a running Dask or Ray cluster, instead of processes here")
    many.add_argument("--shard-size", type=positive, help="images per shard (default: 1000)")
    predict.set_defaults(command=_predict, reads_data=False)

    pretrain = commands.add_parser("pretrain", help="pretrain a small encoder on unlabelled images (MAE)")
    pretrain.add_argument("images", type=Path, help="folder with images in any depth")
    pretrain.add_argument("output", type=Path, help="checkpoint to write (.safetensors)")
    pretrain.add_argument("--model", default="vit_nano_patch4_32", help="architecture (default: %(default)s)")
    pretrain.add_argument("--epochs", type=positive, required=True)
    pretrain.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = one per core")
    pretrain.add_argument("--origin", required=True, help="what the images are, for the checkpoint's card")
    pretrain.add_argument("--licence", required=True, help="licence of the weights, for the checkpoint's card")
    pretrain.set_defaults(command=_pretrain, reads_data=False)


def _backbones(_given: argparse.Namespace) -> None:
    from adaptformer.backbones import catalogue

    print(catalogue.table())


def _inspect(given: argparse.Namespace) -> None:
    from adaptformer.cli import inspection

    print(inspection.text(given.file))


def _predict(given: argparse.Namespace) -> None:
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.registry import model_choice

    _require_matching_options(given)
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder()
        choice = model_choice.choose(given.model, folder)
        file = model_choice.file_of(choice, folder, Path(scratch))
        if given.output:
            print(choice.line, file=sys.stderr)
            _predict_in_shards(given, file)
        else:
            sources = [_image_source(path, Path(scratch)) for path in given.paths]
            _predict_here(given, choice.line, file, sources)


def _image_source(named: str, scratch: Path) -> Path:
    """Return the path of the images to classify; standard input is copied to a file."""
    if named == STANDARD_INPUT:
        path = scratch / "standard-input"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return path
    if "://" in named:
        raise UserError(
            f"{named} is an address, which only --output can read", "give --output DIR: predictions as Parquet files"
        )
    return Path(named)


def _predict_here(given: argparse.Namespace, answering: str, file: Path, sources: list[Path]) -> None:
    from adaptformer.base import streams
    from adaptformer.prediction import prediction_table, predictor, sorting

    paths = predictor.images_below(sources)
    model = predictor.Predictor(file, device=given.device, unverified=given.unverified)
    print(f"{answering}, on {model.provider}", file=sys.stderr)
    named, faults = {path for path in sources if path.is_file()}, Counter[bool]()
    unanswered: list[Prediction] = []
    shown = {path: Path(name) for path, name in zip(sources, given.paths, strict=True) if name == STANDARD_INPUT}

    def classified() -> Iterator[Prediction]:
        for prediction in model.predict(paths, given.top_k):
            if prediction.fault == predictor.NO_ANSWER:
                unanswered.append(prediction)
                yield replace(prediction, path=shown.get(prediction.path, prediction.path))
                continue
            faults[prediction.path in named] += bool(prediction.fault)
            if not prediction.fault or prediction.path in named:
                yield replace(prediction, path=shown.get(prediction.path, prediction.path))

    predictions = classified()
    if given.sort_into:
        sorting.require_apart(model.classes, given.min_confidence)
        predictions = sorting.sorted_into(given.sort_into, predictions, given.min_confidence)
    if given.csv or given.json:
        streams.as_utf8()
    if given.csv:
        prediction_table.write_csv(sys.stdout, predictions, given.top_k, given.min_confidence)
    elif given.json:
        prediction_table.write_json(sys.stdout, predictions, given.min_confidence)
    else:
        prediction_table.write_table(sys.stdout, predictions, given.min_confidence)
    if faults[False]:
        print(f"left out {faults[False]} files in folders that are no images", file=sys.stderr)
    if unanswered:
        raise UserError(
            f"{file} has no answer to {len(unanswered)} of {len(paths)} files: it gives no finite numbers",
            "the others were classified; predict these with another model, or train and export this one again",
        )
    if faults[True]:
        raise UserError(
            f"{faults[True]} of the files could not be read as images",
            "the others were classified; repair these, or move them away",
        )
    if sum(faults.values()) == len(paths):
        raise UserError("none of the files is an image", "give image files, or folders that hold some")


def _require_matching_options(given: argparse.Namespace) -> None:
    """Raise UserError for options that would have no effect, because they belong to the other way to predict."""
    few = {
        "--csv": given.csv,
        "--json": given.json,
        "--sort-into": given.sort_into,
        "--min-confidence": given.min_confidence,
    }
    many = {name: getattr(given, name.strip("-").replace("-", "_")) for name in MANY}
    if STANDARD_INPUT in given.paths and (given.output or given.sort_into):
        raise UserError(
            "standard input is not a file that can be listed or copied", "save it as a file, or leave the folder out"
        )
    if given.paths.count(STANDARD_INPUT) > 1:
        raise UserError("standard input can be read only once", "name - once, or save the images as files")
    if given.output and (idle := [name for name, value in few.items() if value]):
        raise UserError(f"{idle[0]} does nothing with --output", f"leave {idle[0]} out, or --output")
    if not given.output and (idle := [name for name, value in many.items() if value is not None]):
        raise UserError(f"{idle[0]} does nothing without --output", "give the folder for the predictions: --output DIR")
    if given.address and given.engine not in {"dask", "ray"}:
        raise UserError("--address is that of a Dask or Ray cluster", "give --engine dask or --engine ray as well")


def _predict_in_shards(given: argparse.Namespace, file: Path) -> None:
    from adaptformer.cli import extras

    extras.require("batch")
    from adaptformer.batch_prediction import job, running
    from adaptformer.sharding.engines import Engine

    engine = Engine(given.engine or "local", given.workers or 0, given.address)
    size = given.shard_size or job.SHARD_SIZE
    summary = running.predict(
        given.output, given.paths, file, engine,
        top=given.top_k, shard_size=size, device=given.device, unverified=given.unverified,
    )  # fmt: skip
    print("\n".join(summary.lines()))


def _pretrain(given: argparse.Namespace) -> None:
    from adaptformer.model import device
    from adaptformer.pretraining.pretrain import Recipe, pretrain

    device.choose("cpu", given.threads)
    pretrain(given.images, given.output, Recipe(given.model, given.epochs), given.origin, given.licence)
