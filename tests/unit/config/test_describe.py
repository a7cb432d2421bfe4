"""What the summary of a run says was trained: what its method and schedule really train."""

import pytest
import small_project

from adaptformer.config import describe
from adaptformer.config.params import load

ADAPTERS = "adapters (width 16, parallel to the feed-forward layers) and the head"
CASES = [
    ({}, ADAPTERS),
    ({"adapter.bottlenecks": [16, 8]}, ADAPTERS.replace("width 16", "2 slots of widths 16, 8")),
    ({"adapter.placement": "sequential"}, ADAPTERS.replace("parallel to", "behind")),
    ({"adapter.placement": "after"}, ADAPTERS.replace("parallel to the feed-forward layers", "behind the blocks")),
    ({"adapter.method": "vpt", "adapter.prompts": 9}, "9 visual prompts in every block and the head"),
    (
        {"adapter.method": "vpt", "adapter.prompts": 9, "adapter.prompt_depth": "shallow"},
        "9 visual prompts before the first block and the head",
    ),
    ({"adapter.method": "linear"}, "the head alone"),
    ({"adapter.method": "full"}, "the whole backbone and the head"),
    ({"training.schedule": "slotwise"}, f"{ADAPTERS}, slot by slot"),
    ({"training.schedule": "layerwise", "training.rounds": 2}, f"{ADAPTERS}, block by block in 2 rounds"),
]


@pytest.mark.parametrize(("overrides", "words"), CASES)
def test_the_words_are_those_of_the_method_and_the_schedule(overrides: dict[str, object], words: str) -> None:
    wanted = load(small_project.ROOT / "params.yaml", overrides)
    assert describe.trained_parts(wanted.adapter, wanted.training) == words


@pytest.mark.parametrize(
    ("wanted", "has", "has_not"),
    [
        ("adaptformer", {"adapter.bottlenecks", "adapter.scale"}, {"adapter.prompts", "adapter.prompt_depth"}),
        ("vpt", {"adapter.prompts"}, {"adapter.bottlenecks", "adapter.scale"}),
        ("linear", {"adapter.pooling"}, {"adapter.bottlenecks", "adapter.prompts", "adapter.dropout"}),
        ("full", {"adapter.pooling"}, {"adapter.bottlenecks", "adapter.prompts"}),
    ],
)
def test_settings_are_those_that_the_method_reads(wanted: str, has: set[str], has_not: set[str]) -> None:
    params = load(small_project.ROOT / "params.yaml", {"adapter.method": wanted, "training.base_lr": 0.25})
    found = dict(describe.settings(params.adapter, params.training))
    assert has <= found.keys()
    assert not has_not & found.keys()
    assert found["adapter.method"] == wanted
    assert found["training.base_lr"] == 0.25
    assert "training.epochs" in found
