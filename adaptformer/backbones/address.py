"""Rules for the addresses of downloads, and the form of an address in messages."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from adaptformer.base.errors import UserError


def check(url: str) -> None:
    """Raise UserError unless `url` is https, or http on this machine's loopback address, without user and password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"{shown(url)} is not an address ({one_line(error)})", "correct backbone.checkpoint") from error
    if parts.username or parts.password:
        cause = "the address of the checkpoint holds a user or a password"
        raise UserError(cause, "download the file by hand and set backbone.checkpoint to its path")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url))):
        raise UserError(
            f"{shown(url)} is not an https address", "give an https address; http is for loopback addresses only"
        )


def is_loopback(url: str) -> bool:
    """Return whether `url` is a loopback address of this machine."""
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def shown(url: str) -> str:
    """Return the address without its query and user, which may hold a signature or a password."""
    return re.sub(r"//[^/]*@", "//", url.partition("?")[0].partition("#")[0])


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to allowed addresses, and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request to follow, or None. Raises UserError if it leads to an address that is not allowed."""
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            cause = f"{shown(req.full_url)} redirects to {shown(newurl)}, which is not https"
            raise UserError(cause, "use another server")
        check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def one_line(error: BaseException) -> str:
    """Return the error's text as one printable line, because a server controls parts of it."""
    reason = getattr(error, "reason", None) or error
    text = " ".join(str(getattr(reason, "strerror", None) or reason or type(error).__name__).split())[:160]
    return "".join(letter if letter.isprintable() else "?" for letter in text) or type(error).__name__
