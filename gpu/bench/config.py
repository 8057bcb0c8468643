"""What `python -m gpu bench` measures: sizes, lengths and batches, and their presets."""

import dataclasses
from typing import Annotated

from refimpl.checks import check_choice, check_integer
from refimpl.training.settings import check_fields

from ..models.registry import MODELS
from ..training.config import RunConfig

SHAPES = ("large", "small", "square")  # names of `gpu.bench.kernel_floor.SHAPES`
# dim, num_layers, num_heads; all but the first are the paper's (arXiv:2307.08621v4, section 3).
SIZES = {
    "tiny": (64, 2, 4),
    "25M": (512, 8, 4),
    "1.3B": (2048, 24, 8),
    "2.7B": (2560, 32, 10),
    "6.7B": (4096, 32, 16),
}
# For a machine without a GPU, or to try the command.
QUICK = {
    "size": "tiny", "vocab_size": 256, "rounds": 3, "times": (64, 128), "tokens": 256, "chunk_sizes": (16, 32),
    "contexts": (32, 64, 128), "batches": (1, 2), "compile": False, "kernel_tokens": 2048,
}  # fmt: skip

# For `python -m gpu bench paper`: the decoding table; sizes to train are in `gpu.bench.paper`.
PAPER = {
    "size": "6.7B", "vocab_size": 32768, "rounds": 3, "contexts": (2048, 8192, 32768, 65536), "batches": (1, 8),
    "grouped": True,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """The settings of a benchmark, each with its meaning; refuses impossible ones with a ValueError or TypeError.

    num_heads is of RetNet. Attention has heads of 128 channels, as is usual, if 128 divides dim, and else num_heads.
    """

    size: Annotated[str, f"width, depth and heads of the models: {', '.join(SIZES)}"] = "25M"
    dim: Annotated[int | None, "width in channels; by default the size's"] = None
    num_layers: Annotated[int | None, "number of layers; by default the size's"] = None
    num_heads: Annotated[int | None, "heads of retention; by default the size's"] = None
    vocab_size: Annotated[int, "number of tokens that the models know"] = 1024
    models: Annotated[
        tuple[str, ...], f"one of {', '.join(MODELS)}; the baselines have as many parameters as retnet", "--model"
    ] = ("retnet", "transformer")
    rounds: Annotated[int, "timed rounds, in each of which every candidate is timed once"] = 7
    compile: Annotated[bool, "measure everything a second time with torch.compile"] = True
    recompute: Annotated[bool, "training: compute layers again in the backward pass"] = False
    times: Annotated[tuple[int, ...], "training: length T of the sequences in tokens", "--time"] = (2048, 8192)
    tokens: Annotated[int, "training: tokens of a step"] = 65536
    chunk_sizes: Annotated[tuple[int, ...], "training: chunk of chunkwise retention in tokens", "--chunk-size"] = (
        64, 128, 256,
    )  # fmt: skip
    contexts: Annotated[tuple[int, ...], "decoding: tokens that were read before the step", "--context"] = (
        512, 2048, 8192, 32768, 65536,
    )  # fmt: skip
    batches: Annotated[tuple[int, ...], "decoding: number of sequences side by side", "--batch"] = (1, 8)
    largest: Annotated[bool, "decoding: measure as many sequences as fit, too"] = True
    memory_share: Annotated[float, "decoding: share of free memory that as many as fit may take, in (0, 1]"] = 0.9
    grouped: Annotated[bool, "decoding: measure attention with a quarter of the key and value heads, too"] = False
    shapes: Annotated[tuple[str, ...], f"kernels: heads of {', '.join(SHAPES)}", "--shape"] = SHAPES
    kernel_tokens: Annotated[int, "kernels: the most tokens of a call"] = 65536

    def __post_init__(self):
        check_fields(self)
        check_choice("size", self.size, tuple(SIZES))
        for name, preset in zip(("dim", "num_layers", "num_heads"), SIZES[self.size], strict=True):
            if getattr(self, name) is None:
                object.__setattr__(self, name, preset)
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("rounds", "tokens", "kernel_tokens"):
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("times", "chunk_sizes", "contexts", "batches", "models", "shapes"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
            if not getattr(self, name) and (name != "batches" or not self.largest):
                raise ValueError(f"{name} must hold at least one value, got none")
        for name in ("times", "chunk_sizes", "contexts", "batches"):
            for each in getattr(self, name):
                check_integer(name, each, minimum=1)
        for each in self.models:
            check_choice("models", each, MODELS)
        for each in self.shapes:
            check_choice("shapes", each, SHAPES)
        for time in self.times:
            if self.tokens % time:
                raise ValueError(f"tokens must be a multiple of each of times, got {self.tokens} and {time}")
        if not 0 < self.memory_share <= 1:
            raise ValueError(f"memory_share must lie in (0, 1], got {self.memory_share:g}")
        if self.grouped and self.attention_heads % 4:
            raise ValueError(f"grouped must be False unless 4 divides the {self.attention_heads} heads of attention")
        for model in self.models:
            self.run(model)  # the shapes must be possible

    @property
    def attention_heads(self):
        """Heads of attention."""
        return self.dim // 128 if self.dim % 128 == 0 else self.num_heads

    def run(self, model, **settings):
        """The `RunConfig` of a model of this size."""
        heads = self.attention_heads if MODELS[model].grouped else self.num_heads
        return RunConfig(
            model=model, dim=self.dim, num_layers=self.num_layers, num_heads=heads, vocab_size=self.vocab_size,
            precision="bfloat16", deterministic=False, **settings,
        )  # fmt: skip
