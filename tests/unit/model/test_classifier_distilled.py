"""DeiT's distilled models: a second token with a head of its own; the model's answer is the mean of both."""

from __future__ import annotations

import mite
import pytest
import torch

from adaptformer.export.merging import merge
from adaptformer.model import backbone, classifier

MODEL = "deit_tiny_distilled_patch16_224"


@pytest.fixture(scope="module")
def model() -> classifier.Classifier:
    encoder = backbone.build(MODEL).state_dict()
    made = classifier.build(
        MODEL, encoder, mite.settings(pooling="token", bottlenecks=[4]), image_size=48, classes=5, seed=0
    )
    return mite.stirred(made)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1))


def test_the_answer_is_the_mean_of_both_heads(model: classifier.Classifier, images: torch.Tensor) -> None:
    assert model.head_dist is not None
    with torch.no_grad():
        tokens = model.vit.forward_features(images)
        first, second = model.head(tokens[:, 0]), model.head_dist(tokens[:, 1])
        torch.testing.assert_close(model(images), (first + second) / 2)
    assert (first - second).abs().max() > 0.1, "otherwise one head would do"


def test_both_heads_train_and_are_kept(model: classifier.Classifier) -> None:
    assert {"head.linear.weight", "head_dist.linear.weight"} <= classifier.trainable(model).keys()
    assert "head_dist.batch_norm.running_var" in classifier.trainable_state_dict(model)


def test_merging_keeps_the_answer(model: classifier.Classifier, images: torch.Tensor) -> None:
    merged = merge(model)
    with torch.no_grad():
        expected = model(images)
        assert (merged(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_mean_pooling_leaves_out_both_tokens(images: torch.Tensor) -> None:
    encoder = backbone.build(MODEL).state_dict()
    made = classifier.build(MODEL, encoder, mite.settings(pooling="mean"), image_size=48, classes=5, seed=0).eval()
    assert made.head_dist is None
    with torch.no_grad():
        torch.testing.assert_close(made.pooled(images)[0], made.vit.forward_features(images)[:, 2:].mean(1))
