"""Sound files with something wrong in them, and how each case must end."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TypeVar

from hypothesis import strategies as st

from adaptformer.base.errors import UserError

T = TypeVar("T")

SECONDS = 10
"""Of processor time that a case may take; by the clock it may take HUNG_SECONDS, or the process ends."""
HUNG_SECONDS = 180

LENGTHS = [0, 1, 2, 4, 7, 8, 100, 1000]


@st.composite
def bytes_of(draw: st.DrawFn, seeds: Sequence[bytes], pieces: Sequence[bytes] = (b"\0", b"\xff", b"\xff" * 4)) -> bytes:
    """Draw one of the seeds with up to five places changed: bits, bytes, cuts, repeats, and `pieces` put in."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(content)))
        length = min(draw(st.sampled_from(LENGTHS)), len(content) - at)
        match draw(st.integers(0, 6)):
            case 0 if at < len(content):
                content[at] ^= 1 << draw(st.integers(0, 7))
            case 1 if at < len(content):
                content[at] = draw(st.integers(0, 255))
            case 2:
                content[at : at + length] = draw(st.sampled_from(pieces))
            case 3:
                content[at:at] = draw(st.sampled_from(pieces))
            case 4:
                del content[at : at + length]
            case 5:
                content[at:at] = content[at : at + length]
            case 6:
                del content[at:]
    return bytes(content)


@st.composite
def text_of(draw: st.DrawFn, seed: str, pieces: Sequence[str]) -> str:
    """Draw the seed with up to three lines changed: taken out, doubled, cut, or with pieces in them."""
    lines = seed.split("\n")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        place = draw(st.integers(0, len(line)))
        piece = draw(st.sampled_from(pieces) | st.text(max_size=8))
        match draw(st.integers(0, 5)):
            case 0:
                lines[at : at + 1] = [] if len(lines) > 1 else [""]
            case 1:
                lines.insert(at, line)
            case 2:
                lines[at] = line[:place]
            case 3:
                lines[at] = line[:place] + piece + line[place:]
            case 4:
                lines[at] = line[:place] + piece
            case 5:
                lines[at] = piece
    return "\n".join(lines)


def ends_well(work: Callable[[], T]) -> T | UserError:
    """Return what `work` returns, or the UserError that it raised; anything else is a failure, and so is a hang."""
    with _bounded():
        try:
            return work()
        except UserError as error:
            told = error
    assert told.cause.strip()
    assert told.remedy.strip()
    return told


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    def too_long(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"a case took more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
