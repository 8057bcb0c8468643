"""The options of `check` as text, for the command and for pytest, and a retention by its name."""

import os
import sys
from dataclasses import dataclass, fields
from pkgutil import resolve_name
from typing import Annotated, get_args


@dataclass(frozen=True)
class Options:
    """What a kernel is declared to be, as `check` explains it."""

    library: Annotated[str, "whose arrays it takes: numpy, torch, jax or cupy"] = "numpy"
    dtypes: Annotated[
        str, "with commas, as in float32,bfloat16; by default float64 and float32, if the library has both"
    ] = ""
    device: Annotated[str, "where arrays are made: cpu, cuda, ..."] = "cpu"
    layout: Annotated[str, "bhtk, or bthk for (batch, time, heads, width)"] = "bhtk"
    scale: Annotated[str, "what it multiplies scores with: a number, or 1/sqrt(K)"] = "1"
    gradients: Annotated[
        str, "all, none, or arguments with commas, as in q,k,v; by default all, if the library has autograd"
    ] = ""
    state: Annotated[bool, "it takes an initial state"] = True
    returns_state: Annotated[bool, "it returns (out, state), and not out alone"] = True
    empty: Annotated[bool, "it takes texts without a token"] = True
    widths: Annotated[str, "pairs KxV that it takes, with commas, as in 64x64,128x128; by default any"] = ""
    chunk_sizes: Annotated[str, "values of its argument chunk_size to try, with commas; by default its own alone"] = ""
    time_multiple: Annotated[int, "what the number of tokens must be a multiple of"] = 1
    gamma_dtype: Annotated[str, "float32 or float64; by default float64, if the library has it"] = ""
    smallest_gamma: Annotated[float, "the fastest decay it holds: a smaller gamma is not tried"] = 0.0
    refusals: Annotated[str, "what it must refuse: shapes, all (values and dtypes too) or none"] = "shapes"
    deterministic: Annotated[bool, "the same call gives the same bits"] = True
    nan_reach: Annotated[int, "how many earlier tokens a NaN may spoil: C - 1 for masked products in chunks of C"] = 0
    tolerances: Annotated[str, "largest relative errors, as in float32=1e-3,bfloat16=0.02; by default ours"] = ""


# How the text of an option becomes the value that `check` takes; the others are taken as they are.
PARSED = {
    "dtypes": lambda text: _words(text) or None,
    "scale": lambda text: text if text == "1/sqrt(K)" else _number("scale", text),
    "gradients": lambda text: {"": None, "all": True, "none": False}.get(text, _words(text)),
    "widths": lambda text: tuple(_integers("widths", pair, "x") for pair in _words(text)),
    "chunk_sizes": lambda text: _integers("chunk_sizes", text, ","),
    "gamma_dtype": lambda text: text or None,
    "tolerances": lambda text: {
        name: _number("tolerances", bound) for name, _, bound in (each.partition("=") for each in _words(text))
    },
}


def keywords(settings):
    """What `check` takes, of options by name as text.

    >>> keywords({"widths": "64x128", "gradients": "q,k", "device": "cuda"})
    {'widths': ((64, 128),), 'gradients': ('q', 'k'), 'device': 'cuda'}
    """
    return {name: PARSED.get(name, lambda value: value)(value) for name, value in settings.items()}


def described():
    """(name, kind, default, help) of each option."""
    for field in fields(Options):
        kind, text = get_args(field.type)
        yield field.name, kind, field.default, text


def retention_of(name):
    """The function that "mypackage.module:function" names; the folder one is in counts as a place of modules."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(f"retention must be MODULE:FUNCTION, such as mypackage.module:function, got {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return resolve_name(name)
    except AttributeError as error:
        raise ValueError(f"retention must name a function of {module}: {error}") from None
    except ModuleNotFoundError as error:
        if not module.startswith(f"{error.name}"):
            raise
        raise ValueError(f"retention must name a module that can be imported: {error}") from None


def _words(text):
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _integers(name, text, between):
    try:
        return tuple(int(number) for number in text.split(between) if number.strip())
    except ValueError:
        raise ValueError(f"{name} must hold integers with {between!r} between them, got {text!r}") from None


def _number(name, text):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must hold numbers, got {text!r}") from None
