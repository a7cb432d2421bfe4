import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from adaptformer.data.manifest import scan
from adaptformer.validation.report import data_report, warnings

Tree = Callable[..., Path]
Sound = dict[str, bytes | int]


def report(data: Path) -> str:
    return data_report(scan(data, 0.2, 0)[0], data)


def test_it_shows_counts_sizes_modes_and_pictures(tree: Tree, sound: Sound) -> None:
    html = report(tree(sound))
    assert "<dt>images</dt><dd>14</dd>" in html
    assert '<tr><td>cat</td><td class="number">4</td><td class="number">1</td><td class="number">2</td>' in html
    assert '<td>8 x 6</td><td class="number">14</td>' in html
    assert '<td>RGB</td><td class="number">14</td>' in html
    assert html.count('src="data:image/png;base64,') == 8
    assert 'alt="cat"' in html


def test_it_is_the_same_elsewhere_and_needs_nothing_from_outside(tree: Tree, sound: Sound, tmp_path: Path) -> None:
    first = report(tree(sound))
    assert report(tree(sound, "other place")) == first
    assert str(tmp_path) not in first
    assert not re.search(r"(https?:)?//[a-z]|<script|<link|url\(", re.sub(r"base64,[^\"]*", "", first))


def test_warnings_name_what_deserves_a_look(tree: Tree, sound: Sound) -> None:
    birds: Sound = {f"train/bird/{i}.png": 500 + i for i in range(60)}
    data = tree({**sound, **birds, "test/cat/x.png": 900, "test/cat/y.png": 900})
    lines = warnings(scan(data, 0.2, 0)[0])
    assert lines == [
        "bird: no image in test, so nothing is known about how well it is recognised",
        "cat, dog: fewer than 10 images in train",
        "classes differ more than 10-fold in size: bird has 48 images in train, cat has 4",
        "1 exact duplicates within a split count more than once",
    ]
    html = report(data)
    assert all(line in html for line in lines)
    assert "<td>test/cat/x.png, test/cat/y.png</td>" in html


def test_a_balanced_data_set_has_no_warnings(tree: Tree) -> None:
    content: Sound = {
        f"{split}/{label}/{i}.png": 1000 * s + 100 * c + i
        for s, (split, count) in enumerate((("train", 20), ("test", 3)))
        for c, label in enumerate(("cat", "dog"))
        for i in range(count)
    }
    data = tree(content)
    assert warnings(scan(data, 0.2, 0)[0]) == []
    assert '<ul class="warnings">' not in report(data)


def test_names_are_escaped(tree: Tree, sound: Sound) -> None:
    name = '<script>"&'
    html = report(tree({**sound, f"train/{name}/1.png": 500, f"train/{name}/2.png": 501}))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_many_classes_stay_a_page(tree: Tree) -> None:
    content: Sound = {f"train/{c:03d}/{i}.png": 10 * c + i for c in range(60) for i in range(2)}
    html = report(tree({**content, "test/000/t.png": 9999}))
    assert "10 more classes are not shown." in html
    assert html.count("<figure>") == 50


def test_a_picture_that_is_gone_is_left_out(tree: Tree, sound: Sound) -> None:
    data = tree(sound)
    manifest, _ = scan(data, 0.2, 0)
    for path in (data / "train/cat").iterdir():
        path.unlink()
    assert data_report(manifest, data).count("<figure>") == 4


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_tag_is_closed(tree: Tree, sound: Sound) -> None:
    tags = Tags()
    tags.feed(report(tree({**sound, "test/cat/x.png": 900, "test/cat/y.png": 900})))
    assert tags.open == []
