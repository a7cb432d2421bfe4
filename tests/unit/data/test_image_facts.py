import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptformer.data import image_facts, image_files, pillow_remarks
from adaptformer.data.image_facts import ImageFacts
from adaptformer.data.image_scan import copy_all, copy_image, read_all


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that are read, each time."""
    seen: list[Path] = []
    read = image_files.read
    monkeypatch.setattr(image_files, "read", lambda path, limit: (seen.append(path), read(path, limit))[1])
    return seen


def test_facts_and_copy_come_from_one_read(picture: Callable[..., bytes], tmp_path: Path, reads: list[Path]) -> None:
    content = picture(width=40, height=30, format="JPEG")
    (tmp_path / "a.jpg").write_bytes(content)
    facts = copy_image(tmp_path / "a.jpg", tmp_path / "copy")
    assert reads == [tmp_path / "a.jpg"]
    assert facts == ImageFacts(40, 30, "RGB", len(content), hashlib.sha256(content).hexdigest())
    assert (tmp_path / "copy").read_bytes() == content


def test_what_is_no_image_is_not_copied(picture: Callable[..., bytes], tmp_path: Path) -> None:
    for name, content in (("a.png", picture(1)), ("b.png", b"junk"), ("c.png", picture(2))):
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png", "none.png")]
    found = list(copy_all(paths, [tmp_path / f"{number}.copy" for number in range(4)]))
    assert found == list(read_all(paths))
    assert found[1] == "not an image (JPEG, PNG, GIF, BMP, WEBP, TIFF, PPM, AVIF)"
    assert found[3] == "No such file or directory"
    assert sorted(path.name for path in tmp_path.glob("*.copy")) == ["0.copy", "2.copy"]


def test_what_pillow_remarks_of_a_file_is_told_once_with_its_name(
    picture: Callable[..., bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, exif = picture(width=40, height=30, format="JPEG"), b"Exif\0\0II*\0\xff\xff\xff\x7f"
    content = content[:2] + b"\xff\xe1\0\x10" + exif + content[2:]
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for path in paths:
        path.write_bytes(content)
    image_facts._logged.clear()
    monkeypatch.setattr(warnings, "showwarning", pillow_remarks.show_or_remember)  # pytest has its own in its place
    monkeypatch.setattr(warnings, "filters", [("always", None, Warning, None, 0)])
    assert not any(isinstance(facts, str) for facts in read_all(paths))
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}/")
    assert "can be read, but: Corrupt EXIF data" in message


def test_a_copy_that_cannot_be_written_is_no_fault_of_the_image(picture: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    with pytest.raises(FileNotFoundError):
        list(copy_all([tmp_path / "a.png"], [tmp_path / "missing/copy"]))
