"""Record changes become messages: one per change seen, never two for one change."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import Connection

from hub.store.messages import MessageState, StoredMessage, add_messages, unsent
from hub.store.records import last_change_no, records_since
from hub.store.rows import encode_json
from hub.store.subscriptions import Subscription, move_position, positions_of

MOST_UNSENT = 1000
"""Messages of one subscription that wait at most; later changes wait as records."""

LARGEST_BODY = 20_000
_AT_ONCE = 200


def collect_changes(connection: Connection, mine: Subscription, now_ms: int) -> int:
    """Make messages of changes and move the positions behind them; how many were made.

    The subscription is locked by the caller. A record that changed several times since it was last
    looked at becomes one message, of its newest version.
    """
    behind = _behind(connection, mine.id)
    if not behind:
        return 0
    room = min(_AT_ONCE, MOST_UNSENT - unsent(connection, mine.id)[0])
    made = 0
    for entity, (position, last) in behind.items():
        if made >= room:
            break
        wanted = room - made
        found = records_since(connection, entity, position, wanted)
        rows = [row for row in found if row["change_no"] <= last]
        add_messages(connection, [_message(mine.id, entity, row, now_ms) for row in rows])
        reached = rows[-1]["change_no"] if len(rows) == wanted else last
        move_position(connection, mine.id, entity, reached)
        made += len(rows)
    return made


def _behind(connection: Connection, subscription_id: str) -> dict[str, tuple[int, int]]:
    """The entities with changes that are no messages yet: the position and the newest change.

    Asked before the records: every change up to it is visible to the statements that follow.
    """
    found = {}
    for entity, position in positions_of(connection, subscription_id).items():
        last = last_change_no(connection, entity)
        if last > position:
            found[entity] = (position, last)
    return found


def message_id(subscription_id: str, entity: str, change_no: int) -> str:
    """The `webhook-id` of a change: the same however often it is made."""
    text = f"{subscription_id}\x1f{entity}\x1f{change_no}"
    return "msg_" + hashlib.sha256(text.encode()).hexdigest()[:32]


def _message(subscription_id: str, entity: str, row: dict[str, Any], now_ms: int) -> StoredMessage:
    kind = "record.deleted" if row["deleted"] else "record.changed"
    return StoredMessage(
        id=message_id(subscription_id, entity, row["change_no"]),
        subscription_id=subscription_id,
        event_type=kind,
        entity=entity,
        record_key=row["key"],
        change_no=row["change_no"],
        payload_text=_body(kind, entity, row).decode(),
        state=MessageState.PENDING.value,
        claimed_by=None,
        attempts=0,
        due_at=now_ms,
        created_at=now_ms,
    )


def _body(kind: str, entity: str, row: dict[str, Any]) -> bytes:
    """The JSON that is sent; a record too large for it is left to be pulled."""
    data = {"entity": entity}
    data |= {name: row[name] for name in ("key", "revision", "change_no", "deleted")}
    event = {"type": kind, "timestamp": row["changed_at"]}
    body = encode_json({**event, "data": {**data, "record": row["data"]}})
    if len(body) <= LARGEST_BODY:
        return body
    path = f"/v1/records/{quote(entity, safe='')}/keys/{quote(row['key'], safe='')}"
    return encode_json({**event, "data": {**data, "truncated": True, "path": path}})
