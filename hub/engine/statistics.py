"""Figures about the hub for monitoring, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store.runs import RunState
from hub.store.tables import dead_letter, delivery, intent, record, run

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_OUTCOMES = (
    "rows_read",
    "mapped",
    "written",
    "unchanged",
    "rejected",
    "refused",
    "held",
    "skipped",
)

Labels = dict[str, str]


def engine_ready(hub: Hub) -> dict[str, bool]:
    """Whether the database answers and jobs are worked on."""
    try:
        with hub.store.reading() as connection:
            connection.execute(sa.select(sa.literal(1)))
    except sa.exc.SQLAlchemyError:
        return {"database": False, "engine": hub.durable.running}
    return {"database": True, "engine": hub.durable.running and not hub.stopping}


def prometheus_text(hub: Hub) -> str:
    """All figures in the text format, version 0.0.4."""
    with hub.store.reading() as connection:
        lines = [
            *_metric("hub_runs_count", "Runs by flow and state.", _runs(connection)),
            *_metric("hub_rows_total", "Rows by flow and outcome.", _rows(connection), "counter"),
            *_metric(
                "hub_flow_age_seconds",
                "Seconds since the last complete run of a flow began.",
                _ages(connection, hub.now_ms()),
            ),
            *_metric(
                "hub_deliveries_count",
                "Writes that wait (waiting) or may be on the wire.",
                _deliveries(connection),
            ),
            *_metric("hub_dead_letters_count", "Open dead letters.", _dead_letters(connection)),
            *_metric("hub_records_count", "Live records by entity.", _records(connection)),
        ]
    return "\n".join(lines) + "\n"


def _runs(connection: Connection) -> list[tuple[Labels, int]]:
    statement = sa.select(run.c.flow_id, run.c.state, sa.func.count()).group_by(
        run.c.flow_id, run.c.state
    )
    return _labelled(connection, statement, ("flow", "state"))


def _rows(connection: Connection) -> list[tuple[Labels, int]]:
    sums = [sa.func.sum(run.c[name]) for name in _OUTCOMES]
    found = connection.execute(sa.select(run.c.flow_id, *sums).group_by(run.c.flow_id))
    return [
        ({"flow": row[0], "outcome": name.removeprefix("rows_")}, int(number or 0))
        for row in found
        for name, number in zip(_OUTCOMES, row[1:], strict=True)
    ]


def _ages(connection: Connection, now_ms: int) -> list[tuple[Labels, int]]:
    statement = (
        sa.select(run.c.flow_id, sa.func.max(run.c.started_at))
        .where(run.c.state == RunState.DONE.value)
        .group_by(run.c.flow_id)
    )
    ages = _labelled(connection, statement, ("flow",))
    return [(labels, max(0, (now_ms - began) // 1000)) for labels, began in ages]


def _deliveries(connection: Connection) -> list[tuple[Labels, int]]:
    waiting = sa.select(delivery.c.sink_ref, sa.literal("waiting"), sa.func.count()).group_by(
        delivery.c.sink_ref
    )
    on_the_wire = sa.select(intent.c.sink_ref, intent.c.state, sa.func.count()).group_by(
        intent.c.sink_ref, intent.c.state
    )
    labels = ("sink", "state")
    return [
        *_labelled(connection, waiting, labels),
        *_labelled(connection, on_the_wire, labels),
    ]


def _dead_letters(connection: Connection) -> list[tuple[Labels, int]]:
    statement = (
        sa.select(dead_letter.c.flow_id, dead_letter.c.kind, sa.func.count())
        .where(dead_letter.c.state == "open")
        .group_by(dead_letter.c.flow_id, dead_letter.c.kind)
    )
    return _labelled(connection, statement, ("flow", "kind"))


def _records(connection: Connection) -> list[tuple[Labels, int]]:
    statement = (
        sa.select(record.c.entity, sa.func.count())
        .where(record.c.deleted == 0)
        .group_by(record.c.entity)
    )
    return _labelled(connection, statement, ("entity",))


def _labelled(
    connection: Connection, statement: sa.Select[Any], names: Sequence[str]
) -> list[tuple[Labels, int]]:
    """Rows of label values with a number at the end."""
    return [
        (dict(zip(names, map(str, row[:-1]), strict=True)), int(row[-1]))
        for row in connection.execute(statement)
    ]


def _metric(
    name: str, help_text: str, samples: Iterable[tuple[Labels, int]], kind: str = "gauge"
) -> list[str]:
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
    for labels, number in samples:
        inner = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
        lines.append(f"{name}{{{inner}}} {number}")
    return lines


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
