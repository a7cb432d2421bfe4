"""Wrong labels come first, and what a person wrote is kept."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score
from web_pages import check

from adaptformer.base.errors import UserError
from adaptformer.curation.labels import label_report, ranking
from adaptformer.curation.labels.embedding_map import Point


def data_set(planted: int = 6) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A manifest of 150 images, features that tell its three classes apart, and which labels are wrong."""
    numbers = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], 50)
    features = (5 * np.eye(6)[classes] + numbers.normal(size=(150, 6))).astype(np.float32)
    wrong = np.zeros(150, bool)
    wrong[numbers.permutation(150)[:planted]] = True
    labels = np.array(["amber", "blue", "coral"])[np.where(wrong, (classes + 1) % 3, classes)]
    table = pd.DataFrame(
        {
            "path": [f"train/{label}/{i}.png" for i, label in enumerate(labels)],
            "label": labels,
            "split": "train",
            "sha256": [f"{i:064}" for i in range(150)],
        }
    )
    return table, features, wrong


def test_planted_labels_are_found_with_the_class_that_they_should_have() -> None:
    table, features, wrong = data_set()
    found = ranking.rank(table, features, None)
    planted = set(table["path"][wrong])
    assert set(found["path"].head(6)) == planted
    named = found["likely_wrong"] == "yes"
    assert set(found.loc[named, "path"]) <= planted
    assert named.sum() >= 4
    assert named.is_monotonic_decreasing, "they come first"
    first = found.head(6)
    following = {"amber": "coral", "blue": "amber", "coral": "blue"}
    assert list(first["looks_like"]) == [following[label] for label in first["label"]]
    assert (first["probability"] > first["label_probability"]).all()
    assert first["label_probability"].is_monotonic_increasing
    assert average_precision_score(wrong, -found.set_index("path")["label_probability"][table["path"]]) > 0.95
    assert tuple(found.columns) == ranking.COLUMNS
    assert (found["new_label"] == "").all()


def test_a_data_set_without_wrong_labels_names_none() -> None:
    table, features, _ = data_set(planted=0)
    assert (ranking.rank(table, features, None)["likely_wrong"] == "").all()


def test_images_of_one_group_do_not_judge_each_other() -> None:
    numbers = np.random.default_rng(1)
    features = np.repeat(numbers.normal(size=(150, 300)).astype(np.float32), 3, axis=0)
    labels = np.repeat(numbers.permutation(["amber", "blue"] * 75), 3)
    table = pd.DataFrame(
        {
            "path": [f"train/{label}/visit{i // 3}__{i}.png" for i, label in enumerate(labels)],
            "label": labels,
            "sha256": [f"{i:064}" for i in range(450)],
        }
    )
    apart = ranking.rank(table, features, "/(.+?)__")
    together = ranking.rank(table, features, None)
    right = [(found["label"] == found["looks_like"]).mean() for found in (apart, together)]
    assert right[0] < 0.65
    assert right[1] > 0.8
    table["sha256"] = [f"{i // 3:064}" for i in range(450)]  # copies do not, either
    copies = ranking.rank(table, features, None)
    assert (copies["label"] == copies["looks_like"]).mean() < 0.65


def test_near_duplicates_do_not_judge_each_other() -> None:
    numbers = np.random.default_rng(1)
    features = np.repeat(numbers.normal(size=(150, 300)).astype(np.float32), 2, axis=0)
    features += 1e-3 * numbers.normal(size=features.shape).astype(np.float32)
    labels = np.repeat(numbers.permutation(["amber", "blue"] * 75), 2)
    table = pd.DataFrame(
        {
            "path": [f"train/{label}/{i}.png" for i, label in enumerate(labels)],
            "label": labels,
            "sha256": [f"{i:064}" for i in range(300)],
        }
    )
    pairs = [(table["path"][i], table["path"][i + 1]) for i in range(0, 300, 2)]
    blind = ranking.rank(table, features, None)
    told = ranking.rank(table, features, None, pairs)
    assert (blind["label"] == blind["looks_like"]).mean() > 0.8
    assert (told["label"] == told["looks_like"]).mean() < 0.65


def test_what_is_connected_through_others_stays_together() -> None:
    table = pd.DataFrame(
        {
            "path": ["train/a/g1__0", "train/a/g1__1", "train/a/2", "train/b/3", "train/b/4", "train/b/g2__5"],
            "sha256": ["s0", "s1", "s2", "s2", "s4", "s5"],
        }
    )
    names = ranking.together(table, "/(g.)__", [("train/a/g1__1", "train/a/2"), ("train/b/4", "gone")])
    assert names[0] == names[1] == names[2] == names[3]
    assert len({names[0], names[4], names[5]}) == 3


def test_a_class_of_one_group_is_left_out_and_told() -> None:
    table, features, _ = data_set(planted=0)
    coral = (table["label"] == "coral").to_numpy()
    table.loc[coral, "path"] = [f"train/coral/visit__{i}.png" for i in range(coral.sum())]
    found = ranking.rank(table, features, "/(visit)__")
    assert (found["likely_wrong"] == "").all()
    assert (found["label"].tail(50) == "coral").all()
    assert (found["looks_like"].tail(50) == "").all()
    assert ranking.not_judged(found) == {"coral": 50}


def test_what_a_person_wrote_stays_for_the_same_image_and_label(tmp_path: Path) -> None:
    table, features, _ = data_set()
    found = ranking.rank(table, features, None)
    path = tmp_path / "labels.csv"
    assert ranking.with_answers(found, path)[1] == 0
    edited = found.copy()
    edited.loc[0, "new_label"] = " coral "
    edited.loc[3, "new_label"] = "NA"
    edited.loc[5, ["label", "new_label"]] = ["other", "blue"]  # has been relabelled meanwhile
    ranking.write(path, edited)
    again, kept = ranking.with_answers(found, path)
    assert kept == 2
    assert list(again["new_label"].head(6)) == ["coral", "", "", "NA", "", ""]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"path,label\n", b""])
def test_a_file_that_may_hold_answers_is_not_overwritten(content: bytes, tmp_path: Path) -> None:
    table, features, _ = data_set()
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match="it may hold labels that you wrote"):
        ranking.with_answers(ranking.rank(table, features, None), path)


def test_the_page_shows_likely_wrong_images_with_both_classes(tree, tmp_path: Path) -> None:
    table, features, wrong = data_set()
    data = tree({path: i for i, path in enumerate(table["path"][wrong])})
    found = ranking.rank(table, features, None)
    page = label_report.html(found, data, {"linear probe": 0.9583}, 24, Path("artifacts/labels.csv"), [])
    named = int((found["likely_wrong"] == "yes").sum())
    assert page.count("<img") == named >= 4
    for path, label, looks_like in found[["path", "label", "looks_like"]].head(named).itertuples(index=False):
        assert f"labelled {label} (" in page
        assert f"looks like {looks_like} (" in page
        assert path in page
    assert "95.83" in page
    assert "24 validation images" in " ".join(page.split())
    assert "adaptformer data relabel artifacts/labels.csv" in " ".join(page.split())
    assert "None." in label_report.html(found.assign(likely_wrong=""), data, {}, 0, Path("labels.csv"), [])


def test_a_ring_on_the_map_leads_to_the_picture_of_its_image(tree, tmp_path: Path) -> None:
    table, features, wrong = data_set()
    paths = list(table["path"][wrong])
    data = tree({path: i for i, path in enumerate(paths)})
    found = ranking.rank(table, features, None)
    suspected = list(found.loc[found["likely_wrong"] == "yes", "path"])
    points = [
        Point(path, label, 10.0 * i, 20.0, 0, 0, path in suspected)
        for i, (path, label) in enumerate(zip(table["path"], table["label"], strict=True))
    ]
    page = label_report.html(found, data, {}, 24, Path("artifacts/labels.csv"), points)
    check(page)
    assert page.count('class="ring"') == len(suspected)
    links = dict(re.findall('<a aria-label="(.*?)" href="#(image-[0-9]+)">', page))
    assert set(links) == set(suspected)
    for path, anchor in links.items():
        assert path in page.partition(f'<li id="{anchor}">')[2].partition("</li>")[0]
