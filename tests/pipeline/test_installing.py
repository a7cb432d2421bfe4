"""The sizes of the package: what each extra brings, what runs without them, and what other systems lack."""

import json
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import registered
from imports import ROOT, imported, imported_by_function, sources
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from adaptformer.cli import extras

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE = ("numpy", "PIL", "onnxruntime", "flatbuffers", "google", "packaging")
"""Modules of the base; the last three are what onnxruntime itself imports."""
BATCH = (*extras.MODULES["batch"], "dateutil", "pytz", "six", "tzdata")
"""Modules of the extra `batch`; the last four are what pandas itself imports."""
ONLY_THESE = """
import sys
from importlib.metadata import packages_distributions

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *where):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, *where)

ABSENT = set(packages_distributions()) - set({kept!r}) - {{"adaptformer"}}
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from adaptformer.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
WINDOWS = """
import importlib, os, pkgutil, signal, sys

# Other makers' packages choose by sys.platform, so they are imported first.
BEFORE
for name in OTHERS:
    importlib.import_module(name)
for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
LACKING = ((os, "O_CLOEXEC O_NOCTTY O_NONBLOCK fork forkpty getgid getpgid getuid killpg mkfifo nice posix_fadvise "
                "posix_fallocate register_at_fork sched_getaffinity setsid statvfs sysconf uname"),
           (signal, "SIGALRM SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 alarm pthread_sigmask setitimer sigwait"))
for module, names in LACKING:
    for name in names.split():
        delattr(module, name)
import adaptformer
"""
TORCHVISION = """
from adaptformer.model import torchvision_ops
torchvision_ops.import_torchvision()
"""
EVERY_MODULE = """
for module in pkgutil.walk_packages(adaptformer.__path__, "adaptformer."):
    importlib.import_module(module.name)
    print(module.name)
"""
PREDICT = """
from adaptformer.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def windows(before, others):
    """Return the start of a program that has only what Windows has, after `before` and the imports of `others`."""
    return WINDOWS.replace("BEFORE", before).replace("OTHERS", repr(others))


def needed(extra):
    """Names of the packages that an extra brings beyond the base, those of the extras that it names too."""
    found = set()
    for line in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            found |= {name for other in requirement.extras for name in needed(other)}
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def predicting(program, folder, *options):
    """Run `predict` in such a program on one red image, with the tiny model."""
    registered.write_model(folder / "model.onnx", 0.1)
    Image.new("RGB", (8, 8), registered.COLOURS["red"]).save(folder / "red.png")
    return subprocess.run(
        [sys.executable, "-c", program, "predict", "--model", "model.onnx", *options, "red.png"],
        cwd=folder, env={"PATH": "", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def others():
    """Modules of other makers that the library imports as soon as its own are imported."""
    names = {name for path in sources("adaptformer") for name in imported_by_function(path)[""]}
    ours = {"adaptformer", "fcntl", "resource"}
    return sorted(name for name in names if name.partition(".")[0] not in ours)


def test_the_base_needs_three_packages():
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert names == {"numpy", "pillow", "onnxruntime", "onnxruntime-gpu"}


def test_predicting_with_a_file_needs_only_the_base(tmp_path):
    done = predicting(ONLY_THESE.format(kept=BASE), tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"][0]["class"] == "red"


def test_predicting_very_many_images_needs_only_the_extra_batch(tmp_path):
    done = predicting(ONLY_THESE.format(kept=BASE + BATCH), tmp_path, "--output", "answers", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 images are in ")


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [
        (["train"], "filelock", "train"),
        (["history"], "pydantic", "train"),
        (["predict", "--output", "answers", "--model", "model.onnx", "red.png"], "filelock", "batch"),
    ],
)
def test_a_command_of_a_larger_size_says_which_to_install(tmp_path, arguments, missing, extra):
    program = ONLY_THESE.format(kept=BASE)
    (tmp_path / "params.yaml").touch()
    registered.write_model(tmp_path / "model.onnx", 0.1)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path, env={"PATH": "", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = f"error: {missing} is not installed\n  fix: pip install 'adaptformer[{extra}]'\n"
    assert (done.returncode, done.stderr.removeprefix("model.onnx, not registered here\n")) == (1, told)


def test_each_package_that_the_library_imports_comes_with_an_extra_that_is_named():
    given_by = metadata.packages_distributions()
    base = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    own_message = {"distributed", "pillow_heif", "ray", "shtab"}  # engines.py, decoding.py, completion.py
    modules = {name.partition(".")[0] for path in sources("adaptformer") for name in imported(path)}
    for module in sorted(modules - sys.stdlib_module_names - own_message - {"adaptformer"}):
        packages = {canonicalize_name(name) for name in given_by[module]}
        if not packages & base:
            assert [extra for extra, names in extras.MODULES.items() if module in names], module
    for extra, named in extras.MODULES.items():
        for module in named:
            packages = {canonicalize_name(name) for name in given_by[module]}
            brought = needed(extra) | ({"markupsafe"} if "jinja2" in needed(extra) else set())
            assert packages & brought, f"{module} is not in the extra {extra}"


def test_every_module_can_be_imported_on_windows():
    done = subprocess.run(
        [sys.executable, "-c", windows(TORCHVISION, others()) + EVERY_MODULE],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {"adaptformer.data.cache", "adaptformer.base.memory", "adaptformer.registry.alias_journal"} <= {
        *done.stdout.split()
    }


def test_predicting_works_with_what_windows_has(tmp_path):
    done = predicting(windows("", ["numpy", "PIL.Image", "onnxruntime"]) + PREDICT, tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"][0]["class"] == "red"
