"""What the shipped model does with its past, measured on its held-out text: the file beside its card.

Passages lie evenly over the whole held-out text. Each is one row, so that a mean has a standard error: that of the rows.
"""

import json
import lzma
import os
import platform
import zlib
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import numpy as np

from ..arrays import Params
from ..bench.run import package_versions
from ..checks import check_integer
from ..config import RetNetConfig
from ..layers import linear, rms_norm
from ..model import block, forward
from ..retention import retention_chunkwise
from ..weights import PRETRAINED, load_pretrained, pretrained_card
from .text import Corpus, encode, load_corpus, split_by_book

FACTS = PRETRAINED.with_name("facts.json")
SPAN, TAIL, WARM = 2048, 256, 512  # bytes of a passage; the last of them, which are judged; bytes read before those
LAGS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
EDGES = (0, 16, 64, 256, 1024, 2048)  # between groups of bytes, by how many come before them
PRIMED = 32768  # bytes of training text that zlib is given: the most that it can look back


def bits(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """What each token (..., T) costs under logits (..., T, vocab): minus the log2 of its probability."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, tokens[..., None].astype(np.int64), axis=-1)[..., 0]
    return (np.log(np.exp(shifted).sum(axis=-1)) - chosen) / np.log(2)


def without_head(layer: Params, head: int, config: RetNetConfig) -> Params:
    """A layer's parameters in which that head is silent: its rows of w_o are zero."""
    w_o = layer["retention"]["w_o"].copy()
    w_o[head * config.value_dim : (head + 1) * config.value_dim] = 0
    return layer | {"retention": layer["retention"] | {"w_o": w_o}}


def with_past(params: Params, config: RetNetConfig, passage: np.ndarray, lag: int) -> float:
    """Bits per byte of the tail of a passage (SPAN + 1,), where the state forgets: of its past each sees the newest lag + 1 to 2 lag."""
    step = min(lag, TAIL)
    starts = np.arange(SPAN - TAIL, SPAN, step)
    blocks = np.stack([passage[start - lag : start + step + 1] for start in starts])
    logits, _ = forward(params, blocks[:, :-1], config, retention=retention_chunkwise)
    return float(bits(logits[:, lag:], blocks[:, lag + 1 :]).mean())


def heads_off(params: Params, config: RetNetConfig, passage: np.ndarray) -> tuple[float, list[list[float]]]:
    """Bits per byte of the tail with all heads, and without each: rows are layers, the last one is all layers at once."""
    read = passage[SPAN - TAIL - WARM :]
    x = params["embedding"][read[None, :-1]]

    def loss(x: np.ndarray, layers: list[Params]) -> float:
        for layer in layers:
            x, _ = block(layer, x, config, retention=retention_chunkwise)
        logits = linear(rms_norm(x[:, WARM:], params["final_norm"], eps=config.norm_eps), params["head"])
        return float(bits(logits, read[None, WARM + 1 :]).mean())

    heads, layers, rows = range(config.num_heads), params["layers"], []
    whole = loss(x, layers)
    everywhere = [loss(x, [without_head(layer, head, config) for layer in layers]) for head in heads]
    for i, layer in enumerate(layers):  # the layers before are computed once
        rows.append([loss(x, [without_head(layer, head, config), *layers[i + 1 :]]) for head in heads])
        x, _ = block(layer, x, config, retention=retention_chunkwise)
    return whole, [*rows, everywhere]


def passage_facts(params: Params, config: RetNetConfig, passage: np.ndarray, primer: bytes = b"") -> dict[str, Any]:
    """All that is measured of a passage (SPAN + 1,), in bits per byte; primer: what zlib has read before."""
    logits, _ = forward(params, passage[None, :-1], config, retention=retention_chunkwise)
    costs = bits(logits, passage[None, 1:])[0]
    whole, off = heads_off(params, config, passage)
    data, packer = passage[1:].tobytes(), zlib.compressobj(9, zdict=primer)
    numbers = {
        "by_position": [costs[a:b].mean() for a, b in pairwise(EDGES)],
        "window": costs[:1024].mean(),
        "whole_past": costs[-TAIL:].mean(),
        "with_past": [with_past(params, config, passage, lag) for lag in LAGS],
        "all_heads": whole,
        "without": off,
        "zlib": 8 * len(zlib.compress(data, 9)) / SPAN,
        "zlib_primed": 8 * len(packer.compress(data) + packer.flush()) / SPAN,
    }
    return {name: np.round(number, 5).tolist() for name, number in numbers.items()}


def scored_parts(corpus: str) -> tuple[Corpus, Corpus]:
    """The training and the held-out part of a corpus of texts, a source for `load_corpus`, that the card scores.

    Raises:
        ValueError: the card scores no corpus of that name.
    """
    names = list(pretrained_card()["scores"])
    if corpus not in names:
        raise ValueError(f"corpus must be one that the card scores, {' or '.join(map(repr, names))}, got {corpus!r}")
    return split_by_book(load_corpus(corpus))


def measure(corpus: str, passages: int = 40, processes: int = 1, progress: Any = lambda rows: rows) -> dict[str, Any]:
    """Measure the shipped model on the held-out part of a corpus; returns what the file holds.

    Args:
        corpus: as for `scored_parts`.
        passages: how many, evenly spread over the held-out text.
        processes: how many passages are measured at once, each on one core.
        progress: wraps the rows, for a progress bar.

    Raises:
        ValueError: passages or processes is too small, or the corpus none that the card scores.
    """
    check_integer("passages", passages, minimum=2)
    check_integer("processes", processes, minimum=1)
    card, (learnt_from, judged) = pretrained_card(), scored_parts(corpus)
    held_out, training = encode(judged.text), learnt_from.text.encode()
    starts = np.linspace(0, len(held_out) - SPAN - 1, passages).astype(int).tolist()
    ends = np.cumsum([len(text.encode()) + 2 for text in judged.documents.values()])
    titles = list(judged.documents)
    jobs = [(held_out[start : start + SPAN + 1], training[-PRIMED:]) for start in starts]
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        packed = pool.submit(xz_after, training, held_out.tobytes())
        rows = [
            {"start": start, "document": titles[int(np.searchsorted(ends, start, side="right"))]} | row
            for start, row in zip(starts, progress(pool.map(_measured, jobs)), strict=True)
        ]
        xz = packed.result()
    return {
        "command": f"python -m refimpl facts --corpus '{corpus}' --passages {passages}",
        "weights": card["sha256"],
        "versions": {"python": platform.python_version()} | package_versions(("numpy",)),
        "corpus": corpus, "training_bytes": len(training), "held_out_bytes": len(held_out), "span": SPAN, "tail": TAIL, "warm": WARM, "lags": LAGS, "edges": EDGES,
        "xz_after_training_text": round(xz, 4),
        "passages": rows,
    }  # fmt: skip


def xz_after(training: bytes, text: bytes) -> float:
    """Bits per byte that a text adds to a file that xz has made of the training text."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 2**24}]
    before, after = (len(lzma.compress(data, filters=filters)) for data in (training, training + text))
    return 8 * (after - before) / len(text)


def _measured(job: tuple[np.ndarray, bytes]) -> dict[str, Any]:
    return passage_facts(*load_pretrained(), *job)


def load_facts() -> dict[str, Any]:
    """The file that `python -m refimpl facts` wrote, with the numbers of each passage.

    >>> sorted(load_facts()["passages"][0])[:3]
    ['all_heads', 'by_position', 'document']
    """
    return json.loads(FACTS.read_text(encoding="utf-8"))
