"""Files and commands with the names that params had in earlier versions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import mite
import pytest

from adaptformer.base.errors import UserError
from adaptformer.config import params, renamed
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model.adapter_file import AdapterCard


def test_each_renamed_key_is_a_key_of_params() -> None:
    known = params.known_keys()
    for key, name in renamed.KEYS.items():
        section = key.partition(".")[0]
        assert f"{section}.{name}" in known
        assert key not in known
    assert set(renamed.SECTIONS.values()) <= set(known)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("tuning", "training"),
        ("tuning.epochs", "training.epochs"),
        ("tuning.views", "training.fixed_crops"),
        ("data.group", "data.group_pattern"),
        ("data.name", "data.name"),
    ],
)
def test_an_override_by_an_earlier_name_is_refused_with_the_present_one(key: str, name: str) -> None:
    assert renamed.present_name(key) == name
    if "." in key and key != name:
        with pytest.raises(UserError, match="is no key of params") as caught:
            params.load(overrides={key: 1})
        assert caught.value.remedy == f"did you mean {name}?"


def test_a_params_file_of_an_earlier_version_names_the_present_section(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(Path("params.yaml").read_text().replace("\ntraining:", "\ntuning:"))
    with pytest.raises(UserError, match="unknown key tuning") as caught:
        params.read(path)
    assert caught.value.remedy == "did you mean training?"


def test_an_image_contract_by_earlier_names_is_the_same() -> None:
    content = asdict(mite.CONTRACT)
    earlier = {**content, "oversampling": 3}
    del earlier["jpeg_min_scale"]
    assert ImageContract.from_dict(earlier) == ImageContract.from_dict({**content, "jpeg_min_scale": 3})
    with pytest.raises(ValueError, match="'oversampling' is no part of an image contract"):
        ImageContract.from_dict({**content, "oversampling": 3})
    with pytest.raises(ValueError, match="jpeg_min_scale is -1"):
        ImageContract.from_dict({**earlier, "oversampling": -1})


def test_an_adapter_card_of_format_1_is_the_same() -> None:
    card = mite.adapter_card()
    content = {**asdict(card), "classes": list(card.classes), "codes": []}
    section = {("reads" if key == "input" else key): value for key, value in content["adapter"].items()}
    assert "reads" in section
    assert AdapterCard.from_dict({**content, "adapter": section, "format": 1}) == AdapterCard.from_dict(content)
    with pytest.raises(ValueError, match=r"adapter\.(input|reads)"):
        AdapterCard.from_dict({**content, "adapter": section})
