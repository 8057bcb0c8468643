"""flash-linear-attention's kernels: under the contract for models, and in their own layout for measuring them alone.

Their axes are (B, T, H, width), their decays log(gamma), and they choose their own chunks.
"""

from importlib import import_module
from importlib.util import find_spec

import torch


def chunkwise(chunk_size):
    """Its chunkwise form under the contract; it ignores the chunk size."""
    return _under_contract("chunk_simple_gla")


def step():
    """Its recurrent form under the contract."""
    return _under_contract("fused_recurrent_simple_gla")


def _under_contract(name):
    """A function of flash-linear-attention under the contract, without a gradient for gamma."""
    if not find_spec("fla"):
        raise ValueError("retention must not be 'fla' where flash-linear-attention is not installed")
    kernel = getattr(import_module("fla.ops.simple_gla"), name)

    def retention(q, k, v, gamma, state=None):
        rows = (x.transpose(1, 2) for x in (q, k, v))
        out, after = kernel(*rows, g_gamma=gamma.log().float(), scale=1.0, initial_state=state, output_final_state=True)
        return out.transpose(1, 2), after

    return retention


def native(heads, device, cuda_graph):
    """A function of q, k and v (B, T, H, width) that returns out, with the decays 1 - 2^(-5-h).

    `chunk_retention` copies its decays from the host, which a CUDA graph cannot do. So a graph gets decays made once, here.
    """
    if not cuda_graph:
        from fla.ops.retention import chunk_retention

        return lambda q, k, v: chunk_retention(q, k, v, scale=1.0)[0]
    from fla.ops.simple_gla import chunk_simple_gla

    decays = torch.log1p(-torch.exp2(-5 - torch.arange(heads, dtype=torch.float32, device=device)))
    return lambda q, k, v: chunk_simple_gla(q, k, v, g_gamma=decays, scale=1.0)[0]


def native_step():
    """A function of q, k, v (B, 1, H, width) and a state that returns the state after, with the same decays."""
    from fla.ops.retention import fused_recurrent_retention

    return lambda q, k, v, state: fused_recurrent_retention(
        q, k, v, scale=1.0, initial_state=state, output_final_state=True
    )[1]
