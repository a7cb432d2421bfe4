"""The names of the API are imported when they are used, the page describes them all, and its examples are true."""

from __future__ import annotations

import ast
import doctest
from pathlib import Path

import pytest
from squares import write_squares

import adaptformer as af
from adaptformer.api import reference

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_in_docs_is_the_one_that_the_module_prints() -> None:
    assert reference.markdown() == (ROOT / "docs/api.md").read_text(encoding="utf-8"), (
        "run `python -m adaptformer.api.reference > docs/api.md`"
    )


def test_every_name_is_exported_typed_and_on_the_page() -> None:
    tree = ast.parse((ROOT / "adaptformer/__init__.py").read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = {alias.name for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imports == set(af.__all__) == {*reference.ORDER, "UserError"}
    for name in af.__all__:
        assert getattr(af, name).__name__ == name
    assert set(af.__all__) <= set(dir(af))
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = af.train


def test_the_examples_of_the_docstrings_give_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_squares(Path("photos"), side=32, per_class=15)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with_examples = []
    for name in (*reference.ORDER, "UserError"):  # in the order of the page: `fit` makes the run that others read
        value = getattr(af, name)
        for found in finder.find(value, f"af.{name}", module=False, globs={"af": af}):
            runner.run(found)
            with_examples += [found.name] if found.examples else []
    assert runner.summarize(verbose=False).failed == 0
    assert {"af.fit", "af.Run", "af.load", "af.Model.embed", "af.check", "af.label_errors", "af.Classifier"} <= set(
        with_examples
    )
