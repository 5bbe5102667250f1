"""The least of a loss along an axis, on losses whose least is known."""

import re

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from scaleinv.curves import best

LR = np.geomspace(1e-4, 1.0, 13)


def losses(at, lr=LR):
    """Parabolas in log lr, least at each value of ``at``, an array over a dimension "c"."""
    at = xarray.DataArray(at, dims="c")
    return 0.3 + 0.01 * (np.log(xarray.DataArray(lr, {"lr": lr}, "lr")) - np.log(at)) ** 2


@given(st.lists(st.floats(2e-4, 0.5), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_the_least_of_a_parabola_is_found_between_the_points_whatever_their_order_and_spacing(at, random):
    lr = [1e-6, 100.0, *random.sample(list(LR), 9)]
    random.shuffle(lr)
    assert best(losses(at, np.array(lr))).values == pytest.approx(at, rel=1e-6)


def test_another_curve_is_found_much_better_than_the_grid_has_it():
    x = np.log(xarray.DataArray(LR, {"lr": LR}, "lr"))
    off = np.log(best(np.cosh(x - np.log(0.02)))) - np.log(0.02)
    assert abs(off) < 0.1 * float(x[1] - x[0])


def test_it_keeps_the_other_dimensions_the_name_and_the_unit():
    loss = losses([0.01, 0.1, 0.3]).assign_coords(c=[1.0, 2.0, 3.0]).expand_dims(seed=[4, 5])
    loss["lr"].attrs["units"] = "W"
    for same in (loss, loss.transpose("lr", "seed", "c")):
        lowest = best(same)
        assert dict(lowest.sizes) == {"seed": 2, "c": 3} and lowest.name == "lr" and lowest.attrs == {"units": "W"}
        assert lowest.sel(seed=5, c=2.0).item() == pytest.approx(0.1)
    assert best(loss.astype(np.float32)).sel(seed=4, c=3.0).item() == pytest.approx(0.3, rel=1e-4)
    assert best(loss.rename(lr="k"), along="k").sel(seed=5, c=2.0).item() == pytest.approx(0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_diverged_is_never_the_least(bad):
    loss = losses([0.01])
    assert best(loss.where(loss.lr < 0.1, bad)).item() == pytest.approx(0.01)
    last = LR[LR < 0.02][-1]
    assert best(loss.where(loss.lr < 0.02, bad)).item() == pytest.approx(last)
    assert np.isnan(best(loss * bad)).all()


@pytest.mark.parametrize("at", [1e-5, 1e-4, 1.0, 10.0])
def test_a_least_at_an_end_of_the_axis_is_nan(at):
    assert np.isnan(best(losses([at]))).all()


def test_a_flat_floor_has_its_least_on_it():
    loss = losses([0.01])
    assert 1e-3 < best(loss.where(loss > 0.32, 0.32)).item() < 0.1
    assert np.isnan(best(0 * loss)).all()


@pytest.mark.parametrize(
    "loss, along",
    [
        (losses([0.1]), "eps"),
        (losses([0.1]).drop_vars("lr"), "lr"),
        (losses([0.1], LR[:2]), "lr"),
        (losses([0.1]).assign_coords(lr=LR - LR[0]), "lr"),
        (losses([0.1]).assign_coords(lr=np.where(LR < 1, LR, np.nan)), "lr"),
        (losses([0.1]).sel(lr=LR[3]), "lr"),
    ],
)
def test_an_axis_without_three_logarithms_is_refused(loss, along):
    with pytest.raises(ValueError, match=re.escape(f"needs a dimension {along!r} of three")):
        best(loss, along=along)
