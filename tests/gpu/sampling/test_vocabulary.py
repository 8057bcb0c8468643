"""`python -m gpu generate --weights`: any folder or file of a RetNet, in text by its vocabulary or in ids of tokens."""

import json
import sys
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import gpu.__main__ as program
from gpu.models.retnet import RetNet
from gpu.sampling import vocabulary
from gpu.sampling.generate import generate
from refimpl import RetNetConfig, init_params
from refimpl.interop import save_folder, to_torchscale
from refimpl.interop.files import read_safetensors
from refimpl.training.bpe import Tokenizer, learn_tokenizer
from refimpl.training.text import encode

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = {"vocab_size": 256, "dim": 16, "num_layers": 2, "num_heads": 2, "rotation": "rotary"}


def command(weights, *arguments):
    options = ["--weights", str(weights), "--device", "cpu", "--tokens", "8", "--temperature", "0"]
    result = CliRunner().invoke(program.app, ["generate", *options, *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model over bytes as flash-linear-attention keeps it."""
    config = RetNetConfig(**SHAPE)
    path = tmp_path_factory.mktemp("weights") / "fla"
    save_folder(path, init_params(config, seed=3), config)
    return path


def test_every_form_of_the_same_weights_writes_the_same(folder, tmp_path):
    """Halves too: their text is that of the same halves in float32."""
    state_dict = {key: torch.from_numpy(value) for key, value in read_safetensors(folder / "model.safetensors").items()}
    halves = {key: value.bfloat16() for key, value in state_dict.items()}
    rounded = {key: value.float() for key, value in halves.items()}
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())

    def written(name, content):
        save = torch.save if name.endswith(("bin", "pt")) else safetensors.torch.save_file
        save(content, tmp_path / name)
        return command(tmp_path / name, "In the")

    want = command(folder, "In the")
    assert want.startswith("In the")
    assert written("pytorch_model.bin", {f"module.{key}": value for key, value in state_dict.items()}) == want
    assert command(tmp_path, "In the") == want
    assert written("halves.safetensors", halves) == written("halves.pt", halves) == written("f.pt", rounded)


def test_own_folders_and_files(tmp_path):
    model = RetNet(RetNetConfig(**SHAPE), seed=4)
    model.save(tmp_path / "weights.safetensors")
    prompt = torch.from_numpy(encode("In the").astype("int64"))[None]
    ids = generate(model, prompt, 8, temperature=0).tokens[0].tolist()
    assert command(tmp_path, "In the") == command(tmp_path / "weights.safetensors", "In the")
    words = " ".join(map(str, ids))
    assert command(tmp_path, " ".join(map(str, ids[:6])), "--ids") == f"{words}\n"
    with pytest.raises(ValueError, match="prompt must be ids of tokens with spaces between them, got 'In the'"):
        command(tmp_path, "In the", "--ids")
    with pytest.raises(ValueError, match=r"tokens must lie in \[0, 256\), got 256"):
        command(tmp_path, "1 256", "--ids")


def test_byte_pairs_beside_the_weights(tmp_path):
    tokenizer = learn_tokenizer("the hen and the other hen", 260)
    tokenizer.save(tmp_path / "tokenizer.json")
    RetNet(RetNetConfig(**SHAPE | {"vocab_size": 260}), seed=4).save(tmp_path / "weights.safetensors")
    assert command(tmp_path, "the hen").startswith("the hen")
    RetNet(RetNetConfig(**SHAPE | {"vocab_size": 261}), seed=4).save(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"over 260 tokens, as '.*tokenizer\.json' says, got 261; with --ids"):
        command(tmp_path, "the hen")


def test_a_vocabulary_that_is_not_here(tmp_path, monkeypatch):
    RetNet(RetNetConfig(**SHAPE | {"vocab_size": 300}), seed=4).save(tmp_path / "weights.safetensors")
    with pytest.raises(
        ValueError, match=r"must be of a model over 256 tokens, as bytes are, for there is no '.*', got 300; with --ids"
    ):
        command(tmp_path, "a")
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "BPE", "merges": []}}))
    monkeypatch.setattr(vocabulary, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"tokenizer\.json', which the package tokenizers reads: install it; or"):
        command(tmp_path, "a")
    assert command(tmp_path, "1 2", "--ids").startswith("1 2 ")


class Words:
    """What is used of the library tokenizers: ids of words, and a first id that is no word and is not written."""

    def __init__(self, size):
        self.size, self.longest, self.padding = size, 1, [7]  # as training may have left them

    def get_vocab_size(self):
        return self.size

    def no_truncation(self):
        self.longest = None

    def no_padding(self):
        self.padding = []

    def encode(self, text):
        return SimpleNamespace(ids=[0, *(int(word[1:]) for word in text.split())][: self.longest] + self.padding)

    def decode(self, ids):
        words = [f"w{token}" for token in ids[1:]]
        return " ".join(
            [*words[:-1], "\ufffd"] if ids[-1] % 2 == 0 else words
        )  # the last half of an even token is to come


def test_a_hub_s_tokenizer(tmp_path, monkeypatch):
    """Words are written with the space between them; one whose last character is not whole waits for the next."""
    model = RetNet(RetNetConfig(**SHAPE | {"vocab_size": 300}), seed=4)
    model.save(tmp_path / "weights.safetensors")
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "BPE"}}))
    library = SimpleNamespace(Tokenizer=SimpleNamespace(from_file=lambda path: Words(299)))  # embeddings may be padded
    monkeypatch.setitem(sys.modules, "tokenizers", library)
    monkeypatch.setattr(vocabulary, "find_spec", lambda _: True)
    prompts, ends = ["w5 w9", "w11", "w3", "w201"], set()
    for prompt in prompts:
        ids = torch.tensor([[0, *(int(word[1:]) for word in prompt.split())]])
        want = Words(299).decode(generate(model, ids, 8, temperature=0).tokens[0].tolist())
        ends.add(want[-1] == "\ufffd")
        assert command(tmp_path, prompt) == command(tmp_path, prompt, "--stream") == f"{want}\n"
    assert ends == {False, True}
    both = command(tmp_path, *prompts)
    assert both == "\n\n".join(command(tmp_path, prompt).rstrip("\n") for prompt in prompts) + "\n"
    library.Tokenizer.from_file = lambda path: Words(301)
    with pytest.raises(ValueError, match="must be of a model over 301 tokens"):
        command(tmp_path, "w1")


@pytest.mark.parametrize("text", ['{"version": "1.0"}', "{}", "[1]", "{", '{"model": 3}'])
def test_a_tokenizer_json_that_is_none(tmp_path, monkeypatch, text):
    def refuse(path):
        raise Exception("data did not match any variant")  # as the library does

    monkeypatch.setitem(sys.modules, "tokenizers", SimpleNamespace(Tokenizer=SimpleNamespace(from_file=refuse)))
    monkeypatch.setattr(vocabulary, "find_spec", lambda _: True)
    RetNet(RetNetConfig(**SHAPE), seed=4).save(tmp_path / "weights.safetensors")
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=r"^tokenizer\.json must (be|hold) .*'.*tokenizer\.json'"):
        command(tmp_path, "a")


OTHERS = (
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "qwen.tiktoken",
)


@pytest.mark.parametrize("name", OTHERS)
def test_a_tokenizer_in_another_form_is_not_taken_for_bytes(tmp_path, name):
    RetNet(RetNetConfig(**SHAPE), seed=4).save(tmp_path / "weights.safetensors")
    assert command(tmp_path, "a").startswith("a")
    (tmp_path / name).write_text("{}")
    message = rf"^weights must come with their tokenizer as tokenizer\.json, got {name} in '"
    for weights in (tmp_path, tmp_path / "weights.safetensors"):
        with pytest.raises(ValueError, match=message):
            command(weights, "a")
    with pytest.raises(ValueError, match=message):
        Tokenizer.beside(tmp_path / "weights.safetensors", 256)
    assert command(tmp_path, "1 2", "--ids").startswith("1 2 ")


def test_a_tokenizer_json_that_leads_to_nothing(tmp_path):
    RetNet(RetNetConfig(**SHAPE), seed=4).save(tmp_path / "weights.safetensors")
    (tmp_path / "tokenizer.json").symlink_to("nothing")
    with pytest.raises(ValueError, match=r"^tokenizer\.json must be a file; '"):
        command(tmp_path, "a")
    with pytest.raises(FileNotFoundError):
        Tokenizer.beside(tmp_path / "weights.safetensors", 256)


def test_errors_are_in_the_words_of_the_options(tmp_path, folder):
    with pytest.raises(ValueError, match=r"^weights must be a file of weights or a folder with one of "):
        command(tmp_path, "a")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ValueError, match=r"^weights must be a file of safetensors or of torch\.save; '"):
        command(tmp_path / "a.txt", "a")
    weights = read_safetensors(folder / "model.safetensors")
    safetensors.torch.save_file(
        {key: torch.from_numpy(value) for key, value in weights.items()}, tmp_path / "w.safetensors"
    )
    with pytest.raises(
        ValueError, match=r"^weights must come with a config\.json beside them .*norm_eps must be given"
    ):
        command(tmp_path / "w.safetensors", "a")
    config = RetNetConfig(vocab_size=256, dim=16, num_layers=1, num_heads=2, row_norm=True)
    theirs = {key: torch.from_numpy(value) for key, value in to_torchscale(init_params(config), config).items()}
    torch.save(theirs, tmp_path / "bare.pt")
    with pytest.raises(ValueError, match=r"^weights must come with a config\.json .*: activation_fn, layernorm_eps, "):
        command(tmp_path / "bare.pt", "a")
    settings = {"activation_fn": "swish", "layernorm_eps": 1e-6, "no_scale_embedding": True}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert command(tmp_path / "bare.pt", "a").startswith("a")
