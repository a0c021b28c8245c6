"""A record's way from source to target, top to bottom.

    start_run   queue the run (planning.py)                          one transaction
    run_flow    the job: read → (stage → fold) → hand over to delivery
    apply_page  map → compare with the ledger → links + records or deliveries + cursor: one
                transaction per page, guarded so that only one worker can commit it

Killed at any point, the job starts again from the cursor of the last committed page.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.engine.abilities import require_abilities
from hub.engine.entries import Entry, map_rows, split_keyless
from hub.engine.event_pages import EventReader
from hub.engine.event_runs import read_on
from hub.engine.flows import Flow
from hub.engine.pages import write_page
from hub.engine.planning import queue_run
from hub.engine.reconcile import (
    COUNTS_DIFFER,
    check_counts,
    check_folded,
    check_read,
    check_staged,
)
from hub.engine.references import held_items, keep_waits, lock_targets, resolve
from hub.engine.removals import remove_missing, said_gone, targets_in_use
from hub.engine.renewal import source_renewed
from hub.engine.two_way.echoes import meet_partner
from hub.engine.two_way.pairs import direction_in
from hub.engine.wakes import wake_sink
from hub.engine.webhooks.wakes import wake_subscriptions
from hub.mapping import fields_seen
from hub.sdk.errors import AuthError, ContractBroken, HubError, LostRace, TransientError
from hub.sdk.records import Page, Row
from hub.sdk.session import no_key
from hub.store import ledger, staging
from hub.store.crash import crash_point
from hub.store.dead_letters import resolve_keyless
from hub.store.rows import from_ms, plain_text
from hub.store.runs import (
    EVENTS,
    MOST_PASSES,
    Run,
    RunState,
    as_text,
    finish_delivered,
    first_mark,
    in_doubt,
    known_fields,
    load_run,
    lock_flow,
    move_run,
    set_flow_state,
)

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_GROUPS_PER_PAGE = 1000
_MAX_FINDINGS = 50

log = logging.getLogger("hub.engine.sync")


def run_flow(hub: Hub, run_id: int) -> None:
    """The job of a run. Errors end the run with their reason; the cursor stays where it was."""
    with hub.store.reading() as connection:
        run = load_run(connection, run_id)
    if run is None or run.finished or run.state == RunState.DELIVERING:
        return
    try:
        flow = hub.catalogue.flow(run.flow_id)
        run = _take(hub, run)
        if flow.target.connection is not None and flow.target.sink is not None:
            require_abilities(flow, hub.session(flow.target.connection).sink(flow.target.sink).sink)
            direction_in(hub, flow)
        while run.state == RunState.READING:
            run = _read(hub, flow, run)
        if run.state == RunState.GROUPING:
            _fold(hub, flow, run)
    except LostRace:
        log.info("run %d: another worker went on with it", run_id)
    except HubError as error:
        wait = _worth_waiting(hub, run, error)
        if wait is None:
            _fail(hub, run, error)
        else:
            _come_back(hub, run, wait)
    except (sa.exc.OperationalError, sa.exc.TimeoutError) as error:
        # The store is out of reach or gave way to another transaction: nothing is wrong with
        # the run. It stays at its cursor, and the sweeper queues it again.
        log.warning("run %d: stopped by the store: %s", run_id, type(error).__name__)
    except Exception as error:
        if not hub.stopping:  # closed sockets are no failure of the run
            log.exception("run %d failed", run_id)
        _fail(hub, run, HubError("run.internal", run=run_id, kind=type(error).__name__))


def apply_page(
    hub: Hub,
    flow: Flow,
    run: Run,
    rows: Sequence[tuple[str, Row]],
    step: Run,
    rejected: Sequence[Entry] = (),
    is_deleted: Callable[[Row], bool] | None = None,
    advance: Callable[[Connection], None] | None = None,
) -> Run:
    """Map `rows` and commit them together with `step`, the run as it stands behind this page.

    `advance` moves what else says how far the source was read, in the same transaction.
    """
    keys = {key for key, _ in rows}.union(entry.source_key for entry in rejected)
    pair = direction_in(hub, flow)
    with hub.store.reading() as connection:
        # Read before the transaction: only this run, guarded by `move_run`, changes them, and
        # those who fence it first (`fence_readers`).
        known = ledger.links_of(connection, flow.id, list(keys))
        references = resolve(hub, connection, flow, (row for _, row in rows))
    is_deleted = is_deleted if pair is None else pair.source.is_gone
    mapped = map_rows(flow, rows, known, references, is_deleted)
    entries = [*mapped, *rejected]
    crash_point("page.mapped")
    now = hub.now_ms()
    with hub.store.transaction() as connection:
        lock_targets(connection, flow, held_items(entries))
        if pair is not None:
            lock_flow(connection, flow.id)  # the other direction changes its links too
        known, echoes = meet_partner(connection, pair, entries, known)
        if advance is not None:
            advance(connection)
        kept = targets_in_use(hub, connection, flow, said_gone(entries, known))
        written = write_page(connection, flow, run, entries, known, now, kept, echoes=echoes)
        keep_waits(hub, connection, flow, written)
        counts = dict(written.counts)
        for name in ("rows_read", "grouped", "skipped"):
            counts[name] = counts.get(name, 0) + step.counts[name] - run.counts[name]
        step = _commit(hub, connection, flow, run, step, counts)
        if written.has_deliveries:
            wake_sink(hub, connection, flow.target.ref)
        changed = written.counts["written"] > 0 or step.state != run.state  # removals at the end
        if flow.target.entity is not None and changed:
            wake_subscriptions(hub, connection, flow.target.entity)
        crash_point("page.before_commit")
    crash_point("page.after_commit")
    return step


def _take(hub: Hub, run: Run) -> Run:
    """Mark the run as ours: a worker that had it before can commit nothing any more."""
    values: dict[str, Any] = {"attempt": run.attempt + 1}
    if run.state == RunState.QUEUED:
        values |= {"state": RunState.READING.value, "started_at": hub.now_ms()}
    with hub.store.transaction() as connection:
        move_run(connection, run, **values)
    return replace(run, **values)


def _read(hub: Hub, flow: Flow, run: Run) -> Run:
    """Read pages until the source has proven that there are no more."""
    if flow.source.event is not None:
        return _read_events(hub, flow, run)
    reader = hub.session(flow.source.connection).stream(flow.source.stream_name)
    pages: Iterator[Page] = reader.read(run.cursor, since=from_ms(run.since_at))
    keys = reader.key
    for page in pages:
        crash_point("page.read")
        last = page.cursor is None
        behind = RunState.DELIVERING if flow.mapping.group is None else RunState.GROUPING
        rows, rejected = split_keyless(page.rows, keys)
        if rejected and not rows and run.counts["rows_read"] == 0:
            raise no_key(f"{flow.source.connection}.{flow.source.stream_name}", keys)
        counts = {**run.counts, "rows_read": run.counts["rows_read"] + len(page.rows)}
        step = replace(
            _watch_fields(hub, flow, run, page.rows, last=last),
            state=behind if last else run.state,
            page_no=run.page_no + 1,
            cursor=page.cursor,
            source_total=run.source_total if page.total is None else page.total,
            pass_total=page.total if run.pass_total is None else run.pass_total,
            counts=counts,
        )
        if flow.mapping.group is None:
            run = apply_page(hub, flow, run, rows, step, rejected, reader.is_deleted)
        else:
            alive = [(key, row) for key, row in rows if not reader.is_deleted(row)]
            deleted = len(rows) - len(alive)
            run = _stage_page(hub, flow, run, alive, step, rejected, deleted)
    return run


def _read_events(hub: Hub, flow: Flow, run: Run) -> Run:
    """Read the inbox from the flow's position on, until a page is not full."""
    reader = EventReader(hub.store, hub.session(flow.source.connection).connection, flow)
    while run.state == RunState.READING:
        page = reader.next_page(reader.position())
        crash_point("page.read")
        counts = dict(run.counts)
        counts["rows_read"] += page.read
        counts["skipped"] += page.skipped
        step = replace(
            _watch_fields(hub, flow, run, [row for _, row in page.rows], last=False),
            state=run.state if page.full else RunState.DELIVERING,
            page_no=run.page_no + 1,
            counts=counts,
        )
        advance = partial(reader.advance, page)
        run = apply_page(hub, flow, run, page.rows, step, page.rejected, reader.is_deleted, advance)
    return run


def _stage_page(
    hub: Hub,
    flow: Flow,
    run: Run,
    rows: Sequence[tuple[str, Row]],
    step: Run,
    rejected: Sequence[Entry],
    deleted: int,
) -> Run:
    """Keep the rows of a grouping flow: a group is complete only when the read is."""
    assert flow.mapping.group is not None  # noqa: S101 (narrows the type)
    keyed = [(key, flow.mapping.group.key(row), row) for key, row in rows]
    with hub.store.transaction() as connection:
        new = staging.stage_rows(connection, run.id, keyed)
        check_staged(connection, run, {key for key, _ in rows})
        keyless = ledger.links_of(connection, flow.id, [one.source_key for one in rejected])
        written = write_page(connection, flow, run, rejected, keyless, hub.now_ms())
        counts = dict(written.counts)
        counts["rows_read"] = step.counts["rows_read"] - run.counts["rows_read"]
        counts["folded"] = len(rows)
        counts["skipped"] = deleted
        counts["repeated"] = counts.get("repeated", 0) + len(rows) - new
        return _commit(hub, connection, flow, run, step, counts)


def _fold(hub: Hub, flow: Flow, run: Run) -> Run:
    """Fold staged rows to one per group and send them the way of any other row."""
    assert flow.mapping.group is not None  # noqa: S101 (narrows the type)
    while run.state == RunState.GROUPING:
        cursor = run.cursor or {}
        after, taken = cursor.get("group"), cursor.get("rows", 0)
        with hub.store.reading() as connection:
            groups = staging.next_groups(connection, run.id, after, _GROUPS_PER_PAGE)
            taken += sum(map(len, groups.values()))
            if len(groups) < _GROUPS_PER_PAGE:
                check_folded(connection, run, taken)
        rows = [(key, flow.mapping.group.fold(members)) for key, members in groups.items()]
        last = len(groups) < _GROUPS_PER_PAGE
        step = replace(
            run,
            state=RunState.DELIVERING if last else run.state,
            page_no=run.page_no + 1,
            # The database's own order, which is not Python's, decides what comes next.
            cursor=None if last else {"group": next(reversed(groups)), "rows": taken},
            counts={**run.counts, "grouped": run.counts["grouped"] + len(groups)},
        )
        run = apply_page(hub, flow, run, rows, step)
    return run


def _commit(
    hub: Hub,
    connection: Connection,
    flow: Flow,
    run: Run,
    step: Run,
    counts: dict[str, int],
) -> Run:
    """Move the run to `step` in the page's transaction; on the last page prove the read first."""
    after = {name: run.counts[name] + counts.get(name, 0) for name in run.counts}
    step = replace(step, counts=after)
    check_counts(step)
    if run.state == RunState.READING and step.state != RunState.READING:
        step = _prove_complete(hub, connection, flow, step)
    move_run(
        connection,
        run,
        counts,
        state=step.state,
        page_no=step.page_no,
        cursor_text=as_text(step.cursor),
        pass_no=step.pass_no,
        pass_read=step.pass_read,
        pass_repeated=step.pass_repeated,
        pass_total=step.pass_total,
        source_total=step.source_total,
        fields_text=as_text(sorted(step.fields)),
        findings_text=as_text(step.findings),
    )
    if step.state == RunState.DELIVERING:
        _close_read(hub, connection, flow, step)
    return step


def _close_read(hub: Hub, connection: Connection, flow: Flow, run: Run) -> None:
    """The read is complete: the next one may start from where this one began."""
    staging.clear_stage(connection, run.id)
    state: dict[str, Any] = {
        "watermark_at": run.started_at,
        # As it was when the run began: pages read before an edit are read again by the next run.
        "flow_version": run.flow_version,
    }
    if run.kind == "full":
        resolve_keyless(connection, flow.id, run.id, hub.now_ms())
        remove_missing(hub, connection, flow, run)
        state["full_mark"] = first_mark(run.id)
    if in_doubt(connection, flow.id, run.started_at or 0):
        state = {}  # an earlier run failed meanwhile, and what it read is to be read again
    if run.kind == "full" and run.fields:
        state["fields_text"] = as_text(sorted(run.fields))
    if run.kind == EVENTS:
        known = known_fields(connection, flow.id) or frozenset()
        state["fields_text"] = as_text(sorted(known | run.fields))
    if state:
        set_flow_state(connection, flow.id, **state)
    check_read(connection, run.id)
    finish_delivered(connection, run.id, hub.now_ms())
    if run.kind == EVENTS:
        read_on(hub, connection, flow)


def _prove_complete(hub: Hub, connection: Connection, flow: Flow, run: Run) -> Run:
    """The run behind its last page, or at the start of another pass over a source that moved.

    Where pages are counted, a row that appears or vanishes while they are read shifts others from
    one page to the next: some come twice, some never. Rows that come twice leave fewer different
    ones than the total; a total that changed on the way makes even an equal number doubtful.
    """
    if run.source_total is None:
        return run
    off = run.distinct_in_pass < run.source_total
    off = off or run.distinct_in_pass > max(run.source_total, run.pass_total or 0)
    name = flow.source.stream_name
    counted = hub.session(flow.source.connection).stream(name).pages_are_counted
    if not off and not (counted and run.pass_total != run.source_total):
        return run
    if run.pass_no + 1 >= MOST_PASSES:
        raise ContractBroken(
            "run.count_mismatch",
            run=run.id,
            total=run.source_total,
            distinct=run.distinct_in_pass,
            passes=MOST_PASSES,
            stream=f"{flow.source.connection}.{name}",
        )
    staging.clear_stage(connection, run.id)
    return replace(
        run,
        state=RunState.READING,
        cursor=None,
        pass_no=run.pass_no + 1,
        pass_read=run.counts["rows_read"],
        pass_repeated=run.counts["repeated"],
        pass_total=None,
    )


def _watch_fields(hub: Hub, flow: Flow, run: Run, rows: Sequence[Row], *, last: bool) -> Run:
    """Note source fields that are new or gone; stop when the flow's contract says so.

    Gone is judged over a whole full read: U8, for one, leaves empty fields out of single rows.
    """
    fresh = fields_seen(rows) - run.fields
    if not fresh and not last:
        return run
    run = replace(run, fields=run.fields | fresh)
    with hub.store.reading() as connection:
        baseline = known_fields(connection, flow.id)
    if baseline is None:
        return run
    whole = last and run.kind == "full"
    wanted = {"new_source_field"} | ({"missing_source_field"} if whole else set())
    row = dict.fromkeys(run.fields)
    found = [one for one in flow.mapping.contract_findings([row], baseline) if one.kind in wanted]
    stopping = [one.field for one in found if one.action in {"hold", "fail"}]
    if stopping:
        raise ContractBroken("run.contract", run=run.id, fields=", ".join(stopping))
    findings = [*run.findings]
    findings += [
        one for one in ({"kind": f.kind, "field": f.field} for f in found) if one not in findings
    ]
    return replace(run, findings=findings[:_MAX_FINDINGS])


def _worth_waiting(hub: Hub, run: Run, error: HubError) -> float | None:
    """Seconds after which the job should come back; None when the run has failed.

    A connection that is left alone, or one whose system asked for a pause, says nothing about
    the run; neither do credentials that were renewed meanwhile.
    """
    if isinstance(error, AuthError):
        return 0.0 if source_renewed(hub, run) else None
    if not isinstance(error, TransientError) or error.retry_after is None:
        return None
    left_alone = error.code == "http.breaker_open" or error.retry_after > hub.gate.patience
    return error.retry_after if left_alone else None


def _come_back(hub: Hub, mine: Run, wait: float) -> None:
    """Hold no worker while the source is left alone: the job goes on at its cursor later."""
    try:
        with hub.store.transaction() as connection:
            run = load_run(connection, mine.id)
            if run is None or run.finished or run.attempt != mine.attempt:
                raise LostRace(run=mine.id)
            move_run(connection, run, attempt=run.attempt + 1)
            queue_run(hub, connection, run.flow_id, run.id, run.attempt + 1, max(wait, 0.1))
    except LostRace:
        log.info("run %d: another worker went on with it", mine.id)


def _fail(hub: Hub, mine: Run, error: HubError) -> None:
    """End the run with its reason. An outage can be resumed at the cursor, a broken read cannot."""
    if hub.stopping:
        log.info("run %d: stopped at its cursor, the next process goes on", mine.id)
        return
    resumable = isinstance(error, TransientError | AuthError)
    with hub.store.transaction() as connection:
        run = load_run(connection, mine.id)
        if run is None or run.finished or run.attempt != mine.attempt:
            log.info("run %d: another worker went on with it", mine.id)
            return
        log.warning("run %d failed: %s", run.id, error)
        if not resumable:
            staging.clear_stage(connection, run.id)
        if error.code == COUNTS_DIFFER:
            ledger.forget_undelivered(connection, run.flow_id)
        move_run(
            connection,
            run,
            state=RunState.FAILED.value,
            resumable=int(resumable),
            error_code=error.code,
            error_text=plain_text(str(error)),
            finished_at=hub.now_ms(),
        )
