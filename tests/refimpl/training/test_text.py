"""Corpora, splits, tokens and batches; what is missing, empty, binary or undecodable is named."""

import re

import numpy as np
import pytest

from refimpl.training import text
from refimpl.training.text import Corpus


def refused(error, message):
    return pytest.raises(error, match=re.escape(message))


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
    with refused(ValueError, "corpus must name each source once, and no two of one name, got 'kjv + kjv'"):
        text.load_corpus("kjv + kjv")
    with refused(FileNotFoundError, "corpus: there is no file or folder 'nowhere'"):
        text.load_corpus("kjv + nowhere")
    odd = tmp_path / "this + that.txt"
    odd.write_text("one file", encoding="utf-8")
    assert text.load_corpus(odd).text == "one file"


def test_bad_sources_are_named(tmp_path):
    missing, empty, binary, latin = (tmp_path / name for name in ("missing", "empty.txt", "photo.png", "latin.txt"))
    with refused(FileNotFoundError, f"corpus: there is no file or folder {str(missing)!r}"):
        text.load_corpus(missing)
    with refused(FileNotFoundError, f"corpus: no file in the folder {str(tmp_path)!r} fits the pattern '*'"):
        text.load_corpus(tmp_path)
    empty.write_bytes(b"\xef\xbb\xbf \n")  # a byte-order mark is no text
    with refused(ValueError, f"corpus: the file {str(empty)!r} is empty"):
        text.load_corpus(empty)
    binary.write_bytes(b"\x89PNG of many bytes\0\0")
    with refused(ValueError, f"corpus: the file {str(binary)!r} is binary (NUL byte at offset 18), not text"):
        text.load_corpus(binary)
    latin.write_bytes("café".encode("latin-1"))
    with refused(ValueError, f"corpus: the file {str(latin)!r} is not UTF-8 (byte 0xe9 at offset 3)"):
        text.load_corpus(latin)
    with refused(ValueError, str(empty)):  # one bad file of a folder is named too
        text.load_corpus(tmp_path)


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
    with refused(ValueError, "corpus must hold at least one document, 'none' holds none"):
        text.split_by_book(Corpus("none", {}))
    with refused(ValueError, "corpus: 'a' is one document without a line break to split at"):
        text.split_by_book(Corpus("one", {"a": "no break"}))
    for share in (0, 1, float("nan")):
        with refused(ValueError, f"held_out must lie in (0, 1), got {share!r}"):
            text.split_by_book(two, share)


def test_bytes_there_and_back():
    for string in ("", "In the beginning", "naïve Δ 🜂"):
        assert text.decode(text.encode(string)) == string
    assert text.decode([]) == ""
    assert text.encode("é").tolist() == [0xC3, 0xA9]
    assert text.decode(np.array([0x41, 0xC3])) == "A\ufffd"
    with refused(TypeError, "text must be a str, got bytes"):
        text.encode(b"x")
    with refused(TypeError, "tokens must be integers, got float64"):
        text.decode(np.array([1.0]))
    with refused(ValueError, "tokens must lie in [0, 256), got 7 to 256"):
        text.decode(np.array([7, 256]))


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
    with refused(ValueError, "batch_size must be at least 1, got 0"):
        text.random_batch(tokens, 0, 10, np.random.default_rng(0))
    with refused(TypeError, "tokens must be integers, got float64"):
        text.random_batch(tokens / 2, 1, 10, np.random.default_rng(0))
    with refused(ValueError, "tokens: a window of 10 tokens and its targets needs 11, got 10"):
        text.random_batch(tokens[:10], 1, 10, np.random.default_rng(0))


def test_consecutive_batches_predict_every_token_once():
    tokens = np.arange(100, dtype=np.uint8)
    batches = list(text.consecutive_batches(tokens, 4, 9))
    assert [len(inputs) for inputs, _ in batches] == [4, 4, 3]
    targets = np.concatenate([targets.ravel() for _, targets in batches])
    assert targets.tolist() == list(range(1, 100))
    spread = np.concatenate([inputs[:, 0] for inputs, _ in text.consecutive_batches(tokens, 4, 9, max_windows=3)])
    assert spread.tolist() == [0, 45, 90]
