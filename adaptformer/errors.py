"""The one exception that a user may see."""

from __future__ import annotations


class UserError(Exception):
    """A failure that the user can fix: one line of cause, one line of what to do.

    Every command shows exactly these two lines and exits with 1; the traceback appears only on request
    (`adaptformer --traceback …`).
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}\n{self.remedy}"
