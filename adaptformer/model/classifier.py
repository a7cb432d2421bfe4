"""The adapted classifier: frozen VisionTransformer, adapters in its blocks, a head.

Shapes: B images, N tokens, D width, C classes, s image side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adaptformer.base import randomness
from adaptformer.base.errors import UserError
from adaptformer.config.params import AdapterParams
from adaptformer.model import backbone, block_forward, prompts
from adaptformer.model.adapter import AdaptedBlock, Adapter
from adaptformer.model.backbone import DropPath
from adaptformer.model.parts import Kind

Pooling = Literal["mean", "token"]


class Head(nn.Module):
    """BatchNorm without affine, then a linear layer, as in MAE's linear probe; with mean pooling, a LayerNorm first."""

    def __init__(self, width: int, classes: int, pooling: Pooling) -> None:
        super().__init__()
        self.fc_norm = nn.LayerNorm(width, eps=1e-6) if pooling == "mean" else nn.Identity()
        self.batch_norm = nn.BatchNorm1d(width, affine=False, eps=1e-6)
        self.linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return fp32 logits [B, C] for pooled features [B, D], under bf16 autocast too.

        With 8 bits of precision the two best of many classes often tie, and validation chooses the epoch by the logits.
        """
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return self._logits(features.float())
        return self._logits(features)

    def added(self) -> Iterator[tuple[Kind, int | None, nn.Parameter]]:
        """Yield all parameters: a backbone has no head of its own."""
        for parameter in self.parameters():
            yield "head", None, parameter

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.batch_norm(self.fc_norm(features)))
        return logits


class Classifier(nn.Module):
    """A VisionTransformer with the modules that the method adds, and a head; a distilled model has a second head."""

    tuned: frozenset[str]
    """Names of the parameters that the method trains; a schedule may freeze some of them for a while."""

    def __init__(self, vit: backbone.VisionTransformer, pooling: Pooling, classes: int) -> None:
        super().__init__()
        self.vit = vit
        self.pooling: Pooling = pooling
        self.prefix_tokens: int = vit.num_prefix_tokens
        if pooling == "mean":
            vit.norm = nn.Identity()  # fc_norm takes its place, after pooling
        self.head = Head(vit.embed_dim, classes, pooling)
        distilled = pooling == "token" and getattr(vit, "dist_token", None) is not None
        self.head_dist = Head(vit.embed_dim, classes, pooling) if distilled else None
        self._run: Callable[..., Tensor] = block_forward.run

    def compile_blocks(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compile the forward pass of a block, once for all blocks of a kind; the whole model would take minutes.

        Compilation starts with the first pass, and again for each new shape. Results change only within rounding.
        """
        self._run = torch.compile(block_forward.run, backend=backend)

    @property
    def heads(self) -> tuple[Head, ...]:
        """The head, and the second head of a distilled model."""
        return (self.head,) if self.head_dist is None else (self.head, self.head_dist)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of normalised images [B, 3, s, s]; for a distilled model, the mean of both heads."""
        return self.logits(self.pooled(images))

    def logits(self, pooled: tuple[Tensor, ...]) -> Tensor:
        """Return logits [B, C] of pooled features [B, D], one for each of `heads`."""
        logits: Tensor = self.head(pooled[0])
        if self.head_dist is not None:
            logits = (logits + self.head_dist(pooled[1])) / 2
        return logits

    def pooled(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return pooled features [B, D] of normalised images [B, 3, s, s], one for each of `heads`."""
        return self.pool(self.patch_tokens(images), 0)

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Return the input tokens [B, N, D] of the first block for normalised images [B, 3, s, s]."""
        vit = self.vit
        tokens: Tensor = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        return tokens

    def forward_blocks(self, tokens: Tensor, first: int, last: int) -> Tensor:
        """Return the tokens [B, N, D] after the blocks `first` to `last` - 1."""
        for each in self.vit.blocks[first:last]:
            tokens = self._run(each, tokens)
        return tokens

    def pool(self, tokens: Tensor, depth: int) -> tuple[Tensor, ...]:
        """Return pooled features [B, D], as `pooled` does, from the input tokens [B, N, D] of the block `depth`."""
        vit, last = self.vit, len(self.vit.blocks) - 1
        tokens = self.forward_blocks(tokens, depth, last)
        if self.pooling == "mean":
            tokens = vit.norm(self._run(vit.blocks[-1], tokens))
            return (tokens[:, self.prefix_tokens :].mean(dim=1),)
        # The class token, and the second token of a distilled model, come first.
        return tuple(vit.norm(self._run(vit.blocks[-1], tokens, rows=len(self.heads))).unbind(1))


def build(
    model: str,
    encoder: dict[str, Tensor],
    settings: AdapterParams,
    *,
    image_size: int,
    classes: int,
    seed: int,
    drop_path: float = 0.0,
) -> Classifier:
    """Return a classifier on the backbone `encoder` (translated tensors of `model`), with new parts drawn from `seed`.

    Only the parameters that the method tunes require gradients. One thread builds the model: with two, large tensors
    are initialised differently.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        vit = backbone.build(model, image_size)
        backbone.load_encoder(vit, encoder)
        backbone.set_drop_path(vit, drop_path)
        randomness.seed_torch("initialise", seed)
        classifier = Classifier(vit, settings.pooling, classes)
        vit.requires_grad_(settings.method == "full")
        if settings.method == "adaptformer":
            _install_adapters(vit, settings)
        elif settings.method == "vpt":
            prompts.install(vit, settings.prompts, settings.prompt_depth)
    finally:
        torch.set_num_threads(threads)
    classifier.tuned = frozenset(name for name, p in classifier.named_parameters() if p.requires_grad)
    return classifier


def _install_adapters(vit: backbone.VisionTransformer, settings: AdapterParams) -> None:
    for index, plain in enumerate(vit.blocks):
        options = (settings.scale, settings.dropout, settings.layernorm, settings.activation, settings.init)
        slots = [Adapter(vit.embed_dim, bottleneck, *options) for bottleneck in settings.bottlenecks]
        dropped = DropPath(settings.drop_path) if settings.drop_path else None
        vit.blocks[index] = AdaptedBlock(plain, slots, settings.placement, settings.input, dropped)


def trainable(model: Classifier) -> dict[str, nn.Parameter]:
    """Return the parameters that training may change, by name, even if they are frozen at the moment."""
    return {name: parameter for name, parameter in model.named_parameters() if name in model.tuned}


def head_statistics(model: Classifier) -> dict[str, Tensor]:
    """Return the statistics of the heads' BatchNorm by name."""
    return {
        f"{prefix}.{name}": buffer
        for prefix, module in model.named_modules()
        if isinstance(module, Head)
        for name, buffer in module.named_buffers()
    }


def trainable_state_dict(model: Classifier) -> dict[str, Tensor]:
    """Return the tensors of an adapter file by name: trainable parameters and the heads' BatchNorm statistics."""
    kept = model.tuned | head_statistics(model).keys()
    return {name: tensor for name, tensor in model.state_dict().items() if name in kept}


def restore(model: Classifier, tensors: dict[str, Tensor], origin: str) -> None:
    """Copy tensors into the trained parts of `model`. Raises UserError unless they match these parts exactly."""
    require_fit(model, tensors, origin)
    with torch.no_grad():
        for name, tensor in trainable_state_dict(model).items():
            tensor.copy_(tensors[name])


def require_fit(model: Classifier, tensors: dict[str, Tensor], origin: str) -> None:
    """Raise UserError unless the tensors have exactly the names, shapes and types of the trained parts of `model`."""
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in trainable_state_dict(model).items()}
    if expected != {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}:
        raise UserError(f"{origin} does not fit the model that it describes", "train again")
