"""A folder of token shards: its index, its checks, and its tokens as arrays that are read from disk as they are needed.

The folder holds token_shards.json, tokenizer.json and PART-0000.npy, ... of the parts training, held_out and domain.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..training.bpe import Tokenizer
from ..training.text import SHARDS as INDEX

FORMAT = "token shards 1"
PARTS = ("training", "held_out", "domain")
TOKENIZER = "tokenizer.json"


class Joined:
    """Tokens (N,) of several arrays, one after another: a slice copies what it covers and nothing else.

    >>> tokens = Joined([np.arange(3), np.arange(3, 5)])
    >>> len(tokens), tokens[1:4]
    (5, array([1, 2, 3]))
    """

    def __init__(self, arrays):
        self.arrays, self.dtype, self.ndim = list(arrays), np.result_type(*arrays), 1
        self.ends = np.cumsum([len(array) for array in self.arrays])

    def __len__(self):
        return int(self.ends[-1])

    def __getitem__(self, item):
        start, stop, step = item.indices(len(self)) if isinstance(item, slice) else (0, 0, 0)
        if step != 1:
            raise TypeError(f"tokens over several shards are read by slices start:stop, got {item!r}")
        first, pieces = int(np.searchsorted(self.ends, start, side="right")), []
        for array, end in zip(self.arrays[first:], self.ends[first:], strict=True):
            begin = int(end) - len(array)
            pieces.append(array[max(start - begin, 0) : max(stop - begin, 0)])
            if stop <= end:
                break
        return np.concatenate(pieces) if pieces else np.empty(0, self.dtype)

    def __array__(self, dtype=None, copy=None):
        return np.concatenate(self.arrays).astype(dtype or self.dtype, copy=False)


class Shards(NamedTuple):
    """The parts of a folder of shards: tokens (N,) uint16 each, domain may be None; its tokeniser; a digest of all of it."""

    training: Joined
    held_out: np.ndarray
    domain: np.ndarray | None
    tokenizer: Tokenizer
    digest: str


def is_shards(path):
    """True for a folder of token shards."""
    return (Path(path) / INDEX).is_file()


def load_shards(folder):
    """The `Shards` of a folder, the training part memory-mapped; sizes are checked, `damaged` checks every byte.

    Raises:
        FileNotFoundError, ValueError: the folder lacks an index, a tokeniser or a shard, or one is not as the index says; the
            message names the file.
    """
    folder, index = Path(folder), read_index(folder)
    tokenizer = Tokenizer.load(_there(folder / TOKENIZER))
    if digest_of(folder / TOKENIZER) != index["tokenizer"]["sha256"]:
        raise ValueError(f"corpus: {str(folder / TOKENIZER)!r} is damaged: it is not the tokeniser of the index")
    parts = {name: [_mapped(folder, shard) for shard in index["parts"][name]["shards"]] for name in PARTS}
    held_out, domain = (np.concatenate(parts[name]) if parts[name] else None for name in PARTS[1:])
    return Shards(Joined(parts["training"]), held_out, domain, tokenizer, digest_of_index(index))


def digest_of_index(index):
    """A digest of all that an index names: shards and tokeniser; two builds with the same one are the same to the byte."""
    sums = [index["tokenizer"]["sha256"], *(shard["sha256"] for shard in shards_of(index))]
    return hashlib.sha256(" ".join(sums).encode()).hexdigest()


def read_index(folder):
    """The index of a folder of shards, a dict; FileNotFoundError or ValueError if it has none."""
    path = _there(Path(folder) / INDEX)
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        known = index["format"] == FORMAT and all(index["parts"][name]["shards"] is not None for name in PARTS)
        _ = index["tokenizer"]["sha256"], index["parts"]["training"]["shards"][0]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        known = False
    if not known:
        raise ValueError(f"corpus: {str(path)!r} is no index of token shards")
    return index


def shards_of(index):
    """Every shard that an index names: dicts of file, tokens, bytes, sha256."""
    return [shard for name in PARTS for shard in index["parts"][name]["shards"]]


def damaged(folder, index):
    """Yield the shards of an index whose file is missing or has another checksum."""
    for shard in shards_of(index):
        path = Path(folder) / shard["file"]
        if not path.is_file() or digest_of(path) != shard["sha256"]:
            yield shard


def digest_of(path):
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def npy(tokens):
    """Tokens (N,) as the bytes of a .npy file of uint16."""
    file = io.BytesIO()
    np.save(file, tokens.astype("<u2"), allow_pickle=False)
    return file.getvalue()


def _mapped(folder, shard):
    path = _there(folder / shard["file"])
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
        whole = tokens.shape == (shard["tokens"],) and tokens.dtype == np.uint16
        whole = whole and path.stat().st_size == tokens.offset + tokens.nbytes
    except (ValueError, EOFError, OSError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"corpus: the shard {str(path)!r} is damaged: it must hold {shard['tokens']} tokens of uint16")
    return tokens


def _there(path):
    if not path.is_file():
        raise FileNotFoundError(f"corpus: the folder of token shards lacks the file {str(path)!r}")
    return path
