"""What a trained model gains from its past: loss by position, at any length, and with a state that forgets at a lag.

Losses are bits per byte on held-out text: the bits of all windows over their bytes, as in a run's log. Windows lie evenly over
it, and each is a row, so a loss has a standard error.
"""

from itertools import pairwise
from pathlib import Path

import array_api_compat.torch as xp
import numpy as np
import torch
from torch.nn import functional as F

from refimpl import decay_mask
from refimpl.checks import check_integer
from refimpl.training.settings import read_toml

from ..kernels.registry import RETENTIONS
from ..models.baseline import Baseline
from ..models.retnet import RetNet
from ..numerics import autocast, without_autocast
from ..training.config import RunConfig

PIECE = 4096  # tokens that are read at once, so that logits of a long window fit; the state or cache joins the pieces
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
LAGS = tuple(2**i for i in range(3, 13))


def trained(run, device="cpu"):
    """The model of a finished run's folder, RetNet or baseline, with its last weights, and its `RunConfig`.

    FileNotFoundError if the run is not finished, ValueError if it learnt a task, which has no text.
    """
    run = Path(run)
    if not (run / "result.json").exists():
        raise FileNotFoundError(f"run must be the folder of a finished run, {str(run)!r} is none")
    config = RunConfig(**read_toml(run / "run.toml"))
    if config.task is not None:
        raise ValueError(f"run must be one that learnt a text, {str(run)!r} learnt the task {config.task}")
    kind = RetNet if config.model == "retnet" else Baseline
    return kind.load(run / "weights.safetensors", device).eval(), config


def windows(tokens, length, count):
    """At most `count` windows of length + 1 tokens, evenly spread and not overlapping: (N, length + 1) int64.

    Raises:
        ValueError: there is none of that length.
    """
    check_integer("length", length, minimum=1)
    check_integer("count", count, minimum=1)
    starts = np.arange(0, len(tokens) - length, length)
    if not len(starts):
        raise ValueError(f"length must be below the {len(tokens):,} tokens of the held-out text, got {length:,}")
    if len(starts) > count:
        starts = starts[np.linspace(0, len(starts) - 1, count).astype(np.int64)]
    return np.stack([tokens[start : start + length + 1] for start in starts]).astype(np.int64)


@torch.no_grad()
def costs(model, config, rows, device="cpu", retention=None, piece=PIECE):
    """Bits of each target of windows (N, length + 1), read from an empty past: (N, length) float64.

    retention: of a RetNet, by default its run's. A window longer than `piece` is read in pieces, which give the same.
    """
    retention = retention or RETENTIONS[config.retention](config.chunk_size)
    if torch.is_autocast_enabled(torch.device(device).type) or config.precision != "float32":
        retention = without_autocast(retention)
    found = np.empty((len(rows), rows.shape[1] - 1))
    for number, row in enumerate(rows):
        tokens = torch.from_numpy(row).to(device)[None]
        length = tokens.shape[1] - 1
        past = None if config.model == "retnet" or length <= piece else model.memory(1, length)
        for start in range(0, length, piece):
            end = min(start + piece, length)
            with autocast(config, device):
                if config.model == "retnet":
                    logits, past = model(tokens[:, start:end], retention=retention, state=past)
                else:
                    logits, past = model(tokens[:, start:end], past)
            bits = F.cross_entropy(logits[0].float(), tokens[0, start + 1 : end + 1], reduction="none") / np.log(2)
            found[number, start:end] = bits.double().cpu().numpy()
    return found


def by_position(bits, lengths, edges):
    """The bits and the bytes between positions: two arrays (N windows, len(edges) - 1).

    bits, lengths: (N, T), of each target and its number of bytes; edges: increasing, from 0 to at most T.
    """
    return tuple(np.stack([each[:, a:b].sum(axis=1) for a, b in pairwise(edges)], axis=1) for each in (bits, lengths))


def edges_of(length, first=16):
    """Edges between groups of positions, powers of two from `first` on: 0, 16, 32, ..., length.

    >>> edges_of(100)
    [0, 16, 32, 64, 100]
    """
    edges = [0]
    while (edge := first << (len(edges) - 1)) < length:
        edges.append(edge)
    return [*edges, length]


def forgetting(lag, head=None):
    """A retention that sees the last `lag` tokens alone, the current one among them: o_n = sum over n - m < lag.

    head: the number of the one head that forgets; None: all do. Under the contract, but for a past before the first token:
    the state given must be None, and the one returned is None.

    Each block of `lag` tokens looks at itself and at the block before it, at a cost of 2 T lag a head.
    """
    check_integer("lag", lag, minimum=1)

    def retention(q, k, v, gamma, state=None, **_):
        if state is not None:
            raise ValueError("state must be None: what a state holds cannot be forgotten at a lag")
        time = q.shape[2]
        block = min(lag, time)
        here = slice(None) if head is None else slice(head, head + 1)
        out = _last(*(_blocks(x[:, here].float(), block) for x in (q, k, v)), gamma[here], block)[:, :, :time]
        if head is None:
            return out.to(v.dtype), None
        whole, _ = RETENTIONS["chunkwise"](64)(q, k, v, gamma)
        return torch.cat([whole[:, :head], out.to(whole.dtype), whole[:, head + 1 :]], dim=1), None

    return retention


def _blocks(x, block):
    """(B, H, T, W) cut into blocks, the last one filled up with zeros: (B, H, N, block, W)."""
    batch, heads, time, width = x.shape
    x = F.pad(x, (0, 0, 0, -time % block))
    return x.reshape(batch, heads, -1, block, width)


def _last(q, k, v, gamma, block):
    """The outputs of blocks that see their last `block` tokens."""
    positions = xp.arange(2 * block, device=q.device)
    near = positions[block:, None] - positions < block
    mask = decay_mask(gamma.double(), 2 * block, rows=slice(block, None)).to(q.dtype) * near
    before = [F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1] for x in (k, v)]
    keys, values = (torch.cat(pair, dim=3) for pair in zip(before, (k, v), strict=True))
    out = ((q @ keys.mT) * mask[:, None]) @ values
    return out.flatten(2, 3)


def mean_and_error(bits, sizes):
    """Bits per byte of N windows together and their standard errors, as lists; the error of a single window is None.

    The mean of each window's own bits per byte would weigh windows of few bytes too much, the more the shorter they are, and
    so differ between lengths. bits, sizes: (N, G), of G groups of positions, as `by_position` returns them.
    """
    rate = np.sum(bits, axis=0) / np.sum(sizes, axis=0)
    apart = (bits - rate * sizes) / np.mean(sizes, axis=0)  # what each window adds to the error of a ratio of means
    error = np.std(apart, axis=0, ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else [None] * len(rate)
    return rate.round(5).tolist(), [None if each is None else round(float(each), 5) for each in error]


def read_at_lengths(model, config, text, lengths=LENGTHS, tokens=2**19, device="cpu", least=4):
    """Loss by position in windows of each length: a list of dicts of length, edges, mean, error, windows.

    tokens: that are read at each length, at least `least` windows of them; a length that the text has no window of is left out.
    """
    found = []
    for length in lengths:
        if len(text.held_out) <= length:
            continue
        rows = windows(text.held_out, length, max(least, tokens // length))
        edges = edges_of(length)
        bits = costs(model, config, rows, device)
        mean, error = mean_and_error(*by_position(bits, text.tokenizer.lengths[rows[:, 1:]], edges))
        whole = mean_and_error(*by_position(bits, text.tokenizer.lengths[rows[:, 1:]], [0, length]))
        row = {"length": length, "edges": edges, "mean": mean, "error": error, "windows": len(rows)}
        found.append(row | {"whole": [whole[0][0], whole[1][0]]})
    return found


def forgets(model, config, text, lags=LAGS, length=8192, count=64, device="cpu", heads=True):
    """What it costs a RetNet to forget at each lag: the loss of the second half of windows, over that with the whole past.

    heads: whether each head is also made to forget alone, in all layers at once.

    Returns:
        A dict of length, windows, whole (mean and error of the loss), and rows of lag, head (None: all), over (bits per byte,
        of the differences window by window) and error.
    """
    rows = windows(text.held_out, length, count)
    edges, lengths = [length // 2, length], text.tokenizer.lengths[rows[:, 1:]]

    def loss(retention=None):
        return by_position(costs(model, config, rows, device, retention, piece=length), lengths, edges)

    (whole, sizes), found = loss(), []
    for head in [None, *(range(config.num_heads) if heads else ())]:
        for lag in (lag for lag in lags if lag <= length // 2):
            (mean,), (error,) = mean_and_error(loss(forgetting(lag, head))[0] - whole, sizes)
            found.append({"lag": lag, "head": head, "over": mean, "error": error})
    (mean,), (error,) = mean_and_error(whole, sizes)
    return {"length": length, "windows": len(rows), "whole": [mean, error], "rows": found}
