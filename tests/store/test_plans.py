"""Questions about some keys are answered key by key, however large the table has become.

SQLite decides without figures about the tables, and would rather walk an index over a state or an
id than look up a thousand keys. A walk makes every page and every settlement dearer, the more was
done before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hub.store import dead_letters, deliveries, ledger, waiting
from hub.store.database import Store, open_store
from hub.store.migrate import migrate
from hub.store.waiting import Wait

LINK = "hub_link", "(flow_id=? AND source_key=?)"
DELIVERY = "hub_delivery", "(sink_ref=? AND target_key=?)"
INTENT = "hub_intent", "(sink_ref=? AND target_key=?)"
LETTER = "hub_dead_letter", "(id=?)"
WAITING = "hub_waiting", "(scope_name=? AND item_name=? AND item_key=?)"

WISH = {
    "target_key": "k",
    "flow_id": "f",
    "source_key": "k",
    "run_id": 1,
    "op": "upsert",
    "revision": 1,
    "payload_text": "{}",
}
CONFIRMED = {"flow_id": "f", "source_key": "k", "revision": 1, "target_id": "1"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/hub.db")
    migrate(opened)
    yield opened
    opened.close()


def claim(connection: Connection) -> list[deliveries.Intent]:
    deliveries.put_deliveries(connection, "crm/a", [WISH], 1)
    return deliveries.claim(connection, "crm/a", 10, "me", 5)


def give_back(connection: Connection) -> None:
    deliveries.give_back(connection, claim(connection), 9, "later")


def settle(connection: Connection) -> None:
    claimed = claim(connection)
    deliveries.still_open(connection, claimed)
    deliveries.close_intents(connection, "crm/a", ["k"])
    ledger.confirm_links(connection, [CONFIRMED])
    dead_letters.settle_replayed(connection, [("f", "k")], 5)


def arrive(connection: Connection) -> None:
    waiting.put_waits(connection, [Wait("f", "k", "crm", "a", "k", 0)])
    waiting.mark_ready(connection, "crm", "a", ["k"])


ASKED: dict[str, tuple[Callable[[Connection], Any], set[tuple[str, str]]]] = {
    "links of a page": (lambda c: ledger.links_of(c, "f", ["k"]), {LINK}),
    "ids that a page refers to": (lambda c: ledger.target_ids(c, ["f", "g"], ["k"]), {LINK}),
    "records of a page met again": (lambda c: ledger.mark_seen(c, "f", ["k"], 1), {LINK}),
    "letters of what went through": (
        lambda c: dead_letters.resolve_dead_letters(c, "f", ["k"], 1),
        {LETTER},
    ),
    "a claim": (claim, {LINK, DELIVERY}),
    "a wish given back": (give_back, {LINK, DELIVERY, INTENT}),
    "a settlement": (settle, {LINK, DELIVERY, INTENT, LETTER}),
    "an arrival": (arrive, {WAITING}),
}


@pytest.mark.parametrize("name", sorted(ASKED))
def test_keys_are_looked_up_one_by_one(store: Store, name: str) -> None:
    call, expected = ASKED[name]
    plans = plans_of(store, call)
    by_key = {
        (table, how) for table, how in expected if any(_looks_up(p, table, how) for p in plans)
    }
    assert by_key == expected
    tables = dict(expected)
    walked = [
        step
        for steps in plans
        if any("json_each" in step or "VIRTUAL" in step for step in steps)
        for step in steps
        for table, how in tables.items()
        if f" {table} " in step and how not in step
    ]
    assert walked == []


def _looks_up(steps: list[str], table: str, how: str) -> bool:
    return any(f" {table} " in step and how in step for step in steps)


def plans_of(store: Store, call: Callable[[Connection], Any]) -> list[list[str]]:
    """How SQLite goes about each statement of the call."""
    seen: list[tuple[str, Any]] = []

    def keep(_c: Any, _k: Any, text: str, given: Any, _x: Any, many: bool) -> None:
        seen.append((text, given[0] if many else given))

    with store.transaction() as connection:
        sa.event.listen(connection, "before_cursor_execute", keep)
        call(connection)
        driver: Any = connection.connection.driver_connection
        return [
            [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {text}", given)]
            for text, given in seen
            if text.lstrip().startswith(("SELECT", "UPDATE", "DELETE"))
        ]


def test_a_claim_on_postgresql_does_not_compare_every_delivery_with_every_open_write(
    postgres_url: str,
) -> None:
    store = open_store(postgres_url)
    migrate(store)
    seen: list[tuple[str, Any]] = []
    with store.transaction() as connection:
        wishes = [{**WISH, "target_key": f"k{n}", "source_key": f"k{n}"} for n in range(600)]
        deliveries.put_deliveries(connection, "crm/a", wishes, 1)
        deliveries.claim(connection, "crm/a", 300, "me", 5)
        sa.event.listen(
            connection,
            "before_cursor_execute",
            lambda _c, _k, text, given, *_: seen.append((text, given)),
        )
        assert len(deliveries.claim(connection, "crm/a", 300, "me", 5)) == 300
        text, given = next(one for one in seen if "ORDER BY hub_delivery.due_at" in one[0])
        driver: Any = connection.connection.driver_connection
        plan = "\n".join(row[0] for row in driver.execute(f"EXPLAIN {text}", given))
    store.close()
    assert "hashed SubPlan" in plan
    assert "Nested Loop" not in plan
