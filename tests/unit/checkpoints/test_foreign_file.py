from __future__ import annotations

import argparse
import io
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptformer.checkpoints import foreign_file
from adaptformer.errors import UserError


@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_foreign_tables_are_unpacked(tmp_path: Path, key: str | None) -> None:
    args = argparse.Namespace(model="mae_vit_base_patch16", epochs=800)
    content = {key: {"w": torch.ones(2)}, "args": args, "epoch": 799} if key else {"w": torch.ones(2)}
    torch.save(content, tmp_path / "x.pth")
    assert torch.equal(foreign_file.read_foreign(tmp_path / "x.pth")["w"], torch.ones(2))


class Runs:
    """An object that runs a function when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def zipped(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def legacy(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize("form", [zipped, legacy, pickle.dumps])
@pytest.mark.parametrize("place", ["whole", "in args", "in a namespace"])
@pytest.mark.parametrize("function", [os.mkdir, eval, Path])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run_it(
    tmp_path: Path, form: Callable[[object], bytes], place: str, function: Callable[..., object]
) -> None:
    trace = tmp_path / "it ran"
    runs = Runs(function, f"__import__('os').mkdir({str(trace)!r})" if function is eval else str(trace))
    table = {"w": torch.ones(2)}
    content = {
        "whole": runs,
        "in args": {"model": table, "args": runs},
        "in a namespace": {"model": table, "args": argparse.Namespace(output=runs)},
    }[place]
    path = tmp_path / "x.pth"
    path.write_bytes(form(content))
    with pytest.raises(UserError, match="not opened") as caught:
        foreign_file.read_foreign(path)
    assert not trace.exists()
    assert "run code" in caught.value.cause
    assert "weights_only" not in str(caught.value), "torch's advice to load it all the same is passed on"
    if function is os.mkdir and place == "whole":  # the trap is a real one: whoever unpickles it falls in
        pickle.loads(pickle.dumps(content))
        assert trace.exists()


def test_so_is_one_in_the_oldest_protocol(tmp_path: Path) -> None:
    trace, path = tmp_path / "it ran", tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"model": Runs(os.mkdir, str(trace))}, protocol=0))
    with pytest.raises(UserError):
        foreign_file.read_foreign(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[torch.ones(2)], {}, {"model": {}}, {"w": 3}, torch.ones(2), {1: torch.ones(2)}])
def test_what_holds_no_table_of_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match="holds no table of tensors"):
        foreign_file.read_foreign(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"x", b"<html>404</html>", b"PK\x03\x04", b"\x80\x02", b"ustar" * 200])
def test_what_is_no_checkpoint_at_all_is_called_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match="is damaged or no checkpoint") as caught:
        foreign_file.read_foreign(tmp_path / "x.pth")
    assert str(caught.value).count("\n") == 1
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("form", [zipped, legacy])
def test_damage_anywhere_ends_in_the_one_user_facing_error(
    tmp_path: Path, form: Callable[[object], bytes], recwarn: pytest.WarningsRecorder
) -> None:
    sound = form({"model": {"w": torch.ones(3)}, "args": argparse.Namespace(a=1)})
    numbers = random.Random(0)
    path, refused = tmp_path / "x.pth", 0
    for attempt in range(150):
        content = bytearray(sound)
        if attempt % 2:
            del content[numbers.randrange(len(content)) :]
        for _ in range(3):
            if content:
                content[numbers.randrange(len(content))] = numbers.randrange(256)
        path.write_bytes(content)
        try:
            foreign_file.read_foreign(path)
        except UserError:
            refused += 1
    assert refused > 75
    assert not recwarn.list
