import re
from collections.abc import Callable
from pathlib import Path

import pytest
from jinja2 import ChoiceLoader, DictLoader, FileSystemLoader, UndefinedError
from web_pages import check

import adaptformer
from adaptformer import pages
from adaptformer.pages import between, percent

LIBRARY = Path(adaptformer.__file__).parent
LIBRARY_LOADER = FileSystemLoader(LIBRARY)
TEMPLATES = sorted(path.relative_to(LIBRARY) for path in LIBRARY.rglob("*.j2"))


def test_shares_are_written_as_percentages() -> None:
    assert percent(0.12345) == "12.35 %"
    assert between(0.1234, 1) == "12.3 to 100.0 %"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Render text as a template that has all macros at hand."""
    environment = pages._environment()
    macros = '{% import "pages/macros.html.j2" as parts with context %}'

    def render(text: str, **values: object) -> str:
        monkeypatch.setattr(environment, "loader", ChoiceLoader([DictLoader({text: macros + text}), LIBRARY_LOADER]))
        return pages.render(text, **values)

    return render


def test_a_value_that_is_missing_is_an_error(shown: Callable[..., str]) -> None:
    assert shown("{{ known }}", known="x") == "x"
    with pytest.raises(UndefinedError, match="'missing' is undefined"):
        shown("{{ missing }}", known="x")


HOSTILE = "<b>&\"'"
ESCAPED = "&lt;b&gt;&amp;&#34;&#39;"


@pytest.mark.parametrize(
    "part",
    [
        "{{ name }}", "{{ parts.tile(name, name) }}", "{{ parts.table(name, [name], [[name]]) }}",
        "{{ parts.pictures([(b, name)]) }}", "{{ parts.warnings([name]) }}", "{{ parts.note(name) }}",
        "{% call parts.section(name) %}{{ name }}{% endcall %}", "{{ parts.figure(b, name, name) }}",
    ],
)  # fmt: skip
def test_every_part_escapes_names(shown: Callable[..., str], part: str) -> None:
    text = shown(part, name=HOSTILE, b=b"")
    assert HOSTILE not in text
    assert text.count(ESCAPED) == text.count("&lt;b") > 0


def test_a_page_lists_its_sections_and_follows_the_reader_and_the_screen(shown: Callable[..., str]) -> None:
    text = shown(
        '{% extends "pages/base.html.j2" %}{% import "pages/macros.html.j2" as parts with context %}'
        '{% set title = "<a> & b" %}{% block sections %}{% for name in ["What is <this>?", "Accuracy"] %}'
        "{% call parts.section(name) %}text{% endcall %}{% endfor %}{% endblock %}"
    )
    check(text)
    assert "<title>&lt;a&gt; &amp; b</title>" in text
    assert '<a href="#what-is-this">What is &lt;this&gt;?</a>' in text
    assert text.count("<section") == 2
    for expected in ("prefers-color-scheme: dark", ":focus-visible", 'name="viewport"'):
        assert expected in text


def test_columns_of_numbers_are_right_aligned(shown: Callable[..., str]) -> None:
    text = shown('{{ parts.table("What it is", ["name", "count"], [["a", 3]], numbers=["count"]) }}')
    assert '<th scope="col">name</th>' in text
    assert '<th scope="col" class="number">count</th>' in text
    assert '<td>a</td><td class="number">3</td>' in text
    assert "<caption><span>What it is</span></caption>" in text


def test_a_picture_lies_in_the_page(shown: Callable[..., str]) -> None:
    assert 'src="data:image/png;base64,UE5H"' in shown('{{ parts.picture(png, "x") }}', png=b"PNG")


def test_no_warnings_are_no_list(shown: Callable[..., str]) -> None:
    assert shown("{{ parts.warnings([]) }}").strip() == ""


def test_no_line_breaks_within_a_metric_or_a_percentage(shown: Callable[..., str]) -> None:
    text = shown("{{ name | unbroken }}", name="top-1 <98 %")
    assert text == '<span class="unbroken">top-1</span> &lt;98\u00a0%'


@pytest.mark.parametrize("template", TEMPLATES, ids=str)
def test_a_template_uses_only_templates_that_its_stage_depends_on(template: Path) -> None:
    # No import shows this to the test that compares a stage's code with what it imports.
    text = (LIBRARY / template).read_text()
    used = re.findall(r'{%-? *(?:extends|from|import|include) "(.*?)/', text)
    assert set(used) <= {"pages", template.parts[0]}
