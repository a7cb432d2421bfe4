import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from imports import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

FILES = ("Makefile", "project.mk", "pyproject.toml", "constraints.txt")
"""What make reads in the checkout."""


def outside_of_make():
    """The environment without that of `make test`: a make within make would announce the folders that it enters."""
    return {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}


def make(*arguments, **environment):
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env={**outside_of_make(), **environment}, capture_output=True, text=True,
        check=False, preexec_fn=_heeding_quit,
    )  # fmt: skip


def _heeding_quit():
    # Tests in the background of a script are started with SIGQUIT ignored, by which make ends with 1.
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def test_make_alone_lists_the_targets():
    listed = make()
    assert listed.returncode == 0
    targets = [
        target
        for name in ("project.mk", "Makefile")
        for target in re.findall(r"^([a-z-]+):.*##", (ROOT / name).read_text(), re.MULTILINE)
    ]
    assert {"run", "up", "test", "test-all"} <= set(targets)
    assert [line.split()[1] for line in listed.stdout.splitlines()] == targets


def test_another_python_is_one_clear_line(tmp_path):
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho Python 3.10.1\nexit 1\n")
    python.chmod(0o755)
    # In a folder of its own: a working check would otherwise replace the environment that this test runs in.
    for name in FILES:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    done = make("-C", str(tmp_path), "run", f"PYTHON={python}")
    assert done.returncode != 0
    assert f"error: Python 3.11 to 3.14 is needed, and {python} is Python 3.10.1" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(("minor", "fits"), [(10, False), (11, True), (12, True), (13, True), (14, True), (15, False)])
def test_make_and_the_package_take_the_same_pythons(minor, fits):
    check = re.search(r"sys\.exit\((not .*?)\)' ", (ROOT / "Makefile").read_text().replace("\\\n", " "))[1]
    here = SimpleNamespace(version_info=(3, minor, 5))
    refused = eval(check, {"sys": here})  # noqa: S307 - the text is the Makefile's own
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (not refused, SpecifierSet(package["requires-python"]).contains(f"3.{minor}.5")) == (fits, fits)


def test_constraints_are_exact_versions_and_nothing_of_this_machine():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 100
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


@pytest.mark.parametrize(
    ("system", "machine", "package"),
    [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("win32", "AMD64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("darwin", "x86_64", "onnxruntime"),
        ("win32", "ARM64", "onnxruntime"),
    ],
)
def test_each_machine_has_one_onnxruntime(system, machine, package):
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = [Requirement(line) for line in needed if line.startswith("onnxruntime")]
    here = {"sys_platform": system, "platform_machine": machine}
    assert [one.name for one in wanted if one.marker.evaluate(here)] == [package]
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in constraints if line.startswith(f"{package}==")]


def test_continuous_integration_runs_all_tests():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make test-all"


@pytest.mark.parametrize("target", ["run", "promote", "rollback", "history"])
@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_target_ends_with_the_code_of_its_command_and_adds_nothing_to_an_error(tmp_path, target, code):
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in (*FILES, ".venv/.installed"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes() if (ROOT / name).is_file() else b"")
    for name in ("adaptformer", "python"):
        command = tmp_path / ".venv/bin" / name
        command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@"\necho "error: why" >&2\nexit {code}\n')
        command.chmod(0o755)
    done = make("-C", str(tmp_path), "--no-print-directory", target, 'WHY=it\'s "so"', "TO=3", "CHALLENGER=4")
    assert done.returncode == code
    assert done.stderr.startswith("error: why\n")
    assert ("make" in done.stderr.removeprefix("error: why\n")) == (code == 2)  # make has no quiet way to end with 2
    words = done.stdout.splitlines()
    assert target in words
    if target in {"promote", "rollback"}:
        assert words[1:] == [{"promote": "--version", "rollback": "--to"}[target],
                             {"promote": "4", "rollback": "3"}[target], "--why", "it's \"so\""]  # fmt: skip


@pytest.mark.parametrize(("present", "code"), [(True, 0), (False, 1)])
def test_make_in_a_project_takes_the_python_of_the_terminal_if_that_has_the_package(tmp_path, present, code):
    (tmp_path / "Makefile").write_bytes((ROOT / "project.mk").read_bytes())
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -m ] && echo runs "$2" "$3" && exit 0\nexit {int(not present)}\n')
    python.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = make("-C", str(tmp_path), "--no-print-directory", "run", PATH=path)
    assert (done.returncode, done.stdout) == (code, "runs flows run\n" if present else "")
    told = "error: the python of this terminal has no adaptformer[pipeline]\n"
    assert done.stderr == (
        "" if present else f"{told}  fix: activate the environment that has it or make one in .venv/\n"
    )


def test_an_error_is_never_taken_for_success(tmp_path):
    """Started with SIGQUIT ignored, as by nohup or in the background of a script, make ends with its own 2."""
    (tmp_path / "Makefile").write_text(
        "SHELL := /bin/sh\n"
        + next(re.finditer(r"^quietly = .*?exit \$\$code$", (ROOT / "project.mk").read_text(), re.S | re.M))[0]
        + "\nall:\n\t@$(call quietly,(exit 1))\n"
    )  # fmt: skip
    script = "trap '' QUIT; make; echo $?"
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=outside_of_make(), capture_output=True, text=True, check=False
    )
    assert done.stdout == "2\n"


def test_a_rollback_without_a_reason_ends_with_1(tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/.installed").touch()
    (tmp_path / ".venv/bin/adaptformer").symlink_to(shutil.which("adaptformer", path=str(Path(sys.executable).parent)))
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    done = make("-C", str(tmp_path), "--no-print-directory", "rollback", PYTHONPATH=str(ROOT))
    told = "error: a rollback needs a reason\n  fix: give one with --why; the history keeps it\n"
    assert (done.stderr, done.stdout, done.returncode) == (told, "", 1)
