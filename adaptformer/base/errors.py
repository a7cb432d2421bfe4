"""The one exception that a user may see, and the removal of passwords, tokens and signatures from texts."""

from __future__ import annotations

import os
import re

HIDDEN = "***"

_USER = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")
_RAW_PASSWORD = re.compile(r"(?<=://)[^\s:/@'\"<>]*:(?!\d+(?:[/?#\s'\"]|$))[^\s@'\"<>]*@")
"""A password that holds / ? or # unescaped, which databases accept; a colon before a port begins no password."""
_QUERY = re.compile(
    r"([?&;](?:[^=&;#\s'\"<>]*(?:token|secret|signature|passw|credential|api_?key|access_?key|auth)[^=&;#\s'\"<>]*"
    r"|sig|key|pwd|pass|GoogleAccessId)=)[^&;#\s'\"<>]+",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH_STRING", re.IGNORECASE
)
_SHORTEST = 8
"""A shorter value of a variable is too weak to be a real secret, and may be part of any word."""


class UserError(Exception):
    """A failure that the user can fix: one line of cause, one line of what to do.

    Every command shows exactly these two lines and exits with 1; the traceback appears only on request
    (`adaptformer --traceback …`). Credentials are removed from both lines.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        self.cause = without_credentials(cause)
        self.remedy = without_credentials(remedy)
        super().__init__(self.cause, self.remedy)

    def __str__(self) -> str:
        return f"{self.cause}\n{self.remedy}"


def without_credentials(text: str) -> str:
    """Return a text without the user, password, token and signature of any URL and without secret variables' values.

    A URL loses its user and password, so that it names the same place for everybody; a secret in a query, or the value
    of an environment variable such as AWS_SECRET_ACCESS_KEY, becomes HIDDEN. A second call changes nothing.
    """
    text = _without_those_of_urls(text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and value in text and _SECRET_VARIABLE.search(name):
            text = text.replace(value, HIDDEN)
    return text


def has_credentials(text: str) -> bool:
    """Return whether a URL in a text holds a user, a password, a token or a signature."""
    return _without_those_of_urls(text) != text


def _without_those_of_urls(text: str) -> str:
    if "://" in text:
        text = _RAW_PASSWORD.sub("", _USER.sub("", text))
    return _QUERY.sub(rf"\g<1>{HIDDEN}", text) if "=" in text else text
