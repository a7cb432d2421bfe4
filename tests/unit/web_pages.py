"""What a reader, a keyboard and a browser find on a page."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser


def words(text: str) -> str:
    """The text of a part of a page, without its tags and line breaks."""
    return " ".join(_text(text).split())


def headline(page: str) -> str:
    return _text(page.partition("<h1>")[2].partition("</h1>")[0])


def section(page: str, heading: str) -> str:
    """The part of a page below a heading, of which the beginning is enough; nothing where there is none."""
    return page.partition(f"<h2>{heading}")[2].partition("</section>")[0]


def rows(text: str) -> list[list[str]]:
    """The texts of all cells of all tables, the heads of tables left out."""
    lines = re.findall("<tr>(.*?)</tr>", text, re.DOTALL)
    cells = [[_text(cell) for cell in re.findall("<td.*?>(.*?)</td>", line, re.DOTALL)] for line in lines]
    return [line for line in cells if line]


def captions(text: str) -> list[str]:
    return [_text(caption) for caption in re.findall("<figcaption>(.*?)</figcaption>", text, re.DOTALL)]


def figures(text: str) -> dict[str, str]:
    """The large figures at the top, by name."""
    pairs = re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", text)
    return {_text(name): _text(value) for name, value in pairs}


def _text(html: str) -> str:
    return unescape(re.sub("<.*?>", "", html)).replace("\u00a0", " ").strip()


def check(page: str) -> None:
    """Check what holds for every page: it is whole, needs no other file, and is accessible."""
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert page.startswith('<!doctype html>\n<html lang="en">')
    without_pictures = re.sub(r"base64,[^\"]*", "", page)
    assert not re.search(r"(https?:)?//[a-z]|<script|<link|url\(|\bnan\b", without_pictures)
    assert not re.search(r"/(work|tmp|home|root|Users)\b|\b20\d\d-\d\d|\b\d\d:\d\d\b", without_pictures)
    links = re.findall('<a href="#(.*?)">', page)
    sections = re.findall('<section id="(.*?)">', page)
    assert links[: len(sections)] == sections != [], "the contents lead to every section"
    targets = [*sections, *re.findall('<h3 id="(.*?)">', page)]
    assert len(set(targets)) == len(targets)
    assert set(links) == set(targets)
    ids = re.findall(' id="(.*?)"', page)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(' href="#(.*?)"', page)) <= set(ids), "no link leads nowhere"
    assert page.count("<table>") == len(re.findall('tabindex="0" role="region" aria-label="[^"]{4,}">\n<table>', page))
    assert re.findall("<img[^>]*>", page) == re.findall('<img[^>]* alt="[^"]+">', page)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert set(names) <= {
            "alt", "aria-hidden", "aria-label", "charset", "class", "content", "cx", "cy", "d", "href", "id", "lang",
            "name", "r", "role", "scope", "src", "style", "tabindex", "viewbox",
        }, names  # fmt: skip
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
