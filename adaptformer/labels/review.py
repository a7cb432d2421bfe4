"""`adaptformer data labels`: embeds a data set's images, ranks its labels, and says how far the features alone go."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from adaptformer import files
from adaptformer.data import manifest
from adaptformer.data.cache import ImageCache
from adaptformer.embedding import Embedding
from adaptformer.labels import embedding_map, probe, ranking, report
from adaptformer.model import device
from adaptformer.params import Params
from adaptformer.run_folder import RunFolder


@dataclass(frozen=True)
class Review:
    """What a review found: accuracies of simple classifiers on so many validation images, and likely wrong labels.

    `kept` are the new labels that a person had written into the ranking before. `features_seconds` were spent on the
    features, `probe_seconds` on the accuracies.
    """

    accuracies: Mapping[str, float]
    validation: int
    images: int
    likely_wrong: int
    kept: int
    features_seconds: float
    probe_seconds: float

    def lines(self, folder: RunFolder) -> list[str]:
        """Return the review for people."""
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.accuracies.items())
        kept = f"kept the {self.kept:,} new labels that you wrote into {folder.label_ranking}"
        return [
            f"before any training: {shares} of {self.validation:,} validation images"
            if shares
            else "before any training: nothing to tell without validation images",
            f"  took {self.features_seconds:.1f} s for the features of {self.images:,} images, then "
            f"{self.probe_seconds:.1f} s",
            f"{self.likely_wrong:,} of {self.images:,} labels are likely wrong: see {folder.label_report}",
            *([kept] if self.kept else []),
            f"write right classes into the column new_label of {folder.label_ranking}, then run",
            f"  adaptformer data relabel {folder.label_ranking}",
        ]


def review(params: Params, folder: RunFolder) -> Review:
    """Write the ranking of all labels and the page about them; manifest and backbone must be there.

    Raises UserError when `data/` no longer fits the manifest, and for a ranking of before that cannot be read.
    """
    began = time.perf_counter()
    chosen = device.choose(params.runtime.device, params.runtime.threads)
    table = manifest.read_manifest(folder.manifest)
    cache = ImageCache(folder.image_cache, params.runtime.cache_gb)
    embedding = Embedding(folder.backbone, params.image, chosen, folder.embeddings)
    features = embedding.of_data(table, folder.data, cache)
    embedded = time.perf_counter()
    accuracies = probe.first_accuracies(features, list(table["label"]), list(table["split"]))
    probed = time.perf_counter()
    found, kept = ranking.with_answers(ranking.rank(table, features, params.data.group), folder.label_ranking)
    ranking.write(folder.label_ranking, found)
    validation = int((table["split"] == "validation").sum())
    suspected = set(found.loc[found["likely_wrong"] == "yes", "path"])
    drawn = embedding_map.draw(table, features, suspected)
    page = report.html(found, folder.data, accuracies, validation, folder.label_ranking, drawn)
    files.write_text(folder.label_report, page)
    likely = int((found["likely_wrong"] == "yes").sum())
    return Review(accuracies, validation, len(table), likely, kept, embedded - began, probed - embedded)
