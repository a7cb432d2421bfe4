"""What commands print can be written by every terminal, and steers none."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from adaptformer.base import names, progress, text_table

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "cat\x1b]0;x\x07\nerror: all is lost\x9b2J\u202egpj.\udcff é"
SHOWN = "cat\\x1b]0;x\\x07\\nerror: all is lost\\x9b2J\\u202egpj.\\udcff é"
PROGRAM = """
import sys
from adaptformer.base import streams
from adaptformer.cli import exit_code
from adaptformer.base.errors import UserError
streams.prepare()
def body():
    print("caf\\u00e9 \\u732b \\udcff \\x1b[31m \\x07")
    raise UserError("no \\u732b \\udcff\\x1b[31m\\nerror: forged", "look")
sys.exit(exit_code.run_command(body))
"""


def run(program: str, **streams: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict(streams.pop("environment", {}))}  # type: ignore[call-overload]
    return subprocess.run([sys.executable, "-c", program], env=environment, check=False, **streams)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(
    ("variable", "value", "cat"),
    [
        ("PYTHONIOENCODING", "latin-1", b"caf\xe9 \\u732b \\udcff"),
        ("PYTHONIOENCODING", "ascii", b"caf\\xe9 \\u732b \\udcff"),
        ("LC_ALL", "C", "café 猫 \\udcff".encode()),
        ("LC_ALL", "C.UTF-8", "café 猫 \\udcff".encode()),
    ],
)
def test_every_terminal_gets_what_it_can_write(variable: str, value: str, cat: bytes) -> None:
    done = run(PROGRAM, capture_output=True, environment={variable: value})
    assert done.stdout.startswith(cat)
    error = done.stderr.decode("latin-1")
    assert done.returncode == 1
    assert error.splitlines()[1:] == ["  fix: look"]
    assert "\\udcff\\x1b[31m\\nerror: forged" in error


def test_a_terminal_is_not_steered_by_what_is_printed() -> None:
    ours, theirs = pty.openpty()
    done = run(PROGRAM, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    written = os.read(ours, 10_000)
    os.close(ours)
    assert written.split(b"\r\n")[0] == "café 猫 \\udcff \\x1b[31m \\x07".encode()
    assert done.returncode == 1


def test_a_closed_output_takes_nothing_and_no_file_gets_its_number(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    program = f"""
import os
from adaptformer.base import streams
streams.prepare()
streams.prepare()
with open({str(kept)!r}, "w") as file:
    os.write(2, b"lost")
    file.write(str(file.fileno() > 2))
    print("lost")
    try:
        import sys; sys.stdout.flush()
    except OSError:
        file.write(" failed")
        os._exit(0 if not file.flush() else 1)
"""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, kept.read_text()) == (0, "True failed")


def test_tables_and_names_stay_on_their_line() -> None:
    assert names.shown(HOSTILE) == SHOWN
    assert text_table.aligned([(HOSTILE, "1"), ("dog", "2")]).splitlines()[0].startswith(SHOWN)
    assert "\x1b" not in text_table.escaped(HOSTILE)


def test_log_lines_do_not_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.Logger("test")
    log.addHandler(progress.Lines())
    log.warning("a table\n\twith %s of %s", Path(HOSTILE), "x\x1b[2J")
    assert capsys.readouterr().err == f"a table\n\twith {SHOWN} of x\\x1b[2J\n"
