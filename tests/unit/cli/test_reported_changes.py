"""A change of data/ whose result is being reported is not stopped any more: its repetition would be another change."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import small_project

STOPPED_WHILE_REPORTING = """
import os, sys
from adaptformer.curation.importing import replacement
real, number = replacement.forget, int(sys.argv.pop(1))
def forget(data):
    os.kill(os.getpid(), number)
    real(data)
replacement.forget = forget
from adaptformer.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_as_if_no_signal_had_come(number: signal.Signals, tmp_path: Path) -> None:
    small_project.write(tmp_path)
    (tmp_path / "answers.csv").write_text("path,new_label\ntrain/amber/00.png,blue\n")
    command = [sys.executable, "-c", STOPPED_WHILE_REPORTING, str(int(number)), "data", "relabel", "answers.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "stopped" not in done.stderr
    assert not (tmp_path / "data/train/amber/00.png").exists()
