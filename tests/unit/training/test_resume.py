from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mite
import pytest
import small_runs
import torch
from safetensors.torch import save_file

from adaptformer.base import array_file
from adaptformer.model import tensor_file
from adaptformer.model.classifier import trainable, trainable_state_dict
from adaptformer.training import loop, resume
from adaptformer.training.history import EpochRow
from adaptformer.training.run import Run

FINGERPRINT = {"training": {"epochs": 3}, "backbone": "abc", "precision": "fp32", "code": "a" * 64}
STATE = resume.State(
    rows=[
        EpochRow(1, 1, 1, 0.1, 1.0, 0.3, 1.1, 0.4, 0.5, 0.4, 0),
        EpochRow(1, 1, 2, 0.05, 0.9, 0.5, 1.0, 0.3, 0.5, 0.4, 0),
    ],
    best=0,
    tuned={"head.linear.bias": torch.tensor([1.0, 2.0])},
    best_tuned={"head.linear.bias": torch.tensor([3.0, 4.0])},
    optimiser={"0.momentum_buffer": torch.tensor([5.0, 6.0])},
    start={"head.linear.bias": torch.tensor([7.0, 8.0])},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    resume.save(tmp_path / "resume.safetensors", STATE, FINGERPRINT)
    return tmp_path / "resume.safetensors"


def test_a_state_comes_back(path: Path) -> None:
    state = resume.load(path, FINGERPRINT)
    assert state is not None
    assert (state.rows, state.best) == (STATE.rows, STATE.best)
    for part in ("tuned", "best_tuned", "optimiser", "start"):
        assert getattr(state, part).keys() == getattr(STATE, part).keys()
        for name, tensor in getattr(STATE, part).items():
            assert torch.equal(getattr(state, part)[name], tensor), part


def killed(_row: EpochRow) -> None:
    raise KeyboardInterrupt


def test_the_seconds_of_all_pieces_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = small_runs.run(tmp_path / "whole", epochs=2)
    saved: list[float] = []
    save = resume.save

    def noting(path: Path, state: resume.State, *more: Any) -> None:
        save(path, state, *more)
        saved.append(state.seconds)

    monkeypatch.setattr(resume, "save", noting)
    loop.train(ended)
    assert 0 < saved[0] < saved[1]
    assert resume.seconds(ended.checkpoint.path, ended.checkpoint.fingerprint) == saved[1]
    assert (
        resume.seconds(ended.checkpoint.path, {"other": 1})
        == resume.seconds(tmp_path / "none", ended.checkpoint.fingerprint)
        == 0
    )


def test_within_an_epoch_seconds_are_saved_too_and_nothing_after_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, float]] = []

    def noting(_path: Path, state: resume.State, *_: Any) -> None:
        saved.append((state.partial.steps if state.partial else 0, state.seconds))

    monkeypatch.setattr(resume, "save", noting)
    loop.train(small_runs.run(tmp_path, epochs=2, batch_size=4, every_steps=1))  # 5 steps an epoch
    steps, seconds = zip(*saved, strict=True)
    assert steps == (1, 2, 3, 4, 0, 1, 2, 3, 4, 0)
    assert seconds[0] > 0
    assert list(seconds) == sorted(set(seconds))


def test_the_seconds_before_a_kill_are_counted_after_resumption(tmp_path: Path) -> None:
    run = small_runs.run(tmp_path, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        loop.train(run, killed)
    state = resume.load(run.checkpoint.path, run.checkpoint.fingerprint)
    assert state is not None
    assert state.seconds > 0
    resume.save(run.checkpoint.path, dataclasses.replace(state, seconds=5000.0), run.checkpoint.fingerprint)
    loop.train(small_runs.run(tmp_path, epochs=2))
    assert resume.seconds(run.checkpoint.path, run.checkpoint.fingerprint) > 5000


def test_where_there_is_none_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert resume.load(tmp_path / "resume.safetensors", FINGERPRINT) is None
    assert not caplog.messages


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"backbone": "def"}, "backbone changed"),
        ({"training": {"epochs": 4}, "precision": "bf16"}, "precision, training changed"),
        ({"code": "new", "backbone": "def"}, "backbone, code changed"),
    ],
)
def test_another_fingerprint_starts_from_the_beginning_and_names_what_changed(
    path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, object], named: str
) -> None:
    assert resume.load(path, {**FINGERPRINT, **change}) is None
    (message,) = caplog.messages
    assert message == f"training starts from the beginning: since the previous run, {named}"


EDITED = {**FINGERPRINT, "code": "b" * 64}


def test_a_state_of_other_code_is_kept_and_the_option_that_continues_it_named(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resume.save(path, STATE, FINGERPRINT)
    assert resume.load(path, EDITED) is None
    kept = path.with_suffix(f".code-{FINGERPRINT['code'][:8]}.safetensors")
    assert kept.is_file()
    assert caplog.messages == [
        "training starts from the beginning: since the previous run, the code changed; its state is kept as "
        f"{kept}, and `runtime.resume=any_code` continues it"
    ]
    assert resume.seconds(path, EDITED) == 0
    resume.remove(path)
    assert not kept.exists()


def test_a_state_of_other_code_is_continued_if_asked_for_though_a_fresh_start_is_under_way(path: Path) -> None:
    resume.save(path, STATE, FINGERPRINT)
    resume.load(path, EDITED)
    resume.save(path, dataclasses.replace(STATE, rows=[], best=-1, seconds=1.0), EDITED)
    state = resume.load(path, EDITED, any_code=True)
    assert state is not None
    assert len(state.rows) == len(STATE.rows)
    assert state.earlier_code == (FINGERPRINT["code"],)
    assert resume.seconds(path, EDITED, any_code=True) == STATE.seconds
    resume.save(path, state, EDITED)
    assert resume.codes(path, EDITED) == (FINGERPRINT["code"], EDITED["code"])
    again = resume.load(path, EDITED)
    assert again is not None
    assert again.earlier_code == (FINGERPRINT["code"],)


def test_one_code_is_not_named(path: Path) -> None:
    resume.save(path, STATE, FINGERPRINT)
    assert resume.codes(path, FINGERPRINT) == ()
    state = resume.load(path, FINGERPRINT, any_code=True)
    assert state is not None
    assert state.earlier_code == ()


def test_a_part_that_the_fingerprint_no_longer_has_is_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert resume.load(path, {name: FINGERPRINT[name] for name in ("training", "backbone", "code")}) is None
    assert caplog.messages == ["training starts from the beginning: since the previous run, precision changed"]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:-1], lambda content: b"", lambda content: b"x"])
def test_a_damaged_state_starts_from_the_beginning(
    path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    path.write_bytes(damage(path.read_bytes()))
    assert resume.load(path, FINGERPRINT) is None
    (message,) = caplog.messages
    assert "starts from the beginning" in message
    assert "damaged" in message


@pytest.mark.parametrize("name", ["format", "best", "header"])
def test_altered_metadata_start_from_the_beginning(path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    content = path.read_bytes()
    place = content.index(name.encode()) + len(name) + 4  # after the name, its quotes and a colon
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert resume.load(path, FINGERPRINT) is None
    assert "damaged" in caplog.messages[0]


def test_another_format_starts_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(resume, "FORMAT", resume.FORMAT + 1)
        resume.save(tmp_path / "x.safetensors", STATE, FINGERPRINT)
    assert resume.load(tmp_path / "x.safetensors", FINGERPRINT) is None
    assert "another format" in caplog.messages[0]


def test_another_number_of_threads_goes_on_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: now + 1)
    assert resume.load(path, FINGERPRINT) is not None
    assert caplog.messages == [
        f"training resumes with {now + 1} threads instead of {now}: the results may differ in their last bits"
    ]


def test_a_state_that_lacks_its_format_starts_from_the_beginning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors, metadata = tensor_file.read(path)
    tensor_file.write(path, tensors, {key: value for key, value in metadata.items() if key != "format"})
    assert resume.load(path, FINGERPRINT) is None
    assert "damaged" in caplog.messages[0]


def test_a_state_without_its_checksums_starts_from_the_beginning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors, metadata = tensor_file.read(path)
    text = json.dumps({**metadata, "file_format": array_file.FORMAT})
    save_file(tensors, path, {array_file.KEY: text})
    assert resume.load(path, FINGERPRINT) is None
    assert "damaged" in caplog.messages[0]


def test_a_damaged_state_is_replaced_by_the_one_before(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    later = dataclasses.replace(STATE, rows=[*STATE.rows, dataclasses.replace(STATE.rows[-1], epoch=3)])
    resume.save(path, later, FINGERPRINT)
    state = resume.load(path, FINGERPRINT)
    assert state is not None
    assert len(state.rows) == 3
    path.write_bytes(flipped(path.read_bytes()))
    state = resume.load(path, FINGERPRINT)
    assert state is not None
    assert len(state.rows) == 2
    assert caplog.messages == [
        f"training resumes from the previous state: its state {path} is damaged or of another format"
    ]


def test_a_run_that_is_over_leaves_no_state(path: Path) -> None:
    resume.save(path, STATE, FINGERPRINT)
    assert len(list(path.parent.iterdir())) == 2
    resume.remove(path)
    assert not list(path.parent.iterdir())
    resume.remove(path)  # no fault where none was left


class KilledError(Exception):
    pass


@pytest.mark.parametrize("sweep", [{}, {"schedule": "layerwise", "epochs": 2}], ids=["joint", "layerwise"])
def test_a_run_killed_within_an_epoch_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: dict[str, Any]
) -> None:
    whole = small_runs.run(tmp_path / "whole", batch_size=4, **sweep)  # 5 steps an epoch
    rows, best = loop.train(whole)
    save, kills = resume.save, 0

    def killing(path: Path, state: resume.State, *more: Any) -> None:
        save(path, state, *more)
        if state.partial:
            raise KilledError

    monkeypatch.setattr(resume, "save", killing)
    while True:
        run = small_runs.run(tmp_path / "killed", batch_size=4, every_steps=2, **sweep)
        try:
            found = loop.train(run)
            break
        except KilledError:
            kills += 1
    assert kills == 2 * len(rows)  # after two and after four steps of each epoch
    assert found == (rows, best)
    assert mite.tuned_hash(run.model) == mite.tuned_hash(whole.model)


def test_nothing_is_stored_that_no_resumption_needs(tmp_path: Path) -> None:
    def tables(run: Run) -> dict[str, int]:
        names = [name.split("/")[0] for name in tensor_file.read(run.checkpoint.path)[0]]
        return {name: names.count(name) for name in set(names)}

    run = small_runs.run(tmp_path, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        loop.train(run, killed)
    tuned = len(trainable_state_dict(run.model))
    # The first epoch is the best so far and cannot be rolled back; one momentum for each trained parameter.
    assert tables(run) == {"tuned": tuned, "optimiser": len(trainable(run.model))}
    run = small_runs.run(tmp_path / "ended", epochs=1)
    loop.train(run)
    assert tables(run) == {"tuned": tuned}
