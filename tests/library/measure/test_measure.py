"""The distances between trajectories, against numpy and against counting by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from scaleinv import relative_change, relative_distance, ulp_distance

BITS = {torch.float64: 64, torch.float32: 32, torch.float16: 16, torch.bfloat16: 16}
SIGNED = {64: torch.int64, 32: torch.int32, 16: torch.int16}
NUMPY = {torch.float64: np.float64, torch.float32: np.float32, torch.float16: np.float16}
by_dtype = pytest.mark.parametrize("dtype", BITS, ids=str)


def from_pattern(pattern, dtype):
    """The number whose bits are ``pattern``, an unsigned integer."""
    bits = BITS[dtype]
    signed = pattern - 2**bits if pattern >= 2 ** (bits - 1) else pattern
    return torch.tensor([signed], dtype=SIGNED[bits]).view(dtype)


def numbers(dtype, finite=False):
    """Numbers with any bits, NaN aside: zeros of both signs, subnormal ones and, unless finite, infinities too."""
    allowed = torch.isfinite if finite else lambda x: ~x.isnan()
    patterns = st.integers(0, 2 ** BITS[dtype] - 1)
    return patterns.map(lambda pattern: from_pattern(pattern, dtype)).filter(lambda x: bool(allowed(x)))


def position(x):
    """Counted from zero, by integers of any size: the bits are sign and magnitude."""
    bits = BITS[x.dtype]
    pattern = x.view(SIGNED[bits]).item() % 2**bits
    magnitude = pattern % 2 ** (bits - 1)
    return magnitude if pattern == magnitude else -magnitude


def pairs_of(values):
    return st.tuples(values, values)


# ulp_distance


@by_dtype
@given(st.data())
def test_ulps_are_the_difference_of_positions(dtype, data):
    x, y = data.draw(pairs_of(numbers(dtype)))
    assert ulp_distance(x, y) == abs(position(x) - position(y))


@by_dtype
@given(st.data())
def test_ulps_are_symmetric_and_zero_for_equal_numbers_only(dtype, data):
    x, y = data.draw(pairs_of(numbers(dtype)))
    assert ulp_distance(x, y) == ulp_distance(y, x)
    assert ulp_distance(x, x) == 0
    assert (ulp_distance(x, y) == 0) == (x == y).item()  # for floats, 0.0 == -0.0


@by_dtype
@given(st.data())
def test_ulps_add_up_on_the_way(dtype, data):
    x, y, z = sorted((data.draw(numbers(dtype)) for _ in range(3)), key=torch.Tensor.item)
    assert ulp_distance(x, z) == ulp_distance(x, y) + ulp_distance(y, z)


@pytest.mark.parametrize("dtype", NUMPY, ids=str)
@given(st.data())
def test_the_next_number_of_numpy_is_one_ulp_away_and_a_spacing(dtype, data):
    x = data.draw(numbers(dtype, finite=True)).numpy()
    up = np.nextafter(x, NUMPY[dtype](np.inf))
    assert ulp_distance(torch.from_numpy(x), torch.from_numpy(up)) == 1
    if np.isfinite(up).all() and x[0] >= 0:
        assert up - x == np.spacing(x)


@given(st.data())
def test_the_next_bfloat16_is_the_float32_2_to_16_away(data):
    x = data.draw(numbers(torch.bfloat16, finite=True))
    up = torch.nextafter(x, torch.tensor(math.inf, dtype=torch.bfloat16))
    assert ulp_distance(x, up) == 1
    assert ulp_distance(x.float(), up.float()) == 2**16


@by_dtype
def test_ulps_count_through_zero(dtype):
    tiny = from_pattern(1, dtype)
    assert ulp_distance(tiny, -tiny) == 2
    assert ulp_distance(tiny, torch.zeros(1, dtype=dtype)) == ulp_distance(-tiny, -torch.zeros(1, dtype=dtype)) == 1
    assert ulp_distance(torch.zeros(1, dtype=dtype), -torch.zeros(1, dtype=dtype)) == 0


@pytest.mark.parametrize(
    "dtype, exponent, mantissa",
    [(torch.float64, 11, 52), (torch.float32, 8, 23), (torch.float16, 5, 10), (torch.bfloat16, 8, 7)],
)
def test_infinity_follows_the_largest_number_and_the_whole_line_is_counted(dtype, exponent, mantissa):
    infinity = torch.tensor([math.inf], dtype=dtype)
    assert ulp_distance(torch.tensor([torch.finfo(dtype).max], dtype=dtype), infinity) == 1
    assert ulp_distance(infinity, infinity) == 0
    assert ulp_distance(-infinity, infinity) == 2 * (2**exponent - 1) * 2**mantissa  # beyond int64 for float64


@by_dtype
def test_nan_agrees_with_nan_and_is_infinitely_far_from_numbers(dtype):
    a = torch.tensor([1.0, math.nan, 2.0], dtype=dtype)
    b = torch.tensor([1.0, 1.0, 2.0], dtype=dtype)
    assert ulp_distance(a, a.clone()) == ulp_distance(a, -a * -1) == 0
    assert ulp_distance(a, b) == ulp_distance(b, a) == math.inf
    assert ulp_distance([b, a], [b, b]) == math.inf
    assert ulp_distance(a, torch.tensor([math.nan, 1.0, 2.0], dtype=dtype)) == math.inf
    assert ulp_distance(a, torch.tensor([1.0, math.nan, 2.0 + 2 * torch.finfo(dtype).eps], dtype=dtype)) == 1


@by_dtype
def test_ulps_of_a_trajectory_are_those_of_its_worst_entry(dtype):
    one, eps = torch.ones(3, 2, dtype=dtype), torch.finfo(dtype).eps
    near, far = one.clone(), one.clone()
    near[2, 1], far[0, 1] = 1 + 3 * eps, 1 + 5 * eps
    assert ulp_distance(near, one) == 3 and ulp_distance(near.T, one.T) == 3
    for trajectory in ([near, far, one], [far, near, one], [one, one, far]):
        assert ulp_distance(trajectory, [one] * 3) == 5


def test_ulps_of_a_million_numbers_of_any_bits_are_exact():
    generator = np.random.default_rng(0)
    a, b = (generator.integers(0, 2**64, 10**6, dtype=np.uint64).view(np.float64) for _ in range(2))
    either = np.isnan(a) | np.isnan(b)
    a[either], b[either] = 0.0, 0.0
    a[123], b[123] = np.finfo(np.float64).max, -np.finfo(np.float64).max
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    assert ulp_distance(a, b) == position(a[123:124]) - position(b[123:124]) > 2**63


def test_parameters_tensors_of_no_entry_and_single_numbers_have_ulps():
    parameter = torch.nn.Parameter(torch.ones(2))
    assert ulp_distance(parameter, torch.ones(2)) == 0
    assert ulp_distance(torch.tensor(1.0), torch.tensor(1.0 + 2**-23)) == 1
    assert ulp_distance(torch.zeros(0), torch.zeros(0)) == 0


# relative_distance

vectors = st.lists(st.floats(-6e4, 6e4, width=32), min_size=3, max_size=3)


@by_dtype
@given(st.lists(st.tuples(vectors, vectors), min_size=1, max_size=4))
@example([([0.0] * 3, [0.0] * 3)])
@example([([1.0, 0.0, 0.0], [0.0] * 3)])
def test_the_relative_distance_is_numpys(dtype, trajectory):
    a, b = ([torch.tensor(v).to(dtype) for v in vectors] for vectors in zip(*trajectory))
    expected = 0.0
    for x, y in zip(a, b):
        x, y = x.double().numpy(), y.double().numpy()
        if (x != y).any():
            norm = np.linalg.norm(y)
            expected = max(expected, np.linalg.norm(x - y) / norm if norm else math.inf)
    assert relative_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert (relative_distance(a, b) == 0) == all(torch.equal(x, y) for x, y in zip(a, b))


@by_dtype
def test_the_relative_distance_sees_a_difference_of_one_ulp(dtype):
    one, eps = torch.ones(1, dtype=dtype), torch.finfo(dtype).eps
    assert relative_distance(one + eps, one) == eps


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_nan_anywhere_in_a_trajectory_makes_its_relative_distance_nan(at):
    b = [torch.ones(2) for _ in range(3)]
    a = [x.clone() for x in b]
    a[at][1] = math.nan
    for x, y in ((a, b), (b, a), (a, a)):
        assert math.isnan(relative_distance(x, y))


def test_the_relative_distance_to_an_infinite_entry_is_infinite():
    assert relative_distance(torch.tensor([1.0, math.inf]), torch.ones(2)) == math.inf


def test_the_relative_distance_of_complex_numbers_counts_their_imaginary_part():
    assert relative_distance(torch.tensor([1 + 1j]), torch.tensor([1 + 0j])) == 1


def test_the_relative_distance_is_of_the_second_and_of_parameters_too():
    a, b = torch.nn.Parameter(torch.tensor([3.0, 0.0])), torch.tensor([1.0, 0.0])
    assert relative_distance(a, b) == 2 and relative_distance(b, a) == pytest.approx(2 / 3)


@given(vectors, vectors)
def test_the_relative_change_is_the_rms_of_the_change_over_the_rms_before(before, after):
    rms = [math.sqrt(sum(x * x for x in v) / 3) for v in (before, [x - y for x, y in zip(after, before)])]
    assume(rms[0] > 0)
    before, after = torch.tensor(before, dtype=torch.float64), torch.tensor(after, dtype=torch.float64)
    assert relative_change(before, after) == pytest.approx(rms[1] / rms[0], rel=1e-9)


# What does not match is refused.

both = pytest.mark.parametrize("distance", [relative_distance, ulp_distance])


@both
@pytest.mark.parametrize(
    "a, b, says",
    [
        (torch.ones(2), torch.ones(3), r"\(2,\).*\(3,\)"),
        (torch.ones(1), torch.ones(2), r"\(1,\).*\(2,\)"),  # which numpy would broadcast
        (torch.ones(2, 1), torch.ones(1, 2), r"\(2, 1\).*\(1, 2\)"),
        ([torch.ones(2)] * 2, [torch.ones(2)] * 3, "of 2 and 3 entries"),
        ([torch.ones(2)] * 2, torch.ones(2), "of 2 and 1 entries"),
        ([], [torch.ones(2)], "of 0 and 1 entries"),
        ([torch.ones(2), torch.ones(2)], [torch.ones(2), torch.ones(3)], r"\(2,\).*\(3,\)"),
    ],
)
def test_trajectories_that_do_not_match_are_refused(distance, a, b, says):
    with pytest.raises(ValueError, match=says + ".*do not match"):
        distance(a, b)


@both
def test_empty_trajectories_are_refused(distance):
    with pytest.raises(ValueError, match="nothing to compare"):
        distance([], [])


@pytest.mark.parametrize(
    "one, other",
    [
        (torch.float32, torch.float64),
        (torch.float16, torch.bfloat16),
        (torch.int64, torch.int64),
        (torch.complex64, torch.complex64),
        (torch.bool, torch.bool),
    ],
)
def test_ulps_between_two_dtypes_or_of_one_that_is_not_floating_are_refused(one, other):
    with pytest.raises(ValueError, match=f"dtypes {one} and {other}.*floating"):
        ulp_distance(torch.ones(1).to(one), torch.ones(1).to(other))
