from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mite
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from adaptformer.base.errors import UserError
from adaptformer.data.cache import ImageCache
from adaptformer.data.eval_images import Images
from adaptformer.data.manifest import ValidationShare, scan
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import centre_crop
from adaptformer.evaluation import data_profile
from adaptformer.evaluation.data_profile import Profile
from adaptformer.model.embedding import backbone_features

CONTRACT = replace(mite.CONTRACT, crop_fraction=0.8)
Samples = NDArray[np.float64]


def write_images(data: Path, split: str, count: int, seed: int, width: int = 12) -> None:
    numbers = np.random.default_rng(seed)
    folder = data / split / "amber"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = numbers.integers(0, 256, (10, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}_{i}.png")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for seed, split in enumerate(("train", "validation", "test")):
        write_images(tmp_path / "data", split, 4, seed)
    return tmp_path / "data"


class Means:
    """In place of the backbone: the mean of what the model sees."""

    contract, backbone = CONTRACT, "b" * 64

    def of_images(self, sha256: Sequence[str], images: Images, _label: str) -> NDArray[np.float32]:
        assert len(sha256) == len(images)
        seen = centre_crop(images[np.arange(len(images))], mite.SIDE)
        return seen.reshape(len(images), -1).mean(axis=1, keepdims=True).astype(np.float32)


def profile(manifest: pd.DataFrame, data: Path) -> Profile:
    return data_profile.profile(manifest, data, Means(), ImageCache(data.parent / "cache", None))  # type: ignore[arg-type]


def profiled(data: Path) -> Profile:
    return profile(scan(data, ValidationShare(0.2, 0))[0], data)


def test_a_profile_tells_sizes_channels_and_embeddings_of_each_image(data: Path) -> None:
    found = profiled(data)
    rows = scan(data, ValidationShare(0.2, 0))[0].sort_values("sha256")
    assert found.sizes.tolist() == [[12, 10]] * 12
    assert (found.image, found.backbone) == (CONTRACT, "b" * 64)
    first = np.asarray(
        Image.open(data / rows["path"].iloc[0]).resize((10, 10), Image.Resampling.BILINEAR, (1, 0, 11, 10))
    )
    seen = first[1:9, 1:9].reshape(-1, 3) / 255
    np.testing.assert_allclose(found.channels[0], [*seen.mean(axis=0), *seen.std(axis=0)], rtol=1e-6)
    np.testing.assert_allclose(found.embeddings[:, 0], 255 * found.channels[:, :3].mean(axis=1), rtol=1e-5)


def test_batches_make_no_difference(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = profiled(data)
    monkeypatch.setattr(data_profile, "_AT_ONCE", 5)
    np.testing.assert_array_equal(profiled(data).channels, whole.channels)


def test_few_images_are_looked_at_and_mostly_the_same_when_more_come(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_profile, "IMAGES", 6)
    before = profiled(data).embeddings[:, 0].tolist()
    write_images(data, "train", 3, seed=9)
    after = profiled(data).embeddings[:, 0].tolist()
    hashes = scan(data, ValidationShare(0.2, 0))[0].sort_values("sha256").head(6)
    new = sum("9_" in path for path in hashes["path"])
    assert len(before) == len(after) == 6
    assert [value for value in after if value in before] == before[: 6 - new]


def test_an_image_that_lies_there_twice_is_looked_at_once(data: Path) -> None:
    (data / "test" / "amber" / "again.png").write_bytes((data / "train" / "amber" / "0_0.png").read_bytes())
    assert len(profiled(data).sizes) == 12


def test_changed_data_are_refused(data: Path) -> None:
    manifest = scan(data, ValidationShare(0.2, 0))[0]
    (data / "test" / "amber" / "2_0.png").write_bytes(b"other")
    with pytest.raises(UserError, match="has changed"):
        profile(manifest, data)


def test_a_profile_comes_back_as_it_was_and_as_the_same_bytes(data: Path, tmp_path: Path) -> None:
    found = profiled(data)
    data_profile.write(tmp_path / "1.safetensors", found)
    back = data_profile.read(tmp_path / "1.safetensors")
    for name in ("sizes", "channels", "embeddings"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    assert (back.image, back.backbone) == (found.image, found.backbone)
    data_profile.write(tmp_path / "2.safetensors", back)
    content = (tmp_path / "1.safetensors").read_bytes()
    assert (tmp_path / "2.safetensors").read_bytes() == content
    assert str(tmp_path).encode() not in content


@pytest.mark.parametrize("content", [b"", b"no profile", None])
def test_another_file_is_no_profile(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "profile.safetensors"
    if content is None:
        mite.write_backbone(path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"profile\.safetensors is (no profile|damaged)"):
        data_profile.read(path)


def test_the_gate_and_what_it_reads_never_import_torch(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "profile.safetensors"
    data_profile.write(path, profiled(data))
    program = (
        "import sys, pathlib\nfrom adaptformer.evaluation import data_profile\n"
        "from adaptformer.gate import decision_page, drift, judging\n"
        "found = data_profile.read(pathlib.Path(sys.argv[1])); drift.compare(found, found, 0.1)\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True)


def test_features_are_the_mean_of_the_plain_backbones_patch_tokens(tmp_path: Path) -> None:
    path = mite.write_backbone(tmp_path / "backbone.safetensors")
    embed = backbone_features(path, mite.CONTRACT, torch.device("cpu"))
    images = mite.coloured(25).images
    vit = mite.model(pooling="token").vit.eval()  # adapters start at zero: the plain backbone
    mean, std = torch.tensor(mite.CONTRACT.mean), torch.tensor(mite.CONTRACT.std)
    with torch.no_grad():
        inputs = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2)
        expected = vit.forward_features(inputs)[:, 1:].mean(dim=1)
    np.testing.assert_allclose(embed(images), expected.numpy(), atol=1e-5)
    assert embed(images).shape == (75, mite.WIDTH)


def test_the_manifest_may_be_in_any_order(data: Path) -> None:
    manifest = scan(data, ValidationShare(0.2, 0))[0]
    reverse: pd.DataFrame = manifest.iloc[::-1]
    found = profile(reverse, data)
    np.testing.assert_array_equal(found.embeddings, profiled(data).embeddings)
    assert isinstance(found.image, ImageContract)
