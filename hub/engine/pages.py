"""One page of entries: compare them with the ledger, and write what changed.

Everything here runs inside the page's transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.engine import Connection

from hub.engine.entries import Entry
from hub.engine.flows import Flow
from hub.mapping import FieldProblem
from hub.sdk.errors import RecordRejected
from hub.sdk.records import Op, Row
from hub.store.dead_letters import (
    DeadLetter,
    DeadLetterKind,
    put_dead_letters,
    resolve_dead_letters,
)
from hub.store.deliveries import put_deliveries
from hub.store.ledger import (
    Link,
    LinkState,
    NewLink,
    insert_links,
    mark_seen,
    update_links,
)
from hub.store.records import Change, put_records
from hub.store.runs import Run, add_counts, finish_delivered

_STOPPED = {LinkState.HELD, LinkState.REJECTED}
_NOTHING = "{}"


class Wish(NamedTuple):
    """What the target should be told of one record; `doc` is its JSON text."""

    source_key: str
    target_key: str
    doc: str
    revision: int
    op: Op


@dataclass(slots=True)
class PageWrite:
    """What writing a page did: counts to add to the run, and unsent wishes it replaced."""

    counts: Counter[str] = field(default_factory=Counter)
    has_deliveries: bool = False


def write_page(
    connection: Connection,
    flow: Flow,
    run: Run,
    entries: Sequence[Entry],
    known: dict[str, Link],
    now_ms: int,
) -> PageWrite:
    """Compare with the ledger and write links, records or deliveries, and dead letters."""
    newest = {entry.source_key: entry for entry in entries}
    page = _Page(flow, run, known)
    page.counts.update(_superseded(entries, newest))
    page.counts["repeated"] += len(entries) - len(newest)
    for entry in newest.values():
        page.sort(entry)
    return _write(connection, page, now_ms)


def write_removals(
    connection: Connection, flow: Flow, run: Run, gone: Sequence[Link], now_ms: int
) -> PageWrite:
    """Tell the target of records that the source no longer has."""
    page = _Page(flow, run, {})
    for link in gone:
        page.counts["removed"] += 1
        page.remove(link)
    return _write(connection, page, now_ms)


def _write(connection: Connection, page: _Page, now_ms: int) -> PageWrite:
    flow = page.flow
    insert_links(connection, page.new_links)
    update_links(connection, page.changed_links)
    if page.seen:
        mark_seen(connection, flow.id, page.seen, page.seen_mark)
    if page.recovered:
        resolve_dead_letters(connection, flow.id, page.recovered, now_ms)
    put_dead_letters(connection, page.letters, now_ms)
    result = PageWrite(page.counts)
    _send_on(connection, flow, page.run_id, page.wishes, result, now_ms)
    return result


class _Page:
    """Sorts the entries of a page by what must be written for them."""

    def __init__(self, flow: Flow, run: Run, links: dict[str, Link]) -> None:
        self.flow = flow
        self.run_id = run.id
        self.seen_mark = run.seen_mark
        self.links = links
        self.counts: Counter[str] = Counter()
        self.new_links: list[NewLink] = []
        self.changed_links: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.recovered: list[str] = []
        self.letters: list[DeadLetter] = []
        self.wishes: list[Wish] = []
        self._to_sink = flow.target.sink is not None

    def sort(self, entry: Entry) -> None:
        link = self.links.get(entry.source_key)
        if link is not None and link.seen_run == self.seen_mark:
            self.counts["repeated"] += 1
        if entry.outcome == "ok":
            self._sort_mapped(entry, link)
        elif entry.outcome == "deleted":
            self._sort_deleted(entry, link)
        else:
            self._sort_stopped(entry, link)

    def _sort_mapped(self, entry: Entry, link: Link | None) -> None:
        self.counts["mapped"] += 1
        if link is not None and link.content_hash == entry.digest:
            self.counts["unchanged"] += 1
            self.seen.append(entry.source_key)
            return
        revision = 1 if link is None else link.revision + 1
        state = LinkState.PENDING if self._to_sink else LinkState.SYNCED
        self._keep(entry, link, revision, state)
        if entry.target_key and entry.doc is not None:
            wish = Wish(entry.source_key, entry.target_key, entry.doc, revision, Op.UPSERT)
            self.wishes.append(wish)
        if link is not None and link.state in _STOPPED:
            self.recovered.append(entry.source_key)

    def _sort_deleted(self, entry: Entry, link: Link | None) -> None:
        """The source says that the record is gone."""
        if link is not None:
            self.seen.append(entry.source_key)
        if link is None or link.revision == 0 or self.flow.target.delete == "ignore":
            self.counts["skipped"] += 1
            return
        self.counts["mapped"] += 1
        if link.state == LinkState.TOMBSTONED:
            self.counts["unchanged"] += 1
            return
        self.remove(link)

    def remove(self, link: Link) -> None:
        """Tell the target that the record is gone; if it comes back, its link lives on."""
        revision = link.revision + 1
        self.changed_links.append(
            {
                "flow_id": self.flow.id,
                "source_key": link.source_key,
                "target_key": link.target_key,
                "source_hash": None,
                "content_hash": None,
                "revision": revision,
                "state": LinkState.TOMBSTONED.value,
                "seen_run": link.seen_run,
            }
        )
        op = Op.DELETE if self.flow.target.delete == "delete" else Op.DEACTIVATE
        key = link.target_key or ""
        self.wishes.append(Wish(link.source_key, key, _NOTHING, revision, op))
        if link.state in _STOPPED:
            self.recovered.append(link.source_key)

    def _sort_stopped(self, entry: Entry, link: Link | None) -> None:
        self.counts[entry.outcome] += 1
        revision = 0 if link is None else link.revision
        self._keep(entry, link, revision, LinkState(entry.outcome))
        if entry.outcome != "skipped":
            self.letters.append(_letter(self.flow, self.run_id, entry))
        elif link is not None and link.state in _STOPPED:
            self.recovered.append(entry.source_key)

    def _keep(self, entry: Entry, link: Link | None, revision: int, state: LinkState) -> None:
        flow_id, key, target = self.flow.id, entry.source_key, entry.target_key
        if link is None:
            # A record of the hub's own store is there at once, under its key.
            target_id, pushed = (None, 0) if self._to_sink else (target, revision)
            ends = (revision, pushed, state.value, self.seen_mark)
            self.new_links.append(
                NewLink(flow_id, key, target, target_id, entry.source_hash, entry.digest, *ends)
            )
            return
        self.changed_links.append(
            {
                "flow_id": flow_id,
                "source_key": key,
                "target_key": target or link.target_key,
                "source_hash": entry.source_hash,
                "content_hash": entry.digest,
                "revision": revision,
                "state": state.value,
                "seen_run": self.seen_mark,
            }
        )


def _superseded(entries: Sequence[Entry], newest: dict[str, Entry]) -> Counter[str]:
    """Counts of rows that a later row of the same key and page replaces."""
    counts: Counter[str] = Counter()
    for entry in entries:
        if newest[entry.source_key] is not entry:
            names = ("mapped", "coalesced") if entry.outcome == "ok" else (entry.outcome,)
            counts.update(names)
    return counts


def _send_on(
    connection: Connection,
    flow: Flow,
    run_id: int,
    wishes: Sequence[Wish],
    result: PageWrite,
    now_ms: int,
) -> None:
    if not wishes:
        return
    if flow.target.entity is not None:
        _write_records(connection, flow.target.entity, wishes, now_ms)
        result.counts["written"] += len(wishes)
        return
    rows = [
        {
            "target_key": wish.target_key,
            "flow_id": flow.id,
            "source_key": wish.source_key,
            "run_id": run_id,
            "op": wish.op.value,
            "revision": wish.revision,
            "payload_text": wish.doc,
        }
        for wish in wishes
    ]
    replaced = put_deliveries(connection, flow.target.ref, rows, now_ms)
    result.counts["pending"] += len(rows)
    result.has_deliveries = True
    for replaced_run, number in replaced.items():
        add_counts(connection, replaced_run, {"pending": -number, "coalesced": number})
        finish_delivered(connection, replaced_run, now_ms)


def _write_records(
    connection: Connection, entity: str, wishes: Sequence[Wish], now_ms: int
) -> None:
    newest = {wish.target_key: wish for wish in wishes}
    changes = [
        Change(key, wish.doc, wish.revision)
        if wish.op is Op.UPSERT
        else Change(key, None, wish.revision, deleted=1)
        for key, wish in newest.items()
    ]
    put_records(connection, entity, changes, now_ms)


def _letter(flow: Flow, run_id: int, entry: Entry) -> DeadLetter:
    problems = [_problem(problem) for problem in entry.problems]
    if not problems:
        problems = [{"field": None, "value": None, "code": RecordRejected.code, "message": ""}]
    kind = DeadLetterKind.HELD if entry.outcome == "held" else DeadLetterKind.RECORD
    return DeadLetter(
        kind=kind,
        flow_id=flow.id,
        run_id=run_id,
        source_key=entry.source_key,
        target_key=entry.target_key,
        problems=problems,
        payload=_payload(entry.row),
        mapping_version=flow.mapping.version,
    )


def _problem(problem: FieldProblem) -> dict[str, Any]:
    return {
        "field": problem.field,
        "value": None if problem.value is None else str(problem.value)[:200],
        "code": problem.code,
        "message": problem.message("en"),
    }


def _payload(row: Row) -> str:
    # A row may carry text the database cannot store (lone surrogates, NUL); keep it readable.
    text = msgspec.json.encode(row).decode("utf-8", "replace")
    return text.replace("\\u0000", "")
