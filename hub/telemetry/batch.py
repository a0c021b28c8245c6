"""Messages read again: their readings as columns, and all else they tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hub.sdk.telemetry import Decode, Decoded, Refused
from hub.store.rows import plain_text
from hub.store.telemetry.inbox import StoredMessage
from hub.telemetry.clocks import as_times
from hub.telemetry.port import REFUSED_FORMAT
from hub.telemetry.resolving import Resolver, Sender

STATES = frozenset({"online", "offline", "stale"})


class Read(NamedTuple):
    """A message and what it holds. `slots` are those of its samples."""

    message: StoredMessage
    sender: Sender
    decoded: Decoded
    slots: list[int]


class Columns(NamedTuple):
    """Readings in order of receipt. `message` is the place of each one's message in the batch."""

    slots: NDArray[np.int64]
    ts: NDArray[np.int64]
    value: NDArray[np.float64]
    message: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.slots)


class Texts(NamedTuple):
    """Texts likewise."""

    slots: NDArray[np.int64]
    ts: NDArray[np.int64]
    text: list[str]
    message: NDArray[np.int64]


class Batch(NamedTuple):
    """What one transaction projects."""

    reads: list[Read]
    columns: Columns
    texts: Texts

    def split(self) -> tuple[Batch, Batch]:
        """Two halves; there are at least two messages."""
        middle = len(self.reads) // 2
        return make_batch(self.reads[:middle]), make_batch(self.reads[middle:])

    def ends(self) -> dict[int, tuple[int, int]]:
        """Per part the first and last message of the batch."""
        ends: dict[int, tuple[int, int]] = {}
        for read in self.reads:
            part, seq = read.message.part, read.message.seq
            ends[part] = ends.get(part, (seq, seq))[0], seq
        return ends


class Reader:
    """Reads messages by the decoders of their formats."""

    def __init__(self, decoders: Mapping[str, Decode], resolver: Resolver) -> None:
        self._decoders = decoders
        self._resolver = resolver

    def read(self, messages: Sequence[StoredMessage], most: int) -> list[Read]:
        """The messages read, until there are `most` readings; at least one."""
        reads, readings = [], 0
        for message in messages:
            read = self._read_one(message)
            reads.append(read)
            readings += len(read.slots)
            if readings >= most:
                break
        return reads

    def _decoder(self, name: str) -> Decode | None:
        """Raises ConfigError for a format whose connector is broken at present."""
        try:
            return self._decoders[name]
        except KeyError:
            return None

    def unread(self, message: StoredMessage, detail: str) -> Read:
        """The message, refused as it is."""
        sender = self._resolver.sender(message.source, message.sender, message.gateway)
        return _poison(message, sender, detail)

    def _read_one(self, message: StoredMessage) -> Read:
        sender = self._resolver.sender(message.source, message.sender, message.gateway)
        decode = None if message.format == REFUSED_FORMAT else self._decoder(message.format)
        try:
            details = json.loads(message.details) if message.details else {}
            if message.format == REFUSED_FORMAT:
                told = message._replace(format=details["format"])
                return Read(told, sender, _refused_by_face(details), [])
            if decode is None:
                return _poison(message, sender, f"no connector reads {message.format!r}")
            decoded = decode(message.body, details, message.received_at)
            _check_rest(decoded)
            series = sender.series
            return Read(
                message, sender, decoded, [series[one[0], one[1]] for one in decoded.samples]
            )
        except Exception as error:  # noqa: BLE001 (a message must not stop those behind it)
            return _poison(message, sender, f"{type(error).__name__}: {error}")


def make_batch(reads: list[Read]) -> Batch:
    """The columns of what was read; a message with unsound readings is refused as a whole."""
    try:
        return Batch(reads, _columns(reads), _texts(reads))
    except Exception:  # noqa: BLE001 (some decoder's mistake: find out whose)
        checked = [_checked(read) for read in reads]
        return Batch(checked, _columns(checked), _texts(checked))


def _checked(read: Read) -> Read:
    try:
        _columns([read])
        _texts([read])
    except Exception as error:  # noqa: BLE001 (see make_batch)
        return _poison(read.message, read.sender, f"{type(error).__name__}: {error}")
    return read


def _check_rest(decoded: Decoded) -> None:
    """Raises ValueError or TypeError for what does not become a column."""
    for _device, state, ts in decoded.states:
        if state not in STATES or not isinstance(ts, int):
            raise ValueError(f"state {state!r} at {ts!r}")
    for *_names, _ts, value in decoded.last_known:
        float(value)


def _columns(reads: Sequence[Read]) -> Columns:
    flat = [sample for read in reads for sample in read.decoded.samples]
    sizes = [len(read.slots) for read in reads]
    slots = np.fromiter((slot for read in reads for slot in read.slots), np.int64, len(flat))
    ts = as_times([one[2] for one in flat])
    value = np.array([one[3] for one in flat], np.float64)
    return Columns(slots, ts, value, np.repeat(np.arange(len(reads)), sizes))


def _texts(reads: Sequence[Read]) -> Texts:
    rows = [
        (read.sender.series[one[0], one[1]], one[2], _text(one[3]), place)
        for place, read in enumerate(reads)
        for one in read.decoded.texts
    ]
    return Texts(
        np.array([row[0] for row in rows], np.int64),
        as_times([row[1] for row in rows]),
        [row[2] for row in rows],
        np.array([row[3] for row in rows], np.int64),
    )


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"a text is {type(text).__name__}")
    return plain_text(text)  # what PostgreSQL refuses in it must not cost the message


def _poison(message: StoredMessage, sender: Sender, detail: str) -> Read:
    refused = Refused(-1, "malformed", detail)
    return Read(message, sender, Decoded(refused=[refused]), [])


def refused_whole(read: Read, detail: str) -> Read:
    """The message without anything it holds."""
    return _poison(read.message, read.sender, detail)


def _refused_by_face(details: Mapping[str, str]) -> Decoded:
    """See `hub.telemetry.port`: every `Refused` as an array."""
    return Decoded(refused=[Refused(*one) for one in json.loads(details["refused"])])


def each_told(
    batch: Batch, pick: Callable[[Decoded], Mapping[str, Any]]
) -> Iterator[tuple[int, Any]]:
    """(slot of the device, what is told of it) over the batch."""
    for read in batch.reads:
        for name, told in pick(read.decoded).items():
            slot = read.sender.device(name)
            if slot is not None and slot >= 0:
                yield slot, told
