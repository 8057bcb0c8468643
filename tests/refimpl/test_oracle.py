"""The oracle is right on numbers worked by hand and imports nothing of refimpl."""

import ast
import inspect
import sys

import numpy as np

import refimpl.oracle
from refimpl.oracle import retention_oracle, rotation_oracle


def test_oracle_imports_nothing_of_refimpl():
    tree = ast.parse(inspect.getsource(refimpl.oracle))
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert set(imported) - {"numpy"} <= sys.stdlib_module_names


def test_oracle_by_hand():
    """K = V = 2, gamma = 1/2, from a state: S_0 = [[2, 0], [0, 4]].

    Token 1: q = (1, 1), k = (1, 0), v = (3, 5): q S_0 / 2 = (1, 2), plus (q . k) v = (3, 5): (4, 7).
    Token 2: q = (0, 1), k = (2, 1), v = (1, 0): q S_0 / 4 = (0, 1), token 1 has q . k = 0, plus 1 (1, 0): (1, 1).
    S_2 = S_0 / 4 + [[3, 5], [0, 0]] / 2 + [[2, 0], [1, 0]] = [[4, 5/2], [1, 1]].
    """
    q, k, v = (np.array(x, dtype=float)[None, None] for x in ([[1, 1], [0, 1]], [[1, 0], [2, 1]], [[3, 5], [1, 0]]))
    out, state = retention_oracle(q, k, v, np.array([0.5]), np.array([[2.0, 0], [0, 4]])[None, None])
    assert out.tolist() == [[[[4, 7], [1, 1]]]]
    assert state.tolist() == [[[[4, 2.5], [1, 1]]]]


def test_rotation_oracle_by_hand():
    """A quarter turn a token for the first pair, none for the second, from position 2."""
    turned = rotation_oracle(np.array([[1.0, 2, 3, 4]] * 2), [np.pi / 2, 0.0], offset=2)
    np.testing.assert_allclose(turned, [[-1, -2, 3, 4], [2, -1, 3, 4]], atol=1e-14)
