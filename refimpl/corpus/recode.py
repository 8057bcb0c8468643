"""Token shards as shards of bytes, for models that read bytes: the same texts in the same order, or mixed with another."""

import json
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ..files import write_atomically
from ..training.bpe import Tokenizer
from ..training.loop import HELD_OUT
from ..training.text import load_corpus, split_by_book
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


def mixed(folder, corpus, out, *, times=1, shards=None, command="", report=lambda line: None):
    """Write to `out` byte shards of `folder` and of a corpus, whose training part stands there `times` times.

    The corpus comes first in each part; its held-out books are those of a run on it alone. Returns the index.

    Args:
        folder: of byte shards, as `as_bytes` writes.
        corpus: as for `refimpl.training.text.load_corpus`.
        out: a folder without shards.
        times: how often the corpus's training part is repeated.
        shards: how many of the folder's training shards to take; by default all.
        command, report: as for `as_bytes`.

    Raises:
        ValueError, OSError: the corpus cannot be read, `folder` holds no bytes, or `out` holds shards already.
    """
    folder, out, index = Path(folder), Path(out), read_index(folder)
    if index["tokenizer"]["vocab_size"] != 256:
        raise ValueError(
            f"folder must hold bytes, {str(folder)!r} has {index['tokenizer']['vocab_size']} tokens; recode it"
        )
    if (out / INDEX).exists():
        raise ValueError(f"out must be a folder without shards, {str(out)!r} holds some")
    out.mkdir(parents=True, exist_ok=True)
    kept = index["parts"]
    kept["training"]["shards"] = kept["training"]["shards"][:shards]
    for name in (TOKENIZER, *(shard["file"] for part in kept.values() for shard in part["shards"])):
        write_atomically(out / name, (folder / name).read_bytes())
    added = dict(zip(PARTS, split_by_book(load_corpus(corpus), HELD_OUT), strict=False))
    for name, text in added.items():
        tokens = np.tile(np.frombuffer(text.text.encode(), np.uint8), times if name == "training" else 1)
        path = out / f"{name}-added.npy"
        write_atomically(path, npy(tokens))
        shard = {"file": path.name, "tokens": len(tokens), "bytes": len(tokens), "sha256": digest_of(path)}
        kept[name]["shards"].insert(0, shard)
        report(f"{path.name}: {len(tokens):,} bytes")
    for part in kept.values():
        part["tokens"] = part["bytes"] = sum(shard["tokens"] for shard in part["shards"])
    index |= {"command": command, "settings": index["settings"] | {"added": corpus, "times": times}}
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
