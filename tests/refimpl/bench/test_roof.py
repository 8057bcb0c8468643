"""What one core can do, what that predicts, and the file on record."""

import numpy as np
import pytest

from refimpl.bench.flops import useful_flops
from refimpl.bench.roof import (
    CACHE,
    KEY_DIM,
    SPREAD,
    TIME,
    VALUE_DIM,
    measure,
    measure_roof,
    predict,
    probes,
    recorded,
    roof_of,
)

RECORDED = recorded()
ROOF = {"peak": 1e9, "memory": 1e8, "cache": 1e9, "recurrent": 1e-3, "chunkwise": 2e-3}


def test_the_fastest_round_of_a_probe_makes_the_roof():
    amounts = {name: amount for name, (_, amount) in probes().items()}
    assert amounts == {
        "peak": 2 * 512**3,
        "memory": 2**26,
        "cache": 2000 * 4 * 64 * 128,
        "recurrent": 64,
        "chunkwise": 64,
    }
    roof = roof_of({name: [3.0, 2.0, 5.0] for name in amounts})
    assert roof == {
        "peak": 2**27, "memory": 2**25, "cache": 1000 * 4 * 64 * 128, "recurrent": 1 / 32, "chunkwise": 1 / 32
    }  # fmt: skip


def test_the_roof_of_this_machine_has_the_rates_of_the_record():
    here = measure_roof(1)
    assert here.keys() == RECORDED["roof"].keys()
    assert all(rate > 0 for rate in here.values())


def test_probes_do_what_they_count():
    for name, (call, _) in probes().items():
        assert call() is not None or name in ("memory", "cache")


def test_predictions_by_hand():
    # T = 4, K = 2, V = 3: 20 numbers of tokens are read or written, 160 bytes; the state has 6, the scores of 2 tokens 3.
    far, near = {"cached": False}, {"cached": True}
    assert predict("recurrent", ROOF, 4, 2, 3, **far) == pytest.approx((160 + 4 * 48) / 1e8)
    assert predict("recurrent", ROOF, 4, 2, 3, **near) == pytest.approx(160 / 1e8)
    assert predict("chunkwise", ROOF, 4, 2, 3, 2, **far) == pytest.approx((160 + 2 * 48 + 2 * 24) / 1e8)
    assert predict("parallel", ROOF, 4, 2, 3, **far) == pytest.approx((160 + 80) / 1e8)
    assert predict("chunkwise", ROOF, 4, 2, 3, 3, python=True) == pytest.approx(160 / 1e8 + 2 * 2e-3)
    assert predict("recurrent", ROOF, 4, 2, 3, python=True) == pytest.approx(160 / 1e8 + 4 * 1e-3)
    assert predict("parallel", ROOF | {"memory": 1e30}, 1024, 2, 3, **near) == 1024 * 1025 * 5 / 1e9


def test_what_does_not_fit_comes_from_memory():
    wide = int(np.sqrt(CACHE / 4))  # a state that fits just so
    assert predict("recurrent", ROOF, 9, wide, wide) < predict("recurrent", ROOF, 9, wide, wide, cached=False)
    assert predict("recurrent", ROOF, 9, wide, wide + 1) == predict("recurrent", ROOF, 9, wide, wide + 1, cached=False)


@pytest.fixture(scope="module")
def measured():
    return measure(1, ("gpu.bench.cpu_peers",))


def test_it_measures_what_the_record_holds(measured):
    assert measured.keys() == RECORDED.keys()
    assert {row["name"] for row in measured["rows"]} == {row["name"] for row in RECORDED["rows"]}
    for part in ("rows", "chunk_sizes"):
        assert measured[part][0].keys() == RECORDED[part][0].keys()
    assert len(measured["chunk_sizes"]) == len(RECORDED["chunk_sizes"]) == 2 * 2 * 8  # libraries, widths, sizes


@pytest.mark.parametrize("name", ["recorded", "measured"])
def test_rows_agree_with_themselves(name, request):
    results = RECORDED if name == "recorded" else request.getfixturevalue("measured")
    for row in [*results["rows"], *results["chunk_sizes"], *results["probes"].values()]:
        assert 0 < row[SPREAD[0]] <= row[SPREAD[1]] <= row[SPREAD[2]]
    for row in results["rows"]:
        flops = useful_flops(row["form"], 1, TIME, KEY_DIM, VALUE_DIM, row["chunk_size"])
        assert row["gflops"] * 1e9 * row["seconds"] == pytest.approx(flops)
        assert row["share_of_peak"] == pytest.approx(row["gflops"] * 1e9 / results["roof"]["peak"])
    assert results["roof"] == pytest.approx(
        roof_of({name: [each["seconds"]] for name, each in results["probes"].items()})
    )
