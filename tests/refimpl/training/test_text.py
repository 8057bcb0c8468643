"""Corpora, splits, tokens and batches; what is missing, empty, binary or undecodable is named."""

import errno
import os
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from refimpl.conformance.validation import refused
from refimpl.training import text
from refimpl.training.loop import load_text
from refimpl.training.text import Corpus, load_corpus
from refimpl.training.train import TrainConfig


def test_bible_is_whole():
    bible = text.load_corpus("kjv")
    assert len(bible.documents) == 66
    assert list(bible.documents)[::65] == ["Genesis", "Revelation"]
    assert sum(book.count("\n") + 1 for book in bible.documents.values()) == 31_103
    assert bible.documents["John"].splitlines()[0].startswith("In the beginning was the Word")


def test_file_and_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.txt").write_text("two", encoding="utf-8")
    (tmp_path / "deep" / "a.md").write_text("\ufeffthrée", encoding="utf-8")  # a byte-order mark is no text
    (tmp_path / ".hidden").write_bytes(b"\0")
    assert text.load_corpus(tmp_path / "b.txt").documents == {"b.txt": "two"}
    assert text.load_corpus(str(tmp_path)).documents == {"b.txt": "two", "deep/a.md": "thrée"}
    assert text.load_corpus(tmp_path, "*.md").text == "thrée"


def test_several_sources_are_one_corpus(tmp_path):
    (tmp_path / "speeches").mkdir()
    (tmp_path / "speeches" / "1790.txt").write_text("Fellow citizens", encoding="utf-8")
    both = text.load_corpus(f"kjv + {tmp_path / 'speeches'}")
    assert both.name == "kjv+speeches"
    assert len(both.documents) == 67
    assert both.documents["speeches/1790.txt"] == "Fellow citizens"
    assert both.documents["kjv/John"] == text.load_corpus().documents["John"]
    twice = "corpus must name each source once, and no two of one name, got 'kjv + kjv'"
    refused(lambda: text.load_corpus("kjv + kjv"), ValueError, twice)
    for source in ("kjv + nowhere", "nowhere"):
        missing = "corpus: there is no file or folder 'nowhere' (and the only built-in corpus is 'kjv')"
        refused(partial(text.load_corpus, source), FileNotFoundError, missing)
    odd = tmp_path / "this + that.txt"
    odd.write_text("one file", encoding="utf-8")
    assert text.load_corpus(odd).text == "one file"
    for source in (f"kjv + {odd}", f"{odd} + kjv", f"{odd} + {tmp_path / 'speeches'} + kjv"):
        documents = text.load_corpus(source).documents
        assert documents["this + that.txt/this + that.txt"] == "one file"
        assert ("speeches/1790.txt" in documents, "kjv/John" in documents) == ("speeches" in source, True)


def test_bad_sources_are_named(tmp_path):
    message = f"corpus: no file in the folder {str(tmp_path)!r} fits the pattern '*'"
    refused(lambda: text.load_corpus(tmp_path), FileNotFoundError, message)
    for name, content, message in (
        ("empty.txt", b"\xef\xbb\xbf \n", "empty"),  # a byte-order mark is no text
        ("photo.png", b"\x89PNG of many bytes\0\0", "binary (NUL byte at offset 18), not text"),
        ("some.gz", b"\x1f\x8b no NUL", "binary (byte 0x8b at offset 1), not text"),
        (
            "wide.txt",
            "wide".encode("utf-16-le"),
            "binary (NUL byte at offset 1), not text; UTF-16 needs a byte-order mark",
        ),
        ("cut.txt", "wide".encode("utf-16")[:-1], "binary (byte 0x65 at offset 8), not text"),
        ("none.txt", "a\0b".encode("utf-16"), "binary (NUL at character 1), not text"),
        ("latin.txt", "café".encode("latin-1"), "not UTF-8 (byte 0xe9 at offset 3); convert it first"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        for source in (path, tmp_path):  # a folder of nothing else
            refused(partial(text.load_corpus, source), ValueError, f"corpus: the file {str(path)!r} is {message}")
        path.unlink()


def test_what_is_no_text_is_skipped_and_named(tmp_path):
    """One picture among texts does not stop a run; a text in an unknown encoding does, for it was meant to be read."""
    (tmp_path / "a.txt").write_text("a text")
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "z.txt").write_bytes(b"\n")
    corpus = text.load_corpus(tmp_path)
    assert corpus.documents == {"a.txt": "a text"}
    assert len(corpus.skipped) == 8
    first, *_, last = corpus.remarks
    assert first == f"corpus: the file {str(tmp_path / '0.png')!r} is binary (NUL byte at offset 8), not text: skipped"
    assert last == "corpus: 3 more are skipped"
    assert corpus.skipped[-1] == f"corpus: the file {str(tmp_path / 'z.txt')!r} is empty"
    (tmp_path / "a.txt").unlink()
    message = f"{corpus.skipped[0]}, and so on for all 8"
    refused(lambda: text.load_corpus(tmp_path), ValueError, message)
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    message = f"corpus: the file {str(tmp_path / 'latin.txt')!r} is not UTF-8 (byte 0xe9 at offset 3); convert it first"
    refused(lambda: text.load_corpus(tmp_path), ValueError, message)


def test_what_cannot_be_read_is_skipped_and_named(tmp_path, monkeypatch):
    """A file and a folder without the right to read them, which nobody can take from root."""
    for name in ("a/text.txt", "a/secret.txt", "closed/text.txt", ".git/text.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a text")
    scan, read = os.scandir, Path.read_bytes

    def refuse(plain, *names):
        def call(path):
            if Path(path).name in names:
                raise PermissionError(errno.EACCES, "Permission denied", f"{path}")
            return plain(path)

        return call

    monkeypatch.setattr(os, "scandir", refuse(scan, "closed", ".git"))
    monkeypatch.setattr(Path, "read_bytes", refuse(read, "secret.txt"))
    found = load_corpus(tmp_path)
    assert list(found.documents) == ["a/text.txt"]
    assert found.skipped == (
        f"corpus: the folder {str(tmp_path / 'closed')!r} cannot be read (Permission denied)",
        f"corpus: the file {str(tmp_path / 'a' / 'secret.txt')!r} cannot be read (Permission denied)",
    )
    for alone, kind in (("a/secret.txt", OSError), ("closed", ValueError)):
        with pytest.raises(kind, match=rf"corpus: the (file|folder) .*{alone}' cannot be read \(Permission denied\)"):
            load_corpus(tmp_path / alone)


def test_a_pipe_is_read_and_a_device_is_not(tmp_path):
    """As <(command) of a shell gives one."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("a text",))
    writer.start()
    assert load_corpus(tmp_path / "pipe").text == "a text"
    writer.join()
    with pytest.raises(ValueError, match="corpus: '/dev/null' is neither a file nor a folder"):
        load_corpus("/dev/null")


def test_every_unicode_encoding_with_a_mark_is_read(tmp_path):
    wanted = "In the beginning \N{GREEK SMALL LETTER OMEGA} \U0001f700\n"
    marks = {
        "utf-8-sig": "",
        "utf-8": "",
        "utf-16-le": "\ufeff",
        "utf-16-be": "\ufeff",
        "utf-32-le": "\ufeff",
        "utf-32-be": "\ufeff",
    }
    for encoding, mark in marks.items():
        (tmp_path / "text.txt").write_bytes((mark + wanted).encode(encoding))
        assert text.load_corpus(tmp_path / "text.txt").text == wanted, encoding


def test_the_split_says_when_it_holds_out_far_from_a_tenth(tmp_path):
    (tmp_path / "short.txt").write_text("y" * 80)
    (tmp_path / "long.txt").write_text("x" * 99_920)
    remarks = load_text(TrainConfig(corpus=str(tmp_path), window=64)).remarks
    assert len(remarks) == 1
    assert remarks[0].startswith("held out: 80 of 100,000 characters, 0.08% where 10% is wanted")
    (tmp_path / "short.txt").write_text("y" * 80_000)
    assert "held out: 80,000 of 179,920 characters, 44.46%" in load_text(TrainConfig(corpus=str(tmp_path))).remarks[0]
    (tmp_path / "short.txt").write_text("y" * 9_000)
    assert load_text(TrainConfig(corpus=str(tmp_path))).remarks == ()
    assert load_text(TrainConfig()).remarks == ()


def test_split_is_by_whole_books():
    bible = text.load_corpus()
    train, held_out = text.split_by_book(bible)
    assert train.documents.keys() | held_out.documents.keys() == bible.documents.keys()
    assert not train.documents.keys() & held_out.documents.keys()
    assert all(bible.documents[title] == book for title, book in held_out.documents.items())
    assert 0.09 < len(held_out.text) / len(bible.text) <= 0.1
    assert text.split_by_book(bible)[1].documents.keys() == held_out.documents.keys()
    assert text.split_by_book(bible, seed=1)[1].documents.keys() != held_out.documents.keys()


def test_split_of_few_documents():
    two = Corpus("two", {"long": "x" * 90, "short": "y" * 30})
    train, held_out = text.split_by_book(two)
    assert (list(train.documents), list(held_out.documents)) == (["long"], ["short"])
    one = Corpus("one", {"a": "\n".join("line" * 5 for _ in range(50))})
    train, held_out = text.split_by_book(one, 0.2)
    assert train.text + held_out.text == one.text
    assert train.text.endswith("\n")
    assert 0.15 < len(held_out.text) / len(one.text) < 0.25
    for long, cut in (
        ("no break " * 99, 801),  # one line: between words, 802 being nine tenths
        ("x" * 1000, 900),  # one word
        ("title\n" + "x" * 994, 900),  # the one line break would hold out nearly all
        ("x" * 900 + "\n" + "x" * 99, 901),
        ("ab", 1),
        ("\n\n", 1),
    ):
        train, held_out = text.split_by_book(Corpus("one", {"a": long}))
        assert train.text + held_out.text == long
        assert len(train.text) == cut
    for arguments, message in (
        ((Corpus("none", {}),), "corpus must hold at least one document, 'none' holds none"),
        ((Corpus("one", {"a": "x"}),), "corpus: 'a' is one document of 1 characters; two parts need two"),
        *[((two, share), f"held_out must lie in (0, 1), got {share!r}") for share in (0, 1, float("nan"))],
    ):
        refused(partial(text.split_by_book, *arguments), ValueError, message)


def test_bytes_there_and_back():
    for string in ("", "In the beginning", "naïve Δ 🜂"):
        assert text.decode(text.encode(string)) == string
    assert text.decode([]) == ""
    assert text.encode("é").tolist() == [0xC3, 0xA9]
    assert text.decode(np.array([0x41, 0xC3])) == "A\ufffd"
    refused(lambda: text.encode(b"x"), TypeError, "text must be a str, got bytes")
    refused(lambda: text.decode(np.array([1.0])), TypeError, "tokens must be integers, got float64")
    refused(lambda: text.decode(np.array([7, 256])), ValueError, "tokens must lie in [0, 256), got 7 to 256")


def test_random_batches_are_windows_and_their_successors():
    tokens = np.arange(100, dtype=np.uint8)
    inputs, targets = text.random_batch(tokens, 64, 10, np.random.default_rng(0))
    assert inputs.shape == targets.shape == (64, 10)
    assert inputs.dtype == np.int64
    assert (targets == inputs + 1).all()
    assert (inputs == inputs[:, :1] + np.arange(10)).all()
    many, _ = text.random_batch(tokens, 5000, 10, np.random.default_rng(0))
    assert (many.min(), many[:, 0].max()) == (0, 89)  # the first and the last window are both drawn
    only, targets = text.random_batch(tokens[:11], 3, 10, np.random.default_rng(0))
    assert (only == np.arange(10)).all()
    for wrong, size, error, message in (
        (tokens, 0, ValueError, "batch_size must be at least 1, got 0"),
        (tokens / 2, 1, TypeError, "tokens must be integers, got float64"),
        (tokens[:10], 1, ValueError, "tokens: a window of 10 tokens and its targets needs 11, got 10"),
    ):
        refused(partial(text.random_batch, wrong, size, 10, np.random.default_rng(0)), error, message)


def test_batches_once_read_every_window_once_in_an_order_of_the_seed():
    tokens = np.arange(100, dtype=np.uint8)  # eleven windows of nine tokens, and the target of the last
    batch = text.batches_once(tokens, 3, 9, seed=1)
    windows = [batch(number) for number in (1, 2, 3)]
    inputs, targets = (np.concatenate(parts) for parts in zip(*windows, strict=True))
    assert (targets == inputs + 1).all()
    assert len(set(inputs[:, 0])) == 9
    assert set(inputs[:, 0]) < set(range(0, 99, 9))
    again, other = text.batches_once(tokens, 3, 9, seed=1), text.batches_once(tokens, 3, 9, seed=2)
    assert (again(2)[0] == windows[1][0]).all()  # without the batches before: a resumed run goes on at any of them
    assert (other(1)[0] != windows[0][0]).any()
    refused(partial(batch, 4), ValueError, "tokens: 11 windows of 9 tokens are used up before batch 4")


def test_consecutive_batches_predict_every_token_once():
    tokens = np.arange(100, dtype=np.uint8)
    batches = list(text.consecutive_batches(tokens, 4, 9))
    assert [len(inputs) for inputs, _ in batches] == [4, 4, 3]
    targets = np.concatenate([targets.ravel() for _, targets in batches])
    assert targets.tolist() == list(range(1, 100))
    spread = np.concatenate([inputs[:, 0] for inputs, _ in text.consecutive_batches(tokens, 4, 9, max_windows=3)])
    assert spread.tolist() == [0, 45, 90]
