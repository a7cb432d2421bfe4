"""`adaptformer data label-errors`: embeds a data set's images, ranks its labels, and fits simple classifiers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from adaptformer.base import files
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.checks import findings
from adaptformer.curation.labels import embedding_map, label_report, probe, ranking
from adaptformer.data import manifest
from adaptformer.data.cache import ImageCache
from adaptformer.model import device
from adaptformer.model.embedding import Embedding


@dataclass(frozen=True)
class Review:
    """Result of a review: accuracies of simple classifiers on `validation` images, and the number of suspect labels.

    `kept` is the number of new labels that a person had written into the ranking before, `not_judged` that of images
    that no other image can judge, by class. `features_seconds` is the time for the features, `probe_seconds` that for
    the accuracies.
    """

    accuracies: Mapping[str, float]
    validation: int
    images: int
    likely_wrong: int
    kept: int
    not_judged: Mapping[str, int]
    features_seconds: float
    probe_seconds: float

    def lines(self, folder: RunFolder) -> list[str]:
        """Return the result as lines for the terminal."""
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.accuracies.items())
        kept = f"kept the {self.kept:,} new labels that you wrote into {folder.label_ranking}"
        return [
            f"before any training: {shares} of {self.validation:,} validation images"
            if shares
            else "before any training: no accuracy, because there are no validation images",
            f"  took {self.features_seconds:.1f} s for the features of {self.images:,} images, then "
            f"{self.probe_seconds:.1f} s",
            f"{self.likely_wrong:,} of {self.images:,} labels are likely wrong: see {folder.label_report}",
            *([self._not_judged] if self.not_judged else []),
            *([kept] if self.kept else []),
            f"write right classes into the column new_label of {folder.label_ranking}, then run",
            f"  adaptformer data relabel {folder.label_ranking}",
        ]

    @property
    def _not_judged(self) -> str:
        classes = ", ".join(f"{label} ({count:,})" for label, count in self.not_judged.items())
        return (
            f"left out {sum(self.not_judged.values()):,} images that cannot be judged, because the others of their "
            f"class are copies of them or of their group: {classes}"
        )


def review(params: Params, folder: RunFolder) -> Review:
    """Write the ranking of all labels and the page about them; manifest and backbone must exist.

    Raises UserError if `data/` no longer matches the manifest, and for an existing ranking that cannot be read.
    """
    began = time.perf_counter()
    compute = device.choose(params.runtime.device, params.runtime.threads)
    table = manifest.read_manifest(folder.manifest)
    cache = ImageCache(folder.image_cache, params.runtime.image_cache_gb)
    embedding = Embedding(folder.backbone, params.image, compute, folder.embeddings)
    features = embedding.of_data(table, folder.data, cache)
    embedded = time.perf_counter()
    accuracies = probe.first_accuracies(features, list(table["label"]), list(table["split"]))
    probed = time.perf_counter()
    duplicates = findings.read_pairs(folder.findings)
    ranked = ranking.rank(table, features, params.data.group_pattern, duplicates)
    answered, kept = ranking.with_answers(ranked, folder.label_ranking)
    ranking.write(folder.label_ranking, answered)
    validation = int((table["split"] == "validation").sum())
    suspected = set(answered.loc[answered["likely_wrong"] == "yes", "path"])
    points = embedding_map.points(table, features, suspected)
    page = label_report.html(answered, folder.data, accuracies, validation, folder.label_ranking, points)
    files.write_text(folder.label_report, page)
    likely = int((answered["likely_wrong"] == "yes").sum())
    left_out = ranking.not_judged(answered)
    return Review(accuracies, validation, len(table), likely, kept, left_out, embedded - began, probed - embedded)
