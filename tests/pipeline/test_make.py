import os
import re
import subprocess

import pytest
from imports import ROOT


def make(*arguments, **environment):
    # `make test` runs these tests: a make within make would announce the folders that it enters.
    outside = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env={**outside, **environment}, capture_output=True, text=True, check=False
    )


def test_make_alone_lists_the_targets():
    listed = make()
    assert listed.returncode == 0
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"run", "up", "test", "test-all"} <= set(targets)
    assert [line.split()[1] for line in listed.stdout.splitlines()] == targets


def test_another_python_is_one_clear_line(tmp_path):
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho Python 3.10.1\nexit 1\n")
    python.chmod(0o755)
    # In a folder of its own: a working check would otherwise replace the environment that this test runs in.
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = make("-C", str(tmp_path), "run", f"PYTHON={python}")
    assert done.returncode != 0
    assert f"error: Python 3.11 or 3.12 is needed, and {python} is Python 3.10.1" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_constraints_are_exact_versions_and_nothing_of_this_machine():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 100
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


def test_continuous_integration_runs_all_tests():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make test-all"


@pytest.mark.parametrize("target", ["promote", "rollback"])
@pytest.mark.parametrize("code", [0, 1, 2])
def test_make_ends_with_the_commands_exit_code(tmp_path, target, code):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    command = tmp_path / ".venv/bin/adaptformer"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\necho "$*"\nexit {code}\n')
    command.chmod(0o755)
    (tmp_path / ".venv/.installed").touch()
    done = make("-C", str(tmp_path), "--no-print-directory", target, WHY='it\'s "so"')
    assert (done.returncode, done.stdout) == (code, f'{target} --why it\'s "so"\n')
    assert ("Error" in done.stderr) == (code == 2), "an error has said all there is to say"
    dry = make("-C", str(tmp_path), "--no-print-directory", "-n", target)
    assert dry.stdout.startswith("adaptformer"), "nothing is done"
