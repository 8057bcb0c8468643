"""What a decoded token costs: steps of a batch that has read a context, its memory, and the floor of moving its bytes.

Parameters are bfloat16 in every model. RetNet's states are float32, and so are its decays and the sums in its norms; the
Transformer's cache is bfloat16. Linear attention and the GRU keep states too, float32 and bfloat16. A step is a CUDA graph
on a GPU; that of the fused kernels, unless it is compiled, takes the whole model (`gpu.kernels.triton_model_step`). The cost
does not depend on the text, so states and caches are random. The Transformer's graph is recorded at its context: its new
token is the last of `context`, and flash attention reads that many keys and values from a view of the cache.
"""

import dataclasses
import functools
from contextlib import nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from refimpl import State

from ..kernels.registry import FEW_BLOCKS, RETENTIONS, has_flash, step_of
from ..models.baseline import Memory
from ..models.build import build_random, tensors
from ..models.registry import MODELS
from ..numerics import layer_caller
from ..sampling.generate import GraphedStep, Step
from .figures import decoding_figure
from .graph import Recorded
from .rows import label, new_row
from .section import Section, is_large, speed_columns, together
from .timing import Candidate, Work, out_of_memory, peak_since, start_of_peak

LARGEST = "largest"  # the batch of as many sequences as memory holds
CPU_MEMORY = 2**22  # bytes that count as free on a CPU, so that a trial run stays short
TRIAL = 2**28  # bytes of state or cache, large against what libraries allocate once


class Decoding(Section):
    """Steps at each context and batch, of every retention with a decode step of its own and of every baseline."""

    name = "decoding"
    what = (
        "one decoding step of a batch that has read a context: median seconds over the rounds, tokens a second "
        "by it, the most memory held, and the bytes that must move over the bandwidth of a copy as a share of that time"
    )
    identity = (
        ("batch", lambda row: f"{row['batch'] or ''}{' most' if row['largest'] else ''}"),
        ("context", lambda row: f"{row['context']:,}"),
        ("", label),
    )
    measured = speed_columns(lambda row: row["share_of_copy_bandwidth"], "of copy")

    figure = staticmethod(decoding_figure)

    def candidates(self, config, compiled, device):
        """One group a batch and context; large models, and as many sequences as fit, one after another."""
        for batch in batches(config):
            for context in config.contexts:
                found = decoding_candidates(config, context, batch, compiled, device)
                for candidates in together(found, alone=is_large(config) or batch == LARGEST):
                    yield candidates, decoding_settings(config)

    def describe(self, row):
        """Its batch and context.

        >>> SECTION.describe({"largest": True, "batch": 300, "context": 2048})
        'batch as many as fit, context 2,048'
        """
        return f"batch {'as many as fit' if row['largest'] else row['batch']}, context {row['context']:,}"

    def derived(self, row, peaks):
        """The floor of moving its bytes, and its share of the bandwidth of a copy."""
        seconds, bandwidth = row["seconds"]["median"], peaks["copy"].get("bytes_per_second")
        floor = bandwidth and row["moved_bytes"] / bandwidth
        found = {"floor_seconds": floor, "share_of_copy_bandwidth": floor and floor / seconds}
        return found | ({"latency_seconds": seconds} if row["batch"] == 1 else {})


SECTION = Decoding()


def batches(config):
    """The batches of a `BenchmarkConfig`, `LARGEST` at the end."""
    return (*config.batches, *((LARGEST,) if config.largest else ()))


def decoding_settings(config):
    """A `RunConfig` for `numerics`: float32, for TF32 would round the state."""
    return dataclasses.replace(config.run("retnet"), precision="float32")


def decoding_candidates(config, context, batch, compiled, device, retentions=None):
    """The `Candidate`s at one context and batch, a number or `LARGEST`, for a `BenchmarkConfig`.

    retentions: names of `RETENTIONS`, and None for the reference's step; by default that and each that has its own.
    """
    if retentions is None:
        retentions = (None, *(name for name, each in RETENTIONS.items() if each.step and each.available(device)))
    found = []
    for model in config.models:
        for settings in settings_of(model, config, retentions):
            run = config.run(model, compile=compiled, **settings)
            attention = "flash" if MODELS[model].cache and has_flash(device) else None
            row = new_row(
                "decoding", model=model, retention=settings.get("retention"), compiled=compiled,
                cuda_graph=torch.device(device).type == "cuda", grouped="kv_heads" in settings, attention=attention,
                context=context, largest=batch == LARGEST, batch=None if batch == LARGEST else batch,
                heads=run.num_heads if MODELS[model].heads else None,
                kv_heads=(run.kv_heads or run.num_heads) if MODELS[model].cache else None,
            )  # fmt: skip

            def build(run=run):
                if batch == LARGEST:
                    return largest_work(run, context, device, config.memory_share)
                return decoding_work(run, context, batch, device)

            found.append(Candidate(row, build))
    return found


def settings_of(model, config, retentions):
    """Settings that a model is decoded with: retentions of RetNet; all heads of keys and values, and a quarter of them."""
    if model == "retnet":
        return [{"retention": retention} if retention else {} for retention in retentions]
    grouped = config.grouped and MODELS[model].grouped
    return [{}, *([{"kv_heads": config.attention_heads // 4}] if grouped else [])]


@torch.no_grad()
def decoding_work(run, context, batch, device):
    """One step of `batch` sequences that have read context - 1 tokens each, for the model of a `RunConfig`."""
    model = build_random(run, device, torch.bfloat16)
    on_gpu, flash = torch.device(device).type == "cuda", MODELS[run.model].cache and has_flash(device)
    how = {"layer": layer_caller(run)}
    tokens = torch.randint(0, run.vocab_size, (batch,), device=device)
    if run.model == "retnet":
        past, how = random_state(model.config, context, batch, device), how | {"retention": step_of(run.retention)}
        if on_gpu:
            step = GraphedStep(model, past, fused=None if run.compile else RETENTIONS[run.retention].model_step, **how)
            step.tokens.copy_(tokens)
            past = step.buffers
        else:
            step = functools.partial(Step(model, past, **how), tokens)
    else:
        past = random_memory(model, context, batch)
        step = functools.partial(baseline_step, model, tokens, past, **how)
        if on_gpu:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if flash else nullcontext():
                step = Recorded(step, device)
    call = (lambda: step.graph.replay()) if on_gpu else step  # a lambda, to keep alive what the graph reads
    return Work(call, batch, decoding_facts(model, past, run, batch) | {"cuda_graph": on_gpu, "flash_attention": flash})


@torch.no_grad()
def baseline_step(model, tokens, memory, **how):
    """Logits of the next tokens; a state is updated in place, a cache is written at the same position each time."""
    logits, after = model(tokens[:, None], memory, **how)
    for kept, new in zip(memory.layers, after.layers, strict=True):
        if new is not kept:
            kept.copy_(new)
    return logits


def random_state(config, context, batch, device):
    """A `State` at position context - 1, normal; all sequences share one's memory until it is copied."""
    shape = 1, config.num_heads, config.key_dim, config.value_dim
    layers = (torch.randn(shape, device=device).expand(batch, -1, -1, -1) for _ in range(config.num_layers))
    return State(torch.full((batch,), context - 1, dtype=torch.int64, device=device), tuple(layers))


def random_memory(model, context, batch):
    """A baseline's `Memory` after context - 1 tokens, random; a cache has room for one more."""
    memory = model.memory(batch, context)
    for kept in tensors(memory):
        kept.normal_()
    return Memory(context - 1, memory.layers)


def past_bytes(run, context, batch):
    """Bytes of what `batch` sequences keep.

    RetNet: a state of H K V float32 numbers a layer, at any context. A baseline: its memory, without allocating it.
    """
    if run.model == "retnet":
        shape = run.retnet
        return 4 * batch * shape.num_layers * shape.num_heads * shape.key_dim * shape.value_dim
    return sum(x.nbytes for x in tensors(build_random(run, "meta", torch.bfloat16).memory(batch, context)))


def decoding_facts(model, past, run, batch):
    """Fields of a row: sizes in memory, and `moved_bytes`, the least that a step must move.

    It counts every parameter except the embedding, of which only the tokens' rows are read, and the past: a state is read
    and written, a cache is read.
    """
    kept = sum(x.nbytes for x in tensors(past))
    weights = sum(x.nbytes for x in model.parameters())
    embedding = getattr(model.embedding, "weight", model.embedding)
    return {
        "batch": batch,
        "parameters": sum(x.numel() for x in model.parameters()),
        "weight_bytes": weights,
        "past_bytes": kept,
        "moved_bytes": weights - embedding.nbytes + kept * (1 if MODELS[run.model].cache else 2),
        "dtypes": {"parameters": "bfloat16", "past": str(tensors(past)[0].dtype).removeprefix("torch.")},
    }


def largest_work(run, context, device, share):
    """`decoding_work` with as many sequences as `share` of the free memory holds; halved while they do not fit.

    The bytes of a sequence are measured with two small batches; on a CPU they are those of `past_bytes`.
    """
    start_of_peak(device)
    parameters = 2 * sum(weight.numel() for weight in build_random(run, "meta", torch.bfloat16).parameters())
    free = torch.cuda.mem_get_info(device)[0] if torch.device(device).type == "cuda" else CPU_MEMORY
    each = bytes_a_sequence(run, context, device)
    most = most_sequences(run)
    batch = planned = min(most, int((share * free - parameters) // each))
    while batch >= 1:
        work = _unless_full(lambda batch=batch: decoding_work(run, context, batch, device))
        if work is not None:
            found = {
                "free_bytes": free,
                "bytes_a_sequence": each,
                "planned_batch": planned,
                "limit": "the grid of a kernel" if batch == most else "memory",
            }
            return work._replace(facts=work.facts | found)
        start_of_peak(device)
        batch //= 2
    raise torch.OutOfMemoryError("not even one sequence fits")


def most_sequences(run):
    """The most sequences that a kernel takes at once: it puts sequences times heads along an axis of its grid."""
    if not MODELS[run.model].heads:
        return FEW_BLOCKS  # cuDNN's GRU took 5 million sequences on an H200, and broke the process at 8 million
    blocks = RETENTIONS[run.retention].most_blocks if run.model == "retnet" else FEW_BLOCKS
    return blocks // run.num_heads


def bytes_a_sequence(run, context, device):
    """Bytes that one more sequence takes, intermediate results included; without torch.compile, which would take longer."""
    run = dataclasses.replace(run, compile=False)
    alone = past_bytes(run, context, 1)
    if torch.device(device).type != "cuda":
        return alone
    small, peaks = min(-(-TRIAL // alone), most_sequences(run) // 2), []
    for batch in (small, 2 * small):
        before = start_of_peak(device)
        if _unless_full(lambda batch=batch: decoding_work(run, context, batch, device)) is None:
            return alone
        peaks.append(peak_since(before, device))
    start_of_peak(device)
    return max(alone, (peaks[1] - peaks[0]) / small)


def _unless_full(build):
    """What build() returns, or None if memory ran out."""
    try:
        return build()
    except Exception as error:
        if not out_of_memory(error):
            raise
        return None
