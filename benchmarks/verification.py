"""Cost of verifying files when they are read: `python -m benchmarks.verification`.

It times a backbone (checksum of its header, hash of its tensors) and cached images (a CRC-32 each, once), beside the
least work that a stage does with them: one forward pass of `--images` images. It also times the check of an ONNX file
of the backbone's size, once for each `predict`. CPU seconds of this process, medians.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from adaptformer.data import pixel_file
from adaptformer.data.train_images import Photos
from adaptformer.model import backbone_file, device
from adaptformer.prediction import model_checksum
from benchmarks import measuring, models


def main() -> None:
    """Measure both kinds of files for each model, and print a table."""
    parser = measuring.parser(__doc__, repeats=5)
    parser.add_argument("--models", nargs="+", default=["vit_small_patch16_224", "vit_base_patch16_224"])
    parser.add_argument("--images", type=int, default=128, help="images of the pass (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(device.default_threads())
    with tempfile.TemporaryDirectory() as scratch:
        rows = [measured(model, given.images, given.repeats, Path(scratch)) for model in given.models]
    columns = (
        "model",
        "backbone, MB",
        "to verify it, s",
        "its images, s",
        "forward pass, s",
        "share, %",
        "its ONNX file, s",
    )
    shown = [[str(value) if isinstance(value, str) else f"{value:.3g}" for value in row.values()] for row in rows]
    worst = max(float(row["share_percent"]) for row in rows)
    measuring.report(
        "verification", columns, shown, {"images": given.images, "rows": rows},
        [
            measuring.Target("verification, % of one forward pass", worst, 3, at_most=True),
            measuring.Target(f"the ONNX file of {rows[0]['model']}, s", float(rows[0]["onnx_s"]), 0.1, at_most=True),
        ],
    )  # fmt: skip


def measured(model: str, count: int, repeats: int, scratch: Path) -> dict[str, float | str]:
    """Return the seconds of verifying a backbone, `count` cached images and an ONNX file, and of a forward pass."""
    path, shapes = scratch / f"{model}.safetensors", np.full((count, 2), 256)
    models.write_backbone(path, model, models.encoder(model, 224))
    delivered = scratch / f"{model}.onnx"
    delivered.write_bytes(model_checksum.appended(path.read_bytes()))
    pixels = np.random.default_rng(0).integers(0, 256, (count, 256, 256, 3), np.uint8)
    pixel_file.write(scratch / "images.npy", shapes, iter(pixels))
    vit = models.classified(model).vit.eval()
    batch = torch.randn(min(count, 32), 3, 224, 224)

    def forward() -> None:
        with torch.no_grad():
            for _ in range(0, count, len(batch)):
                vit.forward_features(batch)

    def checked() -> list[int]:
        stored = pixel_file.CheckedPhotos(scratch / "images.npy", shapes, pixels.__getitem__)
        return [int(image.sum()) for image in stored.take(range(count))]

    seconds = measuring.medians(
        measuring.interleaved(
            {
                "backbone": lambda: backbone_file.read(path),
                "images": lambda: [int(image.sum()) for image in Photos.of_one_size(pixels).take(range(count))],
                "checked": checked,
                "pass": forward,
                "onnx": lambda: model_checksum.matches(delivered),
            },
            repeats,
        )
    )
    # Without verification a backbone would only be mapped: all time of reading it is verification.
    backbone, images = seconds["backbone"], seconds["checked"] - seconds["images"]
    return {
        "model": model,
        "backbone_mb": path.stat().st_size / 1e6,
        "backbone_s": backbone,
        "images_s": images,
        "pass_s": seconds["pass"],
        "share_percent": 100 * (backbone + images) / seconds["pass"],
        "onnx_s": seconds["onnx"],
    }


if __name__ == "__main__":
    main()
