"""`adaptformer fit`: images to a model in one command, as `adaptformer.fit` does."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from adaptformer.cli.parsing import add_overrides

if TYPE_CHECKING:
    from adaptformer.api.run import Run
    from adaptformer.cli.parsing import Commands


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    fit = commands.add_parser(
        "fit", help="images to a trained, evaluated, exported model, in a folder of its own: no project is needed"
    )
    fit.add_argument(
        "photos", metavar="PHOTOS", help="a folder with one folder per class, or a CSV file with path and label"
    )
    fit.add_argument(
        "--backbone",
        metavar="NAME",
        help="such as dinov2-small: see `adaptformer backbones` (default: the bundled one)",
    )
    fit.add_argument("--output", metavar="DIR", help="folder for the run (default: runs/NAME, by the name of PHOTOS)")
    fit.add_argument(
        "--skip-bad", action="store_true", help="leave out files that are not images, and list them in DIR/left_out.csv"
    )
    add_overrides(fit)
    fit.set_defaults(command=_fit, reads_data=False)


def _fit(given: argparse.Namespace) -> None:
    from adaptformer.api.fitting import fit
    from adaptformer.config import params

    run = fit(
        given.photos, backbone=given.backbone, out=given.output, overrides=params.parse_overrides(given.overrides),
        presets=given.preset, skip_bad=given.skip_bad,
    )  # fmt: skip
    print("\n".join(lines(run)))


def lines(run: Run) -> list[str]:
    """Return the end of the command: accuracy with its interval, a proposal of more epochs, report, prediction."""
    from adaptformer.pipeline import adapter_metadata
    from adaptformer.training import history

    top1, images = run.metrics["top1"], run.metrics["images"]
    more = adapter_metadata.longer(adapter_metadata.card(run.files.adapter), history.read(run.files.history))
    return [
        f"accuracy  {top1:.2%} of {images:,} test images (95 % interval: {top1.low:.1%} to {top1.high:.1%})",
        *([f"epochs    {more}"] if more else []),
        f"report    {run.report}",
        f"predict   adaptformer predict IMAGES --model {shlex.quote(str(run.files.model))}",
    ]
