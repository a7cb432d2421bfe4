"""Kills: a command is stopped at a random moment, run again, and must end as one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults import processes, projects, table
from tests.faults.processes import WORDS, Ended, Kill
from tests.faults.projects import CASES, Case, Projects
from tests.faults.table import Table

STARTING = ("params", "predict", "history", "data", "--help")
_undisturbed: dict[str, tuple[object, float]] = {}


def one(made: Projects, dice: random.Random, results: Table) -> None:
    """Kill one command once, and count what came of it."""
    if dice.random() < 0.04 and len(made.cases) >= len(CASES):
        _starting(made, dice, results)
        return
    case = dice.choices(made.cases, [case.weight for case in made.cases])[0]
    wanted, seconds = undisturbed(made, case)
    number = dice.choice(list(WORDS))
    # Most of a command is work; its end, where records are written, is hit as often as all the rest.
    after = dice.uniform(0, seconds) if dice.random() < 0.5 else seconds * dice.uniform(0.8, 1.05)
    kill = Kill(number, after, group=dice.random() < 0.5)
    root = made.fresh(case.state)
    killed = processes.run(case.call, root, kill)
    told = f"{WORDS[number]} after {after:.3f} s of {seconds:.3f} s"
    # A command that ended before its signal came has told its result: asked for again, it would be a new request.
    ended = killed if killed.code == 0 else processes.run(case.call, root)
    reached = result(case, root, ended)
    if bad := _noise(killed, number):
        results.add("kill", case.name, table.TRACEBACK, f"{told}: the command itself: {bad}")
    elif ended.traceback or ended.code not in {0, 1}:
        results.add("kill", case.name, table.TRACEBACK, f"{told}: again: {ended.code}: {ended.printed[-2000:]}")
    elif ended.code:
        results.add("kill", case.name, table.REFUSED, "")
        results.wrong.append(f"kill: {case.name}: {told}: the same command is refused: {ended.printed[-500:]}")
    elif reached != wanted:
        results.add("kill", case.name, table.SILENT, f"{told}: {_difference(wanted, reached)}")
    else:
        results.add("kill", case.name, table.IDENTICAL, "")
    made.done_with(root)


def undisturbed(made: Projects, case: Case) -> tuple[object, float]:
    """Return what a command leads to if nothing stops it, and its seconds."""
    if case.name not in _undisturbed:
        root = made.fresh(case.state)
        ended = made.must(case.call, root)
        _undisturbed[case.name] = result(case, root, ended), ended.seconds
        made.done_with(root)
    return _undisturbed[case.name]


def result(case: Case, root: Path, ended: Ended) -> object:
    """Return what a command has led to."""
    return case.lasting(root), ended.printed if case.last_words else ""


def _noise(killed: Ended, number: signal.Signals) -> str:
    """Return what a stopped command should not have said or ended with, "" if all is well."""
    if number == signal.SIGKILL or killed.code == 0:
        return ""
    wanted = 128 + number
    if killed.code != wanted:
        return f"exit code {killed.code}, not {wanted}: {killed.printed[-1500:]}"
    lines = [line for line in killed.printed.splitlines() if "stopped" in line]
    return "" if len(lines) == 1 and not killed.traceback else killed.printed[-1500:]


def _difference(wanted: object, reached: object) -> str:
    ((before, moves), words), ((after, now), said) = wanted, reached  # type: ignore[misc,has-type]
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    told = [f"other files: {', '.join(names)}"] if names else []
    told += [f"in use: {now.strip()}, not {moves.strip()}"] if moves != now else []
    return "; ".join([*told, *([f"printed: {said}"] if words != said else [])])


def _starting(made: Projects, dice: random.Random, results: Table) -> None:
    """Stop a real process while it starts: one line, no traceback."""
    words, number = dice.choice(STARTING), dice.choice([signal.SIGINT, signal.SIGTERM])
    root = made.fresh("data")
    process = subprocess.Popen(
        [sys.executable, "-m", "adaptformer", words], cwd=root, start_new_session=True, text=True,
        env={**os.environ, "PYTHONPATH": str(projects.ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    # Before the first line of this project runs, Python's own answer to Ctrl-C is a traceback: no business of ours.
    time.sleep(0.15 + dice.uniform(0, 1.0))
    process.send_signal(number)
    printed, _ = process.communicate(timeout=processes.HANG_SECONDS)
    # Once the interpreter takes its handlers down, the signal itself ends the process: 128 + number to a shell.
    wrong = "Traceback" in printed or process.returncode not in {0, 1, 128 + number, -number}
    told = f"{WORDS[number]}: {process.returncode}: {printed[-800:]}"
    results.add("kill", "while it starts", table.TRACEBACK if wrong else table.IDENTICAL, told)
    made.done_with(root)
