"""The wheel, built from the package's files and used where no checkout is; and what other machines would install."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import registered
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from adaptformer.project import contents

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command, cwd, **environment):
    plain = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    return subprocess.run(
        command, cwd=cwd, env=plain | environment, capture_output=True, text=True, check=False
    )  # fmt: skip


@pytest.fixture
def adaptformer(installed, tmp_path):
    """A function that runs the installed command in an empty folder."""

    def command(*arguments):
        return run(sys.executable, "-m", "adaptformer", *arguments, cwd=tmp_path, PYTHONPATH=str(installed))

    return command


def project_files():
    command = ["git", "ls-files", "flows", "tasks", *contents.FILES.values()]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def test_the_wheel_holds_every_file_of_the_package_and_of_a_project_and_nothing_else(wheel):
    tracked = subprocess.run(["git", "ls-files", "adaptformer"], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    of_projects = {f"adaptformer/project/root/{name}" for name in project_files()}
    assert names == set(tracked.stdout.split()) | of_projects


def test_it_is_what_is_imported_and_knows_its_version(adaptformer, installed, tmp_path):
    done = adaptformer("--version")
    assert (done.returncode, done.stdout) == (0, f"adaptformer {PROJECT['version']}\n"), done.stderr
    where = "import adaptformer; print(adaptformer.__file__)"
    done = run(sys.executable, "-c", where, cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(done.stdout.strip()).parent == installed / "adaptformer"


def test_its_bundled_backbone_and_presets_are_found(adaptformer, tmp_path):
    done = adaptformer("backbones")
    assert done.returncode == 0, done.stderr
    assert "vit_nano_patch4_32" in done.stdout
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    done = adaptformer("params", "--preset", "linear")
    assert done.returncode == 0, done.stderr


def test_it_predicts_in_an_empty_folder(adaptformer, tmp_path):
    registered.write_model(tmp_path / "model.onnx", 0.1)
    Image.new("RGB", (8, 8), registered.COLOURS["green"]).save(tmp_path / "green.png")
    done = adaptformer("predict", "--model", "model.onnx", "--json", "green.png")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"][0]["class"] == "green"


def constraints():
    """The lines of constraints.txt by the names of their packages."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(line.partition("==")[0]): line for line in lines if not line.startswith("#")}


def linux(machine):
    """Tags of the wheels that a Linux with glibc 2.28 takes; pip derives older ones only from `manylinux2014`."""
    return [*(f"manylinux_2_{minor}_{machine}" for minor in range(28, 16, -1)), f"manylinux2014_{machine}"]


SYSTEMS = {
    "linux-x86-64": (linux("x86_64"), "onnxruntime-gpu"),
    "linux-arm64": (linux("aarch64"), "onnxruntime"),
    "macos-arm64": (["macosx_14_0_arm64"], "onnxruntime"),
    "windows-x86-64": (["win_amd64"], "onnxruntime-gpu"),
}
TRIED = [(system, "3.12") for system in SYSTEMS] + [("linux-x86-64", version) for version in ("3.11", "3.13", "3.14")]


@pytest.mark.parametrize(("system", "python"), TRIED)
def test_another_machine_finds_a_wheel_of_each_package_that_training_needs(system, python, tmp_path):
    """The exact versions of constraints.txt; only names and wheels are looked up, nothing is run there."""
    platforms, onnxruntime = SYSTEMS[system]
    lines = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["train"]
    names = [canonicalize_name(Requirement(line).name) for line in lines]
    wanted = [constraints()[name] for name in names if not name.startswith("onnxruntime") or name == onnxruntime]
    assert len([one for one in wanted if one.startswith("onnxruntime")]) == 1
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--no-deps"]
    done = run(
        *command, "--target", "there", "--only-binary=:all:", "--python-version", python,
        *(f"--platform={tag}" for tag in platforms), "--report", "report.json", *wanted, cwd=tmp_path,
    )  # fmt: skip
    if done.returncode and re.search(r"requirement numpy\S* \(from versions: none\)", done.stderr):
        pytest.skip("no package index answers")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["install"]) == len(wanted)
