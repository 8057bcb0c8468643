"""The settings of a run: a TOML file of flat keys, options that override single ones, and an echo in the results."""

import dataclasses
import functools
from typing import Annotated

from refimpl.checks import check_choice, check_integer
from refimpl.training import settings
from refimpl.training.train import TrainConfig

from ..kernels.registry import RETENTIONS
from ..models.registry import DECAYS, MODELS

PARALLELISMS = ("data", "sharded", "sequence")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
    """The settings of a run on torch, each with its meaning; refuses impossible ones with a ValueError or TypeError.

    A baseline ignores the choices of the RetNet, key_dim to norm_eps but for ffn, and is as large as that RetNet. Those of
    retention and gated retention also take key_dim, value_dim and rotation, and retention gamma_schedule.
    """

    model: Annotated[str, f"one of {', '.join(MODELS)}; the baselines have as many parameters as retnet"] = "retnet"
    kv_heads: Annotated[int | None, "key and value heads of the transformer; by default num_heads"] = None
    attention_every: Annotated[
        int | None, "softmax attention in every second (2) or fourth (4) layer of a baseline, a hybrid; by default none"
    ] = None
    decays: Annotated[str, f"of model = retention: {', '.join(DECAYS)}, from the schedule on"] = "fixed"
    retention: Annotated[
        str, f"how retention is computed: {', '.join(RETENTIONS)}; fused kernels need an NVIDIA GPU"
    ] = "parallel"
    chunk_size: Annotated[int, "chunkwise retention: tokens of a chunk"] = 64
    precision: Annotated[str, "of matrix products: float32 or bfloat16; everything else stays float32"] = "float32"
    accumulation: Annotated[int, "number of parts that a batch is computed in, to save memory"] = 1
    compile: Annotated[bool, "compile each layer with torch.compile"] = False
    graph: Annotated[
        bool, "record forward and backward pass as a CUDA graph, which small models gain most by; one process, one part"
    ] = False
    recompute: Annotated[bool, "compute each layer again in the backward pass, to save memory"] = False
    deterministic: Annotated[bool, "give the same losses, to the bit, in every run on the same device"] = True
    parallelism: Annotated[
        str, "what processes share out: data (windows), sharded (parameters too) or sequence (parts of each window)"
    ] = "data"

    def __post_init__(self):
        super().__post_init__()
        for name, choices in (
            ("model", MODELS),
            ("retention", tuple(RETENTIONS)),
            ("precision", ("float32", "bfloat16")),
            ("parallelism", PARALLELISMS),
            ("decays", DECAYS),
        ):
            check_choice(name, getattr(self, name), choices)
        for name in ("chunk_size", "accumulation"):
            check_integer(name, getattr(self, name), minimum=1)
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation must divide batch_size = {self.batch_size}, got {self.accumulation}")
        if self.graph and self.accumulation > 1:
            raise ValueError(f"accumulation must be 1 with graph, which records one part, got {self.accumulation}")
        if self.kv_heads is not None:
            check_integer("kv_heads", self.kv_heads, minimum=1)
            if not MODELS[self.model].grouped:
                raise ValueError(f"kv_heads must not be given for model = {self.model!r}, got {self.kv_heads}")
        if self.attention_every is not None:
            check_integer("attention_every", self.attention_every, minimum=2)
            if self.model in ("retnet", "transformer") or self.attention_every > self.num_layers:
                raise ValueError(
                    "attention_every must be left out for model = 'retnet' (of which 'retention' is the layer) and "
                    f"'transformer', and be at most num_layers = {self.num_layers}, got {self.attention_every}"
                )
        if self.decays == "learnt" and (self.model != "retention" or RETENTIONS[self.retention].fused):
            raise ValueError(
                "decays must be 'fixed' unless model = 'retention' and retention is 'parallel' or 'chunkwise', got 'learnt'"
            )
        if self.from_weights is not None and self.model != "retnet":
            raise ValueError(f"from_weights must not be given for model = {self.model!r}, got {self.from_weights!r}")
        if self.parallelism == "sequence" and self.task is not None:
            raise ValueError(
                "parallelism must be 'data' or 'sharded' with a task, whose answers stand in a part of a window"
            )
        if self.parallelism == "sequence" and self.model != "retnet":
            raise ValueError(
                f"parallelism must be 'data' or 'sharded' for model = {self.model!r}, got 'sequence': slices of a window are "
                "joined by the state that retention leaves, which only RetNet has"
            )


to_toml = settings.to_toml
read_settings = functools.partial(settings.read_settings, RunConfig)
check_keys = functools.partial(settings.check_keys, RunConfig)
configured = functools.partial(settings.configured, RunConfig)
run_config = functools.partial(settings.run_config, RunConfig)
