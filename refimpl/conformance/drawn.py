"""Checks on whatever hypothesis draws: of a retention, and of a package that offers the names of refimpl.

The one file of this room that needs hypothesis, which is why `refimpl.conformance.check` leaves it out. No deadline: a
busy machine is no failure.
"""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st

from .comparison import all_close
from .package import forms, forms_agree_on, run, run_in_parts
from .problems import FULL, SMALL, problem


@st.composite
def problems(draw):
    """Any small problem: lengths from 0, widths from 1, gamma from 1e-3 to 1, with and without a state."""
    heads = draw(st.integers(1, 3))
    gamma = draw(st.tuples(*[st.one_of(st.just(1.0), st.just(1e-3), st.floats(1e-3, 1.0))] * heads))
    sizes = [draw(st.integers(low, high)) for low, high in ((1, 2), (0, 24), (1, 6), (1, 6))]
    return problem(
        sizes[0], heads, *sizes[1:], seed=draw(st.integers(0, 99)), gamma=gamma, with_state=draw(st.booleans())
    )


def equals_oracle_drawn(retention):
    """Float64 within 1e-10 of the oracle."""

    @settings(deadline=None)
    @given(problems())
    def check(case):
        all_close(run(retention, case), case.answer)

    check()


def forms_agree_drawn(package):
    """Every form gives what the parallel form gives."""

    @settings(deadline=None)
    @given(problems())
    def check(case):
        forms_agree_on(package, case)

    check()


def mixes_equal_oracle(package):
    """Any form, at any chunk size, for any part of any split: within 1e-10 of the oracle, at full size."""
    offered = forms(package)

    @settings(max_examples=30, deadline=None)
    @given(_mix(offered, FULL().time))
    def check(mix):
        all_close(run_in_parts(_parts(package, offered, mix), FULL()), FULL().answer)

    check()


def mixes_agree(package):
    """Any form for any part of any split gives what the parallel form gives on the whole."""
    offered = forms(package)
    want = run(offered["parallel"], SMALL())

    @settings(deadline=None)
    @given(_mix(offered, SMALL().time))
    def check(mix):
        all_close(run_in_parts(_parts(package, offered, mix), SMALL()), want)

    check()


def any_chunk_size_equals_oracle(package):
    """Drawn chunk sizes, dividing T or not, smaller and larger than it."""

    @settings(deadline=None)
    @given(problems(), st.integers(1, 30))
    def check(case, size):
        all_close(run(functools.partial(package.retention_chunkwise, chunk_size=size), case), case.answer)

    check()


def _mix(offered, time):
    """Lists of (form name or chunk size, stop), stops rising to `time`."""
    how = st.one_of(st.sampled_from(sorted(offered)), st.integers(1, time + 2))
    stops = st.lists(st.integers(0, time), max_size=4).map(lambda cuts: [*sorted(cuts), time])
    return stops.flatmap(lambda cuts: st.tuples(*[st.tuples(how, st.just(stop)) for stop in cuts]))


def _parts(package, offered, mix):
    """A drawn mix as `run_in_parts` wants it."""
    chunkwise = lambda size: functools.partial(package.retention_chunkwise, chunk_size=size)  # noqa: E731
    return [(offered[how] if isinstance(how, str) else chunkwise(how), stop) for how, stop in mix]


RETENTION_CHECKS = {equals_oracle_drawn: "oracle"}  # check of a retention of NumPy arrays: kind of evidence
CHECKS = {  # check of a package: kind of evidence
    forms_agree_drawn: "agreement",
    mixes_agree: "agreement",
    mixes_equal_oracle: "oracle",
    any_chunk_size_equals_oracle: "oracle",
}
