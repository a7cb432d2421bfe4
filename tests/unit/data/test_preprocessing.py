import dataclasses
import json

import pytest

from adaptformer.data.preprocessing import ImageContract


def test_the_image_contract_survives_json(contract: ImageContract) -> None:
    assert ImageContract.from_dict(json.loads(json.dumps(dataclasses.asdict(contract)))) == contract


@pytest.mark.parametrize(("size", "fraction", "stored"), [(224, 0.875, 256), (32, 1.0, 32), (224, 0.9, 249)])
def test_stored_size_is_the_size_before_the_crop(
    contract: ImageContract, size: int, fraction: float, stored: int
) -> None:
    assert dataclasses.replace(contract, size=size, crop_fraction=fraction).stored_size == stored


def test_a_missing_value_is_named(contract: ImageContract) -> None:
    content = dataclasses.asdict(contract)
    del content["interpolation"]
    with pytest.raises(ValueError, match="interpolation is None, not one of bilinear, bicubic"):
        ImageContract.from_dict(content)


def test_a_contract_from_before_oversampling_means_decoding_in_full(contract: ImageContract) -> None:
    content = dataclasses.asdict(dataclasses.replace(contract, jpeg_min_scale=2))
    assert ImageContract.from_dict(content).jpeg_min_scale == 2
    del content["jpeg_min_scale"]
    assert ImageContract.from_dict(content).jpeg_min_scale == 0


def test_a_contract_from_before_the_range_of_sixteen_bits_means_all_of_it(contract: ImageContract) -> None:
    content = dataclasses.asdict(dataclasses.replace(contract, sixteen_bit_max=4095))
    assert ImageContract.from_dict(content).sixteen_bit_max == 4095
    del content["sixteen_bit_max"]
    assert ImageContract.from_dict(content).sixteen_bit_max == 65535
