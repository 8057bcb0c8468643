"""One analysis of scaling for all pages that are written from the same rows: it takes most of a page's time."""

import json

import pytest

from gpu.report import evidence


@pytest.fixture(scope="package", autouse=True)
def each_analysis_once():
    analysis, known = evidence.analysis, {}

    def kept(results, against):
        key = json.dumps(results["rows"]), against
        if key not in known:
            known[key] = analysis(results, against)
        return known[key]

    with pytest.MonkeyPatch.context() as context:
        context.setattr(evidence, "analysis", kept)
        yield
