"""What the commands print, for people and as JSON."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

from hub.cli.main import run as run_command
from tests.cli.conftest import TOTAL, Hub, Shop, edit, hub_process

FLOW = "mappings/flows/shop_items.yaml"


def reject_some() -> None:
    """The flow now refuses rows whose stock is not known."""
    edit(
        FLOW,
        "name: name | trim",
        "name: name | trim\n    stock: {enum: {1: one, 2: two}, from: stock}",
    )


# --- flows and runs ---------------------------------------------------------------------------


def test_a_run_reports_its_counts_and_a_second_one_writes_nothing(
    hub: Hub, deployment: Path
) -> None:
    first = hub("flow", "run", "shop_items", "--json")
    assert first.code == 0, first.err
    assert first.json["state"] == "done"
    assert first.json["total"] == TOTAL
    assert first.json["resumed"] is False
    counts = {name: first.json["counts"][name] for name in ("read", "mapped", "written")}
    assert counts == {"read": TOTAL, "mapped": TOTAL, "written": TOTAL}
    second = hub("flow", "run", "shop_items", "--json").json["counts"]
    assert (second["written"], second["unchanged"]) == (0, TOTAL)


def test_a_run_prints_a_table_for_people(hub: Hub, deployment: Path) -> None:
    result = hub("flow", "run", "shop_items")
    assert result.code == 0
    heading = [line for line in result.out.splitlines() if "unchanged" in line]
    assert heading[0].split() == [
        "flow", "state", "read", "mapped", "written", "unchanged", "rejected", "held", "skipped"
    ]  # fmt: skip
    assert "run 1 started (full)" in result.err


def test_waiting_no_longer_says_that_the_run_goes_on_and_the_next_one_does(
    hub: Hub, deployment: Path, shop: Shop
) -> None:
    shop.misbehave("delay", path="/items", times=1, after=1, seconds=6)
    given_up = hub("flow", "run", "shop_items", "--wait", "3", "--json")
    assert given_up.code == 1
    assert "goes on with it" in given_up.errors[0]
    read_before = shop.count("/items")
    resumed = hub("flow", "run", "shop_items", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["id"] == given_up.json["id"]
    assert resumed.json["resumed"] is True
    assert "was not finished" in resumed.err
    assert shop.count("/items") - read_before <= 3
    assert resumed.json["counts"]["written"] == TOTAL


def test_a_dry_run_writes_nothing(hub: Hub, deployment: Path, shop: Shop) -> None:
    report = hub("flow", "run", "shop_items", "--dry-run", "--pages", "2", "--json").json
    assert report["pages"] == 2
    assert report["counts"]["read"] == 200
    assert report["sample"][0] == {"id": 0, "name": "轴承 0"}
    assert report["complete"] is False
    assert hub("runs", "--json").json == []
    assert hub("records", "count", "shop_item", "--json").json["count"] == 0


def test_refused_records_are_dead_letters_that_can_be_looked_at(hub: Hub, deployment: Path) -> None:
    reject_some()
    result = hub("flow", "run", "shop_items", "--json")
    assert result.code == 0
    rejected = result.json["counts"]["rejected"]
    assert rejected == len([n for n in range(TOTAL) if n % 3 == 0])
    assert "hub dead-letters list --flow shop_items" in result.err
    letters = hub("dead-letters", "list", "--flow", "shop_items", "--limit", "500", "--json").json
    assert len(letters) == rejected
    shown = hub("dead-letters", "show", letters[0]["id"], "--json").json
    assert shown == letters[0]
    assert shown["problems"][0]["field"] == "stock"
    assert shown["payload"]["stock"] == 0
    listed = hub("dead-letters", "list").out
    found = next(line for line in listed.splitlines() if "stock" in line).split()[0]
    assert hub("dead-letters", "show", found).code == 0
    assert hub("dead-letters", "show", "nothing").code == 1


def test_runs_are_listed_newest_first(hub: Hub, deployment: Path) -> None:
    hub("flow", "run", "shop_items")
    hub("flow", "run", "shop_items", "--full")
    assert [run["id"] for run in hub("runs", "--json").json] == [2, 1]
    assert [run["id"] for run in hub("runs", "--limit", "1", "--json").json] == [2]
    assert hub("runs", "--flow", "other", "--json").json == []
    assert hub("runs", "1", "--json").json["id"] == 1
    assert hub("runs", "3").code == 1


def test_a_run_is_listed_with_an_account_that_adds_up(hub: Hub, deployment: Path) -> None:
    reject_some()
    hub("flow", "run", "shop_items")
    rejected = len([n for n in range(TOTAL) if n % 3 == 0])
    account = f"{TOTAL} read = {TOTAL - rejected} written + {rejected} rejected"
    assert account in hub("runs").out
    shown = hub("runs", "show", "1")
    assert account in shown.out
    assert "rows the source says it has" in shown.out
    assert hub("runs", "show", "1", "--json").json == hub("runs", "1", "--json").json
    assert f"读取 {TOTAL} = " in hub("--lang", "zh", "runs").out
    assert f"run 2: {TOTAL} read = " in hub("flow", "run", "shop_items").err


@pytest.mark.parametrize(
    "words", [["show"], ["show", "x"], ["1", "2"], ["shw", "1"], ["show", "-1"]]
)
def test_a_run_that_is_no_number_is_wrong_usage(
    hub: Hub, deployment: Path, words: list[str]
) -> None:
    result = hub("runs", *words)
    assert (result.code, len(result.errors)) == (2, 1)


def test_deletes_are_confirmed_with_a_share(hub: Hub, deployment: Path, shop: Shop) -> None:
    edit(FLOW, "to: {entity: shop_item}", "to: {entity: shop_item, delete: delete}")
    hub("flow", "run", "shop_items")
    shop.total = 50
    hub("flow", "run", "shop_items")
    tripped = hub("flow", "run", "shop_items")
    assert (tripped.code, len(tripped.errors)) == (1, 1)
    assert "hub flow run shop_items --allow-deletes 80%" in tripped.errors[0]
    for wrong in ("many", "101%", "-1"):
        assert hub("flow", "run", "shop_items", f"--allow-deletes={wrong}").code == 2
    confirmed = hub("flow", "run", "shop_items", "--allow-deletes", "80%", "--json")
    assert confirmed.code == 0, confirmed.err
    assert confirmed.json["counts"]["removed"] == TOTAL - 50
    assert hub("records", "count", "shop_item", "--json").json["count"] == 50
    assert f"50 read + {TOTAL - 50} removed = " in hub("runs").out


def test_verify_lists_the_differences_and_exits_with_1(
    hub: Hub, deployment: Path, shop: Shop
) -> None:
    hub("flow", "run", "shop_items")
    fine = hub("flow", "verify", "shop_items")
    assert (fine.code, fine.errors) == (0, [])
    shop.total = TOTAL - 1
    edit(FLOW, "name: name | trim", "name: name | trim | upper")
    lines = hub("flow", "verify", "shop_items", "--json")
    assert lines.code == 1
    assert "1 extra" in lines.errors[0]
    assert "--repair" not in lines.errors[0]  # it writes, it takes nothing away
    rows = [msgspec.json.decode(line) for line in lines.out.splitlines()]
    assert [row["kind"] for row in rows] == ["extra", "summary"]
    assert (rows[0]["key"], rows[0]["reason"]) == (str(TOTAL - 1), "gone")
    assert rows[-1]["counts"]["equal"] == TOTAL - 1
    told = hub("flow", "verify", "shop_items")
    assert "the source no longer has it" in told.out
    assert "来源中已不存在" in hub("--lang", "zh", "flow", "verify", "shop_items").out
    assert hub("flow", "verify", "nothing").code == 1


def test_records_are_handed_out_in_order_from_a_number_on(hub: Hub, deployment: Path) -> None:
    hub("flow", "run", "shop_items")
    first = hub("records", "list", "shop_item", "--limit", "100", "--json").json
    assert len(first["records"]) == 100
    rest = hub(
        "records", "list", "shop_item", "--since", str(first["next"]), "--limit", "1000", "--json"
    ).json
    numbers = [row["change_no"] for row in [*first["records"], *rest["records"]]]
    assert numbers == list(range(1, TOTAL + 1))
    assert rest["more"] is False


def test_an_entity_nobody_writes_is_an_error_with_the_nearest_one(
    hub: Hub, deployment: Path
) -> None:
    result = hub("records", "count", "shop_itm", "--json")
    assert result.code == 1
    assert result.out == ""
    assert "shop_item" in result.errors[0]


def test_explain_tells_where_a_field_comes_from(hub: Hub, deployment: Path) -> None:
    report = hub("flow", "explain", "shop_items", "--field", "name", "--json").json
    assert report["from"] == "shop/items"
    assert [(one["field"], one["sources"]) for one in report["fields"]] == [("name", ["name"])]
    assert hub("flow", "explain", "shop_items", "--field", "nam").code == 1
    assert "shop/items → hub/shop_item" in hub("flow", "explain", "shop_items").out


def test_lint_runs_the_tests_of_a_mapping(hub: Hub, deployment: Path) -> None:
    assert hub("flow", "lint", "shop_items").code == 0
    edit(FLOW, "to:", "  tests: [{in: {id: 1, name: a}, out: {name: b}}]\nto:")
    result = hub("flow", "lint", "shop_items", "--json")
    assert result.code == 1
    assert result.json[0]["problems"][0]["code"] == "mapping.test_failed"


def test_lint_notices_a_stream_that_is_not_there(hub: Hub, deployment: Path) -> None:
    edit(FLOW, "stream: items", "stream: itemz")
    result = hub("flow", "lint", "shop_items")
    assert result.code == 1
    assert "itemz" in result.errors[0]


# --- map --------------------------------------------------------------------------------------


def test_map_streams_records_and_puts_the_bad_ones_aside(hub: Hub, deployment: Path) -> None:
    given = '\ufeff{"id": 1, "name": " 轴承 "}\n\n{"name": "no id"}\n{"id": 3, "name": null}\n'
    result = hub("map", "shop_items", stdin=given)
    assert result.code == 0
    assert [msgspec.json.decode(line) for line in result.out.splitlines()] == [
        {"id": 1, "name": "轴承"},
        {"id": 3, "name": None},
    ]
    aside = [msgspec.json.decode(line) for line in result.err.splitlines()]
    assert [(one["line"], one["outcome"]) for one in aside] == [(3, "rejected")]
    assert aside[0]["problems"][0]["field"] == "id"


def test_map_goes_on_behind_a_line_that_is_no_json_and_fails_at_the_end(
    hub: Hub, deployment: Path
) -> None:
    given = b'{"id": 1}\nnot json\n[1]\n{"id": "\xff"}\n{"id": 2}\n'
    result = hub("map", "shop_items", stdin=given)
    assert result.code == 1
    assert len(result.out.splitlines()) == 2
    lines = result.err.splitlines()
    assert [msgspec.json.decode(line)["line"] for line in lines[:-1]] == [2, 3, 4]
    assert lines[-1] == "error: 3 lines could not be read"


def test_map_keeps_decimals_exact_and_folds_groups(hub: Hub, tmp_path: Path) -> None:
    given = "\n".join(
        f'{{"whcode": "W1", "invcode": "A", "qty": "{qty}"}}' for qty in ("0.1", "0.2")
    )
    result = hub("map", "u8_stock_to_crm", stdin=given)
    assert result.code == 0, result.err
    assert msgspec.json.decode(result.out)["on_hand"] == "0.300000"


# --- the rest ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "connector list",
        "connector lint",
        "connector check shop",
        "connection list",
        "flow list",
        "flow lint",
        "flow explain shop_items",
        "runs",
        "records count shop_item",
        "records list shop_item",
        "dead-letters list",
        "doctor",
        "migrate",
    ],
)
def test_json_is_all_that_stands_on_standard_output(
    hub: Hub, deployment: Path, command: str
) -> None:
    result = hub(*command.split(), "--json")
    assert result.code == 0, result.err
    msgspec.json.decode(result.out)
    assert "error" not in result.err
    assert hub(*command.split()).code == 0


def test_a_secret_is_kept_encrypted_and_used(hub: Hub, deployment: Path, shop: Shop) -> None:
    edit("connectors/shop/connector.yaml", "# token: secret ", "token: secret #")
    edit("connectors/shop/connector.yaml", "# auth: {kind: bearer} ", "auth: {kind: bearer} #")
    done = hub("connection", "set-secret", "shop", "token", "--json", stdin="pass-word-7\n")
    assert done.json == {"connection": "shop", "field": "token", "stored": True}
    assert hub("flow", "run", "shop_items", "--dry-run").code == 0
    assert hub("connector", "check", "shop").code == 0
    assert {r.headers["authorization"] for r in shop.requests} == {"Bearer pass-word-7"}
    assert b"pass-word-7" not in Path("hub.db").read_bytes()
    assert "pass-word-7" not in done.out + done.err
    assert hub("connection", "set-secret", "shop", "token").code == 1
    assert hub("connection", "set-secret", "shop", "base_url", stdin="x").code == 1


def test_doctor_names_what_is_broken(hub: Hub, deployment: Path) -> None:
    assert hub("doctor", "--json").json["ok"] is True
    edit("connections.yaml", "connector: shop", "connector: shup")
    result = hub("doctor", "--json")
    assert result.code == 1
    broken = [(one["check"], one["name"]) for one in result.json["checks"] if not one["ok"]]
    assert broken == [("connection", "shop")]


def test_the_folder_and_language_may_stand_anywhere(hub: Hub, deployment: Path) -> None:
    os.chdir("/")
    folder = str(deployment)
    assert hub("runs", "--dir", folder, "--json").json == []
    assert hub("--dir", folder, "runs", "--json").json == []
    assert hub("runs", f"--dir={folder}", "--lang", "zh").out.split()[0] == "运行"


def test_the_version_is_shown(hub: Hub) -> None:
    result = hub("--version")
    assert (result.code, result.out.strip()) == (0, f"hub {version('integration-hub')}")


def test_a_new_connector_is_never_written_over_another(hub: Hub, deployment: Path) -> None:
    before = Path("connectors/shop/connector.yaml").read_text(encoding="utf-8")
    assert hub("connector", "new", "shop").code == 1
    assert hub("connector", "new", "My-Shop").code == 1
    assert hub("connector", "new", "two", "--base-url", 'http://x"y').code == 1
    assert Path("connectors/shop/connector.yaml").read_text(encoding="utf-8") == before
    assert not Path("connectors/two").exists()


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from hub.cli.main import app\n"
        "heavy = {'sqlalchemy', 'dbos', 'httpx', 'pydantic', 'fastapi', 'yaml', 'rich.table'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    result = hub_process("--help")
    assert result.code == 0
    assert "flow" in result.out


def test_a_reader_that_has_seen_enough_gets_no_complaint(hub: Hub, deployment: Path) -> None:
    command = f"{sys.executable} -m hub.cli connector list --json | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)
    assert done.stdout == b"["
    assert b"Traceback" not in done.stderr


def test_a_terminal_sees_a_progress_bar(hub: Hub, deployment: Path, shop: Shop) -> None:
    shop.misbehave("delay", path="/items", times=1, after=1, seconds=1)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hub.cli", "flow", "run", "shop_items", "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while process.poll() is None or shown == b"":
        try:
            shown += os.read(ours, 4096)
        except OSError:
            break
        time.sleep(0.01)
    assert process.stdout is not None
    counts = msgspec.json.decode(process.stdout.read())["counts"]
    process.stdout.close()
    assert process.wait(30) == 0
    os.close(ours)
    assert counts["read"] == TOTAL
    assert "reading" in shown.decode("utf-8", "replace")


def test_every_text_of_the_command_line_exists_in_both_languages() -> None:
    from hub.sdk.messages import templates

    assert templates("en").keys() == templates("zh").keys()
    assert run_command(["--lang", "zh", "--version"]) == 0
