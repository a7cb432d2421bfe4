"""Which tensors of a checkpoint are taken, whatever they are wrapped in."""

from __future__ import annotations

import logging
from typing import Any

import mite
import pytest
import torch
from torch import Tensor

from adaptformer.backbones import tensor_search
from adaptformer.backbones.translation import translate
from adaptformer.base.errors import UserError
from adaptformer.model import tensor_file

Content = Any


@pytest.fixture
def expected() -> dict[str, Tensor]:
    return {name: tensor.to("meta") for name, tensor in mite.encoder().items()}


def below(prefix: str, seed: int = 0) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in mite.encoder(seed).items()}


def taken(content: Content, expected: dict[str, Tensor], weights: str = "ema") -> str:
    return tensor_file.content_hash(translate(tensor_search.choose(content, expected, weights).tensors, expected))


RAW, AVERAGED = (tensor_file.content_hash(mite.encoder(seed)) for seed in (0, 1))
PREFIXES = (
    "module.", "_orig_mod.", "module._orig_mod.", "model.", "backbone.", "net.", "encoder.", "module.encoder.",
    "visual.trunk.", "base_model.model.", "timm_model.", "0.", "anything.at.all.",
)  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_that_all_keys_share_is_taken_off(expected: dict[str, Tensor], prefix: str) -> None:
    text = {"text.weight": torch.ones(3), f"{prefix}head.weight": torch.ones(2, 12), "logit_scale": torch.ones(())}
    assert taken({**below(prefix), **text}, expected) == RAW


WRAPPERS = (
    "model", "state_dict", "teacher", "student", "model_ema", "state_dict_ema", "model_state_dict", "net", "weights",
    "module", "target_encoder", "anything",
)  # fmt: skip


@pytest.mark.parametrize("key", WRAPPERS)
@pytest.mark.parametrize("wrap", [lambda table: table, lambda table: {"inner": table}, lambda table: [table]])
def test_any_wrapper_is_looked_into(expected: dict[str, Tensor], key: str, wrap: Any) -> None:
    beside = {"epoch": 3, "best": torch.tensor(70.0), "optimizer": {"state": {0: {"exp_avg": torch.ones(12)}}}}
    assert taken({**beside, key: wrap(mite.encoder())}, expected) == RAW


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": below(""), "state_dict_ema": below("", 1)},
        {"model": below(""), "model_ema": below("", 1)},
        {"student": below("module.backbone."), "teacher": below("backbone.", 1)},
        {"encoder": below("module."), "target_encoder": below("module.", 1)},
        {"model": {**below("student.backbone."), **below("teacher.backbone.", 1)}},
        {**below("base_encoder."), **below("momentum_encoder.", 1)},
    ],
)
def test_of_averaged_and_raw_weights_the_parameter_chooses(
    expected: dict[str, Tensor], content: Content, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert taken(content, expected) == AVERAGED
    assert "an average of the trained ones (backbone.weights = ema); the file also holds" in caplog.text
    assert taken(content, expected, "raw") == RAW
    averaged = tensor_search.choose(content, expected, "ema").name
    assert taken(content, expected, averaged) == AVERAGED


def test_a_part_of_a_name_is_enough_if_it_is_one_tables(expected: dict[str, Tensor]) -> None:
    content = {"student": below("module.backbone."), "teacher": below("backbone.", 1)}
    assert taken(content, expected, "student") == RAW
    with pytest.raises(UserError, match=r"weights = backbone fits 2 of .*student\.module\.backbone, teacher\.backbone"):
        taken(content, expected, "backbone")


def test_weights_of_no_such_name_are_told_with_those_that_there_are(expected: dict[str, Tensor]) -> None:
    for weights in ("raw", "ema_model"):
        with pytest.raises(UserError, match=f"backbone.weights = {weights} fits none .*: teacher") as caught:
            taken({"teacher": below("")}, expected, weights)
        assert caught.value.remedy == "set backbone.weights to the name of one, such as teacher"


def test_two_tables_that_nothing_tells_apart_are_no_choice_to_guess(expected: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="fits 2 of the checkpoint's tables: a, b"):
        taken({"a": below(""), "b": below("", 1)}, expected)
    assert taken({"a": below(""), "b": below("", 1)}, expected, "b") == AVERAGED


def test_a_table_that_does_not_fit_is_no_rival(expected: dict[str, Tensor]) -> None:
    other = {name: torch.ones(3) for name in mite.encoder()}
    assert taken({"teacher": other, "student": below("")}, expected) == RAW


def test_what_was_taken_is_told(expected: dict[str, Tensor], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    taken(
        {"state_dict": {**below("model."), "criterion.weight": torch.ones(1), "model.head.bias": torch.ones(1)}},
        expected,
    )
    assert "weights: those named state_dict.model; 1 tensors beside them are left out" in caplog.text
    assert "left out, as no part of the encoder: head.bias" in caplog.text


def test_the_error_is_that_of_the_table_that_fits_most(expected: dict[str, Tensor]) -> None:
    near = {name: tensor for name, tensor in mite.encoder().items() if name != "norm.bias"}
    with pytest.raises(UserError, match=r"lacks norm\.bias"):
        taken({"optimizer": {"exp_avg": torch.ones(2)}, "model": near, "loss": {"w": torch.ones(1)}}, expected)


@pytest.mark.parametrize(
    "content", [[torch.ones(2)], {}, {"model": {}}, {"w": 3}, torch.ones(2), {1: torch.ones(2)}, None]
)
def test_what_holds_no_table_of_tensors_is_refused(expected: dict[str, Tensor], content: Content) -> None:
    with pytest.raises(UserError, match="holds no table of tensors"):
        taken(content, expected)


def test_a_container_within_itself_is_walked_once(expected: dict[str, Tensor]) -> None:
    content: dict[str, Any] = {"model": below("")}
    content["self"] = [content]
    assert taken(content, expected) == RAW


def quantised() -> Tensor:
    return torch.quantize_per_tensor(torch.ones(12), 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.ones(12).to_sparse(), "sparse"),
        (quantised, "quantised"),
        (lambda: torch.ones(12, device="meta"), "without numbers"),
        (lambda: torch.ones(12, dtype=torch.complex64), "complex"),
        (lambda: torch.ones(1).expand(12), "larger than its numbers"),
    ],
)
def test_tensors_that_are_no_plain_block_of_numbers_are_named(
    expected: dict[str, Tensor], make: Any, words: str
) -> None:
    with pytest.raises(UserError, match=rf"norm\.bias in the checkpoint is .*{words}"):
        taken({**mite.encoder(), "norm.bias": make()}, expected)


def test_attributes_that_a_file_gives_a_tensor_are_dropped(expected: dict[str, Tensor]) -> None:
    given = mite.encoder()
    given["norm.bias"].isfinite = None  # type: ignore[assignment]
    assert taken(given, expected) == RAW


def test_names_reach_the_terminal_as_one_printable_line(expected: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match=r"has unknown \?\[31mx\?y") as caught:
        taken({**mite.encoder(), "\x1b[31mx\ny" + "z" * 200: torch.ones(1)}, expected)
    assert len(caught.value.cause) < 200


def test_a_table_of_very_many_tensors_is_refused_at_once(expected: dict[str, Tensor]) -> None:
    with pytest.raises(UserError, match="holds 20001 tensors"):
        taken(dict.fromkeys((f"w{i}" for i in range(20_001)), torch.ones(1)), expected)
