"""The annotations of refimpl hold. A test, so that other tests run meanwhile."""

import subprocess
import sys
from pathlib import Path


def test_types():
    """What `make lint` asks of mypy."""
    checked = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
