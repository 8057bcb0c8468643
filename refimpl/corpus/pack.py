"""A corpus in parts for a machine without network: shards compressed by xz, in folders that each stay below a size.

Every part holds the index and the tokeniser, so parts may arrive one by one and in any order.
"""

import hashlib
import json
import lzma
from bisect import bisect_left
from functools import partial
from itertools import accumulate
from pathlib import Path

from ..checks import check_integer
from ..files import write_atomically
from .shards import INDEX, PARTS, TOKENIZER, damaged, read_index, shards_of
from .texts import workers

MIB = 2**20


def pack(folder, out, *, part_mib=60, tokens=None, processes=2, report=lambda line: None):
    """Write the folders part-000, part-001, ... of at most `part_mib` MiB each to `out`; returns their paths.

    A pack that was stopped goes on. tokens: pack only the first shards of the training part that hold at least so many tokens,
    with an index of their own; documents are in a drawn order, so they are a sample of it.

    Raises:
        ValueError, OSError: a shard is damaged or larger than a part, or `out` holds parts of another corpus.
    """
    check_integer("part_mib", part_mib, minimum=1)
    folder, out, index = Path(folder), Path(out), read_index(folder)
    if tokens is not None:
        index = shortened(index, check_integer("tokens", tokens, minimum=1))
    text = json.dumps(index, indent=1) + "\n"
    head = len(text) + (folder / TOKENIZER).stat().st_size
    size = head
    for kept in sorted(out.glob(f"part-*/{INDEX}")):
        if kept.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"out must be a folder without the parts of another corpus, {str(kept.parent)!r} is one of them"
            )
    shards, parts = shards_of(index), [_part(out, 0, text, folder)]
    with workers(processes) as run:
        for shard, path in zip(shards, run(partial(_compressed, folder=folder, out=out), shards), strict=True):
            more = path.stat().st_size
            if head + more > part_mib * MIB:
                raise ValueError(
                    f"part_mib must be at least {-(-(head + more) // MIB)} for {path.name}, got {part_mib}"
                )
            if size + more > part_mib * MIB:
                size = head
                parts.append(_part(out, len(parts), text, folder))
            size += more
            path.replace(parts[-1] / path.name)
            report(f"{parts[-1].name}/{path.name}: {more:,} bytes of {shard['tokens']:,} tokens")
    return parts


def unpack(parts, out, *, processes=2, report=lambda line: None):
    """Write the shards of packed parts to the folder `out`; returns the names of the shards that are still missing there.

    parts: folders that `pack` wrote, or folders of such folders. What is there already is not unpacked again.

    Raises:
        ValueError, OSError: a packed shard is damaged, or it is of another corpus than `out` or the part before.
    """
    found = sorted(
        {index.parent for part in parts for pattern in (INDEX, f"*/{INDEX}") for index in Path(part).glob(pattern)}
    )
    if not found:
        raise FileNotFoundError(
            f"parts: there is no packed part in {', '.join(map(repr, map(str, parts))) or 'nothing'}"
        )
    out, index = Path(out), read_index(found[0])
    for each in [*found[1:], *([out] if (out / INDEX).exists() else [])]:
        if read_index(each) != index:
            raise ValueError(f"parts must be of one corpus, {str(found[0])!r} and {str(each)!r} are of two")
    missing = {shard["file"] for shard in damaged(out, index)}
    packed = {path.name.removesuffix(".xz"): path for part in found for path in part.glob("*.xz")}
    jobs = [(packed[shard["file"]], shard) for shard in shards_of(index) if shard["file"] in {*missing} & {*packed}]
    for name in (TOKENIZER, INDEX):
        write_atomically(out / name, (found[0] / name).read_bytes())
    with workers(processes) as run:
        for name in run(partial(_restored, out=out), jobs):
            missing.discard(name)
            report(f"{name}: unpacked")
    return sorted(missing)


def shortened(index, tokens):
    """The index of the same corpus with the first shards of its training part alone, those that hold `tokens` or more."""
    training = index["parts"]["training"]
    ends = list(accumulate(shard["tokens"] for shard in training["shards"]))
    if tokens > ends[-1]:
        raise ValueError(f"tokens must be at most {ends[-1]:,}, as the training part has, got {tokens:,}")
    shards = training["shards"][: bisect_left(ends, tokens) + 1]
    sums = {name: sum(shard[name] for shard in shards) for name in ("tokens", "bytes")}
    first = training | sums | {"shards": shards, "whole_part": {name: training[name] for name in sums}}
    return index | {"parts": {name: first if name == PARTS[0] else index["parts"][name] for name in PARTS}}


def _part(out, number, index, folder):
    """The path of a part, which holds the index, a text, and the tokeniser."""
    part = out / f"part-{number:03d}"
    write_atomically(part / INDEX, index)
    write_atomically(part / TOKENIZER, (folder / TOKENIZER).read_bytes())
    return part


def _compressed(shard, folder, out):
    """The path of a shard's xz file, in a part or, if it is new, in `out` itself."""
    name = f"{shard['file']}.xz"
    path = next(iter(sorted(out.glob(f"part-*/{name}"))), out / name)
    if not path.exists():
        data = (folder / shard["file"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != shard["sha256"]:
            raise ValueError(f"corpus: the shard {str(folder / shard['file'])!r} is damaged: it has another checksum")
        write_atomically(path, lzma.compress(data))
    return path


def _restored(job, out):
    """Write one shard from its xz file; returns its name."""
    path, shard = job
    try:
        data = lzma.decompress(path.read_bytes())
    except (lzma.LZMAError, EOFError):
        data = b""
    if hashlib.sha256(data).hexdigest() != shard["sha256"]:
        raise ValueError(f"parts: the packed shard {str(path)!r} is damaged")
    write_atomically(out / shard["file"], data)
    return shard["file"]
