from __future__ import annotations

import mite
import numpy as np
import pytest
import torch

from adaptformer.model import backbone, batch_norm, classifier, inference

CPU = torch.device("cpu")
ROWS = np.array([1, 2, 4, 5, 7, 8, 11])


def recompute(model: classifier.Classifier, images: np.ndarray, batch_size: int = 3) -> None:
    batches = inference.prepared(images, ROWS, mite.CONTRACT, batch_size=batch_size, device=CPU)
    with torch.no_grad():
        batch_norm.recompute_statistics(model, map(model.pooled, batches))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_statistics_are_mean_and_unbiased_variance_of_the_inputs_of_batch_norm(batch_size: int) -> None:
    model = mite.stirred(mite.model(dropout=0.5, drop_path=0.5))
    images = mite.coloured(5, side=11).images  # evaluation sees the centre
    recompute(model, images, batch_size)
    given: list[torch.Tensor] = []
    model.head.batch_norm.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    inference.logits(model, images[ROWS], mite.CONTRACT, batch_size=100, device=CPU)
    torch.testing.assert_close(model.head.batch_norm.running_mean, given[0].mean(0))
    torch.testing.assert_close(model.head.batch_norm.running_var, given[0].var(0, unbiased=True))


def test_computing_the_statistics_changes_nothing_else() -> None:
    model = mite.stirred(mite.model())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recompute(model, mite.coloured(5).images)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.batch_norm.running_mean", "head.batch_norm.running_var"}


def test_a_distilled_model_has_those_of_both_its_heads() -> None:
    name = "deit_tiny_distilled_patch16_224"
    model = classifier.build(
        name, backbone.build(name).state_dict(), mite.settings(pooling="token"), image_size=16, classes=3, seed=0
    )
    images = mite.coloured(5, side=16).images
    contract = mite.CONTRACT.__class__(16, "crop", 1.0, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    model.eval()
    with torch.no_grad():
        batches = inference.prepared(images, ROWS, contract, batch_size=4, device=CPU)
        batch_norm.recompute_statistics(model, map(model.pooled, batches))
    (batch,) = inference.prepared(images, ROWS, contract, batch_size=100, device=CPU)
    with torch.no_grad():
        pooled = model.eval().pooled(batch)
    for head, features in zip((model.head, model.head_dist), pooled, strict=True):
        torch.testing.assert_close(head.batch_norm.running_mean, features.mean(0))
        torch.testing.assert_close(head.batch_norm.running_var, features.var(0))
