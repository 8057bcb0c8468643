"""The contract: one suite of checks that every retention passes, whoever computes it.

A check is a function of a `Kernel` and the name of a dtype; it raises a `Failure`, which is an AssertionError, where the
contract is broken. CHECKS holds all of them with the kind of evidence that they are.
"""

import warnings
from dataclasses import dataclass

from . import gradients
from .comparison import Failure
from .problems import mixed
from .properties import (
    chains,
    empty_sequence_keeps_state,
    gives_the_same_bits,
    is_causal,
    keeps_dtypes,
    keeps_nan_in_its_place,
    leaves_inputs_alone,
    owns_its_results,
    reads_what_was_written,
    refuses_wrong_arguments,
    single_token,
    starts_afresh,
    takes_any_strides,
)

# (B, H, T, K, V): around the edges of tiles and chunks of 16 to 128 tokens; beyond tiles of 64 to 256 channels, and
# neither a multiple of 8; beyond 8, 16, 32 and 64 heads and sequences, and 256 of both; beyond 512, 1,024 and 2,048 tokens.
LENGTHS = [(1, 3, time, 8, 12) for time in (1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 200, 257, 300)]
WIDTHS = [(1, 2, 70, *pair) for pair in ((1, 1), (3, 5), (64, 64), (96, 136), (160, 256), (272, 80), (40, 520))]
COUNTS = [(3, 9, 70, 4, 6), (1, 33, 18, 4, 6), (17, 2, 18, 4, 6), (20, 17, 5, 4, 6), (70, 2, 5, 4, 6), (2, 70, 5, 4, 6)]
LONG = [(1, 6, 613, 16, 8), (2, 4, 1100, 8, 16), (1, 2, 2100, 8, 8)]


# ---------------------------------------------------------------- against the oracle


def equals_oracle(kernel, dtype):
    """The oracle's literal loops, from a zero and a non-zero state; in float64 also at a size of several chunks."""
    for with_state in (True, False):
        for gamma in (None, mixed(3)):
            case = kernel.problem(dtype, 2, 3, 40, 6, 4, gamma=gamma, with_state=with_state)
            kernel.right(case, dtype, want=kernel.scaled(case).answer)
        case = kernel.problem(dtype, 2, 4, 257, 16, 24, with_state=with_state)
        as_usual = dtype == "float64" and kernel.scaled(case) is case and case.q.shape == (2, 4, 257, 16)
        kernel.right(case, dtype, want=case.answer if as_usual else None)  # whose second a process pays for once


def holds_for_slow_heads(kernel, dtype):
    """Decays that no float32 holds, over 257 tokens: rounding them would cost 2e-6 of the answer."""
    kernel.right(kernel.problem(dtype, 2, 4, 257, 16, 24, gamma=(0.9991, 0.99913, 0.9997, 0.97)), dtype)


def holds_at_every_length(kernel, dtype):
    """Lengths around the edges of tiles and chunks, with heads that forget nothing, at once, and slowly."""
    for sizes in LENGTHS:
        kernel.right(kernel.problem(dtype, *sizes, gamma=(1.0, 0.5, 0.9991), seed=sizes[2]), dtype)


def holds_at_every_width(kernel, dtype):
    """Channels beyond the edges of tiles."""
    for sizes in WIDTHS:
        kernel.right(kernel.problem(dtype, *sizes, seed=5), dtype)  # in which the sum of one channel does not cancel


def holds_for_many_heads_and_sequences(kernel, dtype):
    """More heads and sequences than a kernel's grid or tile may have been tried with."""
    for sizes in COUNTS:
        kernel.right(kernel.problem(dtype, *sizes, gamma=mixed(sizes[1])), dtype)


def holds_for_long_texts(kernel, dtype):
    """Up to 2,100 tokens, where gamma^T of a fast head underflows and a slow one adds up many: nothing warns."""
    for sizes in LONG:
        case = kernel.problem(dtype, *sizes, gamma=(1e-3, *mixed(sizes[1] - 1)))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", RuntimeWarning)
            results = kernel.run(case, dtype)
        kernel.right(case, dtype, results, factor=10)  # errors of float32 add up
        over = [f"{each.message}" for each in warned if issubclass(each.category, RuntimeWarning)]
        if over:
            raise Failure(
                f"{case}: warned: {over[0]}", mistake=("decays out of range", f"a number left its range: {over[0]}")
            )


def takes_every_chunk_size(kernel, dtype):
    """At each of its chunk sizes: lengths that it divides and not, and a long text."""
    for size in kernel.chunk_sizes:
        sized = kernel.with_chunk_size(size)
        for time in sorted({1, size - 1, size, size + 1, 3 * size + 2, 257} - {0}):
            case = kernel.problem(dtype, 1, 3, time, 8, 12, gamma=(1.0, 0.5, 0.9991), seed=time)
            try:
                sized.right(case, dtype, about=f", chunk_size {size}")
            except Failure as failure:
                failure.kernel = sized
                raise


# ---------------------------------------------------------------- the suite


@dataclass(frozen=True)
class Fits:
    """What a check is: the kind of evidence, which declared option makes it pointless, and whether one dtype is enough."""

    kind: str
    unless: tuple = ()
    once: bool = False

    def declared(self, kernel):
        """The option that excuses a kernel from the check, as text; None if none does."""
        for option, value in self.unless:
            if getattr(kernel, option) == value:
                return f"{option}={value!r}"
        return None


CHECKS = {
    keeps_dtypes: Fits("property"),
    reads_what_was_written: Fits("property"),
    single_token: Fits("property"),
    equals_oracle: Fits("oracle"),
    holds_at_every_length: Fits("oracle"),
    holds_at_every_width: Fits("oracle"),
    holds_for_many_heads_and_sequences: Fits("oracle"),
    holds_for_slow_heads: Fits("oracle"),
    takes_every_chunk_size: Fits("oracle", (("chunk_sizes", ()),)),
    empty_sequence_keeps_state: Fits("property", (("empty", False),)),
    chains: Fits("oracle", (("state", False), ("returns_state", False))),
    is_causal: Fits("property"),
    leaves_inputs_alone: Fits("property"),
    owns_its_results: Fits("oracle"),
    starts_afresh: Fits("oracle"),
    gives_the_same_bits: Fits("property", (("deterministic", False),)),
    takes_any_strides: Fits("oracle"),
    keeps_nan_in_its_place: Fits("property"),
    holds_for_long_texts: Fits("oracle"),
    **{check: Fits("oracle", (("gradients", False),)) for check in gradients.CHECKS},
    refuses_wrong_arguments: Fits("validation", (("refusals", "none"),), once=True),
}


def planned(dtypes):
    """(check, dtype) of every check in every dtype, in order."""
    for place, dtype in enumerate(dtypes):
        for check, fits in CHECKS.items():
            if place == 0 or not fits.once:
                yield check, dtype
