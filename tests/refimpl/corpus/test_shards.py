"""A folder of shards as the corpus of a run, its damage, and its parts for a machine without network."""

import dataclasses
import math

import numpy as np
import pytest

from refimpl.corpus import texts as text_files
from refimpl.corpus.build import CorpusConfig, build
from refimpl.corpus.pack import pack, unpack
from refimpl.corpus.shards import INDEX, Joined, damaged, load_shards, read_index
from refimpl.training import loop
from refimpl.training.text import load_corpus
from refimpl.training.train import TrainConfig, train

pytest.importorskip("rensa")


@pytest.fixture
def corpus(texts, tmp_path, monkeypatch):
    """The folder of a corpus of 300 tokens, in several shards."""
    monkeypatch.setattr(text_files, "SHARD_BYTES", 20_000)
    build(texts, tmp_path / "corpus", CorpusConfig(vocab_size=300), processes=1)
    return tmp_path / "corpus"


@pytest.fixture
def config(corpus):
    return TrainConfig(
        corpus=str(corpus), vocab_size=300, window=32, batch_size=4, steps=3, dim=16, num_heads=2, evaluate_every=2
    )


def test_joined_tokens_slice_as_one_array():
    whole = np.arange(20)
    joined = Joined([whole[:5], whole[5:6], whole[6:6], whole[6:]])
    for start in range(-2, 22):
        for stop in range(-2, 25):
            assert np.array_equal(joined[start:stop], whole[start:stop]), (start, stop)
    assert len(joined) == 20
    assert np.array_equal(np.asarray(joined), whole)
    for odd in (3, slice(0, 9, 2)):
        with pytest.raises(TypeError, match="read by slices"):
            joined[odd]


def test_a_run_takes_the_folder_as_its_corpus(config, tmp_path):
    _, log = train(config, tmp_path / "run")
    assert [line["step"] for line in log] == [1, 2, 3]
    assert all(0 < line["training"] < 16 for line in log)
    more = dataclasses.replace(config, steps=5)
    _, log = train(more, tmp_path / "run", resume=True)
    assert len(log) == 5


def test_bits_per_byte_are_those_of_the_text(config):
    text = loop.load_text(config)
    uniform = lambda inputs, targets: math.log2(300)  # noqa: E731
    for part in ("held_out", "domain"):
        tokens = getattr(text, part)
        windows = (len(tokens) - 1) // config.window * config.window
        size = len(text.tokenizer.decode(tokens[1 : windows + 1]).encode())
        assert loop.evaluate(uniform, text, config, 10**6, part) == pytest.approx(math.log2(300) * windows / size)
    with pytest.raises(ValueError, match="part must be one of"):
        loop.evaluate(uniform, text, config, part="training")
    with pytest.raises(ValueError, match="no domain part"):
        loop.evaluate(uniform, text._replace(domain=None), config, part="domain")


def test_each_window_is_read_once(config):
    text = loop.load_text(config)
    windows = (len(text.training) - 1) // config.window
    steps = (len(text.training) - 1) // (config.window * config.batch_size)
    once = dataclasses.replace(config, once=True, steps=steps)
    batch = loop.load_text(once).batches(once)
    seen = np.concatenate([batch(number, None)[0] for number in range(1, steps + 1)])
    whole = np.asarray(text.training)[: windows * config.window].reshape(-1, config.window)
    assert len(np.unique(seen, axis=0)) == len(seen)
    assert {row.tobytes() for row in seen} <= {row.tobytes() for row in whole.astype(np.int64)}
    with pytest.raises(ValueError, match="once: "):
        loop.load_text(dataclasses.replace(once, steps=steps + 1))


def test_the_fingerprint_reads_no_shard(config, corpus, monkeypatch):
    text = loop.load_text(config)
    assert loop.load_text(config).fingerprint == text.fingerprint
    monkeypatch.setattr(loop.hashlib, "sha256", None)
    assert len(text.fingerprint) == 64
    monkeypatch.undo()
    index = (corpus / INDEX).read_text()
    (corpus / INDEX).write_text(index.replace(read_index(corpus)["parts"]["training"]["shards"][1]["sha256"], "0" * 64))
    assert loop.load_text(config).fingerprint != text.fingerprint


def test_another_number_of_tokens_is_refused(config):
    with pytest.raises(ValueError, match=r"vocab_size must be 300, as the token shards in .* have, got 256"):
        loop.load_text(dataclasses.replace(config, vocab_size=256))
    with pytest.raises(ValueError, match="another tokeniser than the weights"):
        loop.load_text(config, loop.learn_tokenizer("other words and other words", 260))


def test_shards_are_no_folder_of_text(corpus):
    for source in (corpus, f"kjv + {corpus}"):
        with pytest.raises(ValueError, match="holds token shards and no text"):
            load_corpus(source)


def test_a_damaged_shard_is_named(config, corpus):
    path, index = corpus / "training-0001.npy", read_index(corpus)
    data = path.read_bytes()
    for wrong in (data[:-2], data + b"\0\0", b"", b"odd"):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"the shard '.*training-0001\.npy' is damaged"):
            load_shards(corpus)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # of the same size: only checksums see it
    load_shards(corpus)
    assert [shard["file"] for shard in damaged(corpus, index)] == ["training-0001.npy"]
    with pytest.raises(ValueError, match=r"the shard '.*training-0001\.npy' is damaged"):
        pack(corpus, corpus.parent / "packed", processes=1)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks the file '.*training-0001\.npy'"):
        loop.load_text(config)


@pytest.mark.parametrize(("name", "text"), [(INDEX, "{}"), (INDEX, "odd"), ("tokenizer.json", '{"merges": []}')])
def test_a_damaged_index_or_tokeniser_is_named(corpus, name, text):
    (corpus / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        load_shards(corpus)


def test_parts_arrive_one_by_one(corpus, tmp_path, monkeypatch):
    (whole,) = pack(corpus, tmp_path / "whole", processes=1)
    sizes = {path.name: path.stat().st_size for path in whole.iterdir()}
    most = sizes.pop(INDEX) + sizes.pop("tokenizer.json") + 2 * max(sizes.values())
    monkeypatch.setattr("refimpl.corpus.pack.MIB", most)
    parts = pack(corpus, tmp_path / "packed", part_mib=1, processes=1)
    assert 1 < len(parts) < len(sizes)
    for part in parts:
        assert sum(path.stat().st_size for path in part.iterdir()) <= most
    assert pack(corpus, tmp_path / "packed", part_mib=1, processes=1) == parts
    for part in reversed(parts):
        missing = unpack([part], tmp_path / "again", processes=1)
        assert bool(missing) == (part != parts[0])
    assert load_shards(tmp_path / "again").digest == load_shards(corpus).digest
    assert not list(damaged(tmp_path / "again", read_index(corpus)))


def test_a_first_share_is_a_corpus_of_its_own(corpus, config, tmp_path):
    pack(corpus, tmp_path / "packed", tokens=100, processes=1)
    assert unpack([tmp_path / "packed"], tmp_path / "again", processes=1) == []
    first, whole = loop.load_text(dataclasses.replace(config, corpus=str(tmp_path / "again"))), loop.load_text(config)
    assert 100 <= len(first.training) < len(whole.training)
    assert np.array_equal(first.training[:], whole.training[: len(first.training)])
    assert np.array_equal(first.held_out, whole.held_out)
    assert first.fingerprint != whole.fingerprint
    assert read_index(tmp_path / "again")["parts"]["training"]["whole_part"]["tokens"] == len(whole.training)
    with pytest.raises(ValueError, match="tokens must be at most"):
        pack(corpus, tmp_path / "more", tokens=10**9, processes=1)


def test_wrong_parts_are_named(corpus, texts, tmp_path):
    (part,) = pack(corpus, tmp_path / "packed", processes=1)
    with pytest.raises(ValueError, match="out must be a folder without the parts of another corpus"):
        pack(corpus, tmp_path / "packed", tokens=100, processes=1)
    with pytest.raises(FileNotFoundError, match="parts: there is no packed part in"):
        unpack([tmp_path / "none"], tmp_path / "again")
    pack(corpus, tmp_path / "packed2", tokens=100, processes=1)
    with pytest.raises(ValueError, match="parts must be of one corpus"):
        unpack([tmp_path / "packed", tmp_path / "packed2"], tmp_path / "again")
    path = part / "held_out-0000.npy.xz"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"the packed shard '.*held_out-0000\.npy\.xz' is damaged"):
        unpack([part], tmp_path / "again", processes=1)
