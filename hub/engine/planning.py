"""Planning runs: a new one, one that is still on its way, or one that an outage interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from hub.engine.flows import Flow
from hub.store import ledger
from hub.store.runs import (
    NOT_READ,
    Run,
    RunState,
    completed_version,
    create_run,
    last_run,
    load_run,
    lock_flow,
    move_run,
    unfinished_run,
    watermark,
)

if TYPE_CHECKING:
    from hub.engine.hub import Hub


def start_run(hub: Hub, flow_id: str, *, full: bool = False) -> Run:
    """Queue a run of the flow; a run that is still on its way, or that only paused, goes on."""
    flow = hub.catalogue.flow(flow_id)
    with hub.store.transaction() as connection:
        lock_flow(connection, flow.id)
        waiting = unfinished_run(connection, flow.id)
        return waiting or plan_run(hub, connection, flow, full=full)


def plan_run(hub: Hub, connection: Connection, flow: Flow, *, full: bool) -> Run:
    """A planned start, inside the caller's transaction.

    Unlike where somebody asks for a run, one that only waits for its target does not count: it
    must not keep the schedule from reading.
    """
    lock_flow(connection, flow.id)
    run = unfinished_run(connection, flow.id, NOT_READ)
    if run is not None:
        return run
    run = None if full else last_run(connection, flow.id)
    if run is not None and run.state == RunState.FAILED and run.resumable:
        return _resume(hub, connection, run)
    since = None if full else _since(hub, connection, flow)
    kind = "full" if since is None else "incremental"
    _notice_new_target(connection, flow)
    run_id = create_run(connection, flow.id, kind, since, flow.version, hub.now_ms())
    queue_run(hub, connection, flow.id, run_id, attempt=0)
    return _reload(connection, run_id)


def queue_run(hub: Hub, connection: Connection, flow_id: str, run_id: int, attempt: int) -> None:
    """Queue the job of a run in the caller's transaction."""
    hub.durable.enqueue(
        connection,
        "run_flow",
        f"run:{run_id}:{attempt}",
        queue="flow",
        partition=flow_id,
        args=[run_id],
    )


def _notice_new_target(connection: Connection, flow: Flow) -> None:
    before = completed_version(connection, flow.id)
    if before is not None and before.partition(":")[2] != flow.version.partition(":")[2]:
        ledger.forget_targets(connection, flow.id)


def _since(hub: Hub, connection: Connection, flow: Flow) -> int | None:
    """From when on to read: the watermark, unless the stream or a new mapping asks for all."""
    stream = hub.connection(flow.source.connection).manifest.streams.get(flow.source.stream)
    if stream is None or stream.incremental is None:
        return None
    return watermark(connection, flow.id, flow.version)


def _resume(hub: Hub, connection: Connection, run: Run) -> Run:
    back: dict[str, Any] = {
        "state": (RunState.READING if run.started_at else RunState.QUEUED).value,
        "attempt": run.attempt + 1,
        "error_code": None,
        "error_text": None,
        "finished_at": None,
        "resumable": 0,
    }
    if run.cursor is not None and "group" in run.cursor:
        back["state"] = RunState.GROUPING.value
    move_run(connection, run, **back)
    queue_run(hub, connection, run.flow_id, run.id, run.attempt + 1)
    return _reload(connection, run.id)


def _reload(connection: Connection, run_id: int) -> Run:
    run = load_run(connection, run_id)
    assert run is not None  # noqa: S101 (written in this transaction)
    return run
