"""Planning runs: a new one, one that is still on its way, or one that an outage interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from hub.engine.flows import Flow
from hub.sdk.errors import ConfigError
from hub.store import inbox, ledger
from hub.store.agreements import forget_agreements
from hub.store.runs import (
    EVENTS,
    NOT_READ,
    Run,
    RunState,
    completed_version,
    create_run,
    last_run,
    load_run,
    lock_flow,
    move_run,
    set_delete_guard,
    unfinished_run,
    watermark,
)

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_JOIN_MS = 600_000


def start_run(
    hub: Hub, flow_id: str, *, full: bool = False, allow_deletes: float | None = None
) -> Run:
    """Queue a run of the flow; a run that is still on its way, or that only paused, goes on.

    With `allow_deletes` it reads everything, and up to this per cent of the flow's records may
    turn out to be gone. Raises ConfigError when the run that is on its way reads only changes.
    """
    flow = hub.catalogue.flow(flow_id)
    with hub.store.transaction() as connection:
        lock_flow(connection, flow.id)
        run = unfinished_run(connection, flow.id)
        if run is None:
            full = full or allow_deletes is not None
            run = plan_run(hub, connection, flow, full=full)
        if allow_deletes is not None:
            if run.kind != "full" or run.state == RunState.DELIVERING:
                raise ConfigError("run.not_full", flow=flow.id, run=run.id)
            set_delete_guard(connection, run.id, allow_deletes)
        return run


def plan_run(hub: Hub, connection: Connection, flow: Flow, *, full: bool) -> Run:
    """A planned start, inside the caller's transaction.

    Unlike where somebody asks for a run, one that only waits for its target does not count: it
    must not keep the schedule from reading.
    """
    lock_flow(connection, flow.id)
    run = unfinished_run(connection, flow.id, NOT_READ)
    if run is not None:
        return run
    if flow.source.event is not None:
        return plan_events(hub, connection, flow, full=full)
    run = None if full else last_run(connection, flow.id)
    if run is not None and run.state == RunState.FAILED and run.resumable:
        return _resume(hub, connection, run)
    since = None if full else _since(hub, connection, flow)
    kind = "full" if since is None else "incremental"
    run = _new_run(hub, connection, flow, kind, since)
    queue_run(hub, connection, flow.id, run.id, attempt=0)
    return run


def plan_events(
    hub: Hub, connection: Connection, flow: Flow, *, full: bool = False, delay: float = 0.0
) -> Run:
    """A run over the events the flow has not read; `full` reads again all that are kept.

    In the caller's transaction, which holds the flow's lock. Events that trickle in join the run
    that ended just now: one run for each of them would bury all others.
    """
    source = flow.source.connection
    if full or inbox.position_of(connection, flow.id, source) is None:
        first = inbox.first_kept(connection, source)
        inbox.move_position(connection, flow.id, source, first - 1)
    last = None if full else last_run(connection, flow.id)
    if last is not None and last.kind == EVENTS:
        if last.state == RunState.FAILED and last.resumable:
            return _resume(hub, connection, last)
        if _joins(last, flow, hub.now_ms()):
            return _start_again(hub, connection, last, RunState.READING, delay)
    run = _new_run(hub, connection, flow, EVENTS, None)
    queue_run(hub, connection, flow.id, run.id, attempt=0, delay=delay)
    return run


def has_unread(connection: Connection, flow: Flow) -> bool:
    """Whether the inbox has events behind the flow's position."""
    newest = inbox.last_event_no(connection, flow.source.connection)
    return newest > (inbox.position_of(connection, flow.id, flow.source.connection) or 0)


def _joins(last: Run, flow: Flow, now_ms: int) -> bool:
    ended = last.state in (RunState.DONE, RunState.DELIVERING)
    return ended and last.flow_version == flow.version and now_ms - last.queued_at < _JOIN_MS


def _new_run(hub: Hub, connection: Connection, flow: Flow, kind: str, since: int | None) -> Run:
    """A run of the flow as it is now; the caller queues its job."""
    _notice_new_target(connection, flow)
    run_id = create_run(connection, flow.id, kind, since, flow.version, hub.now_ms())
    return _reload(connection, run_id)


def queue_run(
    hub: Hub, connection: Connection, flow_id: str, run_id: int, attempt: int, delay: float = 0.0
) -> None:
    """Queue the job of a run in the caller's transaction."""
    hub.durable.enqueue(
        connection,
        "run_flow",
        f"run:{run_id}:{attempt}",
        queue="flow",
        partition=flow_id,
        args=[run_id],
        delay=delay,
    )


def _notice_new_target(connection: Connection, flow: Flow) -> None:
    before = completed_version(connection, flow.id)
    if before is not None and before.partition(":")[2] != flow.version.partition(":")[2]:
        ledger.forget_targets(connection, flow.id)
        if flow.two_way is not None:
            forget_agreements(connection, [flow.id, flow.two_way.with_])


def _since(hub: Hub, connection: Connection, flow: Flow) -> int | None:
    """From when on to read: the watermark, unless the stream or a new mapping asks for all."""
    stream = hub.connection(flow.source.connection).manifest.streams.get(flow.source.stream_name)
    if stream is None or stream.incremental is None:
        return None
    return watermark(connection, flow.id, flow.version)


def _resume(hub: Hub, connection: Connection, run: Run) -> Run:
    """A run that an outage interrupted goes on at its cursor."""
    state = RunState.READING if run.started_at else RunState.QUEUED
    if run.cursor is not None and "group" in run.cursor:
        state = RunState.GROUPING
    return _start_again(hub, connection, run, state)


def _start_again(
    hub: Hub, connection: Connection, run: Run, state: RunState, delay: float = 0.0
) -> Run:
    """A run that had ended is in `state` again, with a job of its own."""
    back: dict[str, Any] = {
        "state": state.value,
        "attempt": run.attempt + 1,
        "error_code": None,
        "error_text": None,
        "finished_at": None,
        "resumable": 0,
    }
    move_run(connection, run, **back)
    queue_run(hub, connection, run.flow_id, run.id, run.attempt + 1, delay)
    return _reload(connection, run.id)


def _reload(connection: Connection, run_id: int) -> Run:
    run = load_run(connection, run_id)
    assert run is not None  # noqa: S101 (written in this transaction)
    return run
