"""Subscriptions: who is told of record changes, and how that went."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from hub.engine.inspection import error_row
from hub.engine.operations.base import Row, capped, iso, storable
from hub.engine.operations.records import RecordOperations
from hub.engine.webhooks.changes import message_id
from hub.engine.webhooks.endpoints import shown
from hub.engine.webhooks.post import Letter, Poster, Tried
from hub.engine.webhooks.secrets import first_secret, rotate_secret, signing_secrets
from hub.engine.webhooks.settling import attempt_of
from hub.engine.webhooks.wakes import wake
from hub.sdk.errors import ConfigError
from hub.sdk.loading import suggestion
from hub.store import messages, records, subscriptions
from hub.store.messages import MessageState, StoredMessage
from hub.store.rows import decode_json, encode_json, from_ms, plain_text, to_ms
from hub.store.subscriptions import Subscription, SubscriptionState

TEST = "hub.test"
LONGEST_TITLE = 120
LONGEST_KEEP_HOURS = 30 * 24.0

_LONGEST_ENTITY = 120
_HOUR_MS = 3_600_000


class SubscriptionOperations(RecordOperations):
    """Adding, watching and correcting subscriptions."""

    # --- looking ------------------------------------------------------------------------------

    def subscriptions(self) -> list[Row]:
        """All subscriptions, oldest first."""
        with self._opened.store.reading() as connection:
            found = subscriptions.list_subscriptions(connection)
            entities = subscriptions.entities_by_subscription(connection)
            return [_row(connection, one, entities.get(one.id, [])) for one in found]

    def subscription(self, subscription_id: str) -> Row:
        """One subscription with how far it has been told. Raises ConfigError when unknown."""
        with self._opened.store.reading() as connection:
            return self._shown(connection, subscription_id)

    def attempts(self, subscription_id: str, limit: int) -> list[Row]:
        """The delivery log: the newest tries, newest first."""
        with self._opened.store.reading() as connection:
            self._known(connection, subscription_id)
            found = messages.list_attempts(connection, subscription_id, capped(limit))
        return [_attempt_row(one) for one in found]

    def messages(self, subscription_id: str, state: str | None, limit: int) -> list[Row]:
        """The newest messages, newest first. Raises ConfigError for a state that does not exist."""
        states = [one.value for one in MessageState]
        if state is not None and state not in states:
            hint = suggestion(state, states)
            raise ConfigError("message.no_state", state=state, hint=hint)
        with self._opened.store.reading() as connection:
            self._known(connection, subscription_id)
            found = messages.list_messages(connection, subscription_id, state, capped(limit))
        return [_message_row(one) for one in found]

    # --- changing -----------------------------------------------------------------------------

    def add_subscription(
        self, url: str, entities: Sequence[str], title: str | None, *, from_beginning: bool
    ) -> Row:
        """A new subscription with its signing secret, which is shown this once."""
        hub = self._hub
        hub.endpoints.check(url)
        _check_title(title)
        now = hub.now_ms()
        made = Subscription(
            id=f"sub_{secrets.token_hex(8)}",
            url=url,
            title=title or None,
            state=SubscriptionState.ACTIVE.value,
            created_at=now,
            updated_at=now,
        )
        with hub.store.transaction() as connection:
            positions = self._positions(connection, entities, from_beginning=from_beginning)
            subscriptions.create_subscription(connection, made, positions)
            secret = first_secret(connection, hub.vault(), made.id, now)
            wake(hub, connection, made.id)
            return {**self._shown(connection, made.id), "secret": secret}

    def change_subscription(self, subscription_id: str, changes: Row) -> Row:
        """Change `url`, `title`, `entities` (new ones `from_beginning` or from now) or `state`.

        The state may become `active` or `paused`. An active one begins anew: what waits is sent
        now, with all its tries.
        """
        hub = self._hub
        now = hub.now_ms()
        if "url" in changes:
            hub.endpoints.check(changes["url"])
        _check_title(changes.get("title"))
        with hub.store.transaction() as connection:
            self._locked(connection, subscription_id)
            if "entities" in changes:
                self._change_entities(connection, subscription_id, changes, now)
            values: Row = {name: changes[name] for name in ("url", "title") if name in changes}
            if "state" in changes:
                values |= _new_state(connection, subscription_id, changes["state"], now)
            subscriptions.change_subscription(connection, subscription_id, updated_at=now, **values)
            row = self._shown(connection, subscription_id)
            if row["state"] == SubscriptionState.ACTIVE:
                wake(hub, connection, subscription_id)
        return row

    def rotate_subscription(self, subscription_id: str, keep_hours: float) -> Row:
        """A new signing secret, shown this once; the old one signs as well for `keep_hours`."""
        if not 0 <= keep_hours <= LONGEST_KEEP_HOURS:
            raise ConfigError("subscription.keep", hours=keep_hours, limit=int(LONGEST_KEEP_HOURS))
        hub = self._hub
        with hub.store.transaction() as connection:
            mine = self._locked(connection, subscription_id)
            keep_ms = int(keep_hours * _HOUR_MS)
            secret = rotate_secret(connection, hub.vault(), mine, keep_ms, hub.now_ms())
            return {**self._shown(connection, subscription_id), "secret": secret}

    def remove_subscription(self, subscription_id: str) -> Row:
        """Forget a subscription with its messages, its log and its secrets."""
        with self._hub.store.transaction() as connection:
            self._locked(connection, subscription_id)
            subscriptions.remove_subscription(connection, subscription_id)
        return {"id": subscription_id, "removed": True}

    # --- sending ------------------------------------------------------------------------------

    def test_subscription(self, subscription_id: str) -> Row:
        """Send a `hub.test` message now, once, whatever the state; how that went."""
        hub = self._hub
        began = hub.clock.now()
        with hub.store.reading() as connection:
            mine = self._known(connection, subscription_id)
            keys = signing_secrets(connection, hub.vault(), mine, to_ms(began))
        data = {"subscription": mine.id, "title": mine.title}
        body = encode_json({"type": TEST, "timestamp": began, "data": data})
        letter = Letter(f"msg_{uuid.uuid4().hex}", mine.url, body, keys)
        with Poster(hub.endpoints, hub.clock) as poster:
            tried = poster.post(letter)
        self._note_test(mine, letter, tried)
        return {
            "message": letter.id,
            "ok": tried.error is None,
            "status": tried.status,
            "took_ms": tried.took_ms,
            "error": None if tried.error is None else error_row(tried.error),
            "answer": tried.answer,
        }

    def resend(self, subscription_id: str, wanted: str) -> Row:
        """Send a message again under its id, as soon as the subscription is active.

        Raises ConfigError when its record has changed since: the older version would come last.
        """
        hub = self._hub
        now = hub.now_ms()
        with hub.store.transaction() as connection:
            self._locked(connection, subscription_id)
            found = _message(connection, subscription_id, wanted)
            if found.entity is None or found.record_key is None:
                raise ConfigError("message.not_resendable", message=wanted, id=subscription_id)
            if found.state != MessageState.SENDING:
                _check_newest(connection, found)
                messages.send_again(connection, found, now)
                subscriptions.change_subscription(connection, subscription_id, hold_until=0)
            wake(hub, connection, subscription_id)
            return _message_row(_message(connection, subscription_id, wanted))

    def _note_test(self, mine: Subscription, letter: Letter, tried: Tried) -> None:
        state = MessageState.DELIVERED if tried.error is None else MessageState.FAILED
        note = StoredMessage(
            id=letter.id,
            subscription_id=mine.id,
            event_type=TEST,
            entity=None,
            record_key=None,
            change_no=0,
            payload_text=letter.body.decode(),
            state=state.value,
            claimed_by=None,
            attempts=1,
            due_at=tried.began_at,
            created_at=tried.began_at,
        )
        with self._hub.store.transaction() as connection:
            if subscriptions.lock_subscription(connection, mine.id) is not None:
                messages.add_messages(connection, [note])
                messages.add_attempts(connection, [attempt_of(note, tried)])

    # --- helpers ------------------------------------------------------------------------------

    def _known(self, connection: sa.Connection, subscription_id: str) -> Subscription:
        found = None
        if storable(subscription_id):
            found = subscriptions.load_subscription(connection, subscription_id)
        if found is None:
            raise ConfigError("subscription.unknown", id=plain_text(subscription_id))
        return found

    def _locked(self, connection: sa.Connection, subscription_id: str) -> Subscription:
        self._known(connection, subscription_id)
        found = subscriptions.lock_subscription(connection, subscription_id)
        if found is None:
            raise ConfigError("subscription.unknown", id=subscription_id)
        return found

    def _shown(self, connection: sa.Connection, subscription_id: str) -> Row:
        found = self._known(connection, subscription_id)
        positions = subscriptions.positions_of(connection, subscription_id)
        told = [
            {
                "entity": entity,
                "change_no": number,
                "newest": records.last_change_no(connection, entity),
            }
            for entity, number in positions.items()
        ]
        return {**_row(connection, found, list(positions)), "positions": told}

    def _positions(
        self, connection: sa.Connection, entities: Sequence[str], *, from_beginning: bool
    ) -> dict[str, int]:
        """Where to begin with each entity. Raises ConfigError for one that nobody writes."""
        if not entities:
            raise ConfigError("subscription.no_entities")
        known, broken = self.known_entities(connection)
        for entity in entities:
            fits = storable(entity) and 0 < len(entity) <= _LONGEST_ENTITY
            if entity not in known and not (broken and fits):
                hint = suggestion(entity, known)
                raise ConfigError("subscription.entity", entity=entity, hint=hint)
        if from_beginning:
            return dict.fromkeys(entities, 0)
        return {entity: records.last_change_no(connection, entity) for entity in entities}

    def _change_entities(
        self, connection: sa.Connection, subscription_id: str, changes: Row, now_ms: int
    ) -> None:
        before = subscriptions.positions_of(connection, subscription_id)
        wanted = list(dict.fromkeys(changes["entities"]))
        from_beginning = bool(changes.get("from_beginning"))
        after = self._positions(connection, wanted, from_beginning=from_beginning)
        gone = [entity for entity in before if entity not in after]
        new = {entity: number for entity, number in after.items() if entity not in before}
        if gone:
            subscriptions.drop_positions(connection, subscription_id, gone)
            messages.supersede_entities(connection, subscription_id, gone, now_ms)
        subscriptions.add_positions(connection, subscription_id, new)


def _new_state(
    connection: sa.Connection, subscription_id: str, state: str, now_ms: int
) -> dict[str, Any]:
    allowed = (SubscriptionState.ACTIVE.value, SubscriptionState.PAUSED.value)
    if state not in allowed:
        raise ConfigError("subscription.state", state=state, hint=suggestion(state, allowed))
    if state == SubscriptionState.PAUSED:
        return {"state": state}
    messages.begin_anew(connection, subscription_id, now_ms)
    return {"state": state, "failing_since": None, "failures": 0, "hold_until": 0}


def _check_title(title: str | None) -> None:
    if title is not None and (len(title) > LONGEST_TITLE or not storable(title)):
        raise ConfigError("subscription.title", limit=LONGEST_TITLE)


def _message(connection: sa.Connection, subscription_id: str, wanted: str) -> StoredMessage:
    found = None
    if storable(wanted):
        found = messages.load_message(connection, subscription_id, wanted)
    if found is None:
        raise ConfigError("message.unknown", message=plain_text(wanted), id=subscription_id)
    return found


def _check_newest(connection: sa.Connection, one: StoredMessage) -> None:
    entity, key = one.entity or "", one.record_key or ""
    now = records.load_record(connection, entity, key)
    if now is not None and now["change_no"] > one.change_no:
        newest = message_id(one.subscription_id, entity, now["change_no"])
        raise ConfigError("message.outdated", message=one.id, key=key, newest=newest)


def _row(connection: sa.Connection, one: Subscription, entities: list[str]) -> Row:
    number, oldest = messages.unsent(connection, one.id)
    return {
        "id": one.id,
        "url": shown(one.url),
        "title": one.title,
        "entities": entities,
        "state": one.state,
        "error": _state_error(one),
        "failing_since": iso(from_ms(one.failing_since)),
        "hold_until": iso(from_ms(one.hold_until or None)),
        "sent": one.sent,
        "failed": one.failed,
        "unsent": number,
        "oldest_unsent_at": iso(from_ms(oldest)),
        "old_secret_until": iso(from_ms(one.old_secret_until)),
        "created_at": iso(from_ms(one.created_at)),
        "updated_at": iso(from_ms(one.updated_at)),
    }


def _state_error(one: Subscription) -> Row | None:
    url = shown(one.url)
    if one.state == SubscriptionState.DISABLED:
        since = iso(from_ms(one.failing_since))
        return error_row(ConfigError("subscription.disabled", id=one.id, url=url, since=since))
    if one.state == SubscriptionState.GONE:
        return error_row(ConfigError("subscription.gone", id=one.id, url=url))
    return None


def _message_row(one: StoredMessage) -> Row:
    waits = one.state == MessageState.PENDING
    settled = one.state in messages.SETTLED
    return {
        "id": one.id,
        "type": one.event_type,
        "entity": one.entity,
        "key": one.record_key,
        "change_no": one.change_no,
        "state": one.state,
        "attempts": one.attempts,
        "created_at": iso(from_ms(one.created_at)),
        "due_at": iso(from_ms(one.due_at)) if waits else None,
        "settled_at": iso(from_ms(one.due_at)) if settled else None,
        "body": decode_json(one.payload_text),
    }


def _attempt_row(one: messages.Attempt) -> Row:
    return {
        "message": one.message_id,
        "began_at": iso(from_ms(one.began_at)),
        "took_ms": one.took_ms,
        "status": one.status_code,
        "ok": one.error_text is None,
        "error": None if one.error_text is None else decode_json(one.error_text),
        "answer": one.answer_text,
    }
