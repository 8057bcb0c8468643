"""Torch and torchscale as peers of `python -m refimpl bench`; see `refimpl.bench.peers`."""

import functools
from importlib.util import find_spec

import torch

from refimpl import retention_chunkwise, retention_parallel
from refimpl.bench.forms import LONGEST_PARALLEL, Candidate

from ..models.build import build
from ..training.config import RunConfig
from ..training.step import Trainer

PACKAGES = "torch", "torchscale"
CHUNKS = 64, 128, 256


def forms(q, k, v, gamma):
    """A `Candidate` for our forms on torch, torch's attention and, where it is installed, torchscale's retention."""
    tensors = q, k, v, gamma = [torch.from_numpy(x) for x in (q, k, v, gamma)]
    time, found = q.shape[2], []
    if time <= LONGEST_PARALLEL:
        ours = functools.partial(retention_parallel, *tensors)
        attention = functools.partial(torch.nn.functional.scaled_dot_product_attention, q, k, v, is_causal=True)
        found.append(Candidate("torch, ours parallel", "torch", "parallel", None, ours))
        found.append(Candidate("torch SDPA", "torch", "parallel", None, attention))
    for size in CHUNKS:
        call = functools.partial(retention_chunkwise, *tensors, chunk_size=size)
        found.append(Candidate(f"torch, ours chunkwise C={size}", "torch", "chunkwise", size, call))
    return found + (torchscale_forms(*tensors) if find_spec("torchscale") else [])


def torchscale_forms(q, k, v, gamma):
    """The authors' parallel and chunkwise forms on the same rotated q, k and v; masks are made before timing."""
    from torchscale.component.multiscale_retention import MultiScaleRetention

    (_, heads, time, key_dim), value_dim = q.shape, v.shape[3]
    options = type("Args", (), {"multiway": False, "layernorm_eps": 1e-6})
    layer = MultiScaleRetention(options, heads * key_dim, heads * value_dim, heads)
    v = v.transpose(1, 2).reshape(1, time, heads * value_dim)
    found = []

    def mask(length):
        lag = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        powers = torch.where(lag >= 0, gamma[:, None, None] ** lag.clamp(min=0), 0.0)
        return powers.float()

    if time <= LONGEST_PARALLEL:
        full = mask(time)
        full = full / full.sum(dim=-1, keepdim=True).sqrt()
        call = functools.partial(layer.parallel_forward, q, k, v, full)
        found.append(Candidate("torchscale parallel", "torchscale", "parallel", None, call))
    for size in CHUNKS:
        if time % size == 0:  # it refuses other lengths
            block = mask(size)
            scale, last = block.sum(dim=-1, keepdim=True).sqrt(), block[:, -1].sum(dim=-1)[:, None, None]
            steps = torch.arange(1, size + 1)
            tables = (
                block / scale,
                (gamma**size).float()[:, None, None],
                (gamma[:, None] ** steps).float()[:, :, None] / (scale / last),
                (block[:, -1] / block[:, -1].sum(dim=-1, keepdim=True))[:, :, None],
            )
            call = functools.partial(layer.chunk_recurrent_forward, q, k, v, tables)
            found.append(Candidate(f"torchscale chunkwise C={size}", "torchscale", "chunkwise", size, call))
    return found


def training_steps(config, inputs, targets):
    """A `Candidate` for each of our forms: a step of `python -m gpu train`, for the model of a `TrainConfig`."""
    found = []
    for form in ("parallel", "chunkwise"):
        run = RunConfig(**vars(config), retention=form)
        call = functools.partial(Trainer(build(run), run).step, inputs, targets, config.learning_rate)
        found.append(Candidate(f"torch {form}", "torch", form, None, call))
    return found
