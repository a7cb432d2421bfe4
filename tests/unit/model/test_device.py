from __future__ import annotations

import os
from pathlib import Path

import mite
import pytest
import torch

from adaptformer.base import memory
from adaptformer.base.errors import UserError
from adaptformer.model import classifier, device

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param)


@pytest.mark.parametrize(
    ("cuda", "setting", "chosen"),
    [
        (True, "auto", "cuda"),
        (True, "cpu", "cpu"),
        (True, "cuda", "cuda"),
        (False, "auto", "cpu"),
        (False, "cpu", "cpu"),
    ],
    indirect=["cuda"],
)
def test_the_device_is_the_one_asked_for_or_the_best(cuda: None, setting: device.Any, chosen: str) -> None:
    assert device.choose(setting, 1).type == chosen


@pytest.mark.parametrize("cuda", [False], indirect=True)
def test_cuda_asked_for_in_vain_names_the_parameter(cuda: None) -> None:
    with pytest.raises(UserError, match=r"runtime\.device = cuda, but torch finds no CUDA device") as caught:
        device.choose("cuda", 1)
    assert "auto or cpu" in caught.value.remedy


def test_threads_are_set_and_zero_means_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    device.choose("cpu", 3)
    assert device.threads() == torch.get_num_threads() == 3
    monkeypatch.setattr(device, "default_threads", lambda: 2)
    device.choose("cpu", 0)
    assert device.threads() == 2


def test_one_a_core_counts_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7})
    assert device.default_threads() == 3


@pytest.mark.parametrize("setting", ["fp32", "bf16"])
def test_a_precision_that_is_set_is_taken(setting: device.Any) -> None:
    assert device.precision(setting, CPU, 96, 6) == setting
    assert device.precision(setting, CUDA, 96, 6) == setting


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_on_a_gpu_that_has_it_whatever_the_model(
    monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: supported)
    assert device.precision("auto", CUDA, 12, 2) == expected


@pytest.mark.parametrize(
    ("flags", "width", "depth", "expected"),
    [
        ({"amx_bf16"}, 192, 12, "bf16"),
        ({"amx_bf16"}, 191, 12, "fp32"),
        ({"amx_bf16"}, 192, 11, "fp32"),
        ({"avx512_bf16"}, 768, 12, "fp32"),
    ],
)
def test_auto_on_a_cpu_is_bf16_for_wide_models_where_it_multiplies_in_it(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], width: int, depth: int, expected: str
) -> None:
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset(flags))
    assert device.precision("auto", CPU, width, depth) == expected


def test_flags_are_read_where_the_system_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: "processor\t: 0\nflags\t\t: fpu amx_bf16 sse\nbugs\t\t: a\n")
    assert device.cpu_flags() == {"fpu", "amx_bf16", "sse"}

    def refused(self: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refused)
    assert device.cpu_flags() == frozenset()


def test_bf16_computes_in_bf16_and_fp32_does_not() -> None:
    a = torch.ones(2, 2)
    with device.autocast(CPU, "bf16"):
        assert (a @ a).dtype == torch.bfloat16
    with device.autocast(CPU, "fp32"):
        assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize(
    ("where", "precision", "fused"), [(CPU, "bf16", False), (CPU, "fp32", True), (CUDA, "bf16", True)]
)
def test_attention_is_written_out_only_for_bf16_on_a_cpu(
    where: torch.device, precision: device.Precision, fused: bool
) -> None:
    model = mite.model()
    for block in model.vit.blocks:
        block.block.attn.fused_attn = True
    device.plain_attention(model.vit, where, precision)
    assert [block.block.attn.fused_attn for block in model.vit.blocks] == [fused, fused]


def test_frozen_matrices_are_stored_as_they_are_cast_and_give_the_same_bytes() -> None:
    images = torch.randn(3, 3, mite.SIDE, mite.SIDE, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 1, 2])
    found = []
    for stored in (False, True):
        model = mite.stirred(mite.model(bottlenecks=[4], scale="learned"))
        if stored:
            device.store_frozen(model, "bf16")
        with device.autocast(CPU, "bf16"):
            logits = model(images)
        torch.nn.functional.cross_entropy(logits, labels).backward()
        found.append([logits, *(parameter.grad for parameter in classifier.trainable(model).values())])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert kinds["vit.blocks.0.block.mlp.fc1.weight"] == kinds["vit.patch_embed.proj.weight"] == torch.bfloat16
    assert all(kinds[name] == torch.float32 for name in model.tuned)
    assert all(kind == torch.float32 for name, kind in kinds.items() if "norm" in name)


def test_nothing_is_stored_otherwise_where_fp32_computes() -> None:
    model = mite.model()
    device.store_frozen(model, "fp32")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_freed_memory_is_kept_wherever_a_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[None] = []
    monkeypatch.setattr(memory, "keep_freed", lambda: told.append(None))
    device.choose("cpu", 1)
    assert told
