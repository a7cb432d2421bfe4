from __future__ import annotations

import mite
import pytest

from adaptformer.model import backbone, classifier
from adaptformer.model.parts import Part, parts


def test_adapters_have_their_block_and_slot_and_the_rest_is_backbone_or_head() -> None:
    found = parts(mite.model(bottlenecks=[4, 2]))
    assert found["vit.blocks.1.adapters.0.up.bias"] == Part("adapter", 1, 0)
    assert found["vit.blocks.0.adapters.1.down.weight"] == Part("adapter", 0, 1)
    assert found["vit.blocks.1.block.mlp.fc1.weight"] == Part("backbone", 1)
    assert found["vit.pos_embed"] == Part("backbone")
    assert found["head.linear.weight"] == found["head.fc_norm.bias"] == Part("head")


def test_every_parameter_has_one() -> None:
    model = mite.model()
    assert list(parts(model)) == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize(("depth", "blocks"), [("deep", {0, 1}), ("shallow", {0})])
def test_prompts_have_the_block_that_they_enter_before(depth: str, blocks: set[int]) -> None:
    found = parts(mite.model(method="vpt", prompt_depth=depth))
    assert {part.block for part in found.values() if part.kind == "prompts"} == blocks


def test_both_heads_of_a_distilled_model_are_head() -> None:
    name = "deit_tiny_distilled_patch16_224"
    encoder = backbone.build(name).state_dict()
    model = classifier.build(name, encoder, mite.settings(pooling="token"), image_size=16, classes=5, seed=0)
    assert parts(model)["head_dist.linear.bias"] == Part("head")
