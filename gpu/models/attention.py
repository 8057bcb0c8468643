"""The attention of the Transformer baseline: rotary positions, flash attention, a preallocated cache, grouped heads."""

import array_api_compat.torch as xp
import torch
from torch import nn
from torch.nn import functional as F

from refimpl.rotation import rotation_frequencies

from .operations import linears, turn_and_scale


class Attention(nn.Module):
    """Causal softmax attention in `num_heads` heads over `kv_heads` heads of keys and values."""

    def __init__(self, config):
        super().__init__()
        self.num_heads, self.kv_heads, self.width = config.num_heads, config.kv_heads, config.dim // config.num_heads
        self.w_q = nn.Linear(config.dim, config.dim, bias=False)
        self.w_k = nn.Linear(config.dim, self.kv_heads * self.width, bias=False)
        self.w_v = nn.Linear(config.dim, self.kv_heads * self.width, bias=False)
        self.w_o = nn.Linear(config.dim, config.dim, bias=False)

    @staticmethod
    def shared(config, position, time, device):
        """cos and sin of the rotary angles of `time` tokens from `position`, (T, width / 2) each, once for all layers."""
        theta = rotation_frequencies(config.dim // config.num_heads, "rotary", xp=xp, device=device)
        angle = torch.arange(position, position + time, dtype=torch.float64, device=device)[:, None] * theta
        return angle.cos().float(), angle.sin().float()

    def memory(self, batch, capacity, dtype, device):
        """Zeros for the keys and values of `capacity` tokens, (B, kv_heads, capacity, width) each."""
        shape = (batch, self.kv_heads, capacity, self.width)
        return tuple(torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))

    def forward(self, x, shared, position=0, memory=None):
        """(B, T, d) -> (B, T, d) and memory; keys and values are written into `memory` in place, if one is given."""
        batch, time, dim = x.shape
        projected = *linears(x, self.w_q.weight.T, self.w_k.weight.T), self.w_v(x)
        q, k, v = (each.reshape(batch, time, -1, self.width).transpose(1, 2) for each in projected)
        q, k = turn_and_scale(q, *shared), turn_and_scale(k, *shared)
        if memory is not None:
            k, v = (_remember(room, position, each) for room, each in zip(memory, (k, v), strict=True))
        mask = None
        if time > 1 and position:  # new tokens see all earlier tokens, also among themselves
            mask = torch.ones(time, position + time, dtype=torch.bool, device=x.device).tril(position)
        grouped = self.kv_heads != self.num_heads
        causal = time > 1 and not position
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)
        return self.w_o(out.transpose(1, 2).reshape(batch, time, dim)), memory


def _remember(room, position, new):
    """Write the tokens (B, heads, T, width) at `position`; returns all tokens so far, as a view."""
    end = position + new.shape[2]
    if end > room.shape[2]:
        raise ValueError(f"memory must have room for {end} tokens, its capacity is {room.shape[2]}")
    room[:, :, position:end] = new
    return room[:, :, :end].to(new.dtype)
