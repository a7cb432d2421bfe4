"""The ONNX graph of backbone, adapters and head: uint8 images in, logits out.

Shapes: B images, s image side, C classes.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from torch import Tensor, nn

from adaptformer.base import files
from adaptformer.data import augmentation
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model.adapter_file import AdapterCard
from adaptformer.model.classifier import Classifier
from adaptformer.prediction import model_checksum, model_file, model_metadata

INPUT, OUTPUT = "images", "logits"
_INLINE_BYTES = 256
"""Tensors up to this size stay in the ONNX file: they are shapes and axes, which the ONNX checker reads."""


class _FromBytes(nn.Module):
    """The classifier with the normalisation of its input."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Classifier, contract: ImageContract) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(contract.mean))
        self.register_buffer("std", torch.tensor(contract.std))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of prepared images [B, s, s, 3] uint8."""
        logits: Tensor = self.model(augmentation.normalise(augmentation.planes(images), self.mean, self.std))
        return logits


def write(
    path: Path, model: Classifier, card: AdapterCard, opset: int, external_data_mb: int, adapter_sha256: str
) -> None:
    """Write the ONNX file `path` and the weights file beside it; equal models give equal bytes on every machine.

    The batch size is symbolic. The file's metadata have class names, the image contract and the sha256 of the adapter
    file under the key "adaptformer"; the file ends with its checksum (model_checksum.py). Weights of `external_data_mb`
    megabytes or more go to the file `model_file.weights_of(path)`, which is empty otherwise: a protobuf message cannot
    exceed 2 GiB. Raises UserError if the system refuses to write.
    """
    program = exported(model, card, opset)
    weights = model_file.weights_of(path)
    described = metadata(card, adapter_sha256)
    size = sum(value.const_value.nbytes for value in program.graph.initializers.values() if value.const_value)
    # `files.replacing` covers both files and turns any error of the system into one UserError.
    with files.replacing(path) as new_file:
        if size >= external_data_mb * 1e6:
            onnx_ir.external_data.unload_from_model(
                program, path.parent, weights.name, size_threshold_bytes=_INLINE_BYTES
            )
            described["weights"] = {"bytes": weights.stat().st_size, "sha256": files.sha256_file(weights)}
        else:
            weights.write_bytes(b"")
        proto = _stripped(onnx_ir.to_proto(program))
        entry = proto.metadata_props.add()
        entry.key, entry.value = model_metadata.KEY, files.canonical_json(described)
        new_file.write_bytes(model_checksum.appended(proto.SerializeToString(deterministic=True)))
    onnx.checker.check_model(path)


def exported(model: Classifier, card: AdapterCard, opset: int) -> onnx_ir.Model:
    """Return the graph of the classifier with its normalisation; the weights share the model's memory."""
    graph = _FromBytes(model, card.image).eval()
    size = card.image.size
    # An example batch of two: the exporter would treat a batch of one as a constant.
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    assert program is not None  # noqa: S101 - only the legacy exporter returns None
    exported_model: onnx_ir.Model = program.model
    return exported_model


def metadata(card: AdapterCard, adapter_sha256: str) -> dict[str, Any]:
    """Return the metadata that the predictor needs, and the origin of the model."""
    return {
        "classes": list(card.classes),
        "image": asdict(card.image),
        "adapter": card.adapter,
        "adapter_sha256": adapter_sha256,
        "backbone": {"model": card.backbone.model, "sha256": card.backbone.sha256, "licence": card.backbone.licence},
        "format": model_metadata.FORMAT,
    }


def _stripped(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what the exporter writes about this machine: source paths in node metadata, doc strings, its version.

    Weights are also removed from `value_info`, where the exporter lists them a second time: a tool that changes a
    weight, such as onnxruntime's quantiser, would leave the old shape there and then refuse the graph.
    """
    weights = {tensor.name for tensor in proto.graph.initializer}
    between = [value for value in proto.graph.value_info if value.name not in weights]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(between)
    graphs = [proto.graph, *proto.functions]
    inner = [item for graph in graphs for item in [*graph.node, *graph.value_info]]
    tensors = [*proto.graph.initializer, *proto.graph.input, *proto.graph.output]
    for described in [proto, *graphs, *inner, *tensors]:
        del described.metadata_props[:]
        described.doc_string = ""
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's progress lines and its warnings about its own dependencies."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
