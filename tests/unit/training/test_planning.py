"""What a run is predicted to take."""

from __future__ import annotations

from typing import Any

import mite
import pytest
import torch
from small_runs import training_params

from adaptformer.base.errors import UserError
from adaptformer.model import classifier, device
from adaptformer.model.device import Precision
from adaptformer.training import planning, schedule
from adaptformer.training.planning import Plan, Workload

CPU = torch.device("cpu")


def planned(images: int = 100, model: dict[str, Any] | None = None, **changes: Any) -> Plan:
    return planning.plan(workload(mite.model(**(model or {})), images=images, **changes))


def workload(
    model: classifier.Classifier,
    *,
    images: int = 100,
    where: torch.device = CPU,
    precision: Precision = "fp32",
    processes: int = 1,
    **changes: Any,
) -> Workload:
    return Workload(model, training_params(**changes), images, 16, where, precision, processes)


def test_the_plan_counts_the_trainable_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned()
    model = mite.model()
    trained = sum(parameter.numel() for parameter in classifier.trainable(model).values())
    assert (found.trained, found.kinds, found.tokens) == (trained, ("adapters", "head"), 5)
    assert planned(model={"method": "full"}).kinds == ("backbone", "head")
    assert planned(model={"method": "vpt"}).kinds == ("prompts", "head")
    assert Plan(20_272, 702_352, ("adapters", "head"), 65, 32, 512.0, 23_200.0, 10_233, 1222, 1216).lines() == [
        "trains 20,272 of 702,352 parameters (2.89 %): adapters, head; 65 tokens an image",
        "memory: about 0.5 GB with 32 images at once, of 23.2 GB that are free; about 10,233 images would fit",
        "each epoch trains on 1,216 of 1,222 images (100 %), different ones each time: an incomplete batch is dropped",
    ]


@pytest.mark.parametrize(("images", "used"), [(63, 32), (64, 64), (20, 20), (33, 32)])
def test_the_plan_shows_which_part_of_the_images_an_epoch_uses(images: int, used: int) -> None:
    found = planned(images=images, batch_size=32)
    assert found.used == used
    assert any("each epoch trains on" in line for line in found.lines()) == (used < images)


def test_memory_grows_with_the_images_that_are_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "present_memory_mb", lambda where: 100.0)
    monkeypatch.setattr(device, "free_memory_mb", lambda where: 900.0)
    peaks = [planned(batch_size=size).peak_mb for size in (8, 16, 24)]
    assert 100 < peaks[0] < peaks[1]
    assert peaks[2] - peaks[1] == pytest.approx(peaks[1] - peaks[0])
    assert planned(batch_size=16, gradient_accumulation=2).peak_mb == pytest.approx(peaks[0])
    assert planned(images=8, batch_size=16).peak_mb == pytest.approx(peaks[0])
    assert planned().free_mb == 1000
    each = (peaks[1] - peaks[0]) / 8
    assert planned(batch_size=8).largest == int((900 - (peaks[0] - 100 - 8 * each)) / each)


def test_what_is_frozen_keeps_nothing_for_a_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "present_memory_mb", lambda where: 0.0)
    probe, adapters, whole = (planned(model={"method": method}).peak_mb for method in ("linear", "adaptformer", "full"))
    assert probe < adapters < whole
    assert planned(model={"method": "full"}, optimiser="adamw").peak_mb > whole


@pytest.mark.parametrize(
    ("method", "precision", "kilobytes"),
    [
        ("linear", "fp32", 5.147), ("adaptformer", "fp32", 9.532), ("vpt", "fp32", 14.05), ("full", "fp32", 17.37),
        ("full", "bf16", 17.77),
    ],
)  # fmt: skip
def test_what_an_image_is_predicted_to_keep(
    monkeypatch: pytest.MonkeyPatch, method: str, precision: Precision, kilobytes: float
) -> None:
    """The figures of this model, as the formula gave them that was compared with measured peaks of ViT-S and ViT-B.

    The rest of a prediction does not depend on the batch: gradients, moments, the last and the best state, in fp32.
    """
    monkeypatch.setattr(device, "present_memory_mb", lambda where: 0.0)
    model = mite.model(method=method)
    peaks = [planning.plan(workload(model, precision=precision, batch_size=size)).peak_mb for size in (8, 16)]
    assert (peaks[1] - peaks[0]) / 8 == pytest.approx(kilobytes / 1000, rel=0.001)
    trained = sum(parameter.numel() for parameter in classifier.trainable(model).values())
    assert peaks[0] - (peaks[1] - peaks[0]) == pytest.approx(4 * trained * (1 + 1 + 2) / 1e6)
    with_adamw = planning.plan(workload(model, precision=precision, batch_size=8, optimiser="adamw")).peak_mb
    assert with_adamw - peaks[0] == pytest.approx(4 * trained / 1e6)


def test_a_plan_counts_every_parameter_and_whole_images(monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(images=7, batch_size=100, gradient_accumulation=2)
    assert (found.parameters, found.micro_batch) == (sum(p.numel() for p in mite.model().parameters()), 3)
    monkeypatch.setattr(device, "free_memory_mb", lambda where: 0.0)
    assert planned().largest == 0


def test_processes_share_the_micro_batch_and_the_memory_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "free_memory_mb", lambda where: 3000.0)
    one, three = (planning.plan(workload(mite.model(), processes=count, batch_size=8)) for count in (1, 3))
    assert (one.micro_batch, three.micro_batch) == (8, 3)
    assert three.largest < one.largest / 2.9
    assert three.free_mb == pytest.approx(one.free_mb - 2000, abs=50)
    assert "memory of each process: " in three.lines()[1]
    # Micro-batches are those of all processes together.
    tight = Plan(1, 2, ("head",), 65, 16, 12_250.0, 8_050.0, 8, 64, 64, processes=2)
    assert (
        "set training.gradient_accumulation to 2:" in planning.too_large(tight, training_params(batch_size=32)).remedy
    )


def test_all_of_a_plan_is_computed_where_training_will_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses to compute with tensors of two devices."""
    elsewhere = torch.device("meta")
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)  # which it cannot tell of such a device
    planning.plan(workload(mite.model(), where=elsewhere))
    assert planning.minutes(workload(mite.model(), images=40, where=elsewhere)) > 0


def test_planning_changes_neither_the_model_nor_the_random_numbers() -> None:
    model = mite.stirred(mite.model(dropout=0.5))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    planning.plan(workload(model))
    assert torch.equal(torch.rand(2), expected)
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_minutes_follow_from_steps_and_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[str] = []

    def seconds(work: Any) -> float:
        work()
        timed.append(work.__name__)
        return 3.0 if work.__name__ == "run" else 0.5

    monkeypatch.setattr(planning, "_seconds", seconds)

    def minutes(**changes: Any) -> float:
        settings = {"batch_size": 8, "epochs": 2, "head_statistics": "running", **changes}
        return planning.minutes(workload(mite.model(), images=40, **settings))

    # Five steps of 3 s, and two batches of validation images of 0.5 s, in each of two epochs.
    assert minutes() == pytest.approx(2 * (5 * 3 + 2 * 0.5) / 60)
    assert timed == ["run", "evaluate"]
    assert minutes(gradient_accumulation=2) == pytest.approx(2 * (5 * 2 * 3 + 4 * 0.5) / 60)
    assert minutes(head_statistics="recomputed") == pytest.approx(2 * (5 * 3 + 7 * 0.5) / 60)
    assert minutes(batch_size=9) == pytest.approx(2 * (4 * 3 + 16 / 9 * 0.5) / 60)  # the incomplete batch is dropped
    assert minutes(batch_size=100) == pytest.approx(2 * (1 * 3 + 16 / 40 * 0.5) / 60)
    for fraction, images in ((1.0, 2000), (0.1, 800)):  # images of the head's statistics
        many = workload(mite.model(), images=8000, batch_size=8, epochs=1, statistics_fraction=fraction)
        assert planning.minutes(many) == pytest.approx((1000 * 3 + (16 + images) / 8 * 0.5) / 60)
    timed.clear()
    assert minutes(schedule="layerwise", rounds=3) == pytest.approx(6 * minutes())
    assert timed.count("run") == planning.TIMED_PHASES + 1


def test_the_phases_that_are_timed_are_the_first_the_middle_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    begin = schedule.begin
    monkeypatch.setattr(schedule, "begin", lambda model, phase: (begun.append(phase.name), begin(model, phase)))
    planning.minutes(workload(mite.model(), images=40, schedule="layerwise", rounds=2, epochs=1))
    assert begun == ["block 0", "block 0", "block 1"]


def test_the_precision_of_training_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[str, str]] = []
    autocast = device.autocast

    def noting(where: torch.device, precision: Precision) -> Any:
        used.append((where.type, precision))
        return autocast(where, precision)

    monkeypatch.setattr(device, "autocast", noting)
    planning.minutes(workload(mite.model(), images=40, precision="bf16"))
    assert set(used) == {("cpu", "bf16")}
    assert len(used) == 6  # three steps, three looks


@pytest.mark.parametrize(("minutes", "epochs"), [(1.5, 1), (2.9, 1), (3.0, 2), (60, 40)])
def test_the_number_of_epochs_is_the_largest_within_the_time(minutes: float, epochs: int) -> None:
    assert planning.epochs_within(minutes, training_params(epochs=4), 6.0) == epochs


def test_less_time_than_one_epoch_takes_is_an_error() -> None:
    with pytest.raises(UserError) as caught:
        planning.epochs_within(1.25, training_params(epochs=4), 6.0)
    assert caught.value.cause == "one epoch of each phase takes about 1.5 minutes, and there are 1.25"
    assert "give more minutes" in caught.value.remedy


@pytest.mark.parametrize(
    ("largest", "remedy"),
    [
        (9, "set training.gradient_accumulation to 4: micro-batches of 8 images fit"),
        (16, "set training.gradient_accumulation to 2: micro-batches of 16 images fit"),
        (2, "set training.gradient_accumulation to 16: micro-batches of 2 images fit"),
        (1, "choose a smaller backbone or image.size: not even two images fit"),
    ],
)
def test_out_of_memory_names_a_batch_that_fits(largest: int, remedy: str) -> None:
    plan = Plan(1, 2, ("head",), 65, 32, 12_250.0, 8_050.0, largest, 64, 64)
    error = planning.too_large(plan, training_params(batch_size=32))
    assert error.cause == "out of memory: 32 images at once take about 12.2 GB, and 8.1 GB are free"
    assert error.remedy == remedy


def test_images_that_do_not_fit_the_input_are_told() -> None:
    assert planning.warnings(224, [300, 200, 500]) == []
    assert planning.warnings(224, [100, 200, 500]) == [
        "half of the images are enlarged: image.size = 224, but their median shorter side is 200"
    ]
    (said,) = planning.warnings(32, [375, 480, 333])
    assert said.startswith("image.size = 32 is small for photos with a median shorter side of 375: `--preset photos`")
    assert said.endswith("has a backbone for 224 pixels")
    assert planning.warnings(32, [32, 32, 32]) == []
    assert planning.warnings(64, [255, 256, 257]) != []
    assert planning.warnings(64, [254, 255, 256]) == planning.warnings(65, [999]) == []
    assert planning.warnings(32, [10, 20, 40, 60, 70]) == []  # the middle one counts
