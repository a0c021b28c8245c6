"""Readings of many chunks to bytes and back, bit for bit.

    head  form, widths, count, first time, base of the values [, step of the times [, their unit]]
    body  times · values, each number in as few whole bytes as its chunk needs
    tail  CRC-32 of head and body

Times are kept as steps: a constant step takes no bytes, others are what exceeds the smallest one,
in their greatest common unit. Values become whole numbers in one of three ways (`_ways`): decimals
as multiples of 10^-scale, numbers that are exact in float32 as its bits, all others as the bits of
float64. Of these numbers either what exceeds the smallest is kept, or their steps the same way.

All chunks of a call are worked on at once by numpy: a chunk alone would cost ten times as much.
All sums are modulo 2^64, so that none overflows.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.sdk.errors import ContractBroken

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_Words = NDArray[np.uint64]

MOST_POINTS = 0xFFFF
"""Points that one chunk can hold."""

_FORM = 1  # the upper three bits of a chunk's first byte
_HEAD = np.dtype(
    [
        ("form", "u1"),  # way | 16 if steps of the values are kept | form << 5
        ("widths", "u1"),  # bytes per time | bytes per value << 4
        ("count", "<u2"),
        ("first_ts", "<i8"),
        ("base", "<i8"),
        ("step", "<u4"),
        ("unit", "<u4"),
    ]
)
_SHORT, _STEADY, _FULL = 20, 24, 28  # one point; a constant step; any steps
_TAIL = 4
_SCALES = 7
_FLOAT32, _FLOAT64 = 7, 8
_STEPS = 16
_POWERS = np.array([10.0**scale for scale in range(_SCALES)] + [1.0, 1.0])
_LARGEST = 4e12  # times 10^6 it is still an int64
_TOPS = np.array([2 ** (8 * width) - 1 for width in range(8)], dtype=np.uint64)


def encode(ts: Ints, values: Floats) -> bytes:
    """One chunk. Times ascend."""
    return encode_many(ts, values, np.zeros(1, np.int64))[0]


def decode(points: bytes) -> tuple[Ints, Floats]:
    """Times and values of one chunk. Raises ContractBroken when the bytes are damaged."""
    _, ts, values = decode_many([points])
    return ts, values


# --- encoding ---------------------------------------------------------------------------------


def encode_many(ts: Ints, values: Floats, starts: Ints) -> list[bytes]:
    """Chunk by chunk; `starts` are the positions of their first points, and times ascend in each.

    A chunk has 1 … MOST_POINTS points.
    """
    if len(starts) == 0:
        return []
    counts = np.diff(starts, append=len(ts))
    heads = np.zeros(len(starts), _HEAD)
    heads["count"] = counts
    heads["first_ts"] = ts[starts]
    times, time_widths = _packed_times(ts.view(np.uint64), starts, counts, heads)
    numbers, ways = _ways(values, starts, counts)
    bodies, value_widths, stepped = _packed_values(numbers, starts, counts, heads)
    heads["form"] = ways | stepped * _STEPS | _FORM << 5
    heads["widths"] = time_widths | value_widths << 4
    raw, lengths = heads.tobytes(), _head_lengths(counts, time_widths)
    chunks = []
    for at, length, first, second in zip(
        range(0, len(raw), _FULL), lengths.tolist(), times, bodies, strict=True
    ):
        chunk = raw[at : at + length] + first + second
        chunks.append(chunk + zlib.crc32(chunk).to_bytes(_TAIL, "little"))
    return chunks


def _head_lengths(counts: Ints, time_widths: Ints) -> Ints:
    return np.where(counts == 1, _SHORT, np.where(time_widths == 0, _STEADY, _FULL))


def _packed_times(
    ts: _Words, starts: Ints, counts: Ints, heads: NDArray[Any]
) -> tuple[list[bytes], Ints]:
    steps = _steps(ts, starts, counts)
    low, high = np.minimum.reduceat(steps, starts), np.maximum.reduceat(steps, starts)
    low[high > 0xFFFF_FFFF] = 0  # steps of more than 49 days are kept as they are
    steps -= np.repeat(low, counts)
    units = np.ones(len(starts), np.uint64)
    uneven = (high > low) & (high <= 0xFFFF_FFFF)
    if uneven.any():
        points = np.repeat(uneven, counts)
        some = counts[uneven]
        units[uneven] = np.gcd.reduceat(steps[points], np.cumsum(some) - some)
        steps[points] //= np.repeat(units[uneven], some)
    widths = _widths((high - low) // units)
    heads["step"], heads["unit"] = low, units
    return _packed(steps, widths, counts), widths


def _steps(numbers: _Words, starts: Ints, counts: Ints) -> _Words:
    """From point to point; the first of a chunk repeats its second, 0 where there is none."""
    steps = np.empty_like(numbers)
    np.subtract(numbers[1:], numbers[:-1], out=steps[1:])
    steps[starts] = 0
    several = starts[counts > 1]
    steps[several] = steps[several + 1]
    return steps


def _ways(values: Floats, starts: Ints, counts: Ints) -> tuple[_Words, NDArray[np.uint8]]:
    """The values as whole numbers, and how each chunk's were made."""
    numbers = values.view(np.uint64).copy()
    ways = np.full(len(starts), _FLOAT64, np.uint8)
    size = np.maximum.reduceat(np.abs(values), starts)
    left = np.flatnonzero(size < _LARGEST)
    for scale in range(_SCALES):
        left = _try_scale(scale, left, values, numbers, ways, starts, counts)
    left = np.flatnonzero(ways == _FLOAT64)
    if len(left):
        _try_float32(left, values, numbers, ways, starts, counts)
    return numbers, ways


def _try_scale(
    scale: int,
    left: Ints,
    values: Floats,
    numbers: _Words,
    ways: NDArray[np.uint8],
    starts: Ints,
    counts: Ints,
) -> Ints:
    """Settles the chunks whose values have so many decimals; returns those that have more."""
    if len(left) == 0:
        return left
    points, some = _points(left, starts, counts)
    wanted = values[points]
    whole = np.rint(wanted * _POWERS[scale]) + 0.0  # makes 0.0 of -0.0, which is kept as bits
    same = (whole / _POWERS[scale]).view(np.int64) == wanted.view(np.int64)
    fits = np.logical_and.reduceat(same, np.cumsum(some) - some)
    chosen = np.repeat(fits, some)
    numbers[points[chosen]] = whole[chosen].astype(np.int64).view(np.uint64)
    ways[left[fits]] = scale
    return left[~fits]


def _try_float32(
    left: Ints,
    values: Floats,
    numbers: _Words,
    ways: NDArray[np.uint8],
    starts: Ints,
    counts: Ints,
) -> None:
    points, some = _points(left, starts, counts)
    wanted = values[points]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = wanted.astype(np.float32)
        same = narrow.astype(np.float64).view(np.int64) == wanted.view(np.int64)
    fits = np.logical_and.reduceat(same, np.cumsum(some) - some)
    chosen = np.repeat(fits, some)
    numbers[points[chosen]] = narrow[chosen].view(np.uint32)
    ways[left[fits]] = _FLOAT32


def _points(chunks: Ints, starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """The positions of all points of these chunks, and how many each has."""
    some = counts[chunks]
    firsts = np.cumsum(some) - some
    return np.arange(some.sum()) + np.repeat(starts[chunks] - firsts, some), some


def _packed_values(
    numbers: _Words, starts: Ints, counts: Ints, heads: NDArray[Any]
) -> tuple[list[bytes], Ints, NDArray[np.bool_]]:
    low, widths = _range(numbers.view(np.int64), starts)
    steps = _steps(numbers, starts, counts)
    step_low, step_widths = _range(steps.view(np.int64), starts)
    stepped = counts * (widths - step_widths) > 8
    base = np.where(stepped, step_low, low)
    rest = np.where(np.repeat(stepped, counts), steps, numbers)
    rest -= np.repeat(base, counts).view(np.uint64)
    widths = np.where(stepped, step_widths, widths)
    heads["base"] = base
    bodies = _packed(rest, widths, counts)
    raw = numbers[starts].tobytes()
    for chunk in np.flatnonzero(stepped).tolist():
        bodies[chunk] = raw[8 * chunk : 8 * chunk + 8] + bodies[chunk]
    return bodies, widths, stepped


def _range(numbers: Ints, starts: Ints) -> tuple[Ints, Ints]:
    low, high = np.minimum.reduceat(numbers, starts), np.maximum.reduceat(numbers, starts)
    return low, _widths(high.view(np.uint64) - low.view(np.uint64))


def _widths(tops: _Words) -> Ints:
    """How many bytes a number up to `top` takes, 0 … 8."""
    return np.searchsorted(_TOPS, tops)


def _packed(numbers: _Words, widths: Ints, counts: Ints) -> list[bytes]:
    packed = [b""] * len(counts)
    for width in np.unique(widths).tolist():
        if width == 0:
            continue
        chunks = np.flatnonzero(widths == width)
        chosen = (
            numbers[np.repeat(widths == width, counts)] if len(chunks) < len(counts) else numbers
        )
        data = _narrow(chosen, width)
        ends = np.cumsum(counts[chunks]) * width
        at = 0
        for chunk, end in zip(chunks.tolist(), ends.tolist(), strict=True):
            packed[chunk] = data[at:end]
            at = end
    return packed


def _narrow(numbers: _Words, width: int) -> bytes:
    if width in (1, 2, 4, 8):
        return numbers.astype(f"<u{width}").tobytes()
    return numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


# --- decoding ---------------------------------------------------------------------------------


def decode_many(chunks: Sequence[bytes]) -> tuple[Ints, Ints, Floats]:
    """How many points each chunk has, then all times and all values.

    Raises ContractBroken when the bytes of a chunk are damaged or of an unknown form; its param
    `place` is the chunk's position.
    """
    if not chunks:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    heads = np.frombuffer(b"".join([one[:_FULL].ljust(_FULL, b"\0") for one in chunks]), _HEAD)
    counts = heads["count"].astype(np.int64)
    time_widths = (heads["widths"] & 15).astype(np.int64)
    value_widths = (heads["widths"] >> 4).astype(np.int64)
    ways: NDArray[np.uint8] = (heads["form"] & 15).astype(np.uint8)
    stepped = (heads["form"] & _STEPS) != 0
    lengths = _head_lengths(counts, time_widths)
    firsts = lengths + counts * time_widths + stepped * 8
    ends = firsts + counts * value_widths
    valid = (heads["form"] >> 5 == _FORM) & (ways <= _FLOAT64) & (counts > 0)
    _check(chunks, valid & (time_widths <= 8) & (value_widths <= 8), ends)
    starts = np.cumsum(counts) - counts
    steps = _unpacked(chunks, lengths, time_widths, counts)
    ts = _times(steps, heads, counts, starts)
    numbers = _unpacked(chunks, firsts, value_widths, counts)
    numbers += np.repeat(heads["base"].view(np.uint64), counts)
    for chunk in np.flatnonzero(stepped).tolist():
        start, end, at = starts[chunk], starts[chunk] + counts[chunk], firsts[chunk]
        numbers[start] = int.from_bytes(chunks[chunk][at - 8 : at], "little")
        np.cumsum(numbers[start:end], out=numbers[start:end])
    return counts, ts, _values(numbers, ways, counts)


def _check(chunks: Sequence[bytes], valid: NDArray[np.bool_], ends: Ints) -> None:
    for place, (chunk, good, end) in enumerate(
        zip(chunks, valid.tolist(), ends.tolist(), strict=True)
    ):
        tail = int.from_bytes(chunk[end:], "little")
        if not good or len(chunk) != end + _TAIL or zlib.crc32(chunk[:end]) != tail:
            raise ContractBroken("telemetry.damaged", place=place, bytes=len(chunk))


def _times(steps: _Words, heads: NDArray[Any], counts: Ints, starts: Ints) -> Ints:
    several = counts > 1
    units = np.where(several & (heads["widths"] & 15 != 0), heads["unit"], 1)
    lows = np.where(several, heads["step"], 0)
    steps *= np.repeat(units.astype(np.uint64), counts)
    steps += np.repeat(lows.astype(np.uint64), counts)
    return _summed(steps, heads["first_ts"].view(np.uint64), counts, starts).view(np.int64)


def _summed(steps: _Words, first: _Words, counts: Ints, starts: Ints) -> _Words:
    """Running sums that begin anew, with `first`, in every chunk."""
    steps[starts] = first
    sums = np.cumsum(steps)
    before = np.zeros_like(first)
    before[1:] = sums[starts[1:] - 1]
    sums -= np.repeat(before, counts)
    return sums


def _unpacked(chunks: Sequence[bytes], ats: Ints, widths: Ints, counts: Ints) -> _Words:
    numbers = np.zeros(counts.sum(), np.uint64)
    ends = (ats + widths * counts).tolist()
    begins = ats.tolist()
    for width in np.unique(widths).tolist():
        if width == 0:
            continue
        chosen = np.flatnonzero(widths == width)
        data = b"".join([chunks[one][begins[one] : ends[one]] for one in chosen.tolist()])
        if len(chosen) == len(counts):
            numbers[:] = _widened(data, width)
        else:
            numbers[np.repeat(widths == width, counts)] = _widened(data, width)
    return numbers


def _widened(data: bytes, width: int) -> NDArray[Any]:
    if width in (1, 2, 4, 8):
        return np.frombuffer(data, f"<u{width}")
    wide = np.zeros((len(data) // width, 8), np.uint8)
    wide[:, :width] = np.frombuffer(data, np.uint8).reshape(-1, width)
    return wide.view("<u8").reshape(-1)


def _values(numbers: _Words, ways: NDArray[np.uint8], counts: Ints) -> Floats:
    values: Floats = numbers.view(np.int64) / np.repeat(_POWERS[ways], counts)
    for way in (_FLOAT32, _FLOAT64):
        if (ways == way).any():
            points = np.repeat(ways == way, counts)
            bits = numbers[points]
            values[points] = (
                bits.view(np.float64)
                if way == _FLOAT64
                else bits.astype(np.uint32).view(np.float32)
            )
    return values
