"""docs/params.md is what `adaptformer params --markdown` prints, and the page says of a key what the schema allows."""

import subprocess
from pathlib import Path

import pytest

from adaptformer import __main__ as command_line
from adaptformer.cli import params_page
from adaptformer.config.params import Params

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def rows(page: str) -> dict[str, list[str]]:
    """Return the cells of each key's row, by dotted key."""
    found, section = {}, ""
    for line in page.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| `"):
            key, *cells = line.strip("| ").split(" | ")
            found[f"{section}.{key.strip('`')}"] = cells
    return found


def values_of_its_own() -> bool:
    """Whether this checkout's params.yaml was changed for its own data, and the page was not."""
    changed = subprocess.run(
        ["git", "status", "--porcelain", "params.yaml", "docs/params.md"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    return "params.yaml" in changed and "docs/params.md" not in changed


@pytest.mark.skipif(values_of_its_own(), reason="params.yaml has values of this checkout's own: a clone runs this")
def test_the_page_in_docs_is_the_one_that_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert command_line.main(["params", "--markdown"]) == 0
    assert capsys.readouterr().out == (ROOT / "docs/params.md").read_text(encoding="utf-8"), (
        "run `adaptformer params --markdown > docs/params.md`"
    )


def test_every_key_has_a_row_with_a_type_and_a_meaning() -> None:
    found = rows(params_page.markdown(TEXT))
    sections = {name: field.annotation for name, field in Params.model_fields.items()}
    assert list(found) == [f"{name}.{key}" for name, model in sections.items() for key in model.model_fields]  # type: ignore[union-attr]
    assert all(len(cells) == 3 and all(cells) for cells in found.values())


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("image.size", "whole number from 8 to 2,048"),
        ("training.momentum", "number at least 0 and below 1"),
        ("training.flip", "`true` or `false`"),
        ("training.warmup_steps", "whole number at least 0 or `null`"),
        ("adapter.scale", "number or `learned` or `channel`"),
        ("adapter.bottlenecks", "list of 1 to 64; each: whole number from 1 to 65,536"),
        ("training.crop_ratio", "list of 2; each: number above 0"),
        ("registry.model", "text that matches `^[A-Za-z0-9][A-Za-z0-9_-]*$`"),
    ],
)
def test_types_and_ranges_are_those_of_the_models(key: str, words: str) -> None:
    assert rows(params_page.markdown(TEXT))[key][1] == words


def test_a_comment_on_several_lines_is_one_meaning_and_its_code_stays_code() -> None:
    text = TEXT.replace("  epochs: 12 ", "  epochs: 12  # of `a|b_c`, or *d*\n        # and e_f\n  #")
    assert rows(params_page.markdown(text))["training.epochs"][2].startswith("of `a\\|b_c`, or \\*d\\* and e\\_f")


def test_an_address_loses_its_password() -> None:
    page = params_page.markdown(TEXT.replace("storage: null", "storage: mysql://ada:geheim@host/sweeps"))
    assert "host/sweeps" in page
    assert "geheim" not in page
