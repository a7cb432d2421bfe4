"""What a training starts from is what its params, its manifest and its backbone say."""

from __future__ import annotations

from pathlib import Path

import mite
import numpy as np
import pytest
import small_project
import torch
from PIL import Image
from small_project import adaptformer

from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.data import manifest
from adaptformer.data.eval_images import Squares
from adaptformer.data.pixel_file import CheckedPhotos
from adaptformer.data.train_images import StreamedPhotos
from adaptformer.model import block_forward, device, tensor_file
from adaptformer.training import head_statistics, planning, setup
from adaptformer.training.data_parallel import World
from adaptformer.training.run import Run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which training can begin."""
    root = small_project.write(tmp_path_factory.mktemp("setup"))
    for path in root.glob("data/*/*/*.png"):  # wider than high, as photos are
        Image.open(path).resize((14, 10)).save(path)
    with pytest.MonkeyPatch.context() as context:
        context.chdir(root)
        for stage in ("fetch", "validate"):
            assert adaptformer(stage) == 0
    return root


@pytest.fixture(autouse=True)
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def wanted(**changes: object) -> Params:
    return params.read().replaced({name.replace("__", "."): value for name, value in changes.items()})


def test_the_model_is_that_of_the_params_on_the_fetched_backbone() -> None:
    changes = {"adapter__bottlenecks": [6], "training__seed": 5, "training__drop_path": 0.25, "image__size": 12}
    start = setup.prepare(wanted(**changes), RunFolder())
    expected = mite.model(bottlenecks=[6], seed=5, image_size=12)
    assert mite.tuned_hash(start.model) == mite.tuned_hash(expected)
    assert torch.equal(start.model.vit.cls_token, mite.encoder()["cls_token"])
    assert start.model.vit.patch_embed.img_size == (12, 12)
    rates = [getattr(module, "drop_prob", 0.0) for module in start.model.vit.modules()]
    assert max(rates) == 0.25
    assert (start.classes, start.device.type, start.precision) == (mite.CLASSES, "cpu", "fp32")


def test_the_input_is_the_params_with_the_numbers_of_the_backbone() -> None:
    start = setup.prepare(wanted(image__resize="pad"), RunFolder())
    assert (start.contract.size, start.contract.resize) == (mite.SIDE, "pad")
    assert (start.contract.mean, start.contract.std) == (mite.CONTRACT.mean, mite.CONTRACT.std)
    _, card = tensor_file.read(RunFolder().backbone)
    assert start.backbone.sha256 == card["sha256"]


def test_a_resized_grid_of_positions_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "adaptformer")
    setup.prepare(wanted(image__size=16), RunFolder())
    assert caplog.messages == [
        "the position embeddings of 2 x 2 patches are resized to 4 x 4, as image.size = 16 needs"
    ]
    caplog.clear()
    setup.prepare(wanted(), RunFolder())
    assert caplog.messages == []


@pytest.mark.parametrize("place", [40, -100])
def test_a_damaged_backbone_is_refused(place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(RunFolder().backbone.read_bytes())
    content[place] ^= 64
    folder = RunFolder()
    monkeypatch.setattr(folder, "backbone", tmp_path / "backbone.safetensors")
    folder.backbone.write_bytes(content)
    with pytest.raises(UserError) as caught:
        setup.prepare(wanted(), folder)
    assert "backbone.safetensors is" in caught.value.cause
    assert "adaptformer fetch" in caught.value.remedy


def test_bf16_keeps_frozen_matrices_in_bf16_and_writes_attention_out() -> None:
    start = setup.prepare(wanted(training__precision="bf16"), RunFolder())
    assert start.precision == "bf16"
    frozen = next(module for name, module in start.model.vit.named_modules() if name.endswith("attn.qkv"))
    assert frozen.weight.dtype == torch.bfloat16
    assert not any(module.fused_attn for module in start.model.vit.modules() if hasattr(module, "fused_attn"))
    assert setup.prepare(wanted(), RunFolder()).model.vit.cls_token.dtype == torch.float32


def test_blocks_are_compiled_where_runtime_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda function, backend: compiled.append((function, backend)) or function)
    setup.prepare(wanted(), RunFolder())
    assert compiled == []
    setup.prepare(wanted(runtime__compile=True), RunFolder())
    assert compiled == [(block_forward.run, "inductor")]


def test_device_threads_and_precision_are_chosen_by_the_params(monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than the machine may have cores, which are the default."""
    chosen: list[tuple[object, ...]] = []
    monkeypatch.setattr(device, "choose", lambda *given: chosen.append(given) or torch.device("cpu"))
    monkeypatch.setattr(device, "precision", lambda *given: chosen.append(given) or "fp32")
    setup.prepare(wanted(runtime__threads=7, runtime__device="cuda", training__precision="bf16"), RunFolder())
    assert chosen == [("cuda", 7), ("bf16", torch.device("cpu"), mite.WIDTH, mite.DEPTH)]


def test_plan_minutes_and_warnings_are_about_these_images(monkeypatch: pytest.MonkeyPatch) -> None:
    given = wanted(training__batch_size=4)
    start = setup.prepare(given, RunFolder())
    assert (start.images("train"), start.images("validation"), start.images("test")) == (18, 3, 9)
    assert start.plan(given.training, 1).micro_batch == 4
    assert start.plan(given.training, 3).micro_batch == 2
    half = setup.prepare(wanted(training__precision="bf16"), RunFolder())
    assert half.plan(given.training, 1).peak_mb == pytest.approx(
        planning.plan(planning.Workload(half.model, given.training, 18, 3, half.device, "bf16")).peak_mb, rel=0.05
    )
    seen: list[object] = []
    monkeypatch.setattr(planning, "minutes", lambda *arguments: seen.extend(arguments) or 7.0)
    assert start.minutes(given.training) == 7.0
    assert seen == [planning.Workload(start.model, given.training, 18, 3, start.device, "fp32")]
    assert start.warnings() == []
    assert len(setup.prepare(wanted(image__size=12), RunFolder()).warnings()) == 1  # the images have 10 pixels


def loaded(cache: Path | None = None, **changes: object) -> Run:
    chosen, folder = wanted(**changes), RunFolder()
    folder.image_cache = cache or folder.image_cache
    return setup.load(setup.prepare(chosen, folder), chosen, folder, {"a": 1}, World(1, 2))


def test_the_run_has_the_images_of_its_splits() -> None:
    run = loaded()
    table = manifest.read_manifest(RunFolder().manifest)
    for split, found in (("train", run.data.train), ("validation", run.data.validation)):
        rows = manifest.rows(table, split)
        assert found.paths == list(rows["path"])
        assert [mite.CLASSES[label] for label in found.labels] == list(rows["label"])
        assert len(found.images) == len(rows) > 0
    assert len(run.data.photos) == len(run.data.train.labels)
    for index, path in enumerate(run.data.train.paths):
        brightness = np.asarray(Image.open(RunFolder().data / path)).mean()
        assert run.data.photos[index].mean() == pytest.approx(brightness, abs=3)


def test_the_run_is_where_and_how_its_params_say() -> None:
    run = loaded(
        runtime__save_every_steps=7, runtime__feature_cache_gb=0.25, training__epochs=3, training__precision="bf16"
    )
    assert (run.checkpoint.path, run.checkpoint.every_steps, run.caching.gigabytes) == (
        RunFolder().resume_state,
        7,
        0.25,
    )
    assert (run.params.epochs, run.compute.precision, run.compute.device.type) == (3, "bf16", "cpu")
    assert (run.checkpoint.fingerprint, run.compute.world.rank, run.compute.world.size) == ({"a": 1}, 1, 2)
    assert (run.checkpoint.any_code, loaded(runtime__resume="any_code").checkpoint.any_code) == (False, True)
    assert run.data.contract.mean == mite.CONTRACT.mean
    assert mite.tuned_hash(run.model) == mite.tuned_hash(mite.model(seed=run.params.seed))


def test_training_crops_photos_unless_a_crop_is_all_of_the_square() -> None:
    whole = {"training__crop_scale": [1.0, 1.0], "training__crop_ratio": [1.0, 1.0]}
    assert isinstance(loaded(**whole).data.photos, Squares)
    for name in whole:
        assert isinstance(loaded(**{**whole, name: [0.5, 1.0]}).data.photos, CheckedPhotos)


def test_only_the_images_of_the_heads_statistics_are_there_as_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_statistics, "FEWEST", 3)
    run = loaded(training__seed=4, training__crop_scale=[0.5, 1.0], training__statistics_fraction=0.01)
    assert isinstance(run.data.train.images, Squares)
    assert run.data.train.images.rows is not None
    expected = head_statistics.rows(len(run.data.train.labels), run.params)
    assert run.data.train.images.rows.tolist() == expected.tolist()
    assert len(expected) == 3


def test_images_are_kept_in_the_shared_cache_up_to_its_budget(tmp_path: Path) -> None:
    cache, crops = tmp_path / "cache", {"training__crop_scale": [0.5, 1.0]}
    assert isinstance(loaded(cache, runtime__image_cache_gb=0, **crops).data.photos, StreamedPhotos)
    assert not list(cache.glob("*.npy"))
    assert isinstance(loaded(cache, runtime__image_cache_gb=None, **crops).data.photos, CheckedPhotos)
    assert list(cache.glob("*.npy"))
