"""Properties of any retention, as checks of the contract: of a `Kernel` and the name of a dtype."""

import numpy as np

from .comparison import Failure, difference
from .problems import NAMES, Problem, mixed


def keeps_dtypes(kernel, dtype):
    """out has v's dtype; the state is float64 for float64 and float32 for everything narrower."""
    case = kernel.problem(dtype, 2, 3, 19, 4, 6)
    for what, result, want in zip(
        ("out", "state"),
        kernel(*kernel.arrays(case, dtype)),
        (dtype, "float64" if dtype == "float64" else "float32"),
        strict=True,
    ):
        if result is not None and kernel.library.dtype_of(result) != want:
            got = f"{what} is {kernel.library.dtype_of(result)} for {dtype} inputs, want {want}"
            raise Failure(f"{case}: {got}", mistake=(f"dtype of {what}", got))


def single_token(kernel, dtype):
    """T = 1 from nothing: o = (q . k) v and S = k^T v, whatever gamma is."""
    case = kernel.problem(dtype, 2, 3, 1, 4, 6, with_state=False)
    q, k, v, *_ = kernel.scaled(case).inputs
    if case.time == 1:
        want = np.sum(q * k, axis=-1, keepdims=True) * v, k[..., 0, :, None] * v[..., 0, None, :]
        kernel.right(case, dtype, want=want)


def empty_sequence_keeps_state(kernel, dtype):
    """T = 0: nothing comes out; the state equals the one that went in but is a copy, and is zero if none did."""
    for with_state in (True, False) if kernel.state else (False,):
        case = kernel.problem(dtype, 2, 3, 0, 4, 6, with_state=with_state)
        arrays = kernel.arrays(case, dtype)
        results = kernel(*arrays)
        kernel.right(case, dtype, kernel.to_numpy(results))
        if with_state and results[1] is not None and kernel.library.writable:
            results[1][...] = 7.0
            if not np.array_equal(kernel.library.to_numpy(arrays[4]), case.state):
                message = "without a token, the state returned is the caller's own array"
                raise Failure(f"{case}: {message}", mistake=("hands back the state given", f"{message}, not a copy"))


def chains(kernel, dtype):
    """Two calls, the second from the state of the first, are one call: at every split, the ends included."""
    for sizes, splits in (((2, 3, 19, 4, 6), range(20)), ((1, 2, 130, 8, 6), (1, 64, 65, 128))):
        case = kernel.problem(dtype, *sizes, gamma=mixed(sizes[1]))
        for split in splits:
            split = split // kernel.time_multiple * kernel.time_multiple
            if not kernel.empty and split in (0, case.time):
                continue
            first = case.tokens(0, split, case.state)
            middle = kernel(*kernel.arrays(first, dtype))
            head, _ = kernel.to_numpy(middle)
            arrays = kernel.arrays(case.tokens(split, None), dtype)
            tail, state = kernel.to_numpy(kernel(*arrays[:4], middle[1]))
            results = np.concatenate([head, tail], axis=2), state
            kernel.right(case, dtype, results, factor=2, about=f", split at {split}")


def is_causal(kernel, dtype):
    """Changing tokens from n on changes nothing that came out before n."""
    case = kernel.problem(dtype, 2, 3, 19, 4, 6)
    n = 11
    later = (np.concatenate([x[:, :, :n], x[:, :, n:] + 1], axis=2) for x in case.inputs[:3])
    before, after = (kernel.run(each, dtype)[0][:, :, :n] for each in (case, Problem(*later, *case.inputs[3:])))
    found = difference("out", after, before, kernel.tolerance(dtype))
    if found:
        message = f"what comes after token {n} changes what came out before"
        raise Failure(f"{case}: {message}: {found}", mistake=("not causal", message))


def keeps_nan_in_its_place(kernel, dtype):
    """A NaN at token n of one head reaches no token before n - nan_reach, and no other head or sequence; in q, n alone."""
    for name, time, n in (("v", 19, 11), ("k", 19, 11), ("q", 19, 11), ("v", 150, 100)):
        case = kernel.problem(dtype, 2, 3, time, 4, 6)
        poisoned = dict(zip(NAMES, case.inputs, strict=True))
        poisoned[name] = poisoned[name].copy()
        poisoned[name][0, 1, n] = np.nan
        with np.errstate(invalid="ignore"):
            out, state = kernel.run(Problem(**poisoned), dtype)
        reach = max(n - kernel.nan_reach, 0)
        last = n + 1 if name == "q" else None
        if np.isfinite(out[0, 1, n:last]).any():
            message = f"a NaN in {name} of token {n} does not reach the outputs after it"
            raise Failure(f"{case}: {message}", mistake=("hides NaN", message))
        spoiled = np.argwhere(~np.isfinite(out[0, 1]).all(-1))[:, 0]
        if spoiled[0] < reach:
            message = f"a NaN in {name} of token {n} reaches back to token {spoiled[0]}"
            hint = (
                f"{message}: a mask is applied by a product; declare nan_reach (C - 1 for chunks of C) if that is meant"
            )
            raise Failure(f"{case}: {message}", mistake=("NaN leaks backwards", hint))
        out[0, 1, :last] = 0.0
        if state is not None and name != "q":
            state[0, 1] = 0.0
        if not all(np.isfinite(x).all() for x in (out, state) if x is not None):
            message = f"a NaN in {name} of one head reaches {'later tokens, the state, ' if last else ''}other heads or sequences"
            raise Failure(f"{case}: {message}", mistake=("heads mixed", message))


def leaves_inputs_alone(kernel, dtype):
    """No argument is written to, the state least of all."""
    case = kernel.problem(dtype, 2, 3, 35, 4, 6)
    arrays = kernel.arrays(case, dtype)
    before = [None if x is None else kernel.library.to_numpy(x) for x in arrays]
    kernel(*arrays)
    for name, x, old in zip(NAMES, arrays, before, strict=True):
        if x is not None and not np.array_equal(kernel.library.to_numpy(x), old):
            raise Failure(f"{case}: {name} was written to", mistake=(WRITES, f"the call writes into {name}"))


WRITES = "writes into its arguments"
STALE = "stale buffer"


def owns_its_results(kernel, dtype):
    """What one call returned stays as it is when other calls follow, and when the caller writes into the arguments."""
    for sizes in ((2, 3, 19, 4, 6), (1, 2, 70, 8, 5)):
        case = kernel.problem(dtype, *sizes)
        arrays = kernel.arrays(case, dtype)
        first = [x for x in kernel(*arrays) if x is not None]
        before = [kernel.library.to_numpy(x) for x in first]
        others = [kernel.problem(dtype, *other, seed=1) for other in (sizes, (1, 1, 7, 3, 2), sizes)]
        for other in others:
            kernel(*kernel.arrays(other, dtype))
            _is_unchanged(kernel, case, first, before, STALE, "a later call overwrites what an earlier one returned")
        if not kernel.library.writable:
            continue
        for x in arrays:
            if x is not None:
                x[...] = 0.5
        _is_unchanged(kernel, case, first, before, WRITES, "the results are views of the arguments")
        for x in first:
            x[...] = 7.0
        kernel.right(others[0], dtype, about=" after the results of an earlier call were written over")


def _is_unchanged(kernel, case, results, before, name, message):
    for what, x, old in zip(("out", "state"), results, before, strict=False):
        if not np.array_equal(kernel.library.to_numpy(x), old):
            raise Failure(f"{case}: {what} of a call changed later: {message}", mistake=(name, f"{message} ({what})"))


def starts_afresh(kernel, dtype):
    """A call does not depend on the calls before it: of the same sizes with other decays and states, and of others."""
    gammas = (0.9, 0.5, 0.97), (0.5, 0.97, 0.9)
    cases = [
        kernel.problem(dtype, *sizes, gamma=gamma, seed=seed, with_state=with_state)
        for sizes in ((2, 3, 40, 4, 6), (1, 3, 70, 8, 5))
        for seed, (gamma, with_state) in enumerate(((gammas[0], True), (gammas[1], False), (gammas[0], False)))
    ]
    for place, case in enumerate([*cases, *cases[::-1]]):
        try:
            kernel.right(case, dtype)
        except Failure as failure:
            if place == 0 or failure.difference is None:
                raise
            message = "a call gives something else after other calls: what they left is used again"
            raise Failure(f"{failure}, after other calls", mistake=(STALE, message)) from failure
    if kernel.library.writable:
        _sees_new_values(kernel, dtype, *cases[:4:3])


def _sees_new_values(kernel, dtype, *cases):
    """The caller may write other values into the arrays of the last call."""
    for case in cases:
        other = kernel.problem(dtype, *case.q.shape, case.v.shape[3], seed=3, gamma=(0.97, 0.9, 0.5))
        arrays, values = kernel.arrays(case, dtype), kernel.arrays(other, dtype)
        kernel(*arrays)
        for x, value in zip(arrays, values, strict=True):
            if x is not None:
                x[...] = value
        try:
            kernel.right(other, dtype, kernel.run(other, dtype, arrays))
        except Failure as failure:
            message = "arrays that the caller has written to since are taken for what they were: they are known by their place"
            raise Failure(f"{failure}, in the arrays of an earlier call", mistake=(STALE, message)) from failure


def gives_the_same_bits(kernel, dtype):
    """The same call gives the same bits."""
    case = kernel.problem(dtype, 2, 3, 130, 8, 5)
    first = kernel.run(case, dtype)
    for _ in range(5):
        again = kernel.run(case, dtype)
        for what, x, y in zip(("out", "state"), again, first, strict=True):
            if x is not None and not np.array_equal(x, y):
                kernel.right(case, dtype, again)
                apart = np.max(np.abs(x - y))
                message = f"{what} of the same call twice differs by {apart:.1g}"
                hint = (
                    f"{message}: the order of a sum changes, or it draws; declare deterministic=False if that is meant"
                )
                raise Failure(f"{case}: {message}", mistake=("not deterministic", hint))


def takes_any_strides(kernel, dtype):
    """Views of every layout give what contiguous arrays give, or are refused."""
    case = kernel.problem(dtype, 2, 3, 35, 4, 6)
    arrays = kernel.arrays(case, dtype)
    kernel.right(case, dtype)
    views = [{} if x is None else kernel.library.layouts(x) for x in arrays]
    for layout in views[0]:
        for changed in (*range(5), "all"):
            if changed != "all" and layout not in views[changed]:
                continue
            given = [views[i].get(layout, x) if changed in (i, "all") else x for i, x in enumerate(arrays)]
            name = "the arguments" if changed == "all" else NAMES[changed]
            try:
                results = kernel.run(case, dtype, given)
                kernel.right(case, dtype, results, about=f", {name} being {layout}")
            except Failure as failure:
                if failure.raised is not None:
                    continue
                message = f"{name} must be contiguous for the kernel, and it does not look: {layout}"
                raise Failure(f"{failure}", mistake=("strides ignored", message)) from failure


def reads_what_was_written(kernel, dtype):
    """Memory that nobody has written to, which reads as NaN here where the library can do that, reaches no result."""
    for sizes in ((1, 2, 70, 5, 9), (2, 3, 19, 4, 6), (1, 2, 1, 5, 9)):
        case = kernel.problem(dtype, *sizes)
        likes = kernel(*kernel.arrays(case, dtype))
        with kernel.library.poisoned(*(x for x in likes if x is not None)):
            results = kernel.run(case, dtype)
        if not all(np.isfinite(x).all() for x in results if x is not None):
            message = "a result holds memory that the kernel never wrote to"
            raise Failure(f"{case}: {message}", mistake=("uninitialised memory", message))


# ---------------------------------------------------------------- refusals


def refuses_wrong_arguments(kernel, dtype):
    """Shapes that do not fit raise an exception, any, and are not broadcast; with refusals="all", values and dtypes too.

    Values are tried on the host alone: on a GPU a check raises when one waits for it, and torch's ends the process's work.
    """
    case = kernel.problem(dtype, 2, 3, 5, 4, 6, gamma=(0.9, 0.95, 1.0))
    kernel.run(case, dtype)
    for what, changes in _wrong(case, kernel.refusals, kernel.library.on_host).items():
        inputs = dict(zip(NAMES, case.inputs, strict=True))
        if "state" in changes and not kernel.state:
            continue
        spoiled = Problem(**inputs | {name: x for name, x in changes.items() if name != "dtypes"})
        arrays = list(kernel.arrays(spoiled, dtype))
        for place, other in changes.get("dtypes", {}).items():
            arrays[place] = kernel.library.asarray(case.inputs[place], other)
        try:
            kernel(*arrays)
        except Failure as failure:
            if failure.raised is not None:
                continue
            raise
        message = f"{what} is accepted"
        hint = f'{message}, want an exception; declare refusals="none" if the kernel leaves that to its callers'
        raise Failure(f"{case}: {message}", mistake=("wrong arguments accepted", hint))


def _wrong(case, level, on_host):
    """{what is wrong: {argument: what replaces it}} for a problem; "dtypes" are by the place of an argument."""
    _, k, v, gamma, state = case.inputs
    longer = lambda x, axis: np.concatenate([x, x.take([0], axis)], axis)  # noqa: E731
    shapes = {
        "a k of one sequence": {"k": k[:1]},
        "a k of one head": {"k": k[:, :1]},
        "a k of one token more": {"k": longer(k, 2)},
        "a k of one channel more": {"k": longer(k, 3)},
        "a v of one sequence": {"v": v[:1]},
        "a v of one head": {"v": v[:, :1]},
        "a v of one token more": {"v": longer(v, 2)},
        "a v of one token": {"v": v[:, :, :1]},
        "a gamma of one head": {"gamma": gamma[:1]},
        "a gamma of one head more": {"gamma": longer(gamma, 0)},
    }
    if state is not None:
        shapes |= {
            "a state of one sequence": {"state": state[:1]},
            "a state of one head": {"state": state[:, :1]},
            "a state of one value channel": {"state": state[..., :1]},
            "a state of one key channel more": {"state": longer(state, 2)},
        }
    if level == "shapes":
        return shapes
    values = {f"a gamma of {bad}": {"gamma": np.array([0.9, bad, 1.0])} for bad in (1.5, 0.0, -0.5, np.nan)}
    dtypes = {"a q of integers": {0: "int64"}, "a gamma of integers": {3: "int64"}}
    return shapes | (values if on_host else {}) | {what: {"dtypes": places} for what, places in dtypes.items()}
