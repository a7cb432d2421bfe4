"""A proposal to train longer is made only if the last epoch of a joint training was the best."""

import pytest

from adaptformer.pipeline import adapter_metadata
from adaptformer.training.history import EpochRow


def rows(epochs: int, phases: int = 1) -> list[EpochRow]:
    return [
        EpochRow(1, phase, epoch, 0.1, 1.0, 0.5, 1.0, 0.5, 0.5, 0.5, 0)
        for phase in range(1, phases + 1)
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize(
    ("best", "trained", "proposal"),
    [
        (12, rows(12), "the last of 12 epochs was the best on the validation split; train longer: training.epochs=24"),
        (1, rows(1), "the only epoch was the best on the validation split; train longer: training.epochs=2"),
        (11, rows(12), ""),
        (8, rows(4, phases=2), ""),
    ],
)
def test_more_epochs_are_proposed_if_the_last_one_was_the_best(
    best: int, trained: list[EpochRow], proposal: str
) -> None:
    assert adapter_metadata.longer({"epoch": best}, trained) == proposal
