"""The clean texts of a build's sources, one file a source in its folder "work", and which of them are duplicates."""

import hashlib
import json
import multiprocessing
import os
import tempfile
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from ..files import write_atomically
from .clean import clean
from .near import near_duplicates, signature
from .sources import DOMAIN
from .unpack import files

SHARD_BYTES = 16_000_000  # of text; a shard of as many tokens of two bytes has less than 32 MiB
SEPARATOR = b"\n\n"  # after each document


class Document(NamedTuple):
    """A clean text: its source, its path there, and where it lies in the file of that source's texts."""

    source: str
    path: str
    start: int
    size: int
    digest: str


@contextmanager
def workers(processes):
    """A `map` over processes, whose results come in order; within this process if there is one.

    They end with this process, however it ends.
    """
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_with_parent():
    """End this process as soon as the one that started it has ended, for a killed one cannot end it itself."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def read_source(source, work, min_bytes):
    """Clean the texts of a source into one file, unless it is there; returns counts of texts, bytes and dropped files."""
    done = work / f"{source.name}.json"
    if not done.exists():
        work.mkdir(parents=True, exist_ok=True)
        found, dropped, start = [], Counter(), 0
        # Of a name of its own: processes of a build that was killed may still write theirs.
        with tempfile.NamedTemporaryFile(dir=work, prefix=f".{source.name}.", delete=False) as file:
            for path, data in files(source.path, source.wants):
                text, reason = clean(path, data, min_bytes, source.encoding)
                if text is None:
                    dropped[reason] += 1
                    continue
                data = text.encode("utf-8")
                found.append([path, start, len(data), hashlib.sha256(data).hexdigest()])
                start += file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, work / f"{source.name}.txt")
        summary = {"files": len(found), "bytes": start, "dropped": dict(sorted(dropped.items()))}
        write_atomically(done, json.dumps({"summary": summary, "documents": found}))
    return json.loads(done.read_text(encoding="utf-8"))["summary"]


def list_documents(work, sources):
    """All clean texts, those of the held-out domain first: of duplicates the first is kept."""
    found = []
    for source in sorted(sources, key=lambda source: source.part != DOMAIN):
        kept = json.loads((work / f"{source.name}.json").read_text(encoding="utf-8"))["documents"]
        found += [Document(source.name, *each) for each in kept]
    return found


def find_duplicates(work, documents, similarity, run):
    """The indices of exact and of near duplicates, {"exact": [...], "near": [...]}."""
    done = work / "duplicates.json"
    if not done.exists():
        first, exact = {}, []
        for i, document in enumerate(documents):
            if first.setdefault(document.digest, i) != i:
                exact.append(i)
        rest = sorted(first.values())
        kept = list(blocks([documents[i] for i in rest]))
        signatures = (each for block in run(partial(_signatures, work=work), kept) for each in block)
        near = [rest[i] for i, _ in near_duplicates(signatures, similarity)]
        write_atomically(done, json.dumps({"exact": exact, "near": near}))
    return json.loads(done.read_text(encoding="utf-8"))


def _signatures(block, work):
    return [signature(text.decode("utf-8")) for text in texts(block, work)]


def blocks(documents):
    """Runs of documents of SHARD_BYTES together at most, separators included; a longer document is a run of its own."""
    block, size = [], 0
    for document in documents:
        if block and size + document.size + len(SEPARATOR) > SHARD_BYTES:
            yield block
            block, size = [], 0
        block.append(document)
        size += document.size + len(SEPARATOR)
    if block:
        yield block


def pieces(documents, work):
    """The documents, those longer than a shard cut after a line."""
    most = SHARD_BYTES - len(SEPARATOR)
    for document in documents:
        while document.size > most:
            (text,) = texts([document._replace(size=most)], work)
            cut = text.rfind(b"\n") + 1 or len(text.decode("utf-8", "ignore").encode("utf-8"))
            yield document._replace(size=cut)
            document = document._replace(start=document.start + cut, size=document.size - cut)
        yield document


def texts(documents, work):
    """Yield the bytes of each document."""
    for document in documents:
        with open(work / f"{document.source}.txt", "rb") as file:
            file.seek(document.start)
            yield file.read(document.size)
