"""Runs: their state, their page cursor and their counts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.sdk.errors import HubError, LostRace
from hub.store import ledger
from hub.store.deliveries import IntentState
from hub.store.rows import decode_json, encode_json
from hub.store.tables import delivery, flow_state, intent, run

log = logging.getLogger("hub.store.runs")


class RunState(StrEnum):
    """`done` and `failed` are final; the others are on their way."""

    QUEUED = "queued"
    READING = "reading"
    GROUPING = "grouping"
    DELIVERING = "delivering"
    DONE = "done"
    FAILED = "failed"


UNFINISHED = (RunState.QUEUED, RunState.READING, RunState.GROUPING, RunState.DELIVERING)

NOT_READ = UNFINISHED[:-1]
"""States of a run that has not read everything yet."""

EVENTS = "events"
"""The kind of a run that reads what a webhook received."""

MOST_PASSES = 3
"""How often a run reads a source that changes meanwhile, before it gives up loudly."""

COUNTS = (
    "rows_read",
    "repeated",
    "folded",
    "grouped",
    "mapped",
    "skipped",
    "held",
    "rejected",
    "unchanged",
    "written",
    "refused",
    "coalesced",
    "removed",
    "pending",
)


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a flow as stored. Times are milliseconds."""

    id: int
    flow_id: str
    kind: str
    flow_version: str
    state: str
    attempt: int
    page_no: int
    cursor: Mapping[str, Any] | None
    pass_no: int
    pass_read: int
    pass_repeated: int
    pass_total: int | None
    since_at: int | None
    source_total: int | None
    counts: Mapping[str, int]
    delete_guard: float | None
    fields: frozenset[str]
    findings: list[Any]
    resumable: bool
    error_code: str | None
    error_text: str | None
    queued_at: int
    started_at: int | None
    finished_at: int | None

    @property
    def finished(self) -> bool:
        return self.state not in UNFINISHED

    @property
    def seen_mark(self) -> int:
        """What links get that this pass of this run has met."""
        return first_mark(self.id) + self.pass_no

    @property
    def distinct_in_pass(self) -> int:
        """How many different rows the current pass has read."""
        read = self.counts["rows_read"] - self.pass_read
        return read - (self.counts["repeated"] - self.pass_repeated)


def first_mark(run_id: int) -> int:
    """The mark of a run's first pass: lower ones belong to earlier runs."""
    return run_id * MOST_PASSES


def create_run(
    connection: Connection,
    flow_id: str,
    kind: str,
    since_at: int | None,
    flow_version: str,
    now_ms: int,
) -> int:
    """A new queued run; its id is also its number in the ledger."""
    values = {"flow_id": flow_id, "kind": kind, "since_at": since_at, "queued_at": now_ms}
    values["flow_version"] = flow_version
    result = connection.execute(run.insert().values(state=RunState.QUEUED.value, **values))
    assert result.inserted_primary_key is not None  # noqa: S101 (narrows the type)
    return int(result.inserted_primary_key[0])


def load_run(connection: Connection, run_id: int) -> Run | None:
    """The run with this id."""
    row = connection.execute(sa.select(run).where(run.c.id == run_id)).first()
    return None if row is None else _run(row)


def unfinished_run(
    connection: Connection, flow_id: str, states: Sequence[RunState] = UNFINISHED
) -> Run | None:
    """The flow's newest run that is still on its way (or in one of `states`), if there is one."""
    statement = sa.select(run).where(run.c.flow_id == flow_id, run.c.state.in_(states))
    row = connection.execute(statement.order_by(run.c.id.desc()).limit(1)).first()
    return None if row is None else _run(row)


def unfinished_runs(connection: Connection) -> list[Run]:
    """Every run that is still on its way, oldest first."""
    statement = sa.select(run).where(run.c.state.in_(UNFINISHED)).order_by(run.c.id)
    return [_run(row) for row in connection.execute(statement)]


def delivering_runs(connection: Connection) -> list[int]:
    """Runs that have read everything and wait for their writes."""
    statement = sa.select(run.c.id).where(
        run.c.state == RunState.DELIVERING.value, run.c.pending > 0
    )
    return list(connection.execute(statement.order_by(run.c.id)).scalars())


def last_run(connection: Connection, flow_id: str) -> Run | None:
    """The newest run of the flow."""
    statement = sa.select(run).where(run.c.flow_id == flow_id).order_by(run.c.id.desc()).limit(1)
    row = connection.execute(statement).first()
    return None if row is None else _run(row)


def list_runs(connection: Connection, flow_id: str | None, limit: int) -> list[Run]:
    """The newest runs, newest first."""
    statement = sa.select(run).order_by(run.c.id.desc()).limit(limit)
    if flow_id is not None:
        statement = statement.where(run.c.flow_id == flow_id)
    return [_run(row) for row in connection.execute(statement)]


def move_run(
    connection: Connection, expected: Run, counts: Mapping[str, int] | None = None, **values: object
) -> None:
    """Change a run only if nobody changed its state or page since `expected` was loaded.

    `counts` are added to what stands there. Raises LostRace: a worker that was thought dead and
    one that took over can never both commit the same page.
    """
    added = {name: run.c[name] + number for name, number in (counts or {}).items() if number}
    statement = (
        run.update()
        .where(
            run.c.id == expected.id,
            run.c.state == expected.state,
            run.c.page_no == expected.page_no,
            run.c.attempt == expected.attempt,
        )
        .values({**values, **added})
    )
    if connection.execute(statement).rowcount != 1:
        raise LostRace(run=expected.id)


def add_counts(connection: Connection, run_id: int, counts: Mapping[str, int]) -> None:
    """Add to the counts of a run, whatever it is doing."""
    added = {name: run.c[name] + number for name, number in counts.items() if number}
    if added:
        connection.execute(run.update().where(run.c.id == run_id).values(added))


def finish_delivered(connection: Connection, run_id: int, now_ms: int) -> bool:
    """Close a run whose pages are all read and whose deliveries are all settled.

    A run whose counts do not add up fails, and the flow's next run reads again what it read.
    """
    settled = run.update().where(
        run.c.id == run_id, run.c.state == RunState.DELIVERING.value, run.c.pending <= 0
    )
    even = settled.where(run.c.pending == 0, run.c.mapped + run.c.removed == _OUTCOMES)
    done = connection.execute(even.values(state=RunState.DONE.value, finished_at=now_ms)).rowcount
    return bool(done) or _fail_unbalanced(connection, settled, run_id, now_ms)


def fail_stranded(connection: Connection, run_id: int, now_ms: int) -> bool:
    """End a run that waits for writes of which nothing is left, as one that does not add up.

    One statement looks and writes: a write may be settled at the same time.
    """
    stranded = run.update().where(
        run.c.id == run_id,
        run.c.state == RunState.DELIVERING.value,
        run.c.pending > 0,
        ~sa.exists().where(delivery.c.run_id == run_id),
        ~sa.exists().where(intent.c.run_id == run_id, intent.c.state != IntentState.REVIEW.value),
    )
    return _fail_unbalanced(connection, stranded, run_id, now_ms)


def _fail_unbalanced(
    connection: Connection, unbalanced: sa.Update, run_id: int, now_ms: int
) -> bool:
    odd = HubError(_UNBALANCED, run=run_id)
    failed = {"error_code": odd.code, "error_text": str(odd), "finished_at": now_ms}
    if not connection.execute(unbalanced.values(state=RunState.FAILED.value, **failed)).rowcount:
        return False
    log.error("run %d: the outcomes of its records do not add up", run_id)
    _read_again(connection, run_id)
    return True


def _read_again(connection: Connection, run_id: int) -> None:
    """The flow's next run starts where this one did, and what was not written counts as new."""
    flow_id, kind, since_at = connection.execute(
        sa.select(run.c.flow_id, run.c.kind, run.c.since_at).where(run.c.id == run_id)
    ).one()
    back: dict[str, object] = {"watermark_at": since_at, "full_mark": None}
    if kind == EVENTS:
        back["inbox_no"] = None  # from the first event that is kept
    set_flow_state(connection, flow_id, **back)
    ledger.forget_undelivered(connection, flow_id)


def in_doubt(connection: Connection, flow_id: str, since_ms: int) -> bool:
    """Whether a run of the flow that does not add up ended after `since_ms`."""
    statement = sa.select(run.c.id).where(
        run.c.flow_id == flow_id, run.c.error_code == _UNBALANCED, run.c.finished_at >= since_ms
    )
    return connection.execute(statement.limit(1)).first() is not None


def set_delete_guard(connection: Connection, run_id: int, percent: float) -> None:
    """Let this run remove up to `percent` of the flow's records."""
    connection.execute(run.update().where(run.c.id == run_id).values(delete_guard=percent))


def delete_guard_of(connection: Connection, run_id: int) -> float | None:
    """What this run may remove; None when the flow's own guard counts."""
    statement = sa.select(run.c.delete_guard).where(run.c.id == run_id)
    percent: float | None = connection.execute(statement).scalar_one_or_none()
    return percent


def lock_flow(connection: Connection, flow_id: str) -> None:
    """Make everybody else who plans a run of this flow wait for our commit."""
    set_flow_state(connection, flow_id, paused=flow_state.c.paused)


def is_paused(connection: Connection, flow_id: str) -> bool:
    """Whether nothing may start the flow by itself."""
    statement = sa.select(flow_state.c.paused).where(flow_state.c.flow_id == flow_id)
    return bool(connection.execute(statement).scalar_one_or_none())


def paused_flows(connection: Connection) -> set[str]:
    """Flows that their schedule leaves alone."""
    statement = sa.select(flow_state.c.flow_id).where(flow_state.c.paused != 0)
    return set(connection.execute(statement).scalars())


def fence_readers(connection: Connection, flow_id: str) -> None:
    """Whoever still reads for a run of this flow can commit no page any more.

    For those who change a flow's links beside its runs, with the flow's lock in hand: a page
    compares itself with links read before its transaction. The run itself is not harmed, its next
    job loads it as it stands.
    """
    reading = run.c.state.in_((RunState.READING, RunState.GROUPING))
    fenced = run.update().where(run.c.flow_id == flow_id, reading)
    connection.execute(fenced.values(attempt=run.c.attempt + 1))


def as_text(fact: Mapping[str, Any] | list[Any] | None) -> str | None:
    """A page cursor or a list of findings as the store keeps it."""
    return encode_json(fact).decode() if fact else None


def watermark(connection: Connection, flow_id: str, flow_version: str) -> int | None:
    """When the last complete read began; None before the first one of the flow as it is now."""
    statement = sa.select(flow_state.c.watermark_at).where(
        flow_state.c.flow_id == flow_id, flow_state.c.flow_version == flow_version
    )
    return connection.execute(statement).scalar_one_or_none()


def completed_version(connection: Connection, flow_id: str) -> str | None:
    """The version of the flow at its last complete read; None before the first."""
    statement = sa.select(flow_state.c.flow_version).where(flow_state.c.flow_id == flow_id)
    return connection.execute(statement).scalar_one_or_none()


def known_fields(connection: Connection, flow_id: str) -> frozenset[str] | None:
    """The source fields the last complete full read had; None before the first."""
    statement = sa.select(flow_state.c.fields_text).where(flow_state.c.flow_id == flow_id)
    text = connection.execute(statement).scalar_one_or_none()
    return None if text is None else frozenset(decode_json(text))


def set_flow_state(connection: Connection, flow_id: str, **values: object) -> None:
    """Remember facts of a flow (`watermark_at`, `planned_at`, `flow_version`, `paused`)."""
    statement = flow_state.update().where(flow_state.c.flow_id == flow_id).values(**values)
    if connection.execute(statement).rowcount == 0:
        plain = {name: v for name, v in values.items() if not isinstance(v, sa.ClauseElement)}
        try:
            with connection.begin_nested():
                connection.execute(
                    flow_state.insert().values({"flow_id": flow_id, "paused": 0} | plain)
                )
        except sa.exc.IntegrityError:
            connection.execute(statement)


_UNBALANCED = "run.unbalanced"
_OUTCOMES = run.c.unchanged + run.c.written + run.c.refused + run.c.coalesced


def _run(row: Any) -> Run:
    return Run(
        id=row.id,
        flow_id=row.flow_id,
        kind=row.kind,
        flow_version=row.flow_version,
        state=row.state,
        attempt=row.attempt,
        page_no=row.page_no,
        cursor=decode_json(row.cursor_text) if row.cursor_text else None,
        pass_no=row.pass_no,
        pass_read=row.pass_read,
        pass_repeated=row.pass_repeated,
        pass_total=row.pass_total,
        since_at=row.since_at,
        source_total=row.source_total,
        counts={name: getattr(row, name) for name in COUNTS},
        delete_guard=row.delete_guard,
        fields=frozenset(decode_json(row.fields_text) if row.fields_text else ()),
        findings=decode_json(row.findings_text) if row.findings_text else [],
        resumable=bool(row.resumable),
        error_code=row.error_code,
        error_text=row.error_text,
        queued_at=row.queued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
