"""Messages between the grader and the sandbox: exact, and refused unless they are exactly as they must be."""

import numpy as np
import pytest

from exercises.harness.runner import Run
from exercises.harness.wire import MalformedError, call_from_bytes, call_to_bytes, frame, run_from_bytes, run_to_bytes


def test_arrays_cross_the_wire_exactly():
    run = Run(
        (np.array([[1.5, np.nan], [np.inf, -0.0]]), np.zeros((0, 3)), np.zeros((0, 12_000_000)), np.array(2.0)),
        {"x": np.arange(3.0)},
        "",
        "",
        True,
        calls=("rotate",),
    )
    back = run_from_bytes(run_to_bytes(run))
    for one, other in zip((*run.outputs, *run.inputs.values()), (*back.outputs, *back.inputs.values()), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.shape == other.shape
        assert other.dtype == np.float64
        assert other.flags.writeable
    assert back.calls == run.calls
    inputs = {"a": np.ones((2, 0, 3), np.float32), "b": 0.1, "c": 3, "d": None, "e": np.array([1.0, 2.0], np.float16)}
    inputs["f"] = np.arange(6.0).reshape(2, 3).T
    back = call_from_bytes(*call_to_bytes(inputs))
    assert list(back) == list(inputs)
    for name, value in inputs.items():
        np.testing.assert_array_equal(back[name], value)
        assert type(back[name]) is type(value)
        assert getattr(back[name], "dtype", None) == getattr(value, "dtype", None)


RUN = {"outputs": [[2]], "inputs": {}, "failure": "", "where": "", "written": True, "calls": []}
MALFORMED = {
    "nothing": b"",
    "one byte": b"x",
    "no JSON": frame({})[:8] + b"xx",
    "a list": b"\0\0\0\2\0\0\0\0[]",
    "no fields": frame({}),
    "a field more": frame(RUN | {"passed": True}, bytes(16)),
    "too few numbers": frame(RUN, bytes(8)),
    "too many numbers": frame(RUN, bytes(24)),
    "half a number": frame(RUN, bytes(12)),
    "trailing bytes": frame(RUN, bytes(16)) + b"x",
    "a negative axis": frame(RUN | {"outputs": [[-2]]}, bytes(16)),
    "two negative axes": frame(RUN | {"outputs": [[-1, -2]]}, bytes(16)),
    "a true axis": frame(RUN | {"outputs": [[True, 2]]}, bytes(16)),
    "a float axis": frame(RUN | {"outputs": [[2.0]]}, bytes(16)),
    "a huge axis": frame(RUN | {"outputs": [[2**40, 0]]}),
    "a huge product": frame(RUN | {"outputs": [[10**4, 10**4]]}),
    "many axes": frame(RUN | {"outputs": [[1] * 9]}, bytes(8)),
    "many arrays": frame(RUN | {"outputs": [[0]] * 33}),
    "a text as shape": frame(RUN | {"outputs": ["ab"]}),
    "a number as failure": frame(RUN | {"failure": 3}, bytes(16)),
    "a null as written": frame(RUN | {"written": None}, bytes(16)),
    "a number as a call": frame(RUN | {"calls": [3]}, bytes(16)),
    "many calls": frame(RUN | {"calls": ["a"] * 65}, bytes(16)),
    "a long claim": b"\xff" * 8,
    "deep JSON": b"\0\0\xea\x60\0\0\0\0" + b"[" * 60000,
    "a huge integer": frame(RUN)[:0] + b"\0\0\x27\x10\0\0\0\0" + b"9" * 10000,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_answers_are_refused(data):
    with pytest.raises(MalformedError):
        run_from_bytes(data)
