"""More images for data/: those that are there keep their split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from picture_fixtures import data_params

from adaptformer.base.errors import UserError
from adaptformer.config.params import DataParams
from adaptformer.curation.importing.growth import add_images
from adaptformer.curation.importing.importing import import_folder
from adaptformer.data import manifest

Tree = Callable[..., Path]
PARAMS = data_params()


def batch(number: int, per_class: int = 10, labels: tuple[str, ...] = ("cat", "dog")) -> dict[str, bytes | int]:
    """Images that no other batch has; their names are those of every batch."""
    return {
        f"{label}/{i}.png": 10_000 * number + 100 * n + i for n, label in enumerate(labels) for i in range(per_class)
    }


def splits(data: Path, params: DataParams = PARAMS) -> dict[str, str]:
    """The split of each image, by its hash, as training sees it."""
    table, faults = manifest.scan(
        data, manifest.ValidationShare(params.validation_fraction, params.seed, params.group_pattern)
    )
    assert faults.empty
    return dict(zip(table["sha256"], table["split"], strict=True))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize("validation", [True, False])
def test_no_image_changes_its_split_over_several_additions(tree: Tree, data: Path, validation: bool) -> None:
    if validation:
        import_folder(tree(batch(0, 20), "0"), data, PARAMS, replace=False)
    else:  # as a person who never had one may have arranged it
        tree({f"train/{name}": seed for name, seed in batch(0, 16).items()}, "data")
        tree({f"test/{name}": seed for name, seed in batch(9, 4).items()}, "data")
    for number in range(1, 5):
        before = splits(data)
        grown = add_images(tree(batch(number, 20), str(number)), data, PARAMS)
        after = splits(data)
        assert {sha256: after[sha256] for sha256 in before} == before
        assert len(after) == len(before) + 40
        assert grown.frozen == (0 if validation or number > 1 else 8)
    shares = [list(splits(data).values()).count(split) / 200 for split in ("test", "validation", "train")]
    assert shares == pytest.approx([0.2, 0.2, 0.6], abs=0.06)


def test_the_result_lists_the_images_that_were_added(tree: Tree, data: Path) -> None:
    import_folder(tree(batch(0), "0"), data, PARAMS, replace=False)
    more = tree({**batch(1, 3, ("dog", "fox")), "dog/again.png": 100}, "1")  # of batch 0 the first dog
    grown = add_images(more, data, PARAMS)
    assert (sum(grown.added.values()), grown.by_class, grown.already) == (6, {"dog": 3, "fox": 3}, 1)
    assert (grown.new_classes, grown.without) == (("fox",), ("cat",))
    said = "\n".join(grown.lines())
    assert "added 6 images" in said
    assert "removed none" in said
    assert "left out 1 that are in data/ already" in said
    assert "new classes: fox" in said
    assert "classes that got no image: cat" in said
    assert not any(path.suffix == ".copy" for path in data.rglob("*"))


def test_a_source_with_splits_says_where_its_images_go(tree: Tree, data: Path) -> None:
    import_folder(tree(batch(0), "0"), data, PARAMS, replace=False)
    before = splits(data)
    more = tree({f"{split}/cat/{i}.png": 5000 + i for i, split in enumerate(("train", "val", "test"))}, "1")
    assert add_images(more, data, PARAMS).added == {"train": 1, "validation": 1, "test": 1}
    assert len(splits(data)) == len(before) + 3


def test_files_of_one_name_stand_beside_each_other(tree: Tree, data: Path) -> None:
    tree({"train/cat/1.png": 1, "train/cat/2.png": 2, "validation/dog/1.png": 3, "test/cat/1.png": 4}, "data")
    tree({"train/dog/1.png": 7, "train/dog/2.png": 8}, "data")
    add_images(tree({"train/cat/1.png": 5, "test/dog/1.png": 6}, "1"), data, PARAMS)
    names = {path.name for path in data.glob("*/cat/*")}
    assert names == {"1.png", "1-2.png", "2.png"}


def test_images_under_another_class_are_refused_and_nothing_changes(tree: Tree, data: Path) -> None:
    import_folder(tree(batch(0), "0"), data, PARAMS, replace=False)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    more = tree({**batch(1), "cat/wrong.png": 100, "cat/wrong too.png": 101}, "1")  # dogs of batch 0
    with pytest.raises(UserError, match="2 images are in data/ under another class") as caught:
        add_images(more, data, PARAMS)
    assert len(caught.value.__notes__) == 2
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in data.parent.iterdir() if path.name != ".data.lock") == ["0", "1", "data"]


def test_an_addition_that_fails_leaves_data_as_it_was(tree: Tree, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_folder(tree(batch(0), "0"), data, PARAMS, replace=False)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="1 of 21 files"):
        add_images(tree({**batch(1), "cat/notes.txt": b"x"}, "1"), data, PARAMS)
    monkeypatch.setattr(
        "adaptformer.curation.importing.growth.place", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        add_images(tree(batch(2), "2"), data, PARAMS)
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_without_links_files_are_copied(tree: Tree, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_folder(tree(batch(0), "0"), data, PARAMS, replace=False)
    before = splits(data)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("adaptformer.curation.importing.growth.os.link", refuse)
    add_images(tree(batch(1), "1"), data, PARAMS)
    after = splits(data)
    assert {sha256: after[sha256] for sha256 in before} == before


def test_a_group_keeps_its_split_and_a_new_one_has_one(tree: Tree, data: Path) -> None:
    params = PARAMS.model_copy(update={"group_pattern": r"/(p\d+)_"})

    def visit(number: int, patients: range) -> dict[str, bytes | int]:
        return {
            f"{label}/p{p}_{number}.png": 10_000 * number + 1000 * n + p
            for n, label in enumerate(("cat", "dog")) for p in patients
        }  # fmt: skip

    import_folder(tree(visit(0, range(12)), "0"), data, params, replace=False)
    add_images(tree(visit(1, range(30)), "1"), data, params)
    add_images(tree(visit(2, range(40)), "2"), data, params)
    found: dict[str, set[str]] = {}
    for path in data.rglob("*.png"):
        found.setdefault(path.name.partition("_")[0], set()).add(path.relative_to(data).parts[0])
    assert len(found) == 40
    assert {len(of) for of in found.values()} == {1}
    assert set.union(*found.values()) == {"train", "validation", "test"}


def test_there_must_be_images_to_add_to(tree: Tree, data: Path) -> None:
    source = tree(batch(1), "1")
    with pytest.raises(UserError, match="there are no images in") as caught:
        add_images(source, data, PARAMS)
    assert caught.value.remedy == "import without --add"
    tree({"train/cat/1.png": 1, "extra.txt": b"x"}, "data")
    with pytest.raises(UserError, match="1 paths that are no images"):
        add_images(source, data, PARAMS)


def test_class_names_must_differ_in_more_than_case(tree: Tree, data: Path) -> None:
    import_folder(tree(batch(0), "0"), data, PARAMS, replace=False)
    with pytest.raises(UserError, match="'Cat' and 'cat' differ only in case"):
        add_images(tree(batch(1, 2, ("Cat",)), "1"), data, PARAMS)
