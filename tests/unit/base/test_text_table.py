from adaptformer.base import text_table


def test_columns_are_aligned_and_no_line_ends_in_spaces() -> None:
    table = text_table.aligned([("1", "a", ""), ("100", "bb", "x")], ["number", "name", "note"])
    assert table.splitlines() == ["number  name  note", "1       a", "100     bb    x"]


def test_numbers_stay_as_they_are_written() -> None:
    assert text_table.aligned([("1.50", "007"), ("10", "1e3")]) == "1.50  007\n10    1e3"


def test_markdown_aligns_numbers_to_the_right() -> None:
    table = text_table.markdown([("a", "1")], ["name", "count"], numbers=["count"])
    assert table == "| name | count |\n| --- | ---: |\n| a | 1 |\n"


def test_text_that_markdown_would_read_is_escaped() -> None:
    assert text_table.escaped("a|b <i> *c*\n_d_ [e] `f` #g") == r"a\|b \<i\> \*c\* \_d\_ \[e\] \`f\` \#g"
