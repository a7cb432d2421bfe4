"""The five stages as functions from files to files, and their table.

Each stage reads files, calls the library, writes files, and does nothing else. `stage_runner.run` runs a stage.
"""

from __future__ import annotations

import importlib.metadata
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base import csv_file, files, source_code
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder

if TYPE_CHECKING:
    from adaptformer.training.history import EpochRow

log = logging.getLogger("adaptformer")

TRAINING_PROCESS = "adaptformer.pipeline.training_process"
"""The module that one of several processes runs to train."""
OnEpoch = Callable[["EpochRow"], None]
Timing = dict[str, Any]
"""Timing that a stage reports beside its seconds; it goes to timing/ only."""


def validate(params: Params, folder: RunFolder, _on_epoch: OnEpoch) -> Timing:
    """Scan `data/`, check it, make the missing splits, and write the manifest and the data report."""
    from adaptformer.curation.checks import data_report, faults, findings, near_duplicates
    from adaptformer.data import manifest
    from adaptformer.data.image_files import Limits
    from adaptformer.data.image_scan import ReadOptions
    from adaptformer.data.stat_cache import StatCache

    settings, pictures = params.data, near_duplicates.Pictures() if findings.needs_pictures(params.checks) else None
    cache = StatCache(folder.stat_cache)
    options = ReadOptions(cache, Limits.of(settings.max_file_mb, settings.max_megapixels))
    share = manifest.ValidationShare(settings.validation_fraction, settings.seed, settings.group_pattern)
    table, unreadable = manifest.scan(folder.data, share, pictures, options)
    cache.write()
    present = faults.check(table, unreadable, params.data.group_pattern)
    if len(present):
        log.error("%s", faults.fault_table(present))
    faults.raise_on_faults(present, folder.faults)
    folder.faults.unlink(missing_ok=True)
    rows = findings.find(table, None if pictures is None else pictures.of(table["path"]), params.checks)
    summary = findings.write(folder.findings, rows, params.checks)
    remedy = f"see {folder.findings}; correct data/, run `dvc add data` and the same command again"
    findings.raise_on_errors(summary, params.checks, "data/ has", remedy)
    manifest.write_manifest(folder.manifest, table)
    files.write_text(folder.data_report, data_report.page(table, folder.data, rows, summary, params.data))
    for line in summary.lines.values():
        log.warning("warning: %s", line)
    if len(rows):
        log.warning("%d findings: look at %s", len(rows), folder.data_report)
    return {"images": len(table), "known_before": cache.hits}


def fetch(params: Params, folder: RunFolder, _on_epoch: OnEpoch) -> Timing:
    """Get the pretrained checkpoint, verify it, convert it and write it with its card."""
    from adaptformer.backbones import fetching
    from adaptformer.model import backbone_file

    tensors, card = fetching.fetch(params.backbone)
    backbone_file.write(folder.backbone, tensors, card)
    if folder.isolated:  # DVC manages the default folder's file, and may link it itself
        files.share(folder.backbone, [other.backbone for other in folder.others() if other.backbone.is_file()])
    files.write_json(folder.backbone_card, asdict(card))
    return {"parameters": card.parameters}


def train(params: Params, folder: RunFolder, on_epoch: OnEpoch) -> Timing:
    """Train what the method tunes and write the adapter file of the best epoch, the history, and the curves.

    Each of several devices has a process of its own, of which one writes; torchrun may have started them already.
    """
    from adaptformer.training import data_parallel, loop, outputs, planning, processes, resume, setup

    if params.runtime.processes > 1 and not processes.started_by_torchrun():
        job = {"params": params.model_dump(mode="json"), "folder": folder.to_dict()}
        return processes.train(TRAINING_PROCESS, job, params.runtime.processes, folder.process_errors, on_epoch)
    with data_parallel.joined(params.runtime.device) as world:
        start = setup.prepare(params, folder)
        depends_on = fingerprint("train", params, folder, start.precision, start.device.type)
        run = setup.load(start, params, folder, depends_on, world)
        loop.plan(run)  # refuses impossible settings before anything else takes time
        plan = start.plan(params.training, world.size)
        start.announce(plan)
        earlier = resume.seconds(run.checkpoint.path, depends_on, run.checkpoint.any_code)
        began = time.perf_counter()
        with planning.explained_memory(plan, params.training):
            trained = loop.train(run, on_epoch)
        timing = outputs.timing(run, trained, earlier + time.perf_counter() - began)
        if world.is_main:
            outputs.write(folder, start, run, params.adapter, trained)
        return timing


def evaluate(params: Params, folder: RunFolder, _on_epoch: OnEpoch) -> Timing:
    """Judge the trained model on the test split; write metrics, predictions, report, model card, the data's profile."""
    from adaptformer.base import integrity
    from adaptformer.data import groups, labelled, layout, manifest
    from adaptformer.data.cache import ImageCache
    from adaptformer.evaluation import (
        attention,
        data_profile,
        leaks,
        metrics,
        model_card,
        pictures,
        predictions,
        report,
        report_images,
    )  # fmt: skip
    from adaptformer.evaluation.evaluated_model import EvaluatedModel
    from adaptformer.model import adapter_file, device, inference
    from adaptformer.model.embedding import Embedding

    where = device.choose(params.runtime.device, params.runtime.threads)
    model, card = adapter_file.load(folder.adapter, folder.backbone)
    table = manifest.read_manifest(folder.manifest)
    cache = ImageCache(folder.image_cache, params.runtime.image_cache_gb)
    test = labelled.DataSet(table, card.classes, folder.data, card.image, cache).split("test")
    began = time.perf_counter()
    logits = inference.logits(
        model.to(where), test.images, card.image, batch_size=params.evaluation.batch_size, device=where
    )
    seconds = time.perf_counter() - began
    of_images = groups.of((path.partition("/")[2] for path in test.paths), params.data.group_pattern)
    evaluation = metrics.Evaluation(logits.cpu().numpy(), test.labels, groups.codes(of_images))
    pictures.confusion(folder.confusion, evaluation, card.classes)
    pictures.per_class(folder.per_class, evaluation, card.classes)
    pictures.calibration(folder.calibration, evaluation)
    pictures.examples(folder.examples, evaluation, card.classes, test.images)
    drawings = report.Drawings(folder.confusion, folder.per_class, folder.calibration, folder.curves)
    answers = predictions.table(test, evaluation, card.classes, manifest.rows(table, "test"), params.data.group_pattern)
    files.write_text(folder.predictions, csv_file.text(answers))
    mistakes = report_images.most_confident(evaluation, report_images.SHOWN)
    attention_maps = attention.pictures(model, test.images, card.image, mistakes, where)
    leaked = leaks.find(folder.findings, test.paths, params.checks)
    numbers = {**metrics.summary(evaluation, card.classes), **leaks.numbers(evaluation, leaked)}
    described = EvaluatedModel(card, params.training, params.data, evaluation, leaks.sentence(numbers))
    page = report.html(described, report.AnsweredImages(test, answers, attention_maps), drawings)
    files.write_text(folder.report, page)
    images = {split: len(manifest.rows(table, split)) for split in layout.SPLITS}
    files.write_text(folder.model_card, model_card.text(described, images))
    embedding = Embedding(folder.backbone, card.image, where, folder.embeddings)
    data_profile.write(folder.profile, data_profile.profile(table, folder.data, embedding, cache))
    about = {name: files.sha256_file(getattr(folder, name)) for name in ("adapter", "manifest", "predictions")}
    # A list of pairs, because `dvc metrics show` leaves out lists.
    integrity.write_record(folder.metrics, {**numbers, "about": [list(pair) for pair in about.items()]})
    return {"images": len(test.labels), "images_per_second": round(len(test.labels) / seconds, 1)}


def export(params: Params, folder: RunFolder, _on_epoch: OnEpoch) -> Timing:
    """Write the merged model as an ONNX file, prove that it agrees with the trained, unmerged model, and time it."""
    from adaptformer.base import integrity
    from adaptformer.data import manifest
    from adaptformer.export import graph, merging, parity
    from adaptformer.model import adapter_file, device
    from adaptformer.prediction import latency, model_file
    from adaptformer.prediction.predictor import Predictor

    settings = params.export
    device.choose("cpu", params.runtime.threads)
    threads = device.threads()
    model, card = adapter_file.load(folder.adapter, folder.backbone)
    test = manifest.rows(manifest.read_manifest(folder.manifest), "test")
    # The images are spread over the whole split, because its rows are sorted by class.
    count = min(settings.parity_images, len(test))
    paths = [folder.data / test["path"][index * len(test) // count] for index in range(count)]
    with model_file.replacing(folder.model) as new_file:
        adapter = files.sha256_file(folder.adapter)
        graph.write(new_file, merging.merge(model), card, settings.opset, settings.external_data_mb, adapter)
        agreement = parity.check(model, new_file, paths, card.image, settings.parity_tolerance, threads)
        about = [["adapter", adapter], ["model", model_file.sha256(new_file)]]
        integrity.write_record(folder.parity, {**agreement.to_dict(), "about": about})
    predictor = Predictor(folder.model, device="cpu", threads=threads)
    milliseconds = latency.latency_ms(predictor)
    return {
        "megabytes": round(model_file.size(folder.model) / 1e6, 3),
        "latency_ms": milliseconds,
        "images_per_second": latency.images_per_second(predictor, milliseconds),
    }


@dataclass(frozen=True)
class Stage:
    """One row of the table. `inputs` and `outputs` are attributes of RunFolder, `code` paths below adaptformer/."""

    run: Callable[[Params, RunFolder, OnEpoch], Timing]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: tuple[str, ...]
    code: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name by which every command and flow calls it."""
        return self.run.__name__


_NUMERICS = ("torch", "timm", "pillow")
"""The packages whose versions decide pixels, models and weights."""

_ALWAYS = ("base", "config")

STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            validate,
            inputs=("data",),
            outputs=("manifest", "manifest_checksum", "data_report", "findings"),
            params=("data", "checks"),
            code=("data", "pages", "curation/checks", *_ALWAYS),
        ),
        Stage(
            fetch,
            inputs=(),
            outputs=("backbone", "backbone_card"),
            params=("backbone",),
            code=("backbones", "data", "model", *_ALWAYS),
        ),
        Stage(
            train,
            inputs=("data", "manifest", "manifest_checksum", "backbone"),
            outputs=("adapter", "history", "curves"),
            params=("image", "adapter", "training"),
            code=("data", "model", "training", *_ALWAYS),
        ),
        Stage(
            evaluate,
            inputs=("data", "manifest", "manifest_checksum", "findings", "backbone", "adapter", "curves"),
            outputs=(
                "metrics",
                "predictions",
                "report",
                "model_card",
                "profile",
                "confusion",
                "per_class",
                "calibration",
                "examples",
            ),
            # training decides the adapter file already; the model card describes it.
            params=("data", "checks", "evaluation", "training"),
            code=("data", "evaluation", "model", "pages", *_ALWAYS),
        ),
        Stage(
            export,
            inputs=("data", "manifest", "manifest_checksum", "backbone", "adapter"),
            outputs=("model", "model_weights", "parity"),
            params=("export",),
            code=("data", "export", "model", "prediction", *_ALWAYS),
        ),
    )
}
"""The stages in the order in which they run."""


_LIBRARY = Path(__file__).parents[1]


def sources(name: str) -> list[Path]:
    """Return the files of the library that the result of a stage depends on, sorted."""
    return sorted(
        source
        for entry in STAGES[name].code
        for source in ([_LIBRARY / entry] if entry.endswith(".py") else (_LIBRARY / entry).rglob("*.*"))
        if source.suffix in {".py", ".j2", ".safetensors"}
    )


def code(name: str) -> str:
    """Return the sha256 of a stage's code by its syntax trees."""
    by_path = {source.relative_to(_LIBRARY).as_posix(): source_code.sha256(source) for source in sources(name)}
    return files.sha256_text(files.canonical_json(by_path))


def fingerprint(
    name: str, params: Params, folder: RunFolder, precision: str | None = None, device: str | None = None
) -> dict[str, Any]:
    """Return everything that the result of a stage depends on, by name; a resumed run must find the same.

    `precision` and `device`, the type of the device, are given for training only.
    """
    stage = STAGES[name]
    return {
        **{section: getattr(params, section).model_dump(mode="json") for section in stage.params},
        **{name: files.sha256_file(getattr(folder, name)) for name in stage.inputs if name != "data"},
        "code": code(name),
        "versions": {package: importlib.metadata.version(package) for package in _NUMERICS},
        **({} if precision is None else {"precision": precision}),
        **({} if device is None else {"device": device}),
    }
