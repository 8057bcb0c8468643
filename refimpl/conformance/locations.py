"""Mistakes by where a result is wrong: tiles, tails, limits, heads by their decay, and by how little it is wrong."""

import numpy as np

from .comparison import AXES, TOLERANCES, Failure, difference

TILES = (512, 256, 128, 64, 32, 16, 8)


def by_place(kernel, dtype, failure):
    """(name, sentence) by the pattern of wrong elements, or None."""
    found = failure.difference
    places = {axis: _along(found.wrong, i) for i, axis in enumerate(_axes(found.what))}
    looks = _looks(found)
    if looks == "wrong" and by_precision(dtype, found) is not None:
        return None
    return (
        _by_decay(kernel, dtype, failure, places, looks)
        or _copied(found)
        or _by_token(kernel, dtype, failure, places.get("token"), looks)
        or _by_tile(found, places, looks)
    )


def _axes(what):
    return AXES["state"] if "state" in what else AXES["out"]


def _along(wrong, axis):
    """Which indices of an axis have a wrong element."""
    return wrong.any(axis=tuple(i for i in range(wrong.ndim) if i != axis))


def _looks(found):
    got = found.got[found.wrong]
    if not np.isfinite(got).all():
        return "not finite"
    return "zero" if not got.any() else "wrong"


def _from(places):
    """The first index from which on all are wrong and before which none is; None if there is none, or it is 0."""
    first = int(np.argmax(places))
    return first if first > 0 and places[first:].mean() > 0.9 and not places[:first].any() else None


def _by_decay(kernel, dtype, failure, places, looks):
    """Heads that are wrong because of their gamma: they are so, too, when the decays change places."""
    heads, case = places["head"], failure.problem
    if heads.all() or failure.upstream is not None or len(set(case.gamma)) < 2:
        return None
    bad, good = case.gamma[heads], case.gamma[~heads]
    if set(bad) & set(good):
        return None
    turned = type(case)(*case.inputs[:3], case.gamma[::-1].copy(), case.state)
    try:
        results = dict(zip(("out", "state"), kernel.run(turned, dtype), strict=True))
        want = dict(zip(("out", "state"), kernel.scaled(turned).reference, strict=True))
        what = failure.difference.what
        moved = difference(what, results[what], want[what], kernel.tolerance(dtype))
    except Failure:
        return None
    if moved is None or not np.array_equal(_along(moved.wrong, 1), heads[::-1]):
        return None
    values = ", ".join(f"{x:.6g}" for x in sorted(set(bad)))
    if set(bad) == {1.0}:
        return "gamma 1", f"heads with gamma = 1 are {looks}: a division by 1 - gamma, or by its logarithm"
    if max(bad) < min(good):
        tokens = places.get("token")
        from_token = f" from token {int(np.argmax(tokens))} on" if tokens is not None and not tokens[0] else ""
        return (
            "decays out of range",
            f"fast heads (gamma {values}) are {looks}{from_token}: a power of gamma under- or overflows; "
            "declare smallest_gamma= if that is meant",
        )
    if min(bad) > max(good):
        return (
            "slow heads",
            f"slow heads (gamma {values}) are {looks}: 1 - gamma is lost in rounding, or gamma is clamped",
        )
    return None


def _copied(found):
    """Heads or sequences that hold what is right for another."""
    for axis, name in ((1, "head"), (0, "sequence")):
        got, want, wrong = (np.moveaxis(x, axis, 0) for x in (found.got, found.want, found.wrong))
        pairs = []
        for i in np.flatnonzero(wrong.any(axis=tuple(range(1, wrong.ndim)))):
            size = np.sqrt(np.mean(got[i] ** 2)) or 1.0
            near = [
                j
                for j in range(len(want))
                if j != i and np.max(np.abs(got[i] - want[j])) <= 20 * found.tolerance * size
            ]
            if not near:
                break
            pairs.append((int(i), near[0]))
        else:
            if pairs:
                mixed = "heads mixed" if axis else "batches mixed"
                return mixed, f"{name} {pairs[0][0]} holds what is right for {name} {pairs[0][1]} ({len(pairs)} so)"
    return None


def _by_token(kernel, dtype, failure, tokens, looks):
    if tokens is None:
        return None
    found, case = failure.difference, failure.problem
    what = "" if found.what == "out" else f" of the {found.what}"
    first = _from(tokens)
    if first is not None and first >= TILES[-1]:
        later = _other_length(kernel, dtype, failure)
        tile = next((tile for tile in TILES if first % tile == 0), None)
        if later in (None, first):
            return "length limit", f"tokens{what} from {first} on are {looks}, whatever the length: a limit on it"
        if tile is None:
            return "ragged tail", f"the last tokens{what}, from {first} of {case.time} on, are {looks}"
        return "ragged tail", f"the last tokens{what}, after a whole number of {tile}, are {looks}"
    whole = [tile for tile in TILES if tile < case.time]
    places = np.flatnonzero(tokens)
    for tile in whole:
        rests = set(places % tile)
        if len(rests) == 1 and (len(places) > 1 or rests == {0}):
            rest = rests.pop()
            return "chunk edge", f"only token {rest} of each chunk of {tile} is {looks}{what}"
    if not tokens.all():
        last = len(tokens) - _from(tokens[::-1]) if _from(tokens[::-1]) else None
        if last is not None:
            return "chunk edge", f"tokens{what} before {last} are {looks}, later ones are right"
    return None


def _other_length(kernel, dtype, failure):
    """From which token on the same problem is wrong at another length; None if that cannot be asked."""
    if failure.upstream is not None:
        return None
    case = failure.problem
    batch, heads, time, key_dim = case.q.shape
    longer = kernel.problem(
        dtype,
        batch,
        heads,
        time + 45,
        key_dim,
        case.v.shape[3],
        gamma=tuple(case.gamma),
        with_state=case.state is not None,
    )
    try:
        out, _ = kernel.run(longer, dtype)
        found = difference("out", out, kernel.scaled(longer).reference[0], kernel.tolerance(dtype))
    except Failure:
        return None
    return None if found is None else _from(_along(found.wrong, 2))


def _by_tile(found, places, looks):
    for axis, wrong in places.items():
        first = _from(wrong)
        if axis == "token" or first is None:
            continue
        plural = {"batch": "sequences", "head": "heads"}.get(axis, f"{axis}s")
        return (
            "tile edge",
            f"{plural} of {found.what} from {first} on are {looks}, of {len(wrong)}: beyond a tile or a grid",
        )
    return None


def by_size(kernel, dtype, case, right):
    """By the size without which the same kind of problem is solved; right raises a Failure where one is not."""
    batch, heads, time, key_dim = case.q.shape
    sizes = {"B": batch, "H": heads, "T": time, "K": key_dim, "V": case.v.shape[3]}
    names = {"B": "tile edge", "H": "tile edge", "T": "length limit", "K": "tile edge", "V": "tile edge"}
    for axis, small in {"T": 33, "K": 8, "V": 12, "H": 2, "B": 1}.items():
        if sizes[axis] <= small:
            continue
        smaller = kernel.problem(
            dtype, *(sizes | {axis: small}).values(),
            gamma=tuple(case.gamma[:small] if axis == "H" else case.gamma), with_state=case.state is not None,
        )  # fmt: skip
        try:
            right(smaller, dtype)
        except Failure:
            continue
        return names[axis], f"right at {axis} = {small}, wrong at {axis} = {sizes[axis]}, all else being equal"
    return None


def by_precision(dtype, found):
    """By the size of an error that is everywhere."""
    rounding = {"float64": 1e-5, "float32": 2e-2, "float16": 0.2, "bfloat16": 0.3}[dtype]
    if not found.relative < rounding:
        return None
    narrower = {"float64": "float32", "float32": "halves"}.get(dtype, "halves")
    wide = "the sums or the state" if dtype in ("float16", "bfloat16") else "something on the way"
    allowed = f"{TOLERANCES[dtype]:.0e}"
    return f"computed in {narrower}", (
        f"{wide} is rounded to {narrower} (relative error {found.relative:.1g}, allowed {allowed}); "
        "declare tolerances= if that is meant"
    )  # fmt: skip
