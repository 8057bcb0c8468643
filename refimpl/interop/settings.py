"""What a config of another library says is obeyed, or refused by name: never passed over."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def allow(settings: Mapping[str, Any], where: str, allowed: Mapping[str, Sequence[Any]]) -> None:
    """Require that each setting that is there has one of the values allowed for it."""
    for name, choices in allowed.items():
        if name in settings and settings[name] not in choices:
            raise ValueError(f"{where}: {name} must be {' or '.join(map(repr, choices))}, got {settings[name]!r}")


def match(settings: Mapping[str, Any], where: str, weights: Mapping[str, Any]) -> None:
    """Require that each setting that is there is what the weights show."""
    for name, want in weights.items():
        got = settings.get(name)
        same = got == want or (isinstance(want, float) and isinstance(got, int | float) and math.isclose(got, want))
        if got is not None and not same:
            raise ValueError(f"{where}: {name} must be {want!r}, as the weights show, got {got!r}")


def settle(name: str, given: Any, said: Any, where: str) -> Any:
    """The value of an argument: what was given, or what the settings said, which must agree; None if neither did."""
    if given is not None and said is not None and given != said:
        raise ValueError(f"{name} must be {said!r}, as {where} says, got {given!r}")
    return said if given is None else given
