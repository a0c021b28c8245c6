"""The job of a replay: dead letters go their way again, a chunk at a time.

A chunk is one transaction: effects, letters and the place up to which the replay has come. Killed
at any point, the job goes on behind the last committed chunk. It runs on the partition of the flow,
so never beside a run of it, and fences runs all the same (docs/decisions/0004-replays.md).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.engine.flows import Flow
from hub.engine.references import lock_targets
from hub.engine.replay_records import Cause, Letter, take_up_records
from hub.engine.replay_writes import Decided, decide_review, take_up_writes
from hub.engine.webhooks.wakes import wake_subscriptions
from hub.sdk.errors import HubError
from hub.store.crash import crash_point
from hub.store.dead_letters import SOURCE_KINDS, DeadLetterKind, LetterState, reopen_letter
from hub.store.letter_queries import LetterFilter, lock_letters, oldest_letters
from hub.store.replays import (
    Replay,
    ReplayState,
    advance_replay,
    end_replay,
    load_replay,
    unfinished_replays,
)
from hub.store.rows import encode_exact
from hub.store.runs import fence_readers, lock_flow

if TYPE_CHECKING:
    from hub.engine.hub import Hub

CHUNK = 500
_TURN_SECONDS = 3.0
"""How long a replay keeps its flow's turn before it lets a run go first."""

log = logging.getLogger("hub.engine.replay")


def replay_letters(hub: Hub, replay_id: str, turn: int) -> None:
    """The job: work on chunks until done, cancelled, or somebody else's turn."""
    until = time.monotonic() + _TURN_SECONDS
    try:
        while not hub.stopping:
            replay = _load(hub, replay_id)
            if replay is None or replay.finished:
                return
            if not _work_on(hub, hub.catalogue.flow(replay.flow_id), replay_id):
                return
            if replay.per_second is not None:
                pause = _chunk_size(replay) / replay.per_second
                _queue_next(hub, replay, turn + 1, pause)
                return
            if time.monotonic() > until:
                _queue_next(hub, replay, turn + 1, 0.0)
                return
    except sa.exc.OperationalError as error:
        log.warning("replay %s: stopped by the store: %s", replay_id, type(error.orig).__name__)
    except HubError as error:
        _give_up(hub, replay_id, error)
    except Exception as error:
        if hub.stopping:
            return
        log.exception("replay %s failed", replay_id)
        _give_up(hub, replay_id, HubError("run.internal", run=replay_id, kind=type(error).__name__))


def queue_replay(
    hub: Hub, connection: Connection, flow_id: str, replay_id: str, turn: int, delay: float = 0.0
) -> None:
    """Queue the job of a replay in the caller's transaction."""
    hub.durable.enqueue(
        connection,
        "replay_letters",
        f"replay:{replay_id}:{turn}",
        queue="flow",
        partition=flow_id,
        args=[replay_id, turn],
        delay=delay,
    )


def sweep_replays(hub: Hub) -> None:
    """Queue a job for every replay that is on its way and has none."""
    with hub.store.reading() as connection:
        running = unfinished_replays(connection)
    for one in running:
        if not hub.durable.alive(f"replay:{one.id}:"):
            with hub.store.transaction() as connection:
                # A number no job of this replay has had.
                queue_replay(hub, connection, one.flow_id, one.id, hub.now_ms())


def lock_beside_runs(connection: Connection, flow: Flow) -> None:
    """What everybody takes who changes a flow's links beside its runs."""
    lock_targets(connection, flow, flow.mapping.link_entities)
    lock_flow(connection, flow.id)
    fence_readers(connection, flow.id)


def tell_listeners(hub: Hub, connection: Connection, flow: Flow) -> None:
    """Last in the transaction: whoever asked for changes of the flow's entity is told."""
    if flow.target.entity is not None:
        wake_subscriptions(hub, connection, flow.target.entity)


def _work_on(hub: Hub, flow: Flow, replay_id: str) -> bool:
    """One chunk; whether there may be more."""
    with hub.store.transaction() as connection:
        lock_beside_runs(connection, flow)
        replay = load_replay(connection, replay_id, lock=True)
        if replay is None or replay.finished:
            return False
        if replay.letter_id is not None:
            _take_up_one(hub, connection, flow, replay)
            more = False
        else:
            more = _take_up_chunk(hub, connection, flow, replay)
        if not more:
            end_replay(connection, replay_id, ReplayState.DONE, hub.now_ms())
        tell_listeners(hub, connection, flow)
        crash_point("replay.before_commit")
    crash_point("replay.after_commit")
    return more


def _take_up_chunk(hub: Hub, connection: Connection, flow: Flow, replay: Replay) -> bool:
    size = _chunk_size(replay)
    wanted = LetterFilter(**replay.asked)
    letters = oldest_letters(connection, wanted, replay.after, size)
    taken = [one for one in letters.rows if one["kind"] != DeadLetterKind.REVIEW]
    _take_up(hub, connection, flow, taken, _cause(replay))
    passed = len(letters.places) - len(taken)
    last = letters.places[-1] if letters.places else None
    advance_replay(connection, replay, last, len(taken), passed)
    return len(letters.places) == size


def _take_up_one(hub: Hub, connection: Connection, flow: Flow, replay: Replay) -> None:
    """The letter somebody asked for by name, unless a run has judged it anew meanwhile."""
    asked: Any = replay.asked
    rows = lock_letters(connection, [str(replay.letter_id)], (LetterState.REPLAYING,))
    letters = [one for one in rows if one["replay_id"] == replay.id]
    if letters and asked.get("decision") is not None:
        decided = Decided(asked["decision"] == "landed", asked.get("target_id"))
        decide_review(hub, connection, flow, letters[0], decided, _cause(replay))
    elif letters:
        edits = {}
        if asked.get("edited") is not None:
            edits[letters[0]["id"]] = encode_exact(asked["edited"]).decode()
        _take_up(hub, connection, flow, letters, _cause(replay), edits)
    advance_replay(connection, replay, None, len(letters), 1 - len(letters))


def _take_up(
    hub: Hub,
    connection: Connection,
    flow: Flow,
    letters: list[Letter],
    cause: Cause,
    edits: dict[str, str] | None = None,
) -> None:
    rows = [one for one in letters if one["kind"] in SOURCE_KINDS and one["payload_text"]]
    writes = [one for one in letters if one["kind"] == DeadLetterKind.DELIVERY]
    if rows:
        take_up_records(hub, connection, flow, rows, cause, edits)
    if writes:
        take_up_writes(hub, connection, flow, writes, cause, edits)


def _cause(replay: Replay) -> Cause:
    return Cause(by=replay.requested_by, replay_id=replay.id)


def _chunk_size(replay: Replay) -> int:
    return CHUNK if replay.per_second is None else max(1, min(CHUNK, int(replay.per_second)))


def _load(hub: Hub, replay_id: str) -> Replay | None:
    with hub.store.reading() as connection:
        return load_replay(connection, replay_id)


def _queue_next(hub: Hub, replay: Replay, turn: int, delay: float) -> None:
    with hub.store.transaction() as connection:
        queue_replay(hub, connection, replay.flow_id, replay.id, turn, delay)


def _give_up(hub: Hub, replay_id: str, error: HubError) -> None:
    """End the replay with its reason; a letter that was asked for by name is open again."""
    log.warning("replay %s failed: %s", replay_id, error)
    with hub.store.transaction() as connection:
        replay = load_replay(connection, replay_id, lock=True)
        if replay is not None and not replay.finished:
            reopen_asked(connection, replay, hub.now_ms())
            end_replay(connection, replay_id, ReplayState.FAILED, hub.now_ms(), str(error))


def reopen_asked(connection: Connection, replay: Replay, now_ms: int) -> None:
    """The letter of a replay that will not be worked on any more is open as before."""
    if replay.letter_id is not None:
        reopen_letter(connection, replay.letter_id, replay.id, now_ms)
