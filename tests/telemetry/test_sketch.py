"""The percentile sketch against exact nearest-rank percentiles."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.telemetry.sketch import RELATIVE_ERROR, from_bytes, merged, sketch_of

VALUES = st.lists(
    st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-100, 100)
    | st.sampled_from([0.0, -0.0, 1.7e308, -1.7e308, 5e-324, 1.0, 1.02, 1e-299]),
    min_size=1,
    max_size=200,
)
PERCENTS = [0, 1, 5, 25, 50, 90, 95, 99, 99.9, 100]


def exact(values: list[float], percent: float) -> float:
    rank = math.ceil(Fraction(str(percent)) * len(values) / 100)
    return sorted(values)[max(rank, 1) - 1]


def assert_near(found: float, wanted: float) -> None:
    assert abs(found - wanted) <= abs(wanted) * 0.01 + 1e-300


@given(VALUES)
def test_a_percentile_is_off_by_less_than_one_percent(values: list[float]) -> None:
    sketch = sketch_of(np.asarray(values))
    assert sketch.count == len(values)
    for percent, found in zip(PERCENTS, sketch.percentiles(PERCENTS), strict=True):
        assert_near(found, exact(values, percent))


@given(VALUES)
def test_bytes_give_the_same_sketch_again(values: list[float]) -> None:
    sketch = sketch_of(np.asarray(values))
    again = from_bytes(sketch.to_bytes())
    assert again.keys.tolist() == sketch.keys.tolist()
    assert again.counts.tolist() == sketch.counts.tolist()


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_merging_sketches_is_the_sketch_of_everything(parts: list[list[float]]) -> None:
    together = merged([from_bytes(sketch_of(np.asarray(part)).to_bytes()) for part in parts])
    whole = sketch_of(np.asarray([value for part in parts for value in part]))
    assert together.to_bytes() == whole.to_bytes()


@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused_or_read_but_never_crash(data: bytes) -> None:
    try:
        from_bytes(data)
    except ValueError:
        return


@pytest.mark.parametrize(("points", "limit"), [(60, 100), (3600, 150)])
def test_an_hour_of_vibration_takes_few_bytes(points: int, limit: int) -> None:
    random = np.random.default_rng(4)
    for level in (0.7, 2.8, 7.1):
        hour = np.round(level * np.exp(random.normal(0, 0.2, points)), 3)
        assert len(sketch_of(hour).to_bytes()) <= limit


def test_many_equal_values_take_a_handful_of_bytes() -> None:
    assert len(sketch_of(np.full(1_000_000, 21.5)).to_bytes()) <= 8


def test_nothing_is_empty_and_its_percentiles_are_not_numbers() -> None:
    empty = merged([])
    assert empty.to_bytes() == b""
    assert math.isnan(empty.percentiles([50])[0])
    assert RELATIVE_ERROR < 0.01
