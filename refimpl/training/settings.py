"""Settings as a dataclass: the types of its fields are checked, and it goes to a TOML file and back.

A field is annotated Annotated[kind, help]; kind is str, bool, int or float, one of them or None, or a tuple of one.
"""

import dataclasses
import difflib
import json
import shlex
import tomllib
from pathlib import Path
from types import NoneType
from typing import get_args, get_origin, get_type_hints

from ..checks import check_integer, check_number
from .start import load_start


def check_fields(config):
    """Require of each field the kind of its annotation, and make a number of it an int or a float.

    A TypeError names the field; so does a ValueError, for a text that no UTF-8 file can hold.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     steps: int = 9
    >>> check_fields(Config(steps=True))
    Traceback (most recent call last):
    TypeError: steps must be an integer, got True (bool)
    """
    for name, hint in get_type_hints(type(config)).items():
        value, (kind, *others) = getattr(config, name), get_args(hint) or (hint,)
        if get_origin(hint) is tuple:
            if not isinstance(value, (tuple, list)):
                raise TypeError(f"{name} must be a tuple or a list, got {value!r}")
            value = tuple(_checked(name, each, kind) for each in value)
        elif value is not None or NoneType not in others:
            value = _checked(name, value, kind)
        object.__setattr__(config, name, value)


def _checked(name, value, kind):
    if kind is int:
        return check_integer(name, value, None)
    if kind is float:
        return check_number(name, value)
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}")
    if kind is str and value.encode("utf-8", errors="ignore").decode() != value:
        raise ValueError(f"{name} must be text that UTF-8 can hold, got {value!r}; rename a file of such a name")
    return value


def read_toml(path):
    """The contents of a TOML file, with any keys; FileNotFoundError, or ValueError if it is a folder or no TOML."""
    if Path(path).is_dir():
        raise ValueError(
            f"config: {str(path)!r} is a folder, and no file of settings; --out {shlex.quote(str(path))} --resume goes on with "
            "the run in it"
        )
    if not Path(path).is_file():
        raise FileNotFoundError(f"config: there is no file {str(path)!r}")
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise ValueError(f"config: {str(path)!r} is not TOML: {error}") from None


def check_keys(kind, settings, path):
    """Raise ValueError for a key that the dataclass `kind` does not have; it names the key and the file."""
    known = [field.name for field in dataclasses.fields(kind)]
    for name in settings:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; the keys are {', '.join(known)}"
            raise ValueError(f"config: unknown key {name!r} in {str(path)!r}{hint}")


def read_settings(kind, path):
    """The keys and values of a TOML file, all of them fields of the dataclass `kind`.

    Raises FileNotFoundError, or ValueError if it is not TOML or holds an unknown key.
    """
    settings = read_toml(path)
    check_keys(kind, settings, path)
    return settings


def to_toml(config):
    """Settings as TOML text that `read_settings` reads back; a None is left out."""
    values = {name: x for name, x in dataclasses.asdict(config).items() if x is not None}
    # JSON's texts are TOML's, but for one character that TOML wants escaped.
    lines = (f"{name} = {json.dumps(x, ensure_ascii=False)}\n" for name, x in values.items())
    return "".join(lines).replace("\x7f", "\\u007f")


def configured(kind, given):
    """The dataclass `kind` of given settings; the shape of the model is that of from_weights, if that is given."""
    weights = given.get("from_weights")
    return kind(**(load_start(weights).settings if isinstance(weights, str) else {}) | given)


def run_config(kind, out, resume, settings, file=None):
    """The settings of a run: options over a file, or None, over those of the run in `out`, if that is to be resumed.

    Raises:
        FileNotFoundError: there is no such file or run.
        TypeError, ValueError: from `kind` or `read_settings`.
    """
    given, echo = (read_settings(kind, file) if file else {}) | settings, Path(out) / "run.toml"
    if resume and not echo.exists():
        raise FileNotFoundError(f"resume: there is no run in {str(out)!r}")
    return kind(**read_settings(kind, echo) | given) if resume else configured(kind, given)
