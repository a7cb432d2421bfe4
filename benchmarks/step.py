"""B1, B2: CPU seconds of one training step, in units F of a forward pass of the backbone: `python -m benchmarks.step`.

All sides run in one process on one thread, in turns, in fp32, on the same random images: our methods, and, if the extra
`bench` is installed, Hugging Face's ViT with full fine-tuning and with PEFT's LoRA (r = 16, its defaults). A step is
forward, loss, backward, optimiser. Lower bounds: adapters 2 F, full fine-tuning 3 F, so their ratio is at most 1.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptformer.base import memory
from adaptformer.training.optimiser import build_optimiser
from benchmarks import measuring, models

METHODS: dict[str, dict[str, Any]] = {
    "adapters, r = 64, class token": {},
    "adapters, r = 64, mean": {"pooling": "mean"},
    "prompts, deep, 50": {"method": "vpt", "prompts": 50, "prompt_depth": "deep"},
    "whole fine-tuning": {"method": "full"},
    "linear probe": {"method": "linear"},
}
LORA, HF = "peft LoRA, r = 16", "transformers, whole fine-tuning"


def step(model: nn.Module, images: Tensor, labels: Tensor, logits: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    """Return a function that makes one step of `model` and returns its loss."""
    optimiser = build_optimiser(model, models.params().training)
    for group in optimiser.param_groups:
        group["lr"] = 1e-3

    def run() -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        loss = F.cross_entropy(logits(images), labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return run


def peers(name: str, images: Tensor, labels: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return the steps of Hugging Face's models of the same shape; none if the packages are not installed."""
    try:
        from peft import LoraConfig, get_peft_model
        from transformers import ViTConfig, ViTForImageClassification
    except ImportError:
        return {}
    vit = models.classified(name).vit
    shape = ViTConfig(
        hidden_size=vit.embed_dim,
        num_hidden_layers=len(vit.blocks),
        num_attention_heads=vit.blocks[0].block.attn.num_heads,
        intermediate_size=4 * vit.embed_dim,
        patch_size=vit.patch_embed.patch_size[0],
        image_size=images.shape[-1],
        num_labels=int(labels.max()) + 1,
    )
    whole = ViTForImageClassification(shape).to(images.device).train()
    lora = (
        get_peft_model(
            ViTForImageClassification(shape),
            # The names of queries and values in transformers 4 and 5.
            LoraConfig(r=16, target_modules=["query", "value", "q_proj", "v_proj"], modules_to_save=["classifier"]),
        )
        .to(images.device)
        .train()
    )
    return {
        LORA: step(lora, images, labels, lambda x: lora(pixel_values=x).logits),
        HF: step(whole, images, labels, lambda x: whole(pixel_values=x).logits),
    }


def targets(seconds: dict[str, float]) -> list[measuring.Target]:
    """Return the targets for adapters with a class token against the other sides that were timed."""
    ours = seconds["adapters, r = 64, class token"]
    results = [
        measuring.Target("adapters, in forward passes", ours / seconds["forward (F)"], 2.1, at_most=True),
        measuring.Target("adapters over own whole fine-tuning", seconds["whole fine-tuning"] / ours, 1.45),
    ]
    if LORA in seconds:
        results.append(measuring.Target("adapters over PEFT's LoRA", seconds[LORA] / ours, 1.25))
    return results


def main() -> None:
    """Time all sides and print them in units of a forward pass."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--model", default="vit_small_patch16_224", help="timm's name (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="images per step (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    memory.keep_freed()  # as in training; all sides become faster
    torch.manual_seed(0)
    images, labels = torch.randn(given.batch, 3, 224, 224), torch.randint(100, (given.batch,))
    labels[0] = 99
    plain = models.classified(given.model, method="linear").vit.eval()
    sides: dict[str, Callable[[], object]] = {"forward (F)": torch.no_grad()(lambda: plain.forward_features(images))}
    for name, settings in METHODS.items():
        model = models.classified(given.model, **settings)
        sides[name] = step(model, images, labels, model)
    sides |= peers(given.model, images, labels)
    medians = measuring.medians(measuring.interleaved(sides, given.repeats))
    forward, ours = medians["forward (F)"], medians["adapters, r = 64, class token"]
    rows = [
        [name, f"{seconds:.3f}", f"{seconds / forward:.2f}", f"{seconds / ours:.2f}"]
        for name, seconds in medians.items()
    ]
    measuring.report(
        "step",
        ("one step", "CPU seconds", "in F", "over adapters"),
        rows,
        {"model": given.model, "batch": given.batch, "repeats": given.repeats, "seconds": medians},
        targets(medians),
    )


if __name__ == "__main__":
    main()
