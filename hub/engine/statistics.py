"""Figures about the hub for monitoring, as Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.engine.inbox import inboxes
from hub.engine.jobs import DELAYED, RUNNING, WAITING
from hub.engine.telemetry_status import telemetry_metrics
from hub.engine.watchdog import Look, backlog, look, troubles
from hub.store.breakers import open_standings
from hub.store.executors import living
from hub.store.inbox_queries import received_at
from hub.store.messages import unsent
from hub.store.runs import RunState
from hub.store.subscriptions import list_subscriptions
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
            others = living(connection, hub.durable.grace)
    except sa.exc.SQLAlchemyError:
        return {"database": False, "engine": hub.durable.running}
    works = hub.durable.is_well if hub.durable.running else bool(others)
    return {"database": True, "engine": works and not hub.stopping}


def prometheus_text(hub: Hub) -> str:
    """All figures in the text format, version 0.0.4."""
    seen = look(hub)
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
            *_metric(
                "hub_breaker_open",
                "1 while a connection is left alone, else 0.",
                _breakers(connection, hub.deployment.connections),
            ),
            *_metric("hub_dead_letters_count", "Open dead letters.", _dead_letters(connection)),
            *_metric("hub_jobs_count", "Jobs by queue and state.", _jobs(seen)),
            *_metric("hub_job_oldest_seconds", "Age of the oldest job that waits.", _oldest(seen)),
            *_metric("hub_job_troubles_count", "Jobs that do not get on.", _troubles(seen)),
            *_metric("hub_workers_count", "Processes that run jobs.", _workers(seen)),
            *inbox_metrics(hub, connection),
            *webhook_metrics(connection, hub.now_ms()),
            *_metric("hub_records_count", "Live records by entity.", _records(connection)),
        ]
    for name, help_text, samples, kind in telemetry_metrics(hub):
        lines += _metric(name, help_text, samples, kind)
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


def _breakers(connection: Connection, names: Iterable[str]) -> list[tuple[Labels, int]]:
    left_alone = {one.connection_id for one in open_standings(connection)}
    return [({"connection": name}, int(name in left_alone)) for name in sorted(names)]


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


def _jobs(seen: Look) -> list[tuple[Labels, int]]:
    return [
        ({"queue": row.queue, "state": state}, number)
        for row in backlog(seen)
        for state, number in (
            (WAITING, row.waiting),
            (DELAYED, row.delayed),
            (RUNNING, row.running),
        )
    ]


def _oldest(seen: Look) -> list[tuple[Labels, int]]:
    return [({"queue": row.queue}, row.oldest_seconds) for row in backlog(seen)]


def _troubles(seen: Look) -> list[tuple[Labels, int]]:
    found = Counter(error.code for error in troubles(seen))
    return [({"trouble": code}, number) for code, number in sorted(found.items())]


def _workers(seen: Look) -> list[tuple[Labels, int]]:
    found = Counter("alive" if one.alive else "dead" for one in seen.executors)
    return [({"state": state}, found[state]) for state in ("alive", "dead")]


def inbox_metrics(hub: Hub, connection: Connection) -> list[str]:
    """What came in by webhook to this process, and what no flow has got to yet."""
    came: list[tuple[Labels, int]] = [
        ({"connection": name, "outcome": outcome}, number)
        for (name, outcome), number in sorted(hub.intake.counts.copy().items())
    ]
    waiting: list[tuple[Labels, int]] = []
    ages: list[tuple[Labels, int]] = []
    for name, place in sorted(inboxes(hub, connection).items()):
        first = received_at(connection, name, place.read)
        waiting.append(({"connection": name}, place.newest - place.read))
        age = 0 if first is None else max(0, (hub.now_ms() - first) // 1000)
        ages.append(({"connection": name}, age))
    return [
        *_metric("hub_inbox_events_total", "Events received, by outcome.", came, "counter"),
        *_metric("hub_inbox_waiting_count", "Events that some flow has not read.", waiting),
        *_metric("hub_inbox_oldest_waiting_seconds", "Age of the oldest of them.", ages),
    ]


def webhook_metrics(connection: Connection, now_ms: int) -> list[str]:
    """How subscribers are told, and for how long somebody has not been."""
    found = list_subscriptions(connection)
    states = Counter(one.state for one in found)
    left = {one.id: unsent(connection, one.id) for one in found}
    tries: list[tuple[Labels, int]] = []
    for one in found:
        tries.append(({"subscription": one.id, "outcome": "sent"}, one.sent))
        tries.append(({"subscription": one.id, "outcome": "failed"}, one.failed))
    waiting = [({"subscription": name}, number) for name, (number, _) in left.items()]
    ages = [
        ({"subscription": name}, 0 if oldest is None else max(0, (now_ms - oldest) // 1000))
        for name, (_, oldest) in left.items()
    ]
    by_state = [({"state": state}, number) for state, number in sorted(states.items())]
    return [
        *_metric("hub_subscriptions_count", "Subscriptions by state.", by_state),
        *_metric("hub_webhook_tries_total", "Tries to send a webhook.", tries, "counter"),
        *_metric("hub_webhook_unsent_count", "Webhooks not taken yet.", waiting),
        *_metric("hub_webhook_oldest_unsent_seconds", "Age of the oldest webhook not taken.", ages),
    ]


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
