"""Readings survive being packed, bit for bit; damaged bytes are one clear error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sdk.errors import ContractBroken
from hub.store.telemetry.codec import decode, decode_many, encode, encode_many

Points = list[tuple[int, float]]

WHOLE = st.integers(-(2**63), 2**63 - 1)
NEAR = st.integers(1_700_000_000_000, 1_700_003_600_000)
DECIMAL = st.builds(lambda n, scale: n / 10**scale, st.integers(-(10**7), 10**7), st.integers(0, 7))
ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.one_of(
    ANY_FLOAT,
    DECIMAL,
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(0, 1),
)
ODD = [
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    0.1,
    1 / 3,
    4e12,
    4e12 + 0.5,
    2.0**53,
    2.0**62,
    2.0**63,
    -(2.0**63),
    1e22,
    3.4028234663852886e38,
]


@st.composite
def point_lists(draw: st.DrawFn) -> Points:
    times = draw(
        st.lists(draw(st.sampled_from([WHOLE, NEAR])), min_size=1, unique=True, max_size=70)
    )
    kind = draw(st.sampled_from([VALUES, DECIMAL, ANY_FLOAT, st.sampled_from(ODD), st.just(2.5)]))
    return [(ts, float(draw(kind))) for ts in sorted(times)]


def arrays(points: Points) -> tuple[np.ndarray, np.ndarray]:
    return np.array([ts for ts, _ in points]), np.array([value for _, value in points])


def same(points: Points, ts: np.ndarray, values: np.ndarray) -> bool:
    wanted_ts, wanted = arrays(points)
    return ts.tolist() == wanted_ts.tolist() and values.tobytes() == wanted.tobytes()


@given(point_lists())
def test_what_is_packed_comes_back_bit_for_bit(points: Points) -> None:
    assert same(points, *decode(encode(*arrays(points))))


@given(st.lists(point_lists(), min_size=1, max_size=8))
def test_chunks_packed_together_are_what_they_are_alone(chunks: list[Points]) -> None:
    ts, values = arrays([point for points in chunks for point in points])
    counts = [len(points) for points in chunks]
    packed = encode_many(ts, values, np.cumsum(counts) - counts)
    assert packed == [encode(*arrays(points)) for points in chunks]
    found, all_ts, all_values = decode_many(packed)
    assert found.tolist() == counts
    assert all_ts.tolist() == ts.tolist()
    assert all_values.tobytes() == values.tobytes()


@pytest.mark.parametrize("value", ODD)
def test_an_odd_number_survives_alone_and_beside_others(value: float) -> None:
    for values in ([value], [value, 1.5, value], [value, *ODD], [-value, value]):
        points = [(60_000 * n, one) for n, one in enumerate(values)]
        assert same(points, *decode(encode(*arrays(points))))


def test_nothing_packed_is_nothing() -> None:
    assert encode_many(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64)) == []
    assert [len(part) for part in decode_many([])] == [0, 0, 0]


@given(point_lists(), st.data())
def test_damaged_bytes_are_one_error(points: Points, data: st.DataObject) -> None:
    packed = bytearray(encode(*arrays(points)))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(packed), bytes(packed[:at]), bytes(packed) + b"x"):
        with pytest.raises(ContractBroken, match="damaged"):
            decode_many([encode(*arrays(points)), damaged])


@given(st.binary(max_size=80))
def test_bytes_of_something_else_are_refused(data: bytes) -> None:
    with pytest.raises(ContractBroken):
        decode(data)


def minutes(count: int) -> np.ndarray:
    return 1_700_000_000_000 + 60_000 * np.arange(count)


@pytest.mark.parametrize("decimals", [2, 3, 4])
def test_an_hour_of_vibration_takes_little(decimals: int) -> None:
    values = np.round(np.random.default_rng(1).gamma(4, 0.6, 60), decimals)
    assert len(encode(minutes(60), values)) <= 60 * 2 + 32
    missing = np.delete(minutes(60), [7, 8, 30])
    assert len(encode(missing, values[:57])) <= 57 * 3 + 36


def test_a_constant_takes_no_bytes_per_reading() -> None:
    for value in (0.0, 21.5, 1 / 3, 1e300):
        assert len(encode(minutes(60), np.full(60, value))) == 28


def test_a_counter_is_kept_as_steps() -> None:
    assert len(encode(minutes(60), 1e9 + 1000.0 * np.arange(60))) == 36


def test_random_doubles_take_no_more_than_they_must() -> None:
    random = np.random.default_rng(2)
    values = random.standard_normal(60) * 10.0 ** random.integers(-300, 300, 60)
    ts = np.sort(random.choice(3_600_000, 60, replace=False))
    assert len(encode(ts, values)) <= 60 * 11 + 40
