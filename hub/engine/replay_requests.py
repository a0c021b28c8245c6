"""What people ask for: take a letter up again, take up all of a kind, leave some out for good.

Every request is one transaction with its entry in the audit; the work itself is done by a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.engine import Connection

from hub.engine.flows import Flow
from hub.engine.masking import merge_masked
from hub.engine.replay import queue_replay, reopen_asked
from hub.engine.replay_records import Letter
from hub.engine.replay_writes import drop_review
from hub.engine.sources import key_fields
from hub.sdk.body import key_parts
from hub.sdk.errors import ConfigError
from hub.sdk.records import Safety, join_key
from hub.store.audit import append_audit
from hub.store.dead_letters import SOURCE_KINDS, DeadLetterKind, LetterState, ask_again, discard
from hub.store.letter_queries import (
    LetterFilter,
    count_letters,
    load_letter,
    lock_letters,
    oldest_letters,
)
from hub.store.replays import Replay, ReplayState, create_replay, end_replay, load_replay
from hub.store.rows import decode_exact, encode_exact

if TYPE_CHECKING:
    from hub.engine.hub import Hub

_DISCARDED_AT_ONCE = 2_000
_REPLAYABLE = (LetterState.OPEN, LetterState.DISCARDED)


class Wanted(NamedTuple):
    """How one letter is to be taken up: as it is, edited, or as a person decided a doubtful write.

    `edit` is the whole payload, `changes` single fields; `decision` is `landed` or `send_again`.
    """

    edit: Any = None
    changes: Mapping[str, Any] | None = None
    decision: str | None = None
    target_id: str | None = None


def ask_replay(hub: Hub, letter_id: str, wanted: Wanted, actor: str) -> str:
    """Take one letter up again; the id of the replay. Raises ConfigError for what cannot be."""
    with hub.store.transaction() as connection:
        letter = find_letter(connection, letter_id, lock=True)
        if letter["state"] not in _REPLAYABLE:
            raise ConfigError("dead_letter.not_open", letter=letter["id"], state=letter["state"])
        flow = hub.catalogue.flow(letter["flow_id"])
        _check_decision(letter, wanted)
        asked: dict[str, Any] = {"decision": wanted.decision, "target_id": wanted.target_id}
        if wanted.edit is not None or wanted.changes:
            asked["edited"] = _edited(hub, flow, letter, wanted)
        elif flow.mapping.group is not None and str(letter["source_key"]).startswith("?"):
            raise ConfigError("dead_letter.in_group", letter=letter["id"], flow=flow.id)
        now = hub.now_ms()
        replay_id = create_replay(connection, flow.id, asked, 1, actor, now, letter_id=letter["id"])
        ask_again(connection, letter["id"], replay_id, actor, now)
        _queue(hub, connection, flow.id, replay_id)
        action = "dead_letter.decide" if wanted.decision else "dead_letter.replay"
        details = {
            "replay": replay_id,
            "kind": letter["kind"],
            "flow": flow.id,
            "source_key": letter["source_key"],
            "edited": "edited" in asked,
            "fields": _changed_fields(letter, asked.get("edited")),
        }
        if wanted.decision is not None:
            details |= {"decision": wanted.decision, "target_id": wanted.target_id}
        append_audit(connection, actor, action, letter["id"], details, now)
    return replay_id


def ask_replays(hub: Hub, wanted: LetterFilter, per_second: float | None, actor: str) -> str:
    """Take up every letter that the filter names and that is open now; the id of the replay."""
    if wanted.flow is None:
        raise ConfigError("dead_letter.needs_flow")
    if per_second is not None and not 0 < per_second <= 1_000_000:
        raise ConfigError("dead_letter.per_second", value=per_second)
    flow = hub.catalogue.flow(wanted.flow)
    now = hub.now_ms()
    until = now + 1 if wanted.until_ms is None else min(wanted.until_ms, now + 1)
    wanted = replace(wanted, state=LetterState.OPEN.value, until_ms=until)
    asked = {name: value for name, value in asdict(wanted).items() if value is not None}
    with hub.store.transaction() as connection:
        total = count_letters(connection, wanted)
        replay_id = create_replay(
            connection, flow.id, asked, total, actor, now, per_second=per_second
        )
        _queue(hub, connection, flow.id, replay_id)
        details = {"filter": asked, "letters": total, "per_second": per_second}
        append_audit(connection, actor, "dead_letter.replay_all", replay_id, details, now)
    return replay_id


def cancel_replay(hub: Hub, replay: Replay, actor: str) -> None:
    """Stop a replay behind the chunk it is at. What was taken up stays taken up."""
    with hub.store.transaction() as connection:
        found = load_replay(connection, replay.id, lock=True)
        if found is None or found.finished:
            state = replay.state if found is None else found.state
            raise ConfigError("replay.finished", replay=replay.id, state=state)
        now = hub.now_ms()
        reopen_asked(connection, found, now)
        end_replay(connection, found.id, ReplayState.CANCELLED, now)
        details = {"replayed": found.replayed, "letters": found.total}
        append_audit(connection, actor, "dead_letter.cancel_replay", found.id, details, now)


def discard_one(hub: Hub, letter_id: str, reason: str, actor: str) -> str:
    """Leave a letter out for good; its id."""
    reason = _reason(reason)
    with hub.store.reading() as connection:
        found = find_letter(connection, letter_id)
    with hub.store.transaction() as connection:
        if found["kind"] == DeadLetterKind.REVIEW:
            drop_review(hub, connection, found)  # the sink's lock comes before the letter's
        letters = lock_letters(connection, [found["id"]], (LetterState.OPEN,))
        if not letters:
            raise ConfigError("dead_letter.not_open", letter=found["id"], state=found["state"])
        _discard(hub, connection, letters, reason, actor, found["id"], {})
    return str(found["id"])


def discard_all(hub: Hub, wanted: LetterFilter, reason: str, actor: str) -> int:
    """Leave out every open letter that the filter names; how many. Reviews are decided one by
    one."""
    reason = _reason(reason)
    if not wanted.narrow and wanted.flow is None:
        raise ConfigError("dead_letter.needs_filter")
    now = hub.now_ms()
    until = now + 1 if wanted.until_ms is None else min(wanted.until_ms, now + 1)
    wanted = replace(wanted, state=LetterState.OPEN.value, until_ms=until)
    asked = {name: value for name, value in asdict(wanted).items() if value is not None}
    after, number = None, 0
    while True:
        with hub.store.transaction() as connection:
            chunk = oldest_letters(connection, wanted, after, _DISCARDED_AT_ONCE)
            letters = [one for one in chunk.rows if one["kind"] != DeadLetterKind.REVIEW]
            if letters:
                subject = wanted.flow or "*"
                _discard(hub, connection, letters, reason, actor, subject, {"filter": asked})
        number += len(letters)
        if len(chunk.places) < _DISCARDED_AT_ONCE:
            return number
        after = chunk.places[-1]


def find_letter(connection: Connection, letter_id: str, *, lock: bool = False) -> Letter:
    """The letter of this id or of its first characters. Raises ConfigError."""
    found = load_letter(connection, letter_id, lock=lock)
    if found is None:
        raise ConfigError("dead_letter.unknown", letter=letter_id)
    return found


def _queue(hub: Hub, connection: Connection, flow_id: str, replay_id: str) -> None:
    if hub.durable.open:  # otherwise the sweep of the next process that works queues it
        queue_replay(hub, connection, flow_id, replay_id, 0)


def _discard(
    hub: Hub,
    connection: Connection,
    letters: list[Letter],
    reason: str,
    actor: str,
    subject: str,
    details: dict[str, Any],
) -> None:
    now = hub.now_ms()
    discard(connection, [one["id"] for one in letters], reason, actor, now)
    details = {**details, "reason": reason, "letters": len(letters)}
    append_audit(connection, actor, "dead_letter.discard", subject, details, now)


def _reason(reason: str) -> str:
    text = " ".join(reason.split())
    if not text:
        raise ConfigError("dead_letter.no_reason")
    return text


def _check_decision(letter: Letter, wanted: Wanted) -> None:
    review = letter["kind"] == DeadLetterKind.REVIEW
    if review and wanted.decision is None:
        raise ConfigError("dead_letter.needs_decision", letter=letter["id"])
    if not review and (wanted.decision is not None or wanted.target_id is not None):
        raise ConfigError("dead_letter.no_decision", letter=letter["id"], kind=letter["kind"])
    if review and (wanted.edit is not None or wanted.changes):
        raise ConfigError("dead_letter.review_edit", letter=letter["id"])
    if wanted.target_id is not None and wanted.decision != "landed":
        raise ConfigError("dead_letter.target_id", letter=letter["id"])


# --- edits ------------------------------------------------------------------------------------


def _edited(hub: Hub, flow: Flow, letter: Letter, wanted: Wanted) -> dict[str, Any]:
    """The payload as a person wants it; what was left masked is what it was."""
    original = decode_exact(letter["payload_text"] or "{}")
    edited = original if wanted.edit is None else merge_masked(wanted.edit, original)
    if not isinstance(edited, dict):
        raise ConfigError("dead_letter.edit_form", letter=letter["id"])
    for name, value in (wanted.changes or {}).items():
        edited = _changed(edited, name, value)
    if letter["kind"] in SOURCE_KINDS:
        _check_row(hub, flow, letter, edited)
    else:
        _check_write(hub, flow, letter)
    found: dict[str, Any] = edited
    return found


def _check_row(hub: Hub, flow: Flow, letter: Letter, row: dict[str, Any]) -> None:
    """An edit corrects a record; it does not make another one of it."""
    own = str(letter["source_key"])
    if flow.mapping.group is not None:
        if own.startswith("?"):
            raise ConfigError("dead_letter.in_group", letter=letter["id"], flow=flow.id)
        found = flow.mapping.group.key(row)
    elif own.startswith("?"):
        return  # a row without a key may get one
    else:
        found = join_key(key_parts(row, key_fields(hub, flow)))
    if found != own:
        raise ConfigError("dead_letter.edit_key", letter=letter["id"], old=own, new=found)


def _check_write(hub: Hub, flow: Flow, letter: Letter) -> None:
    """What may have landed must go with the same bytes under the same key."""
    if letter["error_code"] != "delivery.gave_up" or flow.target.sink is None:
        return
    sink = hub.session(str(flow.target.connection)).sink(flow.target.sink)
    if sink.safety is Safety.IDEMPOTENCY_KEY:
        raise ConfigError("dead_letter.edit_unsafe", letter=letter["id"], sink=flow.target.ref)


def _changed(payload: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The payload with one field changed: a name, or a path into what is there (`entry.0.qty`)."""
    changed = decode_exact(encode_exact(payload))  # a copy that may be written to
    place: Any = changed
    parts = [name] if name in payload else name.split(".")
    for part in parts[:-1]:
        place = _inside(place, part, name)
    last = parts[-1]
    if isinstance(place, list):
        at = _position(place, last, name)
        place[at] = _of_its_kind(value, place[at])
    elif isinstance(place, dict) and last:
        place[last] = _of_its_kind(value, place.get(last))
    else:
        raise ConfigError("dead_letter.set_path", path=name)
    found: dict[str, Any] = changed
    return found


def _inside(place: Any, part: str, path: str) -> Any:
    if isinstance(place, dict) and part in place:
        return place[part]
    if isinstance(place, list):
        return place[_position(place, part, path)]
    raise ConfigError("dead_letter.set_path", path=path)


def _position(items: list[Any], part: str, path: str) -> int:
    if part.isascii() and part.isdecimal() and len(part) < 6 and int(part) < len(items):
        return int(part)
    raise ConfigError("dead_letter.set_path", path=path)


def _of_its_kind(value: Any, old: Any) -> Any:
    """Text stays text where text was; elsewhere a text that reads as JSON is what it says."""
    if not isinstance(value, str) or (isinstance(old, str) and value != "null"):
        return value
    try:
        return decode_exact(value)
    except ValueError:
        return value


def _changed_fields(letter: Letter, edited: dict[str, Any] | None) -> list[str]:
    """Names of the fields an edit touched; never what stands in them."""
    if edited is None:
        return []
    before = decode_exact(letter["payload_text"] or "{}")
    names = {*before, *edited}
    return sorted(name for name in names if before.get(name) != edited.get(name))
