"""The pictures of lesson 5: what they call right, off, inf and NaN, and where, is what NumPy computes."""

import numpy as np
import pytest
from figures import mask
from plotted import axes, texts

from refimpl import decay_mask, head_decays


def verdict_map(picture, recipe):
    return np.asarray(axes(picture)[recipe].images[0].get_array())


def in_numpy(recipe, gamma, at, dtype):
    """D at the tokens `at`, every operation in NumPy's own dtype."""
    gamma, n, m = dtype(gamma), at[:, None].astype(np.float64), at[None, :].astype(np.float64)
    with np.errstate(all="ignore"):

        def power(exponent):
            return (np.float64(gamma) ** exponent).astype(dtype)

        if recipe == "split":
            return np.tril(np.multiply(power(n), power(-m), dtype=dtype))
        if recipe == "late":
            return power(n - m) * (n >= m).astype(dtype)
        return np.tril(power(np.abs(n - m)))


def test_bfloat16_is_what_torch_makes_of_it():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    special = [0, np.inf, -np.inf, 1 - 2**-9]
    numbers = np.concatenate([rng.normal(size=2000), 10.0 ** rng.uniform(-44, 38, 2000), special])
    want = torch.tensor(numbers.astype(np.float32)).to(torch.bfloat16).to(torch.float64).numpy()
    np.testing.assert_array_equal(mask.in_precision(numbers, "bfloat16"), want)
    assert np.isnan(mask.in_precision(np.nan, "bfloat16"))
    assert mask.in_precision(0.3, "bfloat16").shape == ()


@pytest.mark.parametrize("precision", ["float16", "float32", "float64"])
def test_in_precision_and_ranges_are_numpys(precision):
    numbers = np.array([0.1, 1e30, 1e300, 70_000, 1e-8])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(mask.in_precision(numbers, precision), numbers.astype(precision).astype(float))
    info = np.finfo(precision)
    assert mask.RANGES[precision] == (float(info.max), float(info.smallest_subnormal))


def test_range_of_bfloat16():
    largest, smallest = mask.RANGES["bfloat16"]
    assert mask.in_precision(largest, "bfloat16") == largest
    assert mask.in_precision(largest * (1 + 2**-8), "bfloat16") == np.inf
    assert mask.in_precision(smallest, "bfloat16") == smallest
    assert mask.in_precision(0.49 * smallest, "bfloat16") == 0


@pytest.mark.parametrize("recipe", list(mask.RECIPES))
@pytest.mark.parametrize(("dtype", "time"), [(np.float16, 900), (np.float32, 3600)])
def test_maps_hold_the_verdicts_on_what_numpy_computes(recipe, dtype, time):
    picture = mask.how_it_breaks(31 / 32, time, np.dtype(dtype).name)
    found = verdict_map(picture, recipe)
    at = np.unique(np.linspace(1, time, 64).round()).astype(int)
    got = in_numpy(recipe, 31 / 32, at, dtype).astype(np.float64)
    true = decay_mask(np.array([31 / 32]), time)[0][np.ix_(at - 1, at - 1)]
    np.testing.assert_array_equal(found == mask.NAN, np.isnan(got))
    np.testing.assert_array_equal(found == mask.INFINITE, np.isinf(got))
    rest = np.isfinite(got)
    np.testing.assert_array_equal((found == mask.OFF)[rest], (np.abs(got - true) > 0.02 * true + 1e-7)[rest])
    assert (found == mask.NAN).any() == (recipe != "early")
    assert not (found == mask.FUTURE)[np.tril_indices(len(at))].any()


def test_the_split_ends_at_a_token_and_the_late_mask_at_a_length():
    """Float32, head 0: by hand 128 ln 2 / -ln(31/32) = 2794.5."""
    at = np.array([2794, 2795])
    assert mask.verdicts("split", at, at, 31 / 32, "float32").tolist() == [mask.RIGHT, mask.INFINITE]
    assert mask.verdicts("late", 1, at + 1, 31 / 32, "float32").tolist() == [mask.FUTURE, mask.NAN]
    assert [mask.last_finite(head_decays(4)[h], "float32") for h in (0, 1, 3)] == [2794, 5633, 22668]
    assert mask.last_finite(31 / 32, "float16") == 349
    for precision in ("float16", "bfloat16", "float64"):
        m = mask.last_finite(63 / 64, precision)
        with np.errstate(over="ignore"):
            powers = mask.in_precision((63 / 64) ** -np.array([m, m + 1.0]), precision)
        assert np.isfinite(powers).tolist() == [True, False]


@pytest.mark.parametrize(("head", "precision"), [(4, "bfloat16"), (7, "float16")])
def test_a_gamma_that_has_become_1_is_off_in_every_recipe(head, precision):
    picture = mask.how_it_breaks(head_decays(8)[head], 8192, precision)
    for recipe in mask.RECIPES:
        assert mask.OFF in verdict_map(picture, recipe)
        assert not (verdict_map(picture, recipe) >= mask.INFINITE).any()
    assert "nothing fades" in picture.description


def test_powers_are_drawn_until_they_leave_the_format():
    lines = axes(mask.how_it_breaks(31 / 32, 4096, "float32"))["powers"].lines
    (j, rising), (_, falling) = (line.get_xydata().T for line in lines[:2])
    np.testing.assert_array_equal(np.isfinite(rising), j <= 2794)
    np.testing.assert_allclose(rising[j <= 2794], (-np.log10(31 / 32) * j)[j <= 2794], atol=1e-6)
    np.testing.assert_array_equal(np.isfinite(falling), j <= 3274)  # half of 2^-149 is passed after it
    assert lines[2].get_ydata()[0] == pytest.approx(np.log10(np.finfo(np.float32).max))


def test_the_description_and_the_title_say_the_numbers():
    picture = mask.how_it_breaks(31 / 32, 4096, "float32")
    for number in ("float32", "4,096", "window 32", "half-life 22", "508", "2,794", "split: inf and NaN", "late: NaN"):
        assert number in picture.description
    assert any("window 32" in text for text in texts(picture.texts))


def test_near_tiles_are_those_with_an_entry_above_the_threshold():
    gammas, time, size = np.array([0.5, 0.9]), 48, 8
    picture = mask.near_tiles(gammas, time, size, 1e-3)
    largest = decay_mask(gammas, time).reshape(2, 6, 8, 6, 8).max(axis=(2, 4))
    for head in range(2):
        image = axes(picture)[f"head {head}"].images[0].get_array()
        np.testing.assert_allclose(image.filled(0), np.where(largest[head] >= 1e-3, largest[head], 0), rtol=1e-12)
        assert picture.kept[head] == (largest[head] >= 1e-3).sum()
        assert f"head {head} keeps {picture.kept[head]}" in picture.description
    assert picture.kept[0] < picture.kept[1] == 6 * 7 // 2
    assert axes(picture)["colours"].get_ylim() == pytest.approx((1e-3, 1))


def test_shades_darken_so_that_they_survive_grey():
    luminance = mask.SHADES(np.arange(5))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(luminance) < -0.1)
