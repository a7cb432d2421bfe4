from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, f1_score
from small_runs import run, trained, validated
from torch import Tensor

from adaptformer.base.errors import UserError
from adaptformer.data import augmentation
from adaptformer.data.labelled import LabelledImages
from adaptformer.data.train_images import Photos
from adaptformer.model import adapter_file, classifier, inference, tensor_file
from adaptformer.training import balance as balancing
from adaptformer.training import epoch, evaluation_pass, loop, resume
from adaptformer.training.history import EpochRow
from adaptformer.training.optimiser import learning_rate
from adaptformer.training.run import Run, TrainingData


class Interruption(Exception):  # noqa: N818 - as KeyboardInterrupt
    """A kill, as far as a test within one process can have it."""


def bytes_of(trained: Run, folder: Path) -> bytes:
    adapter_file.write(folder / "adapter.safetensors", trained.model, mite.adapter_card())
    return (folder / "adapter.safetensors").read_bytes()


def frozen(model: classifier.Classifier) -> str:
    tuned = classifier.trainable_state_dict(model)
    return tensor_file.content_hash({name: t for name, t in model.state_dict().items() if name not in tuned})


def copies(model: classifier.Classifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in classifier.trainable_state_dict(model).items()}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """The indices of the images in each training batch, in order."""
    batches: list[list[int]] = []
    batch = TrainingData.crops

    def noting(data: TrainingData, chosen: Tensor, boxes: Tensor) -> Tensor:
        batches.append(chosen.tolist())
        return batch(data, chosen, boxes)

    monkeypatch.setattr(TrainingData, "crops", noting)
    return batches


def test_training_learns_to_tell_colours(tmp_path: Path) -> None:
    rows, best = loop.train(run(tmp_path, epochs=6, model={}))
    assert rows[best].val_top1 == 1.0
    assert rows[-1].val_loss < rows[0].val_loss / 2
    assert rows[-1].train_loss < rows[0].train_loss / 2


def test_every_adapter_and_the_head_change_and_nothing_else(tmp_path: Path) -> None:
    made = run(tmp_path, model={"bottlenecks": (4, 2), "scale": "learned", "layernorm": "in"})
    before, backbone = copies(made.model), frozen(made.model)
    loop.train(made)
    assert frozen(made.model) == backbone
    same = [
        name
        for name, tensor in classifier.trainable_state_dict(made.model).items()
        if torch.equal(tensor, before[name])
    ]
    assert same == []


@pytest.mark.parametrize("epochs_before", [1, 2, 3])
def test_an_interrupted_run_ends_with_the_same_bytes_and_rows(tmp_path: Path, epochs_before: int) -> None:
    straight = run(tmp_path / "straight")
    rows, best = loop.train(straight)
    expected = bytes_of(straight, tmp_path)

    def stop(row: EpochRow) -> None:
        if row.epoch == epochs_before:
            raise Interruption

    with pytest.raises(Interruption):
        loop.train(run(tmp_path / "killed"), stop)
    resumed, seen_rows = run(tmp_path / "killed"), list[EpochRow]()
    assert loop.train(resumed, seen_rows.append) == (rows, best)
    assert bytes_of(resumed, tmp_path) == expected
    assert seen_rows == rows, "a listener must see the whole history"


def test_a_run_interrupted_in_the_middle_of_an_epoch_gives_the_same_bytes(
    tmp_path: Path, seen: list[list[int]]
) -> None:
    straight = run(tmp_path / "straight")
    rows, _ = loop.train(straight)
    killed = run(tmp_path / "killed")
    steps = 0

    def stop(*_: object) -> None:
        nonlocal steps
        steps += killed.model.training
        if steps == 4:  # the second batch of the second epoch
            raise Interruption

    killed.model.register_forward_pre_hook(stop)
    with pytest.raises(Interruption):
        loop.train(killed)
    seen.clear()
    resumed = run(tmp_path / "killed")
    assert loop.train(resumed)[0] == rows
    assert len(seen) == 2 * 2, "the first epoch was trained again"
    assert bytes_of(resumed, tmp_path) == bytes_of(straight, tmp_path)


def test_a_run_killed_after_its_last_epoch_trains_no_more(tmp_path: Path, seen: list[list[int]]) -> None:
    finished = run(tmp_path)
    rows, best = loop.train(finished)
    seen.clear()
    again = run(tmp_path)
    assert loop.train(again) == (rows, best)
    assert seen == []
    assert bytes_of(again, tmp_path) == bytes_of(finished, tmp_path)


def test_another_fingerprint_starts_from_the_beginning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loop.train(run(tmp_path))
    other = run(tmp_path, fingerprint={"training": {}, "backbone": "def"})
    rows, _ = loop.train(other)
    assert len(rows) == 3
    assert "training starts from the beginning: since the previous run, backbone changed" in caplog.messages
    assert not any("resumes" in message for message in caplog.messages)


def test_a_damaged_state_starts_from_the_beginning_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    straight = run(tmp_path)
    loop.train(straight)
    straight.checkpoint.path.write_bytes(straight.checkpoint.path.read_bytes()[:-1])
    again = run(tmp_path)
    loop.train(again)
    assert bytes_of(again, tmp_path) == bytes_of(straight, tmp_path)


def test_the_last_incomplete_batch_is_dropped(tmp_path: Path, seen: list[list[int]]) -> None:
    loop.train(run(tmp_path, per_class=3, batch_size=4, epochs=1))
    assert [len(batch) for batch in seen] == [4, 4]
    assert len(set(chain(*seen))) == 8


def test_a_split_smaller_than_a_batch_is_one_batch(tmp_path: Path, seen: list[list[int]]) -> None:
    rows, _ = loop.train(run(tmp_path, per_class=1, batch_size=64, epochs=2))
    assert [sorted(batch) for batch in seen] == [[0, 1, 2], [0, 1, 2]]
    assert len(rows) == 2


@pytest.mark.parametrize(("images", "said"), [(1, "1 image"), (0, "0 images")])
def test_a_split_without_two_images_is_refused_before_training(tmp_path: Path, images: int, said: str) -> None:
    few = mite.coloured(1)
    split = LabelledImages(few.images[:images], few.labels[:images], few.paths[:images], few.sha256[:images])
    with pytest.raises(UserError) as caught:
        loop.train(run(tmp_path, train=split))
    assert caught.value.cause == f"the training split has {said}, and BatchNorm needs two at least"
    assert caught.value.remedy == "add images to data/, then run `adaptformer validate` again"


def test_two_images_are_enough(tmp_path: Path) -> None:
    few = mite.coloured(1)
    split = LabelledImages(few.images[:2], few.labels[:2], few.paths[:2], few.sha256[:2])
    rows, _ = loop.train(run(tmp_path, train=split, epochs=1))
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("per_class", "gradient_accumulation", "batch", "most"), [(7, 8, 8, 4), (1, 2, 3, 1), (7, 4, 8, None)]
)
def test_micro_batches_of_one_image_are_refused_before_training(
    tmp_path: Path, per_class: int, gradient_accumulation: int, batch: int, most: int | None
) -> None:
    made = run(tmp_path, per_class=per_class, gradient_accumulation=gradient_accumulation, epochs=1)
    if most is None:
        loop.train(made)
        return
    with pytest.raises(UserError) as caught:
        loop.train(made)
    assert caught.value.cause == (
        f"training.gradient_accumulation = {gradient_accumulation} makes micro-batches of one image "
        f"out of a batch of {batch}"
    )
    assert caught.value.remedy == f"set it to {most} or less: BatchNorm needs two images in each"


def test_micro_batches_of_a_small_split_are_of_equal_size(tmp_path: Path, seen: list[list[int]]) -> None:
    loop.train(run(tmp_path, per_class=3, batch_size=16, gradient_accumulation=4, epochs=1))
    assert sorted(map(len, seen)) == [2, 2, 2, 3], "not 3, 3, 3 and nothing, and none of one image"


def test_each_epoch_has_an_order_of_its_own_that_the_seed_decides(tmp_path: Path, seen: list[list[int]]) -> None:
    loop.train(run(tmp_path / "1", epochs=2))
    first, second = [*chain(*seen[:2])], [*chain(*seen[2:])]
    assert first != second
    seen.clear()
    loop.train(run(tmp_path / "2", epochs=2))
    assert [*chain(*seen)] == first + second
    seen.clear()
    loop.train(run(tmp_path / "3", epochs=2, seed=1))
    assert [*chain(*seen[:2])] != first


def test_crops_and_dropout_differ_from_step_to_step_and_repeat_with_the_seed(tmp_path: Path) -> None:
    def inputs(folder: str, **changes: Any) -> list[Tensor]:
        given: list[Tensor] = []
        made = run(tmp_path / folder, per_class=2, batch_size=6, **changes)
        made.model.register_forward_pre_hook(lambda _, args: given.append(args[0]) if made.model.training else None)
        loop.train(made)
        return given

    first, again, other = inputs("1"), inputs("2"), inputs("3", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].sort().values, first[1].sort().values)
    assert not torch.equal(first[0], other[0])


def test_the_sampler_draws_the_images(tmp_path: Path, seen: list[list[int]]) -> None:
    loop.train(run(tmp_path, class_balance="sampler", epochs=1))
    drawn = [*chain(*seen)]
    assert len(drawn) == 16
    assert len(set(drawn)) < 16, "with repetition"


@pytest.mark.parametrize(("balance", "weighted"), [("none", False), ("sampler", False), ("loss", True)])
def test_class_weights_reach_the_loss_only_where_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, balance: str, weighted: bool
) -> None:
    given: list[Tensor | None] = []
    weigh = balancing.image_weights

    def noting(labels: Tensor, class_weights: Tensor | None) -> Tensor:
        given.append(class_weights)
        return weigh(labels, class_weights)

    monkeypatch.setattr(balancing, "image_weights", noting)
    loop.train(run(tmp_path, class_balance=balance, epochs=1))
    assert given
    assert all((weights is not None) == weighted for weights in given)


def test_each_metric_of_validation_is_the_one_that_its_name_says(tmp_path: Path) -> None:
    made = run(tmp_path, model={})
    images = made.data.validation.images
    with torch.no_grad():
        answers = (
            inference.logits(made.model, images, made.data.contract, batch_size=4, device=made.compute.device)
            .argmax(1)
            .numpy()
        )
    # Labels by which the three metrics differ: most images of one class, and the answers wrong on some.
    labels = np.where(np.arange(len(answers)) < 2, (answers + 1) % 3, answers)
    labels[-1] = (answers[-1] + 2) % 3
    validation = dataclasses.replace(made.data.validation, labels=labels)
    made = dataclasses.replace(made, data=dataclasses.replace(made.data, validation=validation))
    found = evaluation_pass.validate(made)
    expected = {
        "val_top1": (labels == answers).mean(),
        "val_balanced_accuracy": balanced_accuracy_score(labels, answers),
        "val_macro_f1": f1_score(labels, answers, average="macro"),
    }
    assert len({round(value, 3) for value in expected.values()}) == 3
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_dropout_differs_from_step_to_step(tmp_path: Path) -> None:
    masks: list[Tensor] = []
    made = run(tmp_path, epochs=1, model={"activation": "gelu", "init": "houlsby", "dropout": 0.5})
    made.model.vit.blocks[0].adapters[0].dropout.register_forward_hook(
        lambda layer, _, result: masks.append(result == 0) if layer.training else None
    )
    loop.train(made)
    assert len(masks) == 2
    assert not torch.equal(masks[0], masks[1])


def test_the_learning_rate_follows_the_formula_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    step = torch.optim.SGD.step

    def noting(self: torch.optim.SGD) -> None:
        used.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.SGD, "step", noting)
    made = run(tmp_path, per_class=8, batch_size=8, epochs=3)
    rows, _ = loop.train(made)
    expected = [learning_rate(made.params, step / 3, 3, 3, 8) for step in range(9)]
    assert used == pytest.approx(expected)
    assert [row.lr for row in rows] == pytest.approx(expected[2::3], abs=1e-6)


def test_the_rate_follows_the_images_that_are_there(tmp_path: Path) -> None:
    made = run(tmp_path, per_class=8, batch_size=1024, epochs=2, warmup_fraction=0)  # 24 images: one step an epoch
    rows, _ = loop.train(made)
    assert rows[0].lr == pytest.approx(made.params.base_lr * 24 / 256, abs=1e-6)


@pytest.mark.parametrize("schedule", ["joint", "layerwise"])
def test_one_step_an_epoch_and_one_epoch_a_phase_train(tmp_path: Path, schedule: str) -> None:
    made = run(tmp_path, batch_size=21, epochs=1, schedule=schedule, base_lr=0.5, rollback_above=100.0)
    before = made.model.head.linear.weight.detach().clone()
    rows, _ = loop.train(made)
    assert all(row.lr > 0 for row in rows)
    assert not torch.equal(before, made.model.head.linear.weight)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"warmup_steps": 6}, "training.warmup_steps = 6 lasts 6 steps, and training has 6"),
        ({"warmup_fraction": 0.95}, "training.warmup_fraction = 0.95 lasts 5.7 steps, and training has 6"),
        ({"warmup_steps": 7, "schedule": "layerwise"}, "and each phase has 6"),
    ],
)
def test_a_warm_up_that_never_peaks_is_refused(tmp_path: Path, changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(UserError, match=re.escape(cause)) as error:
        loop.train(run(tmp_path, **changes))
    assert "raise training.epochs" in error.value.remedy


def test_a_warm_up_that_ends_before_the_last_step_trains(tmp_path: Path) -> None:
    rows, _ = loop.train(run(tmp_path, warmup_steps=5))
    assert len(rows) == 3


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_row_tells_loss_and_accuracy_of_both_splits(tmp_path: Path, seen: list[list[int]], smoothing: float) -> None:
    made = run(
        tmp_path, per_class=4, batch_size=5, epochs=1, base_lr=1e-9, label_smoothing=smoothing, model={},
        crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False,
    )  # fmt: skip
    mite.stirred(made.model)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mite.CONTRACT.mean, mite.CONTRACT.std))

    def judged(images: np.ndarray, labels: np.ndarray, smoothing: float = 0.0) -> tuple[float, float]:
        pixels = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            logits = made.model((pixels - mean) / std)
        hits = float((logits.argmax(1) == torch.from_numpy(labels)).float().mean())
        return float(F.cross_entropy(logits, torch.from_numpy(labels), label_smoothing=smoothing)), hits

    ((row,), _) = loop.train(made)
    # The rate is so small that the weights are as they were: judge both splits again, each in its mode.
    made.model.eval()
    validation = judged(made.data.validation.images, made.data.validation.labels)
    assert (row.val_loss, row.val_top1) == pytest.approx(validation, abs=1e-5)
    made.model.train()
    batches = [judged(made.data.train.images[batch], made.data.train.labels[batch], smoothing) for batch in seen]
    assert [len(batch) for batch in seen] == [5, 5]
    assert (row.train_loss, row.train_top1) == pytest.approx(np.mean(batches, axis=0), abs=1e-3)
    assert (row.phase, row.epoch) == (1, 1)


def test_a_model_that_comes_in_evaluation_mode_is_trained_all_the_same(tmp_path: Path) -> None:
    usual, evaluated = run(tmp_path / "1", epochs=1), run(tmp_path / "2", epochs=1)
    evaluated.model.eval()
    assert loop.train(evaluated) == loop.train(usual)


@pytest.mark.parametrize(("balance", "gradient_accumulation"), [("none", 1), ("sampler", 1), ("sampler", 2)])
def test_each_draw_has_a_crop_of_its_own(
    tmp_path: Path, seen: list[list[int]], balance: str, gradient_accumulation: int
) -> None:
    given: list[Tensor] = []
    photos = Photos.of_one_size(mite.coloured(7, side=20).images)
    made = run(tmp_path, epochs=1, photos=photos, class_balance=balance, gradient_accumulation=gradient_accumulation)
    made.model.register_forward_pre_hook(lambda _, args: given.append(args[0]) if made.model.training else None)
    loop.train(made)
    order = [index for batch in seen for index in batch]
    boxes = augmentation.random_boxes(
        np.full((21, 2), 20), made.params.crop_scale, made.params.crop_ratio, True, 0, 1, 1
    )[: len(order)]
    cropped = augmentation.crop([photos[index] for index in order], boxes, mite.SIDE, "bilinear")
    mean, std = torch.tensor(mite.CONTRACT.mean), torch.tensor(mite.CONTRACT.std)
    torch.testing.assert_close(torch.cat(given), augmentation.normalise(augmentation.planes(cropped), mean, std))
    crops = {(index, *box) for index, box in zip(order, boxes.tolist(), strict=True)}
    assert len(crops) == len(order)
    assert (len(set(order)) < len(order)) == (balance == "sampler")  # which drew some images twice


@pytest.mark.parametrize(
    ("metric", "validations", "best"),
    [
        ("top1", [(1.0, 0.5), (2.0, 0.9), (0.5, 0.7)], 1),
        ("loss", [(1.0, 0.5), (2.0, 0.9), (0.5, 0.7)], 2),
        ("top1", [(2.0, 0.5), (1.0, 0.5), (1.5, 0.5)], 1),  # a tie: the smaller loss
        ("loss", [(1.0, 0.5), (1.0, 0.6), (1.0, 0.55)], 1),  # a tie: the higher accuracy
        ("top1", [(1.0, 0.5), (1.0, 0.5), (1.0, 0.5)], 0),  # a full tie: the earlier epoch
    ],
)
def test_the_model_is_left_as_it_was_in_the_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, validations: list[tuple[float, float]], best: int
) -> None:
    given = iter(validations)
    monkeypatch.setattr(evaluation_pass, "validate", lambda _: validated(*next(given)))
    made, kept = run(tmp_path, selection_metric=metric), list[dict[str, Tensor]]()
    _, chosen = loop.train(made, lambda _: kept.append(copies(made.model)))
    assert chosen == best
    final = classifier.trainable_state_dict(made.model)
    assert all(torch.equal(final[name], tensor) for name, tensor in kept[best].items())
    for other in {0, 1, 2} - {best}:
        assert not torch.equal(final["head.linear.weight"], kept[other]["head.linear.weight"])


def test_the_best_epoch_survives_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([(1.0, 0.9), (1.0, 0.1), (1.0, 0.2)])
    monkeypatch.setattr(evaluation_pass, "validate", lambda _: validated(*next(given)))
    first: list[dict[str, Tensor]] = []
    killed = run(tmp_path)

    def stop(row: EpochRow) -> None:
        first.append(copies(killed.model))
        if row.epoch == 2:
            raise Interruption

    with pytest.raises(Interruption):
        loop.train(killed, stop)
    resumed = run(tmp_path)
    assert loop.train(resumed)[1] == 0
    final = classifier.trainable_state_dict(resumed.model)
    assert all(torch.equal(final[name], tensor) for name, tensor in first[0].items())


@pytest.mark.parametrize(("metric", "best"), [("top1", 0), ("balanced_accuracy", 1), ("macro_f1", 2), ("loss", 3)])
def test_the_metric_of_the_params_chooses_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, best: int
) -> None:
    given = iter([(1.0, 0.9, 0.5, 0.5), (1.0, 0.5, 0.9, 0.5), (1.0, 0.5, 0.5, 0.9), (0.9, 0.5, 0.5, 0.5)])
    monkeypatch.setattr(epoch, "train_steps", lambda *_: trained())
    monkeypatch.setattr(evaluation_pass, "validate", lambda _: validated(*next(given)))
    assert loop.train(run(tmp_path, epochs=4, selection_metric=metric))[1] == best


def test_steps_that_diverge_end_in_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training diverged in epoch \d: the loss is (nan|inf)"):
        loop.train(run(tmp_path, base_lr=1e30, warmup_fraction=0))


@pytest.mark.parametrize(
    ("train", "validation", "named"),
    [(math.nan, 1.0, "nan"), (math.inf, math.nan, "inf"), (1.0, math.nan, "nan"), (1.0, math.inf, "inf")],
)
def test_divergence_ends_in_an_error_that_names_the_loss_and_the_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: float, validation: float, named: str
) -> None:
    monkeypatch.setattr(epoch, "train_steps", lambda *_: trained(train))
    monkeypatch.setattr(evaluation_pass, "validate", lambda _: validated(validation, 0.5))
    with pytest.raises(UserError) as caught:
        loop.train(run(tmp_path))
    assert caught.value.cause == f"training diverged in epoch 1: the loss is {named}"
    assert caught.value.remedy == "lower training.base_lr, or lengthen the warm-up (training.warmup_fraction)"


def test_divergence_in_the_very_last_step_is_found_on_the_validation_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training diverged in epoch 1"):
        loop.train(run(tmp_path, per_class=2, batch_size=6, epochs=1, base_lr=1e38, warmup_fraction=0))
    assert not (tmp_path / "resume.safetensors").exists()


def test_bf16_trains_on_a_cpu_and_keeps_fp32_parameters(tmp_path: Path) -> None:
    full, half = run(tmp_path / "full", model={}), run(tmp_path / "half", model={}, precision="bf16")
    computed: dict[str, set[torch.dtype]] = {"adapter": set(), "head": set()}
    for part, layer in (("adapter", half.model.vit.blocks[0].adapters[0].down), ("head", half.model.head.linear)):
        layer.register_forward_hook(lambda _, given, result, part=part: computed[part].add(result.dtype))
    rows = [loop.train(made)[0] for made in (full, half)]
    assert computed == {"adapter": {torch.bfloat16}, "head": {torch.float32}}, "in training and in validation"
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    assert rows[0] != rows[1]
    assert rows[1][-1].train_loss == pytest.approx(rows[0][-1].train_loss, abs=0.2)


def test_progress_is_logged_each_epoch_and_within_long_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "adaptformer")
    monkeypatch.setattr(loop, "pace", lambda made, rate, epochs_left: f"{epochs_left} more")
    rows, _ = loop.train(run(tmp_path / "1", epochs=2))
    assert caplog.messages == [
        f"epoch {row.epoch}/2: train loss {row.train_loss:.4f}, validation loss {row.val_loss:.4f}, "
        f"top-1 {100 * row.val_top1:.2f} %; {2 - row.epoch} more"
        for row in rows
    ]
    caplog.clear()
    loop.train(run(tmp_path / "1", epochs=2))
    assert caplog.messages == ["training resumes after epoch 2"]
    caplog.clear()
    monkeypatch.setattr(epoch, "SECONDS_BETWEEN_LOG_LINES", -1)
    loop.train(run(tmp_path / "2", epochs=1))
    assert caplog.messages[:2] == ["epoch 1/1: step 1 of 2", "epoch 1/1: step 2 of 2"]


def test_an_epoch_is_reported_before_its_line_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who reads the line and presses Ctrl-C is then told of that epoch."""
    caplog.set_level("INFO", "adaptformer")
    logged: list[int] = []
    loop.train(run(tmp_path, epochs=2), lambda row: logged.append(len(caplog.messages)))
    assert logged == [0, 1]


def test_the_pace_is_that_of_the_images_which_were_trained_on_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch that resumes after its first step has 8 of 21 images behind it; a look at the clock takes a second."""
    rates: list[float] = []
    monkeypatch.setattr(loop, "pace", lambda made, rate, epochs_left: str(rates.append(rate)))
    clock = itertools.count()
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(clock)))
    save = resume.save

    def save_and_die(path: Path, state: resume.State, *more: Any) -> None:
        save(path, state, *more)
        raise Interruption

    with monkeypatch.context() as dying:
        dying.setattr(resume, "save", save_and_die)
        with pytest.raises(Interruption):
            loop.train(run(tmp_path, epochs=3, every_steps=1))
    loop.train(run(tmp_path, epochs=3))
    assert [rate / rates[-1] for rate in rates] == pytest.approx([13 / 21, 1, 1])


@pytest.mark.parametrize(
    ("rate", "left", "said"),
    [(1234.5, 3, "1,234 images/s, 56 MB, 0 s left"), (0.5, 2, "0.5 images/s, 56 MB, 84 s left"),
     (0.25, 2, "0.2 images/s, 56 MB, 3 min left")],
)  # fmt: skip
def test_the_pace_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, left: int, said: str) -> None:
    monkeypatch.setattr(loop.device, "peak_memory_mb", lambda where: 56.4)
    assert loop.pace(run(tmp_path), rate, left) == said


def test_the_state_is_saved_after_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save: Callable[..., None] = resume.save
    monkeypatch.setattr(
        resume, "save", lambda path, state, *more: (saved.append(len(state.rows)), save(path, state, *more))
    )
    loop.train(run(tmp_path))
    assert saved == [1, 2, 3]


def test_a_warm_up_in_steps_is_counted_in_steps(tmp_path: Path) -> None:
    made = run(tmp_path, epochs=2, batch_size=4, warmup_steps=9, base_lr=0.5, scale_lr=False)
    (first, _), _ = loop.train(made)
    steps = len(made.data.train.labels) // 4
    assert first.lr == pytest.approx(0.5 * (steps - 1) / 9, abs=1e-6)
