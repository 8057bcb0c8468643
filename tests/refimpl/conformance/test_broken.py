"""Every broken kernel is caught, and the report names its mistake; what they are made of keeps the contract."""

import functools

import numpy as np
import pytest

import refimpl
from refimpl.conformance import ConformanceError, check, formulas, matching
from refimpl.conformance.broken import MISTAKES
from refimpl.conformance.problems import problem


@pytest.fixture(scope="module", autouse=True)
def computed_once():
    """What known mistakes give for a problem is the same for all kernels; kept for the few problems that many get wrong."""
    with pytest.MonkeyPatch.context() as context:
        context.setattr(
            matching, "formulas", functools.lru_cache(maxsize=4)(lambda *given: Kept(formulas.formulas(*given)))
        )
        yield


class Kept:
    """The items of an iterator, for several readers."""

    def __init__(self, items):
        self.items, self.seen = items, []

    def __iter__(self):
        yield from self.seen
        for item in self.items:
            self.seen.append(item)
            yield item


def put_to_the_test(retention, mistake):
    """The report on a retention in the library and dtype of a mistake; of the first failure alone, to be quick."""
    reach = 0 if mistake.name == "NaN leaks backwards" else 63
    try:
        return check(retention, library=mistake.library, dtypes=(mistake.dtype,), nan_reach=reach, stop=True)
    except ConformanceError as error:
        return error.report


def base(mistake):
    """A right retention for a mistake: one without masks for that of masks."""
    return refimpl.retention_recurrent if mistake.name == "NaN leaks backwards" else refimpl.retention_chunkwise


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_broken_kernel_is_caught_and_its_mistake_is_named(mistake):
    report = put_to_the_test(mistake(base(mistake)), mistake)
    assert not report.passed, f"no check sees that a kernel {mistake.__name__}"
    assert report.mistake == mistake.name, f"{report}"
    assert report.failures[-1].hint


@pytest.mark.parametrize(
    ("name", "library", "dtype"),
    sorted({(base(mistake).__name__, mistake.library, mistake.dtype) for mistake in MISTAKES}),
)
def test_what_mistakes_are_made_of_keeps_the_contract(name, library, dtype):
    reach = 0 if name == "retention_recurrent" else 63
    assert check(getattr(refimpl, name), library=library, dtypes=dtype, nan_reach=reach).passed


@pytest.mark.parametrize("with_state", [False, True])
def test_guesses_begin_as_their_beginnings_say(with_state):
    """Else a right guess could be ruled out; and a beginning alone is no further from the truth than the whole."""
    case, begun = problem(2, 2, 43, 3, 4, gamma=(0.9, 0.97), with_state=with_state), 0
    for _, beginning, results in formulas.formulas(case, (16, 8)):
        if beginning:
            begun += 1
            out, first = results()[0], beginning()
            np.testing.assert_allclose(first, out[:1, :, : first.shape[2]], rtol=0, atol=1e-12)
            want = case.reference[0]
            assert matching.apart_at_least(want, first, want) <= matching.apart(want, out, want) + 1e-12
    assert begun == 2 * len(formulas.TABLES)


def test_there_are_enough_of_them():
    """Of every class that kernels get wrong."""
    assert len(MISTAKES) >= 40
    assert {
        "tile edge", "length limit", "ragged tail", "stale buffer", "strides ignored", "dtype of state", "dtype of out",
        "gamma 1", "slow heads", "decays out of range", "gradient cut at chunks", "no gradient", "not deterministic",
        "NaN leaks backwards", "heads mixed", "batches mixed", "missing zeta", "wrong chunk length in the tail",
        "decay after reading", "scale in one term", "computed in halves", "wrong arguments accepted",
    } <= {mistake.name for mistake in MISTAKES}  # fmt: skip
