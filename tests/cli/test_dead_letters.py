"""`hub dead-letters` and `hub audit`: alone and beside a server, the same answers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.cli.conftest import TOTAL, Hub, edit
from tests.cli.test_serve import serving, steady

FLOW = "shop_items"
REJECTED = len([n for n in range(TOTAL) if n % 3 == 0])


@pytest.fixture
def letters(hub: Hub, deployment: Path) -> list[str]:
    """Ids of the letters of items that are out of stock."""
    edit(
        f"mappings/flows/{FLOW}.yaml",
        "name: name | trim",
        'name: name | trim\n    stock: {expr: "stock / stock * stock"}',
    )
    assert hub("flow", "run", FLOW).code == 0
    found = hub("dead-letters", "list", "--limit", "500", "--json").json
    assert len(found) == REJECTED
    return [one["id"] for one in found]


def test_a_summary_counts_by_reason(hub: Hub, letters: list[str]) -> None:
    found = hub("dead-letters", "summary", "--json").json
    assert found["total"] == REJECTED
    assert [one["letters"] for one in found["reasons"]] == [REJECTED]
    assert str(REJECTED) in hub("dead-letters", "summary").out


def test_pages_go_on_behind_each_other(hub: Hub, letters: list[str]) -> None:
    first = hub("dead-letters", "list", "--limit", "50", "--json")
    after = first.json[-1]["cursor"]
    assert f"--after {after}" in first.err
    rest = hub("dead-letters", "list", "--limit", "500", "--after", after, "--json").json
    assert [one["id"] for one in [*first.json, *rest]] == letters


def test_an_edited_letter_arrives(hub: Hub, letters: list[str]) -> None:
    result = hub("dead-letters", "replay", letters[0], "--set", "stock=5", "--json", "--as", "wang")
    assert result.code == 0, result.err
    assert (result.json["letter"]["state"], result.json["letter"]["closed_by"]) == (
        "resolved", "wang",
    )  # fmt: skip
    assert hub("records", "count", "shop_item", "--json").json["count"] == TOTAL - REJECTED + 1
    (entry,) = hub("audit", "list", "--json").json
    assert (entry["actor"], entry["action"]) == ("wang", "dead_letter.replay")
    assert hub("audit", "verify").code == 0


def test_a_letter_edited_by_file_arrives(hub: Hub, letters: list[str]) -> None:
    payload = hub("dead-letters", "show", letters[0], "--json").json["payload"]
    text = str({**payload, "stock": 2}).replace("'", '"')
    result = hub("dead-letters", "replay", letters[0], "--edit", "-", "--json", stdin=text)
    assert result.code == 0, result.err
    assert result.json["letter"]["edited"]["stock"] == 2


def test_a_letter_that_fails_again_is_exit_code_1(hub: Hub, letters: list[str]) -> None:
    result = hub("dead-letters", "replay", letters[0])
    assert (result.code, len(result.errors)) == (1, 1)
    assert "open again" in result.errors[0]


def test_all_letters_of_a_flow_go_again(hub: Hub, letters: list[str]) -> None:
    dry = hub("dead-letters", "replay", "--all", "--flow", FLOW, "--dry-run", "--json")
    assert dry.json["total"] == REJECTED
    edit(f"mappings/flows/{FLOW}.yaml", "stock / stock * stock", "stock")
    result = hub("dead-letters", "replay", "--all", "--flow", FLOW, "--json")
    assert result.code == 0, result.err
    assert (result.json["replayed"], result.json["letters"]) == (REJECTED, {"resolved": REJECTED})
    assert hub("records", "count", "shop_item", "--json").json["count"] == TOTAL
    (listed,) = hub("dead-letters", "replays", "--json").json
    assert listed["state"] == "done"


def test_a_discard_keeps_the_letter_away_from_the_next_run(hub: Hub, letters: list[str]) -> None:
    assert hub("dead-letters", "discard", letters[0], "--reason", "obsolete").code == 0
    done = hub("dead-letters", "discard", "--all", "--flow", FLOW, "--reason", "all", "--json")
    assert done.json == {"discarded": REJECTED - 1}
    again = hub("flow", "run", FLOW, "--full", "--json").json
    assert (again["counts"]["rejected"], again["counts"]["skipped"]) == (0, REJECTED)
    assert hub("dead-letters", "list", "--json").json == []


def test_a_tampered_audit_is_exit_code_1_and_names_the_entry(
    hub: Hub, letters: list[str], deployment: Path
) -> None:
    for letter in letters[:3]:
        hub("dead-letters", "discard", letter, "--reason", "x")
    engine = sa.create_engine(f"sqlite:///{deployment}/hub.db")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE hub_audit SET actor = 'nobody' WHERE entry_no = 2"))
    engine.dispose()
    result = hub("audit", "verify", "--json")
    assert (result.code, result.json["broken"]) == (1, 2)
    assert "entry 2" in result.errors[0]


def test_without_waiting_the_next_process_that_works_does_it(
    hub: Hub, letters: list[str], deployment: Path
) -> None:
    asked = hub("dead-letters", "replay", letters[0], "--set", "stock=5", "--no-wait", "--json")
    assert (asked.code, asked.json["state"]) == (0, "running")
    with serving(deployment):
        deadline = time.monotonic() + 20
        while hub("dead-letters", "show", letters[0], "--json").json["state"] != "resolved":
            assert time.monotonic() < deadline
            time.sleep(0.2)


COMMANDS = [
    "dead-letters list --limit 3 --json",
    "dead-letters list --limit 3",
    "dead-letters list --text 99 --json",
    "dead-letters list --kind held --json",
    "dead-letters list --since yesterday",
    "dead-letters list --after nonsense",
    "dead-letters summary --json",
    "dead-letters summary --flow nothing",
    "dead-letters show 000000",
    "dead-letters replay 000000",
    "dead-letters replay --all --flow nothing",
    "dead-letters replay --all",
    "dead-letters replay --all --flow shop_items --dry-run --json",
    "dead-letters replays --json",
    "dead-letters replays 000000",
    "dead-letters discard 000000 --reason x",
    "dead-letters discard --all --reason x",
    "audit list --json",
    "audit verify --json",
    "audit verify",
]


def test_the_same_with_and_without_a_server(hub: Hub, letters: list[str], deployment: Path) -> None:
    commands = [*COMMANDS, f"dead-letters show {letters[0]} --json"]
    commands += [f"dead-letters discard {letters[0]}", f"dead-letters replay {letters[0]} --landed"]
    alone = {command: steady(hub(*command.split())) for command in commands}
    with serving(deployment):
        beside = {command: steady(hub(*command.split())) for command in commands}
        done = hub("dead-letters", "replay", letters[0], "--set", "stock=5", "--as", "王五")
        assert done.code == 0, done.err
        assert hub("audit", "list", "--json").json[0]["actor"] == "王五"
    assert beside == alone


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["list", "--kind", "lost"], 2),
        (["replay"], 2),
        (["replay", "abcdef", "--all"], 2),
        (["replay", "abcdef", "--flow", "x"], 2),
        (["replay", "abcdef", "--landed", "--send-again"], 2),
        (["replay", "--all", "--flow", "x", "--set", "a=b"], 2),
        (["replay", "abcdef", "--set", "novalue"], 2),
        (["replay", "abcdef", "--edit", "missing.json"], 1),
        (["replays", "--cancel"], 2),
        (["discard"], 2),
    ],
)
def test_wrong_use_is_one_clear_line(
    hub: Hub, deployment: Path, arguments: list[str], code: int
) -> None:
    result = hub("dead-letters", *arguments)
    assert (result.code, len(result.errors)) == (code, 1), result.err


def test_an_edit_nested_beyond_reason_is_one_clear_line(hub: Hub, letters: list[str]) -> None:
    result = hub("dead-letters", "replay", letters[0], "--edit", "-", stdin="[" * 100_000)
    assert (result.code, len(result.errors)) == (1, 1)
    assert "cannot be read as JSON" in result.err
