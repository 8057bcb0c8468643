"""python -m gpu.kernel_ladder.decode: time the kernels of a whole model's decode step, each kind alone, and the step itself.

A kind's launches in a step, those of all layers in a row, are one CUDA graph; so are the launches of a whole step, once for each
way of tiling it. Bytes count every array that a launch is given or makes once, and the state twice. Shares are of the bandwidth
of a copy, measured in the same run. The step has fewer layers than the model, but the largest kernels read more than a cache holds.
"""

import functools
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, NamedTuple

import torch
import typer
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from gpu.bench.ceilings import ceilings
from gpu.bench.config import SIZES, BenchmarkConfig
from gpu.bench.decoding import decoding_facts, random_state
from gpu.bench.graph import Recorded
from gpu.bench.timing import milliseconds
from gpu.kernels import triton_decode
from gpu.kernels import triton_model_step as fused
from gpu.models.build import build_random
from refimpl.files import write_atomically

DEVICE = "cuda"
KERNELS = ("start", "product", "prepare", "multiply", "retain")
# Ways to compute the step of one sequence and of many, by what they change in `gpu.kernels.triton_model_step`.
WAYS = {
    True: {
        "as it is": {},
        "five kernels a layer": {"WIDE": sys.maxsize},
        "2 tiles": {"PREPARED": {"tiles": 2}},
        "3 tiles": {"PREPARED": {"tiles": 3}},
        "rows of 256 bytes": {"PREPARED": {"row": 256}},
        "8 warps, tiles of 16 KB": {"PREPARED": {"bytes": 16384, "num_warps": 8}},
        "states of 32 columns": {"STATE": {"BV": 32, "BK": 64}},
        "states leave the cache first": {"STATE": {"POLICY": "evict_first"}},
        "as it is, again": {},
    },
    False: {
        "as it is": {},
        "states of 2,048 numbers": {"MANY": {"numbers": 2048}},
        "states of 8,192 numbers, 8 warps": {"MANY": {"numbers": 8192, "num_warps": 8}},
        "states leave the cache first": {"MANY": {"POLICY": "evict_first"}},
        "states of 4,096 numbers, 8 warps": {"MANY": {"numbers": 4096, "num_warps": 8}},
        "as it is, again": {},
    },
}  # fmt: skip


class Launch(NamedTuple):
    """A launch of a step: the kind of it, a function that repeats it, and the bytes of its arrays."""

    kind: str
    call: object
    bytes: int


class _Watched:
    """A kernel whose launches are noted. twice: addresses of what is read and written."""

    def __init__(self, name, found, twice):
        self.name, self.kernel, self.found, self.twice = name, getattr(triton_decode, name), found, twice

    def __getitem__(self, grid):
        def launch(*arrays, **options):
            call = functools.partial(self.kernel[grid], *arrays, **options)
            widths = "+".join(str(options[name]) for name in ("N0", "N1", "N2", "N3") if options.get(name))
            kind = " ".join(filter(None, (self.name, options.get("INPUT"), str(options.get("WIDTH", "")), widths)))
            nbytes = bytes_of(arrays) + bytes_of(x for x in arrays if address(x) in self.twice)
            self.found.append(
                Launch(kind, call, 0 if self.name == "start" else nbytes)
            )  # it reads rows of an embedding
            with _disable_current_modes():  # the interpreter's kernels are operations of torch, too
                call()

        return launch


class _Operations(TorchDispatchMode):
    """Notes the operations of torch that launch a kernel."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, operation, types, given=(), options=None):
        options, returned = options or {}, operation._schema.returns
        result = operation(*given, **options)
        view = returned and returned[0].alias_info is not None and not returned[0].alias_info.is_write
        arrays = [x for x in (*given, *options.values()) if isinstance(x, torch.Tensor)]
        if arrays and not view and "empty" not in operation.name():
            shapes = " ".join("x".join(map(str, x.shape)) for x in arrays if x.ndim == 2)
            made = result if isinstance(result, (tuple, list)) else [result]
            call = functools.partial(operation, *given, **options)
            self.found.append(
                Launch(f"{operation.name().removeprefix('aten::')} {shapes}", call, bytes_of([*arrays, *made]))
            )
        return result


def address(x):
    """Where a tensor lies in memory; None for anything else."""
    return x.data_ptr() if isinstance(x, torch.Tensor) else None


def bytes_of(values):
    """Bytes of the tensors among some values, each place in memory once."""
    return sum({address(x): x.nbytes for x in values if isinstance(x, torch.Tensor)}.values())


def launches(step, tokens):
    """The `Launch`es of one call of a `FusedStep`, which is made."""
    found, twice = [], {address(layer) for layer in step.state.layers}
    watched = {name: _Watched(name, found, twice) for name in KERNELS}
    with changed({"kernels": SimpleNamespace(**watched)}), torch.no_grad(), _Operations(found):
        step(tokens)
    return found


def by_kind(found):
    """{kind: its launches}, in the order in which they first come."""
    kinds = {}
    for launch in found:
        kinds.setdefault(launch.kind, []).append(launch)
    return kinds


@torch.no_grad()
def torch_products(step):
    """Kinds of the same products by torch, for comparison; they are no part of the step."""
    found = []
    for weights in step.layers:
        for weight in (*weights.read, *weights.merge, *weights.widen, *weights.narrow):
            x, y = weight.new_ones(1, weight.shape[0]), weight.new_empty(1, weight.shape[1])
            call = functools.partial(torch.mm, x, weight, out=y)
            found.append(Launch(f"torch.mm {weight.shape[0]} {weight.shape[1]}", call, bytes_of([x, weight, y])))
    return by_kind(found)


@contextmanager
def changed(way):
    """Within it, names of `gpu.kernels.triton_model_step` are other ones, as in `WAYS`: a dict changes a part of the old one."""
    old = {name: getattr(fused, name) for name in way}
    try:
        for name, new in way.items():
            setattr(fused, name, old[name] | new if isinstance(new, dict) else new)
        yield
    finally:
        for name, value in old.items():
            setattr(fused, name, value)


@torch.no_grad()
def main(
    size: Annotated[str, typer.Option(help=f"widths of the model: {', '.join(SIZES)}")] = "6.7B",
    batch: Annotated[int, typer.Option(help="number of sequences side by side")] = 1,
    layers: Annotated[int, typer.Option(help="number of layers that are timed")] = 8,
    vocab_size: Annotated[int, typer.Option(help="number of tokens that the model knows")] = 32768,
    rounds: Annotated[int, typer.Option(help="how often each is timed")] = 20,
    out: Annotated[Path | None, typer.Option(help="write the times here, as JSON; by default nowhere")] = None,
):
    """Time a decode step, kernel by kernel, in bfloat16 with random weights."""
    if not torch.cuda.is_available():
        raise typer.BadParameter("the step is timed on a CUDA GPU, and there is none here")
    config = BenchmarkConfig(size=size, num_layers=layers, vocab_size=vocab_size, models=("retnet",))
    run = config.run("retnet", retention="triton")
    model = build_random(run, DEVICE, torch.bfloat16)
    state = random_state(model.config, 2048, batch, DEVICE)
    state = state._replace(layers=tuple(layer.contiguous() for layer in state.layers))
    tokens = torch.randint(0, vocab_size, (batch,), device=DEVICE)
    copy = ceilings(rounds, DEVICE)["copy"]["bytes_per_second"]
    moved = decoding_facts(model, state, run, batch)["moved_bytes"]
    rows = []

    def add(what, name, count, ms, nbytes):
        rate = nbytes / ms["median"] * 1e3
        row = {"what": what, "name": name, "launches": count, "bytes": nbytes, "bytes_per_second": rate, **ms}
        rows.append(row | {"share_of_copy_bandwidth": rate / copy})
        each = 1e3 * ms["median"] / count
        print(
            f"{what:8s}{name:66s}{count:4d} x{each:9.2f} us{nbytes / count / 1e6:10.2f} MB"
            f"{rate / 1e9:8.0f} GB/s{rate / copy:8.1%} of copy{1e3 * ms['spread'] / count:8.2f} us spread",
            flush=True,
        )

    print(f"{size}, {layers} layers, batch {batch}; a copy moves {copy / 1e12:.3f} TB/s")
    for name, way in WAYS[fused.are_few(batch, model.config)].items():
        try:
            with changed(way):
                step = fused.FusedStep(model, state)
                recorded = Recorded(lambda step=step: step(tokens), DEVICE)
            add("step", name, 1, milliseconds({name: recorded.graph.replay}, rounds)[name], moved)
        except Exception as error:  # one way that fails does not affect the others
            print(f"step    {name}: {type(error).__name__}: {error}"[:150])
    step = fused.FusedStep(model, state)
    step(tokens)  # compiles
    kinds = by_kind(launches(step, tokens))
    if batch == 1:
        kinds |= torch_products(step)
    for kind, found in kinds.items():
        graph = Recorded(lambda found=found: [launch.call() for launch in found], DEVICE).graph
        add("kernel", kind, len(found), milliseconds({kind: graph.replay}, rounds)[kind], sum(x.bytes for x in found))
    if out:
        result = {"size": size, "layers": layers, "batch": batch, "device": torch.cuda.get_device_name()}
        write_atomically(out, json.dumps(result | {"copy_bytes_per_s": copy, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
