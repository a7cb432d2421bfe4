from __future__ import annotations

import mite
import pytest
import torch

from adaptformer.model import classifier
from adaptformer.tuning import schedule
from adaptformer.tuning.schedule import Phase


def test_joint_training_is_one_phase_of_everything() -> None:
    assert schedule.joint(["b", "a"], 7) == [Phase("joint", 7, frozenset({"a", "b"}))]


def test_what_remains_begins_with_the_next_epoch() -> None:
    first, second = Phase("first", 2, frozenset()), Phase("second", 3, frozenset())

    def remaining(done: int) -> list[tuple[int, str, int]]:
        return [(number, phase.name, epoch) for number, phase, epoch in schedule.remaining([first, second], done)]

    assert remaining(0) == [(1, "first", 1), (2, "second", 1)]
    assert remaining(1) == [(1, "first", 2), (2, "second", 1)]
    assert remaining(2) == [(2, "second", 1)]
    assert remaining(4) == [(2, "second", 3)]
    assert remaining(5) == []


def test_a_phase_frees_exactly_what_it_names() -> None:
    model = mite.model()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    names = frozenset({"head.linear.bias", "vit.blocks.1.adapters.0.up.weight"})
    returned = schedule.begin(model, Phase("some", 1, names))
    parameters = dict(model.named_parameters())
    assert {name for name, parameter in parameters.items() if parameter.requires_grad} == names
    assert [id(parameter) for parameter in returned] == [
        id(parameters["vit.blocks.1.adapters.0.up.weight"]), id(parameters["head.linear.bias"]),
    ]  # fmt: skip
    assert all(parameter.grad is None for parameter in parameters.values()), "an old gradient would move it once more"
    schedule.begin(model, Phase("all", 1, frozenset(classifier.trainable(model))))
    assert parameters["head.linear.weight"].requires_grad


def test_a_misspelt_name_does_not_silently_train_nothing() -> None:
    with pytest.raises(ValueError, match=r"phase joint names .*head\.linear\.wieght"):
        schedule.begin(mite.model(), Phase("joint", 1, frozenset({"head.linear.wieght", "head.linear.bias"})))
