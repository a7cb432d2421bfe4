"""The profile of a data set: sizes, colours and features of the plain backbone, in one small file.

It is kept with the model trained on the data, so that two data sets can be compared later without their images.

Shapes: N images, D width of the backbone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.base import array_file
from adaptformer.base.errors import UserError
from adaptformer.data.cache import ImageCache, load_images
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import centre_crop

if TYPE_CHECKING:  # Embedding needs torch, but reading a profile does not
    from adaptformer.model.embedding import Embedding

IMAGES = 1000
"""The largest number of images in a profile."""

_AT_ONCE = 128
_REMEDY = "make a new one: `adaptformer evaluate`, then register the model again if it is a registered one's"


@dataclass(frozen=True)
class Profile:
    """The profile of the images of a data set.

    `sizes` [N, 2] are width and height in pixels, as displayed. `channels` [N, 6] are mean and standard deviation of
    red, green and blue, on a scale of [0, 1], of the image as prepared by the contract `image`. `embeddings` [N, D] are
    its features from the backbone whose sha256 is `backbone`.
    """

    sizes: NDArray[np.int64]
    channels: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    image: ImageContract
    backbone: str


def profile(manifest: pd.DataFrame, data: Path, embedding: Embedding, cache: ImageCache) -> Profile:
    """Return the profile of at most 1,000 distinct images of all splits: those with the smallest sha256.

    So most of them stay the same when images are added. The images are prepared by the contract of `embedding`, through
    the cache. Raises UserError if `data` no longer matches the manifest.
    """
    contract = embedding.contract
    rows = manifest.loc[sampled_rows(manifest)].reset_index(drop=True)
    images = load_images(rows, data, contract, cache)
    starts = range(0, len(images), _AT_ONCE)
    seen = (np.array(centre_crop(images[start : start + _AT_ONCE], contract.size)) for start in starts)
    return Profile(
        rows[["width", "height"]].to_numpy(np.int64),
        np.concatenate([_channels(batch) for batch in seen]),
        embedding.of_images(rows["sha256"].tolist(), images, "for the profile"),
        contract,
        embedding.backbone,
    )


def sampled_rows(manifest: pd.DataFrame) -> pd.Index:
    """Return the index of the images in a profile, in the order of the profile."""
    return manifest.sort_values(["sha256", "path"]).drop_duplicates("sha256").head(IMAGES).index


def _channels(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = batch.reshape(len(batch), -1, 3) / 255
    return np.concatenate([values.mean(axis=1), values.std(axis=1)], axis=1).astype(np.float32)


def write(path: Path, profile: Profile) -> None:
    """Write a profile as one safetensors file, whole or not at all; equal profiles give equal bytes."""
    arrays: dict[str, NDArray[Any]] = {
        "sizes": profile.sizes,
        "channels": profile.channels,
        "embeddings": profile.embeddings,
    }
    array_file.write(path, arrays, {"backbone": profile.backbone, "image": asdict(profile.image)})


def read(path: Path) -> Profile:
    """Return the profile at `path`. Raises UserError if the file is altered, damaged, or no profile."""
    arrays, metadata = array_file.read(path, _REMEDY)
    try:
        sizes, channels, embeddings = (arrays[name] for name in ("sizes", "channels", "embeddings"))
        (images, _), shapes = embeddings.shape, (sizes.shape, channels.shape)
        if shapes != ((images, 2), (images, 6)):
            raise UserError(f"{path} is no profile of a data set: it has arrays of other shapes", _REMEDY)
        return Profile(
            sizes, channels, embeddings, ImageContract.from_dict(metadata["image"]), str(metadata["backbone"])
        )
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is no profile of a data set", _REMEDY) from error
