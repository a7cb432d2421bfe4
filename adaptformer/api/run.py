"""A finished run: its metrics with their intervals, its report, its model."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base import integrity
from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder

if TYPE_CHECKING:
    from adaptformer.api.model import Model

_AGAIN = "make it again: call `fit` with the same values"


class Score(float):
    """A metric of a test split, which is a number, with the ends `low` and `high` of its 95 % interval.

    >>> score = af.Score(0.9, 0.85, 0.94)
    >>> score > 0.8
    True
    >>> score
    0.9 (0.85 to 0.94)
    """

    low: float
    high: float

    def __new__(cls, value: float, low: float, high: float) -> Score:
        """Return the number with its interval."""
        score = super().__new__(cls, value)
        score.low, score.high = low, high
        return score

    def __getnewargs__(self) -> tuple[float, float, float]:  # type: ignore[override]
        """Return what a copy is made from."""
        return float(self), self.low, self.high

    def __repr__(self) -> str:
        return f"{float(self)} ({self.low} to {self.high})"

    def __str__(self) -> str:
        return f"{100 * self:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f} %)"


class Metrics(Mapping[str, Any]):
    """The content of metrics.json; `top1`, `balanced_accuracy` and `macro_f1` are a Score each."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        spans = content["intervals"]
        self._content = {
            name: Score(value, *spans[name]) if name in spans else value for name, value in content.items()
        }

    def __getitem__(self, name: str) -> Any:
        """Return a metric. Raises KeyError for an unknown name."""
        return self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        numbers = {name: value for name, value in self._content.items() if isinstance(value, float | int)}
        return f"Metrics({numbers})"


class Report(os.PathLike[str]):
    """The path of a run's report, an HTML page, which a notebook shows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own, so that it and the notebook keep their styles."""
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" sandbox="allow-popups" style="width: 100%; height: 40em; border: 0"></iframe>'


class Run:
    """A run of `fit` that is finished, by its folder.

    >>> run = af.Run("runs/pets")
    >>> bool(run.metrics["top1"].low <= run.metrics["top1"] <= run.metrics["top1"].high)
    True
    >>> run.model.classes
    ('amber', 'blue', 'coral')
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open the run in a folder. Raises UserError if it is not finished."""
        root = Path(folder)
        self.files = RunFolder(root, root / "data", alone=True)
        for path in (self.files.metrics, self.files.report, self.files.model):
            if not path.is_file():
                raise UserError(f"{root}/ holds no finished run: {path} is missing", _AGAIN)

    @property
    def folder(self) -> Path:
        """The folder with the run's files."""
        return self.files.root

    @property
    def metrics(self) -> Metrics:
        """The metrics on the test split, by name: `run.metrics["top1"]` is a Score."""
        return Metrics(integrity.read_record(self.files.metrics, _AGAIN))

    @property
    def report(self) -> Report:
        """The path of the report, which a notebook shows."""
        return Report(self.files.report)

    @property
    def model(self) -> Model:
        """The exported model, ready to predict."""
        from adaptformer.api.model import load

        return load(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, top1={self.metrics['top1']})"
