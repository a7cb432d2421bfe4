from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import mite
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from many_scenes import jpeg, png, scene, tar

from adaptformer.base import integrity
from adaptformer.base.errors import UserError
from adaptformer.curation.sharded_checks import facts, located_images
from adaptformer.curation.sharded_checks.check_folder import Check, Features, prepare
from adaptformer.data import storage
from adaptformer.data.image_scan import read_facts
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import decoded_for, to_input
from adaptformer.model import embedding, tensor_file

MEMBERS = {
    "cat/1.png": png(scene(1)), "cat/2.jpg": jpeg(scene(2, 200)), "dog/3.png": png(scene(3))[:90],
    "dog/4.png": png(scene(4).convert("L")),
}  # fmt: skip


@pytest.fixture
def check(tmp_path: Path) -> Check:
    return prepare(tmp_path / "check", [str(tar(tmp_path / "train-0.tar", MEMBERS))], None)


def table(check: Check) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(check.facts(number)) for number in range(check.shards)], ignore_index=True)


def test_facts_are_what_validate_reads(check: Check, tmp_path: Path) -> None:
    looked = facts.examine(check, 1, 0)
    assert (looked.shard, looked.images, looked.faults, looked.seconds > 0) == (0, 4, 1, True)
    rows = table(check)
    assert rows["path"].tolist() == [f"{tmp_path}/train-0.tar/{name}" for name in MEMBERS]
    assert rows["label"].tolist() == ["cat", "cat", "dog", "dog"]
    assert set(rows["split"]) == {"train"}
    for row, content in zip(rows.itertuples(), MEMBERS.values(), strict=True):
        file = tmp_path / "image"
        file.write_bytes(content)
        small: list[np.ndarray] = []
        expected = read_facts(file, on_picture=small.append)
        if isinstance(expected, str):
            assert row.fault == expected
            assert pd.isna(row.width)
            continue
        assert (row.width, row.height, row.mode, row.bytes, row.sha256.hex()) == expected
        assert row.picture == small[0].tobytes()
        assert pd.isna(row.fault)
        assert row.features is None


def test_threads_change_no_byte_and_what_is_there_is_kept(check: Check) -> None:
    first = facts.examine(check, 1, 0)
    content = check.facts(0).read_bytes()
    again = facts.examine(check, 1, 0)
    assert again == dataclasses.replace(first, seconds=0.0, memory_mb=again.memory_mb)
    check.facts(0).unlink()
    facts.examine(check, 3, 0)
    assert check.facts(0).read_bytes() == content


def test_many_images_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "AT_ONCE", 3)
    for number in range(8):
        path = tmp_path / f"photos/a/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(scene(number)) if number != 4 else b"")
    monkeypatch.setattr(located_images, "FILES", 5)
    check = prepare(tmp_path / "check", [str(tmp_path / "photos")], None)
    assert [facts.examine(check, 2, number).images for number in range(check.shards)] == [5, 3]
    usable = list(facts.usable(check, ["path"]))
    assert [len(batch) for batch in usable] == [3, 1, 3]
    paths = [path for batch in usable for path in batch.column("path").to_pylist()]
    assert paths == [f"{tmp_path}/photos/a/{number}.png" for number in range(8) if number != 4]
    assert list(facts.unusable(check)) == [(f"{tmp_path}/photos/a/4.png", "empty file")]


def test_a_file_that_is_gone_has_a_fault(tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / f"photos/a/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(scene(number)))
    check = prepare(tmp_path / "check", [str(tmp_path / "photos")], None)
    (tmp_path / "photos/a/0.png").unlink()
    assert facts.examine(check, 1, 0).faults == 1
    assert table(check)["fault"].dropna().tolist() == ["No such file or directory"]


def test_what_fails_for_a_moment_is_tried_again(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SECONDS_BETWEEN_ATTEMPTS", 0.0)
    images, failures = located_images.images, iter([TimeoutError("slow")])

    def unreliable(part: list[str]) -> object:
        for image in images(part):
            if error := next(failures, None):
                raise error
            yield image

    monkeypatch.setattr(located_images, "images", unreliable)
    assert facts.examine(check, 1, 0).images == 4


@pytest.mark.parametrize("part", ["facts", "checksum"])
def test_facts_that_were_altered_are_computed_again(check: Check, caplog: pytest.LogCaptureFixture, part: str) -> None:
    first = facts.examine(check, 1, 0)
    path = check.facts(0)
    whole = path.read_bytes()
    table = pq.read_table(path)  # a reader that looks at no checksum would take the new label
    other = table.set_column(table.schema.get_field_index("label"), "label", pa.array(["cow"] * len(table)))
    if part == "facts":
        pq.write_table(other, path)
    else:
        integrity.beside(path).unlink()
    again = facts.examine(check, 1, 0)
    assert path.read_bytes() == whole
    assert (again.output, again.seconds > 0) == (first.output, True)
    assert "it is computed again" in caplog.text


def test_a_description_that_was_altered_is_refused(check: Check, tmp_path: Path) -> None:
    path = Path(check.file("check.json"))
    path.write_text(path.read_text().replace('"parts": 1', '"parts": 0'))
    with pytest.raises(UserError, match=r"check\.json is not what was written") as caught:
        prepare(Path(check.folder), [str(tmp_path / "train-0.tar")], None)
    assert caught.value.remedy.endswith("give another folder")


def test_a_check_of_before_there_were_checksums_is_continued(check: Check, tmp_path: Path) -> None:
    path = Path(check.file("check.json"))
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content))
    assert prepare(Path(check.folder), [str(tmp_path / "train-0.tar")], None) == check


def test_lists_that_were_altered_are_refused_before_anything_is_looked_at(check: Check, tmp_path: Path) -> None:
    pd.DataFrame({"location": ["elsewhere"]}).to_parquet(check.input(0))
    with pytest.raises(UserError, match=r"the lists in .*/parts/ are not those"):
        prepare(Path(check.folder), [str(tmp_path / "train-0.tar")], None)


def test_facts_of_another_check_are_no_result(check: Check) -> None:
    facts.examine(check, 1, 0)
    with pytest.raises(UserError, match="does not belong to the check"):
        facts.examine(dataclasses.replace(check, backbone="another"), 1, 0)


@pytest.fixture
def features(tmp_path: Path) -> Features:
    path = tmp_path / "backbone.safetensors"
    tensor_file.write(path, mite.encoder(0), dataclasses.asdict(mite.backbone_card()))
    contract = ImageContract(mite.SIDE, "crop", 1.0, "bilinear", (0.5,) * 3, (0.2,) * 3, 2)
    return Features(path, json.dumps(dataclasses.asdict(contract)))


def test_features_are_the_backbones(features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_BATCH", 2)
    check = prepare(tmp_path / "check", [str(tar(tmp_path / "a.tar", MEMBERS))], features)
    facts.examine(check, 1, 0)
    contract = ImageContract(**json.loads(features.contract))
    embed = embedding.backbone_features(features.path, contract, torch.device("cpu"))
    assert check.backbone == hashlib.sha256(features.path.read_bytes()).hexdigest()
    seen = [to_input(decoded_for(MEMBERS[name], contract), contract) for name in MEMBERS if name != "dog/3.png"]
    expected = embed(np.stack(seen))
    rows = table(check)
    np.testing.assert_allclose(np.stack(rows["features"][rows["fault"].isna()]), expected, atol=1e-5)
    assert rows["features"][2] is None
    assert len(np.unique(expected, axis=0)) == 3


def test_a_backbone_that_was_altered_is_refused(features: Features, tmp_path: Path) -> None:
    check = prepare(tmp_path / "check", [str(tar(tmp_path / "a.tar", MEMBERS))], features)
    tensor_file.write(
        Path(check.file("backbone.safetensors")), mite.encoder(1), dataclasses.asdict(mite.backbone_card())
    )
    with pytest.raises(UserError, match=r"backbone\.safetensors is not what was written"):
        facts.examine(check, 1, 0)


def test_another_check_in_the_same_folder_is_refused(features: Features, check: Check, tmp_path: Path) -> None:
    folder, source = Path(check.folder), str(tmp_path / "train-0.tar")
    assert prepare(folder, [source], None) == check
    with pytest.raises(UserError, match="holds another check, with other backbone, contract"):
        prepare(folder, [source], features)
    with pytest.raises(UserError, match="with other sources"):
        prepare(folder, [str(tmp_path)], None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files, such as .*notes\.txt"):
        prepare(tmp_path / "mine", [source], None)
