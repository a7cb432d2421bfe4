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

from adaptformer.base import files, integrity, memory, progress
from adaptformer.base.errors import UserError
from adaptformer.curation.checks import findings
from adaptformer.curation.checks.findings import PLACE, UNREADABLE, Finding
from adaptformer.curation.sharded_checks import facts, same_bytes, stored_index
from adaptformer.curation.sharded_checks.check_folder import (
    COPIES,
    FINDINGS,
    NEAR_DUPLICATES,
    TIMING,
    Check,
    Features,
    prepare,
)
from adaptformer.curation.sharded_checks.facts import ExaminedPart
from adaptformer.data import thread_map
from adaptformer.data.image_facts import SIDE
from adaptformer.data.layout import SPLITS
from adaptformer.sharding import job_folder
from adaptformer.sharding.engines import Engine
from adaptformer.sharding.job_folder import digest

if TYPE_CHECKING:
    from adaptformer.config.params import ChecksParams

_PAIRS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Summary:
    """Result of a check: usable images by split, the number of classes, and the summary of the findings."""

    folder: Path
    splits: dict[str, int]
    classes: int
    findings: findings.Summary

    def lines(self) -> list[str]:
        """Return the result as lines for the terminal."""
        splits = ", ".join(f"{split or 'no split'} {count:,}" for split, count in self.splits.items())
        total = sum(self.findings.counts.values())
        end = f"{total:,} findings: see {self.folder / FINDINGS}" if total else "nothing was found"
        first = f"{sum(self.splits.values()):,} images of {self.classes:,} classes: {splits}"
        return [first, *self.findings.lines.values(), end]


def check(
    folder: Path, sources: Sequence[str], engine: Engine, levels: ChecksParams, features: Features | None = None
) -> Summary:
    """Check the images of `sources`, write the findings into `folder`, and return the summary.

    The next call continues after an interruption. Raises UserError as `prepare` does, for a shard that cannot be read,
    if no file is an image, and for findings whose level is `error`.
    """
    with job_folder.alone(str(folder)):
        job = prepare(folder, sources, features)
        began = time.perf_counter()
        parts = _examine_parts(job, engine)
        job_folder.remove_leftovers(job.folder)
        seconds = {"examining": round(time.perf_counter() - began, 3)}
        images, began = sum(one.images - one.faults for one in parts), time.perf_counter()
        copies = same_bytes.copies(functools.partial(_hashes, job), images)
        counts, modes = _counts(job)
        seconds["counting"] = round(time.perf_counter() - began, 3)
        began = time.perf_counter()
        if findings.wants_pairs(levels):
            _find_near_duplicates(job, images, copies[:, 0], digest(one.output for one in parts))
        seconds["comparing"] = round(time.perf_counter() - began, 3)
        written = findings.write(Path(job.file(FINDINGS)), _findings(job, copies, counts, modes), levels)
        files.write_json(Path(job.file(TIMING)), _timing(parts, engine, seconds))
        shutil.rmtree(job.file(COPIES), ignore_errors=True)
    remedy = f"see {job.file(FINDINGS)}; repair what it names or move it away, then check it in another folder"
    findings.raise_on_errors(written, levels, "there are", remedy)
    splits: Counter[str] = Counter()
    for (split, _), count in counts.items():
        splits[split] += count
    by_split = {split: splits[split] for split in ("", *SPLITS) if split in splits}
    return Summary(Path(job.folder), by_split, len({label for _, label in counts}), written)


def _examine_parts(job: Check, engine: Engine) -> list[ExaminedPart]:
    """Let the engine examine the parts that are not done yet, and return the outcome of all parts."""
    processes = engine.workers or thread_map.cores()
    work = functools.partial(facts.examine, job, engine.threads(processes))
    shown = progress.logged(engine.computed(work, job.shards, processes), "examining", job.shards, "parts")
    parts = sorted(shown, key=lambda one: one.shard)
    job.require_lists(one.input for one in parts)
    if all(one.images == one.faults for one in parts):
        raise UserError("none of the files is an image", "give folders of images, or shards (.tar, .parquet)")
    return parts


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
    path, folder = Path(job.file(NEAR_DUPLICATES)), Path(job.file(COPIES), basis[:16])
    about = files.canonical_json({"facts": basis}).encode()
    if integrity.is_intact(path) and (pq.read_schema(path).metadata or {}).get(b"adaptformer") == about:
        return
    torch.set_num_threads(thread_map.cores())
    kept = np.ones(images, bool)
    kept[repeated] = False
    pairs = np.flatnonzero(kept)[stored_index.pairs(folder, _pictures(job, kept))]
    columns = [f"{which}_{name}" for which in ("first", "second") for name in PLACE]
    schema = pa.schema([(name, pa.string()) for name in columns], {"adaptformer": about})
    with files.replacing(path) as new_file, pq.ParquetWriter(new_file, schema) as writer:
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            places = _places(job, pairs[start : start + _PAIRS_AT_ONCE])
            writer.write_table(pa.Table.from_pandas(places, schema, preserve_index=False))
    integrity.write_beside(path)


def _pictures(job: Check, kept: NDArray[np.bool_]) -> Iterator[NDArray[np.uint8]]:
    """Yield the small pictures [N, s, s, 3] of the images for which `kept` is true."""
    count = 0
    for table in progress.steps(facts.usable(job, ["picture"]), "indexing", len(kept), "images", len):
        yield facts.as_array(table.column("picture"), (SIDE, SIDE, 3))[kept[count : count + len(table)]]
        count += len(table)


def _places(job: Check, pairs: NDArray[np.int64]) -> pd.DataFrame:
    """Return path, split and class of both images of each pair [P, 2], as `findings.places` does."""
    numbers, count, involved = np.unique(pairs), 0, []
    for table in facts.usable(job, PLACE):
        low, high = np.searchsorted(numbers, [count, count + len(table)])
        if low < high:
            involved.append(table.take(numbers[low:high] - count).to_pandas())
        count += len(table)
    return findings.places(pd.concat(involved, ignore_index=True), np.searchsorted(numbers, pairs))


def _findings(
    job: Check, copies: NDArray[np.int64], counts: Counter[tuple[str, str]], modes: Counter[str]
) -> Iterator[Finding]:
    """Yield all findings, in one pass over the facts after another."""
    for path, fault in facts.unusable(job):
        yield Finding(UNREADABLE, path, "", fault)
    present = {split for split, _ in counts}
    if "train" in present:
        table = pd.Series(counts).unstack(level=0, fill_value=0).reindex(columns=list(SPLITS), fill_value=0)
        for finding in findings.of_classes(table.sort_index()):
            if finding.path.partition("/")[0] in present:  # a split that is missing as a whole is made by the import
                yield finding
    rare = findings.rare_modes(modes)
    for facts_of_some in facts.usable(job, ["path", "width", "height", "mode", "picture"]):
        pictures = facts.as_array(facts_of_some.column("picture"), (SIDE, SIDE, 3))
        yield from findings.of_images(facts_of_some.drop_columns(["picture"]).to_pandas(), pictures, rare)
    for start in range(0, len(copies), _PAIRS_AT_ONCE):
        yield from findings.of_pairs(_places(job, copies[start : start + _PAIRS_AT_ONCE]), findings.SAME_BYTES)
    if Path(job.file(NEAR_DUPLICATES)).is_file():
        with pq.ParquetFile(job.file(NEAR_DUPLICATES)) as file:
            for batch in file.iter_batches(_PAIRS_AT_ONCE):
                yield from findings.of_pairs(batch.to_pandas(), findings.SAME_PHOTO)


def _timing(parts: Sequence[ExaminedPart], engine: Engine, seconds: dict[str, float]) -> dict[str, object]:
    return {
        "engine": engine.name,
        "workers": engine.workers or thread_map.cores(),
        "images": sum(one.images for one in parts),
        "seconds": seconds,
        "process_seconds_examining": round(sum(one.seconds for one in parts), 3),
        "peak_memory_mb": memory.peak_mb(),
        "peak_memory_mb_of_a_process_examining": max(one.memory_mb for one in parts),
        "host": platform.node(),
        "cores": os.cpu_count(),
    }
