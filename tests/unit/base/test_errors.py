from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptformer.base.errors import UserError, has_credentials, without_credentials

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:s3cret@host:5000/a", "http://host:5000/a"),
        ("http://s3crettoken@host", "http://host"),
        ("at http://u:s3@cret@host/x fails", "at http://host/x fails"),
        ("postgresql+psycopg2://u:s3/c?r#et@host:5432/db", "postgresql+psycopg2://host:5432/db"),
        ("s3://KEY:s3cret@bucket/photos, s3://other/a", "s3://bucket/photos, s3://other/a"),
        ("https://host/a?x=1&X-Amz-Signature=s3cret&y=2", "https://host/a?x=1&X-Amz-Signature=***&y=2"),
        ("https://host/a?token=s3cret", "https://host/a?token=***"),
        ("https://blob/a?sv=2024&sig=s3cret%3D 'x'", "https://blob/a?sv=2024&sig=*** 'x'"),
        ("host:5000?access_token=s3cret", "host:5000?access_token=***"),
        ("postgresql://host/db?user=ada&password=s3cret", "postgresql://host/db?user=ada&password=***"),
    ],
)
def test_a_url_loses_what_it_knows_of_its_user(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown
    assert has_credentials(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/#/models/pets@champion", "https://host/a/b@c", "models:/pets@champion", "ada@example.org",
        "hub:timm/vit@0123", "sqlite:////home/ada/mlflow.db", "s3://bucket/a?versionId=3", "training.epochs=3",
        "git@github.com:ada/pets.git", "file:///data/it%27s%20mine?",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_credentials(text) == text
    assert not has_credentials(text)


def test_the_value_of_a_secret_variable_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN"):
        monkeypatch.setenv(name, f"planted/of+{name.lower()}")
        assert without_credentials(f"SignatureDoesNotMatch: planted/of+{name.lower()}, said x") == (
            "SignatureDoesNotMatch: ***, said x"
        )
    monkeypatch.setenv("HF_TOKEN", "photos")
    assert without_credentials("photos") == "photos", "so short a value may be a part of any word"


def test_a_user_error_holds_no_credentials_whatever_was_put_into_it() -> None:
    error = UserError("http://u:s3cret@host fails", "correct http://u:s3cret@host")
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert (one.cause, one.remedy) == ("http://host fails", "correct http://host")
        assert "s3cret" not in f"{one!s} {one!r} {one.args}"


def test_no_remedy_says_to_remove_anything() -> None:
    """Results, data and settings are moved away, repaired or put elsewhere: what is lost cannot be put right."""
    words = re.compile(r"\b(remov|delet|eras|discard|wip|purg|rm\b|unlink|throw)", re.IGNORECASE)
    told = list(_remedies())
    assert len(told) > 250
    assert not [remedy for remedy in told if words.search(remedy[1])]


REMEDIES = {"_faults", "UserError", "_Cause"}
"""What takes a remedy as its last argument."""


def _remedies() -> Iterator[tuple[str, str]]:
    """Every text that tells people what to do, with its place: of errors, of faults of data, of findings."""
    for path in sorted(path for top in ("adaptformer", "flows", "tasks") for path in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).split(".")[-1] in REMEDIES:
                yield place, ast.unparse(node.args[-1])
            if isinstance(node, ast.Assign) and "FIXES" in ast.unparse(node.targets[0]).upper():
                yield place, ast.unparse(node.value)
            if isinstance(node, ast.Assign) and re.search("FAULTS|REMED|_OF_A_PATH", ast.unparse(node.targets[0])):
                yield place, ast.unparse(node.value)
