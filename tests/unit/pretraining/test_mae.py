"""The masked autoencoder against its paper, written out patch by patch."""

from __future__ import annotations

import math

import mite
import pytest
import torch
from torch import Tensor

from adaptformer.model import backbone
from adaptformer.pretraining.mae import MaskedAutoencoder, patchify, sine_positions


def autoencoder() -> MaskedAutoencoder:
    torch.manual_seed(0)
    model = MaskedAutoencoder(backbone.build(mite.MODEL, 16), width=8, depth=2, heads=2)
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=numbers))
    return model


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def orders(count: int = 2) -> Tensor:
    return torch.rand(count, 16, generator=torch.Generator().manual_seed(3)).argsort(dim=1)


def test_patches_come_in_the_order_of_the_tokens() -> None:
    embed = backbone.build(mite.MODEL, 16).patch_embed
    torch.nn.init.normal_(embed.proj.weight)
    flat = embed.proj.weight.permute(0, 2, 3, 1).reshape(mite.WIDTH, -1)
    patches = patchify(images(), 4)
    torch.testing.assert_close(patches @ flat.T + embed.proj.bias, embed(images()))


def test_a_patch_is_its_pixels_row_by_row() -> None:
    image = torch.arange(3 * 4 * 6).view(1, 3, 4, 6)[..., :4]
    expected = [image[0, channel, row, column] for row in (2, 3) for column in (0, 1) for channel in range(3)]
    assert patchify(image, 2)[0, 2].tolist() == [value.item() for value in expected]


def test_positions_are_sines_and_cosines_of_column_and_row() -> None:
    table = sine_positions(8, 3)[0]
    assert table.shape == (10, 8)
    assert not table[0].any(), "the class token has no place"
    for row in range(3):
        for column in range(3):
            expected = [
                wave(place / 10000 ** (i / 2))
                for place in (column, row) for wave in (math.sin, math.cos) for i in range(2)
            ]  # fmt: skip
            assert table[1 + 3 * row + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_positions_are_fixed() -> None:
    model = autoencoder()
    assert torch.equal(model.vit.pos_embed, sine_positions(mite.WIDTH, 4))
    assert not model.vit.pos_embed.requires_grad
    assert "decoder_positions" not in dict(model.named_parameters())


def restated_loss(model: MaskedAutoencoder, image: Tensor, order: list[int]) -> float:
    """The paper for one image: encode the first quarter of `order`, paint all, judge the other three."""
    vit, keep, hidden = model.vit, order[:4], order[4:]
    embedded = vit.patch_embed(image[None])[0]
    visible = [vit.cls_token[0, 0] + vit.pos_embed[0, 0]]
    visible += [embedded[place] + vit.pos_embed[0, 1 + place] for place in keep]
    encoded = model.embed(vit.norm(vit.blocks(torch.stack(visible)[None])))[0]
    tokens = [encoded[0]]
    tokens += [encoded[1 + keep.index(place)] if place in keep else model.mask_token[0, 0] for place in range(16)]
    painted = model.paint(model.norm(model.decoder((torch.stack(tokens) + model.decoder_positions[0])[None])))[0, 1:]
    errors = []
    for place in hidden:
        row, column = 4 * (place // 4), 4 * (place % 4)
        pixels = image[:, row : row + 4, column : column + 4].permute(1, 2, 0).flatten()
        target = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
        errors.append(((painted[place] - target) ** 2).mean().item())
    return sum(errors) / 12


def test_the_loss_is_the_papers_on_hidden_patches_alone() -> None:
    model = autoencoder().eval()
    with torch.no_grad():
        expected = [
            restated_loss(model, image, order) for image, order in zip(images(), orders().tolist(), strict=True)
        ]
        assert model(images(), orders()).item() == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_the_encoder_sees_none_of_what_is_hidden() -> None:
    model, order = autoencoder().eval(), orders(1)
    seen = images(1)
    other = seen.clone()
    place = int(order[0, 7])
    other[:, :, 4 * (place // 4) : 4 * (place // 4) + 4, 4 * (place % 4) : 4 * (place % 4) + 4] += 5
    with torch.no_grad():
        assert torch.equal(model._encode(seen, order[:, :4]), model._encode(other, order[:, :4]))


def test_every_part_learns_but_the_positions() -> None:
    model = autoencoder()
    model(images(), orders()).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"vit.pos_embed"}
