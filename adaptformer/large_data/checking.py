"""A whole check: an engine examines the parts, near duplicates are searched for, and the findings are written."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from adaptformer.base import csv_file, files, integrity, memory, progress
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import running
from adaptformer.batch_prediction.engines import ENGINES
from adaptformer.batch_prediction.job import digest
from adaptformer.batch_prediction.running import Engine
from adaptformer.data import workers
from adaptformer.data.layout import SPLITS
from adaptformer.data.reading import SIDE
from adaptformer.large_data import cells, facts, same_bytes
from adaptformer.large_data.facts import Looked
from adaptformer.large_data.job import (
    COPIES,
    FINDINGS,
    NEAR_DUPLICATES,
    TIMING,
    Check,
    Features,
    lists_changed,
    prepare,
)
from adaptformer.validation import findings

if TYPE_CHECKING:
    from adaptformer.config.params import ChecksParams

UNREADABLE = "unreadable"
_FIXES = {UNREADABLE: "repair the file, or move it away", **findings.FIXES}
_PLACE = ["path", "split", "label"]
_PAIRS_AT_ONCE = 50_000

Finding = tuple[str, str, str, str]
"""Kind, path, path of the other image, detail."""


@dataclass(frozen=True)
class Summary:
    """Result of a check: usable images by split, the number of classes, findings by kind, and a line for each kind."""

    folder: Path
    splits: dict[str, int]
    classes: int
    found: dict[str, int]
    told: list[str]

    def lines(self) -> list[str]:
        """Return the result as lines for the terminal."""
        splits = ", ".join(f"{split or 'no split'} {count:,}" for split, count in self.splits.items())
        total = sum(self.found.values())
        end = f"{total:,} findings: see {self.folder / FINDINGS}" if total else "nothing was found"
        return [f"{sum(self.splits.values()):,} images of {self.classes:,} classes: {splits}", *self.told, end]


def check(
    folder: Path, sources: Sequence[str], engine: Engine, levels: ChecksParams, features: Features | None = None
) -> Summary:
    """Check the images of `sources`, write the findings into `folder`, and return the summary.

    The next call continues after an interruption. Raises UserError as `prepare` does, for a shard that cannot be read,
    if no file is an image, and for findings whose level is `error`.
    """
    with running.alone(str(folder)):
        job = prepare(folder, sources, features)
        began = time.perf_counter()
        looked = _looked_at(job, engine)
        running.remove_leftovers(job.folder)
        seconds = {"looking": round(time.perf_counter() - began, 3)}
        images, began = sum(one.images - one.faults for one in looked), time.perf_counter()
        copies = same_bytes.copies(functools.partial(_hashes, job), images)
        counts, modes = _counts(job)
        seconds["counting"] = round(time.perf_counter() - began, 3)
        wanted = {kind for kind in _FIXES if _level(kind, levels) != "none"}
        began = time.perf_counter()
        if wanted & {"leaks", "conflicts", "repeats"}:
            _find_near_duplicates(job, images, copies[:, 0], digest(one.output for one in looked))
        seconds["comparing"] = round(time.perf_counter() - began, 3)
        found = _findings(job, copies, counts, modes)
        summary = _written(job, (row for row in found if row[0] in wanted), levels, counts)
        files.write_json(job.file(TIMING), _timing(looked, engine, seconds))
        shutil.rmtree(job.file(COPIES), ignore_errors=True)
    if errors := [kind for kind in summary.found if _level(kind, levels) == "error"]:
        raise UserError(
            f"there are findings whose level is error: {summary.told[list(summary.found).index(errors[0])]}",
            f"see {job.file(FINDINGS)}; repair what it names or move it away, then check it in another folder",
        )
    return summary


def _looked_at(job: Check, engine: Engine) -> list[Looked]:
    """Let the engine examine the parts that are not done yet, and return the outcome of all parts."""
    number = engine.workers or workers.cores()
    threads = 1 if engine.address else max(1, workers.cores() // number)
    done = ENGINES[engine.name](functools.partial(facts.look, job, threads), range(job.parts), number, engine.address)
    shown = running.shown_with_rate(done, "looking", job.parts, "parts", lambda _: 1)
    looked = sorted(shown, key=lambda one: one.shard)
    if digest(one.input for one in looked) != job.inputs:
        raise lists_changed(job)
    if all(one.images == one.faults for one in looked):
        raise UserError("none of the files is an image", "give folders of images, or shards (.tar, .parquet)")
    return looked


def _hashes(job: Check) -> Iterator[NDArray[np.uint8]]:
    for table in facts.usable(job, ["sha256"]):
        yield facts.as_array(table.column("sha256"), (32,))


def _counts(job: Check) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Return the number of usable images of each split and class, and of each mode."""
    places: Counter[tuple[str, str]] = Counter()
    modes: Counter[str] = Counter()
    for table in facts.usable(job, ["split", "label", "mode"]):
        split, label, mode = (table.column(name).to_pylist() for name in ("split", "label", "mode"))
        places.update(zip(split, label, strict=True))
        modes.update(mode)
    return places, modes


def _find_near_duplicates(job: Check, images: int, repeated: NDArray[np.int64], basis: str) -> None:
    """Write the pairs of images that show the same photo, unless they are there already; exact copies are left out.

    `basis` is the hash of the facts that the pairs are computed from: pairs from other facts are computed again.
    """
    path, folder = job.file(NEAR_DUPLICATES), job.file(COPIES) / basis[:16]
    about = files.canonical_json({"facts": basis}).encode()
    if integrity.is_intact(path) and (pq.read_schema(path).metadata or {}).get(b"adaptformer") == about:
        return
    torch.set_num_threads(workers.cores())
    memory.keep_freed()
    kept = np.ones(images, bool)
    kept[repeated] = False
    index = cells.prepare(folder, _pictures(job, kept))
    starts = cells.blocks(index)
    shown = running.shown_with_rate(starts, "comparing", len(starts), "blocks", lambda _: 1)
    proposed = cells.proposals([cells.propose(index, folder, start) for start in shown])
    starts = range(0, len(proposed), cells.PAIRS)
    shown = running.shown_with_rate(starts, "aligning", len(starts), "blocks", lambda _: 1)
    confirmed = cells.confirmed(proposed, [cells.confirm(index, folder, proposed, start) for start in shown])
    pairs = np.flatnonzero(kept)[confirmed]
    columns = [f"{which}_{name}" for which in ("first", "second") for name in _PLACE]
    schema = pa.schema([(name, pa.string()) for name in columns], {"adaptformer": about})
    with files.replacing(path) as beside, pq.ParquetWriter(beside, schema) as writer:
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            chosen = pairs[start : start + _PAIRS_AT_ONCE]
            writer.write_table(pa.Table.from_pandas(_places(job, chosen), schema, preserve_index=False))
    integrity.write_beside(path)


def _pictures(job: Check, kept: NDArray[np.bool_]) -> Iterator[NDArray[np.uint8]]:
    """Yield the small pictures [N, s, s, 3] of the images for which `kept` is true."""
    count = 0
    for table in progress.steps(facts.usable(job, ["picture"]), "indexing", len(kept), "images", len):
        yield facts.as_array(table.column("picture"), (SIDE, SIDE, 3))[kept[count : count + len(table)]]
        count += len(table)


def _places(job: Check, pairs: NDArray[np.int64]) -> pd.DataFrame:
    """Return path, split and class of both images of each pair [P, 2], in the columns first_path, ..., second_label."""
    numbers, count, found = np.unique(pairs), 0, []
    for table in facts.usable(job, _PLACE):
        low, high = np.searchsorted(numbers, [count, count + len(table)])
        if low < high:
            found.append(table.take(numbers[low:high] - count).to_pandas())
        count += len(table)
    places: pd.DataFrame = pd.concat(found, ignore_index=True)
    sides = [
        places.iloc[np.searchsorted(numbers, pairs[:, side])].add_prefix(prefix).reset_index(drop=True)
        for side, prefix in enumerate(("first_", "second_"))
    ]
    return pd.concat(sides, axis=1)


def _findings(
    job: Check, copies: NDArray[np.int64], counts: Counter[tuple[str, str]], modes: Counter[str]
) -> Iterator[Finding]:
    """Yield all findings, in one pass over the facts after another."""
    for path, fault in facts.unusable(job):
        yield UNREADABLE, path, "", fault
    present = {split for split, _ in counts}
    if "train" in present:
        table = pd.Series(counts).unstack(level=0, fill_value=0).reindex(columns=list(SPLITS), fill_value=0)
        for kind, path, other, detail in findings.of_classes(table.sort_index()):
            if path.partition("/")[0] in present:  # a split that is missing as a whole is made by the import
                yield kind, path, other, detail
    yield from _of_images(job, findings.odd_modes(modes))
    for start in range(0, len(copies), _PAIRS_AT_ONCE):
        yield from _of_pairs(_places(job, copies[start : start + _PAIRS_AT_ONCE]), "has the same bytes as")
    if job.file(NEAR_DUPLICATES).is_file():
        with pq.ParquetFile(job.file(NEAR_DUPLICATES)) as file:
            for batch in file.iter_batches(_PAIRS_AT_ONCE):
                yield from _of_pairs(batch.to_pandas(), "seems to show the same photo as")


def _of_images(job: Check, odd: dict[str, str]) -> Iterator[Finding]:
    for table in facts.usable(job, ["path", "width", "height", "mode", "picture"]):
        paths, *sizes, modes = (table.column(name).to_pylist() for name in ("path", "width", "height", "mode"))
        pictures = facts.as_array(table.column("picture"), (SIDE, SIDE, 3))
        for index, kind, detail in findings.of_pictures(pictures, modes):
            yield kind, paths[index], "", detail
        for path, width, height, mode in zip(paths, *sizes, modes, strict=True):
            if min(width, height) < findings.SMALL:
                yield "small", path, "", f"{width} x {height} pixels"
            if mode in odd:
                yield "odd_modes", path, "", odd[mode]


def _of_pairs(places: pd.DataFrame, relation: str) -> Iterator[Finding]:
    columns = [f"{which}_{name}" for which in ("first", "second") for name in _PLACE]
    for path, split, label, other, *place in places[columns].itertuples(index=False):
        for kind in findings.of_pair((split, label), (place[0], place[1])):
            yield kind, path, other, f"{relation} {other}"


def _level(kind: str, levels: ChecksParams) -> str:
    return "warn" if kind == UNREADABLE else str(getattr(levels, kind))


def _written(job: Check, found: Iterator[Finding], levels: ChecksParams, counts: Counter[tuple[str, str]]) -> Summary:
    """Write the findings, a line each, and return the summary."""
    firsts: dict[str, str] = {}
    numbers: Counter[str] = Counter()
    with files.replacing(job.file(FINDINGS)) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        rows = csv_file.Writer(file)
        rows.row([*findings.COLUMNS, "fix"])
        for kind, path, other, detail in found:
            rows.row([kind, _level(kind, levels), path, other, detail, _FIXES[kind]])
            firsts.setdefault(kind, f"{path}: {detail}")
            numbers[kind] += 1
    kinds = [kind for kind in _FIXES if kind in numbers]
    told = [
        f"{kind.replace('_', ' ')}: {firsts[kind]}{f' and {numbers[kind] - 1:,} more' if numbers[kind] > 1 else ''}; "
        f"{_FIXES[kind]}"
        for kind in kinds
    ]
    splits: Counter[str] = Counter()
    for (split, _), count in counts.items():
        splits[split] += count
    by_split = {split: splits[split] for split in ("", *SPLITS) if split in splits}
    classes = len({label for _, label in counts})
    return Summary(Path(job.folder), by_split, classes, {kind: numbers[kind] for kind in kinds}, told)


def _timing(looked: Sequence[Looked], engine: Engine, seconds: dict[str, float]) -> dict[str, object]:
    return {
        "engine": engine.name,
        "workers": engine.workers or workers.cores(),
        "images": sum(one.images for one in looked),
        "seconds": seconds,
        "process_seconds_looking": round(sum(one.seconds for one in looked), 3),
        "peak_memory_mb": memory.peak_mb(),
        "peak_memory_mb_of_a_process_looking": max(one.memory_mb for one in looked),
        "host": platform.node(),
        "cores": os.cpu_count(),
    }
