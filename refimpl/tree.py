"""Nested dicts and lists of arrays, such as parameters, and their dotted names: {"layers.0.retention.w_q": array}."""

from collections.abc import Callable
from typing import Any


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts and lists, by dotted name.

    >>> flatten({"embedding": 1, "layers": [{"ffn": {"w_1": 2}}]})
    {'embedding': 1, 'layers.0.ffn.w_1': 2}
    """
    if not isinstance(tree, (dict, list)):
        return {prefix: tree}
    branches: Any = tree.items() if isinstance(tree, dict) else enumerate(tree)
    flat: dict[str, Any] = {}
    for name, branch in branches:
        flat |= flatten(branch, f"{prefix}.{name}" if prefix else f"{name}")
    return flat


def map_tree(function: Callable[[str, Any], Any], tree: Any, prefix: str = "") -> Any:
    """The same tree with function(dotted name, leaf) in place of every leaf; it is called in order.

    >>> map_tree(lambda name, leaf: f"{name} {leaf}", {"layers": [{"w": 1}]})
    {'layers': [{'w': 'layers.0.w 1'}]}
    """
    join = f"{prefix}.{{}}".format if prefix else "{}".format
    if isinstance(tree, dict):
        return {name: map_tree(function, branch, join(name)) for name, branch in tree.items()}
    if isinstance(tree, list):
        return [map_tree(function, branch, join(i)) for i, branch in enumerate(tree)]
    return function(prefix, tree)
