"""One page of rows: map them, compare them with the ledger, and write what changed.

`map_rows` is pure; `write_page` runs inside the page's transaction.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.engine import Connection

from hub.engine.flows import Flow
from hub.mapping import FieldProblem
from hub.sdk.body import key_parts
from hub.sdk.errors import RecordRejected
from hub.sdk.records import Op, Row, join_key
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
from hub.store.rows import plain_text
from hub.store.runs import Run, add_counts, finish_delivered

_encode = msgspec.json.Encoder(decimal_format="string").encode
_encode_sorted = msgspec.json.Encoder(decimal_format="string", order="sorted").encode
MAX_KEY = 512
"""Longest key the ledger takes, in characters."""

_STOPPED = {LinkState.HELD, LinkState.REJECTED}


class Entry(NamedTuple):
    """A row with its outcome: `doc` (JSON) and `digest` when it went through, else `problems`.

    `doc` is None as well when the ledger knows the row: then `digest` is the one it has.
    """

    source_key: str
    outcome: str
    target_key: str | None
    source_hash: bytes | None
    doc: str | None
    digest: bytes | None
    row: Row
    problems: tuple[FieldProblem, ...] = ()


@dataclass(slots=True)
class PageWrite:
    """What writing a page did: counts to add to the run, and unsent wishes it replaced."""

    counts: Counter[str] = field(default_factory=Counter)
    has_deliveries: bool = False


def map_rows(
    flow: Flow,
    rows: Iterable[tuple[str, Row]],
    known: dict[str, Link],
    references: dict[tuple[str, str], str],
) -> list[Entry]:
    """The rows, each with its source key, mapped and hashed.

    A row that is the same as last time under the same mapping is not mapped again, unless its
    fields point at other records: those may have changed. Another target makes every hash new.
    """
    mapping = flow.mapping
    apply, encode, encode_row, blake2b = mapping.apply, _encode_sorted, _encode, hashlib.blake2b
    version = flow.version.encode()
    target = hashlib.blake2b(flow.target.ref.encode(), digest_size=16).digest()
    recall = {} if mapping.has_links else known
    entries: list[Entry] = []
    for source_key, row in rows:
        seen = blake2b(encode_row(row), digest_size=16, key=version).digest()
        link = recall.get(source_key)
        if link is not None and link.source_hash == seen and link.content_hash is not None:
            key, digest = link.target_key, link.content_hash
            entries.append(Entry(source_key, "ok", key, seen, None, digest, row))
            continue
        mapped = apply(row, references)
        if mapped.outcome == "ok":
            text = encode(mapped.data)
            digest = blake2b(text, digest_size=16, key=target).digest()
            entries.append(Entry(source_key, "ok", mapped.key, seen, text.decode(), digest, row))
        else:
            problems = tuple(mapped.problems)
            entries.append(
                Entry(source_key, mapped.outcome, mapped.key, seen, None, None, row, problems)
            )
    return entries


def split_keyless(
    rows: Sequence[Row], key_fields: Sequence[str]
) -> tuple[list[tuple[str, Row]], list[Entry]]:
    """The rows with their source key, and a rejected entry for each row that has no usable key."""
    keyed: list[tuple[str, Row]] = []
    rejected: list[Entry] = []
    for row in rows:
        parts = key_parts(row, key_fields)
        if None in parts:
            missing = key_fields[parts.index(None)]
            rejected.append(_keyless(row, FieldProblem(missing, None, "record.key_missing", {})))
            continue
        key = join_key(parts)
        if len(key) <= MAX_KEY and plain_text(key) == key:
            keyed.append((key, row))
            continue
        code = "record.key_too_long" if len(key) > MAX_KEY else "record.key_unstorable"
        params: dict[str, object] = {"limit": MAX_KEY}
        rejected.append(_keyless(row, FieldProblem(key_fields[0], ascii(key), code, params)))
    return keyed, rejected


def write_page(
    connection: Connection,
    flow: Flow,
    run: Run,
    entries: Sequence[Entry],
    known: dict[str, Link],
    now_ms: int,
) -> PageWrite:
    """Compare with the ledger and write links, records or deliveries, and dead letters."""
    result = PageWrite()
    newest = {entry.source_key: entry for entry in entries}
    result.counts.update(_superseded(entries, newest))
    page = _Page(flow, run, known)
    for entry in newest.values():
        page.sort(entry)
    result.counts.update(page.counts)
    result.counts["repeated"] += len(entries) - len(newest)
    insert_links(connection, page.new_links)
    update_links(connection, page.changed_links)
    if page.seen:
        mark_seen(connection, flow.id, page.seen, run.seen_mark)
    if page.recovered:
        resolve_dead_letters(connection, flow.id, page.recovered, now_ms)
    put_dead_letters(connection, page.letters, now_ms)
    _send_on(connection, flow, run.id, page.changes, result, now_ms)
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
        self.changes: list[tuple[Entry, int]] = []
        self._to_sink = flow.target.sink is not None

    def sort(self, entry: Entry) -> None:
        link = self.links.get(entry.source_key)
        if link is not None and link.seen_run == self.seen_mark:
            self.counts["repeated"] += 1
        if entry.outcome == "ok":
            self._sort_mapped(entry, link)
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
        self.changes.append((entry, revision))
        if link is not None and link.state in _STOPPED:
            self.recovered.append(entry.source_key)

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
            pushed = 0 if self._to_sink else revision
            ends = (revision, pushed, state.value, self.seen_mark)
            self.new_links.append(
                NewLink(flow_id, key, target, None, entry.source_hash, entry.digest, *ends)
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


def _keyless(row: Row, problem: FieldProblem) -> Entry:
    # The content names it, so that reading it again does not open a second dead letter.
    digest = hashlib.blake2b(_encode_sorted(row), digest_size=16).hexdigest()
    return Entry(f"?{digest}", "rejected", None, None, None, None, row, (problem,))


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
    changes: Sequence[tuple[Entry, int]],
    result: PageWrite,
    now_ms: int,
) -> None:
    if not changes:
        return
    if flow.target.entity is not None:
        _write_records(connection, flow.target.entity, changes, now_ms)
        result.counts["written"] += len(changes)
        return
    rows = [
        {
            "target_key": entry.target_key,
            "flow_id": flow.id,
            "source_key": entry.source_key,
            "run_id": run_id,
            "op": Op.UPSERT.value,
            "revision": revision,
            "payload_text": entry.doc,
        }
        for entry, revision in changes
    ]
    replaced = put_deliveries(connection, flow.target.ref, rows, now_ms)
    result.counts["pending"] += len(rows)
    result.has_deliveries = True
    for replaced_run, number in replaced.items():
        add_counts(connection, replaced_run, {"pending": -number, "coalesced": number})
        finish_delivered(connection, replaced_run, now_ms)


def _write_records(
    connection: Connection, entity: str, changes: Sequence[tuple[Entry, int]], now_ms: int
) -> None:
    newest = {entry.target_key: (entry, revision) for entry, revision in changes}
    put_records(
        connection,
        entity,
        [
            Change(key, entry.doc or "", revision)
            for key, (entry, revision) in newest.items()
            if key
        ],
        now_ms,
    )


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
