"""Where pretrained weights come from, and the card that goes with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from adaptformer import files
from adaptformer.errors import UserError
from adaptformer.model import backbone, tensor_file
from adaptformer.model.translation import translate

BUNDLED = "bundled"


@dataclass(frozen=True)
class Card:
    """What is known of a backbone: origin, licence, hashes, and the normalisation that it was pretrained with.

    `sha256` is over the translated encoder tensors (`tensor_file.content_hash`), `source_sha256` over their file.
    """

    model: str
    origin: str
    licence: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    note: str
    parameters: int
    sha256: str
    source_sha256: str

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Card:
        """Return the card of its JSON form."""
        return cls(**{**content, "mean": tuple(content["mean"]), "std": tuple(content["std"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def fetch(model: str, checkpoint: str, sha256: str | None) -> tuple[dict[str, Tensor], Card]:
    """Return the encoder tensors of `checkpoint` under timm's names, and their card.

    `checkpoint` is "bundled" or the path of a file; `sha256`, where given, is what the file's bytes must have. Raises
    UserError for a file that is missing, damaged, of another hash, hostile, or does not fill `model` exactly.
    """
    path = _path(model, checkpoint)
    source_sha256 = files.sha256_file(path)
    if sha256 is not None and sha256 != source_sha256:
        raise UserError(
            f"{checkpoint} has sha256 {source_sha256}, not backbone.sha256 = {sha256}",
            "fetch the file again, or correct backbone.sha256 if you meant this file",
        )
    if path.suffix == ".safetensors":
        foreign, metadata = tensor_file.read(path)
    else:
        foreign, metadata = tensor_file.read_foreign(path), {}
    # The architecture's own image size: what the checkpoint's position embeddings are for.
    tensors = translate(foreign, backbone.build(model).state_dict())
    own_hash = tensor_file.content_hash(tensors)
    if metadata.get("sha256", own_hash) != own_hash:
        raise UserError(f"{path.name} does not hold the weights that it names", "fetch the file again")
    return tensors, Card(
        model=model,
        origin=f"{BUNDLED}/{path.name}" if checkpoint == BUNDLED else path.name,
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        sha256=own_hash,
        source_sha256=source_sha256,
        **_provenance(model, metadata),
    )


def _path(model: str, checkpoint: str) -> Path:
    if checkpoint != BUNDLED:
        path = Path(checkpoint)
        if not path.is_file():
            raise UserError(
                f"backbone.checkpoint = {checkpoint} is no file", f"give the path of a checkpoint, or {BUNDLED}"
            )
        return path
    folder = Path(__file__).parents[1] / "checkpoints"
    path = folder / f"{model}.safetensors"
    if not path.is_file():
        bundled = ", ".join(sorted(file.stem for file in folder.glob("*.safetensors")))
        raise UserError(
            f"no checkpoint is bundled for backbone.model = {model}",
            f"set backbone.checkpoint to a file, or backbone.model to one of: {bundled}",
        )
    return path


def _provenance(model: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return licence, normalisation and note: from the file itself, else from timm's entry for these exact weights."""
    if "mean" in metadata:
        return {
            "licence": metadata["licence"],
            "mean": tuple(metadata["mean"]),
            "std": tuple(metadata["std"]),
            "note": metadata["note"],
        }
    # A plain architecture name would silently mean timm's default weights, whose normalisation is another one.
    if "." not in model or (config := backbone.published(model)) is None:
        raise UserError(
            f"the checkpoint does not say its normalisation, nor does backbone.model = {model}",
            "name the exact weights as timm does, for example vit_base_patch16_224.mae",
        )
    return {
        "licence": config.license or "unknown",
        "mean": tuple(config.mean),
        "std": tuple(config.std),
        "note": f"normalisation and licence as timm states them for {model}",
    }
