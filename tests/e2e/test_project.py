"""A project of `adaptformer init`, made and used with what the wheel installs, outside of any checkout."""

import shutil
import sys

import clones
import pytest
from clones import Clone

pytestmark = pytest.mark.e2e


def make(folder, package, *options):
    """A project with few images and few epochs, which uses the package in `package`."""
    python(Clone(folder), package, "-m", "adaptformer", "init", "pets", *options)
    project = Clone(folder / "pets")
    project.set_params(**{**clones.TINY, "epochs": 1})
    clones.write_digits(project.root / "data")
    project.run("dvc", "add", "--quiet", "data", PYTHONPATH=str(package))
    return project


def python(project, package, *arguments, **options):
    return project.run(sys.executable, *arguments, PYTHONPATH=str(package), **options)


@pytest.fixture(scope="module")
def ran(installed, tmp_path_factory):
    """A project in which `make run` ran, and what that printed."""
    project = make(tmp_path_factory.mktemp("projects"), installed)
    return project, python(project, installed, "-m", "flows", "run")


def test_make_run_brings_a_project_up_to_date_with_the_installed_package(ran, installed):
    project, printed = ran
    assert "ran validate, fetch, train, evaluate, export." in printed
    assert "digits version 1" in printed
    place = python(project, installed, "-c", "import adaptformer, flows; print(adaptformer.__file__, flows.ROOT)")
    assert place.split() == [str(installed / "adaptformer/__init__.py"), str(project.root)]
    assert "Nothing has changed since the last run" in python(project, installed, "-m", "flows", "run")


def test_dvc_has_nothing_to_do_after_it(ran, installed):
    project, _ = ran
    assert "up to date" in project.run("dvc", "status", PYTHONPATH=str(installed))
    printed = project.run("dvc", "repro", PYTHONPATH=str(installed))
    assert printed.count("didn't change, skipping") == 6


def test_after_an_upgrade_and_an_update_dvc_runs_the_stages_whose_code_is_another(ran, installed, tmp_path):
    project, _ = ran
    newer = tmp_path / "newer"
    shutil.copytree(installed, newer)
    for name, added in (("training/schedule.py", "NEW = 1\n"), ("data/splits.py", "# a comment\n")):
        with (newer / "adaptformer" / name).open("a") as file:
            file.write(added)
    refused = python(project, newer, "-m", "adaptformer", "train", code=1)
    assert "error: library.yaml names the code of adaptformer" in refused
    assert "other code for train, which the next run" in python(project, newer, "-m", "adaptformer", "init", "--update")
    status = project.run("dvc", "status", PYTHONPATH=str(newer))
    assert "stages.train" in status
    assert not {"validate:", "fetch:", "export:"} & set(status.split())
    assert "Running stage 'train'" in project.run("dvc", "repro", "train", PYTHONPATH=str(newer))
    assert "other code for train" in python(project, installed, "-m", "adaptformer", "init", "--update")


def test_dvc_works_at_once_in_a_project_without_git(installed, tmp_path):
    project = make(tmp_path, installed, "--no-git")
    assert not (project.root / ".git").exists()
    assert "Running stage 'validate'" in project.run("dvc", "repro", "validate", PYTHONPATH=str(installed))
