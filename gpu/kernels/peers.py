"""Kernels of other projects that are measured alone, beside those that a run can name: a row each, checked before it is timed.

flash-linear-attention at a longer chunk than its own, and in one pass for narrow heads. mlstm_kernels (TFLA): its chunkwise
kernel with sigmoid gates and without a normaliser is retention where every forget gate is gamma and every input gate 1. Its
backward pass also computes the gradients of both gates, which it cannot leave out.
"""

import functools
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from . import registry
from .registry import FLA

OPEN = 40.0  # the sigmoid of this is 1 in float32
NARROW = 64


class Peer(NamedTuple):
    """A kernel of another project.

    make: takes gamma (H,), a batch and T; returns a function of q, k and v that returns out, all in its own layout.
    time_first: True for axes (B, T, H, width), False for (B, H, T, width), contiguous. scaled: True if it multiplies scores by
    K^-0.5, which q must make up for. widest: the most key channels that it is measured at; None for no limit.
    """

    make: Callable
    label: str
    colour: str
    available: Callable
    needs: str
    time_first: bool = True
    scaled: bool = False
    widest: int | None = None


def _fla(name, gamma, batch, time, **how):
    kernel, decays = getattr(import_module("fla.ops.simple_gla"), name), gamma.log().float()
    return lambda q, k, v: kernel(q, k, v, g_gamma=decays, scale=1.0, **how)[0]


def _mlstm(gamma, batch, time):
    import torch

    kernel = import_module("mlstm_kernels.torch.chunkwise").mlstm_siging_chunkwise__xl_chunk
    forget = torch.logit(gamma.double()).float()[None, :, None].expand(batch, -1, time).contiguous()
    take = torch.full_like(forget, OPEN)
    return lambda q, k, v: kernel(
        q, k, v, take, forget, normalize=False, chunk_size=128, autocast_kernel_dtype=torch.bfloat16
    )


PEERS = {
    "fla_128": Peer(
        functools.partial(_fla, "chunk_simple_gla", chunk_size=128), f"{FLA}, C = 128", "#aa4499",
        available=lambda device: registry.has_fla(device), needs="an NVIDIA GPU, Triton and its own package",
    ),
    "fla_fused": Peer(
        functools.partial(_fla, "fused_chunk_simple_gla"), f"{FLA}, one pass", "#882255",
        available=lambda device: registry.has_fla(device), needs="an NVIDIA GPU, Triton and its own package", widest=NARROW,
    ),
    "mlstm": Peer(
        _mlstm, "mlstm_kernels, C = 128", "#999933",
        available=lambda device: registry.has_mlstm(device), needs="an NVIDIA GPU, Triton, its own package and einops", time_first=False, scaled=True,
    ),
}  # fmt: skip
