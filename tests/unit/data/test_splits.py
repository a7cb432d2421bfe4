import hashlib

import pytest

from adaptformer.data.splits import choose, share, units


def hashes(count: int, start: int = 0) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(start, start + count)]


def test_every_class_gives_its_share() -> None:
    labels = ["a"] * 100 + ["b"] * 10
    chosen = choose(labels, hashes(110), 0.2, 0)
    assert sum(chosen[:100]) == 20
    assert sum(chosen[100:]) == 2


@pytest.mark.parametrize(("count", "fraction", "expected"), [(13, 0.2, 3), (12, 0.2, 2), (6, 0.15, 1), (11, 0.15, 2)])
def test_a_share_that_is_no_whole_number_is_rounded_to_the_nearest(count: int, fraction: float, expected: int) -> None:
    assert sum(choose(["a"] * count, hashes(count), fraction, 0)) == expected


@pytest.mark.parametrize(
    ("count", "fraction", "expected"), [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (3, 0.99, 2), (3, 0.01, 1)]
)
def test_both_sides_get_an_image_if_there_are_two(count: int, fraction: float, expected: int) -> None:
    assert sum(choose(["a"] * count, hashes(count), fraction, 0)) == expected


def test_duplicates_stay_together_and_count_once() -> None:
    images = hashes(10) * 3
    chosen = choose(["a"] * 30, images, 0.3, 0)
    assert chosen[:10] == chosen[10:20] == chosen[20:]
    assert sum(chosen) == 9
    assert sum(choose(["a"] * 5, hashes(1) * 5, 0.5, 0)) == 0


def test_order_of_images_does_not_matter() -> None:
    images = hashes(50)
    chosen = dict(zip(images, choose(["a"] * 50, images, 0.3, 0), strict=True))
    backwards = choose(["a"] * 50, images[::-1], 0.3, 0)
    assert [chosen[image] for image in images[::-1]] == backwards


def test_another_seed_gives_another_split() -> None:
    assert choose(["a"] * 50, hashes(50), 0.3, 0) != choose(["a"] * 50, hashes(50), 0.3, 1)


def test_added_images_move_few_others() -> None:
    before = choose(["a"] * 200, hashes(200), 0.2, 0)
    after = choose(["a"] * 210, hashes(210), 0.2, 0)
    assert sum(old != new for old, new in zip(before, after, strict=False)) <= 10
    # Another class does not move any.
    assert choose(["a"] * 200 + ["b"] * 50, hashes(250), 0.2, 0)[:200] == before


def test_the_choice_is_this_one_for_ever() -> None:
    # Splits carved yesterday must be carved alike tomorrow: manifests and metrics hang on them.
    assert choose(["a"] * 8, hashes(8), 0.4, 0) == EXPECTED


EXPECTED = [False, False, False, False, True, True, True, False]


def test_labels_and_hashes_that_do_not_match_are_an_error() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        choose(["a", "a"], hashes(3), 0.5, 0)


def test_groups_are_chosen_whole_and_the_classes_get_their_share() -> None:
    labels = ["a", "b"] * 100
    groups = [f"g{i // 10}" for i in range(200)]
    chosen = choose(labels, hashes(200), 0.2, 0, groups)
    of_group = {group: {c for c, g in zip(chosen, groups, strict=True) if g == group} for group in set(groups)}
    assert {len(values) for values in of_group.values()} == {1}
    assert (sum(chosen[::2]), sum(chosen[1::2])) == (20, 20)
    assert choose(labels, hashes(200), 0.2, 1, groups) != chosen
    assert choose(labels[::-1], hashes(200)[::-1], 0.2, 0, groups[::-1]) == chosen[::-1]


def test_no_class_is_chosen_whole_with_its_only_group() -> None:
    labels, groups = ["a"] * 10 + ["b"] * 90, ["only"] * 10 + [f"g{i // 10}" for i in range(90)]
    chosen = choose(labels, hashes(100), 0.9, 0, groups)
    assert not any(chosen[:10])
    assert sum(chosen[10:]) == 80


def test_images_without_a_group_are_chosen_one_by_one_beside_groups() -> None:
    groups = ["g"] * 5 + [""] * 45
    chosen = choose(["a"] * 50, hashes(50), 0.3, 0, groups)
    assert sum(chosen) == 15
    assert len(set(chosen[:5])) == 1


def test_equal_bytes_connect_groups() -> None:
    images = hashes(6)
    images[3] = images[0]  # the same picture in both groups
    together = units(images, ["x", "x", "", "y", "y", ""])
    assert together[0] == together[1] == together[3] == together[4] == "group x"
    assert together[2] == images[2]
    assert len(set(together)) == 3


def test_a_name_keeps_its_share() -> None:
    shares = [share(name, 0) for name in hashes(2000)]
    assert all(0 <= value < 1 for value in shares)
    assert sum(value < 0.25 for value in shares) / 2000 == pytest.approx(0.25, abs=0.03)
    assert share("x", 0) == share("x", 0) != share("x", 1)
