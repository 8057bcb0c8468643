"""A corpus from its sources: read and clean, remove duplicates, split by file, learn byte pairs, write shards of tokens.

Every stage leaves files that are written whole or not at all, so a build that was killed goes on; it comes to the same bytes.
"""

import dataclasses
import json
import shutil
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import numpy as np

from ..checks import check_integer, check_number
from ..files import write_atomically
from ..training.bpe import Tokenizer, learn_tokenizer
from ..training.folder import locked
from ..training.settings import check_fields
from ..training.text import VOCAB_SIZE, draw_held_out
from .shards import FORMAT, INDEX, PARTS, TOKENIZER, digest_of, npy, read_index
from .sources import DOMAIN
from .texts import SEPARATOR, blocks, find_duplicates, list_documents, pieces, read_source, texts, workers

HELD_OUT_BYTES = 2_000_000  # at least, but of a small corpus a tenth at most
KNOWN_WORDS = 1_000_000  # whose tokens a process remembers, some 300 MB


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """The settings of a corpus; a ValueError or TypeError names an impossible one."""

    vocab_size: Annotated[int, "number of tokens: 256 for bytes, more for byte pairs"] = 8192
    held_out: Annotated[float, "share of the bytes that is held out, at least 2 MB, of a small corpus a tenth"] = 0.005
    sample_bytes: Annotated[int, "bytes of the training part that byte pairs are learnt from"] = 32_000_000
    similarity: Annotated[float, "share of common runs of five words from which texts are near duplicates"] = 0.8
    min_bytes: Annotated[int, "shortest text of a file that is kept, in bytes"] = 256
    seed: Annotated[int, "seed of the split and of the order of the documents"] = 0

    def __post_init__(self):
        check_fields(self)
        check_integer("vocab_size", self.vocab_size, minimum=VOCAB_SIZE)
        if self.vocab_size > 2**16:
            raise ValueError(f"vocab_size must be at most {2**16}, for tokens of two bytes, got {self.vocab_size}")
        for name in ("sample_bytes", "min_bytes"):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("seed", self.seed, minimum=0)
        for name, most in (("held_out", 0.5), ("similarity", 1.0)):
            if not 0 < check_number(name, getattr(self, name)) <= most:
                raise ValueError(f"{name} must lie in (0, {most:g}], got {getattr(self, name)}")


def build(sources, out, config=None, *, processes=2, command="", report=lambda line: None):
    """Write the corpus of `sources`, which have paths, to the folder `out`; returns its index.

    A build that is finished is not repeated. command: what the index says of how it was made. report: called with a line of
    progress, now and then.

    Raises:
        ValueError, OSError: two sources share a name; `out` holds a build of other sources or settings, or another build
            works in it; no text is left; a source cannot be read.
    """
    config, out = config or CorpusConfig(), Path(out)
    check_integer("processes", processes, minimum=1)
    names = [source.name for source in sources]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"sources must be given, each of a name of its own, got {', '.join(names) or 'none'}")
    with locked(out), workers(processes) as run:
        _same_request(out, sources, config)
        if (out / INDEX).exists():
            report(f"{out} holds the finished corpus")
            return read_index(out)
        work = out / "work"
        read = []
        for counts in run(partial(read_source, work=work, min_bytes=config.min_bytes), sources):
            source = sources[len(read)]
            read.append(counts)
            report(
                f"{source.name}: {counts['files']:,} texts of {counts['bytes']:,} bytes; dropped {counts['dropped']}"
            )
        documents = list_documents(work, sources)
        drop = find_duplicates(work, documents, config.similarity, run)
        report(f"duplicates: {len(drop['exact']):,} exact, {len(drop['near']):,} near")
        dropped = {*drop["exact"], *drop["near"]}
        parts = _split(sources, [document for i, document in enumerate(documents) if i not in dropped], config)
        for name in PARTS:
            report(f"{name}: {len(parts[name]):,} texts of {sum(d.size for d in parts[name]):,} bytes")
        tokenizer, learnt = _tokenizer(out, work, parts["training"], config)
        report(f"byte pairs: {tokenizer.vocab_size:,} tokens, learnt from {learnt:,} bytes of the training part")
        jobs = [(name, i, block) for name in PARTS for i, block in enumerate(blocks(pieces(parts[name], work)))]
        shards = {name: [] for name in PARTS}
        done = run(partial(_shard, out=out, work=work, tokenizer=tokenizer), jobs)
        for (name, _, _), shard in zip(jobs, done, strict=True):
            shards[name].append(shard)
            report(f"{shard['file']}: {shard['tokens']:,} tokens")
        index = {
            "format": FORMAT,
            "command": command,
            "settings": dataclasses.asdict(config),
            "tokenizer": {
                "vocab_size": tokenizer.vocab_size,
                "learnt_from_bytes": learnt,
                "sha256": digest_of(out / TOKENIZER),
            },
            "parts": {name: _part(parts[name], shards[name]) for name in PARTS},
            "sources": [_origin(*each, documents, drop, parts) for each in zip(sources, read, strict=True)],
        }
        lines = (json.dumps([name, d.source, d.path, d.size]) for name in PARTS for d in parts[name])
        write_atomically(out / "documents.jsonl", "\n".join(lines) + "\n")
        write_atomically(out / INDEX, json.dumps(index, indent=1) + "\n")
        shutil.rmtree(work)
    return index


def _same_request(out, sources, config):
    """Write down what the folder is for, or refuse it for something else."""
    wanted = {"settings": dataclasses.asdict(config), "sources": [_identity(source) for source in sources]}
    path, text = out / "request.json", json.dumps(wanted, indent=1) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"out must be a folder without another corpus; {str(out)!r} holds one of other sources or settings, as its "
            "request.json says: give another --out, or remove it"
        )
    write_atomically(path, text)


def _identity(source):
    """What a source is known by: a package by its checksum, wherever its file is, and a folder of any name by its place."""
    found = dataclasses.asdict(source)
    path = found.pop("path")
    return found if source.sha256 else found | {"path": str(Path(path).resolve())}


def _split(sources, documents, config):
    """{part: documents} by whole files, each part in an order that the seed decides."""
    domain = {source.name for source in sources if source.part == DOMAIN}
    rest = [document for document in documents if document.source not in domain]
    if len(rest) < 2:
        raise ValueError(f"sources must leave two texts or more to train on and to hold out, they leave {len(rest)}")
    total = sum(document.size for document in rest)
    room = max(config.held_out * total, min(HELD_OUT_BYTES, total / 10))
    chosen = draw_held_out([document.size for document in rest], room, config.seed)
    parts = {
        "training": [document for i, document in enumerate(rest) if i not in chosen],
        "held_out": [rest[i] for i in sorted(chosen)],
        "domain": [document for document in documents if document.source in domain],
    }
    rng = np.random.default_rng(config.seed)
    return {name: [part[i] for i in rng.permutation(len(part))] for name, part in parts.items()}


def _tokenizer(out, work, documents, config):
    """The tokeniser, learnt unless it is there, and from how many bytes: those of the first documents of the order."""
    ends = list(accumulate(document.size for document in documents))
    count = min(len(ends), int(np.searchsorted(ends, config.sample_bytes)) + 1)
    if not (out / TOKENIZER).exists():
        text = SEPARATOR.join(texts(documents[:count], work)).decode("utf-8")
        learn_tokenizer(text, config.vocab_size).save(out / TOKENIZER)
    return Tokenizer.load(out / TOKENIZER), ends[count - 1]


@lru_cache(maxsize=1)
def _known_words(tokenizer):
    """The tokens of words that this process has met, for `Tokenizer.encode`."""
    return {}


def _shard(block, out, work, tokenizer):
    """Write a shard unless it is there; returns what the index says of it."""
    part, number, documents = block
    path = out / f"{part}-{number:04d}.npy"
    size = sum(document.size + len(SEPARATOR) for document in documents)
    if not path.exists():
        known = _known_words(tokenizer)
        if len(known) > KNOWN_WORDS:
            known.clear()
        tokens = [tokenizer.encode((text + SEPARATOR).decode("utf-8"), known) for text in texts(documents, work)]
        write_atomically(path, npy(np.concatenate(tokens)))
    tokens = np.load(path, mmap_mode="r")
    if (found := int(tokenizer.lengths[tokens].sum())) != size:
        raise ValueError(
            f"out: {str(path)!r} holds {found} bytes of text where {size} belong; remove the folder {str(out)!r}"
        )
    return {"file": path.name, "tokens": len(tokens), "bytes": size, "sha256": digest_of(path)}


def _part(documents, shards):
    """What the index says of a part."""
    sums = {name: sum(shard[name] for shard in shards) for name in ("tokens", "bytes")}
    return {"documents": len(documents), **sums, "shards": shards}


def _origin(source, counts, documents, drop, parts):
    """What the index says of a source."""
    identity = {name: getattr(source, name) for name in ("name", "version", "licence", "sha256", "part")}
    duplicates = {kind: sum(documents[i].source == source.name for i in drop[kind]) for kind in ("exact", "near")}
    kept = {name: sum(d.size for d in parts[name] if d.source == source.name) for name in PARTS}
    return {**identity, **counts, "duplicates": duplicates, "kept_bytes": kept}
