"""`check` on kernels that differ from the contract as declared, what its report says, and what it is itself based on."""

import functools
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from backends import TORCH
from paths import ROOT

import refimpl
from refimpl.conformance import ConformanceError, Report, check, suite
from refimpl.conformance.comparison import Failure, difference
from refimpl.conformance.contract import CHECKS
from refimpl.conformance.gradients import upstream
from refimpl.conformance.kernel import Kernel
from refimpl.conformance.libraries import LIBRARIES, NUMPY, Library
from refimpl.conformance.problems import problem
from refimpl.oracle import retention_oracle

recurrent, chunkwise = refimpl.retention_recurrent, refimpl.retention_chunkwise
quick = functools.partial(check, dtypes="float64")


def report_on(retention, **options):
    """The report of a check that fails."""
    with pytest.raises(ConformanceError) as caught:
        quick(retention, **options)
    return caught.value.report


# ---------------------------------------------------------------- what is declared is no failure


def bthk(q, k, v, gamma, state=None):
    out, state = recurrent(*(x.swapaxes(1, 2) for x in (q, k, v)), gamma, state)
    return out.swapaxes(1, 2), state


def scaled(q, k, v, gamma, state=None):
    return recurrent(q * q.shape[3] ** -0.5, k, v, gamma, state)


def halved(q, k, v, gamma, state=None):
    return recurrent(q / 2, k, v, gamma, state)


def out_alone(q, k, v, gamma):
    return recurrent(q, k, v, gamma)[0]


def without_state(q, k, v, gamma):
    return recurrent(q, k, v, gamma)


def of_whole_chunks(q, k, v, gamma, state=None):
    assert q.shape[2] % 16 == 0, "T must be a multiple of 16"
    return recurrent(q, k, v, gamma, state)


def of_two_widths(q, k, v, gamma, state=None):
    assert (q.shape[3], v.shape[3]) in ((8, 16), (24, 16)), "no kernel for these widths"
    return recurrent(q, k, v, gamma, state)


def of_some_tokens(q, k, v, gamma, state=None):
    assert q.shape[2], "T must be at least 1"
    return recurrent(q, k, v, gamma, state)


def of_float32(q, k, v, gamma, state=None):
    assert q.dtype == gamma.dtype == np.float32, "q and gamma must be float32"
    return recurrent(q, k, v, gamma, state)


def of_careless(q, k, v, gamma, state=None):
    return recurrent(q, np.broadcast_to(k, q.shape) if k.shape[2:] == q.shape[2:] else k, v, gamma, state)


def in_tf32(q, k, v, gamma, state=None):
    q, k, v = (np.float32(np.float16(x)) for x in (q, k, v))
    return recurrent(q, k, v, gamma, state)


def of_slow_heads(q, k, v, gamma, state=None):
    assert (gamma >= 0.5).all(), "the decay of a chunk leaves the range of float32"
    return recurrent(q, k, v, gamma, state)


def masked(q, k, v, gamma, state=None):
    return chunkwise(q, k, v, gamma, state, chunk_size=16)


CALLS = []


def drawing(q, k, v, gamma, state=None):
    CALLS.append(None)
    out, state = recurrent(q, k, v, gamma, state)
    return out * (1 + 2.0**-50 * (len(CALLS) % 3)), state


DECLARED = {
    bthk: {"layout": "bthk"},
    scaled: {"scale": "1/sqrt(K)"},
    halved: {"scale": 0.5},
    out_alone: {"state": False, "returns_state": False},
    without_state: {"state": False},
    of_whole_chunks: {"time_multiple": 16},
    of_two_widths: {"widths": ((8, 16), (24, 16))},
    of_some_tokens: {"empty": False},
    of_float32: {"dtypes": "float32", "gamma_dtype": "float32"},
    of_careless: {"refusals": "none"},
    in_tf32: {"dtypes": "float32", "tolerances": {"float32": 3e-3}},
    of_slow_heads: {"smallest_gamma": 0.5},
    masked: {"nan_reach": 15},
    drawing: {"deterministic": False},
}


@pytest.mark.parametrize("kernel", DECLARED, ids=lambda kernel: kernel.__name__)
def test_what_is_declared_is_no_failure(kernel):
    assert quick(kernel, **DECLARED[kernel]).passed


class _OnADevice(LIBRARIES["torch"]):
    on_host = False


@pytest.mark.parametrize(("library", "tried"), [(TORCH, True), (_OnADevice("torch", torch), False)])
def test_values_are_tried_on_the_host_alone(library, tried):
    """A check of a GPU's values raises later, and what has raised on a GPU ends the process's work there."""
    gammas = []

    def kernel(q, k, v, gamma, state=None):
        gammas.append(gamma)
        return recurrent(q, k, v, gamma, state)

    refuses = next(check for check in CHECKS if check.__name__ == "refuses_wrong_arguments")
    refuses(Kernel(kernel, library, refusals="all"), "float64")
    floating = [gamma for gamma in gammas if gamma.is_floating_point()]
    assert any((gamma > 1).any() for gamma in floating) is tried
    assert len(floating) < len(gammas), "a gamma of integers is tried everywhere"


def test_the_host_is_where_nothing_waits():
    torches = [LIBRARIES["torch"]("torch", torch, device) for device in ("cpu", "cpu:0", "cuda", "cuda:1", "mps")]
    assert [library.on_host for library in torches] == [True, True, False, False, False]
    assert NUMPY.on_host
    assert not LIBRARIES["cupy"].on_host


@pytest.mark.parametrize("kernel", DECLARED, ids=lambda kernel: kernel.__name__)
def test_what_is_not_declared_is_a_failure_that_names_the_option(kernel):
    left = {"dtypes": DECLARED[kernel].get("dtypes", "float64")}
    report = report_on(kernel, **left, stop=True)
    options = set(DECLARED[kernel]) - {"dtypes"} | ({"layout"} if kernel is bthk else set())
    hints = " ".join(f"{row.hint} {row.detail}" for row in report.failures)
    assert any(f"{option}=" in hints or f"declare {option}" in hints for option in options), f"{report}"


def test_declared_options_leave_out_the_checks_that_they_excuse():
    report = quick(out_alone, **DECLARED[out_alone])
    skipped = {row.check: row.detail for row in report.rows if row.verdict == "skipped"}
    assert skipped["chains"] == "declared state=False"
    assert skipped["gradients_are_right"] == "declared gradients=False"


def test_chunk_sizes_are_tried():
    def broken(q, k, v, gamma, state=None, *, chunk_size=64):
        return chunkwise(q, k, v, gamma, state if chunk_size == 64 else None, chunk_size=chunk_size)

    report = report_on(broken, chunk_sizes=(64, 48), nan_reach=63)
    (row,) = report.failures
    assert (row.check, row.mistake) == ("takes_every_chunk_size", "initial state ignored")
    assert "chunk_size 48" in row.detail
    assert quick(chunkwise, chunk_sizes=(1, 48), nan_reach=63).passed


@pytest.mark.parametrize("names", [("q", "state"), ("k", "v", "gamma")])
def test_gradients_of_some_arguments_are_checked_alone(names):
    def partly(*arguments):
        known = ("q", "k", "v", "gamma", "state")
        return chunkwise(*(x if name in names else x.detach() for name, x in zip(known, arguments, strict=False)))

    assert quick(partly, library="torch", gradients=names, nan_reach=63).passed
    report = report_on(partly, library="torch", nan_reach=63, stop=True)
    assert report.mistake == "no gradient"


def test_torch_bfloat16_and_another_layout_with_a_scale():
    def kernel(q, k, v, gamma, state=None):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out, state = chunkwise(q * q.shape[3] ** -0.5, k, v, gamma, state)
        return out.transpose(1, 2), state

    options = {"library": "torch", "layout": "bthk", "scale": "1/sqrt(K)", "nan_reach": 63}
    assert check(kernel, dtypes=("float32", "bfloat16"), **options).passed


# ---------------------------------------------------------------- what a failure says


def test_a_failure_says_where_by_how_much_and_why():
    def kernel(q, k, v, gamma, state=None):
        out, state = recurrent(q, k, v, gamma, state)
        out[1:, 2:3, 7:8, 3:4] += 0.5
        return out, state

    report = report_on(kernel, stop=True)
    detail = report.failures[0].detail
    assert detail.startswith(
        "B 2 H 3 T 40 K 6 V 4, a state: out is wrong first at batch 1, head 2, token 7, channel 3: got "
    )
    assert "off by 0.5; relative error of the worst head" in detail
    assert "allowed 1e-12; 1 of 960 elements" in detail


@pytest.mark.parametrize(("place", "axes"), [("state", "batch 0, head 1, key channel 2, value channel 3")])
def test_a_wrong_state_is_located(place, axes):
    def kernel(q, k, v, gamma, state=None):
        out, state = recurrent(q, k, v, gamma, state)
        state[0, 1:2, 2:3, 3:4] = 0.0
        return out, state

    assert f"{place} is wrong first at {axes}: got 0" in report_on(kernel, stop=True).failures[0].detail


def test_a_wrong_gradient_is_located():
    def kernel(q, k, v, gamma, state=None):
        v = 1 * v
        if v.requires_grad:
            v.register_hook(lambda grad: grad * (torch.arange(grad.shape[2])[:, None] != 3))
        return recurrent(q, k, v, gamma, state)

    report = report_on(kernel, library="torch", stop=True)
    assert "gradient of v is wrong first at batch 0, head 0, token 3, channel 0: got 0" in report.failures[0].detail


def test_what_a_kernel_raises_is_a_row_and_hides_no_other():
    def kernel(q, k, v, gamma, state=None):
        if q.shape[3] > 64:
            raise RuntimeError("out of shared memory:\nRequired: 245848")
        return recurrent(q, k, v, gamma, state)

    (row,) = report_on(kernel).failures
    assert row.check == "holds_at_every_width"
    assert row.detail == "q (1, 2, 70, 96), v (1, 2, 70, 136), a state: raised RuntimeError: Required: 245848"
    assert "widths=" in row.hint


def of_no_state(q, k, v, gamma, state=None):
    if state is not None:
        raise ValueError("there must be no state")
    return recurrent(q, k, v, gamma)


def test_exceptions_of_different_causes_stand_apart_and_say_which_dtypes_met():
    def kernel(
        q, k, v, gamma, state=None
    ):  # as many are first written: every array in the dtype of q, a token at least
        state = torch.zeros((*q.shape[:2], q.shape[3], v.shape[3]), dtype=q.dtype) if state is None else state
        outs = []
        for t in range(q.shape[2]):
            state = gamma[:, None, None] * state + k[:, :, t, :, None] * v[:, :, t, None, :]
            outs.append(torch.einsum("bhk,bhkv->bhv", q[:, :, t], state))
        return torch.stack(outs, 2), state

    report = report_on(kernel, library="torch", dtypes=("float32", "bfloat16"), gradients=False, gamma_dtype="float32")
    told = {row.check: row for row in report.failures if row.dtype == "bfloat16"}
    detail, hint = told["equals_oracle"].detail, told["equals_oracle"].hint
    assert "a state; q in bfloat16, gamma in float32 and the state in float32: raised RuntimeError: expected" in detail
    assert hint.startswith("a kernel also gets gamma in float32 and the state in float32: convert what differs; if")
    assert told["empty_sequence_keeps_state"].hint == "if the kernel is not meant for this, declare empty=False"
    first, second = (cause for cause in report.by_mistake() if "raised" in cause)
    assert "stack expects a non-empty TensorList" in first
    assert "equals_oracle" not in first
    assert "equals_oracle (bfloat16)" in second
    (detail, hint) = next(
        (row.detail, row.hint) for row in report_on(of_no_state, library="torch", dtypes="float32").failures
    )
    assert detail.endswith("a state; q in float32, gamma in float64: raised ValueError: there must be no state")
    assert hint.startswith("if the kernel is not meant for this, declare state=False, ")


@pytest.mark.parametrize("wrong", [None, 3, "out", (1, 2, 3)])
def test_a_kernel_that_returns_something_else_is_no_crash(wrong):
    report = report_on(lambda *arguments: wrong)
    assert {row.verdict for row in report.rows} == {"FAILED", "skipped"}


def test_the_report_is_a_table_and_json():
    report = quick(recurrent)
    assert isinstance(report, Report)
    lines = str(report).splitlines()
    assert lines[0].startswith("retention_recurrent on numpy: 19 of 19 checks passed")
    assert len(lines) == 1 + len(CHECKS) == 1 + len(report.rows)
    read = json.loads(report.to_json())
    assert (read["passed"], read["library"], len(read["rows"])) == (True, "numpy", len(CHECKS))
    assert set(read["rows"][0]) == {"check", "dtype", "verdict", "seconds", "detail", "mistake", "hint"}


def test_the_error_carries_the_report_and_shows_failures_alone():
    with pytest.raises(AssertionError) as caught:
        quick(halved, stop=True)
    assert caught.type is ConformanceError
    assert json.loads(caught.value.report.to_json())["mistake"] == "scale of its own"
    assert "passed  " not in str(caught.value)
    assert "likely mistake: scale of its own: out is 0.5 times" in str(caught.value)


def test_the_error_tells_one_mistake_once():
    with pytest.raises(ConformanceError) as caught:
        quick(halved)
    assert len(caught.value.report.failures) > 5
    text = str(caught.value)
    assert text.count("scale of its own:") == 1
    assert "also in: equals_oracle (float64), holds_at_every_length (float64), " in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"library": "tofu"}, "library must be one of 'numpy', 'torch', 'jax', 'cupy', got 'tofu'"),
        ({"layout": "thkb"}, "layout must be one of 'bhtk', 'bthk', got 'thkb'"),
        ({"dtypes": "bfloat16"}, "dtypes must be those of numpy, which has no bfloat16"),
        ({"dtypes": ("int8",)}, "dtypes must be one of 'float64', 'float32', 'float16', 'bfloat16', got 'int8'"),
        ({"gradients": True}, "gradients must be False for arrays of numpy, which has no autograd"),
        ({"library": "torch", "gradients": ("w",)}, "gradients must be one of 'q', 'k', 'v', 'gamma', 'state', got 'w'"),
        ({"refusals": True}, "refusals must be one of 'shapes', 'all', 'none', got True"),
        ({"time_multiple": 0}, "time_multiple must be at least 1, got 0"),
        ({"widths": (64,)}, "widths must hold pairs (K, V), got 64"),
        ({"chunk_sizes": (16, 0)}, "chunk_sizes must be at least 1, got 0"),
        ({"scale": "K"}, "scale must be one of 'a number', '1/sqrt(K)', got 'K'"),
        ({"gamma_dtype": "bfloat16"}, "gamma_dtype must be one of None, 'float32', 'float64', got 'bfloat16'"),
        ({"state": "no"}, "state must be one of True, False, got 'no'"),
        ({"smallest_gamma": 1.5}, "smallest_gamma must be at most 1, got 1.5"),
        ({"nan_reach": -1}, "nan_reach must be at least 0, got -1"),
        ({"tolerances": {"half": 1.0}}, "tolerances must be one of 'float64', 'float32', 'float16', 'bfloat16', 'state', got 'half'"),
    ],
)  # fmt: skip
def test_check_refuses_options(options, message):
    with pytest.raises(ValueError, match="must") as refused:
        quick(recurrent, **{"dtypes": "float64"} | options)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retention": 3}, "retention must be a function, got int"),
        ({"dtypes": 3}, "dtypes must be a name or a tuple of names, got 3"),
        ({"dtypes": ()}, "dtypes must be a name or a tuple of names, got ()"),
        ({"chunk_sizes": 64}, "chunk_sizes must be a tuple, got int"),
        ({"widths": "64x64"}, "widths must be a tuple, got str"),
    ],
)
def test_check_refuses_options_of_another_kind(options, message):
    with pytest.raises(TypeError) as refused:
        check(**{"retention": recurrent} | options)
    assert str(refused.value) == message


# ---------------------------------------------------------------- what it is based on


def test_numpy_is_all_that_is_needed():
    """Until a library is named: what tests and other libraries need is not even there."""
    code = (
        "import sys\n"
        "for name in ('torch', 'jax', 'cupy', 'hypothesis', 'pytest', 'array_api_strict', 'scipy', 'numba'):\n"
        "    sys.modules[name] = None\n"
        "from refimpl import retention_recurrent\n"
        "from refimpl.conformance import check\n"
        "print(check(retention_recurrent, dtypes='float32').passed)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_reference_is_confirmed_by_the_oracle(monkeypatch):
    from refimpl.conformance import problems

    problems._confirm.cache_clear()
    monkeypatch.setattr(problems, "retention_recurrent", lambda *inputs: tuple(2 * x for x in recurrent(*inputs)))
    with pytest.raises(RuntimeError, match="differs from the oracle"):
        _ = problem(1, 2, 3, 4, 5, seed=77).reference
    problems._confirm.cache_clear()


@pytest.mark.parametrize("with_state", [True, False])
def test_the_gradients_it_compares_with_are_slopes_of_the_oracle(with_state):
    case = problem(1, 2, 6, 2, 3, gamma=(0.9, 0.5), with_state=with_state, seed=3)
    rng = np.random.default_rng(1)
    grads = tuple(rng.standard_normal(x.shape) for x in case.reference)
    found = case.gradients(*grads)
    for place, name in enumerate(("q", "k", "v", "gamma", *(("state",) if with_state else ()))):
        step = 1e-6 * rng.standard_normal(case.inputs[place].shape)
        ends = []
        for sign in (1, -1):
            inputs = list(case.inputs)
            inputs[place] = inputs[place] + sign * step
            ends.append(sum(np.sum(x * y) for x, y in zip(retention_oracle(*inputs), grads, strict=True)))
        assert np.isclose((ends[0] - ends[1]) / 2, np.sum(found[name] * step), rtol=1e-7), name


def test_a_difference_is_measured_by_the_size_of_its_head():
    """A large head hides no small one, NaN is never right, and neither is a wrong shape."""
    want = np.ones((1, 2, 5, 4)) * np.array([1.0, 1e4])[:, None, None]
    got = want.copy()
    got[0, 0, 3, 2] += 1e-3
    found = difference("out", got, want, 1e-5)
    assert found.first == (0, 0, 3, 2)
    assert difference("out", want + 1e-7, want, 1e-5) is None
    got[0, 1, 0, 0] = np.nan
    assert np.count_nonzero(difference("out", got, want, 1e-5).wrong) == 2
    with pytest.raises(Failure, match="state has shape"):
        difference("state", got, want.mT, 1e-5)


@pytest.mark.parametrize("library", [NUMPY, TORCH], ids=lambda library: library.name)
def test_layouts_are_equal_strided_and_have_nan_between(library):
    x = library.asarray(np.random.default_rng(0).standard_normal((2, 3, 4, 5)))
    layouts = library.layouts(x)
    assert len(layouts) == 3
    for view in layouts.values():
        assert np.array_equal(library.to_numpy(view), library.to_numpy(x))
        assert not (view.flags.c_contiguous if library is NUMPY else view.is_contiguous())
    gaps = layouts["every second element"].base if library is NUMPY else layouts["every second element"]._base
    assert np.isnan(library.to_numpy(gaps)).any()


def test_cupy_is_read_by_its_own_function():
    """With a stand-in, for there is no CuPy here."""
    stand_in = SimpleNamespace(**vars(np) | {"asnumpy": lambda x: np.asarray(x)})
    cupy = LIBRARIES["cupy"]("cupy", stand_in)
    report = suite.run(Kernel(recurrent, cupy), ("float32",))
    assert report.passed
    assert report.library == "cupy"


def test_upstream_gradients_are_rounded_to_the_results_dtypes():
    kernel = Kernel(recurrent, TORCH, gradients=True)
    out, state = upstream(kernel, problem(1, 1, 3, 2, 2), "bfloat16")
    for x, dtype in ((out, torch.bfloat16), (state, torch.float32)):
        assert np.array_equal(x, torch.asarray(x).to(dtype).double().numpy())
    assert isinstance(TORCH, Library)
