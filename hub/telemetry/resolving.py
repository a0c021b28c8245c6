"""From names to numbers: (tenant, gateway, device, metric) → series.

While messages are read, a name becomes a *slot*, its place in memory; slots need no database. The
transaction then settles the slots of its batch: it looks up devices and series, and creates those
that are missing. What a transaction settled counts from its commit on; a change of the registry
by an operator (`positions.touch_registry`) makes every slot unsettled.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from hub.sdk.telemetry_names import is_plain_name
from hub.sdk.telemetry_source import TelemetrySource
from hub.store.telemetry import devices as registry
from hub.store.telemetry.devices import ACTIVE, REFUSED, WAITING, DeviceKey, Known, NewDevice
from hub.store.telemetry.positions import REGISTRY, position
from hub.telemetry.columns import Column

LONGEST_KIND = 120
MOST_SERIES = 1_000_000
"""More series, devices or senders are not remembered: memory is emptied and filled anew."""

UNSETTLED, NOBODY, SHUT_OUT = 0, -1, -2

_POLICY = {"auto": ACTIVE, "approve": WAITING}


class Resolver:
    """The memory of one projector."""

    def __init__(self, sources: Mapping[str, TelemetrySource]) -> None:
        self._sources = sources
        self._version: int | None = None
        self._empty()

    def _empty(self) -> None:
        self._senders: dict[tuple[str, str, int], Sender] = {}
        self._spaces: dict[tuple[str, str], dict[str, int]] = {}
        self._entries: list[_Entry] = []
        self._device_slots: dict[DeviceKey, int] = {}
        self._metrics: list[str] = []
        self._series_slots: dict[tuple[int, str], int] = {}
        self._settled: list[tuple[Column, NDArray[np.int64]]] = []
        self.device_ids, self.series_ids, self.device_of = Column(), Column(), Column()
        self.codes: dict[int, str] = {}
        """Slots of series that can never be: why not."""
        self._refused: dict[tuple[int, str], int] = {}

    def source(self, name: str) -> TelemetrySource:
        """The declared source; one that is declared no more counts as one with the defaults."""
        return self._sources.get(name) or TelemetrySource()

    def sender(self, source: str, device: str, gateway: int) -> Sender:
        """Who speaks, with the slots of what it speaks of."""
        key = source, device, gateway
        known = self._senders.get(key)
        if known is None:
            known = self._senders[key] = Sender(self, self.source(source), *key)
        return known

    def make_room(self) -> None:
        """Between two batches: forget everything when it has become too much."""
        known = self.series_ids.length, self.device_ids.length, len(self._senders)
        if max(known) > MOST_SERIES:
            self._empty()

    # --- slots --------------------------------------------------------------------------------

    def device_slot(self, key: DeviceKey, source: TelemetrySource, *, trusted: bool) -> int:
        """The slot of a device whose name is sound. `trusted`: an operator gave it a token."""
        slot = self._device_slots.get(key)
        if slot is None:
            slot = self._device_slots[key] = self.device_ids.append(UNSETTLED)
            self._entries.append(_Entry(key, source, trusted))
        return slot

    def series_slot(self, device: int, metric: str) -> int:
        """The slot of a device's metric."""
        if device < 0 or not is_plain_name(metric):
            return self.refused_slot(device, "no_device" if device == NOBODY else "name")
        key = device, metric
        slot = self._series_slots.get(key)
        if slot is None:
            slot = self._series_slots[key] = self.series_ids.append(UNSETTLED)
            self.device_of.append(device)
            self._metrics.append(key[1])
        return slot

    def refused_slot(self, device: int, code: str) -> int:
        """The slot for readings that `device` sent and that can never be stored."""
        key = max(device, NOBODY), code
        slot = self._refused.get(key)
        if slot is None:
            slot = self._refused[key] = self.series_ids.append(SHUT_OUT)
            self.device_of.append(key[0])
            self._metrics.append("")
            self.codes[slot] = code
        return slot

    def name_it(self, device: int, kind: str) -> None:
        """A gateway names the class of a device; it holds unless the device has one."""
        entry = self._entries[device]
        if entry.kind != kind and kind and len(kind) <= LONGEST_KIND and kind.isprintable():
            entry.kind = kind
            if entry.class_known == "":
                self.device_ids.array[device] = UNSETTLED

    def name_of(self, device: int) -> str:
        """The name of a device by its slot; "" for nobody."""
        return self._entries[device].key[2] if device >= 0 else ""

    def metric_of(self, series: int) -> str:
        """The metric of a series by its slot."""
        return self._metrics[series]

    # --- settling -----------------------------------------------------------------------------

    def look_at_registry(self, connection: Connection) -> None:
        """Forget numbers, not slots, when an operator has changed something."""
        version = position(connection, REGISTRY)
        if version == self._version:
            return
        self.device_ids.array[:] = UNSETTLED
        series = self.series_ids.array
        series[: self.series_ids.length] = UNSETTLED
        series[list(self.codes)] = SHUT_OUT
        for entry in self._entries:
            entry.class_known = None
        self._version = version

    def settle(
        self, connection: Connection, series: NDArray[np.int64], devices: Iterable[int], now: int
    ) -> None:
        """Give numbers to these slots: look up, and create what is missing."""
        slots = np.unique(series)
        of = self.device_of.array[slots]
        wanted = np.unique(np.concatenate([of, np.fromiter(devices, np.int64)]))
        wanted = wanted[wanted >= 0]
        self._settle_devices(connection, wanted[self.device_ids.array[wanted] == UNSETTLED], now)
        open_ = slots[self.series_ids.array[slots] == UNSETTLED]
        self._settle_series(connection, open_)

    def keep(self) -> None:
        """The transaction is committed."""
        self._settled.clear()

    def undo(self) -> None:
        """The transaction came to nothing: what it settled may not exist."""
        for column, slots in self._settled:
            column.array[slots] = UNSETTLED
        self._settled.clear()

    def _settle_devices(self, connection: Connection, slots: NDArray[np.int64], now: int) -> None:
        if not len(slots):
            return
        entries = [self._entries[slot] for slot in slots.tolist()]
        keys = [entry.key for entry in entries]
        found = {one.key: one for one in registry.find_devices(connection, keys)}
        new = [made for entry in entries if entry.key not in found and (made := entry.made(now))]
        if new:
            registry.create_devices(connection, new)
            made_keys = [(one.tenant, one.gateway, one.name) for one in new]
            found |= {one.key: one for one in registry.find_devices(connection, made_keys)}
        registry.set_kinds(connection, _missing_kinds(entries, found))
        for slot, entry in zip(slots.tolist(), entries, strict=True):
            known = found.get(entry.key)
            entry.class_known = known.kind or entry.wanted_kind() if known else None
            entry.refused_id = known.device_id if known and known.state == REFUSED else 0
            usable = known.device_id if known and known.state != REFUSED else SHUT_OUT
            self.device_ids.array[slot] = usable
        self._settled.append((self.device_ids, slots))

    def _settle_series(self, connection: Connection, slots: NDArray[np.int64]) -> None:
        if not len(slots):
            return
        of = self.device_ids.array[self.device_of.array[slots]]
        self.series_ids.array[slots[of == SHUT_OUT]] = SHUT_OUT
        self._settled.append((self.series_ids, slots))
        slots, of = slots[of > 0], of[of > 0]
        keys = [(d, self._metrics[s]) for d, s in zip(of.tolist(), slots.tolist(), strict=True)]
        found = registry.find_series(connection, keys)
        missing = [
            (*key, self._unit(slot))
            for key, slot in zip(keys, slots.tolist(), strict=True)
            if key not in found
        ]
        if missing:
            registry.create_series(connection, missing)
            found |= registry.find_series(connection, [(one[0], one[1]) for one in missing])
        self.series_ids.array[slots] = [found[key] for key in keys]

    def _unit(self, slot: int) -> str:
        units = self._entries[int(self.device_of.array[slot])].source.units
        return units.get(self._metrics[slot], "")[:40]

    def device_id(self, slot: int) -> int | None:
        """The number of a settled device, of a refused one too; None when there is none."""
        if slot < 0:
            return None
        number = int(self.device_ids.array[slot])
        return number if number > 0 else self._entries[slot].refused_id or None


class Sender:
    """The slots of one sender: itself, and for a gateway its devices.

    A device that is no gateway speaks for itself only.
    """

    def __init__(
        self, resolver: Resolver, source: TelemetrySource, name: str, device: str, gateway: int
    ) -> None:
        self.source = source
        self.source_name = name
        self.name = device
        self.series = _Series(self)
        self.resolver = resolver
        self._gateway = bool(gateway)
        self._devices: dict[str, int] = {}
        own = (source.tenant, "", device)
        sound = device != "" and is_plain_name(device)
        # With a broker it may be the name in a topic; whom an operator added is known anyway.
        trusted = source.broker is None
        self.own = resolver.device_slot(own, source, trusted=trusted) if sound else NOBODY

    def device(self, name: str) -> int | None:
        """The slot of a device; NOBODY when none is named, None when it may not speak for it."""
        slot = self._devices.get(name)
        if slot is not None:
            return slot
        if name in ("", self.name):
            return self.own
        if not self._gateway:
            return None
        if not is_plain_name(name):
            return SHUT_OUT
        key = (self.source.tenant, self.name, name)
        slot = self._devices[name] = self.resolver.device_slot(key, self.source, trusted=False)
        return slot

    def series_slot(self, device: str, metric: str) -> int:
        """The slot of a reading's series."""
        slot = self.device(device)
        if slot is not None:
            return self.resolver.series_slot(slot, metric)
        return self.resolver.refused_slot(self.own, "unknown_device")


class _Series(dict[tuple[str, str], int]):
    """(device, metric) → slot; what is asked for the first time is found out."""

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender

    def __missing__(self, key: tuple[str, str]) -> int:
        slot = self._sender.series_slot(*key)
        if slot not in self._sender.resolver.codes:
            self[key] = slot
        return slot


class _Entry:
    """A device as memory has it. `class_known` is None while the registry was not asked."""

    __slots__ = ("class_known", "key", "kind", "refused_id", "source", "trusted")

    def __init__(self, key: DeviceKey, source: TelemetrySource, trusted: bool) -> None:
        self.key, self.source, self.trusted = key, source, trusted
        self.kind = ""
        self.class_known: str | None = None
        self.refused_id = 0

    def made(self, now: int) -> NewDevice | None:
        """The device to enter; None when the source takes no unknown ones."""
        state = ACTIVE if self.trusted else _POLICY.get(self.source.unknown_devices)
        if state is None:
            return None
        kind, zone = self.wanted_kind(), self.source.zone or ""
        return NewDevice(*self.key, self.source.source, state, kind, zone, now)

    def wanted_kind(self) -> str:
        """The class its gateway names, or the first whose pattern fits its name."""
        fitting = (
            one.kind for one in self.source.classes if fnmatch.fnmatchcase(self.key[2], one.match)
        )
        return self.kind or next(fitting, "")[:LONGEST_KIND]


def _missing_kinds(
    entries: Iterable[_Entry], found: Mapping[DeviceKey, Known]
) -> list[tuple[int, str]]:
    known = [(found[entry.key], entry.wanted_kind()) for entry in entries if entry.key in found]
    return [(one.device_id, kind) for one, kind in known if kind and not one.kind]
