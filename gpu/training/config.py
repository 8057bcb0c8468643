"""The settings of a run: a TOML file of flat keys, options that override single ones, and an echo in the results."""

import dataclasses
import difflib
import functools
import inspect
import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from refimpl.checks import check_choice, check_integer
from refimpl.rotation import LADDERS
from refimpl.training.train import TrainConfig

from ..kernels.registry import RETENTIONS
from ..models.registry import MODELS

PARALLELISMS = ("data", "sharded", "sequence")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
    """What `TrainConfig` says, and how torch computes it; refuses impossible values with a ValueError or TypeError.

    model: "retnet", or one of the baselines "transformer", "linear" (attention) and "gru" with as many parameters.
    gamma_schedule, rotation, gate, group_norm, row_norm: the RetNet's choices, as in `RetNetConfig`, "none" for None; a
    number as gamma_schedule is one gamma for all heads. A baseline ignores them, but is as large as that RetNet.
    kv_heads: key and value heads of the transformer, as many as num_heads if not given. retention: "parallel",
    "chunkwise" with chunks of chunk_size, "triton", the fused kernels for an NVIDIA GPU, or "fla", those of
    flash-linear-attention.
    precision: "float32", or "bfloat16" for matrix products, everything else staying float32. accumulation: parts that a
    batch is computed in. compile: torch.compile each layer. recompute: compute each layer again in the backward pass
    rather than keep it. deterministic: the same run gives the same losses, to the bit, on the same device. parallelism: what
    the processes that torchrun starts share out, "data" (each has a model and takes some of the windows), "sharded" (the
    parameters too, by FSDP2) or "sequence" (each takes a slice of every window; RetNet alone).
    """

    model: str = "retnet"
    gamma_schedule: str = "released"
    rotation: str = "released"
    gate: bool = True
    group_norm: str = "rms"
    row_norm: bool = False
    kv_heads: int | None = None
    retention: str = "parallel"
    chunk_size: int = 64
    precision: str = "float32"
    accumulation: int = 1
    compile: bool = False
    recompute: bool = False
    deterministic: bool = True
    parallelism: str = "data"

    def __post_init__(self):
        if isinstance(self.gamma_schedule, (int, float)) and not isinstance(self.gamma_schedule, bool):
            object.__setattr__(self, "gamma_schedule", str(float(self.gamma_schedule)))
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if kind in (str, bool) and not isinstance(value, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}")
        super().__post_init__()
        for name, choices in (
            ("model", MODELS),
            ("retention", tuple(RETENTIONS)),
            ("precision", ("float32", "bfloat16")),
            ("rotation", (*LADDERS, "none")),
            ("group_norm", ("rms", "mean", "none")),
            ("parallelism", PARALLELISMS),
        ):
            check_choice(name, getattr(self, name), choices)
        for name in ("dim", "num_layers", "num_heads", "chunk_size", "accumulation"):
            check_integer(name, getattr(self, name), minimum=1)
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation must divide batch_size = {self.batch_size}, got {self.accumulation}")
        if self.kv_heads is not None:
            check_integer("kv_heads", self.kv_heads, minimum=1)
            if self.model != "transformer":
                raise ValueError(f"kv_heads must not be given for model = {self.model!r}, got {self.kv_heads}")
        if self.parallelism == "sequence" and self.model != "retnet":
            raise ValueError(
                f"parallelism must be 'data' or 'sharded' for model = {self.model!r}, got 'sequence': slices of a window are "
                "joined by the state that retention leaves, which only RetNet has"
            )
        _ = self.retnet  # refuses what no RetNet can be

    @property
    def retnet(self):
        """The `RetNetConfig` of the run's model, or of the one that a baseline is as large as."""
        choices = {name: getattr(self, name) for name in ("rotation", "group_norm")}
        with suppress(ValueError):
            choices["gamma_schedule"] = float(self.gamma_schedule)
        return dataclasses.replace(
            super().retnet,
            **{"gamma_schedule": self.gamma_schedule, "gate": self.gate, "row_norm": self.row_norm}
            | {name: None if choice == "none" else choice for name, choice in choices.items()},
        )


def read_settings(path):
    """The keys and values of a TOML file.

    Raises FileNotFoundError, or ValueError if it is no TOML or holds a key that `RunConfig` has not.
    """
    settings = read_toml(path)
    check_keys(settings, path)
    return settings


def read_toml(path):
    """The contents of a TOML file, whatever its keys; FileNotFoundError, or ValueError if it is none."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"config: there is no file {str(path)!r}")
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config: {str(path)!r} is not TOML: {error}") from None


def check_keys(settings, path):
    """Demand that all keys are those of `RunConfig`; ValueError names one that is not, and the file."""
    known = [field.name for field in dataclasses.fields(RunConfig)]
    for name in settings:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; the keys are {', '.join(known)}"
            raise ValueError(f"config: unknown key {name!r} in {str(path)!r}{hint}")


def to_toml(config):
    """A `RunConfig` as TOML text that `read_settings` reads back."""
    values = dataclasses.asdict(config)
    return "".join(f"{name} = {json.dumps(x, ensure_ascii=False)}\n" for name, x in values.items() if x is not None)


def with_settings(command):
    """Give a typer command an option for every key of `RunConfig`; it receives those that were given as `settings`."""

    @functools.wraps(command)
    def wrapped(**arguments):
        given = {name: value for name in kinds if (value := arguments.pop(name)) is not None}
        return command(**arguments, settings=given)

    kinds = get_type_hints(RunConfig)
    parameters = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]
    kinds = {name: kind for name, kind in kinds.items() if name not in {p.name for p in parameters}}
    for name, kind in kinds.items():
        default = getattr(RunConfig, name)
        shown = f"{default}" if default is not None else "as num_heads"
        option = typer.Option(help=f"default: {shown}", rich_help_panel="Settings, as keys of the file")
        keyword = inspect.Parameter.KEYWORD_ONLY
        annotation = Annotated[kind | None, option]
        parameters.append(inspect.Parameter(name, keyword, default=None, annotation=annotation))
    wrapped.__signature__ = inspect.Signature(parameters)
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped
