"""Dead letters: looking at them, taking them up again, leaving them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.engine import replay_requests
from hub.engine.letter_rows import iso_ms, letter_row
from hub.engine.masking import MaskBook
from hub.engine.operations.base import Opened, Row, capped, moment_ms
from hub.engine.replay_requests import Wanted, find_letter
from hub.sdk.errors import ConfigError
from hub.sdk.loading import unknown_key
from hub.store.audit import list_audit, verify_audit
from hub.store.dead_letters import DeadLetterKind, LetterState
from hub.store.letter_queries import (
    LetterFilter,
    Place,
    count_reasons,
    list_letters,
    states_of_replay,
)
from hub.store.replays import Replay, find_replay, list_replays

FILTERS = (
    "flow", "connection", "sink", "kind", "state", "field", "code", "vendor_code", "text",
    "since", "until",
)  # fmt: skip
"""What a listing may ask for; each is text."""

Filters = Mapping[str, str | None]


class LetterOperations(Opened):
    """Everything that is done with dead letters, and the audit of who did it."""

    def dead_letters(self, filters: Filters, limit: int, after: str | None = None) -> Row:
        """Letters that the filters name, newest first; `next` goes on behind them.

        A page may hold fewer than asked for and still have a `next`: it looks at a bounded number
        of letters.
        """
        wanted = self._filter(filters)
        place = None if after is None else Place.read(after)
        if after is not None and place is None:
            raise ConfigError("dead_letter.after", value=after)
        with self._hub.store.reading() as connection:
            page = list_letters(connection, wanted, capped(limit), place)
        book = MaskBook(self._hub)
        items = [letter_row(one, book) for one in page.letters]
        return {"items": items, "next": None if page.after is None else str(page.after)}

    def dead_letter(self, letter_id: str) -> Row:
        """One dead letter with its payload. Raises ConfigError when there is none."""
        with self._hub.store.reading() as connection:
            found = find_letter(connection, letter_id)
        return letter_row(found, MaskBook(self._hub))

    def count_dead_letters(self, filters: Filters) -> Row:
        """How many letters for which reason."""
        with self._hub.store.reading() as connection:
            reasons = count_reasons(connection, self._filter(filters))
        return {"total": sum(one["letters"] for one in reasons), "reasons": reasons}

    def replay_letter(self, letter_id: str, wanted: Mapping[str, Any], *, actor: str) -> Row:
        """Take one letter up again. `wanted`: `edit`, `set`, `decision`, `target_id`."""
        how = Wanted(
            edit=wanted.get("edit"),
            changes=wanted.get("set"),
            decision=wanted.get("decision"),
            target_id=wanted.get("target_id"),
        )
        return self.replay(replay_requests.ask_replay(self._hub, letter_id, how, actor))

    def replay_letters(
        self, filters: Filters, per_second: float | None, *, dry_run: bool, actor: str
    ) -> Row:
        """Take up every open letter the filters name; with `dry_run` only say how many."""
        wanted = self._filter({**filters, "state": "open"})
        if dry_run:
            if wanted.flow is None:
                raise ConfigError("dead_letter.needs_flow")
            self._hub.catalogue.flow(wanted.flow)
            return {**self.count_dead_letters({**filters, "state": "open"}), "dry_run": True}
        replay_id = replay_requests.ask_replays(self._hub, wanted, per_second, actor)
        return self.replay(replay_id)

    def replays(self, limit: int) -> list[Row]:
        """The newest replays, newest first."""
        with self._hub.store.reading() as connection:
            return [replay_row(one) for one in list_replays(connection, capped(limit))]

    def replay(self, replay_id: str) -> Row:
        """One replay, and where its letters stand now."""
        found = self._replay(replay_id)
        with self._hub.store.reading() as connection:
            states = states_of_replay(connection, found.id)
        return {**replay_row(found), "letters": states}

    def cancel_replay(self, replay_id: str, *, actor: str) -> Row:
        """Stop a replay behind the chunk it is at."""
        found = self._replay(replay_id)
        replay_requests.cancel_replay(self._hub, found, actor)
        return self.replay(found.id)

    def discard_letter(self, letter_id: str, reason: str, *, actor: str) -> Row:
        """Leave one letter out for good."""
        found = replay_requests.discard_one(self._hub, letter_id, reason, actor)
        return self.dead_letter(found)

    def discard_letters(self, filters: Filters, reason: str, *, actor: str) -> Row:
        """Leave out every open letter the filters name."""
        wanted = self._filter({**filters, "state": "open"})
        number = replay_requests.discard_all(self._hub, wanted, reason, actor)
        return {"discarded": number}

    def audit(self, filters: Filters, limit: int, after: int | None = None) -> Row:
        """Who changed what, newest first; `next` goes on behind them."""
        size = capped(limit)
        for name in filters:
            if name not in ("actor", "action", "subject"):
                raise unknown_key("filter", name, name, ("actor", "action", "subject"))
        with self._hub.store.reading() as connection:
            rows = list_audit(
                connection, size, after, filters.get("actor"), filters.get("action"),
                filters.get("subject"),
            )  # fmt: skip
        items = [{**one, "happened_at": iso_ms(one["happened_at"])} for one in rows]
        more = len(rows) == size and rows[-1]["entry_no"] > 1
        return {"items": items, "next": rows[-1]["entry_no"] if more else None}

    def verify_audit(self) -> Row:
        """Whether the audit is as it was written; else the first entry that is not."""
        with self._hub.store.reading() as connection:
            verdict = verify_audit(connection)
        return {
            "ok": verdict.broken is None,
            "entries": verdict.entries,
            "broken": verdict.broken,
            "newest_hash": verdict.newest_hash,
        }

    def _replay(self, replay_id: str) -> Replay:
        with self._hub.store.reading() as connection:
            found = find_replay(connection, replay_id)
        if found is None:
            raise ConfigError("replay.unknown", replay=replay_id)
        return found

    def _filter(self, filters: Filters) -> LetterFilter:
        given = {name: text for name, text in filters.items() if text is not None}
        for name in given:
            if name not in FILTERS:
                raise unknown_key("filter", name, name, FILTERS)
        state = given.pop("state", "open")
        _check("state", state, [*LetterState, "all"])
        if "kind" in given:
            _check("kind", given["kind"], list(DeadLetterKind))
        since, until = given.pop("since", None), given.pop("until", None)
        connection = given.get("connection")
        return LetterFilter(
            **given,
            state=None if state == "all" else state,
            flows=None if connection is None else self._flows_of(connection),
            since_ms=None if since is None else moment_ms(self._hub, "since", since),
            until_ms=None if until is None else moment_ms(self._hub, "until", until),
        )

    def _flows_of(self, connection: str) -> tuple[str, ...]:
        flows, _ = self._hub.catalogue.all()
        return tuple(
            one.id for one in flows if connection in (one.source.connection, one.target.connection)
        )


def replay_row(replay: Replay) -> Row:
    """A replay as every face shows it. An edit shows only that there is one."""
    asked = {
        name: value
        for name, value in replay.asked.items()
        if value is not None and name not in ("edited", "flows")
    }
    return {
        "id": replay.id,
        "flow": replay.flow_id,
        "letter": replay.letter_id,
        "state": replay.state,
        "asked": asked,
        "edited": replay.asked.get("edited") is not None,
        "per_second": replay.per_second,
        "requested_by": replay.requested_by,
        "total": replay.total,
        "replayed": replay.replayed,
        "passed_over": replay.passed_over,
        "error": replay.error_text,
        "created_at": iso_ms(replay.created_at),
        "finished_at": iso_ms(replay.finished_at),
    }


def _check(name: str, value: str, known: list[Any]) -> None:
    names = [str(one) for one in known]
    if value not in names:
        raise ConfigError("dead_letter.choice", name=name, value=value, known=", ".join(names))
