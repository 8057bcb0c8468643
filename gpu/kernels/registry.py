"""The retentions that a run can name, a row each. Torch is imported when one is made, and not before.

A new kernel is one file with a function under the contract of `refimpl.retention`, and one row. Settings, training, decoding,
the benchmarks and their list of what a machine lacks follow from the row.
"""

import functools
from collections.abc import Callable
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import NamedTuple

from refimpl import retention_chunkwise, retention_parallel, retention_step

FLA = "flash-linear-attention"
FEW_BLOCKS = 65535  # the limit of a CUDA grid's second axis, along which kernels put sequences times heads
MANY_BLOCKS = 2**31  # the limit of its first axis


class Retention(NamedTuple):
    """A retention; called with a chunk size, it returns a function under the contract.

    make: what a call of the row does. label: beside the model's name in tables. kernel_label: in tables of kernels alone;
    None if it is not measured there. step: returns its own decode step under the contract; None for the reference's.
    replay_step: returns its own step on buffers, like `replay_step` of `gpu.sampling.generate`; None for that one.
    model_step: takes a RetNet and a `State`, and returns a step of the whole model, which writes over the state, or None if
    layer by layer is faster or all there is.
    needs: what a device lacks where `available` is False. fused: True for a kernel of its own, compiled at its first call,
    which computes in a model's bfloat16; the others are torch operations in float32. chunked: True if it takes a chunk
    size. longest, longest_alone: T beyond which training, and the kernel alone, are not measured; None for no limit.
    most_blocks: sequences times heads that one step takes. paper: True if the paper's tables are measured with it. native,
    native_step: the kernel in its own layout, for measuring it alone; see `gpu.kernels.fla`.
    """

    make: Callable
    label: str
    colour: str
    kernel_label: str | None = None
    step: Callable | None = None
    replay_step: Callable | None = None
    model_step: Callable | None = None
    available: Callable = lambda device: True
    needs: str = ""
    fused: bool = False
    chunked: bool = False
    longest: int | None = None
    longest_alone: int | None = None
    most_blocks: int = FEW_BLOCKS
    paper: bool = False
    native: Callable | None = None
    native_step: Callable | None = None

    def __call__(self, chunk_size):
        """A function under the contract of `refimpl.retention`."""
        return self.make(chunk_size)


def lazily(path):
    """A function that imports another, "file:name" of this folder, when it is called, and calls it.

    >>> lazily("registry:has_fused")("cpu")
    False
    """
    return lambda *args: imported(path)()(*args)


def imported(path):
    """A function that ignores its arguments; it imports and returns another, "file:name" of this folder."""
    return lambda *_: resolve_name(f"{__package__}.{path}")


RETENTIONS = {
    "parallel": Retention(
        lambda chunk_size: retention_parallel, "parallel", "#0072b2",
        longest=2048,  # beyond, T^2 scores a head take most of the memory
    ),
    "chunkwise": Retention(
        lambda chunk_size: functools.partial(retention_chunkwise, chunk_size=chunk_size), "chunkwise", "#0072b2",
        kernel_label="torch reference", chunked=True,
        longest_alone=2048,  # it is slow, and its gradients keep an array for nearly every line
    ),
    "triton": Retention(
        imported("triton_retention:retention_chunkwise_triton"), "fused", "#56b4e9",
        kernel_label="fused kernels", step=imported("fused_step:fused_step"),
        replay_step=imported("triton_replay:replay_step_triton"), model_step=lazily("triton_model_step:fused_step_of"),
        available=lambda device: has_fused(device), needs="an NVIDIA GPU and Triton", fused=True, most_blocks=MANY_BLOCKS,
        paper=True,
    ),
    "fla": Retention(
        lazily("fla:chunkwise"), FLA, "#cc79a7",
        kernel_label=FLA, step=lazily("fla:step"), available=lambda device: has_fla(device),
        needs="an NVIDIA GPU, Triton and its own package", fused=True,
        native=lazily("fla:native"), native_step=lazily("fla:native_step"),
    ),
}  # fmt: skip


def step_of(retention):
    """The decode step for a name of `RETENTIONS`."""
    make = RETENTIONS[retention].step
    return make() if make else retention_step


def fastest_model_step(device):
    """The `model_step` of the fused kernels where they run, else None."""
    return RETENTIONS["triton"].model_step if has_fused(device) else None


def has_fused(device):
    """True if the fused kernels run on a device: an NVIDIA GPU, with Triton installed."""
    import torch

    return torch.device(device).type == "cuda" and torch.version.cuda is not None and find_spec("triton") is not None


def has_fla(device):
    """True if flash-linear-attention runs on a device: an NVIDIA GPU, with Triton and the package installed."""
    return has_fused(device) and find_spec("fla") is not None


def has_mlstm(device):
    """True if mlstm_kernels run on a device: an NVIDIA GPU, with Triton, the package and einops installed."""
    return has_fused(device) and find_spec("mlstm_kernels") is not None and find_spec("einops") is not None


def has_flash(device):
    """True if flash attention runs on a device: a GPU of compute capability 8 or more."""
    import torch

    device = torch.device(device)
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def __getattr__(name):
    if name == "fused_step":  # it needs torch
        from .fused_step import fused_step

        return fused_step
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
