from __future__ import annotations

from pathlib import Path

import mite
import pytest
import timm
import torch
from small_runs import run, training_params
from torch import nn

from adaptformer.model import classifier
from adaptformer.training import loop
from adaptformer.training.optimiser import build_optimiser, decay_groups, set_learning_rate


class One(nn.Module):
    """A module of one matrix with one number, and of a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.vector = nn.Parameter(torch.tensor([[2.0]])), nn.Parameter(torch.tensor([2.0]))


def names(model: nn.Module) -> tuple[set[str], set[str]]:
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying, others = decay_groups(model, 0.1)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    return {by_id[id(p)] for p in decaying["params"]}, {by_id[id(p)] for p in others["params"]}  # type: ignore[attr-defined]


def test_full_fine_tuning_decays_matrices_alone() -> None:
    model = mite.model(method="full", pooling="token")
    decaying, others = names(model)
    block = {"attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"}
    assert decaying == {
        "vit.patch_embed.proj.weight", "head.linear.weight",
        *(f"vit.blocks.{index}.{name}" for index in range(mite.DEPTH) for name in block),
    }  # fmt: skip
    assert others == dict(model.named_parameters()).keys() - decaying
    assert {"vit.pos_embed", "vit.cls_token"} <= others


def test_register_tokens_do_not_decay() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", reg_tokens=4, num_classes=0)
    assert {"reg_token", "pos_embed", "cls_token"} <= names(vit)[1]


def test_adapters_matrices_decay_even_with_one_row_and_scales_do_not() -> None:
    model = mite.model(bottlenecks=[1], scale="channel")
    decaying, others = names(model)
    slot = "vit.blocks.0.adapters.0"
    assert {f"{slot}.down.weight", f"{slot}.up.weight"} <= decaying
    assert {f"{slot}.scale", f"{slot}.down.bias"} <= others
    assert decaying | others == classifier.trainable(model).keys(), "what is frozen is not in the optimiser"


def test_sgd_has_the_momentum_and_weight_decay_of_the_params() -> None:
    model = One()
    optimiser = build_optimiser(model, training_params(momentum=0.5, weight_decay=0.1))
    set_learning_rate(optimiser, 1.0)
    # By hand: the gradient 1 + 0.1·w, gathered with momentum, without Nesterov or dampening.
    for parameter, decay in ((model.matrix, 0.1), (model.vector, 0.0)):
        value, gathered = 2.0, 0.0
        with torch.no_grad():
            parameter.fill_(2.0)
        for _ in range(3):
            optimiser.zero_grad()
            parameter.grad = torch.ones_like(parameter)
            optimiser.step()
            gathered = 0.5 * gathered + 1 + decay * value
            value -= gathered
            assert parameter.item() == pytest.approx(value)


def test_adamws_weight_decay_reaches_the_update() -> None:
    model = One()
    optimiser = build_optimiser(model, training_params(optimiser="adamw", weight_decay=0.25))
    set_learning_rate(optimiser, 0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    assert model.matrix.item() == pytest.approx(2 * (1 - 0.5 * 0.25))
    assert model.vector.item() == 2


@pytest.mark.parametrize("gradient", [0.01, 100.0])
def test_adamws_first_step_is_as_long_for_every_gradient(gradient: float) -> None:
    model = One()
    optimiser = build_optimiser(model, training_params(optimiser="adamw", weight_decay=0.0))
    set_learning_rate(optimiser, 0.5)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    optimiser.step()
    assert model.matrix.item() == model.vector.item() == pytest.approx(1.5, abs=1e-5)


def test_weight_decay_reaches_a_training_run(tmp_path: Path) -> None:
    sizes = []
    for decay in (0.0, 3.0):
        made = run(
            tmp_path / str(decay), epochs=2, optimiser="adamw", scale_lr=False, base_lr=0.05, warmup_fraction=0,
            weight_decay=decay, selection_metric="loss",
        )  # fmt: skip
        loop.train(made, lambda _row: None)
        sizes.append(made.model.vit.blocks[0].adapters[0].down.weight.norm().item())
    assert sizes[1] < 0.8 * sizes[0]
