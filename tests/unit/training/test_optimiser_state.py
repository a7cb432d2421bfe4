from __future__ import annotations

import mite
import torch
from torch.optim import SGD, AdamW, Optimizer

from adaptformer.model import tensor_file
from adaptformer.training.optimiser import pack_state, unpack_state


def stepped(optimiser: Optimizer, parameters: list[torch.nn.Parameter]) -> Optimizer:
    for i, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, i + 1.0)
    optimiser.step()
    return optimiser


def parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.zeros(mite.WIDTH, 2))]


def test_a_fresh_optimiser_goes_on_where_the_packed_one_stood(tmp_path) -> None:
    for kind, settings in ((SGD, {"lr": 0.1, "momentum": 0.9}), (AdamW, {"lr": 0.1})):
        straight = parameters()
        optimiser = stepped(kind(straight, **settings), straight)
        tensor_file.write(tmp_path / "x.safetensors", pack_state(optimiser), {})
        resumed = [torch.nn.Parameter(p.detach().clone()) for p in straight]
        stepped(optimiser, straight)
        fresh = kind(resumed, **settings)
        unpack_state(fresh, tensor_file.read(tmp_path / "x.safetensors")[0])
        stepped(fresh, resumed)
        for a, b in zip(straight, resumed, strict=True):
            assert torch.equal(a, b), kind


def test_settings_stay_those_of_the_fresh_optimiser() -> None:
    first, second = parameters(), parameters()
    packed = pack_state(stepped(SGD(first, lr=0.1, momentum=0.9), first))
    assert set(packed) == {"0.momentum_buffer", "1.momentum_buffer"}
    fresh = SGD(second, lr=0.5, momentum=0.3)
    unpack_state(fresh, packed)
    assert (fresh.param_groups[0]["lr"], fresh.param_groups[0]["momentum"]) == (0.5, 0.3)
