from adaptformer.html_page import (
    Number,
    bar,
    between,
    contents,
    figure,
    note,
    page,
    percent,
    picture,
    pictures,
    section,
    table,
    tiles,
    warnings,
)


def test_titles_and_texts_are_escaped() -> None:
    assert "<title>a &lt;b&gt;</title>" in page("a <b>", "<p>kept</p>")
    assert "<p>kept</p>" in page("a", "<p>kept</p>")
    assert "&lt;i&gt;" in tiles([("<i>", "1")])
    assert "&lt;i&gt;" in warnings(["<i>"])
    assert 'alt="&quot;x&quot; &lt;"' in picture(b"", '"x" <')
    assert "<figcaption>&lt;</figcaption>" in pictures([(b"", "<")])


def test_a_page_follows_the_reader_and_the_screen() -> None:
    html = page("a", "")
    assert html.startswith('<!doctype html>\n<html lang="en">')
    assert "prefers-color-scheme: dark" in html
    assert ":focus-visible" in html
    assert 'name="viewport"' in html


def test_tables_align_numbers_and_escape_all_but_html() -> None:
    html = table(["name", "count"], [("<a>", 3), ("b", 0.5)], "what")
    assert '<td>&lt;a&gt;</td><td class="number">3</td>' in html
    assert '<th scope="col">name</th><th scope="col" class="number">count</th>' in html
    assert "<caption>what</caption>" in html
    assert 'tabindex="0"' in html
    assert 'style="width:25.0%"' in table(["x"], [(bar(0.25),)])


def test_bars_stay_in_their_column() -> None:
    assert "width:100.0%" in bar(1.7)
    assert "width:0.0%" in bar(-1.0)


def test_a_picture_lies_in_the_page() -> None:
    assert 'src="data:image/png;base64,UE5H"' in picture(b"PNG", "x")


def test_no_warnings_are_no_list() -> None:
    assert warnings([]) == ""


def test_written_out_numbers_are_aligned_as_numbers() -> None:
    html = table(["name", "share"], [("a", percent(0.12345)), ("b", 3)])
    assert '<th scope="col" class="number">share</th>' in html
    assert '<td class="number">12.35 %</td>' in html
    assert "<td>a</td>" in html
    assert Number("<") in "<"
    assert "&lt;" in table(["x"], [(Number("<"),)])
    assert between(0.1234, 1) == "12.3 to 100.0 %"


def test_contents_lead_to_the_sections() -> None:
    headings = ["What is <this>?", "Accuracy"]
    links = contents(headings)
    assert links.count("<a ") == 2
    assert '<a href="#what-is-this">What is &lt;this&gt;?</a>' in links
    assert 'id="what-is-this"' in section(headings[0], "")
    assert '<a href="#accuracy">' in links
    assert 'id="accuracy"' in section(headings[1], "")


def test_figures_and_notes_are_escaped() -> None:
    assert figure(b"", '"x"', "<y>").startswith('<figure><img src="data:image/png;base64," alt="&quot;x&quot;">')
    assert "<figcaption>&lt;y&gt;</figcaption>" in figure(b"", "", "<y>")
    assert note("<z>") == '<p class="soft">&lt;z&gt;</p>\n'
