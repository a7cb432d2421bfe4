"""`make run`: the whole pipeline in this process, or at once the news that nothing has changed.

`python -m flows.run [--preset NAME …] [KEY=VALUE …]` runs it with other values than those of params.yaml.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from adaptformer.data.sample import DVC_DIGEST
from adaptformer.errors import UserError
from adaptformer.params import Params, load, parse_overrides
from adaptformer.presets import overlay
from adaptformer.run_folder import RunFolder, of
from flows.summary import Summary, text
from tasks import versioning
from tasks.checkout import ROOT, tracking_uri
from tasks.registry import present


def main() -> int:
    """Run the pipeline if anything has changed, show the summary, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.run", description="Run the whole pipeline here.")
    parser.add_argument("--preset", action="append", default=[], metavar="NAME", help="repeatable")
    parser.add_argument("--register", action="store_true", help="register the model of a run with overrides too")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as tuning.epochs=3")
    given = parser.parse_args()
    os.chdir(ROOT)
    try:
        return _run(given.preset, parse_overrides(given.overrides), True if given.register else None)
    except UserError as error:
        print(f"error: {error.cause}\n  fix: {error.remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last whole epoch", file=sys.stderr)
        return 130


def _run(presets: list[str], overrides: dict[str, object], register: bool | None) -> int:
    began = time.monotonic()
    params = load(overrides={**overlay(presets), **overrides})
    folder = of(load(), params)
    make_sample_if_wanted(folder)
    versioning.check_data()
    if not folder.overridden and versioning.is_clean() and present(folder, params.registry.model):
        print("Nothing has changed since the last run: data, params, code and results are what DVC recorded.\n")
        print(_shown(params, folder))
        return 0
    print("Starting the pipeline (a temporary Prefect server takes some seconds) ...", flush=True)
    summary = _train_here(presets, overrides, register)
    idle = "nothing, all is current" if folder.overridden else "nothing but the registration"
    ran = ", ".join(summary.ran) or idle
    print(f"\nDone in {time.monotonic() - began:.0f} s; ran {ran}.\n")
    print(_shown(params, folder))
    return 0


def make_sample_if_wanted(folder: RunFolder) -> None:
    """Write the sample data where data.dvc names it and there is no `data/` at all; a user's data is never touched."""
    if folder.data.exists() or folder.data.is_symlink() or versioning.data_digest() != DVC_DIGEST:
        return
    print("Writing the sample data set to data/ ...", flush=True)
    done = subprocess.run([sys.executable, "-m", "adaptformer", "data", "sample"], check=False)
    if done.returncode:
        raise UserError("the sample data set could not be written", "see the lines above")


def _shown(params: Params, folder: RunFolder) -> str:
    return text(Summary.of(folder, params, ()), folder, tracking_uri())


def _train_here(presets: list[str], overrides: dict[str, object], register: bool | None) -> Summary:
    """Run the flow in this process with a temporary server, whose files lie inside the checkout."""
    # Prefect reads its environment as it is imported.
    os.environ.setdefault("PREFECT_HOME", str(ROOT / ".prefect"))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    from prefect import tags
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import logs
    from flows.train import train

    logs.plain_console()
    # Not PREFECT_API_URL= (empty): that counts as a server for Prefect's events, and task runs get lost.
    with temporary_settings(restore_defaults={PREFECT_API_URL}), tags("adaptformer", "make-run"):
        return train(presets, overrides, register)


if __name__ == "__main__":
    sys.exit(main())
