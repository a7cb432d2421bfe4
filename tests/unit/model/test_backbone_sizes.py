"""Training steps of the large backbones, with random weights: no size of theirs is taken for granted anywhere.

All but their depth is real; two blocks behave as 32 do, in a sixteenth of the time.
"""

from __future__ import annotations

from functools import partial

import mite
import pytest
import torch
import torch.nn.functional as F

from adaptformer.model import backbone, classifier

ARCHITECTURES = [
    ("vit_tiny_patch16_224", 32, "mean"),
    ("vit_small_patch16_224", 64, "token"),
    ("vit_base_patch16_224.mae", 64, "token"),
    ("vit_large_patch16_224.mae", 64, "mean"),
    ("vit_huge_patch14_224.mae", 70, "token"),
    ("vit_small_patch14_dinov2.lvd142m", 70, "mean"),  # LayerScale
    ("vit_small_patch14_reg4_dinov2.lvd142m", 70, "token"),  # and registers
]


@pytest.fixture(autouse=True)
def _shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone.timm, "create_model", partial(backbone.timm.create_model, depth=2))


@pytest.mark.parametrize(("model", "side", "pooling"), ARCHITECTURES)
def test_a_step_moves_the_adapters_and_nothing_else(model: str, side: int, pooling: str) -> None:
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in backbone.build(model).state_dict().items()}
    numbers = torch.Generator().manual_seed(0)
    encoder = {name: 0.02 * torch.randn(shape, generator=numbers) for name, shape in shapes.items()}
    settings = mite.settings(bottlenecks=[8], pooling=pooling)
    made = classifier.build(model, encoder, settings, image_size=side, classes=5, seed=0).train()
    trained = classifier.trainable(made)
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    optimiser = torch.optim.SGD(trained.values(), lr=1.0)
    for _ in range(2):  # the first step moves only Wu: Wd's gradient goes through it, and it starts at zero
        loss = F.cross_entropy(made(torch.randn(4, 3, side, side, generator=numbers)), torch.arange(4))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.isfinite()
    still = {name for name, parameter in trained.items() if torch.equal(parameter, before[name])}
    assert not {name for name in still if ".adapters." in name or "linear" in name}
    frozen = dict(made.named_parameters())
    loaded = {name for name in shapes if name != "pos_embed" and not name.startswith("norm.")}
    for name in loaded:
        ours = frozen[_wrapped(name) if name.startswith("blocks.") else f"vit.{name}"]
        assert ours.grad is None
        assert torch.equal(ours, encoder[name]), name


def _wrapped(name: str) -> str:
    """Return the name that a block's parameter has inside an adapted block."""
    _, index, rest = name.split(".", 2)
    return f"vit.blocks.{index}.block.{rest}"
