from __future__ import annotations

import mite
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adaptformer.base.errors import UserError
from adaptformer.model import backbone
from adaptformer.model.backbone import DropPath


def test_the_bundled_architecture_has_its_documented_sizes() -> None:
    vit = backbone.build("vit_nano_patch4_32")
    assert vit.pos_embed.shape == (1, 1 + 8 * 8, 96)
    assert vit.patch_embed.proj.weight.shape == (96, 3, 4, 4)
    assert (len(vit.blocks), vit.blocks[0].attn.num_heads) == (6, 3)
    assert isinstance(vit.head, nn.Identity)


def test_an_unknown_name_is_answered_with_a_close_one() -> None:
    with pytest.raises(UserError, match="vit_bse_patch16_224 is no architecture") as caught:
        backbone.build("vit_bse_patch16_224")
    assert caught.value.remedy == "did you mean vit_base_patch16_224?"
    with pytest.raises(UserError) as caught:
        backbone.build("qqqqqq")
    assert "list_models" in caught.value.remedy


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("resnet10t", "of the family ResNet"),
        ("test_efficientnet", "of the family EfficientNet"),
        ("test_vit2", r"without a class token \(it averages its patches\)"),
        ("test_vit3", r"without a class token \(it pools by attention\)"),
        ("vit_small_patch16_18x2_224", "built of ParallelThingsBlock"),
        ("vit_small_patch16_dinov3.lvd1689m", "of the family Eva"),
        ("beit_base_patch16_224", "of the family Beit"),
    ],
)
def test_other_families_are_refused_by_name(model: str, what: str) -> None:
    with pytest.raises(UserError, match=f"{model} is not a plain VisionTransformer.*{what}"), torch.device("meta"):
        backbone.build(model)


def test_an_architecture_that_cannot_be_built_at_a_size_is_refused_for_the_size() -> None:
    """A hybrid, whose convolutions make the features that its patches divide."""
    with pytest.raises(UserError, match=r"image\.size = 100 does not suit vit_tiny_r_s16_p8_224") as caught:
        backbone.build("vit_tiny_r_s16_p8_224", 100)
    assert caught.value.remedy == "set image.size to a multiple of 32, such as 96"


def test_weights_that_timm_does_not_know_are_told_with_those_that_it_knows() -> None:
    with pytest.raises(UserError, match=r"no weights foo of it") as caught:
        backbone.build("vit_base_patch16_224.foo")
    assert "vit_base_patch16_224.mae" in caught.value.remedy


def test_layer_scale_and_registers_load_and_their_grid_alone_is_interpolated() -> None:
    """DINOv2: position embeddings [1, N, D] without entries for class token and registers."""
    model = "vit_small_patch14_reg4_dinov2.lvd142m"
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in backbone.build(model, 42).state_dict().items()}
    numbers = torch.Generator().manual_seed(0)
    encoder = {name: torch.randn(shape, generator=numbers) for name, shape in shapes.items()}
    assert encoder["pos_embed"].shape == (1, 9, 384)
    vit = backbone.build(model, 56)
    backbone.load_encoder(vit, encoder)
    grid = encoder["pos_embed"].reshape(1, 3, 3, 384).permute(0, 3, 1, 2)
    larger = F.interpolate(grid, (4, 4), mode="bicubic", antialias=True).permute(0, 2, 3, 1)
    torch.testing.assert_close(vit.pos_embed.detach(), larger.reshape(1, 16, 384))
    state = vit.state_dict()
    for name in ("reg_token", "cls_token", "blocks.11.ls2.gamma"):
        assert torch.equal(state[name], encoder[name]), name
    assert vit.forward_features(torch.zeros(1, 3, 56, 56)).shape == (1, 1 + 4 + 16, 384)


def test_a_distilled_model_keeps_both_tokens_when_its_grid_is_interpolated() -> None:
    vit = backbone.build("deit_tiny_distilled_patch16_224", 32)
    encoder = {name: torch.randn(tensor.shape) for name, tensor in vit.state_dict().items()}
    assert encoder["pos_embed"].shape == (1, 2 + 4, 192)
    larger = backbone.build("deit_tiny_distilled_patch16_224", 48)
    backbone.load_encoder(larger, encoder)
    assert larger.pos_embed.shape == (1, 2 + 9, 192)
    assert torch.equal(larger.pos_embed[:, :2], encoder["pos_embed"][:, :2])
    assert torch.equal(larger.dist_token, encoder["dist_token"])
    assert isinstance(larger.head_dist, nn.Identity)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("vit_tiny_patch16_224.augreg_in21k", 5_524_416),
        ("vit_small_patch16_224.augreg_in21k", 21_665_664),
        ("vit_base_patch16_224.mae", 85_798_656),
        ("vit_large_patch16_224.mae", 303_301_632),
        ("vit_huge_patch14_224.mae", 630_764_800),
    ],
)
def test_every_usual_size_has_as_many_parameters_as_published(model: str, parameters: int) -> None:
    with torch.device("meta"):
        vit = backbone.build(model)
    assert sum(parameter.numel() for parameter in vit.parameters()) == parameters


def test_an_image_size_that_patches_do_not_divide_names_the_nearest() -> None:
    with pytest.raises(UserError, match="not a multiple of the patch size 4") as caught:
        backbone.build(mite.MODEL, 18)
    assert caught.value.remedy == "set image.size to 16"


def test_the_same_size_takes_position_embeddings_as_they_are() -> None:
    vit = backbone.build(mite.MODEL, mite.SIDE)
    backbone.load_encoder(vit, mite.encoder())
    for name, tensor in mite.encoder().items():
        assert torch.equal(vit.state_dict()[name], tensor), name


def test_another_size_interpolates_the_grid_and_keeps_the_class_token() -> None:
    encoder = mite.encoder()
    vit = backbone.build(mite.MODEL, 24)
    backbone.load_encoder(vit, encoder)
    assert vit.pos_embed.shape == (1, 1 + 6 * 6, mite.WIDTH)
    grid = encoder["pos_embed"][:, 1:].reshape(1, 2, 2, mite.WIDTH).permute(0, 3, 1, 2)
    larger = F.interpolate(grid, (6, 6), mode="bicubic", antialias=True).permute(0, 2, 3, 1)
    assert torch.equal(vit.pos_embed[:, :1], encoder["pos_embed"][:, :1])
    torch.testing.assert_close(vit.pos_embed.detach()[:, 1:], larger.reshape(1, 36, mite.WIDTH))
    assert encoder["pos_embed"].shape == (1, 5, mite.WIDTH), "the caller's table was changed"


def test_drop_path_rises_linearly_to_its_rate() -> None:
    vit = backbone.build("vit_nano_patch4_32")
    backbone.set_drop_path(vit, 0.5)
    rates = [
        [part.drop_prob if isinstance(part, DropPath) else 0.0 for part in (block.drop_path1, block.drop_path2)]
        for block in vit.blocks
    ]
    assert rates == [[pytest.approx(0.1 * i)] * 2 for i in range(6)]
    backbone.set_drop_path(vit, 0.0)
    assert all(isinstance(block.drop_path1, nn.Identity) for block in vit.blocks)


def test_published_weights_are_known_by_their_exact_name_only() -> None:
    config = backbone.published("vit_base_patch16_224.mae")
    assert config is not None
    assert config.license == "cc-by-nc-4.0"
    assert tuple(config.mean) == (0.485, 0.456, 0.406)
    assert backbone.published("vit_base_patch16_224.not_a_tag") is None


def test_a_plain_block_has_maes_settings() -> None:
    made = backbone.block(12, 3)
    assert made.attn.qkv.bias is not None
    assert (made.norm1.eps, made.norm2.eps) == (1e-6, 1e-6)
