"""Putting both sides on the shelf: what the source says, what the target has, what we noted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from hub.engine.entries import split_keyless
from hub.engine.flows import Flow
from hub.engine.references import resolve
from hub.engine.sameness import form, forms
from hub.engine.verify.shelf import Item, Shelf, Side
from hub.sdk.body import MISSING, dig, key_parts
from hub.sdk.envelope import holds
from hub.sdk.errors import ConfigError, ContractBroken, HubError
from hub.sdk.manifest import Verify
from hub.sdk.records import Row, join_key
from hub.sdk.streams import StreamReader
from hub.store.rows import decode_json
from hub.store.runs import MOST_PASSES
from hub.store.tables import delivery, intent, link, record

if TYPE_CHECKING:
    from hub.engine.hub import Hub

WIDTH = 8
SPELLINGS = 3
_AT_ONCE = 1000
_encode = msgspec.json.Encoder(decimal_format="string").encode

Progress = Callable[[Side, int], None]


def fields_of(flow: Flow, ignored: Sequence[str]) -> list[str]:
    """The fields that are compared."""
    return [name for name in flow.mapping.fields if name not in ignored]


def load_source(hub: Hub, flow: Flow, shelf: Shelf, fields: Sequence[str], told: Progress) -> None:
    """Read the source completely and map it. Raises ContractBroken when it does not stand still."""
    stream = hub.session(flow.source.connection).stream(flow.source.stream_name)
    put = _put_mapped(hub, flow, shelf, fields)
    for total in _passes(hub, stream, flow.source.ref):
        shelf.drop(Side.WANTED)
        shelf.unstage()
        for page in total.pages():
            keyed, keyless = split_keyless(page, stream.key)
            alive = [(key, row) for key, row in keyed if not stream.is_deleted(row)]
            gone = [key for key, row in keyed if stream.is_deleted(row)]
            lost = [entry.source_key for entry in keyless]
            shelf.put(Item(None, Side.WANTED, key, "deleted") for key in gone)
            shelf.put(Item(None, Side.WANTED, key, "rejected") for key in lost)
            if flow.mapping.group is None:
                put(alive)
            else:
                group = flow.mapping.group
                shelf.stage((key, group.key(row), row) for key, row in alive)
            told(Side.WANTED, total.rows)
        total.close(shelf.distinct(Side.WANTED) + shelf.staged())
    if flow.mapping.group is not None:
        for part in _parts(shelf.groups()):
            put([(key, flow.mapping.group.fold(members)) for key, members in part])


def _put_mapped(
    hub: Hub, flow: Flow, shelf: Shelf, fields: Sequence[str]
) -> Callable[[Sequence[tuple[str, Row]]], None]:
    """Maps rows and puts what they became on the shelf."""
    version = flow.version.encode()

    def put(rows: Sequence[tuple[str, Row]]) -> None:
        with hub.store.reading() as connection:
            references = resolve(hub, connection, flow, (row for _, row in rows))
        items = []
        for source_key, row in rows:
            mapped = flow.mapping.apply(row, references)
            seen = hashlib.blake2b(_encode(row), digest_size=16, key=version).digest()
            marks = None
            if mapped.data is not None:
                marks = b"".join(_digest(form(mapped.data[name])) for name in fields)
            state = mapped.outcome
            items.append(Item(mapped.key, Side.WANTED, source_key, state, flow.id, seen, marks))
        shelf.put(items)

    return put


def load_records(hub: Hub, flow: Flow, shelf: Shelf, fields: Sequence[str], told: Progress) -> None:
    """What the hub's own store has of the flow's entity."""
    entity, after, number = str(flow.target.entity), "", 0
    while True:
        hub_alive(hub)
        chosen = (
            sa.select(record.c.record_key, record.c.doc_text)
            .where(record.c.entity == entity, record.c.deleted == 0, record.c.record_key > after)
            .order_by(record.c.record_key)
            .limit(_AT_ONCE)
        )
        with hub.store.reading() as connection:
            rows = connection.execute(chosen).all()
        if not rows:
            return
        after, number = rows[-1][0], number + len(rows)
        shelf.put(
            Item(key, Side.THERE, key, "", marks=_their_marks(decode_json(text or "{}"), fields))
            for key, text in rows
        )
        told(Side.THERE, number)


def load_target(
    hub: Hub, flow: Flow, shelf: Shelf, verify: Verify, fields: Sequence[str], told: Progress
) -> None:
    """What a stream of the target lists. Raises ContractBroken when it does not stand still."""
    connection = str(flow.target.connection)
    stream = hub.session(connection).stream(verify.stream)
    paths = {name: verify.fields.get(name, name) for name in fields}
    for total in _passes(hub, stream, f"{connection}.{verify.stream}"):
        shelf.drop(Side.THERE)
        for page in total.pages():
            shelf.put(_listed(stream, verify, paths, row) for row in page)
            told(Side.THERE, total.rows)
        total.close(shelf.distinct(Side.THERE))


def _listed(stream: StreamReader, verify: Verify, paths: Mapping[str, str], row: Row) -> Item:
    parts = key_parts(row, stream.key)
    row_key = _digest(repr(sorted(row))).hex() if None in parts else join_key(parts)
    key = dig(row, verify.key)
    if key is MISSING or key is None or key == "" or isinstance(key, dict | list):
        return Item(None, Side.THERE, row_key, "")
    gone = stream.is_deleted(row) or (verify.live is not None and not holds(verify.live, row))
    shown = {name: dig(row, path) for name, path in paths.items()}
    state = "inactive" if gone else ""
    marks = _their_marks(shown, list(paths))
    return Item(str(key), Side.THERE, row_key, state, marks=marks)


def load_ledger(hub: Hub, flow: Flow, shelf: Shelf) -> None:
    """What every flow that feeds the target has noted, and what is on its way to it."""
    target = flow.target
    flows = hub.catalogue.feeding(target.connection, target.sink or target.entity or "")
    for flow_id in {flow.id, *flows}:
        for rows in _links(hub, flow_id):
            shelf.put(
                Item(row.target_key, Side.LINKED, row.source_key, row.state, flow_id,
                     row.source_hash)
                for row in rows
            )  # fmt: skip
    with hub.store.reading() as connection:
        for table in (delivery, intent):
            chosen = sa.select(table.c.target_key, table.c.source_key, table.c.flow_id)
            waiting = connection.execute(chosen.where(table.c.sink_ref == target.ref))
            shelf.put(Item(key, Side.WAITING, source, "", of) for key, source, of in waiting)


def _links(hub: Hub, flow_id: str) -> Iterator[Sequence[Any]]:
    after = ""
    while True:
        hub_alive(hub)
        chosen = (
            sa.select(link.c.source_key, link.c.target_key, link.c.state, link.c.source_hash)
            .where(link.c.flow_id == flow_id, link.c.source_key > after)
            .order_by(link.c.source_key)
            .limit(_AT_ONCE)
        )
        with hub.store.reading() as connection:
            rows = connection.execute(chosen).all()
        if not rows:
            return
        after = rows[-1].source_key
        yield rows


def hub_alive(hub: Hub) -> None:
    """Raises HubError when the process is about to end."""
    if hub.stopping:
        raise HubError("verify.stopped")


# --- reading until the source stands still ------------------------------------------------------


class _Pass:
    """One complete read of a stream."""

    def __init__(self, hub: Hub, stream: StreamReader) -> None:
        self._hub = hub
        self._stream = stream
        self.rows = 0
        self.steady = True
        self.distinct = 0
        self.total: int | None = None

    def pages(self) -> Iterator[Sequence[Row]]:
        first: int | None = None
        for page in self._stream.read(None):
            hub_alive(self._hub)
            self.rows += len(page.rows)
            if page.total is not None:
                self.total, first = page.total, page.total if first is None else first
            yield page.rows
        self.steady = not self._stream.pages_are_counted or first == self.total

    def close(self, distinct: int) -> None:
        self.distinct = distinct
        self.steady = self.steady and self.total in (None, distinct)


def _passes(hub: Hub, stream: StreamReader, where: str) -> Iterator[_Pass]:
    for _ in range(MOST_PASSES):
        one = _Pass(hub, stream)
        yield one
        if one.steady:
            return
    raise ContractBroken(
        "verify.unsteady", where=where, total=one.total, distinct=one.distinct, passes=MOST_PASSES
    )


def _parts(items: Iterator[Any]) -> Iterator[list[Any]]:
    part: list[Any] = []
    for item in items:
        part.append(item)
        if len(part) == _AT_ONCE:
            yield part
            part = []
    yield part


# --- digests of fields --------------------------------------------------------------------------


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=WIDTH).digest()


def _their_marks(values: Mapping[str, Any], fields: Sequence[str]) -> bytes:
    marks = []
    for name in fields:
        value = values.get(name)
        spelled = [_digest(one) for one in forms(None if value is MISSING else value)]
        marks.append(b"".join(spelled).ljust(WIDTH * SPELLINGS, b"\0"))
    return b"".join(marks)


def different_fields(ours: bytes, theirs: bytes, fields: Sequence[str]) -> tuple[str, ...]:
    """The fields of which the target says something else."""
    found = []
    for number, name in enumerate(fields):
        mark = ours[number * WIDTH : (number + 1) * WIDTH]
        start = number * WIDTH * SPELLINGS
        spelled = theirs[start : start + WIDTH * SPELLINGS]
        if mark not in [spelled[at : at + WIDTH] for at in range(0, len(spelled), WIDTH)]:
            found.append(name)
    return tuple(found)


def require_stream(flow: Flow) -> None:
    """Raises ConfigError for a flow whose source cannot be read as a whole."""
    if flow.source.stream is None:
        raise ConfigError("verify.no_stream", flow=flow.id, event=flow.source.event)
