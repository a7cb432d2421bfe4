"""Shared parts of the benchmarks: the machine's description, interleaved timing, a table and a JSON file of results."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from adaptformer.base import files, text_table
from adaptformer.model import device

RESULTS = Path(__file__).parent / "results"
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_PACKAGES = ("torch", "timm", "pillow", "numpy", "onnxruntime", "peft", "transformers", "torchvision")


def machine() -> dict[str, Any]:
    """Return the machine on which figures were measured: processor, cores, threads, load, versions, date."""
    versions = {package: importlib.metadata.version(package) for package in _PACKAGES if _installed(package)}
    return {
        "processor": _processor(),
        "flags": [flag for flag in _FLAGS if flag in device.cpu_flags()],
        "cores": device.default_threads(),
        "threads": device.threads(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.now(UTC).date().isoformat(),
    }


def interleaved(
    sides: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Return the seconds of each side: one run to warm up, then `repeats` in turns, so that all have equal conditions.

    The clock is CPU seconds of this process unless another is given.
    """
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            began = clock()
            side()
            seconds[name].append(clock() - began)
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return each side's median."""
    return {name: statistics.median(values) for name, values in seconds.items()}


class Target(NamedTuple):
    """A figure of a benchmark and its target, an upper or a lower bound."""

    label: str
    measured: float
    target: float
    at_most: bool = False

    @property
    def reached(self) -> float:
        """The share of the target that is reached: 1 or more if it is met."""
        return self.target / self.measured if self.at_most else self.measured / self.target


def report(
    name: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    measured: Mapping[str, Any],
    targets: Sequence[Target] = (),
) -> None:
    """Print a table and the targets, and write all measurements, with the machine, to results/NAME.json."""
    about = machine()
    print(text_table.aligned(rows, headers))
    for target in targets:
        bound, verdict = "at most" if target.at_most else "at least", "reached" if target.reached >= 1 else "missed"
        print(f"{target.label}: {target.measured:.3g}, {bound} {target.target:g}: {verdict}")
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    print(
        f"\n{about['processor']}, {about['cores']} cores, {about['threads']} thread(s), "
        f"{' '.join(about['flags'])}; load {about['load']}; {versions}; {about['date']}"
    )
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"machine": about, **measured, "targets": [target._asdict() for target in targets]}
    files.write_text(path, json.dumps(content, indent=1) + "\n")


def parser(description: str | None, repeats: int = 5) -> argparse.ArgumentParser:
    """Return a parser with the option `--repeats`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--repeats", type=int, default=repeats, help="runs of each side (default: %(default)s)")
    return made


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
