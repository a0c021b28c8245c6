"""Counts of the messages that asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.tables.telemetry import outcome
from hub.store.telemetry.bulk import insert_missing, select_by

KEEP_MS = 60_000


class Outcome(NamedTuple):
    """What became of the readings of one message."""

    part: int
    seq: int
    accepted: int
    duplicates: int
    restated: int
    refused: int
    done_at: int


def add_outcomes(connection: Connection, rows: Sequence[Outcome]) -> None:
    """Leave counts for whoever waits for them."""
    columns = dict.fromkeys(Outcome._fields, "bigint")
    insert_missing(connection, outcome, columns, rows)


def find_outcome(connection: Connection, part: int, seq: int) -> Outcome | None:
    """The counts of one message; None before it is projected, and a minute after."""
    mine = (outcome.c.part == part, outcome.c.seq == seq)
    row = connection.execute(sa.select(outcome).where(*mine)).first()
    return None if row is None else Outcome(*row)


def find_outcomes(
    connection: Connection, places: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """(accepted, duplicates, restated, refused) by (part, number), where they are known."""
    columns = {"part": "bigint", "seq": "bigint"}
    fields = ("part", "seq", "accepted", "duplicates", "restated", "refused")
    found = select_by(connection, outcome, columns, sorted(set(places)), *fields)
    return {(row[0], row[1]): (row[2], row[3], row[4], row[5]) for row in found}


def trim_outcomes(connection: Connection, now: int) -> None:
    """Forget the counts nobody waits for any more."""
    connection.execute(outcome.delete().where(outcome.c.done_at < now - KEEP_MS))
