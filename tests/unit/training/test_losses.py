from __future__ import annotations

from pathlib import Path

import mite
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_runs import run
from torch import nn

from adaptformer.data.labelled import LabelledImages
from adaptformer.model import classifier
from adaptformer.training import balance, loop

LABELS = torch.tensor([0, 0, 2, 1, 2, 0])
WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def logits() -> torch.Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


def test_without_weights_it_is_the_mean_cross_entropy() -> None:
    shares = balance.image_weights(LABELS, None)
    expected = F.cross_entropy(logits(), LABELS, label_smoothing=0.2)
    torch.testing.assert_close(balance.weighted_cross_entropy(logits(), LABELS, shares, 0.2), expected)


def test_without_smoothing_it_is_pytorchs_weighted_one() -> None:
    shares = balance.image_weights(LABELS, WEIGHTS)
    expected = F.cross_entropy(logits(), LABELS, weight=WEIGHTS, reduction="none").sum() / len(LABELS)
    torch.testing.assert_close(balance.weighted_cross_entropy(logits(), LABELS, shares, 0.0), expected)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_over_an_epoch_each_class_has_the_share_of_the_loss_that_was_asked_for(power: float) -> None:
    labels = np.repeat([0, 1], [3168, 32])  # one image in a hundred: most batches of 32 hold none of the rare class
    by_class = balance.class_weights(labels, 2, power)
    order = torch.from_numpy(labels[balance.order(labels, None, 0, 1, 1)])
    shares = torch.zeros(2)
    for batch in order.split(32):
        shares.index_add_(0, batch, balance.image_weights(batch, torch.from_numpy(by_class).float()))
    asked = np.array([3168, 32]) ** (1 - power)
    assert (shares / shares.sum()).numpy() == pytest.approx(asked / asked.sum(), rel=0.02)


def test_smoothing_does_not_draw_the_answer_to_the_rare_class() -> None:
    # Images that cannot be told apart: 98 of one class, 2 of the other, weighted to count the same. Whatever the
    # smoothing, the answer is half and half; and on one class alone it is that class.
    labels = torch.tensor([0] * 98 + [1] * 2)
    for seen, expected in ((labels, 0.5), (labels[:98], 0.95)):
        answer = torch.zeros(2, requires_grad=True)
        shares = balance.image_weights(seen, torch.tensor([100 / 196, 100 / 4]))
        optimiser = torch.optim.LBFGS([answer], max_iter=50)

        def loss(seen: torch.Tensor = seen, shares: torch.Tensor = shares, answer: torch.Tensor = answer) -> float:
            optimiser.zero_grad()  # noqa: B023 - called in this turn of the loop only
            value = balance.weighted_cross_entropy(answer.expand(len(seen), 2), seen, shares, 0.1)
            value.backward()
            return value.item()

        optimiser.step(loss)
        assert answer.softmax(0)[0].item() == pytest.approx(expected, abs=1e-3)


def unequal() -> LabelledImages:
    """Twelve images, of which nine are of the first class, two of the second and one of the third."""
    images = mite.coloured(9)
    kept = np.concatenate([np.flatnonzero(images.labels == c)[:n] for c, n in enumerate((9, 2, 1))])
    return LabelledImages(
        images.images[kept], images.labels[kept], [images.paths[i] for i in kept], [images.sha256[i] for i in kept]
    )


def after_one_step(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> dict[str, torch.Tensor]:
    with monkeypatch.context() as patch:
        made = run(
            folder, model={"init": "houlsby"}, train=unequal(), batch_size=12, epochs=1, warmup_fraction=0,
            base_lr=20.0, **changes,
        )  # fmt: skip
        made.model.head.batch_norm.eval()
        patch.setattr(nn.BatchNorm1d, "train", lambda self, _mode=True: self)  # it sees each micro-batch alone
        loop.train(made)
    return {name: parameter.detach() for name, parameter in classifier.trainable(made.model).items()}


@pytest.mark.parametrize("gradient_accumulation", [2, 3, 6])
def test_a_step_is_the_same_however_many_micro_batches_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradient_accumulation: int
) -> None:
    settings = {"class_balance": "loss", "label_smoothing": 0.1}
    whole = after_one_step(tmp_path / "1", monkeypatch, **settings)
    parts = after_one_step(tmp_path / "2", monkeypatch, gradient_accumulation=gradient_accumulation, **settings)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_class_weights_reach_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [after_one_step(tmp_path / kind, monkeypatch, class_balance=kind) for kind in ("none", "loss")]
    plain, weighted = (step["head.linear.bias"] for step in steps)
    # The bias follows the classes' shares of the loss: the frequent class gains, unless all weigh the same.
    assert plain[0] > plain[1] > plain[2]
    assert weighted.abs().max() < 0.1 * plain.abs().max()
