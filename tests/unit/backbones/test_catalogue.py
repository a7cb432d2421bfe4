from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import mite
import pytest
import torch

from adaptformer.backbones import catalogue, fetching
from adaptformer.backbones.catalogue import ENTRIES, Entry
from adaptformer.base.errors import UserError
from adaptformer.model import backbone

PUBLISHED = [entry for entry in ENTRIES if entry.id != "bundled"]


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.id)
def test_an_entry_says_what_timm_says(entry: Entry) -> None:
    config = backbone.published(entry.model)
    assert config is not None
    assert (entry.licence, entry.normalisation) == (config.license, (tuple(config.mean), tuple(config.std)))
    assert config.input_size == (3, entry.image_size, entry.image_size)
    assert entry.source.partition("@")[0] in {config.url, f"hub:{config.hf_hub_id}", "hub:facebook/vit-mae-base"}
    assert re.fullmatch(r"https://.*\.pth|hub:.*@[0-9a-f]{40}", entry.source)
    assert re.fullmatch("[0-9a-f]{64}", entry.sha256)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_has_the_architectures_numbers(entry: Entry) -> None:
    with torch.device("meta"):
        vit = backbone.build(entry.model)
    assert sum(parameter.numel() for parameter in vit.parameters()) == entry.parameters
    assert (vit.patch_embed.patch_size, vit.patch_embed.img_size) == ((entry.patch,) * 2, (entry.image_size,) * 2)


def test_the_bundled_entry_is_the_bundled_file() -> None:
    entry = catalogue.find("bundled")
    assert entry is not None
    file = Path(fetching.__file__).parents[1] / "backbones" / entry.source
    assert (entry.size, entry.sha256) == (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    card = mite.fetched(entry.model, "bundled", None, ["mit"])[1]
    assert (card.licence, (card.mean, card.std), card.parameters) == (
        entry.licence, entry.normalisation, entry.parameters,
    )  # fmt: skip


def test_ids_are_unique_and_an_unknown_one_is_nothing() -> None:
    assert len({entry.id for entry in ENTRIES}) == len(ENTRIES)
    assert catalogue.find("bundled") is ENTRIES[0]
    assert catalogue.find("bundle") is None
    assert len({entry.sha256 for entry in ENTRIES}) == len(ENTRIES)
    assert catalogue.of_file(ENTRIES[1].sha256) is ENTRIES[1]
    assert catalogue.of_file(None) is None
    assert catalogue.of_repository("facebook/vit-mae-base") is catalogue.find("mae_vit_base_hub")
    assert catalogue.of_repository("facebook/vit-mae-bas") is None


def test_a_licence_is_allowed_in_whatever_case() -> None:
    catalogue.allow("Apache-2.0", ["MIT", "APACHE-2.0"], "x")
    catalogue.allow("MIT", ["mit"], "x")


def test_a_licence_that_is_not_allowed_names_an_alternative_that_is() -> None:
    with pytest.raises(UserError, match=r"x has the licence cc-by-nc-4\.0, which backbone\.allowed_licences") as caught:
        catalogue.allow("cc-by-nc-4.0", ["Apache-2.0"], "x")
    assert caught.value.remedy == (
        "add cc-by-nc-4.0 to backbone.allowed_licences if its terms suit you, "
        "or take dinov2_registers_vit_base (apache-2.0) with backbone.model = vit_base_patch14_reg4_dinov2.lvd142m"
    )
    with pytest.raises(UserError) as caught:
        catalogue.allow("mit", ["gpl-3.0"], "x")
    assert caught.value.remedy.endswith("if its terms suit you")


def test_an_unknown_licence_names_the_param_that_states_it() -> None:
    with pytest.raises(UserError, match="the licence of x is unknown") as caught:
        catalogue.allow("unknown", ["mit"], "x")
    assert caught.value.remedy.startswith("set backbone.licence to ")
    catalogue.allow("unknown", ["mit", "Unknown"], "x")


def test_commercial_use_follows_the_licence() -> None:
    assert {entry.licence: entry.commercial_use for entry in ENTRIES} == {
        "MIT": True, "apache-2.0": True, "cc-by-nc-4.0": False,
    }  # fmt: skip


def test_the_command_lists_them_all_without_torch() -> None:
    code = (
        "import sys\nfrom adaptformer.__main__ import main\nmain(['backbones'])\n"
        "print([name for name in ('torch', 'timm', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(ENTRIES) + 1]] == ["id", *(entry.id for entry in ENTRIES)]
    mae = lines[1 + ENTRIES.index(catalogue.find("mae_vit_base"))]  # type: ignore[arg-type]
    assert "85.8 M      16     224     0.485 0.456 0.406     0.229 0.224 0.225 " in mae
    assert mae.endswith("cc-by-nc-4.0  no          343 MB    no")
    assert lines[-1] == "[]"
