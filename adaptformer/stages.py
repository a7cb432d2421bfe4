"""The five stages: functions from files to files, and the one table of them.

Each stage reads files, calls the library, writes files, and does nothing else. `python -m adaptformer STAGE`, `dvc
repro` and the Prefect tasks all run a stage through `run`.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer import files
from adaptformer.errors import UserError
from adaptformer.params import Params, tracked
from adaptformer.run_folder import RunFolder

if TYPE_CHECKING:
    from adaptformer.tuning.history import EpochRow

log = logging.getLogger("adaptformer")

OnEpoch = Callable[["EpochRow"], None]
Timing = dict[str, Any]
"""What a stage says of its own speed, beside its seconds; it goes to timing/ and nowhere else."""


def validate(params: Params, folder: RunFolder, _on_epoch: OnEpoch) -> Timing:
    """Scan `data/`, check it, carve what splits are missing, and write the manifest and the data report."""
    from adaptformer.data import manifest, report, schema

    table, unreadable = manifest.scan(folder.data, params.data.validation_fraction, params.data.seed)
    faults = schema.check(table, unreadable)
    if len(faults):
        log.error("%s", schema.fault_table(faults))
    schema.raise_on_faults(faults, folder.faults)
    folder.faults.unlink(missing_ok=True)
    manifest.write_manifest(folder.manifest, table)
    files.write_text(folder.data_report, report.data_report(table, folder.data))
    return {"images": len(table)}


def fetch(params: Params, folder: RunFolder, _on_epoch: OnEpoch) -> Timing:
    """Get the pretrained checkpoint, verify it, translate it and write it with its card."""
    from adaptformer.model import checkpoint, tensor_file

    wanted = params.backbone
    tensors, card = checkpoint.fetch(wanted.model, wanted.checkpoint, wanted.sha256, wanted.allowed_licences)
    tensor_file.write(folder.backbone, tensors, card.to_dict())
    files.write_json(folder.backbone_card, card.to_dict())
    return {"parameters": card.parameters}


def train(params: Params, folder: RunFolder, on_epoch: OnEpoch) -> Timing:
    """Train the adapters and the head; write the adapter file, the history and its curves."""
    from adaptformer.data import labelled, manifest
    from adaptformer.data.contract import ImageContract
    from adaptformer.model import adapter_file, checkpoint, classifier, device, tensor_file
    from adaptformer.tuning import history, loop

    encoder, metadata = tensor_file.read(folder.backbone)
    backbone = checkpoint.Card.from_dict(metadata)
    contract = ImageContract(**params.image.model_dump(), mean=backbone.mean, std=backbone.std)
    table = manifest.read_manifest(folder.manifest)
    classes = manifest.class_names(table)
    chosen = device.choose(params.runtime.device, params.runtime.threads)
    model = classifier.build(
        backbone.model, encoder, params.adapter, image_size=contract.size, classes=len(classes),
        seed=params.tuning.seed, drop_path=params.tuning.drop_path,
    )  # fmt: skip
    precision = device.precision(params.tuning.precision, chosen, model.vit.embed_dim, len(model.vit.blocks))
    device.plain_attention(model.vit, chosen, precision)
    images = {
        split: labelled.load(table, split, classes, folder.data, contract, folder.image_cache)
        for split in ("train", "validation")
    }
    trained = sum(parameter.numel() for parameter in classifier.trainable(model).values())
    share = f"{trained:,} of {backbone.parameters:,} parameters ({100 * trained / backbone.parameters:.2f} %)"
    log.info("training %s on %d images, %s on %s", share, len(images["train"].labels), precision, chosen)
    run = loop.Run(
        model,
        images["train"],
        images["validation"],
        contract,
        params.tuning,
        chosen,
        precision,
        folder.resume_state,
        _fingerprint("train", params, folder, precision),
    )
    began = time.perf_counter()
    rows, best = loop.train(run, on_epoch)
    seconds = time.perf_counter() - began
    settings = params.adapter.model_dump(mode="json")
    card = adapter_file.AdapterCard(settings, tuple(classes), contract, backbone, precision, best + 1, trained)
    adapter_file.write(folder.adapter, model, card)
    history.write(folder.history, rows)
    history.draw(folder.curves, rows, rows[best])
    folder.resume_state.unlink(missing_ok=True)
    return {
        "training_seconds": round(seconds, 3),
        "epochs": len(rows),
        "device": device.describe(chosen),
        "threads": device.threads(),
    }


def evaluate(params: Params, folder: RunFolder, _on_epoch: OnEpoch) -> Timing:
    """Judge the trained model on the test split; write metrics, predictions, pictures and a report."""
    from adaptformer.data import labelled, manifest
    from adaptformer.evaluation import metrics, pictures, report
    from adaptformer.model import adapter_file, device, inference

    chosen = device.choose(params.runtime.device, params.runtime.threads)
    model, card = adapter_file.load(folder.adapter, folder.backbone)
    table = manifest.read_manifest(folder.manifest)
    test = labelled.load(table, "test", card.classes, folder.data, card.image, folder.image_cache)
    began = time.perf_counter()
    logits = inference.logits(
        model.to(chosen), test.images, card.image, batch_size=params.evaluation.batch_size, device=chosen
    )
    seconds = time.perf_counter() - began
    evaluation = metrics.Evaluation(logits.cpu().numpy(), test.labels)
    pictures.confusion(folder.confusion, evaluation, card.classes)
    pictures.per_class(folder.per_class, evaluation, card.classes)
    pictures.examples(folder.examples, evaluation, card.classes, test.images)
    shown = {
        "Confusion": folder.confusion,
        "Accuracy by class": folder.per_class,
        "Examples": folder.examples,
        "Training": folder.curves,
    }
    predictions = report.predictions(test.paths, evaluation, card.classes)
    files.write_text(folder.predictions, predictions.to_csv(index=False, lineterminator="\n"))
    files.write_text(folder.report, report.html(evaluation, card, shown))
    files.write_json(folder.metrics, metrics.summary(evaluation, card.classes))
    return {"images": len(test.labels), "images_per_second": round(len(test.labels) / seconds, 1)}


def export(params: Params, folder: RunFolder, _on_epoch: OnEpoch) -> Timing:
    """Write the model, merged, as one ONNX file and prove that it agrees with the trained one, which is not merged."""
    from adaptformer.data import manifest
    from adaptformer.export import graph, merging, parity
    from adaptformer.model import adapter_file, device

    device.choose("cpu", params.runtime.threads)
    model, card = adapter_file.load(folder.adapter, folder.backbone)
    content = graph.build(merging.merge(model), card, params.export.opset)
    test = manifest.rows(manifest.read_manifest(folder.manifest), "test")
    # Spread over the whole split, whose rows are sorted by class.
    count = min(params.export.parity_images, len(test))
    paths = [folder.data / test["path"][index * len(test) // count] for index in range(count)]
    agreement = parity.check(model, content, paths, card.image, params.export.parity_tolerance)
    files.write_json(folder.parity, agreement.to_dict())
    files.write_bytes(folder.model, content)
    return {"megabytes": round(len(content) / 1e6, 3)}


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
        """The name at every door."""
        return self.run.__name__


_ALWAYS = ("errors.py", "files.py", "params.py", "run_folder.py")

STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            validate,
            inputs=("data",),
            outputs=("manifest", "data_report"),
            params=("data",),
            code=("data", "page.py", "randomness.py", *_ALWAYS),
        ),
        Stage(
            fetch,
            inputs=(),
            outputs=("backbone", "backbone_card"),
            params=("backbone",),
            code=("checkpoints", "data", "model", "page.py", "randomness.py", *_ALWAYS),
        ),
        Stage(
            train,
            inputs=("data", "manifest", "backbone"),
            outputs=("adapter", "history", "curves"),
            params=("image", "adapter", "tuning"),
            code=("data", "model", "page.py", "randomness.py", "tuning", *_ALWAYS),
        ),
        Stage(
            evaluate,
            inputs=("data", "manifest", "backbone", "adapter", "curves"),
            outputs=("metrics", "predictions", "report", "confusion", "per_class", "examples"),
            params=("evaluation",),
            code=("data", "evaluation", "model", "page.py", "randomness.py", *_ALWAYS),
        ),
        Stage(
            export,
            inputs=("data", "manifest", "backbone", "adapter"),
            outputs=("model", "parity"),
            params=("export",),
            code=("data", "export", "model", "page.py", "randomness.py", *_ALWAYS),
        ),
    )
}
"""The stages in the order in which they run."""


def run(
    name: str, params: Params, folder: RunFolder, on_epoch: OnEpoch | None = None, options: Sequence[str] = ()
) -> None:
    """Run one stage, whose folder the caller has locked, and write `timing/<stage>.json`.

    Raises UserError that names the command to run first, with `options` (overrides and presets as the command line
    takes them), when an input is missing. In the folder of a run with overrides, also when `data/` is no longer what
    was validated there, and when an input changed while the stage ran; only there `<stage>.done.json` is written.
    """
    stage = STAGES[name]
    for attribute in stage.inputs:
        if attribute != "data" and not getattr(folder, attribute).is_file():
            producer = next(other.name for other in STAGES.values() if attribute in other.outputs)
            raise UserError(f"{getattr(folder, attribute)} is missing", _first(producer, options))
    before = _prepare(name, params, folder, options) if folder.overridden else None
    log.info("%s begins", name)
    began = time.perf_counter()
    timing = stage.run(params, folder, on_epoch or (lambda _row: None))
    seconds = round(time.perf_counter() - began, 3)
    machine = {"host": platform.node(), "cores": os.cpu_count(), "python": platform.python_version()}
    files.write_json(folder.timing(name), {"seconds": seconds, **timing, **machine})
    if before is not None:
        _record(name, params, folder, before)
    log.info("%s done in %.1f s", name, seconds)


def is_current(name: str, params: Params, folder: RunFolder) -> bool:
    """Say whether a stage of a run with overrides is done, from its present inputs, with its outputs as it left them.

    Always False in the default folder, where DVC keeps the record.
    """
    if not folder.overridden or not all(
        getattr(folder, attribute).exists() for attribute in (*STAGES[name].inputs, *STAGES[name].outputs)
    ):
        return False
    # No stage is current on data that nobody has validated; `run` says what to do then.
    validated = name == "validate" or "data" not in STAGES[name].inputs or _is_validated(folder)
    present = {"inputs": _inputs(name, params, folder), "outputs": _outputs(name, folder)}
    return validated and _done(folder, name) == present


def _first(producer: str, options: Sequence[str]) -> str:
    return f"run `{shlex.join(['adaptformer', producer, *options])}` first"


def _prepare(name: str, params: Params, folder: RunFolder, options: Sequence[str]) -> dict[str, Any]:
    """Say what the folder is, take back the stage's record, and return what the stage is about to be made from."""
    if name != "validate" and "data" in STAGES[name].inputs and not _is_validated(folder):
        raise UserError(f"data/ is not what {folder.manifest} was made from", _first("validate", options))
    files.write_json(folder.params, tracked(params))
    folder.done(name).unlink(missing_ok=True)
    return _inputs(name, params, folder)


def _is_validated(folder: RunFolder) -> bool:
    return bool(_done(folder, "validate").get("inputs", {}).get("data") == _listing(folder.data))


def _record(name: str, params: Params, folder: RunFolder, before: dict[str, Any]) -> None:
    """Write the stage's record, unless an input is no longer what it was `before`. Raises UserError then."""
    after = _inputs(name, params, folder)
    changed = sorted(key for key in before if before[key] != after.get(key))
    if changed:
        raise UserError(
            f"inputs changed while the run was going: {', '.join(changed)} (stage {name} is not recorded)",
            "leave data/ and the code alone until the run ends, then run the same command again",
        )
    files.write_json(folder.done(name), {"inputs": after, "outputs": _outputs(name, folder)})


def _done(folder: RunFolder, name: str) -> dict[str, Any]:
    """Return a stage's record; empty where there is none or it is damaged."""
    try:
        content = json.loads(folder.done(name).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _inputs(name: str, params: Params, folder: RunFolder) -> dict[str, Any]:
    """Return what a stage's record names: its fingerprint, and what no hash of an input shows."""
    inputs = _fingerprint(name, params, folder)
    if name == "validate":
        inputs["data"] = _listing(folder.data)
    checkpoint = Path(params.backbone.checkpoint)
    if name == "fetch" and checkpoint.is_file():
        inputs["checkpoint"] = [checkpoint.stat().st_size, checkpoint.stat().st_mtime_ns]
    return inputs


def _outputs(name: str, folder: RunFolder) -> dict[str, str]:
    return {attribute: files.sha256_file(getattr(folder, attribute)) for attribute in STAGES[name].outputs}


def _listing(data: Path) -> str:
    """Return a hash over path, size and time of every file below `data`.

    Reading all images would take as long as validating them; a file that is merely touched costs one more validation,
    whose manifest is then the same.
    """
    found = sorted(path for path in data.rglob("*") if path.is_file())
    rows = [[path.relative_to(data).as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in found]
    return files.sha256_text(files.canonical_json(rows))


def _fingerprint(name: str, params: Params, folder: RunFolder, precision: str | None = None) -> dict[str, Any]:
    """Return all that the result of a stage depends on, by name, as a resumed run must find it again."""
    stage = STAGES[name]
    library = Path(__file__).parent
    sources = sorted(
        source
        for entry in stage.code
        for source in ([library / entry] if entry.endswith(".py") else (library / entry).rglob("*.*"))
        if source.suffix in {".py", ".safetensors"}
    )
    code = {source.relative_to(library).as_posix(): files.sha256_file(source) for source in sources}
    return {
        **{section: getattr(params, section).model_dump(mode="json") for section in stage.params},
        **{
            attribute: files.sha256_file(getattr(folder, attribute))
            for attribute in stage.inputs
            if attribute != "data"
        },
        "code": files.sha256_text(files.canonical_json(code)),
        **({} if precision is None else {"precision": precision}),
    }


def read_timing(folder: RunFolder, stage: str) -> dict[str, Any]:
    """Return what `run` wrote about a stage's speed; empty where it never ran here."""
    path = folder.timing(stage)
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return content
