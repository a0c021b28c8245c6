"""One page of entries: compare them with the ledger, and write what changed.

Everything here runs inside the page's transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sqlalchemy.engine import Connection

from hub.engine.decisions import STOPPED, Standing, standing_decisions
from hub.engine.entries import Entry
from hub.engine.flows import Flow
from hub.engine.letters import record_letter
from hub.sdk.records import Op
from hub.store.dead_letters import DeadLetter, put_dead_letters, resolve_dead_letters
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

_NOTHING = "{}"
_MAY_HAVE_LETTERS = STOPPED | {LinkState.PENDING}
_KEPT_BY_A_PERSON = 2**62
"""The mark of a record that no run has met: full reads do not take it for gone."""


class Origin(Protocol):
    """Where entries come from: a run, or something beside the runs, which leaves no mark."""

    @property
    def id(self) -> int: ...
    @property
    def seen_mark(self) -> int | None: ...


_FATES_OF_OLD = {"ok": ("mapped", "coalesced"), "deleted": ("skipped",)}


class Wish(NamedTuple):
    """What the target should be told of one record; `doc` is its JSON text."""

    source_key: str
    target_key: str
    doc: str
    revision: int
    op: Op


@dataclass(slots=True)
class PageWrite:
    """What writing a page did: counts to add to the run, and what others may wait for."""

    counts: Counter[str] = field(default_factory=Counter)
    has_deliveries: bool = False
    held: list[Entry] = field(default_factory=list)
    no_longer_held: list[str] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)


def write_page(
    connection: Connection,
    flow: Flow,
    origin: Origin,
    entries: Sequence[Entry],
    known: dict[str, Link],
    now_ms: int,
    kept: frozenset[str] = frozenset(),
    *,
    decided: dict[str, Standing] | None = None,
    echoes: frozenset[str] = frozenset(),
) -> PageWrite:
    """Compare with the ledger and write links, records or deliveries, and dead letters.

    Targets whose key is in `kept` stay, whatever becomes of the records here. What people decided
    about the rows stands, unless the caller says what is `decided`. `echoes` are source keys of
    rows that say what a two-way flow has written there itself.
    """
    newest = {entry.source_key: entry for entry in entries}
    page = _Page(flow, origin, known, kept)
    if decided is None:
        decided = standing_decisions(connection, flow, newest.values(), known)
    page.decided = decided
    page.echoes = echoes
    page.counts.update(_superseded(entries, newest))
    page.counts["repeated"] += len(entries) - len(newest)
    for entry in newest.values():
        page.sort(entry)
    return _write(connection, page, now_ms)


def write_removals(
    connection: Connection,
    flow: Flow,
    run: Run,
    gone: Sequence[Link],
    kept: frozenset[str],
    now_ms: int,
) -> PageWrite:
    """Tell the target of records that the source no longer has, but for those it must keep."""
    page = _Page(flow, run, {}, kept)
    for link in gone:
        page.counts["removed"] += 1
        page.remove(link)
    return _write(connection, page, now_ms)


def _write(connection: Connection, page: _Page, now_ms: int) -> PageWrite:
    flow = page.flow
    insert_links(connection, page.new_links)
    update_links(connection, page.changed_links)
    if page.seen and page.seen_mark is not None:
        mark_seen(connection, flow.id, page.seen, page.seen_mark)
    if page.recovered:
        resolve_dead_letters(connection, flow.id, page.recovered, now_ms)
    put_dead_letters(connection, page.letters, now_ms)
    result = PageWrite(page.counts, held=page.held, no_longer_held=page.no_longer_held)
    wishes = _without_overtaken(page.wishes)
    result.counts["coalesced"] += len(page.wishes) - len(wishes)
    if flow.target.entity is not None:
        result.arrived = [wish.source_key for wish in wishes if wish.op is Op.UPSERT]
    _send_on(connection, flow, page.run_id, wishes, result, now_ms)
    return result


class _Page:
    """Sorts the entries of a page by what must be written for them."""

    def __init__(
        self, flow: Flow, origin: Origin, links: dict[str, Link], kept: frozenset[str]
    ) -> None:
        self.flow = flow
        self.run_id = origin.id
        self.seen_mark = origin.seen_mark
        self.links = links
        self.decided: dict[str, Standing] = {}
        self.echoes: frozenset[str] = frozenset()
        self.held: list[Entry] = []
        self.no_longer_held: list[str] = []
        self.kept = kept
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
        if entry.source_key in self.decided:
            self._leave(entry, self.decided[entry.source_key])
            return
        if link is not None and link.state == LinkState.HELD:
            self.no_longer_held.append(entry.source_key)
        if entry.outcome == "ok":
            self._sort_mapped(entry, link)
        elif entry.outcome == "deleted":
            self._sort_deleted(entry, link)
        else:
            self._sort_stopped(entry, link)

    def _leave(self, entry: Entry, standing: Standing) -> None:
        """The row is as it was when a person decided about it."""
        discarded = standing is Standing.DISCARDED
        self.counts.update(("skipped",) if discarded else ("mapped", "unchanged"))
        self.seen.append(entry.source_key)

    def _sort_mapped(self, entry: Entry, link: Link | None) -> None:
        self.counts["mapped"] += 1
        if link is not None and link.content_hash == entry.digest:
            self.counts["unchanged"] += 1
            self.seen.append(entry.source_key)
            return
        if link is not None and entry.source_key in self.echoes:
            self.counts["unchanged"] += 1
            self._keep(entry, link, link.revision, LinkState(link.state))
            return
        revision = 1 if link is None else link.revision + 1
        state = LinkState.PENDING if self._to_sink else LinkState.SYNCED
        self._keep(entry, link, revision, state)
        if entry.target_key and entry.doc is not None:
            wish = Wish(entry.source_key, entry.target_key, entry.doc, revision, Op.UPSERT)
            self.wishes.append(wish)
        if link is not None and link.state in _MAY_HAVE_LETTERS:
            self.recovered.append(entry.source_key)

    def _sort_deleted(self, entry: Entry, link: Link | None) -> None:
        """The source says that the record is gone."""
        if link is not None:
            self.seen.append(entry.source_key)
        if link is None or link.revision == 0 or self.flow.target.delete == "ignore":
            self.counts["skipped"] += 1
            if link is not None and link.state in STOPPED:
                self._keep(entry, link, link.revision, LinkState.SKIPPED)
                self.recovered.append(link.source_key)
            return
        self.counts["mapped"] += 1
        if link.state == LinkState.TOMBSTONED:
            self.counts["unchanged"] += 1
            return
        self.remove(link)

    def remove(self, link: Link) -> None:
        """Tell the target that the record is gone; if it comes back, its link lives on."""
        policy = self.flow.target.delete
        told = policy != "unlink" and link.target_key not in self.kept
        revision = link.revision + 1 if told else link.revision
        self.changed_links.append(
            {
                "flow_id": self.flow.id,
                "source_key": link.source_key,
                "target_key": link.target_key,
                "target_id": None,
                "source_hash": None,
                "content_hash": None,
                "revision": revision,
                "state": LinkState.TOMBSTONED.value,
                "seen_run": link.seen_run,
            }
        )
        if told:
            op = Op.DELETE if policy == "delete" else Op.DEACTIVATE
            key = link.target_key or ""
            self.wishes.append(Wish(link.source_key, key, _NOTHING, revision, op))
        else:
            self.counts["unchanged"] += 1
        if link.state in _MAY_HAVE_LETTERS:
            self.recovered.append(link.source_key)

    def _sort_stopped(self, entry: Entry, link: Link | None) -> None:
        self.counts[entry.outcome] += 1
        revision = 0 if link is None else link.revision
        self._keep(entry, link, revision, LinkState(entry.outcome))
        if entry.outcome == "held":
            self.held.append(entry)
        if entry.outcome != "skipped":
            self.letters.append(record_letter(self.flow, self.run_id, entry, revision))
        elif link is not None and link.state in _MAY_HAVE_LETTERS:
            self.recovered.append(entry.source_key)

    def _keep(self, entry: Entry, link: Link | None, revision: int, state: LinkState) -> None:
        flow_id, key, target = self.flow.id, entry.source_key, entry.target_key
        # A record of the hub's own store is there at once, under its key.
        there = state is LinkState.SYNCED and not self._to_sink
        target_id = target if there else None
        if link is None:
            mark = _KEPT_BY_A_PERSON if self.seen_mark is None else self.seen_mark
            ends = (revision, revision if there else 0, state.value, mark)
            self.new_links.append(
                NewLink(flow_id, key, target, target_id, entry.source_hash, entry.digest, *ends)
            )
            return
        self.changed_links.append(
            {
                "flow_id": flow_id,
                "source_key": key,
                "target_key": target or link.target_key,
                "target_id": target_id,
                "source_hash": entry.source_hash,
                "content_hash": entry.digest,
                "revision": revision,
                "state": state.value,
                "seen_run": link.seen_run if self.seen_mark is None else self.seen_mark,
            }
        )


def _superseded(entries: Sequence[Entry], newest: dict[str, Entry]) -> Counter[str]:
    """Counts of rows that a later row of the same key and page replaces."""
    counts: Counter[str] = Counter()
    for entry in entries:
        if newest[entry.source_key] is not entry:
            counts.update(_FATES_OF_OLD.get(entry.outcome, (entry.outcome,)))
    return counts


def _without_overtaken(wishes: Sequence[Wish]) -> list[Wish]:
    """The wishes without removals of what another record of the same page writes."""
    written = {wish.target_key for wish in wishes if wish.op is Op.UPSERT}
    return [wish for wish in wishes if wish.op is Op.UPSERT or wish.target_key not in written]


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
        result.counts.update(_write_records(connection, flow.target.entity, wishes, now_ms))
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
) -> dict[str, int]:
    newest = {wish.target_key: wish for wish in wishes}
    changes = [
        Change(key, wish.doc, wish.revision)
        if wish.op is Op.UPSERT
        else Change(key, None, wish.revision, deleted=1)
        for key, wish in newest.items()
    ]
    put_records(connection, entity, changes, now_ms)
    return {"written": len(changes), "coalesced": len(wishes) - len(changes)}
