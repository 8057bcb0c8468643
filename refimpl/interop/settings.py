"""What a config of another library says is obeyed, or refused by name: never passed over."""

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

CONFIG = "config.json"
Places = Sequence[tuple[str, Mapping[str, Any]]]


def merge(
    places: Places, file: str, known: AbstractSet[str], aliases: Mapping[str, str]
) -> tuple[dict[str, Any] | None, str]:
    """What all places say, under a library's present names, and how messages call these places; (None, file) if none counts.

    places: how messages call each, and its settings. A config.json counts wholly; what stands at the top of a file, called
    `file`, by its known names alone; any other place wholly, if it names a known setting, for it may be about something
    else. ValueError if a known setting has two values.
    """
    said: dict[str, Any] = {}
    origins: dict[str, str] = {}
    count = []
    for where, settings in places:
        current = {name: aliases.get(name, name) for name in settings}
        if not where.startswith(CONFIG):
            if known.isdisjoint(current.values()):
                continue
            if where == file:
                current = {name: now for name, now in current.items() if now in known}
        count.append(where)
        for name, now in current.items():
            value, old = settings[name], said.get(now)
            origin = where if name == now else f"{where} as {name}"
            if now in known and old is not None and value is not None and not np.array_equal(old, value):
                raise ValueError(f"{now} must be the same in {origins[now]} and in {origin}, got {old!r} and {value!r}")
            if old is None:  # argparse fills with None what nobody said
                said[now], origins[now] = value, origin
    return (said, " and ".join(dict.fromkeys(count))) if count else (None, file)


def allow(settings: Mapping[str, Any], where: str, allowed: Mapping[str, Sequence[Any]]) -> None:
    """Require that each setting that is there has one of the values allowed for it; None is as good as False."""
    for name, choices in allowed.items():
        empty = settings.get(name) is None and False in choices
        if name in settings and settings[name] not in choices and not empty:
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
