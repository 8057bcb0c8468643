"""Checks and wrong answers that recur, as tables for `problem`."""

import numpy as np


def keeps_arguments(inputs, hint="build new arrays; *=, += and [...] = write into the caller's"):
    """Return the check that a call leaves the arrays it was given as they were."""
    arrays = sum(isinstance(value, np.ndarray) for value in inputs.values())
    name = "the arguments stay as they were" if arrays > 1 else "the argument stays as it was"
    return {name: (inputs, hint, {"keeps_inputs": True})}


def float32_arrays(inputs, name="float32 arrays"):
    """Return the check with float32 `inputs`, for the hidden ones."""
    hint = "try arrays made with dtype=np.float32: the answer must be right to float32 precision"
    return {name: (inputs, hint, {"tolerance": 1e-5})}


def mapped(change, table):
    """Return the table {name: (function, message)} with each function changed, such as by a loop around it."""
    return {name: (change(function), message) for name, (function, message) in table.items()}


def swaps(solution, first, second):
    """Return the wrong answer that returns (second, first), the two results by name, for (first, second)."""
    message = f"you returned ({second}, {first}): the order is ({first}, {second})"
    return {"swaps what it returns": (lambda *arguments: solution(*arguments)[::-1], message)}


def writes_in_place(solution):
    """Return the wrong answer that writes the new state into the caller's array, the last argument."""

    def function(*arguments):
        out, state = solution(*arguments)
        if arguments[-1] is None:
            return out, state
        arguments[-1][...] = state
        return out, arguments[-1]

    message = "you changed the caller's state in place (as *= and += do): make a new array, the caller may still need the old one"
    return {"writes in place": (function, message)}


def collects_rows(solution):
    """Return the wrong answer that makes `out` of a list of rows, which has no columns where there is no token."""

    def function(q, *arguments):
        out, state = solution(q, *arguments)
        return (out if len(q) else np.array([])), state

    message = (
        "with no token your list of rows is empty, and np.array([]) has shape (0,): make out, (T, V), before the loop"
    )
    return {"collects rows in a list": (function, message)}


def asks_whether_true(solution, at=4):
    """Return the wrong answer that asks `state == None` or `if state`, of an array; state is the argument number `at`."""

    def function(*arguments):
        bool(arguments[at])  # NumPy refuses, unless there is a single entry
        return solution(*arguments)

    message = "an array with more than one entry is neither true nor false: ask for None by `state is None`"
    return {"asks whether an array is true": (function, message)}


def counts_other_numbers(counted_with):
    """Return the wrong answers that count other numbers of a state and of a token's cache, or take other bits for them.

    counted_with: of state=, token= and bits=, each a change to what the solution takes, makes such an answer.
    """
    return {
        "a cache as wide as the state": (
            counted_with(token=lambda a: a.kv_heads * (a.key_dim + a.value_dim)),
            "your cache has the widths K and V: the Transformer's keys and values have head_dim numbers each",
        ),
        "keys and values for a state": (
            counted_with(state=lambda a: a.num_heads * (a.key_dim + a.value_dim)),
            "your state holds K + V numbers a head: it is a matrix of K V numbers",
        ),
        "numbers for bits": (
            counted_with(bits=lambda bits: np.full(2, 8.0)),
            "you counted numbers: those of the state and those of the cache differ in their bits",
        ),
        "bits exchanged": (
            counted_with(bits=lambda bits: bits[::-1]),
            "you exchanged bits: bits[0] is for the state, bits[1] for the cache",
        ),
    }
