from __future__ import annotations

from pathlib import Path

import mite
import pytest
import torch
from small_runs import run, training_params

from adaptformer.base.errors import UserError
from adaptformer.model import classifier
from adaptformer.model.parts import Part
from adaptformer.training import loop, schedule
from adaptformer.training.history import EpochRow
from adaptformer.training.schedule import Phase

HEAD = frozenset({"weight of the head"})
PARTS = {f"slot {k} of block {b}": Part("adapter", b, k) for b in range(3) for k in range(2)} | {
    name: Part("head") for name in HEAD
}


def plan(**changes: object) -> list[Phase]:
    return schedule.plan(PARTS, training_params(epochs=7, **changes))


def row(phase: int, epoch: int, rolled_back: int = 0) -> EpochRow:
    return EpochRow(1, phase, epoch, 0.1, 1.0, 0.5, 1.0, 0.5, 0.5, 0.5, rolled_back)


def test_joint_training_is_one_phase_of_everything() -> None:
    assert plan() == [Phase("joint", 1, 7, frozenset(PARTS))]


def test_slotwise_takes_one_slot_of_all_blocks_and_the_head_in_each_round() -> None:
    phases = plan(schedule="slotwise", rounds=2)
    assert [(phase.round, phase.name, phase.epochs) for phase in phases] == [
        (1, "slot 0", 7), (1, "slot 1", 7), (2, "slot 0", 7), (2, "slot 1", 7),
    ]  # fmt: skip
    assert phases[1].trains == HEAD | {f"slot 1 of block {b}" for b in range(3)}


def test_layerwise_takes_one_block_and_the_head() -> None:
    phases = plan(schedule="layerwise")
    assert [phase.name for phase in phases] == ["block 0", "block 1", "block 2"]
    assert phases[2].trains == HEAD | {f"slot {k} of block 2" for k in range(2)}
    assert [phase.name for phase in plan(schedule="layerwise", block_order="down")] == ["block 2", "block 1", "block 0"]


def test_a_random_order_visits_every_block_and_differs_by_round() -> None:
    phases = plan(schedule="layerwise", block_order="random", rounds=6)
    rounds = [tuple(phase.name for phase in phases[i : i + 3]) for i in range(0, 18, 3)]
    assert all(sorted(names) == ["block 0", "block 1", "block 2"] for names in rounds)
    assert len(set(rounds)) > 1
    assert phases == plan(schedule="layerwise", block_order="random", rounds=6)
    assert phases != plan(schedule="layerwise", block_order="random", rounds=6, seed=1)


def test_the_random_order_of_a_seed_is_this_one_for_ever() -> None:
    # Figures in docs/ and in finished runs rest on it.
    phases = plan(schedule="layerwise", block_order="random", rounds=4)
    assert [int(phase.name.removeprefix("block ")) for phase in phases] == RANDOM_BLOCKS


RANDOM_BLOCKS = [2, 1, 0, 1, 2, 0, 2, 1, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("chosen", "method", "unit"),
    [
        ("slotwise", "linear", "slot"), ("slotwise", "vpt", "slot"), ("slotwise", "full", "slot"),
        ("layerwise", "linear", "block"),
    ],
)  # fmt: skip
def test_a_schedule_without_parts_to_train_is_refused(tmp_path: Path, chosen: str, method: str, unit: str) -> None:
    with pytest.raises(UserError) as caught:
        loop.train(run(tmp_path, model={"method": method}, schedule=chosen))
    assert caught.value.cause == f"training.schedule = {chosen} finds no {unit} with anything to train in this model"
    assert caught.value.remedy == "set adapter.method to adaptformer, or training.schedule to joint"


def test_layerwise_trains_the_prompts_or_the_weights_of_each_block_in_turn(tmp_path: Path) -> None:
    prompts = loop.plan(run(tmp_path, model={"method": "vpt"}, schedule="layerwise"))
    assert [{name for name in phase.trains if not name.startswith("head")} for phase in prompts] == [
        {"vit.blocks.0.prompts"}, {"vit.blocks.1.prompts"},
    ]  # fmt: skip
    weights = loop.plan(run(tmp_path, model={"method": "full"}, schedule="layerwise"))
    assert [phase.name for phase in weights] == ["block 0", "block 1"]
    assert "vit.blocks.1.mlp.fc1.weight" in weights[1].trains - weights[0].trains


def test_what_remains_begins_with_the_next_epoch() -> None:
    first, second = Phase("first", 1, 2, frozenset()), Phase("second", 1, 3, frozenset())

    def remaining(*rows: EpochRow) -> list[tuple[int, str, int]]:
        return [(number, phase.name, epoch) for number, phase, epoch in schedule.remaining([first, second], rows)]

    assert remaining() == [(1, "first", 1), (2, "second", 1)]
    assert remaining(row(1, 1)) == [(1, "first", 2), (2, "second", 1)]
    assert remaining(row(1, 1), row(1, 2)) == [(2, "second", 1)]
    assert remaining(row(1, 2), row(2, 2)) == [(2, "second", 3)]
    assert remaining(row(2, 3)) == []
    assert remaining(row(1, 1, rolled_back=1)) == [(2, "second", 1)], "a rolled-back phase is over"


def test_a_phase_frees_exactly_what_it_names() -> None:
    model = mite.model()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    names = frozenset({"head.linear.bias", "vit.blocks.1.adapters.0.up.weight"})
    schedule.begin(model, Phase("some", 1, 1, names))
    parameters = dict(model.named_parameters())
    assert {name for name, parameter in parameters.items() if parameter.requires_grad} == names
    assert all(parameter.grad is None for parameter in parameters.values()), "an old gradient would move it once more"
    schedule.begin(model, Phase("all", 1, 1, frozenset(classifier.trainable(model))))
    assert parameters["head.linear.weight"].requires_grad


def test_a_misspelt_name_does_not_silently_train_nothing() -> None:
    with pytest.raises(ValueError, match=r"phase joint names .*head\.linear\.wieght"):
        schedule.begin(mite.model(), Phase("joint", 1, 1, frozenset({"head.linear.wieght", "head.linear.bias"})))
