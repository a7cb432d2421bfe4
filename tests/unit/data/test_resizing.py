import dataclasses
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from adaptformer.data.decoding import decode
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import centre_crop, prepare, square, to_square

RAMP = np.repeat(np.arange(12, dtype=np.uint8)[np.newaxis, :, np.newaxis] * 20, 4, axis=0).repeat(3, axis=2)  # 4 x 12


def with_policy(contract: ImageContract, resize: str, **values: object) -> ImageContract:
    return dataclasses.replace(contract, resize=resize, **values)


def test_crop_keeps_the_centre_of_the_longer_side(contract: ImageContract) -> None:
    np.testing.assert_array_equal(to_square(RAMP, contract), RAMP[:, 4:8])
    tall = RAMP.swapaxes(0, 1)
    np.testing.assert_array_equal(to_square(tall, contract), tall[4:8])


def test_crop_scales_the_shorter_side(contract: ImageContract) -> None:
    large = RAMP.repeat(2, axis=0).repeat(2, axis=1)
    whole = np.array(Image.fromarray(large).resize((12, 4), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(to_square(large, contract), whole[:, 4:8])


def test_crop_of_a_strip_costs_no_memory(contract: ImageContract) -> None:
    strip = np.full((1, 200_000, 3), 9, np.uint8)
    assert to_square(strip, with_policy(contract, "crop", size=256)).tolist()[0][0] == [9, 9, 9]


def test_pad_centres_on_black(contract: ImageContract) -> None:
    padded = to_square(np.full((4, 12, 3), 200, np.uint8), with_policy(contract, "pad", size=6))
    assert padded[..., 0].tolist() == [[0] * 6, [0] * 6, [200] * 6, [200] * 6, [0] * 6, [0] * 6]
    padded = to_square(np.full((12, 4, 3), 200, np.uint8), with_policy(contract, "pad", size=6))
    assert padded[0, :, 0].tolist() == [0, 0, 200, 200, 0, 0]


def test_pad_keeps_a_pixel_of_a_strip(contract: ImageContract) -> None:
    padded = to_square(np.full((1, 1000, 3), 200, np.uint8), with_policy(contract, "pad"))
    assert padded[..., 0].max(axis=1).tolist() == [0, 200, 0, 0]
    padded = to_square(np.full((1000, 1, 3), 200, np.uint8), with_policy(contract, "pad"))
    assert padded[..., 0].max(axis=0).tolist() == [0, 200, 0, 0]


def test_squash_shows_all_of_both_sides(contract: ImageContract) -> None:
    squashed = to_square(RAMP, with_policy(contract, "squash"))
    np.testing.assert_array_equal(squashed, np.array(Image.fromarray(RAMP).resize((4, 4), Image.Resampling.BILINEAR)))


def test_interpolations_differ(contract: ImageContract) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    bicubic = to_square(noise, dataclasses.replace(contract, interpolation="bicubic"))
    np.testing.assert_array_equal(bicubic, np.array(Image.fromarray(noise).resize((4, 4), Image.Resampling.BICUBIC)))
    assert (bicubic != to_square(noise, contract)).any()


@pytest.mark.parametrize("change", [{"resize": "stretch"}, {"interpolation": "nearest"}])
def test_unknown_policies_are_refused(contract: ImageContract, change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="unknown"):
        to_square(RAMP, dataclasses.replace(contract, **change))


def test_centre_crop_of_images_and_batches() -> None:
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    np.testing.assert_array_equal(centre_crop(image, 2), image[1:3, 2:4])
    np.testing.assert_array_equal(centre_crop(image[np.newaxis], 2), image[np.newaxis, 1:3, 2:4])
    with pytest.raises(ValueError, match="cannot crop 6 pixels out of 5 x 6"):
        centre_crop(image, 6)


def test_prepare_is_decoding_resizing_and_cropping(contract: ImageContract, picture: Callable[..., bytes]) -> None:
    contract = dataclasses.replace(contract, crop_fraction=0.5)
    content = picture(width=20, height=30)
    prepared = prepare(content, contract)
    assert prepared.shape == (4, 4, 3)
    assert prepared.flags.c_contiguous
    np.testing.assert_array_equal(prepared, to_square(decode(content), contract)[2:6, 2:6])


def photo_of_waves(height: int, width: int, quality: int = 95) -> bytes:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([127 + 120 * np.sin(x / 37 + y / 91), 255 * x / width, 255 * y / height], axis=2)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=quality)
    return file.getvalue()


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
@pytest.mark.parametrize("shape", [(600, 800), (601, 799), (803, 605)])
def test_a_large_jpeg_at_reduced_scale_gives_the_same_square_within_rounding(
    contract: ImageContract, resize: str, shape: tuple[int, int]
) -> None:
    content = photo_of_waves(*shape)
    full = with_policy(contract, resize, size=64, interpolation="bicubic")
    found = square(content, dataclasses.replace(full, jpeg_min_scale=2))
    reference = to_square(decode(content), full)
    assert found.shape == reference.shape
    assert (found != reference).any()  # it was decoded in another way
    assert np.abs(found.astype(int) - reference).max() <= 4
    np.testing.assert_array_equal(square(content, full), reference)


def test_a_jpeg_below_the_limit_has_the_same_bytes_whatever_the_oversampling(contract: ImageContract) -> None:
    contract = with_policy(contract, "crop", size=64)
    content = photo_of_waves(255, 300)  # half of it is less than 2 x 64
    reference = square(content, contract)
    np.testing.assert_array_equal(square(content, dataclasses.replace(contract, jpeg_min_scale=2)), reference)
    assert (square(content, dataclasses.replace(contract, jpeg_min_scale=1)) != reference).any()


def test_the_predictor_sees_what_the_cache_stores(contract: ImageContract) -> None:
    contract = with_policy(contract, "crop", size=32, crop_fraction=0.5, jpeg_min_scale=2)
    content = photo_of_waves(300, 400)
    stored = square(content, contract)
    assert (stored != to_square(decode(content), contract)).any()
    np.testing.assert_array_equal(prepare(content, contract), stored[16:48, 16:48])
