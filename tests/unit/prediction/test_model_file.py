from __future__ import annotations

from pathlib import Path

import pytest

from adaptformer.base import files
from adaptformer.prediction import model_file


def write(path: Path, graph: bytes, weights: bytes) -> None:
    path.write_bytes(graph)
    model_file.weights_of(path).write_bytes(weights)


def test_size_counts_both_files(tmp_path: Path) -> None:
    write(tmp_path / "model.onnx", b"graph", b"weights")
    assert model_file.size(tmp_path / "model.onnx") == 12


def test_the_hash_depends_on_both_files(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    hashes = set()
    for graph, weights in ((b"a", b"b"), (b"c", b"b"), (b"a", b"d"), (b"b", b"a"), (b"a", b"")):
        write(path, graph, weights)
        hashes.add(model_file.sha256(path))
        assert model_file.sha256(path) == model_file.sha256(path)
    assert len(hashes) == 5


@pytest.mark.parametrize("weights", [b"", None])
def test_without_weights_outside_the_hash_is_the_files_own(tmp_path: Path, weights: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"graph")
    if weights is not None:
        model_file.weights_of(path).write_bytes(weights)
    assert model_file.sha256(path) == files.sha256_file(path)
    assert model_file.size(path) == 5


def test_both_files_take_their_places_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write(path, b"old graph", b"old weights")
    with model_file.replacing(path) as beside:
        assert (beside.name, beside.parent.parent) == ("model.onnx", tmp_path)
        write(beside, b"graph", b"weights")
        assert path.read_bytes() == b"old graph"
        assert model_file.weights_of(path).read_bytes() == b"old weights"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "model.onnx": b"graph", "model.onnx.data": b"weights",
    }  # fmt: skip


def test_an_exception_leaves_the_old_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write(path, b"old graph", b"old weights")

    def failing() -> None:
        with model_file.replacing(path) as beside:
            write(beside, b"graph", b"weights")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is the one raised above
        failing()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        "model.onnx": b"old graph", "model.onnx.data": b"old weights",
    }  # fmt: skip


def test_at_no_moment_does_a_graph_stand_beside_the_weights_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    write(path, b"old graph", b"old weights")
    seen: list[set[bytes]] = []

    def looking(name: str) -> None:
        true = getattr(Path, name)

        def step(self: Path, *rest: object, **options: object) -> object:
            result = true(self, *rest, **options)
            seen.append({p.read_bytes() for p in (path, model_file.weights_of(path)) if p.exists()})
            return result

        monkeypatch.setattr(Path, name, step)

    with model_file.replacing(path) as beside:
        write(beside, b"graph", b"weights")
        for name in ("unlink", "rename", "replace"):
            looking(name)
    monkeypatch.undo()
    assert {b"graph", b"weights"} in seen
    assert not [pair for pair in seen if len(pair) == 2 and pair != {b"graph", b"weights"}]


def test_what_a_killed_export_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with model_file.replacing(path) as beside:
        staging = beside.parent
        write(beside, b"graph", b"weights")
    staging.mkdir()
    (staging / "half").write_bytes(b"x")
    with model_file.replacing(path) as beside:
        assert list(beside.parent.iterdir()) == []
        write(beside, b"new graph", b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert path.read_bytes() == b"new graph"
