"""Letters about writes, taken up again: wished once more, or decided by a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.engine import Connection

from hub.engine.flows import Flow
from hub.engine.references import sink_items_arrived
from hub.engine.replay_records import Cause, Letter
from hub.engine.wakes import wake_sink
from hub.sdk.records import Op
from hub.store import deliveries, ledger
from hub.store.backlog import keys_under_way
from hub.store.dead_letters import (
    ClosedHow,
    LetterState,
    Ruling,
    close_letters,
    rule_on_letters,
)
from hub.store.deliveries import NO_RUN, Intent
from hub.store.ledger import Link, LinkState
from hub.store.letter_queries import letters_on_their_way

if TYPE_CHECKING:
    from hub.engine.hub import Hub

REFUSED = "delivery.refused"

_STRANDED_MS = 60_000
_AT_ONCE = 200
_UNDONE = {LinkState.REJECTED, LinkState.PENDING}


class Decided(NamedTuple):
    """What a person says about a doubtful write: it landed (under this id), or send it again."""

    landed: bool
    target_id: str | None = None


def take_up_writes(
    hub: Hub,
    connection: Connection,
    flow: Flow,
    letters: Sequence[Letter],
    cause: Cause,
    edited: dict[str, str] | None = None,
) -> None:
    """Wish these writes again with a fresh count of tries.

    Where a newer version of the same target was sent or waits, the letter is superseded. Locks
    and fence as for records.
    """
    now, edits = hub.now_ms(), edited or {}
    known = ledger.links_of(connection, flow.id, [one["source_key"] for one in letters])
    busy = keys_under_way(connection, flow.target.ref, [str(one["target_key"]) for one in letters])
    wishes: list[dict[str, Any]] = []
    rulings: list[Ruling] = []
    for letter in letters:
        link = known.get(letter["source_key"])
        if letter["target_key"] in busy or not _is_current(flow, letter, link):
            how = ClosedHow.SUPERSEDED
            ruling = Ruling(letter["id"], LetterState.RESOLVED, how, cause.by, cause.replay_id)
            rulings.append(ruling)
            continue
        busy.add(letter["target_key"])
        wish = _wish(letter, link, edits.get(letter["id"]))
        wishes.append(wish)
        rulings.append(_on_its_way(letter, cause, edits.get(letter["id"]), wish["revision"]))
    deliveries.put_deliveries(connection, flow.target.ref, wishes, now)
    ledger.wish_again(connection, flow.id, [(w["source_key"], w["revision"]) for w in wishes])
    if wishes:
        wake_sink(hub, connection, flow.target.ref)
    rule_on_letters(connection, rulings, now)


def decide_review(
    hub: Hub, connection: Connection, flow: Flow, letter: Letter, decided: Decided, cause: Cause
) -> None:
    """Close a doubtful write as a person says; what waited behind it goes on."""
    now, ref = hub.now_ms(), str(letter["sink_ref"] or flow.target.ref)
    deliveries.lock_sink(connection, ref)
    intent = deliveries.intent_in_review(connection, ref, str(letter["target_key"]))
    if intent is None or (intent.flow_id, intent.source_key) != (flow.id, letter["source_key"]):
        ruling = Ruling(
            letter["id"], LetterState.RESOLVED, ClosedHow.SUPERSEDED, cause.by, cause.replay_id
        )
    elif decided.landed:
        _adopt(hub, connection, intent, decided.target_id)
        ruling = Ruling(
            letter["id"], LetterState.RESOLVED, ClosedHow.LANDED, cause.by, cause.replay_id
        )
    else:
        ruling = _send_again(connection, intent, letter, cause, now)
    wake_sink(hub, connection, ref)
    rule_on_letters(connection, [ruling], now)


def drop_review(hub: Hub, connection: Connection, letter: Letter) -> None:
    """A person gives the doubtful write up; what waited behind it goes on."""
    ref, target_key = str(letter["sink_ref"]), str(letter["target_key"])
    deliveries.lock_sink(connection, ref)
    if deliveries.intent_in_review(connection, ref, target_key) is not None:
        deliveries.close_intents(connection, ref, [target_key])
    wake_sink(hub, connection, ref)


def settle_stranded(hub: Hub) -> None:
    """Resolve letters that wait for a write of which nothing is left.

    Another record that became the same target may have taken the place of their wish.
    """
    long_ago = hub.now_ms() - _STRANDED_MS
    with hub.store.reading() as connection:
        old = letters_on_their_way(connection, long_ago, _AT_ONCE)
    if not old:
        return
    with hub.store.transaction() as connection:
        lost = [one["id"] for one in old if not _under_way(connection, one)]
        states = (LetterState.REPLAYING,)
        close_letters(connection, lost, states, ClosedHow.SUPERSEDED, hub.now_ms())


def _under_way(connection: Connection, letter: Letter) -> bool:
    """Whether the replay itself or the write it led to is still to come."""
    if letter["replay_running"]:
        return True
    keys = [str(letter["target_key"])]
    return bool(keys_under_way(connection, str(letter["sink_ref"]), keys))


def _adopt(hub: Hub, connection: Connection, intent: Intent, target_id: str | None) -> None:
    ledger.confirm_links(
        connection,
        [
            {
                "flow_id": intent.flow_id,
                "source_key": intent.source_key,
                "revision": intent.revision,
                "target_id": target_id,
            }
        ],
    )
    deliveries.close_intents(connection, intent.sink_ref, [intent.target_key])
    if target_id is not None:
        sink_items_arrived(hub, connection, intent.sink_ref, [intent.source_key])


def _send_again(
    connection: Connection, intent: Intent, letter: Letter, cause: Cause, now_ms: int
) -> Ruling:
    newer = deliveries.wish_anew(connection, intent, now_ms)
    if newer:
        return Ruling(
            letter["id"], LetterState.RESOLVED, ClosedHow.SUPERSEDED, cause.by, cause.replay_id
        )
    return _on_its_way(letter, cause, None, intent.revision)


def _is_current(flow: Flow, letter: Letter, link: Link | None) -> bool:
    if letter["sink_ref"] not in (None, flow.target.ref) or not letter["target_key"]:
        return False  # the flow writes elsewhere by now
    if link is None:
        return True
    if letter["revision"] is not None and link.revision != letter["revision"]:
        return False
    if letter["op"] in (Op.DELETE, Op.DEACTIVATE):
        return link.state == LinkState.TOMBSTONED
    # A two-way flow looks at both sides anyway, and compares each record anew after a write.
    return link.state in _UNDONE and (link.content_hash is not None or flow.two_way is not None)


def _wish(letter: Letter, link: Link | None, edited: str | None) -> dict[str, Any]:
    revision = letter["revision"] or (1 if link is None else link.revision)
    if letter["error_code"] == REFUSED:
        # Refused means not done: a number of its own, or a target that remembers keys would
        # only repeat its refusal. What was given up may have landed and keeps its key.
        revision += 1
    return {
        "target_key": letter["target_key"],
        "flow_id": letter["flow_id"],
        "source_key": letter["source_key"],
        "run_id": NO_RUN,
        "op": letter["op"] or Op.UPSERT.value,
        "revision": revision,
        "payload_text": letter["payload_text"] if edited is None else edited,
    }


def _on_its_way(letter: Letter, cause: Cause, edited: str | None, revision: int) -> Ruling:
    state, how = LetterState.REPLAYING, ClosedHow.REPLAYED
    return Ruling(letter["id"], state, how, cause.by, cause.replay_id, edited, revision)
