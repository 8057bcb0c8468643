"""Token shards as shards of bytes: the same texts in the same order, for models that read bytes."""

import json
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ..files import write_atomically
from ..training.bpe import Tokenizer
from .shards import INDEX, PARTS, TOKENIZER, digest_of, npy, read_index
from .texts import workers


def as_bytes(folder, out, *, processes=2, command="", report=lambda line: None):
    """Write what the shards of `folder` hold to `out` as bytes; returns the index, with the shards of a build of 256 tokens.

    command, report: as for `refimpl.corpus.build.build`.

    Raises:
        ValueError, OSError: a shard is missing or damaged, or `out` holds shards already.
    """
    folder, out, index = Path(folder), Path(out), read_index(folder)
    if (out / INDEX).exists():
        raise ValueError(f"out must be a folder without shards, {str(out)!r} holds some")
    out.mkdir(parents=True, exist_ok=True)
    Tokenizer().save(out / TOKENIZER)
    with workers(processes) as run:
        for name in PARTS:
            part, shards = index["parts"][name], []
            for shard in run(partial(_decoded, folder=folder, out=out), part["shards"]):
                shards.append(shard)
                report(f"{shard['file']}: {shard['tokens']:,} bytes")
            part |= {"tokens": part["bytes"], "shards": shards}
    index |= {
        "command": command,
        "settings": index["settings"] | {"vocab_size": Tokenizer().vocab_size},
        "tokenizer": {"vocab_size": 256, "learnt_from_bytes": 0, "sha256": digest_of(out / TOKENIZER)},
    }
    write_atomically(out / INDEX, json.dumps(index, indent=1) + "\n")
    return index


@lru_cache(maxsize=1)
def _pieces(folder):
    """The bytes of each token of a folder of shards."""
    return Tokenizer.load(folder / TOKENIZER).pieces


def _decoded(shard, folder, out):
    """Write a shard as bytes; returns what the index says of it."""
    path = folder / shard["file"]
    if digest_of(path) != shard["sha256"]:
        raise ValueError(f"corpus: the shard {str(path)!r} is damaged: it has another checksum")
    pieces = _pieces(folder)
    data = npy(np.frombuffer(b"".join([pieces[token] for token in np.load(path)]), np.uint8))
    write_atomically(out / shard["file"], data)
    return shard | {"tokens": shard["bytes"], "sha256": digest_of(out / shard["file"])}
