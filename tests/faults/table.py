"""What came of the tries, and the table of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from adaptformer.base import text_table

IDENTICAL, HEALED, REFUSED, SILENT, TRACEBACK = "identical", "healed", "refused", "SILENT", "TRACEBACK"
OUTCOMES = (IDENTICAL, HEALED, REFUSED, SILENT, TRACEBACK)
"""The same result; the same, and the broken file is whole again; an error of two lines; another result without a word;
anything else: an exception, an ending that is not a command's, lines beside the one that a signal may print."""
WRONG = {SILENT, TRACEBACK}


@dataclass
class Table:
    """The outcomes by kind and subject; `wrong` has what happened, and how to have it again."""

    counts: defaultdict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    wrong: list[str] = field(default_factory=list)

    def add(self, kind: str, subject: str, outcome: str, told: str) -> None:
        """Count a try; `told` is kept if it went wrong."""
        self.counts[kind, subject][outcome] += 1
        if outcome in WRONG:
            self.wrong.append(f"{kind}: {subject}: {outcome}: {told}")

    def tries(self, kind: str) -> int:
        """Return the number of tries of a kind."""
        return sum(count.total() for (of, _), count in self.counts.items() if of == kind)

    def text(self, markdown: bool = False) -> str:
        """Return the table, a row for each subject and one for each kind."""
        rows = []
        for kind in dict.fromkeys(kind for kind, _ in self.counts):
            of = {subject: count for (one, subject), count in self.counts.items() if one == kind}
            named = [(kind, subject, count) for subject, count in sorted(of.items())]
            for row in (*named, (f"all {kind}", "", sum(of.values(), Counter()))):
                rows.append((row[0], row[1], f"{row[2].total():,}", *(f"{row[2][outcome]:,}" for outcome in OUTCOMES)))
        headers = ("fault", "of", "tries", *OUTCOMES)
        return text_table.markdown(rows, headers) if markdown else text_table.aligned(rows, headers)
