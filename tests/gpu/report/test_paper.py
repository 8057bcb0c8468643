"""The section on the paper's cost tables, of made-up rows: every ratio worked by hand."""

import pytest

from gpu.bench.rows import new_row
from gpu.report import page, paper

GIB = 2**30
FUSED = {"model": "retnet", "retention": "triton"}
FLASH = {"model": "transformer", "attention": "flash"}
UNFUSED = {"model": "transformer", "attention": "unfused"}
GROUPED = FLASH | {"grouped": True}


def trained(identity, speed, memory, **change):
    """A made-up row of training."""
    row = new_row(
        "training", **identity, size="1.3B", time=8192, vocab_size=32768, parameters_in="float32",
        status="measured", remark="", tokens_per_second=speed, peak_bytes=memory * GIB,
        parameters=1_544_000_000 if identity["model"] == "retnet" else 1_547_000_000,
    )  # fmt: skip
    return row | change


def decoded(identity, batch, context, seconds, past, **change):
    """A made-up row of decoding, beside 10 GiB of weights."""
    moved = (10 + past * (2 if identity["model"] == "retnet" else 1)) * GIB
    row = new_row(
        "decoding", **identity, size="6.7B", context=context, largest=False, batch=batch, status="measured", remark="",
        seconds={"median": seconds}, tokens_per_second=batch / seconds, past_bytes=past * GIB, weight_bytes=10 * GIB,
        peak_bytes=(10 + past) * GIB, parameters=5 * GIB, limit="memory", moved_bytes=moved,
        share_of_copy_bandwidth=moved / 4e12 / seconds,
    )  # fmt: skip
    return row | change


def too_large(context):
    """A made-up row of decoding that ran out of memory."""
    return new_row(
        "decoding", **FLASH, size="6.7B", context=context, largest=False, batch=1, status="does not fit", remark="out"
    )


ROWS = [
    trained(UNFUSED, 1000.0, 80),
    trained(FLASH, 4000.0, 40),
    trained(FUSED, 5000.0, 30),
    trained(FLASH, 4000.0, 40, compiled=True),
    trained(FUSED, 3000.0, 50, compiled=True),
    trained(UNFUSED, 0.0, 0, size="6.7B", status="does not fit", remark="out of memory"),
    trained(FUSED, 700.0, 100, size="6.7B"),
    decoded(FUSED, 1, 2048, 0.004, 0.25),
    decoded(FUSED, 1, 8192, 0.004, 0.25),
    decoded(FLASH, 1, 2048, 0.005, 1),
    decoded(FLASH, 1, 8192, 0.008, 4),
    decoded(GROUPED, 1, 8192, 0.005, 1),
    decoded(FUSED, 1, 32768, 0.0041, 0.25),
    too_large(65536),
    too_large(32768),
    decoded(FUSED, 100, 8192, 0.02, 25, largest=True),
    decoded(FLASH, 20, 8192, 0.04, 80, largest=True),
    decoded(FLASH, 5, 32768, 0.028, 80, largest=True),
]
RESULTS = {
    "device": "a GPU", "command": "the command", "rows": ROWS,
    "ceilings": {"matrix_product": {"flops_per_second": 7e14}, "copy": {"bytes_per_second": 4e12}},
}  # fmt: skip


@pytest.fixture(scope="module")
def values():
    return paper.values(RESULTS)


@pytest.fixture(scope="module")
def text(values):
    return page.render("paper", values)


def with_fields(found, **fields):
    """The one dict of a list with these fields."""
    (each,) = (each for each in found if all(each[name] == value for name, value in fields.items()))
    return each


def test_training_against_the_paper(values):
    found = values["training"]["ratios"]
    over_flash = with_fields(found, size="1.3B", ours="retnet", other="flash")
    assert over_flash["speed"] == [1.25, 0.75]
    assert over_flash["memory"] == [0.75, 1.25]
    assert over_flash["quoted_speed"] == 73345 / 63965
    assert over_flash["quoted_memory"] == 34.5 / 38.8
    over_unfused = with_fields(found, size="1.3B", ours="retnet", other="unfused")
    assert (over_unfused["speed"], over_unfused["memory"]) == ([5.0], [0.375])
    assert {each["size"] for each in found} == {"1.3B"}  # one model alone has no ratio at 6.7B


def test_training_in_the_tables(text):
    assert "| 1.3B | paper † | 74.8 GB, 10,832/s † | 38.8 GB, 63,965/s † | 34.5 GB, 73,345/s † |" in text
    assert "| 1.3B | float32 | 80.0 GiB, 1,000/s | 40.0 GiB, 4,000/s | 30.0 GiB, 5,000/s |" in text
    assert "| 1.3B | float32, compiled |  | 40.0 GiB, 4,000/s | 50.0 GiB, 3,000/s |" in text
    assert "| 6.7B | float32 | does not fit |  | 100.0 GiB, 700/s |" in text
    assert "| 0.75 to 1.25 | 1.15 † | 0.75 to 1.25 | 0.89 † | 1 of 2 settings |" in text


def test_what_flash_attention_gains_has_no_part_of_retnet(values):
    gain = with_fields(values["training"]["ratios"], size="1.3B", ours="flash", other="unfused")
    assert gain["speed"] == [4.0]
    assert gain["quoted_speed"] == 63965 / 10832
    without = paper.training(ROWS[1:3])["ratios"]
    assert [(each["ours"], each["other"]) for each in without] == [("retnet", "flash")]


def test_the_answer_to_8_4_times_and_70_percent(values, text):
    groups = dict(values["decoding"]["groups"])  # with grouped heads nothing was measured at as many as fit
    assert groups.keys() == {(False, False), (False, True), (True, False)}
    equal, most, grouped = ([(each["speed"], each["saved"]) for each in pairs] for pairs in groups.values())
    assert (equal, most, grouped) == ([(2.0, 1 - 10.25 / 14)], [(10.0, None)], [(1.25, 1 - 10.25 / 11)])
    assert "| in full | equal batch | 2.00 | no | 27% | no |" in text
    assert "| in full | as many as fit, 100 against 20 | 10.00 | yes |  |  |" in text
    assert "| grouped | equal batch | 1.25 | no | 7% | no |" in text


def test_speed_is_fewer_bytes_times_bandwidth(values, text):
    for pair in values["decoding"]["pairs"]:
        assert pair["speed"] == pytest.approx(pair["fewer_bytes"] * pair["bandwidth"])
    assert "| paper † | Transformer | 8.4 |  |  | 70% |" in text
    assert "| 1 | Transformer | 2.00 | 1.33 | 1.50 | 27% |" in text  # 14 / 10.5 bytes; 1 - 10.25 / 14
    assert "| 1 | Transformer, grouped | 1.25 | 1.05 | 1.19 | 7% |" in text  # 11 / 10.5; 1 - 10.25 / 11
    assert "| most | Transformer | 10.00 | 7.50 | 1.33 | 100 sequences fit, not 20 |" in text  # (90 / 20) / (60 / 100)


def test_what_a_sequence_keeps(values):
    kept = values["decoding"]["kept"]
    assert (kept["weight_bytes"], kept["retnet"]["past_bytes"]) == (10 * GIB, GIB / 4)
    assert [(row["grouped"], ratio) for row, ratio in kept["others"]] == [(False, 16.0), (True, 4.0)]
    assert paper.kept([decoded(FUSED, 1, 8192, 0.004, 0.25)]) is None


def test_what_the_speed_of_the_largest_batches_is_made_of(values, text):
    (pair,) = dict(values["decoding"]["groups"])[False, True]
    assert (pair["speed"], pair["fewer_bytes"], pair["bandwidth"]) == (10.0, 7.5, pytest.approx(4 / 3))
    best = values["decoding"]["best_shares"]
    assert best == {False: pytest.approx(90 * GIB / 4e12 / 0.028), True: 0}  # at another context
    assert "| in full | 10.00 | 7.50 | 1.33 | 81% | 60% | 86% |" in text


def test_without_a_bandwidth_there_is_no_ratio_of_it():
    rows = [row | {"share_of_copy_bandwidth": None} for row in ROWS if row["section"] == "decoding"]
    values = paper.values(RESULTS | {"rows": rows})
    assert values["training"] is None
    text = page.render("paper", values)
    assert "| most | Transformer | 10.00 | 7.50 |  | 100 sequences fit, not 20 |" in text
    assert "share of a copy's bandwidth" not in text


def test_each_model_has_its_own_range_of_contexts(values):
    retnet, transformer = values["decoding"]["steps"]  # the grouped one was measured at one context
    assert (retnet["first"]["context"], retnet["last"]["context"], retnet["full_from"]) == (2048, 32768, None)
    assert (transformer["first"]["context"], transformer["last"]["context"]) == (2048, 8192)
    assert transformer["full_from"] == 32768
    (nowhere,) = paper.steps([too_large(8), too_large(16)])
    assert (nowhere["first"], nowhere["last"], nowhere["full_from"]) == (None, None, 8)


def test_how_many_parameters_a_size_has(values, text):
    assert values["parameters"] == {"1.3B": (1_544_000_000, 1_547_000_000), "6.7B": (5 * GIB, 5 * GIB)}
    assert "1.54 and 1.55 at 1.3B,\n5.37 and 5.37 at 6.7B." in text


def test_models_that_stop_at_a_grid_at_some_contexts_are_named_with_them():
    rows = [decoded({"model": "retnet"}, 99, context, 0.01, 1, largest=True) for context in (512, 2048)]
    assert paper.decoding(rows)["limits"] == []
    rows[0]["limit"] = "the grid of a kernel"
    (found,) = paper.decoding(rows)["limits"]
    assert (found["limit"], found["batches"]) == ("the grid of a kernel", [99])
    assert [model["contexts"] for model in found["models"]] == [[512]]
    rows[1]["limit"] = "the grid of a kernel"
    (found,) = paper.decoding(rows)["limits"]
    assert [model["contexts"] for model in found["models"]] == [None]
