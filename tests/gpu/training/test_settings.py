"""A setting of a wrong type is refused by name where it enters: in Python, in a TOML file, of a run, a model or a study."""

import dataclasses
import re
import typing

import numpy as np
import pytest

from gpu.bench.config import BenchmarkConfig
from gpu.models.baseline import BaselineConfig
from gpu.training.config import RunConfig, read_settings, to_toml
from gpu.training.study import read_study
from refimpl import RetNetConfig
from refimpl.config import FEED_FORWARDS
from refimpl.rotation import LADDERS
from refimpl.training.settings import run_config
from refimpl.training.train import TrainConfig

# Values of every kind that TOML or a caller has.
VALUES = {
    "int": 8, "float": 8.0, "str": "8", "bool": True, "None": None, "list": [8], "dict": {"a": 8}, "bytes": b"8",
    "complex": 8j, "array": np.array([8, 8]), "set": {8}, "class": int, "object": object(),
}  # fmt: skip
TAKES = {int: {"int"}, float: {"int", "float"}, str: {"str"}, bool: {"bool"}}


def kinds(config):
    """{name of a field: names of the kinds of values that it takes} of a dataclass of settings."""
    for name, hint in typing.get_type_hints(config).items():
        if typing.get_origin(hint) is tuple:
            yield name, {"list"}
            continue
        kind, *none = typing.get_args(hint) or (hint,)
        yield (
            name,
            TAKES[kind] | ({"None"} if none else set()) | ({"int", "float"} if name == "gamma_schedule" else set()),
        )


FIELDS = [
    pytest.param(config, name, taken, id=f"{config.__name__}.{name}")
    for config in (TrainConfig, RunConfig, BaselineConfig, BenchmarkConfig)
    for name, taken in kinds(config)
]


def refused(config, name, value):
    """The error names the setting, not what failed later."""
    with pytest.raises((TypeError, ValueError), match=rf"^{name} must ") as error:
        config(**{name: value})
    assert re.search(r", got ", f"{error.value}")


@pytest.mark.parametrize(("config", "name", "taken"), FIELDS)
def test_a_run_refuses_what_is_of_another_kind(config, name, taken):
    for kind in VALUES.keys() - taken:
        refused(config, name, VALUES[kind])


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RetNetConfig)])
def test_a_model_refuses_what_is_of_another_kind(name):
    default = getattr(RetNetConfig(), name)
    taken = TAKES[type(default)] if default is not None else set()
    taken = taken | {
        "gamma_schedule": set(), "rotation": {"None"}, "group_norm": {"None"}, "score_norm": {"None"},
        "key_dim": {"None"}, "value_dim": {"None"}, "ffn_dim": {"None"},
    }.get(name, set())  # fmt: skip
    for kind in VALUES.keys() - taken | {"str"}:  # "8" is no choice of any
        refused(RetNetConfig, name, VALUES[kind])


@pytest.mark.parametrize(
    ("name", "value"), [("times", ["8"]), ("batches", [True]), ("models", [8]), ("contexts", (8.0,))]
)
def test_each_of_several_values_is_checked(name, value):
    refused(BenchmarkConfig, name, value)


def test_numbers_beyond_what_libraries_take_are_refused_at_the_door():
    refused(RunConfig, "learning_rate", 10**400)
    refused(RunConfig, "seed", 2**63)
    assert RunConfig(seed=2**63 - 1).seed == 2**63 - 1


def test_numpy_s_numbers_become_python_s():
    """They go to JSON and TOML."""
    config = RunConfig(steps=np.int64(3), learning_rate=np.float32(0.5), embedding_scale=2)
    assert [type(value) for value in (config.steps, config.learning_rate, config.embedding_scale)] == [
        int,
        float,
        float,
    ]
    assert to_toml(config) == to_toml(RunConfig(steps=3, learning_rate=0.5, embedding_scale=2.0))
    model = RetNetConfig(dim=np.int32(8), norm_eps=np.float64(1e-5))
    assert [type(value) for value in (model.dim, model.norm_eps)] == [int, float]


@pytest.mark.parametrize("line", ["true", "9.0", '"9"', "[9]", "{a = 9}", "1979-05-27", "nan"])
def test_a_file_too(line, tmp_path):
    (tmp_path / "run.toml").write_text(f"steps = {line}\n")
    with pytest.raises(TypeError, match=r"^steps must be an integer, got "):
        run_config(RunConfig, tmp_path, False, {}, tmp_path / "run.toml")
    (tmp_path / "run.toml").write_text(f"steps = {line}\n[variants.RetNet]\n")
    with pytest.raises(TypeError, match=r"^steps must be an integer, got "):
        read_study(tmp_path / "run.toml")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    """As Windows writes it."""
    (tmp_path / "run.toml").write_text("steps = 9\n", encoding="utf-8-sig")
    assert read_settings(tmp_path / "run.toml") == {"steps": 9}


@pytest.mark.parametrize("text", ["quoted = 3", "quoted = [1]", 'quoted = "x"'])
def test_figures_that_a_study_quotes_are_a_table(text, tmp_path):
    (tmp_path / "study.toml").write_text(f"[variants.RetNet]\n{text}\n")
    with pytest.raises(TypeError, match=r"^quoted must be a table, as in \[variants.RetNet.quoted\], got "):
        read_study(tmp_path / "study.toml")


def test_a_run_has_every_choice_of_the_model(tmp_path):
    """So any weights may be trained on, and nothing of them is lost in the file of settings."""
    choices = {
        "vocab_size": 300, "dim": 12, "num_layers": 3, "num_heads": 3, "key_dim": 6, "value_dim": 5, "ffn_dim": 7,
        "gamma_schedule": 0.9, "rotation": LADDERS[1], "gate": False, "group_norm": "mean", "group_norm_affine": True,
        "ffn": list(FEED_FORWARDS)[1], "scale_keys": False, "row_norm": True, "embedding_scale": 2.0, "norm_eps": 1e-5,
    }  # fmt: skip
    assert choices.keys() | {"score_norm"} == {field.name for field in dataclasses.fields(RetNetConfig)}
    assert not {value for name, value in choices.items() if getattr(RetNetConfig(), name) == value}
    for kind in (TrainConfig, RunConfig):
        assert kind(**choices).retnet == RetNetConfig(**choices)
        assert kind(rotation="none", group_norm="none").retnet == RetNetConfig(
            num_layers=2, rotation=None, group_norm=None
        )
    (tmp_path / "run.toml").write_text(to_toml(RunConfig(**choices)))
    assert RunConfig(**read_settings(tmp_path / "run.toml")).retnet == RetNetConfig(**choices)
