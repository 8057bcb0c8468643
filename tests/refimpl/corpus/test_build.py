"""A build: what is kept and what is dropped, the split by file, and that a build which was stopped comes to the same bytes."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from drawn_texts import prose
from paths import ROOT
from typer.testing import CliRunner

import refimpl.__main__
from refimpl.corpus import build as building
from refimpl.corpus import texts as text_files
from refimpl.corpus.build import CorpusConfig, build
from refimpl.corpus.recode import as_bytes, mixed
from refimpl.corpus.shards import PARTS, damaged, load_shards, read_index
from refimpl.corpus.sources import local
from refimpl.training.text import load_corpus, split_by_book

pytest.importorskip("rensa")
CONFIG = CorpusConfig(vocab_size=300, seed=1)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of 20 kB, so that there are several."""
    monkeypatch.setattr(text_files, "SHARD_BYTES", 20_000)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def documents(folder, part):
    lines = map(json.loads, (folder / "documents.jsonl").read_text().splitlines())
    return [path for name, _, path, _ in lines if name == part]


def test_what_is_kept_and_what_is_dropped(texts, tmp_path):
    index = build(texts, tmp_path / "out", CONFIG, processes=1)
    kept = {name: documents(tmp_path / "out", name) for name in PARTS}
    assert sorted(kept["domain"]) == ["entry0.txt", "entry1.txt", "entry2.txt", "shared.txt"]
    rest = kept["training"] + kept["held_out"]
    names = {f"text{i:02d}.txt" for i in range(30) if i != 5}
    # Of copies the first in the order of paths is kept: deep/copy.txt and deep/near.txt come before text03 and text04.
    assert set(rest) == names - {"text03.txt", "text04.txt"} | {"deep/copy.txt", "deep/near.txt", "deep/page.html"}
    assert len(set(rest)) == len(rest)
    origin = index["sources"][0]
    assert origin["dropped"] == {"binary": 1, "tiny": 1}
    assert origin["duplicates"] == {"exact": 2, "near": 1}
    assert origin["kept_bytes"]["domain"] == 0 < origin["kept_bytes"]["held_out"]


def test_no_held_out_text_is_in_the_training_part(texts, tmp_path):
    build(texts, tmp_path / "out", CONFIG, processes=1)
    shards = load_shards(tmp_path / "out")
    training = shards.tokenizer.decode(shards.training[:])
    for part in ("held_out", "domain"):
        names = documents(tmp_path / "out", part)
        assert names
        tokens = getattr(shards, part)
        found = shards.tokenizer.decode(tokens)
        passages = [each for each in found.split("\n\n") if len(each) > 100]
        assert len(passages) == len(names)
        assert all(each[:60] not in training and each[-60:] not in training for each in passages)


def test_counts_are_those_of_the_text(texts, tmp_path):
    index = build(texts, tmp_path / "out", CONFIG, processes=1)
    shards = load_shards(tmp_path / "out")
    assert len(index["parts"]["training"]["shards"]) > 2
    for name in PARTS:
        part, tokens = index["parts"][name], getattr(shards, name)
        assert part["tokens"] == len(tokens) == sum(shard["tokens"] for shard in part["shards"])
        assert part["bytes"] == shards.tokenizer.lengths[tokens[:]].sum()
        assert part["documents"] == len(documents(tmp_path / "out", name))
        assert all(shard["bytes"] <= 20_000 for shard in part["shards"])
    assert not list(damaged(tmp_path / "out", index))
    assert index["settings"] == dataclasses.asdict(CONFIG)


def test_two_processes_and_another_folder_make_no_difference(texts, tmp_path, monkeypatch):
    monkeypatch.undo()  # other processes have the usual size
    build(texts, tmp_path / "one", CONFIG, processes=1)
    build(texts, tmp_path / "two", CONFIG, processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("stop", ["clean", "find_duplicates", "learn_tokenizer", "_shard", "digest_of"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_build_that_was_stopped_comes_to_the_same_bytes(texts, tmp_path, monkeypatch, stop, after):
    build(texts, tmp_path / "whole", CONFIG, processes=1)
    module = text_files if stop == "clean" else building
    works, calls = getattr(module, stop), []

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return works(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, stop, stopping)
        if after == 0 or stop not in ("find_duplicates", "learn_tokenizer"):
            with pytest.raises(KeyboardInterrupt):
                build(texts, tmp_path / "out", CONFIG, processes=1)
    build(texts, tmp_path / "out", CONFIG, processes=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_processes_of_a_build_that_was_killed_end():
    """They hold its standard output, which ends when the last of them does."""
    script = """
import time
from refimpl.corpus.texts import workers
with workers(2) as run:
    jobs = run(time.sleep, [0, 0, 600, 600])
    next(jobs), next(jobs)
    print("at work", flush=True)
    next(jobs)
"""
    command = [sys.executable, "-P", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": f"{ROOT}"}) as process:
        assert process.stdout.readline() == b"at work\n"
        process.kill()
        assert process.communicate(timeout=60)[0] == b""


def test_a_finished_build_is_not_repeated(texts, tmp_path):
    index = build(texts, tmp_path / "out", CONFIG, processes=1)
    (tmp_path / "texts" / "text00.txt").unlink()
    assert build(texts, tmp_path / "out", CONFIG, processes=1) == index


def test_a_text_longer_than_a_shard_is_cut_after_a_line(tmp_path):
    (tmp_path / "long").mkdir()
    (tmp_path / "long" / "a.txt").write_text(prose(1, 9000))
    (tmp_path / "long" / "b.txt").write_text("é" * 30_000)
    for i in range(9):
        (tmp_path / "long" / f"c{i}.txt").write_text(prose(10 + i))
    index = build([local(tmp_path / "long")], tmp_path / "out", CorpusConfig(vocab_size=256), processes=1)
    shards = load_shards(tmp_path / "out")
    text = shards.tokenizer.decode(shards.training[:])
    assert text.replace("\n", "").count(prose(1, 9000).replace("\n", "")) == 1
    assert "é" * 30_000 not in text  # it repeats itself
    assert max(shard["bytes"] for shard in index["parts"]["training"]["shards"]) <= 20_000
    assert shards.training.dtype == np.uint16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 70_000}, "vocab_size must be at most 65536"),
        ({"vocab_size": 100}, "vocab_size must be at least 256"),
        ({"held_out": 0.0}, "held_out must lie in"),
        ({"similarity": 1.5}, "similarity must lie in"),
        ({"sample_bytes": 0}, "sample_bytes must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        CorpusConfig(**settings)


def test_what_cannot_be_built_says_why(texts, tmp_path):
    build(texts, tmp_path / "out", CONFIG, processes=1)
    with pytest.raises(ValueError, match="out must be a folder without another corpus"):
        build(texts, tmp_path / "out", CorpusConfig(vocab_size=301), processes=1)
    other = tmp_path / "elsewhere" / "texts"
    other.mkdir(parents=True)
    with pytest.raises(ValueError, match="out must be a folder without another corpus"):  # not: this one is finished
        build([local(other), texts[1]], tmp_path / "out", CONFIG, processes=1)
    with pytest.raises(ValueError, match="sources must be given, each of a name of its own, got texts, texts"):
        build([texts[0], texts[0]], tmp_path / "two", CONFIG, processes=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="sources must leave two texts or more"):
        build([local(tmp_path / "empty")], tmp_path / "three", CONFIG, processes=1)
    with pytest.raises(ValueError, match="vocab_size must be at most"):
        build(texts, tmp_path / "four", CorpusConfig(vocab_size=60_000), processes=1)


def test_the_commands_build_show_pack_and_unpack(texts, tmp_path):
    def retnet(*words):
        done = CliRunner().invoke(refimpl.__main__.app, ["corpus", *map(str, words)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    out = tmp_path / "out"
    paths = ("--folder", texts[0].path, "--domain", texts[1].path)
    printed = retnet("build", *paths, "--out", out, "--vocab-size", 300, "--processes", 1)
    assert "exact" in printed
    index = read_index(out)
    assert index["command"] == "python -m refimpl corpus build --folder texts --domain dictionary --vocab-size 300"
    assert "every shard has its checksum" in retnet("show", out, "--check", "--passages", 1)
    assert "1 parts" in retnet("pack", out, "--out", tmp_path / "packed", "--processes", 1)
    assert "complete" in retnet("unpack", tmp_path / "packed", "--out", tmp_path / "again", "--processes", 1)
    assert read_index(tmp_path / "again") == index
    assert "bytes" in retnet("recode", out, "--out", tmp_path / "bytes", "--processes", 1)
    assert "every shard has its checksum" in retnet("show", tmp_path / "bytes", "--check")
    (tmp_path / "added.txt").write_text("abba abc\n\n" * 99)
    assert "mixed" in retnet(
        "mix", tmp_path / "added.txt", tmp_path / "bytes", "--out", tmp_path / "mixed", "--times", 2
    )
    assert read_index(tmp_path / "mixed")["settings"]["times"] == 2


def test_mixed_shards_hold_a_corpus_beside_those_of_a_folder(texts, tmp_path):
    for name, line in (("a", "abba abc\n"), ("b", "xyz xyz\n")):
        (tmp_path / f"{name}.txt").write_text(line * 40)
    corpus = f"{tmp_path / 'a.txt'} + {tmp_path / 'b.txt'}"
    training, held_out = (
        np.frombuffer(part.text.encode(), np.uint8) for part in split_by_book(load_corpus(corpus), 0.1)
    )
    build(texts, tmp_path / "bytes", dataclasses.replace(CONFIG, vocab_size=256), processes=1)
    mixed(tmp_path / "bytes", corpus, tmp_path / "mixed", times=2, shards=1)
    old, new, index = (load_shards(tmp_path / "bytes"), load_shards(tmp_path / "mixed"), read_index(tmp_path / "mixed"))
    assert np.array_equal(new.training, np.concatenate((training, training, old.training.arrays[0])))
    assert np.array_equal(new.held_out, np.concatenate((held_out, old.held_out)))
    assert np.array_equal(new.domain, old.domain)
    assert index["parts"]["training"]["tokens"] == len(new.training)
    assert not list(damaged(tmp_path / "mixed", index))
    with pytest.raises(ValueError, match="out must be a folder without shards, "):
        mixed(tmp_path / "bytes", corpus, tmp_path / "mixed")
    build(texts, tmp_path / "tokens", CONFIG, processes=1)
    with pytest.raises(ValueError, match=r"folder must hold bytes, .* has 300 tokens; recode it"):
        mixed(tmp_path / "tokens", corpus, tmp_path / "more")


def test_shards_as_bytes_are_those_of_a_build_of_bytes(texts, tmp_path):
    build(texts, tmp_path / "tokens", CONFIG, processes=1)
    found = as_bytes(tmp_path / "tokens", tmp_path / "bytes", processes=1)
    wanted = build(texts, tmp_path / "built", dataclasses.replace(CONFIG, vocab_size=256), processes=1)
    assert found["parts"] == wanted["parts"]
    assert found["tokenizer"]["sha256"] == wanted["tokenizer"]["sha256"]
    assert load_shards(tmp_path / "bytes").digest == load_shards(tmp_path / "built").digest
    with pytest.raises(ValueError, match="out must be a folder without shards, "):
        as_bytes(tmp_path / "tokens", tmp_path / "bytes", processes=1)
