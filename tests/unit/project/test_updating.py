"""`adaptformer init --update`: newer files come in, the user's stay, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from adaptformer.base.errors import UserError
from adaptformer.pipeline import library_version
from adaptformer.presets import writing
from adaptformer.project.updating import update

NAME = "flows/train.py"
NEWER = "print('newer')\n"
MINE = "print('mine')\n"
Write = Callable[[str, str], None]


def told(project: Path, **decided: list[str]) -> str:
    return "\n".join(update(project, **decided))


def test_without_an_upgrade_nothing_happens(project: Path, package, write: Write) -> None:  # type: ignore[no-untyped-def]
    write(NAME, MINE)
    write("params.yaml", (project / "params.yaml").read_text().replace("seed: 0", "seed: 3"))
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert update(project) == [f"adaptformer {package.version.version}: no other stage code"]
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_a_newer_file_replaces_one_that_the_user_left_alone_and_the_diff_is_shown(project: Path, package) -> None:  # type: ignore[no-untyped-def]
    package.brings({NAME: NEWER, "flows/other.py": "new\n"}, train="ab")
    printed = told(project)
    assert (project / NAME).read_text() == NEWER
    assert (project / "flows/other.py").read_text() == "new\n"
    assert f"{NAME}: brought in\n--- {NAME}\n+++ {NAME} (adaptformer)\n" in printed
    assert "\n+print('newer')\n" in printed
    assert "flows/other.py: new\n" in printed
    before = package.version.version
    assert printed.endswith(" -> 9.0: other code for train, which the next run runs again"), before
    assert told(project) == "adaptformer 9.0: no other stage code"


@pytest.mark.parametrize(
    ("mine", "decided", "left", "open_"),
    [
        (MINE, {}, {NAME: MINE}, True),
        (MINE, {"accept": [NAME]}, {NAME: NEWER, f"{NAME}.before": MINE}, False),
        (MINE, {"keep": [NAME]}, {NAME: MINE}, False),
        (None, {}, {}, True),
        (None, {"accept": [NAME]}, {NAME: NEWER}, False),
        (None, {"keep": [NAME]}, {}, False),
        (NEWER, {}, {NAME: NEWER}, False),
    ],
)  # fmt: skip
def test_a_file_that_both_sides_changed_stays_until_it_is_decided(
    mine: str | None, decided: dict[str, list[str]], left: dict[str, str], open_: bool, project: Path, package  # type: ignore[no-untyped-def]
) -> None:  # fmt: skip
    if mine is None:
        (project / NAME).unlink()
    else:
        (project / NAME).write_text(mine)
    package.brings({NAME: NEWER})
    printed = told(project, **decided)
    assert {path.relative_to(project).as_posix(): path.read_text() for path in project.glob(f"{NAME}*")} == left
    assert (f"1 to decide: {NAME}" in printed) == open_
    assert (f"1 to decide: {NAME}" in told(project)) == open_
    if mine == MINE and open_:
        assert "so it stays; --accept" in printed
        assert "\n-print('mine')\n+print('newer')\n" in printed


def test_the_former_text_of_an_accepted_file_replaces_no_other_one(project: Path, package, write: Write) -> None:  # type: ignore[no-untyped-def]
    write(NAME, MINE)
    write(f"{NAME}.before", "an earlier one")
    package.brings({NAME: NEWER})
    assert f"{NAME}: brought in; the former one is {NAME}.before2" in told(project, accept=[NAME])
    assert (project / f"{NAME}.before").read_text() == "an earlier one"
    assert (project / f"{NAME}.before2").read_text() == MINE


def test_params_keep_the_projects_values_under_their_present_names_and_get_new_keys(project: Path, package) -> None:  # type: ignore[no-untyped-def]
    path = project / "params.yaml"
    writing.put(path, {"registry.model": "pets", "training.class_balance": "loss"})
    path.write_text(path.read_text().replace("  class_balance:", "  balance:"))
    assert "balance:" in path.read_text()
    text = package.texts["params.yaml"].replace("\n  flip:", "\n  velocity: fast  # a new key\n  flip:")
    package.brings({"params.yaml": text})
    assert "+  velocity: fast  # a new key" in told(project)
    assert "velocity" not in path.read_text()
    update(project, accept=["params.yaml"])
    wanted = yaml.safe_load(text)
    wanted["registry"]["model"] = "pets"
    wanted["training"]["class_balance"] = "loss"
    assert yaml.safe_load(path.read_text()) == wanted
    assert "# a new key" in path.read_text()


def test_params_with_values_of_their_own_are_current_if_nothing_else_differs(
    project: Path, package, write: Write
) -> None:  # type: ignore[no-untyped-def]
    text = (project / "params.yaml").read_text()
    package.brings({"params.yaml": writing.changed(text, {"registry.model": "other"})})
    write("params.yaml", writing.changed(text, {"registry.model": "pets"}))
    assert "to decide" not in told(project)
    assert "model: pets" in (project / "params.yaml").read_text()


def test_a_file_that_the_package_has_no_more_stays_and_is_named(project: Path, package) -> None:  # type: ignore[no-untyped-def]
    package.brings({}, without=NAME)
    assert f"{NAME}: adaptformer has no such file any more; it stays here" in told(project)
    assert (project / NAME).is_file()


@pytest.mark.parametrize("decided", [{"accept": ["flows/trian.py"]}, {"keep": ["params.yaml"]}])
def test_a_decision_about_a_file_that_needs_none_is_refused_before_anything_is_written(
    decided: dict[str, list[str]], project: Path, package  # type: ignore[no-untyped-def]
) -> None:  # fmt: skip
    package.brings({"flows/promote.py": NEWER})
    with pytest.raises(UserError, match="there is nothing to decide about"):
        update(project, **decided)
    assert (project / "flows/promote.py").read_text() != NEWER


@pytest.mark.parametrize(
    "content", ["", "version: 3\n", "a: [", "<<<<<<< HEAD\n", "stages: {}\nfiles: {}\nversion: a\n"]
)
def test_a_library_yaml_that_cannot_be_read_is_two_lines(content: str, project: Path, write: Write) -> None:
    write("library.yaml", content)
    with pytest.raises(UserError, match=r"library\.yaml cannot be read") as refused:
        update(project)
    assert refused.value.remedy.startswith("restore it, in a git repository with `git checkout ")


def test_an_update_that_was_killed_is_completed_by_the_next_one(
    project: Path, package, monkeypatch: pytest.MonkeyPatch  # type: ignore[no-untyped-def]
) -> None:  # fmt: skip
    package.brings({NAME: NEWER, "tasks/stages.py": NEWER})
    recorded = (project / "library.yaml").read_bytes()
    told(project)
    (project / "library.yaml").write_bytes(recorded)  # it is written last
    (project / "tasks/stages.py").write_text(MINE)
    assert "1 to decide: tasks/stages.py" in told(project)
    present = library_version.read(project)
    assert present is not None
    assert present.version == "9.0"
