"""The loop of every training run: draw batches, take steps, check the loss, evaluate, and keep what a resumed run needs.

It works for NumPy and torch models alike. Losses are in bits per byte of text, whatever the tokens are,
or in bits an answer where a run learns a task.
"""

import hashlib
import json
import math
import os
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..checks import check_choice
from ..corpus.shards import Joined, is_shards, load_shards
from .bpe import Tokenizer, learn_tokenizer
from .questions import Questions
from .stopping import StoppedError
from .text import batches_once, consecutive_batches, load_corpus, random_batch, split_by_book

HELD_OUT = 0.1  # share of the characters, about


class Text(NamedTuple):
    """What a run learns from: tokens (N,) of the training part and of the held-out part, and their tokeniser.

    remarks: what a reader should know of the text, a line each. domain: held-out tokens (N,) of another domain, or None.
    digest: of a text that is too large to read for its fingerprint.
    """

    training: np.ndarray | Joined
    held_out: np.ndarray
    tokenizer: Tokenizer
    remarks: tuple[str, ...] = ()
    domain: np.ndarray | None = None
    digest: str = ""

    @property
    def unit(self):
        """What losses are counted by."""
        return "byte"

    @property
    def fingerprint(self):
        """A digest of both parts, by which a resumed run knows its text."""
        if self.digest:
            return self.digest
        digest = hashlib.sha256(self.training)
        digest.update(self.held_out)
        return digest.hexdigest()

    def batches(self, config):
        """A function (number of the step from 1 on, generator) -> inputs, targets, each (batch_size, window) int64.

        Windows are drawn by the generator, or, with config.once, taken in an order that the seed alone decides.
        """
        if not config.once:
            return lambda number, rng: random_batch(self.training, config.batch_size, config.window, rng)
        return batches_once(self.training, config.batch_size, config.window, config.seed)

    def bits_per_byte(self, bits, targets):
        """A loss in bits a token of these targets, in bits per byte of text."""
        return bits * float(targets.size / self.tokenizer.lengths[targets].sum())

    def evaluate(self, loss, config):
        """What a log's line says of the held-out part: {"held_out": bits per byte}, by `loss` of (inputs, targets)."""
        return {"held_out": evaluate(loss, self, config)}


@dataclass
class Progression:
    """The progress of a run: with model and optimiser, all that is needed to continue as if it had never stopped.

    step: number of steps done. best, best_step: the lowest held-out loss and its step. seconds: time taken so far.
    log_bytes: length of the log. batches: state of the generator that draws the batches. extended: for each time that a run
    got more steps, the step at which it did and the steps that it should have had.
    """

    step: int = 0
    best: float = math.inf
    best_step: int = 0
    seconds: float = 0.0
    log_bytes: int = 0
    batches: dict = field(default_factory=dict)
    extended: list = field(default_factory=list)

    def to_json(self):
        """As text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text):
        """The inverse of `to_json`; TypeError, ValueError or KeyError for a text that is no progression."""
        run = cls(**json.loads(text))
        for name, usual in asdict(cls()).items():
            value, kinds = getattr(run, name), (float, int) if isinstance(usual, float) else (type(usual),)
            if type(value) not in kinds or (type(value) is int and value < 0):
                raise TypeError(f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}, got {value!r}")
        if run.batches:
            np.random.default_rng().bit_generator.state = run.batches  # raises here for what is no state
        return run


def load_text(config, tokenizer=None):
    """Corpus, split and tokeniser of a `TrainConfig`, as `Text`; its `Questions`, if it has a task.

    A folder of token shards (`refimpl.corpus`) brings its own split and tokeniser, and stays on disk.

    tokenizer: by default it is learnt, from the training part alone.

    Raises:
        ValueError, OSError: the corpus cannot be read, a part of it is not longer than a window, or its tokens are not those
            of config.vocab_size and tokenizer.
    """
    if config.task is not None:
        return Questions(config)
    text = _text_of_shards(config, tokenizer) if is_shards(config.corpus) else _learnt_text(config, tokenizer)
    check_once(len(text.training), config)
    for part, tokens in (("training", text.training), ("held-out", text.held_out)):
        if len(tokens) <= config.window:
            unit = "bytes" if not text.tokenizer.merges else "tokens"
            raise ValueError(
                f"corpus must have a {part} part of more than window = {config.window} {unit}, got {len(tokens)}; "
                "give a longer text"
            )
    return text


def _text_of_shards(config, tokenizer):
    shards = load_shards(config.corpus)
    if shards.tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"vocab_size must be {shards.tokenizer.vocab_size}, as the token shards in {config.corpus!r} have, "
            f"got {config.vocab_size}"
        )
    if tokenizer is not None and tokenizer != shards.tokenizer:
        raise ValueError(
            f"corpus: the token shards in {config.corpus!r} have another tokeniser than the weights; give its text, or shards "
            "of that tokeniser"
        )
    return Text(shards.training, shards.held_out, shards.tokenizer, domain=shards.domain, digest=shards.digest)


def _learnt_text(config, tokenizer):
    corpus = load_corpus(config.corpus)
    training, held_out = (part.text for part in split_by_book(corpus, HELD_OUT))
    tokenizer = tokenizer or learn_tokenizer(training, config.vocab_size)
    remarks = *corpus.remarks, *_remark_on_split(len(training), len(held_out))
    return Text(tokenizer.encode(training), tokenizer.encode(held_out), tokenizer, remarks)


def check_once(tokens, config):
    """Raise a ValueError if a run that reads each token once needs more than there are."""
    needed = config.steps * config.batch_size * config.window
    if config.once and needed >= tokens:
        raise ValueError(
            f"once: steps x batch_size x window = {needed:,} tokens and one more are needed, the training part has {tokens:,}; "
            "fewer steps, or a longer text"
        )


def _remark_on_split(training, held_out):
    """A remark if far less or more is held out than is meant to be, for whole documents are."""
    share = held_out / (training + held_out)
    if not HELD_OUT / 2 <= share <= 2 * HELD_OUT:
        yield (
            f"held out: {held_out:,} of {training + held_out:,} characters, {share:.2%} where {HELD_OUT:.0%} is wanted, for "
            "documents are held out whole: give more of them, or of more equal length, or one file"
        )


def scheduled_rate(step, config):
    """Learning rate of step 1, 2, ...: linear warm-up, times a cosine from 1 to a tenth over the run.

    A run that gets more steps than it had follows the cosine of the longer run from there on, so its rate rises again.
    """
    cosine = 0.55 + 0.45 * math.cos(math.pi * (step - 1) / config.steps)
    return config.learning_rate * min(1.0, step / (config.warmup + 1)) * cosine


def fit(
    config, step, loss, out, console=None, *, text=None, progress=None, keep=lambda _: None, stop=lambda: False,
    explain=lambda: "a lower learning_rate may help", predict=None,
):  # fmt: skip
    """Train by `step` to the end of the run, with a progress bar.

    Args:
        config: a `TrainConfig`.
        step: (inputs, targets, learning_rate) -> bits a token of the batch and the norm of its gradient, both before
            the update. It updates only if both are finite.
        loss: (inputs, targets) -> bits a token.
        out: folder of the run for log.jsonl: a line a step, some with the held-out loss. None writes nothing, for a
            process whose log another process writes.
        console: the rich console of the progress bar; standard output by default.
        text: a `Text` or `Questions`, by default that of `load_text`.
        progress: the `Progression` of a run to resume; it is updated in place.
        keep: called with the `Progression` after every evaluation and before the run stops, to keep model and optimiser.
        stop: called after every step; True stops the run there.
        explain: returns a hint for the message when a loss or gradient is not finite.
        predict: inputs -> the likeliest token after each, for a task, whose lines of the held-out loss have accuracy too.

    Returns:
        The log, a list of dicts; None without `out`.

    Raises:
        StoppedError: `stop` returned True.
        FloatingPointError: a loss or gradient is not finite; that step is not kept.
        ValueError, OSError: from `load_text`; or the log is shorter than the kept run expects.
    """
    text = text or load_text(config)
    rng, run = np.random.default_rng(config.seed), progress or Progression()
    batch = text.batches(config)
    rng.bit_generator.state = run.batches or rng.bit_generator.state
    started, first = time.perf_counter(), run.step
    elapsed = run.seconds - started
    with open_log(out, run.log_bytes) as log, _shown(console or Console(), text.remarks) as bar:
        task = bar.add_task("training", total=config.steps, completed=run.step, note="")
        while run.step < config.steps:
            number = run.step + 1
            inputs, targets = batch(number, rng)
            rate = scheduled_rate(number, config)
            value, norm = step(inputs, targets, rate)
            value = text.bits_per_byte(value, targets)
            line = {"step": number, "training": value, "gradient_norm": norm, "learning_rate": rate}
            _demand_finite(line, explain)
            run.step, due = number, number % config.evaluate_every == 0 or number == config.steps
            if due:
                line |= text.evaluate(loss, config) | (text.score(predict, config) if config.task and predict else {})
                _demand_finite(line, explain)
                if line["held_out"] < run.best:
                    run.best, run.best_step = line["held_out"], number
            run.seconds, run.batches = time.perf_counter() + elapsed, rng.bit_generator.state
            log.write(json.dumps(line | {"seconds": round(run.seconds, 3)}).encode() + b"\n")
            stopping = stop()
            if due or stopping:
                os.fsync(log.fileno())  # on disk before the length that is kept
                run.log_bytes = log.tell()
                keep(run)
            speed = (number - first) * inputs.size / (time.perf_counter() - started)
            bar.update(task, advance=1, note=f"{value:.2f} bits/{text.unit}  {speed:,.0f} tokens/s")
            if stopping and number < config.steps:
                raise StoppedError(f"stopped after step {number} of {config.steps}")
    return None if out is None else read_log(out)


COLUMNS = (
    TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
    TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
)  # fmt: skip


@contextmanager
def _shown(console, remarks):
    """Remarks, and within a progress bar; a run goes on if their reader is gone, as a closed pipe or terminal is."""
    bar, gone = Progress(*COLUMNS, console=console), suppress(OSError, SystemExit)  # rich exits where a pipe is closed
    with gone:
        for remark in remarks:
            console.print(remark, markup=False, emoji=False, soft_wrap=True)
        bar.start()
    try:
        yield bar
    finally:
        with gone:
            bar.stop()


def _demand_finite(line, explain):
    for name, what in (("training", "loss"), ("gradient_norm", "norm of the gradient"), ("held_out", "held-out loss")):
        if not math.isfinite(line.get(name, 0.0)):
            raise FloatingPointError(f"the {what} is {line[name]} at step {line['step']}; {explain()}")


def loss_in_words(line, config):
    """The held-out loss, and of a task the accuracy, of a line of the log or of a result."""
    if config.task is None:
        return f"{line['held_out']:.2f} bits per byte on held-out text"
    return f"{line['accuracy']:.1%} of held-out answers right, {line['held_out']:.2f} bits an answer"


def evaluate(loss, text, config, max_windows=512, part="held_out"):
    """Bits per byte of `loss` over windows spread evenly through a part of the text: held_out or domain.

    ValueError if the text has no such part, or it is not longer than a window.
    """
    tokens = getattr(text, check_choice("part", part, ("held_out", "domain")))
    if tokens is None:
        raise ValueError(f"part: the text has no {part} part; a folder of token shards may have one")
    bits = size = 0
    for inputs, targets in consecutive_batches(tokens, config.batch_size, config.window, max_windows):
        bits += loss(inputs, targets) * targets.size
        size += text.tokenizer.lengths[targets].sum()
    return float(bits / size)


def open_log(out, length=0):
    """log.jsonl of a run, opened for writing after its first `length` bytes; the rest is removed.

    A run that was killed has logged more steps than it kept, and takes those steps again. Without `out`, a temporary file.
    """
    if out is None:
        return tempfile.TemporaryFile(buffering=0)
    path = Path(out) / "log.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)  # now, not after the first evaluation
    known = path.stat().st_size if path.exists() else 0
    if known < length:
        raise ValueError(f"out: {str(path)!r} must hold the {length} bytes that the checkpoint expects, got {known}")
    log = open(path, "r+b" if length else "wb", buffering=0)  # noqa: SIM115 it is returned; unbuffered, so that every line is in the file at once
    log.truncate(length)
    log.seek(length)
    return log


def read_log(out):
    """The lines of a run's log, a list of dicts of step, training, held_out (some) and more; ValueError names a bad line."""
    path, log = Path(out) / "log.jsonl", []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            log.append(json.loads(line))
            _ = log[-1]["step"] + log[-1]["training"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"out: line {number} of {str(path)!r} is none of a run's log: {error!r}") from None
    return log
