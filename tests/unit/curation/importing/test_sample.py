import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptformer.base.errors import UserError
from adaptformer.curation.importing import sample


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "data"
    sample.write_sample(folder)
    return folder


def test_the_bytes_are_those_that_dvc_has_on_record(data: Path) -> None:
    rows = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(data).as_posix()}  # noqa: S324
        for path in data.rglob("*.png")
    ]
    text = json.dumps(sorted(rows, key=lambda row: row["relpath"]), sort_keys=True)
    assert hashlib.md5(text.encode()).hexdigest() + ".dir" == sample.DVC_DIGEST  # noqa: S324


def test_every_digit_is_there_and_a_fifth_is_test(data: Path) -> None:
    for digit in range(10):
        train, test = (len(list((data / split / str(digit)).iterdir())) for split in ("train", "test"))
        assert test == round((train + test) / 5)
    assert len(list(data.rglob("*.png"))) == 1797
    assert sorted(path.name for path in data.iterdir()) == ["test", "train"]


def test_pixels_are_the_digits_enlarged(data: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    for path in sorted(data.rglob("*.png"))[::97]:
        image = Image.open(path)
        index = int(path.stem)
        assert (image.mode, image.size) == ("L", (32, 32))
        assert path.parent.name == str(digits.target[index])
        values = digits.images[index].astype(int) * 255 // 16
        np.testing.assert_array_equal(np.asarray(image), np.kron(values, np.ones((4, 4), int)))


def test_the_png_holds_one_stored_block(data: Path) -> None:
    content = next(data.rglob("*.png")).read_bytes()
    assert content.count(b"IDAT") == 1
    start = content.index(b"IDAT") + 4
    stream = content[start : start + int.from_bytes(content[start - 8 : start - 4], "big")]
    assert stream[2] == 1  # last block, not compressed
    assert len(zlib.decompress(stream)) == 32 * 33


def test_what_lies_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="not empty"):
        sample.write_sample(tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine.png"]


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Path.write_bytes

    def interrupted(self: Path, content: bytes) -> int:
        if self.name == "0700.png":
            raise KeyboardInterrupt
        return written(self, content)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sample.write_sample(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == [".data.lock"]
