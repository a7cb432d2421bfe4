"""What does not belong together is neither registered nor judged, put to use, monitored or fetched."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import registered
from registered import ask, wrong

from adaptformer.__main__ import main
from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder
from adaptformer.prediction import model_file
from adaptformer.registry import alias_journal, lineage, promotion, result_check, version_evidence, versions


def flip(path: Path, seed: int = 0) -> None:
    """Turn one bit of a file, whose size and times stay."""
    times, content, dice = path.stat(), bytearray(path.read_bytes()), random.Random(seed)
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def folder_of(root: Path, name: str) -> RunFolder:
    return RunFolder(root / f"{name}-0.1-60")


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """What a run leaves; nothing is registered."""
    return registered.run_folder(tmp_path, "squares", wrong(60))


def stored(database, pattern: str) -> Path:
    """The newest file of the registry of this name."""
    return max(Path(database).parent.glob(f"mlartifacts/**/{pattern}"), key=lambda path: path.stat().st_mtime_ns)


def refused(function, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert str(caught.value).count("\n") == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("attribute", "stage"),
    [
        ("model", "export"), ("parity", "export"), ("metrics", "evaluate"), ("predictions", "evaluate"),
        ("manifest", "validate"), ("adapter", "evaluate"),
    ],
)  # fmt: skip
def test_no_turned_bit_of_a_folder_is_registered(folder, attribute, stage):
    path = getattr(folder, attribute)
    content = path.read_bytes()
    for seed in range(25):
        flip(path, seed)
        said = refused(versions.register, folder, "squares", "a run", {})
        assert f"run `adaptformer {stage}`, then the same command again" in said
        path.write_bytes(content)
    path.unlink()
    refused(versions.register, folder, "squares", "a run", {})
    path.write_bytes(content)
    result_check.require(folder)


def test_weights_outside_of_the_file_belong_to_it(tmp_path):
    folder = registered.run_folder(tmp_path, "large", wrong(60), outside=True)
    result_check.require(folder)
    flip(folder.model_weights)
    assert "model.onnx is not the file that" in refused(result_check.require, folder)


def test_records_of_before_name_nothing_and_the_stage_is_told(folder):
    folder.parity.write_text(json.dumps({"relative": 0.0}))
    assert "run `adaptformer export`" in refused(result_check.require, folder)
    registered.write_records(folder)
    folder.metrics.write_text(json.dumps({"top1": 0.5}))
    assert "run `adaptformer evaluate`" in refused(result_check.require, folder)


FILES = ["model.onnx", "manifest.csv", "predictions.csv", "parity.json", "data_findings.csv"]


def test_no_file_that_changed_in_the_registry_is_judged_rolled_back_to_or_watched(
    client, champion, database, tmp_path, capsys
):
    """Version 1 is in use, version 2 is its challenger; the files of one of them change."""
    assert registered.challenge(tmp_path, champion, wrong(20)) == "2"
    paths = [stored(database, file) for file in FILES]
    for path in paths:
        content = path.read_bytes()
        for seed in range(2):
            flip(path, seed)
            said = refused(ask, champion)
            assert f"{champion} version 2" in said
            assert "that was registered" in said
            path.write_bytes(content)
    assert alias_journal.aliases(client, champion).champion == "1"
    assert ask(champion).promoted
    flip(paths[0])
    capsys.readouterr()
    (tmp_path / "new").mkdir()
    assert main(["monitor", "new", "--model", f"models:/{champion}@champion"]) == 1
    assert "that was registered" in capsys.readouterr().err
    promotion.rollback(champion, to=None, who="Bob", why="x")
    assert "that was registered" in refused(promotion.rollback, champion, to="2", who="Bob", why="y")
    assert alias_journal.aliases(client, champion).champion == "1"


def test_what_is_fetched_to_predict_and_searched_for_images_is_what_was_registered(
    client, champion, database, tmp_path
):
    assert versions.fetch_model(client, champion, "1", tmp_path / "sound").is_file()
    assert lineage.who_saw(client, [champion], "0" * 64).searched == 1
    flip(stored(database, "model.onnx"))
    assert "is not the one that was registered" in refused(
        versions.fetch_model, client, champion, "1", tmp_path / "fetched"
    )
    flip(stored(database, "manifest.csv"))
    assert "manifest.csv of" in refused(lineage.who_saw, client, [champion], "0" * 64)


def test_missing_evidence_is_named(client, champion, database, tmp_path):
    registered.challenge(tmp_path, champion, wrong(20))
    stored(database, "data_findings.csv").unlink()
    assert "data_findings.csv of" in refused(ask, champion)


def test_parity_of_another_model_is_refused_even_without_tags(client, champion, database, tmp_path):
    registered.challenge(tmp_path, champion, wrong(20))
    client.delete_model_version_tag(champion, "2", "parity.sha256")
    shutil.copy(folder_of(tmp_path, champion).parity, stored(database, "parity.json"))
    assert "parity.json of" in refused(ask, champion)
    assert "is about another ONNX file than its own" in refused(ask, champion)


def test_versions_of_before_are_judged_and_rolled_back_to(client, champion, database, tmp_path):
    registered.challenge(tmp_path, champion, wrong(20))
    stored(database, "parity.json").write_text(json.dumps({"relative": 1e-6}))
    for version in ("1", "2"):
        for tag in client.get_model_version(champion, version).tags:
            if tag.endswith(".sha256"):
                client.delete_model_version_tag(champion, version, tag)
    assert ask(champion).promoted
    assert promotion.rollback(champion, to=None, who="Bob", why="x").after.champion == "1"


def test_the_registry_has_the_very_bytes_even_where_mlflow_would_write_others(client, name, tmp_path):
    folder, write = folder_of(tmp_path, name), registered.write_model

    def in_another_order(path, *rest):
        """A file that no serialiser writes: an empty metadata entry comes first."""
        write(path, *rest)
        path.write_bytes(bytes([14 << 3 | 2, 4, 1 << 3 | 2, 0, 2 << 3 | 2, 0]) + path.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registered, "write_model", in_another_order)
        registered.register(tmp_path, name, wrong(60))
    fetched = versions.fetch_model(client, name, "1", tmp_path / "fetched")
    assert fetched.read_bytes() == folder.model.read_bytes()
    assert client.get_model_version(name, "1").tags["model.sha256"] == model_file.sha256(folder.model)


def test_a_model_without_answers_gets_no_image_right(client, champion, tmp_path, monkeypatch):
    import numpy as np

    from adaptformer.prediction.predictor import Predictor

    table = registered.manifest(tests=12)
    registered.write_data(tmp_path / "data", table)
    model = version_evidence.gather(client, champion, "1", tmp_path / "gate").model
    rows = table[table["split"] == "test"].reset_index(drop=True)
    true = Predictor.logits

    def broken(self, images):
        logits = true(self, images)
        logits[2] = np.nan
        return logits

    monkeypatch.setattr(Predictor, "logits", broken)
    found = version_evidence.predict(Predictor(model, device="cpu"), rows, tmp_path / "data")
    right = found["predicted"] == found["label"]
    assert right.tolist() == [n != 2 for n in range(12)]
    assert found.loc[2, ["predicted", "confidence", "probability_of_label"]].tolist() == [
        "the model's answer is no number", 0.0, 0.0,
    ]  # fmt: skip


@pytest.mark.parametrize("which", ["new", "validation"])
def test_an_image_without_an_answer_is_left_out_of_what_is_watched_with_a_word(tmp_path, monkeypatch, which):
    import numpy as np
    import torch

    from adaptformer.data.cache import ImageCache
    from adaptformer.monitoring.monitor import MonitoredModel, monitor_images
    from adaptformer.monitoring.new_images import FeatureStorage
    from adaptformer.prediction.predictor import Predictor

    table = registered.manifest(tests=3)
    table.loc[:9, "split"] = "validation"
    registered.write_data(tmp_path / "data", table)
    folder = registered.run_folder(tmp_path, "monitored", set(), table=table)
    (tmp_path / "new").mkdir()
    for n in range(6):
        (tmp_path / f"new/{n}.ppm").write_bytes(registered.picture(registered.CLASSES[n % 3], 20_000 + n))
    true = Predictor.logits

    def broken(self, images):
        logits = true(self, images)
        if (len(images) == 6) == (which == "new"):
            logits[1] = np.nan
        return logits

    monkeypatch.setattr(Predictor, "logits", broken)
    monitored = MonitoredModel("it", folder.model, table, None, tmp_path / "none")
    storage = FeatureStorage(torch.device("cpu"), ImageCache(tmp_path / "cache", 1.0), tmp_path / "features")
    if which == "validation":
        said = refused(monitor_images, monitored, tmp_path / "new", tmp_path / "data", 5, storage)
        assert "it has no answer to 1 of its 10 validation images" in said
        return
    found = monitor_images(monitored, tmp_path / "new", tmp_path / "data", 5, storage)
    assert found.unreadable == {"1.ppm": "the model's answer is no number"}
    assert sorted(found.table["path"]) == ["0.ppm", "2.ppm", "3.ppm", "4.ppm", "5.ppm"]
    assert found.table.notna().all(axis=None)
