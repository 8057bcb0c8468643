"""Byte pairs: what is learnt, that nothing is lost, and that losses are counted in bytes."""

import dataclasses
import re
from itertools import pairwise

import numpy as np
import pytest

from refimpl.training.bpe import Tokenizer, learn_tokenizer
from refimpl.training.loop import Text, evaluate, fit, load_text
from refimpl.training.text import encode, load_corpus, split_by_book
from refimpl.training.train import TrainConfig, train

ODD = "Hé, 東京!  \n\tΩ _x_ 12.5 the the\r\nthe end\x00"


def naive_merges(text, count):
    """The most frequent pair inside words, recounted from nothing each time; words without punctuation."""
    words = [list(f" {word}".encode()) for word in text.split(" ")]
    words[0] = words[0][1:]
    merges = []
    for new in range(256, 256 + count):
        seen = {}
        for word in words:
            for pair in pairwise(word):
                seen[pair] = seen.get(pair, 0) + 1
        best = min(seen, key=lambda pair: (-seen[pair], pair))
        merges.append(best)
        for word in words:
            n = 0
            while n < len(word) - 1:
                if (word[n], word[n + 1]) == best:
                    word[n : n + 2] = [new]
                n += 1
    return tuple(merges)


def test_merges_are_those_of_a_recount():
    words = [verse for verse in load_corpus().documents["Jonah"].replace("\n", " ").split(" ") if verse.isalpha()]
    text = " ".join(words)
    assert learn_tokenizer(text, 256 + 120).merges == naive_merges(text, 120)


def test_nothing_is_lost_and_tokens_are_fewer():
    train_part, held_out = split_by_book(load_corpus())
    tokenizer = learn_tokenizer(train_part.documents["Genesis"], 512)
    assert learn_tokenizer(train_part.documents["Genesis"], 512) == tokenizer
    for text in (ODD, held_out.text[:50000], "", "x"):
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == text
        assert tokenizer.lengths[tokens].sum() == len(text.encode())
    assert len(tokenizer.encode(held_out.text[:50000])) < 0.5 * 50000
    assert b" the" in tokenizer.pieces


def test_encoding_takes_the_merges_in_their_order():
    """The merges are (b, c), (a, b): in abc the first wins, though the second would come sooner from the left."""
    assert Tokenizer(((98, 99), (97, 98))).encode("abcab").tolist() == [97, 256, 257]


def test_byte_zero_is_a_token_like_any_other():
    """It may stand on either side of a pair."""
    assert learn_tokenizer("\0\0 \0\0", 257).merges == ((0, 0),)
    tokenizer = Tokenizer(((0, 33), (256, 0)))
    assert tokenizer.encode("\0!\0").tolist() == [257]
    assert tokenizer.decode([257, 0]) == "\0!\0\0"


def test_without_merges_it_is_the_byte_tokeniser():
    assert learn_tokenizer("anything") == Tokenizer()
    assert np.array_equal(Tokenizer().encode(ODD), encode(ODD))
    assert Tokenizer().lengths.tolist() == [1] * 256


def test_there_and_back_as_a_file(tmp_path):
    tokenizer = learn_tokenizer("the hen then the hen", 258)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json") == tokenizer
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="path must be a tokeniser's file"):
        Tokenizer.load(tmp_path / "other.json")


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="vocab_size must be at least 256, got 255"):
        learn_tokenizer("text", 255)
    with pytest.raises(ValueError, match="vocab_size must be at most 256 for this text, in which no pair occurs twice"):
        learn_tokenizer("once", 300)
    for pair in ((256, 1), (-1, 0), (0, -1)):
        message = re.escape(f"merges: merge 0 must be of tokens below 256, got {pair}")
        with pytest.raises(ValueError, match=message):
            Tokenizer((pair,))
    with pytest.raises(ValueError, match=r"tokens must lie in \[0, 256\), got 3 to 256"):
        Tokenizer().decode([3, 256])


def test_losses_are_in_bits_a_byte(tmp_path):
    """A model that always pays 3 bits a token pays 3 tokens / bytes a byte; training lines say the same."""
    config = TrainConfig(vocab_size=300, window=16, batch_size=4, steps=3, evaluate_every=3)
    tokenizer = learn_tokenizer("the hen then the hen and then the other hen thereof", 262)
    tokens = tokenizer.encode("the hen then the other " * 40)
    text = Text(tokens, tokens, tokenizer)
    windows = (len(tokens) - 1) // 16 * 16
    want = 3 * windows / tokenizer.lengths[tokens[1 : windows + 1]].sum()
    assert 0 < want < 2
    assert evaluate(lambda *_: 3.0, text, config) == pytest.approx(want)
    targets = []
    log = fit(config, lambda _, y, rate: (targets.append(y) or 3.0, rate), lambda *_: 3.0, tmp_path, text=text)
    for line, batch in zip(log, targets, strict=True):
        assert line["training"] == pytest.approx(
            3 * batch.size / len(b"".join(tokenizer.pieces[t] for t in batch.flat))
        )
    assert log[-1]["held_out"] == pytest.approx(want)


def test_a_model_over_pairs_learns(tmp_path):
    path = tmp_path / "abc.txt"
    path.write_text("abcabcabc abc\n" * 600)
    config = TrainConfig(
        corpus=str(path), vocab_size=258, dim=16, num_layers=1, num_heads=2, batch_size=4, window=16, steps=40,
        learning_rate=0.02, warmup=2,
    )  # fmt: skip
    text = load_text(config)
    assert text.training.max() > 255
    params, log = train(config, tmp_path / "run")
    assert params["embedding"].shape == (258, 16)
    assert log[-1]["held_out"] < 1.0
    assert dataclasses.asdict(config)["vocab_size"] == 258


def test_runs_of_white_space_become_tokens_and_old_tokenisers_stay_as_they_were():
    text = "if a:\n        b = 1\n        c = 2\n\n\tx  y\n" * 3
    tokenizer = learn_tokenizer(text, 268)
    assert any(piece.isspace() and len(piece) > 4 for piece in tokenizer.pieces)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    old = Tokenizer(((32, 98), (105, 102)))  # " b" and "if": no pair of white space
    assert old.encode("if  b\n\n").tolist() == [257, 32, 256, 10, 10]
