"""Why a transaction failed decides what becomes of the messages in it."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa

from hub.sdk.errors import ContractBroken, LostRace
from hub.telemetry.troubles import Trouble, trouble_of


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (sa.exc.DatabaseError("", {}, sqlite3.DatabaseError("disk image is malformed")), "store"),
        (sa.exc.OperationalError("", {}, sqlite3.OperationalError("disk I/O error")), "store"),
        (sa.exc.OperationalError("", {}, sqlite3.OperationalError("database is locked")), "again"),
        (sa.exc.IntegrityError("", {}, sqlite3.IntegrityError("NOT NULL failed")), "message"),
        (ValueError("a writer's mistake"), "message"),
        (MemoryError(), "store"),
        (LostRace("telemetry.lost_part", part=1), "store"),
        (ContractBroken("telemetry.damaged", place=0, bytes=1), "message"),
    ],
)
def test_only_what_a_message_is_to_blame_for_costs_it(error: Exception, trouble: str) -> None:
    assert trouble_of(error) is Trouble(trouble)
