"""Memory of a device in data-parallel training, and savings by sharding weights and optimiser over 8 devices (FSDP).

`python -m benchmarks.sharding`: AdaptFormer-64 and full fine-tuning by SGD with momentum, 224 pixels, 32 images per
device, bf16. Weights, gradients and moments are counted; activations are those that autograd keeps, computed as in
`adaptformer plan`.
"""

from __future__ import annotations

import torch

from adaptformer.base import text_table
from adaptformer.model import classifier, device
from adaptformer.training import planning
from benchmarks.measuring import machine
from benchmarks.models import classified, params

MODELS = ("vit_base_patch16_224", "vit_large_patch16_224", "vit_huge_patch14_224")
IMAGES, DEVICES = 32, 8


def main() -> None:
    """Count and print the table."""
    print(machine())
    cpu = torch.device("cpu")
    training = params().training.model_copy(update={"optimiser": "sgd"})
    rows = []
    for name in MODELS:
        for method in ("adaptformer", "full"):
            model = classified(name, method=method)
            device.store_frozen(model, "bf16")
            weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) / 1e6
            trained = sum(parameter.numel() for parameter in classifier.trainable(model).values())
            state = planning._fixed_mb(trained, training)
            kept = IMAGES * planning._kept_mb(model, cpu, "bf16")
            saved = (weights + state) * (1 - 1 / DEVICES)
            figures = (weights, state, kept, weights + state + kept, saved)
            cells = [f"{figure:,.0f}" for figure in figures]
            rows.append((name, method, f"{trained:,}", *cells, f"{saved / sum(figures[:3]):.0%}"))
            print(*rows[-1], flush=True)
            del model
    header = ("backbone", "method", "trained", "weights", "state", "activations", "sum", "saved", "share")
    print(text_table.aligned(rows, header))
    print("MB per device; saved: by sharding weights and state")


if __name__ == "__main__":
    main()
