"""The picture of lesson 5 keeps the tiles that count, and numbers are rounded as NumPy and torch round them."""

import numpy as np
import pytest
from figures import mask
from plotted import axes

from refimpl import decay_mask


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
def test_in_precision_is_numpys(precision):
    numbers = np.array([0.1, 1e30, 1e300, 70_000, 1e-8])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(mask.in_precision(numbers, precision), numbers.astype(precision).astype(float))


def test_range_of_bfloat16():
    largest, smallest = 2.0**128 - 2.0**120, 2.0**-133
    assert mask.in_precision(largest, "bfloat16") == largest
    assert mask.in_precision(largest * (1 + 2**-8), "bfloat16") == np.inf
    assert mask.in_precision(smallest, "bfloat16") == smallest
    assert mask.in_precision(0.49 * smallest, "bfloat16") == 0


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
