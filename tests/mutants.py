"""The mutation check: breaks the code one expression at a time and asks whether a test notices (`make mutants`).

mutmut makes the mutants and runs the tests; pyproject.toml ([tool.mutmut]) says of which files and with which tests.
This script starts it and prints what it found: the changed lines of every mutant that no test noticed, and a table by
folder. With patterns (`python tests/mutants.py 'adaptformer.gate.*'`) only those mutants are run, again if they were
run before; without, all are made anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

from adaptformer.base.text_table import aligned

ROOT = Path(__file__).resolve().parents[1]
NOTICED = {"killed", "timeout"}


def _results() -> Iterator[tuple[Path, str, str]]:
    """Yield file, mutant and what came of it, for each mutant that was run."""
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        for mutant, exit_code in data.exit_code_by_key.items():
            if exit_code is not None:
                yield path, mutant, status_by_exit_code[exit_code]


def _changed_lines(mutant: str, path: Path) -> str:
    """Return the lines of the diff that the mutant removes and adds."""
    lines = get_diff_for_mutant(mutant, path=path).splitlines()
    return "\n".join(f"    {line}" for line in lines if line[:1] in "+-" and line[:3] not in {"+++", "---"})


def main() -> None:
    """Run mutmut and print its results."""
    os.chdir(ROOT)
    patterns = sys.argv[1:]
    if not patterns:
        shutil.rmtree("mutants", ignore_errors=True)
    # One thread: torch must not start a pool before the processes of the mutants are forked.
    subprocess.run(["mutmut", "run", *patterns], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path, mutant, status in _results():
        counts[str(path.parent)][status] += 1
        if status not in NOTICED:
            print(f"\n{mutant}: {status}\n{_changed_lines(mutant, path)}")
    rows = []
    for name, count in counts.items():
        noticed, total = sum(count[status] for status in NOTICED), count.total()
        others = total - noticed - count["survived"]
        numbers = [total, count["killed"], count["timeout"], count["survived"], others]
        rows.append([name, *map(str, numbers), f"{noticed / total:.1%}"])
    print("\n" + aligned(rows, ["", "mutants", "killed", "timeout", "survived", "other", "score"]))


if __name__ == "__main__":
    main()
