"""The folder of a run that belongs to no checkout: its records and caches are its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptformer.config.run_folder import RunFolder


def test_a_folder_alone_shares_nothing_with_its_neighbours(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "backbone.safetensors").touch()
    folder = RunFolder(tmp_path / "first", tmp_path / "first/data", alone=True)
    assert folder.isolated
    assert folder.image_cache == tmp_path / "first/cache"
    assert folder.others() == []


@pytest.mark.parametrize("kind", [{}, {"isolated": True}, {"alone": True}])
def test_another_process_gets_the_same_folder(kind: dict[str, bool]) -> None:
    folder = RunFolder(Path("runs/pets"), Path("elsewhere"), **kind)
    again = RunFolder.from_dict(folder.to_dict())
    assert vars(again) == vars(folder)
