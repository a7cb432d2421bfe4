from __future__ import annotations

import mite
import pytest
import torch
from torch import Tensor

from adaptformer.errors import UserError
from adaptformer.model.translation import translate

Table = dict[str, Tensor]


@pytest.fixture
def expected() -> Table:
    return mite.encoder(seed=1)


def test_timms_own_names_pass_in_the_order_of_the_model(expected: Table) -> None:
    given = mite.encoder()
    translated = translate(dict(reversed(given.items())), expected)
    assert list(translated) == list(expected)
    assert all(torch.equal(translated[name], given[name]) for name in given)


@pytest.mark.parametrize("prefix", ["module.", "encoder.", "module.encoder."])
def test_prefixes_of_wrappers_are_taken_off(expected: Table, prefix: str) -> None:
    given = mite.encoder()
    translated = translate({prefix + name: tensor for name, tensor in given.items()}, expected)
    assert torch.equal(translated["blocks.1.mlp.fc2.bias"], given["blocks.1.mlp.fc2.bias"])


def test_decoder_mask_token_and_heads_are_dropped(expected: Table) -> None:
    extra = ("decoder_embed.weight", "decoder_blocks.0.norm1.bias", "mask_token", "head.weight", "fc_norm.bias")
    translated = translate({**mite.encoder(), **{name: torch.ones(1) for name in extra}}, expected)
    assert translated.keys() == expected.keys()


def test_the_result_is_fp32_and_contiguous(expected: Table) -> None:
    halves = {name: tensor.half() for name, tensor in mite.encoder().items()}
    halves["pos_embed"] = halves["pos_embed"].mT.contiguous().mT
    translated = translate(halves, expected)
    assert {tensor.dtype for tensor in translated.values()} == {torch.float32}
    assert translated["pos_embed"].is_contiguous()


def test_missing_tensors_are_listed_and_counted(expected: Table) -> None:
    given = {name: tensor for name, tensor in mite.encoder().items() if not name.startswith("blocks.1.")}
    with pytest.raises(UserError) as caught:
        translate(given, expected)
    assert caught.value.cause == (
        "the checkpoint lacks blocks.1.attn.proj.bias, blocks.1.attn.proj.weight, blocks.1.attn.qkv.bias and 9 more"
    )
    assert "backbone.model" in caught.value.remedy


def test_unknown_tensors_are_listed(expected: Table) -> None:
    with pytest.raises(UserError, match=r"has unknown blocks\.2\.norm1\.bias\n"):
        translate({**mite.encoder(), "blocks.2.norm1.bias": torch.ones(12)}, expected)


def test_other_shapes_are_listed_with_both(expected: Table) -> None:
    given = {**mite.encoder(), "norm.bias": torch.ones(13)}
    with pytest.raises(UserError, match=r"another shape for norm\.bias \(13,\) instead of \(12,\)\n"):
        translate(given, expected)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(expected: Table, number: float) -> None:
    given = mite.encoder()
    given["norm.bias"][3] = number
    with pytest.raises(UserError, match=r"not finite in norm\.bias\n"):
        translate(given, expected)


def test_a_tensor_that_is_filled_twice_is_refused(expected: Table) -> None:
    given = mite.encoder()
    with pytest.raises(UserError, match=r"fills norm\.bias twice"):
        translate({**given, "module.norm.bias": given["norm.bias"]}, expected)
