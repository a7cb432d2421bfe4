"""Only regular files of a sane size are read: nothing is waited for, and nothing without an end is taken in."""

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptformer.data import image_files, storage
from adaptformer.data.decoding import DamagedImage
from adaptformer.data.image_files import Limits
from adaptformer.data.image_scan import ReadOptions, read_all, read_facts


@pytest.fixture(params=["pipe", "socket", "zero", "tty"])
def strange(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """Something that has a name but no end, and what it is called."""
    path = tmp_path / "x.png"
    if request.param == "pipe":
        os.mkfifo(path)
        return path, "a named pipe"
    if request.param == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
        return path, "a socket"
    path.symlink_to("/dev/zero" if request.param == "zero" else "/dev/tty")
    return path, "a device"


def test_what_is_no_regular_file_is_told_at_once(strange: tuple[Path, str]) -> None:
    path, kind = strange
    for read in (image_files.read, lambda place: storage.read_image(str(place)), image_files.opened):
        with pytest.raises(DamagedImage, match=f"no regular file but {kind}"):
            read(path)
    assert read_facts(path) == f"no regular file but {kind}"


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    before = (tmp_path / "file").stat()
    monkeypatch.setattr(Path, "stat", lambda _: before)
    with pytest.raises(DamagedImage, match="a named pipe"):
        image_files.read(tmp_path / "pipe")


def test_no_more_than_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(3_000_000_000)  # sparse
    with pytest.raises(DamagedImage, match=r"3,000\.0 MB, more than the limit of 256 MB \(data\.max_file_mb\)"):
        image_files.read(path)
    path.write_bytes(b"123456")
    assert image_files.read(path, limit=6) == image_files.read(path, limit=None) == b"123456"
    with pytest.raises(DamagedImage, match="more than the limit"):
        image_files.read(path, limit=5)


def test_a_file_is_read_up_to_the_limit_whatever_size_it_states() -> None:
    assert image_files.bounded(io.BytesIO(b"123456"), 0, 6) == b"123456"
    for size in (0, 3, 5):
        with pytest.raises(DamagedImage, match="more than the limit"):
            image_files.bounded(io.BytesIO(b"123456"), size, 5)


def test_an_object_of_a_store_is_bounded(tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}/1.png"
    for content in (b"", b"123456"):
        storage.write(place, content)
        assert storage.read_image(place) == content
    with pytest.raises(DamagedImage, match="more than the limit"):
        storage.read_image(place, limit=5)


def test_limits_hold_for_files_and_for_pixels(picture: Callable[..., bytes], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    paths[0].write_bytes(picture(width=8, height=6))
    paths[1].write_bytes(picture(width=64, height=64))
    size = paths[1].stat().st_size
    first, large = read_all(paths, options=ReadOptions(limits=Limits(size - 1, None)))
    assert not isinstance(first, str)
    assert "data.max_file_mb" in str(large)
    first, large = read_all(paths, options=ReadOptions(limits=Limits(None, 64 * 64 - 1)))
    assert not isinstance(first, str)
    assert "64 x 64 pixels" in str(large)
    assert Limits.of(2, 3) == (2_000_000, 3_000_000)
