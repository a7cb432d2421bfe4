"""Bars in a terminal, and nothing elsewhere."""

from __future__ import annotations

import contextlib
import io
import logging
import re

import pytest

from adaptformer.base import progress


class Screen(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True

    def here(self) -> contextlib.redirect_stderr[Screen]:
        """Be the standard error in the body; pytest replaces what a fixture sets there."""
        return contextlib.redirect_stderr(self)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    progress.use("auto")
    return screen


def lines(screen: Screen) -> list[str]:
    """All that was shown, line by line, without control codes; a bar that is drawn again is there again."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", screen.getvalue()))


def test_a_bar_names_the_step_and_counts_to_the_total(screen: Screen) -> None:
    with screen.here():
        assert list(progress.steps([2, 3, 5], "decoding", 12, "images", size=int, done=2)) == [2, 3, 5]
    shown = [line for line in lines(screen) if line.startswith("decoding")]
    assert " 4 of 12 images, " in shown[0]
    assert " 12 of 12 images, " in shown[-1]
    assert re.search(r"images, [\d,]+ images/s", shown[-1])


def test_the_rate_is_that_of_what_was_done_here(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock, 2.0))
    with screen.here():
        list(progress.steps([8], "downloading", None, "MB", size=int, done=100))
    assert "108 MB, 4.0 MB/s" in "".join(lines(screen))


def test_a_step_that_is_over_at_once_shows_nothing(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 600)
    with screen.here():
        assert list(progress.steps(range(3), "decoding", 3, "images")) == [0, 1, 2]
    assert not any("decoding" in line for line in lines(screen))


def test_outside_of_a_terminal_and_where_it_is_not_wanted_nothing_is_shown(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.use("none")
    with screen.here():
        assert list(progress.steps(range(3), "decoding", 3, "images")) == [0, 1, 2]
    progress.use("auto")
    monkeypatch.setenv("TERM", "dumb")
    with screen.here(), progress.bar("decoding", 3, "images") as bar:
        bar.advance(1)
        assert not bar.visible
    monkeypatch.setenv("TERM", "xterm")
    with contextlib.redirect_stderr(io.StringIO()) as file:
        list(progress.steps(range(3), "decoding", 3, "images"))
    assert (screen.getvalue(), file.getvalue()) == ("", "")


def test_a_step_within_another_has_no_bar_and_the_next_one_has(screen: Screen) -> None:
    with screen.here():
        for _ in progress.steps(range(2), "epoch", 2, "images"):
            list(progress.steps(range(2), "within", 2, "images"))
        list(progress.steps(range(2), "next", 2, "images"))
    text = "".join(lines(screen))
    assert ("within" in text, "next" in text) == (False, True)


def test_a_bar_ends_with_an_error_of_its_step(screen: Screen) -> None:
    def fail() -> None:
        with screen.here(), progress.bar("decoding", 2, "images") as bar:
            bar.advance(1)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert screen.getvalue().endswith("\x1b[2K")  # the line is cleared
    with screen.here(), progress.bar("again", 2, "images") as bar:
        assert bar.visible


def test_log_lines_stand_above_the_bar_and_are_written_as_they_are(screen: Screen) -> None:
    log = logging.Logger("test", logging.INFO)
    log.addHandler(progress.Lines())
    with screen.here():
        for _ in progress.steps(range(2), "epoch", 2, "images"):
            log.info("[bold]%s[/] 3/2 %s", "loss", "x" * 200)
        log.info("afterwards")
    text = screen.getvalue()
    assert text.count("[bold]loss[/] 3/2 " + "x" * 200 + "\n") == 2
    assert text.endswith("afterwards\n")


def test_a_long_step_logs_its_rate_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOG_LINES", -1)
    with caplog.at_level("INFO", "adaptformer"):
        assert list(progress.logged(["a", "bc"], "reading", 3, "letters", len)) == ["a", "bc"]
    first, second = caplog.messages
    assert first.startswith("reading: 1 of 3 letters, ")
    assert second.startswith("reading: 3 of 3 letters, ")
    assert second.endswith("letters/s, 0 min left")


def test_a_short_step_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "adaptformer"):
        assert list(progress.logged([1], "reading", 1, "letters")) == [1]
    assert not caplog.messages


def test_a_log_line_is_written_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped between two calls would print its last line behind half a line."""
    written: list[str] = []

    class Stream:
        isatty = staticmethod(lambda: False)
        flush = staticmethod(lambda: None)
        write = staticmethod(written.append)

    monkeypatch.setattr("sys.stderr", Stream)
    progress.Lines().emit(logging.makeLogRecord({"msg": "a line"}))
    assert written == ["a line\n"]
