from __future__ import annotations

from pathlib import Path

import pytest
from many_scenes import png, scene, tar

from adaptformer.base.errors import UserError
from adaptformer.curation.sharded_checks import located_images
from adaptformer.curation.sharded_checks.located_images import Located


def test_a_shard_is_a_part_and_files_are_dealt_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(located_images, "FILES", 2)
    for name in ("train/cat/1.png", "train/cat/2.png", "val/dog/3.png", "more/x.tar"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for number in range(3):
        tar(tmp_path / f"s/train-{number}.tar", {})
    given = [str(tmp_path / "photos"), str(tmp_path / "s/train-{1..2}.tar")]
    assert list(located_images.parts(given)) == [
        [f"{tmp_path}/photos/more/x.tar"],
        [f"{tmp_path}/photos/train/cat/1.png", f"{tmp_path}/photos/train/cat/2.png"],
        [f"{tmp_path}/s/train-1.tar"],
        [f"{tmp_path}/s/train-2.tar"],
        [f"{tmp_path}/photos/val/dog/3.png"],
    ]


def test_split_and_class_come_from_folders_or_from_the_shard(tmp_path: Path) -> None:
    content = png(scene(1))
    shard = tar(tmp_path / "pets-val-07.tar", {"a/cat/1.png": content, "b/dog/2.png": content})
    plain = tar(tmp_path / "pets.tar", {"cat/1.png": content})
    part = [str(shard), str(plain), "/data/valid/cat/1.png", "s3://bucket/photos/dog/2.png", "3.png"]
    part += ["/data/seg_train/seg_train/sea/1.jpg", "/data/Testing/sea/1.jpg", "/data/attestation/sea/1.jpg"]
    assert list(located_images.images(part)) == [
        Located(f"{shard}/a/cat/1.png", "validation", "cat", content),
        Located(f"{shard}/b/dog/2.png", "validation", "dog", content),
        Located(f"{plain}/cat/1.png", "", "cat", content),
        Located("/data/valid/cat/1.png", "validation", "cat", None),
        Located("s3://bucket/photos/dog/2.png", "", "dog", None),
        Located("3.png", "", "", None),
        Located("/data/seg_train/seg_train/sea/1.jpg", "train", "sea", None),
        Located("/data/Testing/sea/1.jpg", "test", "sea", None),
        Located("/data/attestation/sea/1.jpg", "", "sea", None),
    ]


def test_a_cut_archive_is_an_error_and_a_bad_label_a_fault(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", {"cat/1.png": png(scene(1)), "2.png": b"x"})
    assert [image.fault for image in located_images.images([str(whole)])] == ["", "no label"]
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:512])
    with pytest.raises(UserError, match=r"cannot be read|is truncated"):
        list(located_images.images([str(tmp_path / "cut.tar")]))


def test_a_source_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("empty", "nowhere", "none-*.tar"):
        with pytest.raises(UserError, match=r"has no images|there is no"):
            list(located_images.parts([str(tmp_path / source)]))
