"""Export a finished run, rounded to float16: the files that `refimpl.weights.load_pretrained` reads.

retnet.safetensors holds the weights and their config. retnet.json, its card, says how they were trained and how the rounded
weights do: bits per byte on the held-out text, a passage of such text with its own figure, and a greedy text.
"""

import dataclasses
import hashlib
import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from refimpl import decode_step, forward, retention_chunkwise
from refimpl.checks import check_choice
from refimpl.files import write_atomically
from refimpl.interop import load_folder
from refimpl.training.bpe import Tokenizer
from refimpl.training.loop import evaluate, load_text
from refimpl.training.settings import read_toml
from refimpl.training.text import VOCAB_SIZE, decode, encode
from refimpl.training.train import cross_entropy
from refimpl.tree import flatten, map_tree
from refimpl.weights import load_params, params_as_bytes

from ..models.retnet import RetNet
from ..numerics import share
from ..sampling.generate import generate
from .config import RunConfig
from .run import LOGIT_TOLERANCE
from .step import Trainer
from .study import last_losses

LIMIT = 15_000_000  # bytes
FILES = {"best": "best.safetensors", "last": "weights.safetensors"}
TEXT_BYTES, SHORTEST_TEXT = 200, 32
PASSAGE_BYTES = 4096
# Logits of two libraries differ by rounding, some 1e-5. If the likeliest two differ by more, all libraries agree on one.
MARGIN = 1e-3
SAME_LOSS = 0.02  # bits per byte between the run's figure and ours for the same weights; bfloat16 explains at most this


class Greedy(NamedTuple):
    """tokens (N,), the likeliest each time; margins (N,), by how much its logit was above the second."""

    tokens: np.ndarray
    margins: np.ndarray


def export(run, out, *, weights="best", prompt=None, corpus=None, scored=(), device="cpu"):
    """Write `out`/retnet.safetensors and `out`/retnet.json of a finished run; returns the card.

    Args:
        run: folder of a run that `gpu.training.run.train` finished.
        out: folder to write to; each file is written atomically, after all checks have passed.
        weights: "best" or "last".
        prompt: what the greedy text continues; by default the run's own prompt.
        corpus: where the run's corpus is now; by default where it was.
        scored: other texts, as corpus of a run or folders of byte shards (`refimpl.corpus`), on whose held-out and domain parts
            the card says how the weights do; the passage is then of the first one.
        device: a torch device to evaluate on.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the run is not finished, is of a baseline or not over bytes; the file would exceed 15 MB; a weight
            does not fit float16; the corpus is another text; two logits nearly tie too early in the greedy text.
        AssertionError: torch gives other logits or another text than NumPy.
    """
    result, path = _read_run(Path(run), weights, {"vocab_size": VOCAB_SIZE})
    config = RunConfig(**result["config"])
    trained, shape = load_params(path)
    halves = map_tree(_rounded, trained)
    data = params_as_bytes(halves, shape)
    if len(data) > LIMIT:
        raise ValueError(f"run must have weights of at most {LIMIT:,} bytes in float16, got {len(data):,}")
    params = map_tree(lambda _, array: array.astype(np.float32), halves)

    text = load_text(dataclasses.replace(config, corpus=corpus or config.corpus))
    versions = {"float32": trained, "float16": params}
    losses = {name: _held_out(each, shape, text, config, device) for name, each in versions.items()}
    recorded = result["best" if weights == "best" else "bits_per_byte"]
    if abs(losses["float32"] - recorded["held_out"]) > SAME_LOSS:
        raise ValueError(
            f"corpus must be the text of the run, on which its weights have {recorded['held_out']:.3f} bits per byte; on "
            f"{corpus or config.corpus!r} they have {losses['float32']:.3f}"
        )
    others = {
        name: load_text(dataclasses.replace(config, corpus=name, from_weights=None, once=False)) for name in scored
    }
    scores = {_shown(name): _scores(params, shape, other, config, device) for name, other in others.items()}
    greedy = robust_greedy(params, shape, prompt or config.prompt)
    source = next(iter(others), config.corpus)
    passage = _passage(others.get(source, text).held_out)
    logits, _ = forward(params, passage[None, :-1], shape, retention=retention_chunkwise)
    _assert_torch_agrees(params, shape, passage, logits, prompt or config.prompt, greedy)
    start = config.from_weights and Path(config.from_weights).name
    shown = dataclasses.replace(
        config, corpus=_shown(config.corpus), from_weights=start
    )  # without this machine's folders
    card = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "parameters": sum(array.size for array in flatten(params).values()),
        "command": command(shown),
        "settings": dataclasses.asdict(shown),
        "weights": weights,
        "step": recorded["step"],
        "corpus_bytes": {"training": len(text.training), "held_out": len(text.held_out)},
        "bits_per_byte": {name: round(loss, 4) for name, loss in losses.items()},
        **({"scores": scores} if scores else {}),
        **({"before": before} if (before := _before(config)) else {}),
        "device": result["device"],
        "seconds": result["seconds"],
        "versions": result["versions"],
        "text": {
            "prompt": prompt or config.prompt,
            "continuation": decode(greedy.tokens),
            "bytes": len(greedy.tokens),
            "smallest_margin": float(f"{greedy.margins.min():.1e}"),
        },
        "passage": {
            "corpus": _shown(source),
            "text": decode(passage),
            "bits_per_byte": round(cross_entropy(logits, passage[None, 1:])[0], 4),
        },
    }
    write_atomically(Path(out) / "retnet.safetensors", data)
    write_atomically(Path(out) / "retnet.json", json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    return card


def command(config):
    """The command that trains with these settings; those that differ from the defaults are options."""
    words = ["python -m gpu train"]
    for field in dataclasses.fields(config):
        value, option = getattr(config, field.name), field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words.append(f"--{option} {shlex.quote(str(value))}")
    return " ".join(words)


def greedy_text(params, config, prompt, new_tokens):
    """Continue a prompt, a str, by the likeliest byte each time, in NumPy: chunkwise, then recurrently. A `Greedy`."""
    logits, state = forward(params, encode(prompt)[None], config, retention=retention_chunkwise)
    logits, tokens, margins = logits[:, -1], [], []
    for _ in range(new_tokens):
        second, first = np.sort(logits[0])[-2:]
        tokens.append(logits.argmax(axis=-1))
        margins.append(first - second)
        logits, state = decode_step(params, tokens[-1], config, state)
    return Greedy(np.concatenate(tokens), np.array(margins))


def robust_greedy(params, config, prompt):
    """The first 200 bytes of `greedy_text`, or fewer: it ends before the likeliest two bytes nearly tie.

    An incomplete last character is removed. ValueError if fewer than 32 bytes remain.
    """
    greedy = greedy_text(params, config, prompt, TEXT_BYTES)
    near = np.flatnonzero(greedy.margins <= MARGIN)
    length = int(near[0]) if len(near) else TEXT_BYTES
    while length and decode(greedy.tokens[:length]).endswith("\ufffd"):
        length -= 1
    if length < SHORTEST_TEXT:
        raise ValueError(
            f"prompt must give at least {SHORTEST_TEXT} bytes before two logits are within {MARGIN:g} of each other, "
            f"{prompt!r} gives {length}; take another"
        )
    return Greedy(greedy.tokens[:length], greedy.margins[:length])


def model_of(run, weights="best"):
    """The `RetNet` of a finished run, with its best or its last weights, or of what `load_folder` reads; its tokeniser too.

    The tokeniser is None where the weights come with tokens that are not ours. Errors as `export` and
    `refimpl.interop.load_folder`.
    """
    path, tokenizer = Path(run), None
    if _of_numpy(path) and (path / "weights.safetensors").exists():
        path /= "weights.safetensors"  # it has no others
    elif (path / "run.toml").exists() or not path.exists():
        _, path = _read_run(path, weights, {})
    params, config = load_folder(path)
    with suppress(ValueError):  # it has other tokens
        tokenizer = Tokenizer.beside(path / "weights" if path.is_dir() else path, config.vocab_size)
    return RetNet.holding(params, config), tokenizer


def _of_numpy(run):
    """True for the folder of a run of `refimpl.training.train`, whose settings name no model."""
    return (run / "run.toml").is_file() and "model" not in read_toml(run / "run.toml")


def _read_run(run, weights, demanded):
    """result.json of a finished run and the path of its weights; demanded: settings that the run must have."""
    check_choice("weights", weights, FILES)
    if not run.is_dir():
        raise FileNotFoundError(f"run: there is no folder {str(run)!r}")
    path, numpy = run / "result.json", _of_numpy(run)
    if numpy and (run / "weights.safetensors").exists():
        raise ValueError(
            f"run must be of torch, {str(run)!r} is one of NumPy, of which --onnx alone exports the weights"
        )
    if not path.exists():
        raise ValueError(
            f"run must be a finished run; {str(run)!r} holds no result.json: "
            f"python -m {'refimpl' if numpy else 'gpu'} train --out {shlex.quote(str(run))} --resume finishes it"
        )
    try:
        result = json.loads(path.read_bytes())
        config, _ = RunConfig(**result["config"]), [result[name] for name in ("device", "seconds", "versions")]
        _ = [losses["step"] + losses["held_out"] for losses in (result["best"], last_losses(result))]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"run: {str(path)!r} is no result of a run: {error!r}") from None
    for name, wanted in ({"model": "retnet", "task": None} | demanded).items():
        if getattr(config, name) != wanted:
            raise ValueError(f"run must have {name} = {wanted!r}, got {getattr(config, name)!r}")
    return result, run / FILES[weights]


def _rounded(name, array):
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        largest = np.abs(array).max()
        raise ValueError(f"run must have weights within float16, of at most 65504; {name} has {largest:.3g}")
    return half


def _module(params, config, device="cpu"):
    model = RetNet(config).to(device)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in flatten(params).items()})
    return model


def _held_out(params, shape, text, config, device):
    """Bits per byte on the run's held-out windows, in float32 also for a run in bfloat16."""
    plain = dataclasses.replace(
        config, precision="float32", retention="chunkwise", batch_size=min(config.batch_size, 16), accumulation=1,
        compile=False, recompute=False,
    )  # fmt: skip
    return evaluate(Trainer(_module(params, shape, device), plain).loss, text, plain)


def _shown(corpus):
    """The name of a corpus without the folders of this machine."""
    return " + ".join(Path(part).name if Path(part).is_absolute() else part for part in corpus.split(" + "))


def _scores(params, shape, text, config, device):
    """Bits per byte of rounded weights on the held-out part of a text, and on its domain, if it has one."""
    parts = {"held_out": text} | ({} if text.domain is None else {"domain": text._replace(held_out=text.domain)})
    return {name: round(_held_out(params, shape, part, config, device), 4) for name, part in parts.items()}


def _before(config):
    """What the card says of the run whose weights this one began with; nothing if its folder is gone."""
    if config.from_weights is None or not (Path(config.from_weights) / "result.json").exists():
        return None
    result, _ = _read_run(Path(config.from_weights), "best", {})
    began = dataclasses.replace(RunConfig(**result["config"]), corpus=Path(result["config"]["corpus"]).name)
    return {
        "command": command(began),
        "bits_per_byte": round(last_losses(result)["held_out"], 4),
        **{name: result[name] for name in ("device", "seconds", "versions")},
    }


def _passage(held_out):
    """Held-out bytes (N,) from the start of a line near the middle; all characters are complete."""
    middle = max(0, (len(held_out) - PASSAGE_BYTES) // 2)
    after = held_out[middle:].astype(np.uint8).tobytes()  # those of shards are wider
    start = after.find(b"\n") + 1 if middle else 0
    return encode(after[start : start + PASSAGE_BYTES].decode("utf-8", errors="ignore"))


@torch.no_grad()
def _assert_torch_agrees(params, config, passage, logits, prompt, greedy):
    model = _module(params, config)
    other = model(torch.from_numpy(passage[None, :-1].astype(np.int64)), retention=retention_chunkwise)[0].numpy()
    apart = share(float(np.abs(other - logits).max()), float(np.abs(logits).max()))
    assert apart < LOGIT_TOLERANCE, f"torch's logits differ from NumPy's by {apart:.1e} of the largest"
    tokens = torch.from_numpy(encode(prompt).astype(np.int64))[None]
    sample = generate(model, tokens, len(greedy.tokens), temperature=0)
    written = sample.tokens[0, tokens.shape[1] :].numpy()
    assert np.array_equal(written, greedy.tokens), f"torch writes {decode(written)!r}, NumPy {decode(greedy.tokens)!r}"
