"""Devices that send, a projector that works, and what came of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from hub.sdk.telemetry import Decoded, Refused, Sample, State, Text
from hub.sdk.telemetry_source import TelemetrySource
from hub.store.database import open_store
from hub.store.tables.telemetry import (
    device,
    inbox_metadata,
    position,
    quarantine,
    series,
    telemetry_metadata,
)
from hub.store.telemetry.changes import read_changes
from hub.store.telemetry.database import open_telemetry, open_telemetry_inbox
from hub.store.telemetry.inbox import NewMessage, append, last_seqs
from hub.store.telemetry.outcomes import Outcome, find_outcome
from hub.store.telemetry.positions import position as at
from hub.telemetry.careful import Care
from hub.telemetry.feed import TableFeed
from hub.telemetry.leases import Leases
from hub.telemetry.projector import Progress, Projector, Setup

HOUR = 3_600_000
NOW = 1_795_629_600_000
PARTS = 4

_METADATA = sa.MetaData()
POINTS = sa.Table(
    "test_point",
    _METADATA,
    sa.Column("series_id", sa.BigInteger, primary_key=True),
    sa.Column("ts", sa.BigInteger, primary_key=True),
    sa.Column("val", sa.Double),
    sa.Column("said", sa.Text),
)


class Written(NamedTuple):
    verdict: NDArray[np.uint8]
    hours: NDArray[np.int64]


class Clash(Exception):
    """Another process was first."""


class PlainWriter:
    """A row per reading: slow, and easily believed. `clashes` are raised before anything else."""

    def __init__(self, clashes: int = 0) -> None:
        self.clashes = clashes

    def write(
        self,
        connection: Connection,
        series: NDArray[np.int64],
        ts: NDArray[np.int64],
        value: NDArray[np.float64],
    ) -> Written:
        if self.clashes:
            self.clashes -= 1
            raise Clash
        rows = list(zip(series.tolist(), ts.tolist(), value.tolist(), strict=True))
        if any(value == 666.0 for _series, _ts, value in rows):
            raise ValueError("the store does not take 666")
        verdict = [self._one(connection, *row, None) for row in rows]
        hours = {
            (one, at - at % HOUR) for (one, at, _), v in zip(rows, verdict, strict=True) if v != 1
        }
        return Written(
            np.array(verdict, np.uint8), np.array(sorted(hours), np.int64).reshape(-1, 2)
        )

    def write_texts(
        self, connection: Connection, rows: Sequence[tuple[int, int, str]]
    ) -> NDArray[np.uint8]:
        return np.array([self._one(connection, one, ts, None, said) for one, ts, said in rows])

    def _one(
        self, connection: Connection, series: int, ts: int, value: float | None, said: str | None
    ) -> int:
        mine = (POINTS.c.series_id == series, POINTS.c.ts == ts)
        row = connection.execute(sa.select(POINTS.c.val, POINTS.c.said).where(*mine)).first()
        if row is None:
            new = {"series_id": series, "ts": ts, "val": value, "said": said}
            connection.execute(POINTS.insert().values(new))
            return 0
        if tuple(row) == (value, said):
            return 1
        connection.execute(POINTS.update().where(*mine).values(val=value, said=said))
        return 2


def plain(body: bytes, details: Mapping[str, str], received_at: int) -> Decoded:
    """JSON of a Decoded, member by member."""
    if body == b"explode":
        raise RuntimeError("a decoder with a mistake")
    if body == b"kill":
        raise SystemExit
    told = json.loads(body)
    return Decoded(
        samples=[Sample(*one) for one in told.get("samples", [])],
        texts=[Text(*one) for one in told.get("texts", [])],
        attributes=told.get("attributes", {}),
        kinds=told.get("kinds", {}),
        states=[State(*one) for one in told.get("states", [])],
        last_known=[Sample(*one) for one in told.get("last_known", [])],
        refused=[Refused(*one) for one in told.get("refused", [])],
    )


class Plant:
    """Use `send`, then `run`, then look.

    Migrating takes longer than most tests here, so the tables are made at once unless `migrated`.
    """

    def __init__(self, url: str, inbox_url: str, *, migrated: bool = False) -> None:
        self.url, self.inbox_url = url, inbox_url
        if migrated:
            self.store, self.inbox = open_telemetry(url), open_telemetry_inbox(inbox_url)
        else:
            self.store = open_store(url, shared=True)
            self.inbox = open_store(inbox_url, shared=True)
        self.parts = 1 if self.store.embedded else PARTS
        self.now = NOW
        tables = [(self.store, _METADATA)]
        if not migrated:
            tables += [(self.store, telemetry_metadata), (self.inbox, inbox_metadata)]
        for store, metadata in tables:
            with store.transaction() as connection:
                metadata.create_all(connection)

    def close(self) -> None:
        self.store.close()
        self.inbox.close()

    def projector(
        self,
        *sources: TelemetrySource,
        owner: str = "me",
        writer: Any = None,
        careful: bool = False,
    ) -> Projector:
        setup = Setup(
            self.store,
            TableFeed(self.inbox),
            {one.source: one for one in sources},
            {"plain": plain},
            writer or PlainWriter(),
            lambda: self.now,
            Clash,
        )
        leases = Leases(self.store, owner, range(self.parts))
        return Projector(setup, leases, Care(self.store, careful=careful))

    def run(self, projector: Projector) -> Progress:
        """Steps until nothing waits; all of them together."""
        messages = readings = 0
        while (done := projector.step()).messages:
            messages, readings = messages + done.messages, readings + done.readings
        return Progress(messages, readings, done.lag)

    def send(
        self,
        body: bytes | None = None,
        *,
        sender: str = "D1",
        gateway: bool = False,
        format: str = "plain",
        source: str = "iot",
        counted: bool = False,
        details: str = "",
        **told: Any,
    ) -> tuple[int, int]:
        """Keep one message; its part and number."""
        part = zlib.crc32(f"{source}\0{sender}".encode()) % self.parts
        message = NewMessage(
            part=part,
            received_at=self.now,
            source=source,
            sender=sender,
            gateway=int(gateway),
            format=format,
            details=details,
            counted=int(counted),
            body=json.dumps(told).encode() if body is None else body,
        )
        with self.inbox.transaction() as connection:
            return part, append(connection, [message])[0][0]

    def device(self, name: str, gateway: str = "", tenant: str = "default") -> Any:
        mine = (device.c.name == name, device.c.gateway == gateway, device.c.tenant == tenant)
        return self._one(sa.select(device).where(*mine))

    def series(self, name: str, metric: str, gateway: str = "") -> Any:
        number = self.device(name, gateway).device_id
        mine = (series.c.device_id == number, series.c.metric == metric)
        return self._one(sa.select(series).where(*mine))

    def points(self, name: str, metric: str, gateway: str = "") -> dict[int, Any]:
        mine = POINTS.c.series_id == self.series(name, metric, gateway).series_id
        with self.store.reading() as connection:
            rows = connection.execute(sa.select(POINTS).where(mine).order_by(POINTS.c.ts)).all()
        return {row.ts: row.val if row.said is None else row.said for row in rows}

    def number_of_points(self) -> int:
        return int(self._one(sa.select(sa.func.count()).select_from(POINTS))[0])

    def quarantined(self) -> list[Any]:
        order = (quarantine.c.part, quarantine.c.seq, quarantine.c.position)
        with self.store.reading() as connection:
            return list(connection.execute(sa.select(quarantine).order_by(*order)))

    def outcome(self, place: tuple[int, int]) -> Outcome | None:
        with self.store.reading() as connection:
            return find_outcome(connection, *place)

    def waiting(self) -> int:
        """Messages that are not projected yet."""
        with self.inbox.reading() as connection:
            heads = last_seqs(connection)
        with self.store.reading() as connection:
            return sum(seq - at(connection, f"part:{part}") for part, seq in heads.items())

    def changes(self) -> list[Any]:
        with self.store.reading() as connection:
            return list(read_changes(connection, 0, 1000))

    def owners(self) -> list[str]:
        parts = sa.select(position.c.owner).where(position.c.name.startswith("part:"))
        with self.store.reading() as connection:
            return list(connection.execute(parts).scalars())

    def _one(self, query: sa.Select[Any]) -> Any:
        with self.store.reading() as connection:
            return connection.execute(query).first()
