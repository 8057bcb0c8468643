"""The settings of a run: a TOML file of flat keys, options that override single ones, and an echo in the results."""

import dataclasses
import difflib
import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, get_type_hints

from refimpl.checks import check_choice, check_integer
from refimpl.config import FEED_FORWARDS
from refimpl.rotation import LADDERS
from refimpl.training.train import TrainConfig

from ..kernels.registry import RETENTIONS
from ..models.registry import MODELS

PARALLELISMS = ("data", "sharded", "sequence")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
    """The settings of a run on torch, each with its meaning; refuses impossible ones with a ValueError or TypeError.

    A baseline ignores the choices of the RetNet, gamma_schedule to row_norm, but is as large as that RetNet.
    """

    model: Annotated[str, f"one of {', '.join(MODELS)}; the baselines have as many parameters as retnet"] = "retnet"
    gamma_schedule: Annotated[str, "decays of the heads: released, paper, or one gamma in (0, 1] for all"] = "released"
    rotation: Annotated[str, f"rotation of queries and keys: {', '.join(LADDERS)} or none"] = "released"
    gate: Annotated[bool, "multiply the output of retention by a gate (Eq. 8)"] = True
    group_norm: Annotated[str, "norm of each head's output: rms, mean (also subtracts the mean) or none"] = "rms"
    row_norm: Annotated[bool, "divide the output of retention by the root of the row sums of D"] = False
    ffn: Annotated[str, f"feed-forward: {', '.join(FEED_FORWARDS)}; gelu alone has no gate"] = "swiglu"
    kv_heads: Annotated[int | None, "key and value heads of the transformer; by default num_heads"] = None
    retention: Annotated[
        str, f"how retention is computed: {', '.join(RETENTIONS)}; fused kernels need an NVIDIA GPU"
    ] = "parallel"
    chunk_size: Annotated[int, "chunkwise retention: tokens of a chunk"] = 64
    precision: Annotated[str, "of matrix products: float32 or bfloat16; everything else stays float32"] = "float32"
    accumulation: Annotated[int, "number of parts that a batch is computed in, to save memory"] = 1
    compile: Annotated[bool, "compile each layer with torch.compile"] = False
    recompute: Annotated[bool, "compute each layer again in the backward pass, to save memory"] = False
    deterministic: Annotated[bool, "give the same losses, to the bit, in every run on the same device"] = True
    parallelism: Annotated[
        str, "what processes share out: data (windows), sharded (parameters too) or sequence (parts of each window)"
    ] = "data"

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
            ("ffn", FEED_FORWARDS),
            ("parallelism", PARALLELISMS),
        ):
            check_choice(name, getattr(self, name), choices)
        for name in ("dim", "num_layers", "num_heads", "chunk_size", "accumulation"):
            check_integer(name, getattr(self, name), minimum=1)
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation must divide batch_size = {self.batch_size}, got {self.accumulation}")
        if self.kv_heads is not None:
            check_integer("kv_heads", self.kv_heads, minimum=1)
            if not MODELS[self.model].grouped:
                raise ValueError(f"kv_heads must not be given for model = {self.model!r}, got {self.kv_heads}")
        if self.parallelism == "sequence" and self.model != "retnet":
            raise ValueError(
                f"parallelism must be 'data' or 'sharded' for model = {self.model!r}, got 'sequence': slices of a window are "
                "joined by the state that retention leaves, which only RetNet has"
            )
        _ = self.retnet  # raises for an impossible RetNet

    @property
    def retnet(self):
        """The `RetNetConfig` of the run's model, or of the one that a baseline is as large as."""
        names = ("gamma_schedule", "rotation", "gate", "group_norm", "row_norm", "ffn")
        choices = {name: None if getattr(self, name) == "none" else getattr(self, name) for name in names}
        with suppress(ValueError):
            choices["gamma_schedule"] = float(self.gamma_schedule)
        return dataclasses.replace(super().retnet, **choices)


def read_settings(path):
    """The keys and values of a TOML file.

    Raises FileNotFoundError, or ValueError if it is not TOML or holds an unknown key.
    """
    settings = read_toml(path)
    check_keys(settings, path)
    return settings


def read_toml(path):
    """The contents of a TOML file, with any keys; FileNotFoundError, or ValueError if it is not TOML."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"config: there is no file {str(path)!r}")
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config: {str(path)!r} is not TOML: {error}") from None


def check_keys(settings, path):
    """Raise ValueError for a key that `RunConfig` does not have; it names the key and the file."""
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


def run_config(file, out, resume, settings):
    """The `RunConfig` of options over a file, or None, over those of the run in `out`, if that is to be resumed.

    Raises:
        FileNotFoundError: there is no such file or run.
        TypeError, ValueError: from `RunConfig` or `read_settings`.
    """
    echo = out / "run.toml"
    if resume and not echo.exists():
        raise FileNotFoundError(f"resume: there is no run in {str(out)!r}")
    return RunConfig(**(read_settings(echo) if resume else {}) | (read_settings(file) if file else {}) | settings)
