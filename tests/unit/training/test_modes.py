"""A model keeps its mode when a forward pass raises an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mite
import numpy as np
import pytest
import small_runs
import torch

from adaptformer.evaluation import attention
from adaptformer.model import inference
from adaptformer.training import evaluation_pass, planning
from adaptformer.training.run import Run

PASSES: dict[str, Callable[[Run], object]] = {
    "logits": lambda run: inference.logits(
        run.model, run.data.validation.images, run.data.contract, batch_size=4, device=run.compute.device
    ),
    "attention": lambda run: attention.maps(run.model, torch.zeros(1, 3, mite.SIDE, mite.SIDE)),
    "validation": evaluation_pass.validate,
    "head statistics": evaluation_pass.recompute_statistics,
    "activation cache": lambda run: run.activation_cache.advance_to(1),
    "plan": lambda run: planning.plan(planning.Workload(run.model, run.params, 8, 4, run.compute.device, "fp32")),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("forward", PASSES.values(), ids=PASSES)
def test_the_mode_is_restored_after_an_error(tmp_path: Path, forward: Callable[[Run], object], training: bool) -> None:
    run = small_runs.run(tmp_path, fixed_crops=1)
    run.model.train(training)
    modes: list[bool] = []

    def fail(module: torch.nn.Module, _inputs: object) -> None:
        modes.append(module.training)
        raise ZeroDivisionError

    run.model.vit.patch_embed.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        forward(run)
    assert modes == [forward is PASSES["plan"]]
    assert {module.training for module in run.model.modules()} == {training}


def test_logits_are_those_of_evaluation_mode_and_the_mode_is_kept(tmp_path: Path) -> None:
    run = small_runs.run(tmp_path)
    images, contract, cpu = run.data.validation.images, run.data.contract, run.compute.device
    run.model.train()
    logits = [inference.logits(run.model, images, contract, batch_size=4, device=cpu) for _ in range(2)]
    assert run.model.training
    np.testing.assert_array_equal(*(values.numpy() for values in logits))
