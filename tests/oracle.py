"""The oracle, under the name the tests know it by.

It stands in `refimpl/oracle.py`, because `python -m refimpl` shows it to users as well. It imports
nothing of refimpl, which `test_oracle.py` asserts.
"""

from refimpl.oracle import retention_oracle, rotation_oracle

__all__ = ["retention_oracle", "rotation_oracle"]
