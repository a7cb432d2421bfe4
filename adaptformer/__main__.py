"""The command line: thin, and fast to show its help, for each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.errors import UserError

if TYPE_CHECKING:
    from adaptformer.params import Params

log = logging.getLogger("adaptformer")

STAGES = {
    "validate": "check data/, write the manifest and the data report",
    "fetch": "get the pretrained checkpoint and verify it",
    "train": "train the adapters; a killed run resumes",
    "evaluate": "judge the trained model on the test split",
    "export": "write model.onnx and prove that it agrees with the trained model",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 1 after two lines of cause and remedy on standard error."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("adaptformer").setLevel(logging.INFO)  # this project's alone: others' are no news to the user
    try:
        code = int(given.command(given) or 0)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` say, has seen enough; the flush at exit must not fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        if given.traceback:
            raise
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        print(f"error: {error.cause}\n  fix: {error.remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last whole epoch", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adaptformer", description="Adapt a pretrained Vision Transformer to your images."
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="bring images into data/ and record them with DVC")
    kinds = data.add_subparsers(required=True, metavar="KIND")
    sample = kinds.add_parser("sample", help="write the sample: scikit-learn's 1,797 digits")
    sample.set_defaults(command=_sample)
    imported = kinds.add_parser("import", help="copy class folders, with or without splits, into data/")
    imported.add_argument("path", type=Path, help="CLASS/FILE, or train|validation|test/CLASS/FILE below it")
    imported.add_argument("--replace", action="store_true", help="put the new images in place of those in data/")
    imported.set_defaults(command=_import)

    for name, text in STAGES.items():
        stage = commands.add_parser(name, help=text)
        _add_overrides(stage)
        stage.set_defaults(command=_stage, stage=name)

    backbones = commands.add_parser("backbones", help="list the preconfigured checkpoints")
    backbones.set_defaults(command=_backbones)
    shown = commands.add_parser("params", help="show params.yaml with presets and overrides in it, or write it so")
    _add_overrides(shown)
    shown.add_argument("--write", action="store_true", help="put the values into params.yaml; its comments stay")
    shown.set_defaults(command=_params)

    inspect = commands.add_parser("inspect", help="show what an adapter file holds")
    inspect.add_argument("file", type=Path, metavar="FILE", help="what training makes: adapter.safetensors")
    inspect.set_defaults(command=_inspect)

    predict = commands.add_parser("predict", help="classify images with an exported model, without torch")
    predict.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an image, or a folder of images")
    predict.add_argument("--model", type=Path, default=Path("artifacts/model.onnx"), help="default: %(default)s")
    predict.add_argument("--top", type=_positive, default=3, help="classes shown for each image (default: %(default)s)")
    predict.add_argument("--csv", action="store_true", help="write CSV to standard output instead of a table")
    predict.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    predict.set_defaults(command=_predict)

    pretrain = commands.add_parser("pretrain", help="pretrain a small encoder on unlabelled images (MAE)")
    pretrain.add_argument("images", type=Path, help="folder with images in any depth")
    pretrain.add_argument("output", type=Path, help="checkpoint to write (.safetensors)")
    pretrain.add_argument("--model", default="vit_nano_patch4_32", help="architecture (default: %(default)s)")
    pretrain.add_argument("--epochs", type=_positive, required=True)
    pretrain.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = one a core")
    pretrain.add_argument("--origin", required=True, help="what the images are, for the checkpoint's card")
    pretrain.add_argument("--licence", required=True, help="licence of the weights, for the checkpoint's card")
    pretrain.set_defaults(command=_pretrain)
    return parser


def _add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--preset", action="append", default=[], metavar="NAME", help="use the values of this preset (repeatable)"
    )
    command.add_argument(
        "overrides", nargs="*", type=_override, metavar="KEY=VALUE", help="use this value: tuning.epochs=3"
    )


def _override(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text} is not of the form section.key=value")
    return text


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _resolved(given: argparse.Namespace) -> tuple[Params, Params]:
    """Return the params of the file alone, and with the presets and overrides of the command line."""
    from adaptformer import params, presets

    overrides = {**presets.overlay(given.preset), **params.parse_overrides(given.overrides)}
    return params.load(), params.load(overrides=overrides)


def _stage(given: argparse.Namespace) -> None:
    from adaptformer import run_folder, stage_runner

    present, wanted = _resolved(given)
    folder = run_folder.of(present, wanted)
    if folder.overridden:
        log.info("run folder: %s/", folder.root)
    options = [*(word for name in given.preset for word in ("--preset", name)), *given.overrides]
    with folder.lock(f"adaptformer {given.stage}"):
        if stage_runner.is_current(given.stage, wanted, folder):
            log.info("%s is current", given.stage)
        else:
            stage_runner.run(given.stage, wanted, folder, options=options)


def _params(given: argparse.Namespace) -> None:
    from adaptformer import files, params
    from adaptformer.presets import writing

    present, wanted = _resolved(given)
    path = Path("params.yaml")
    text = writing.changed(path.read_text(encoding="utf-8"), params.difference(present, wanted))
    if given.write:
        files.write_text(path, text)
    else:
        print(text, end="")


def _inspect(given: argparse.Namespace) -> None:
    from adaptformer.commands import inspection

    print(inspection.text(given.file))


def _backbones(_given: argparse.Namespace) -> None:
    from adaptformer.checkpoints import catalogue

    print(catalogue.table())


def _sample(_given: argparse.Namespace) -> None:
    from adaptformer.dataset_import import importing, sample
    from adaptformer.run_folder import RunFolder

    data = RunFolder().data
    sample.write_sample(data)
    _record(importing.dvc_add(data), "the sample's 1,797 digits")


def _import(given: argparse.Namespace) -> None:
    from adaptformer import params
    from adaptformer.dataset_import import importing
    from adaptformer.run_folder import RunFolder

    data = RunFolder().data
    loaded = params.load()
    summary = importing.import_folder(given.path, data, loaded.data, given.replace)
    _record(importing.dvc_add(data), str(summary))
    print(
        f"the model will be registered as {loaded.registry.model}: registry.model in params.yaml should name these data"
    )


def _record(recorded: bool, what: str) -> None:
    print(f"data/ holds {what}" + ("; recorded in data.dvc" if recorded else ""))


def _predict(given: argparse.Namespace) -> int:
    from adaptformer.export import prediction_table, predictor

    if not given.model.is_file():
        raise UserError(f"{given.model} does not exist", "run the pipeline first (`make run`), or give --model")
    model = predictor.Predictor(given.model, device=given.device)
    predictions = model.predict(predictor.images_below(given.paths), given.top)
    if given.csv:
        faults = prediction_table.write_csv(sys.stdout, predictions, given.top)
    else:
        print(f"{given.model} on {model.provider}", file=sys.stderr)
        faults = prediction_table.write_table(sys.stdout, predictions)
    if faults:
        raise UserError(
            f"{faults} of the files could not be read as images", "the others were classified; remove or mend them"
        )
    return 0


def _pretrain(given: argparse.Namespace) -> None:
    from adaptformer.model import device
    from adaptformer.pretraining.pretrain import Recipe, pretrain

    device.choose("cpu", given.threads)
    pretrain(given.images, given.output, Recipe(given.model, given.epochs), given.origin, given.licence)


if __name__ == "__main__":
    sys.exit(main())
