"""torchrun --nproc-per-node 2 -m gpu.check_processes: several processes compute what one does.

Sequence-parallel retention, a sequence-parallel model, DistributedDataParallel and FSDP2 are each compared with one
device, which every process has to itself beside the shared work. Tests run it small on two CPU processes; on GPUs it is
run by hand and leaves a results file.
"""

import functools
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import typer
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

from refimpl import RetNetConfig, head_decays, retention_chunkwise
from refimpl.cli import run
from refimpl.files import write_atomically

from .distributed import gather_weights, is_first, mean_over_processes, own_rows, processes, replicate, shard
from .module import RetNet
from .sequence_parallel import own_slice, retention_sequence_parallel

TOLERANCE = 1e-10  # of the largest number compared, in float64
LENGTH = 1001  # not a multiple of the number of processes
STEPS = 3

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def check(
    out: Annotated[Path, typer.Option(help="file to write")] = Path("runs/processes.json"),
    dim: Annotated[int, typer.Option(min=8, help="width of the models")] = 512,
    layers: Annotated[int, typer.Option(min=1)] = 8,
    tokens: Annotated[int, typer.Option(min=64, help="length of the sequence to time")] = 131_072,
    device: Annotated[str, typer.Option(help="cuda, cpu, or empty for what there is")] = "",
):
    """Compare, print a row a comparison, and write them all; AssertionError if one is off."""
    with processes(device or None) as here:
        config = RetNetConfig(dim=dim, num_layers=layers, num_heads=4)
        rows = [
            *(retention_row(here, dtype) for dtype in (torch.float64, torch.float32, torch.bfloat16)),
            *(row(here, config, share) for row in (model_row, training_row) for share in (replicate, shard)),
            speed_row(here, tokens),
        ]
        if is_first():
            on_gpu = here.type == "cuda"
            result = {
                "what": "several processes against one device with the same inputs",
                "processes": dist.get_world_size(),
                "backend": dist.get_backend(),
                "device": torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads each",
                "versions": {"python": platform.python_version(), "torch": torch.__version__},
                "rows": rows,
            }
            write_atomically(out, json.dumps(result, indent=2) + "\n")
            for row in rows:
                print(row)
        dist.barrier()


def retention_row(device, dtype):
    """Outputs, end state and all gradients of sequence-parallel retention against retention_chunkwise in float64."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"q": (2, 4, LENGTH, 16), "k": (2, 4, LENGTH, 16), "v": (2, 4, LENGTH, 24), "state": (2, 4, 16, 24)}
    inputs = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(
            device, dtype if name != "state" else None
        )
        for name, shape in shapes.items()
    }
    if dtype != torch.float64:
        inputs["state"] = inputs["state"].float()
    weights = torch.randn(shapes["v"], generator=generator, dtype=torch.float64).to(device)
    gamma = torch.from_numpy(head_decays(4)).to(device)

    one = {name: x.double().clone().requires_grad_() for name, x in inputs.items()}
    want_out, want_end = retention_chunkwise(one["q"], one["k"], one["v"], gamma, one["state"])
    ((want_out * weights).sum() + want_end.sum()).backward()

    rank, size = dist.get_rank(), dist.get_world_size()
    mine = slice(LENGTH * rank // size, LENGTH * (rank + 1) // size)
    own = {name: (x if name == "state" else x[:, :, mine]).clone().requires_grad_() for name, x in inputs.items()}
    state = own["state"] if rank == 0 else None
    got_out, got_end = retention_sequence_parallel(own["q"], own["k"], own["v"], gamma, state)
    ((got_out * weights[:, :, mine]).sum() + got_end.sum() * (rank == size - 1)).backward()

    pairs = {"out": (got_out, want_out[:, :, mine])} | {
        f"d{name}": (own[name].grad, one[name].grad[:, :, mine]) for name in ("q", "k", "v")
    }
    if rank == 0:
        pairs["dstate"] = (own["state"].grad, one["state"].grad)
    if rank == size - 1:
        pairs["end"] = (got_end, want_end)
    # A narrow dtype is compared with float64 from the same rounded inputs: what is left is its own rounding.
    bound = {torch.float64: TOLERANCE, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    off = {
        f"{name} off": worst(difference(*pairs[name]) if name in pairs else 0.0, device)
        for name in ("out", "end", "dq", "dk", "dv", "dstate")
    }
    return passed({"what": "sequence-parallel retention", "dtype": f"{dtype}".removeprefix("torch.")} | off, bound)


def model_row(device, config, share):
    """Loss and gradients of a model whose text is split over the processes against the whole text on one device."""
    text = torch.randint(config.vocab_size, (2, LENGTH + 1), generator=torch.Generator().manual_seed(1)).to(device)
    one = RetNet(config, dtype=torch.float64).to(device)
    logits, _ = one(text[:, :-1], retention=retention_chunkwise)
    want = cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
    want.backward()

    model = share(RetNet(config, dtype=torch.float64), device)
    inputs, state = own_slice(text[:, :-1], config)
    targets, _ = own_slice(text[:, 1:], config)
    logits, _ = model(inputs, retention=retention_sequence_parallel, state=state)
    # The mean over processes of this, which is what is taken of gradients, is the mean over all targets.
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    loss = loss * dist.get_world_size() / text[:, 1:].numel()
    loss.backward()
    off = max(difference(whole(p.grad), q.grad) for p, q in zip(model.parameters(), one.parameters(), strict=True))
    row = {
        "what": f"sequence-parallel model, {share.__name__}",
        "dtype": "float64",
        "loss off": difference(mean_over_processes(loss), want),
        "gradients off": worst(off, device),
    }
    return passed(row)


def training_row(device, config, share):
    """Losses of a few steps, and the weights after, of a shared-out model against one device with the whole batch."""
    text = torch.randint(
        config.vocab_size, (2 * dist.get_world_size(), 129), generator=torch.Generator().manual_seed(2)
    ).to(device)
    one, want, one_peak = trained(lambda: RetNet(config, dtype=torch.float64).to(device), text, device)
    wanted = {name: weight.cpu() for name, weight in one.state_dict().items()}
    del one
    build = functools.partial(share, RetNet(config, dtype=torch.float64), device)
    model, got, peak = trained(build, own_rows(text), device)
    weights = gather_weights(model)
    row = {
        "what": f"training, {share.__name__}",
        "dtype": "float64",
        "losses off": worst(max(abs(a - b) / abs(b) for a, b in zip(got, want, strict=True)), device),
        "weights off": worst(max((difference(weights[name], wanted[name]) for name in weights), default=0.0), device),
        "parameters held": sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in model.parameters()),
        "parameters": sum(weight.numel() for weight in wanted.values()),
        "peak_mib": peak,
        "peak_mib_one_device": one_peak,
    }
    return passed(row)


def trained(build, text, device):
    """A model after STEPS updates, the mean loss over the processes before each, and the peak of GPU memory in MiB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model, values = build(), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        logits, _ = model(text[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        values.append(mean_over_processes(loss).item())
    return model, values, round(torch.cuda.max_memory_allocated() / 2**20) if device.type == "cuda" else None


def speed_row(device, tokens):
    """Seconds of a forward and backward pass of one layer's retention over a long sequence, alone and shared."""
    gamma = torch.from_numpy(head_decays(8)).to(device)
    chunkwise = functools.partial(retention_chunkwise, chunk_size=512)
    shared = functools.partial(retention_sequence_parallel, retention=chunkwise)
    row = {"what": "a retention timed", "dtype": "float32", "tokens": tokens}
    for name, retention, length in (
        ("one device", chunkwise, tokens),
        ("shared", shared, tokens // dist.get_world_size()),
    ):
        q, k, v = (torch.randn((1, 8, length, n), device=device, requires_grad=True) for n in (64, 64, 128))
        seconds = []
        for _ in range(4):
            dist.barrier()
            started = time.perf_counter()
            retention(q, k, v, gamma)[0].sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(worst(time.perf_counter() - started, device))
        row[f"seconds, {name}"] = statistics.median(seconds[1:])  # the first one warms up
    return row


def whole(tensor):
    """A tensor that FSDP may hold in parts, whole; all processes must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def difference(got, want):
    """The largest difference, as a share of the largest number wanted; 0 for no numbers."""
    if not want.numel():
        return 0.0
    return ((got.double() - want.double()).abs().max() / want.double().abs().max()).item()


def worst(value, device):
    """The largest of the processes' numbers, on each."""
    largest = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest.item()


def passed(row, bound=TOLERANCE):
    """The row, if nothing in it is off by more than bound; else AssertionError."""
    for name, value in row.items():
        if name.endswith(" off"):
            assert value <= bound, f"{row['what']}, {row['dtype']}: {name} by {value:.1e}, allowed {bound:.0e}"
    return row


if __name__ == "__main__":
    run(app, "python -m gpu.check_processes")
