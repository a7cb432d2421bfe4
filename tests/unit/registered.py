"""Versions in a real registry without any training: a tiny graph that tells colours apart, and made-up evidence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import pandas as pd
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from adaptformer.base import files, integrity
from adaptformer.config.params import GateParams
from adaptformer.config.run_folder import RunFolder
from adaptformer.data import manifest as manifests
from adaptformer.data.preprocessing import ImageContract
from adaptformer.prediction import model_file
from adaptformer.registry import promotion, versions
from adaptformer.registry.promotion import Outcome
from adaptformer.tracking import mlflow_store

CLASSES = ("blue", "green", "red")
CONTRACT = ImageContract(8, "crop", 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}
TESTS = 300
PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
BOUNDS = GateParams(**(yaml.safe_load(PARAMS.read_text())["gate"] | {"max_latency_ratio": 1000.0}))


def graph(
    sharpness: float = 0.1, classes: tuple[str, ...] = CLASSES, called: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """A model that answers with the strongest colour; `sharpness` makes its bytes differ from another one's.

    `called` has other names for its classes.
    """
    order = [("red", "green", "blue").index(name) for name in classes]
    weights = np.zeros((3, len(classes)), np.float32)
    weights[order, range(len(classes))] = sharpness
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
    ]
    made = helper.make_graph(
        nodes, "colours",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(classes)])],
        [
            numpy_helper.from_array(weights, "weights"),
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        ],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content = {"classes": [called.get(name, name) for name in classes], "image": dataclasses.asdict(CONTRACT)}
    helper.set_model_props(model, {"adaptformer": json.dumps(content)})
    return bytes(model.SerializeToString())


def write_model(
    path: Path, sharpness: float, outside: bool = False, called: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write that model; with `outside`, as export writes a large one: its weights in a file beside it."""
    weights = model_file.weights_of(path)
    weights.write_bytes(b"")
    path.write_bytes(graph(sharpness, called=called))
    if outside:
        weights.unlink()
        whole = onnx.load(path)
        onnx.save(whole, path, save_as_external_data=True, location=weights.name, size_threshold=20)
        content = json.loads(whole.metadata_props[0].value)
        content["weights"] = {"bytes": weights.stat().st_size, "sha256": files.sha256_file(weights)}
        skeleton = onnx.load(path, load_external_data=False)
        helper.set_model_props(skeleton, {"adaptformer": json.dumps(content)})
        path.write_bytes(skeleton.SerializeToString())


def manifest(tests: int = TESTS, trained: int = 30) -> pd.DataFrame:
    rows = [row(split, n) for split, count in (("train", trained), ("test", tests)) for n in range(count)]
    return pd.DataFrame(rows, columns=list(manifests.COLUMNS))


def row(split: str, n: int) -> tuple[object, ...]:
    label = CLASSES[n % 3]
    content = picture(label, n if split == "test" else 10_000 + n)
    return (f"{split}/{label}/{n}.png", label, split, 8, 8, "RGB", len(content), hashlib.sha256(content).hexdigest())


def picture(label: str, n: int) -> bytes:
    """A PPM of one colour with a corner that tells it from all others."""
    pixels = np.full((8, 8, 3), COLOURS[label], np.uint8)
    pixels[0, 0] = (n % 251, n // 251, 7)
    return b"P6 8 8 255\n" + pixels.tobytes()


def write_data(root: Path, table: pd.DataFrame) -> None:
    for path in table["path"]:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        split, label, name = path.split("/")
        number = int(name.removesuffix(".png"))
        file.write_bytes(picture(label, number if split == "test" else 10_000 + number))
    Image.open(root / table["path"][0]).load()


def predictions(table: pd.DataFrame, wrong: set[int], classes: tuple[str, ...] = CLASSES) -> pd.DataFrame:
    """Answers to the test images: right, but for those whose numbers are in `wrong`."""
    test = manifests.rows(table, "test")
    answers = [
        classes[(classes.index(label) + 1) % len(classes)] if n in wrong else label
        for n, label in enumerate(test["label"])
    ]
    right = [answer == label for answer, label in zip(answers, test["label"], strict=True)]
    return test[["path", "sha256", "label"]].assign(
        predicted=answers, confidence=0.9, probability_of_label=[0.9 if one else 0.05 for one in right]
    )


def run_folder(
    root: Path, name: str, wrong: set[int], *, sharpness: float = 0.1, table: pd.DataFrame | None = None,
    parity: float = 1e-6, outside: bool = False, alike: tuple[tuple[str, str], ...] = (),
    called: Mapping[str, str] = MappingProxyType({}),
) -> RunFolder:  # fmt: skip
    """Write what a run leaves of a model that gets the images `wrong` wrong."""
    folder = RunFolder(root / f"{name}-{sharpness}-{len(wrong)}")
    table = manifest() if table is None else table
    folder.root.mkdir(parents=True, exist_ok=True)
    write_model(folder.model, sharpness, outside, called)
    manifests.write_manifest(folder.manifest, table)
    classes = tuple(called.get(name, name) for name in CLASSES)
    predictions(table, wrong, classes).to_csv(folder.predictions, index=False)
    folder.adapter.write_bytes(b"an adapter")
    write_records(folder, parity)
    card = {"model": "vit_none", "sha256": "0" * 64, "source_sha256": "1" * 64, "licence": "MIT"}
    folder.backbone_card.write_text(json.dumps(card))
    pairs = [("leaks", "warn", one, other, "", "") for one, other in alike]
    table = pd.DataFrame(pairs, columns=["kind", "level", "path", "other", "detail", "fix"])
    table.to_csv(folder.findings, index=False)
    return folder


def register(
    root: Path, name: str, wrong: set[int], *, keep_predictions: bool = True, group: str = "None", **options: Any
) -> str:
    """Register one more version of `name` with its evidence and return its number."""
    folder = run_folder(root, name, wrong, **options)
    client = mlflow_store.connect()
    run_id = client.create_run(mlflow_store.experiment_id(client, "test"), run_name=name).info.run_id
    client.log_param(run_id, "data.group_pattern", group)
    for attribute in ("manifest", "parity", "findings", *(["predictions"] if keep_predictions else [])):
        client.log_artifact(run_id, str(getattr(folder, attribute)))
    made = versions.register(folder, name, run_id, {"data.dvc": "d" * 32, "git.commit": "c" * 40})
    if not keep_predictions:  # as versions of before, which have no tag either
        client.delete_model_version_tag(name, made.version, "predictions.sha256")
    client.set_terminated(run_id)
    return made.version


def write_records(folder: RunFolder, parity: float = 1e-6) -> None:
    """Write metrics.json and parity.json about what is in the folder."""
    of = {name: files.sha256_file(getattr(folder, name)) for name in ("adapter", "manifest", "predictions")}
    integrity.write_record(folder.metrics, {"top1": 0.8, "about": [list(pair) for pair in of.items()]})
    about = [["adapter", of["adapter"]], ["model", model_file.sha256(folder.model)]]
    integrity.write_record(folder.parity, {"relative": parity, "about": about})


def challenge(root: Path, name: str, wrong: set[int], **options: Any) -> str:
    """Register a second model, of other bytes than the first one."""
    return register(root, name, wrong, sharpness=0.2, **options)


def ask(name: str, version: str | None = None, why: str = "asked by a test", bounds: GateParams = BOUNDS) -> Outcome:
    return promotion.promote(name, bounds, version=version, who="Ada", why=why)


def wrong(count: int, of: int = 0) -> set[int]:
    """The numbers of `count` images that a model gets wrong, the first one at `of`."""
    return set(range(of, of + count))
