"""A run that starts from trained weights takes those of a run's folder or of a file, and says what is wrong with others."""

import dataclasses
import re

import numpy as np
import pytest

import refimpl
from refimpl.training.bpe import learn_tokenizer
from refimpl.training.start import BEST, load_start
from refimpl.training.train import TrainConfig
from refimpl.weights import save_params

SMALL = {"dim": 16, "num_layers": 1, "num_heads": 2}


def weights(path, **changes):
    """Write weights of a small model; returns (params, config)."""
    config = dataclasses.replace(TrainConfig(**SMALL).retnet, **changes)
    save_params(path, params := refimpl.init_params(config, 3), config)
    return params, config


@pytest.mark.parametrize("named", ["the folder", "the file"])
def test_weights_come_with_their_settings_and_their_tokenizer(tmp_path, named):
    tokenizer = learn_tokenizer("in the beginning was the word, and the word was with", 260)
    params, config = weights(tmp_path / BEST, vocab_size=260, rotation=None)
    tokenizer.save(tmp_path / "tokenizer.json")
    start = load_start(tmp_path if named == "the folder" else tmp_path / BEST)
    assert (start.path, start.config, start.tokenizer) == (tmp_path / BEST, config, tokenizer)
    np.testing.assert_equal(start.params, params)
    assert start.settings["rotation"] == "none"
    own = TrainConfig(**start.settings)
    assert own.retnet == config
    start.check(own)
    with pytest.raises(
        ValueError, match=r"^dim must be 16 as in the weights '.*best\.safetensors', or left out, got 32$"
    ):
        start.check(dataclasses.replace(own, dim=32, key_dim=None, value_dim=None, ffn_dim=None))


def test_a_model_without_a_recurrent_form_has_no_settings(tmp_path):
    weights(tmp_path / BEST, score_norm="sum")
    with pytest.raises(ValueError, match=r"^from_weights must be of a model without a score_norm, .* has 'sum'"):
        load_start(tmp_path).settings  # noqa: B018


def test_what_is_no_start_is_named(tmp_path):
    (tmp_path / "text").write_text("no weights")
    (tmp_path / "empty").mkdir()
    weights(tmp_path / "large.safetensors", vocab_size=300)
    for path, error, message in (
        ("", ValueError, "from_weights must be the path of a file or folder, got ''"),
        (tmp_path / "none", FileNotFoundError, f"from_weights: there is no file or folder '{tmp_path}/none'"),
        (tmp_path / "text", ValueError, "from_weights must be "),
        (tmp_path / "empty", ValueError, "from_weights must be "),
        (tmp_path / "large.safetensors", ValueError, "from_weights: weights must be of a model over 256 tokens, as "),
    ):
        with pytest.raises(error, match="^" + re.escape(message)):
            load_start(path)
