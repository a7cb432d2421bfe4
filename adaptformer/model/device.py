"""The device and the precision with which a model runs."""

from __future__ import annotations

import contextlib
import os
import platform
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from adaptformer.base import memory
from adaptformer.base.errors import UserError
from adaptformer.data import thread_map
from adaptformer.model.backbone import VisionTransformer

Precision = Literal["fp32", "bf16"]


def choose(device: Literal["auto", "cpu", "cuda"], threads: int) -> torch.device:
    """Set the number of CPU threads (0: one per core) and return the device to run on.

    Raises UserError if CUDA is requested and there is none.
    """
    torch.set_num_threads(threads or default_threads())
    memory.keep_freed()
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "runtime.device = cuda, but torch finds no CUDA device",
            "set runtime.device to auto or cpu, or install a CUDA build of torch",
        )
    # fp32 means fp32: cuDNN would compute the patch embedding in TF32, with 10 bits of precision.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def default_threads() -> int:
    """Return the number of cores that this process may use; the processes of torchrun share them."""
    return max(1, thread_map.cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def threads() -> int:
    """Return the number of CPU threads in use."""
    return torch.get_num_threads()


def rounding(device: torch.device) -> list[str | int]:
    """Return the facts that decide the last bits of a result, besides its input and the package versions."""
    if device.type == "cuda":
        return [torch.cuda.get_device_name(device)]
    return ["cpu", torch.backends.cpu.get_cpu_capability(), threads()]


def cpu_flags() -> frozenset[str]:
    """Return the CPU's instruction flags; empty if the system does not report them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def precision(setting: Literal["auto", "fp32", "bf16"], device: torch.device, width: int, depth: int) -> Precision:
    """Return the precision of training: a fixed rule, never a measurement, so that a run repeats itself.

    The rule is bf16 on GPUs that have it. On a CPU it is bf16 only if the CPU multiplies matrices in bf16 (AMX) and the
    model is wide enough to outweigh the casts: measured, width 64 with 4 blocks loses, width 192 with 12 blocks gains.
    """
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if "amx_bf16" in cpu_flags() and width >= 192 and depth >= 12 else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which forward passes run in this precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def plain_attention(vit: VisionTransformer, device: torch.device, precision: Precision) -> None:
    """Use plain attention for bf16 on a CPU: the backward pass of torch's fused one is several times slower there."""
    if device.type == "cpu" and precision == "bf16":
        for block in vit.blocks:
            getattr(block, "block", block).attn.fused_attn = False  # adapted and prompted blocks wrap timm's


def store_frozen(model: nn.Module, precision: Precision) -> None:
    """Keep frozen matrices in bf16 if the model runs in bf16: autocast would cast them again in every forward pass.

    The results equal those of autocast. The cast cannot be undone, so do not pass weights that are read in fp32 later.
    """
    if precision == "bf16":
        for module in model.modules():
            own = list(module.parameters(recurse=False))
            if isinstance(module, (nn.Linear, nn.Conv2d)) and not any(parameter.requires_grad for parameter in own):
                module.to(torch.bfloat16)


def describe(device: torch.device) -> str:
    """Return a readable name of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory did not suffice, on a GPU or on a CPU."""
    message = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in message


def free_memory_mb(device: torch.device) -> float:
    """Return the megabytes that this process can still allocate: on the GPU, or in the machine and its container."""
    return float(torch.cuda.mem_get_info(device)[0]) / 1e6 if device.type == "cuda" else memory.free_mb()


def present_memory_mb(device: torch.device) -> float:
    """Return the megabytes in use now: by tensors on a GPU, by the whole process on a CPU."""
    return float(torch.cuda.memory_allocated(device)) / 1e6 if device.type == "cuda" else memory.present_mb()


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak of the megabytes in use so far: by tensors on a GPU, by the whole process on a CPU."""
    return round(torch.cuda.max_memory_allocated(device) / 1e6, 1) if device.type == "cuda" else memory.peak_mb()
