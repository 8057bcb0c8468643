"""The kinds of isolation that work here."""

import pytest
from graded import WAYS, why_not

from exercises.grading.sandbox import choose_isolation


@pytest.fixture(scope="module", params=WAYS)
def way(request):
    if why_not(WAYS[request.param]):
        pytest.skip(
            f"grading in {request.param} is not tested because it does not work here: {why_not(WAYS[request.param])}"
        )
    return WAYS[request.param]


@pytest.fixture(scope="module")
def best():
    return choose_isolation()
