"""What the command does with what its training processes say; a script stands for torchrun."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from adaptformer.base.errors import UserError
from adaptformer.training import processes
from adaptformer.training.history import EpochRow

ROW = {field.name: 1 for field in dataclasses.fields(EpochRow)}
JOB = {"folder": "artifacts", "params": {"a": [1]}}


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return `said(…)`: let torchrun be a script that prints these messages, then does what `after` says."""

    def said(*messages: dict[str, Any], after: str = "") -> None:
        script = tmp_path / "torchrun"
        lines = [json.dumps(message) for message in messages]
        script.write_text(f"#!{sys.executable}\n" + textwrap.dedent(f"""
            import json, os, sys, time
            given = {{"words": sys.argv[1:], "job": json.load(open(sys.argv[-1])), "session": os.getsid(0),
                      "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}}
            json.dump(given, open({str(tmp_path / "given")!r}, "w"))
            print("to the log", file=sys.stderr, flush=True)
            for line in {lines!r}:
                print(line, flush=True)
            {after}
        """))  # fmt: skip
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return said


def train(root: Path, rows: list[EpochRow] | None = None) -> dict[str, Any]:
    return processes.train(
        "a.module", JOB, 3, root / "run/timing/processes.log", (rows if rows is not None else []).append
    )


def given(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "given").read_text())
    return found


def test_torchrun_gets_the_job_and_the_result_comes_back(said: Any, tmp_path: Path) -> None:
    said({"result": {"top1": 0.5}})
    assert train(tmp_path) == {"top1": 0.5}
    words, session = given(tmp_path)["words"], given(tmp_path)["session"]
    assert words[:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    assert words[5:7] == ["--max-restarts", "3"]
    assert words[-3:-1] == ["-m", "a.module"]
    assert words[words.index("--log-dir") + 1] == str(Path(words[-1]).parent)
    assert given(tmp_path)["job"] == JOB
    assert session == given(tmp_path)["pid"] != os.getsid(0)  # no Ctrl-C of the terminal reaches it
    assert not Path(words[-1]).parent.exists()
    assert not psutil.pid_exists(given(tmp_path)["pid"])
    assert (tmp_path / "run/timing/processes.log").read_text() == "to the log\n"


@pytest.mark.parametrize(("set_to", "expected"), [(None, "1"), ("2", "2")])
def test_the_users_number_of_threads_holds(
    set_to: str | None, expected: str, said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_to:
        monkeypatch.setenv("OMP_NUM_THREADS", set_to)
    said({"result": {}})
    train(tmp_path)
    assert given(tmp_path)["threads"] == expected


def test_epochs_and_log_lines_arrive_as_they_come(said: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said({"row": ROW}, {"log": logging.WARNING, "text": "100 % careful"}, {"row": ROW | {"epoch": 2}}, {"result": {}})
    rows: list[EpochRow] = []
    train(tmp_path, rows)
    assert [row.epoch for row in rows] == [1, 2]
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, "100 % careful")]


def test_a_fault_is_the_users_error_and_ends_the_others(said: Any, tmp_path: Path) -> None:
    said({"fault": ["it is bad", "mend it"]}, after="time.sleep(600)")
    with pytest.raises(UserError, match="it is bad") as caught:
        train(tmp_path)
    assert caught.value.remedy == "mend it"
    assert not psutil.pid_exists(given(tmp_path)["pid"])


def test_processes_that_died_too_often_name_their_log(said: Any, tmp_path: Path) -> None:
    said({"row": ROW})
    with pytest.raises(UserError, match="ended 4 times before training was done") as caught:
        train(tmp_path)
    assert str(tmp_path / "run/timing/processes.log") in caught.value.remedy


def test_a_listener_that_fails_leaves_no_process(said: Any, tmp_path: Path) -> None:
    said({"row": ROW}, after="time.sleep(600)")

    def fail(_row: EpochRow) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.train("a.module", JOB, 2, tmp_path / "log", fail)
    assert not psutil.pid_exists(given(tmp_path)["pid"])


def test_their_standard_input_is_open_until_the_caller_is_done(said: Any, tmp_path: Path) -> None:
    # It is by its end that they see that the caller has died.
    said(after="import select; print(json.dumps({'result': {'ended': bool(select.select([0], [], [], 0)[0])}}))")
    assert train(tmp_path) == {"ended": False}
