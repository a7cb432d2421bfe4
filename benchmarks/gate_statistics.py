"""Error rates of the gate's statistics on simulated models with known accuracy.

    python -m benchmarks.gate_statistics                 # every table, with 500 draws per line
    python -m benchmarks.gate_statistics groups --draws 1000

Two models' errors correlate as in evaluation/power.py: each image has a difficulty that both share, each model adds an
error of its own, and a model is right if the sum is below the quantile of its accuracy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from adaptformer.base import randomness, text_table
from adaptformer.base.classification_scores import NAMES, Metric
from adaptformer.evaluation import intervals, power
from adaptformer.gate import paired_tests
from adaptformer.gate.exact_difference import p_value

ACCURACY = 0.859
LEVEL = 0.05
Row = tuple[str, ...]
Right = NDArray[np.bool_]
_known: dict[tuple[object, ...], float] = {}


def passes(ours: Right, theirs: Right, margin: float = 0.0) -> bool:
    """Return whether the exact test shows a gain; results are cached by counts."""
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    key = gained, lost, len(ours), margin
    if key not in _known:
        _known[key] = p_value(*key, LEVEL)
    return _known[key] < LEVEL


def errors(
    random: np.random.Generator, shape: tuple[int, ...], size: int = 1, alike: float = 0.0
) -> NDArray[np.float64]:
    """Return standard normal numbers with correlation `alike` within groups of `size` along the last axis."""
    own, groups = random.standard_normal(shape), random.standard_normal((*shape[:-1], shape[-1] // size))
    summed: NDArray[np.float64] = np.sqrt(alike) * np.repeat(groups, size, axis=-1) + np.sqrt(1 - alike) * own
    return summed


def share(outcomes: Sequence[bool] | NDArray[np.bool_]) -> str:
    """Return a rate with its interval."""
    rate = intervals.wilson(int(np.sum(outcomes)), len(outcomes))
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def groups(draws: int) -> Iterator[Row]:
    """Equal models, images in groups: rates at which the gate's test promotes and the intervals hold the truth."""
    yield (
        "groups × images",
        "correlation",
        "metric",
        "promoted",
        "gain's 90 % interval holds",
        "its 95 % interval holds",
    )
    for count, size in ((36, 10), (18, 20)):
        labels, group = np.arange(count * size) % 4, np.arange(count * size) // size
        for alike in (0.0, 0.2, 0.4, 0.6):
            random = randomness.generator("gate groups", count, int(10 * alike))
            for metric in NAMES:
                promoted, gain_holds, holds = [], [], []
                for _ in range(draws):
                    sides = _pair(random, labels, size, alike)
                    gain = paired_tests.gain(metric, labels, *sides, 4, group, 0.0, LEVEL)
                    own = intervals.interval(metric, labels, sides[0], 4, group)
                    promoted.append(gain.p < LEVEL)
                    gain_holds.append(gain.low <= 0 <= gain.high)
                    holds.append(own.low <= ACCURACY <= own.high)
                yield f"{count} × {size}", f"{alike:g}", NAMES[metric], share(promoted), share(gain_holds), share(holds)


def _pair(
    random: np.random.Generator, labels: NDArray[np.int64], size: int, alike: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return two equal models' answers; wrong ones are uniform over the other three classes."""
    shared, alone = errors(random, (len(labels),), size, alike), errors(random, (2, len(labels)), size, alike)
    right = np.sqrt(power.RHO) * shared + np.sqrt(1 - power.RHO) * alone < norm.ppf(ACCURACY)
    wrong = (labels + random.integers(1, 4, (2, len(labels)))) % 4
    one, other = np.where(right, labels, wrong)
    return one, other


def margins(_draws: int) -> Iterator[Row]:
    """Promotion rates of a model that is worse by exactly the margin, summed over all outcomes (exact)."""
    yield "images", "margin", "images that only one has right", "promoted"
    for images, margin, differing in (
        (359, -0.01, 0.01), (359, -0.01, 0.02), (359, -0.01, 0.05), (359, -0.02, 0.02), (359, -0.02, 0.05),
        (100, -0.05, 0.05), (100, -0.05, 0.1), (1000, -0.005, 0.005), (1000, -0.005, 0.01), (359, 0.0, 0.05),
    ):  # fmt: skip
        ours, theirs = (differing + margin) / 2, (differing - margin) / 2
        most = [int(binom.isf(1e-7, images, max(chance, 1e-9))) + 1 for chance in (ours, theirs)]
        rate = sum(
            float(binom.pmf(gained, images, ours) * binom.pmf(lost, images - gained, theirs / (1 - ours)))
            for gained in range(most[0] + 1)
            for lost in range(most[1] + 1)
            if gained - lost > images * margin and p_value(gained, lost, images, margin, LEVEL) < LEVEL
        )
        yield f"{images}", f"{100 * margin:+g} points", f"{differing:.1%}", f"{rate:.2%}"


def coverage(draws: int) -> Iterator[Row]:
    """How often the 95 % intervals of one model contain the truth, at its lowest over five accuracies.

    All classes are equally frequent and equally easy. Macro-F1, which takes longer, has a fifth of the draws.
    """
    yield "images", "classes", *NAMES.values()
    for images in (50, 359, 2000):
        for classes in (2, 10, 100):
            holds = [_holding(images, classes, accuracy, draws) for accuracy in (0.7, 0.859, 0.95, 0.99, 0.995)]
            lowest = [min((held[metric] for held in holds), key=sum) for metric in NAMES]
            yield f"{images:,}", f"{classes}", *map(share, lowest)


def _holding(images: int, classes: int, accuracy: float, draws: int) -> dict[Metric, list[bool]]:
    """Return for each metric whether the intervals of several draws contain the truth."""
    random = randomness.generator("gate coverage", images, classes, int(1000 * accuracy))
    holds: dict[Metric, list[bool]] = {metric: [] for metric in NAMES}
    for draw in range(draws):
        labels = random.integers(0, classes, images)
        wrong = (labels + random.integers(1, classes, images)) % classes
        answers = np.where(random.random(images) < accuracy, labels, wrong)
        for metric, held in holds.items():
            if metric != "macro_f1" or draw % 5 == 0:
                found = intervals.interval(metric, labels, answers, classes)
                held.append(found.low <= accuracy <= found.high)  # equal classes: the truth of all three
    return holds


def looks(draws: int) -> Iterator[Row]:
    """Versions that are not better, compared in sequence on 359 images; one that passes becomes the champion."""
    yield (
        "versions", "at least one promoted", "as the page says", "champion's top-1 too high by",
        "a version 3 points better passes next",
    )  # fmt: skip
    images, most = 359, 20
    promoted = np.zeros((draws, most + 1), bool)
    inflated, better_passes = np.zeros((draws, most + 1)), np.zeros((draws, most + 1), bool)
    for draw in range(draws):
        random = randomness.generator("gate looks", draw)
        shared = np.sqrt(power.RHO) * random.standard_normal(images)

        def version(
            accuracy: float, shared: NDArray[np.float64] = shared, random: np.random.Generator = random
        ) -> Right:
            own = np.sqrt(1 - power.RHO) * random.standard_normal(images)
            right: Right = np.less(shared + own, norm.ppf(accuracy))
            return right

        champion = version(ACCURACY)
        for look in range(most + 1):
            if look and passes(newer := version(ACCURACY), champion):
                champion, promoted[draw, look:] = newer, True
            inflated[draw, look] = champion.mean() - ACCURACY
            if look in (0, 1, 5, 10, 20):
                better_passes[draw, look] = passes(version(ACCURACY + 0.03), champion)
    for look in (0, 1, 5, 10, 20):
        predicted = power.by_chance(look, LEVEL)
        yield (
            f"{look}", share(promoted[:, look]), f"{predicted:.1%}", f"{100 * inflated[:, look].mean():+.2f} points",
            share(better_passes[:, look]),
        )  # fmt: skip


def probabilities(draws: int) -> Iterator[Row]:
    """Refusals for the log loss, at the bound of params.yaml: of an equal model, and of overconfident models."""
    yield "images", "equal, calibrated", "log-odds × 1.5", "log-odds × 2.5"
    for images in (50, 100, 200, 359):
        refused: dict[float, list[bool]] = {1.0: [], 1.5: [], 2.5: []}
        for draw in range(draws):
            random = randomness.generator("gate probabilities", images, draw)
            shared = 2.8 + 1.6 * random.standard_normal(images)
            odds = shared + 0.8 * random.standard_normal((2, images))
            signs = np.where(random.random((2, images)) < 1 / (1 + np.exp(-odds)), 1, -1)
            before = np.logaddexp(0, -signs[1] * odds[1])
            for sharper, outcomes in refused.items():
                rise = np.logaddexp(0, -sharper * signs[0] * odds[0]) - before
                outcomes.append(paired_tests.mean_rise(rise, None, 0.05, LEVEL).low > 0.05)
        yield f"{images:,}", *map(share, refused.values())


def sizes(draws: int) -> Iterator[Row]:
    """Numbers of test images that find a gain in 8 of 10 cases, by accuracy and by disagreement of the models."""
    yield "accuracy", "disagreement", "+1 point", "+2 points", "+5 points", "+5 points found, in simulations"
    for accuracy in (0.7, 0.8, ACCURACY, 0.9, 0.95, 0.98):
        usual = power.disagreement(accuracy, accuracy)
        for name, differing in (("half", usual / 2), ("usual", usual), ("twice", 2 * usual)):
            needed = [
                power.images_needed(gain, max(differing, 1.2 * gain), LEVEL) if accuracy + gain < 1 else None
                for gain in power.GAINS
            ]
            checked = "–" if needed[-1] is None else share(_found(needed[-1], max(differing, 0.06), 0.05, draws))
            counts = ["–" if each is None else f"{each:,}" for each in needed]
            yield f"{accuracy:.1%}", f"{differing:.1%} ({name})", *counts, checked


def _found(images: int, differing: float, gain: float, draws: int) -> list[bool]:
    random = randomness.generator("gate sizes", images)
    shares = [(differing + gain) / 2, (differing - gain) / 2, 1 - differing]
    drawn = random.multinomial(images, shares, draws)
    return [p_value(int(gained), int(lost), images, 0.0, LEVEL) < LEVEL for gained, lost, _ in drawn]


TABLES: dict[str, Callable[[int], Iterator[Row]]] = {
    table.__name__: table for table in (groups, margins, coverage, looks, probabilities, sizes)
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help=f"tables: {', '.join(TABLES)} (default: all)")
    parser.add_argument("--draws", type=int, default=500, help="simulations per line (default %(default)s)")
    given = parser.parse_args(arguments)
    for name in given.tables or TABLES:
        rows = TABLES[name](given.draws)
        print(f"\n{TABLES[name].__doc__}\n\n{text_table.markdown([], next(rows))}", end="")
        for row in rows:
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
