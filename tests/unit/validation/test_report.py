import re
from collections.abc import Callable
from pathlib import Path

from web_pages import captions, check, figures, rows, section

from adaptformer.data.manifest import scan
from adaptformer.validation.report import data_report, warnings

Tree = Callable[..., Path]
Sound = dict[str, bytes | int]


def report(data: Path) -> str:
    return data_report(scan(data, 0.2, 0)[0], data)


def test_it_shows_counts_sizes_modes_and_pictures(tree: Tree, sound: Sound) -> None:
    html = report(tree(sound))
    assert figures(html) == {
        "images": "14", "classes": "2", "train": "8", "validation": "2", "test": "4", "size on disk": "0.0 MB",
    }  # fmt: skip
    assert rows(section(html, "Classes")) == [["cat", "4", "1", "2", ""], ["dog", "4", "1", "2", ""]]
    images = rows(section(html, "Images"))
    assert images[:2] == [["width", "8", "8", "8"], ["height", "6", "6", "6"]]
    assert images[3:] == [["8 x 6", "14"], ["RGB", "14"]]
    assert captions(section(html, "Examples")) == ["cat"] * 4 + ["dog"] * 4
    assert html.count('alt="cat"') == 4
    assert html.count('class="number"') == 3 + 2 * 3 + 3 + 3 * 3 + 2 * 2


def test_bars_show_the_size_of_a_class_relative_to_the_largest(tree: Tree, sound: Sound) -> None:
    html = report(tree({**sound, **{f"train/dog/more{i}.png": 500 + i for i in range(5)}}))
    assert [row[1] for row in rows(section(html, "Classes"))] == ["4", "8"]
    assert html.partition('style="width:')[2].startswith("50.0%")
    assert html.count("width:100.0%") == 1


def test_it_is_the_same_elsewhere_and_complete(tree: Tree, sound: Sound, tmp_path: Path) -> None:
    first = report(tree(sound))
    check(first)
    assert report(tree(sound, "other place")) == first
    assert str(tmp_path) not in first


def test_warnings_name_what_deserves_a_look(tree: Tree, sound: Sound) -> None:
    birds: Sound = {f"train/bird/{i}.png": 500 + i for i in range(60)}
    data = tree({**sound, **birds, "test/cat/x.png": 900, "test/cat/y.png": 900})
    lines = warnings(scan(data, 0.2, 0)[0])
    assert lines == [
        "bird: no images in test, so its accuracy there is unknown",
        "cat, dog: fewer than 10 images in train",
        "classes differ more than 10-fold in size: bird has 48 images in train, cat has 4",
        "1 exact duplicate within a split: the same image counts more than once",
    ]
    html = report(data)
    check(html)
    assert all(f"<li>{line}</li>" in html for line in lines)
    assert rows(section(html, "Duplicates")) == [["test", "test/cat/x.png, test/cat/y.png"]]


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
    label, name = "<b onclick=1>\"&'", "<i title='\">.png"
    html = report(tree({**sound, **{f"train/{label}/{n}{name}": 500 for n in range(2)}}))
    check(html)  # knows no attribute "onclick" or "title"
    assert not {"<i ", "<b "} & set(re.findall("<[bi] ", html))
    assert rows(section(html, "Classes"))[0][0] == label
    assert captions(section(html, "Examples"))[:2] == [label] * 2
    assert name in rows(section(html, "Duplicates"))[0][1]


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
