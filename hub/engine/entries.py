"""Rows on their way into the ledger: keyed, mapped and hashed. Nothing here touches the store."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from hub.engine.flows import Flow
from hub.mapping import FieldProblem, Reference, Unusable
from hub.sdk.body import key_parts
from hub.sdk.records import Row, join_key
from hub.store.ledger import Link
from hub.store.rows import encode_exact, plain_text

_encode = msgspec.json.Encoder(decimal_format="string").encode
_encode_sorted = msgspec.json.Encoder(decimal_format="string", order="sorted").encode
MAX_KEY = 512
"""Longest key the ledger takes, in characters."""


class Entry(NamedTuple):
    """A row with its outcome: `doc` (JSON) and `digest` when it went through, else `problems`.

    `doc` is None as well when the ledger knows the row: then `digest` is the one it has.
    `references` are the (item, value) pairs that a held record waits for.
    """

    source_key: str
    outcome: str
    target_key: str | None
    source_hash: bytes | None
    doc: str | None
    digest: bytes | None
    row: Row
    problems: tuple[FieldProblem, ...] = ()
    references: tuple[Reference, ...] = ()


def map_rows(
    flow: Flow,
    rows: Iterable[tuple[str, Row]],
    known: dict[str, Link],
    references: dict[tuple[str, str], str],
    is_deleted: Callable[[Row], bool] | None = None,
) -> list[Entry]:
    """The rows, each with its source key, mapped and hashed.

    A row that is the same as last time under the same mapping is not mapped again, unless its
    fields point at other records: those may have changed; nor in a two-way flow, whose other
    direction may make any record new meanwhile. Another target makes every hash new.
    """
    mapping = flow.mapping
    apply, encode, encode_row, blake2b = mapping.apply, _encode_sorted, _encode, hashlib.blake2b
    version = flow.version.encode()
    target = hashlib.blake2b(flow.target.ref.encode(), digest_size=16).digest()
    recall = {} if mapping.has_links or flow.two_way is not None else known
    entries: list[Entry] = []
    for source_key, row in rows:
        if is_deleted is not None and is_deleted(row):
            entries.append(Entry(source_key, "deleted", None, None, None, None, row))
            continue
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
            why = (tuple(mapped.problems), tuple(mapped.references))
            entries.append(
                Entry(source_key, mapped.outcome, mapped.key, seen, None, None, row, *why)
            )
    return entries


def row_hash(flow: Flow, row: Row) -> bytes:
    """What the ledger keeps of a row and the mapping it went through."""
    version = flow.version.encode()
    return hashlib.blake2b(_encode(row), digest_size=16, key=version).digest()


def payload_text(row: Row) -> str:
    """The row as a dead letter keeps it: it comes back as the source gave it.

    What no database stores (NUL, halves of surrogate pairs) is left out.
    """
    return encode_exact(_storable(row)).decode()


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, dict):
        return {plain_text(str(name)): _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    if isinstance(value, Unusable):  # a group's field that could not be summed
        return _storable(value.value)
    if isinstance(value, Decimal | float) and not math.isfinite(value):
        return str(value)
    return value


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
            rejected.append(
                rejected_entry(row, FieldProblem(missing, None, "record.key_missing", {}))
            )
            continue
        key = join_key(parts)
        if len(key) <= MAX_KEY and plain_text(key) == key:
            keyed.append((key, row))
            continue
        code = "record.key_too_long" if len(key) > MAX_KEY else "record.key_unstorable"
        params: dict[str, object] = {"limit": MAX_KEY}
        rejected.append(rejected_entry(row, FieldProblem(key_fields[0], ascii(key), code, params)))
    return keyed, rejected


def rejected_entry(row: Row, problem: FieldProblem) -> Entry:
    """The entry of a row that has no key to call it by."""
    # The content names it, so that reading it again does not open a second dead letter.
    digest = hashlib.blake2b(_encode_sorted(row), digest_size=16).hexdigest()
    return Entry(f"?{digest}", "rejected", None, None, None, None, row, (problem,))
