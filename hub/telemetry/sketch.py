"""A percentile sketch: counts of logarithmic buckets, mergeable without loss, a few dozen bytes.

A value falls into the bucket (1.02^(i-1), 1.02^i] and is given back as the bucket's middle, so a
percentile is off by at most 0.991 % of the exact nearest-rank one, for either sign and any
magnitude. Magnitudes below 1e-300 count as zero. Merging sketches gives the very sketch of all
their values: the bound does not grow.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROWTH = 1.02
RELATIVE_ERROR = (GROWTH - 1) / (GROWTH + 1)

_LOG = math.log(GROWTH)
_MIDDLE = math.log(2 / (GROWTH + 1))
_TINY = 1e-300
# Keys order as values do: negative buckets, 0 for zero, positive buckets.
_SHIFT = 40_000
_OFFSET, _FIRST = 1 << 17, 3  # keys are written as three bytes
_LARGEST = math.log(np.finfo(np.float64).max)
_DENSE, _SPARSE, _PACKED = 0, 1, 2
_WORTH_PACKING = 64


@dataclass(frozen=True, slots=True)
class Sketch:
    """Bucket keys in ascending order with their counts."""

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def percentiles(self, wanted: Sequence[float]) -> list[float]:
        """Nearest-rank percentiles, `wanted` in 0 … 100; NaN when there are no values."""
        if not len(self.keys):
            return [math.nan] * len(wanted)
        sums = np.cumsum(self.counts)
        ranks = [rank_of(percent, int(sums[-1])) for percent in wanted]
        places = np.searchsorted(sums, np.asarray(ranks))
        return [float(value) for value in _middles(self.keys[places])]

    def to_bytes(self) -> bytes:
        """A kind byte, the first key, and the counts: of every bucket, or with the gaps between."""
        if not len(self.keys):
            return b""
        first = int(self.keys[0] + _OFFSET).to_bytes(_FIRST, "little")
        width = int(self.keys[-1] - self.keys[0]) + 1
        if width < 2 * len(self.keys):
            every = np.zeros(width, dtype=np.int64)
            every[self.keys - self.keys[0]] = self.counts
            best = bytes([_DENSE]) + first + _varints(every)
        else:
            sparse = np.concatenate([np.diff(self.keys), self.counts])
            best = bytes([_SPARSE]) + first + _varints(sparse)
        if len(best) > _WORTH_PACKING:
            packed = bytes([best[0] | _PACKED]) + _deflate(best[1:])
            best = min(best, packed, key=len)
        return best


def sketch_of(values: NDArray[np.float64]) -> Sketch:
    """The sketch of finite values."""
    keys, counts = np.unique(keys_of(values), return_counts=True)
    return Sketch(keys, counts.astype(np.int64))


def keys_of(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bucket of each value, as an order-keeping number."""
    size = np.abs(values)
    tiny = size < _TINY
    steps = np.ceil(np.log(np.where(tiny, 1.0, size)) / _LOG).astype(np.int64) + _SHIFT
    return np.where(tiny, 0, np.where(values < 0, -steps, steps))


def from_bytes(data: bytes) -> Sketch:
    """Raises ValueError for what `to_bytes` did not write."""
    if not data:
        return Sketch(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    kind, body = data[0], data[1:]
    if kind & _PACKED:
        body = _inflate(body)
    first = int.from_bytes(body[:_FIRST], "little") - _OFFSET
    rest = _read_varints(body[_FIRST:])
    if kind & _SPARSE:
        size = (len(rest) + 1) // 2
        keys = first + np.concatenate([[0], np.cumsum(rest[: size - 1])]).astype(np.int64)
        return Sketch(keys, rest[size - 1 :])
    found = np.flatnonzero(rest)
    return Sketch(first + found, rest[found])


def merged(sketches: Iterable[Sketch]) -> Sketch:
    """The sketch of the values of all of them."""
    parts = list(sketches)
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return from_bytes(b"")
    keys = np.concatenate([part.keys for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    found, places = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(found), dtype=np.int64)
    np.add.at(sums, places, counts)
    return Sketch(found, sums)


def rank_of(percent: float, count: int) -> int:
    """The nearest rank, 1 … count. `percent` is taken as the decimal it was written as."""
    exact = math.ceil(round(percent * count / 100, 9))
    return min(max(exact, 1), count)


def _middles(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    steps = np.abs(keys) - _SHIFT
    size = np.exp(np.minimum(steps * _LOG + _MIDDLE, _LARGEST))
    return np.where(keys == 0, 0.0, np.sign(keys) * size)


def _varints(numbers: NDArray[np.int64]) -> bytes:
    """Seven bits a byte, lowest first; the top bit says that more follow."""
    if numbers.max() < 128:
        return numbers.astype(np.uint8).tobytes()
    lengths = np.ones(len(numbers), dtype=np.int64)
    for bits in range(7, 63, 7):
        lengths += numbers >= (1 << bits)
    ends = np.cumsum(lengths)
    out = np.zeros(int(ends[-1]), dtype=np.uint8)
    for byte in range(int(lengths.max())):
        has = lengths > byte
        more = (lengths[has] > byte + 1) * 128
        out[(ends - lengths)[has] + byte] = ((numbers[has] >> (7 * byte)) & 127) | more
    return out.tobytes()


def _read_varints(data: bytes) -> NDArray[np.int64]:
    raw = np.frombuffer(data, dtype=np.uint8)
    if not len(raw) or raw[-1] >= 128:
        raise ValueError("not a sketch")
    last = np.flatnonzero(raw < 128)
    if len(last) == len(raw):
        return raw.astype(np.int64)
    begins = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(raw)) - np.repeat(begins, last - begins + 1)
    if place.max() > 8:
        raise ValueError("not a sketch")
    parts = (raw & 127).astype(np.int64) << (7 * place)
    return np.add.reduceat(parts, begins)


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompress(data, -15)
    except zlib.error as error:
        raise ValueError("not a sketch") from error
