"""Bad input ends in one clear line, exit code 1 or 2, and nothing half-written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hub.sdk.testing import Fault
from tests.cli.conftest import Hub, Result, Shop, edit, hub_process

CONNECTOR = "connectors/shop/connector.yaml"
FLOW = "mappings/flows/shop_items.yaml"


def row_counts(folder: Path) -> dict[str, int]:
    """How many rows each of the hub's tables has."""
    database = sqlite3.connect(folder / "hub.db")
    try:
        names = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'hub_%'"
        ).fetchall()
        return {
            name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608
            for (name,) in names
        }
    finally:
        database.close()


def one_line(result: Result, *words: str) -> None:
    """The command failed with exactly one error line that has all the words, and no traceback."""
    assert result.code in (1, 2), result
    assert len(result.errors) == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.errors[0], result.errors[0]


# --- before anything starts -------------------------------------------------------------------


def test_an_unknown_connector_is_named_with_the_nearest_one(hub: Hub, deployment: Path) -> None:
    before = Path("connections.yaml").read_text(encoding="utf-8")
    one_line(hub("connection", "add", "other", "--connector", "shopp"), "shopp", "shop")
    assert Path("connections.yaml").read_text(encoding="utf-8") == before


def test_an_unknown_connector_in_the_file_stops_the_run(hub: Hub, deployment: Path) -> None:
    edit("connections.yaml", "connector: shop", "connector: shup")
    before = row_counts(deployment)
    one_line(hub("flow", "run", "shop_items"), "shup", "shop")
    assert row_counts(deployment) == before


def test_a_missing_secret_names_the_command_that_sets_it(hub: Hub, deployment: Path) -> None:
    edit(CONNECTOR, "# token: secret ", "token: secret #")
    before = row_counts(deployment)
    result = hub("flow", "run", "shop_items")
    one_line(result, "token", "hub connection set-secret shop token")
    assert row_counts(deployment) == before


def test_a_secret_in_the_environment_that_is_not_set_is_named(hub: Hub, deployment: Path) -> None:
    edit(CONNECTOR, "# token: secret ", "token: secret #")
    edit("connections.yaml", "connector: shop", "connector: shop\n  config: {token: env:NOPE_X}")
    one_line(hub("connector", "check", "shop"), "1 of 1 checks")
    one_line(hub("flow", "run", "shop_items"), "NOPE_X")


def test_a_yaml_typo_gets_a_suggestion(hub: Hub, deployment: Path) -> None:
    edit(FLOW, "mapping:", "maping:")
    before = row_counts(deployment)
    one_line(hub("flow", "run", "shop_items"), "did you mean 'mapping'?", "shop_items.yaml")
    one_line(hub("flow", "lint", "shop_items"), "maping")
    assert row_counts(deployment) == before


def test_broken_yaml_names_file_and_line(hub: Hub, deployment: Path) -> None:
    edit(CONNECTOR, "key: [id]", "key: [id")
    one_line(hub("connector", "lint", "shop"), "connector.yaml", "line")
    one_line(hub("flow", "run", "shop_items"), "connector.yaml", "line")


def test_an_expression_with_a_call_that_is_not_allowed_does_not_load(
    hub: Hub, deployment: Path
) -> None:
    edit(FLOW, "name: name | trim", "name: {expr: \"__import__('os').system('id')\"}")
    before = row_counts(deployment)
    one_line(hub("flow", "run", "shop_items"), "shop_items.yaml")
    one_line(hub("map", "shop_items", stdin='{"id": 1}\n'), "shop_items.yaml")
    assert row_counts(deployment) == before


def test_an_unknown_flow_is_named(hub: Hub, deployment: Path) -> None:
    one_line(hub("flow", "run", "shop_itms"), "shop_itms", "shop_items")
    one_line(hub("flow", "explain", "shop_itms"), "shop_itms", "shop_items")
    one_line(hub("map", "shop_itms"), "shop_itms", "shop_items")


def test_an_unknown_connection_is_named(hub: Hub, deployment: Path) -> None:
    one_line(hub("connector", "check", "shp"), "shp", "shop")


def test_no_deployment_says_how_to_make_one(hub: Hub, tmp_path: Path) -> None:
    one_line(hub("runs"), "hub init")
    one_line(hub("connector", "new", "shop"), "hub init")
    assert list(tmp_path.iterdir()) == []


def test_init_twice_leaves_the_first_alone(hub: Hub, deployment: Path) -> None:
    before = {p: p.read_bytes() for p in deployment.rglob("*") if p.is_file()}
    one_line(hub("init", str(deployment)), "already")
    assert {p: p.read_bytes() for p in deployment.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["flow", "rum"],
        ["flow", "run"],
        ["flow", "run", "x", "--ful"],
        ["runs", "twelve"],
        ["nonsense"],
        ["--lang", "fr", "runs"],
        ["records", "list", "x", "--limit", "0"],
        ["dead-letters", "list", "--state", "lost"],
    ],
)
def test_wrong_usage_is_exit_code_2(hub: Hub, arguments: list[str]) -> None:
    result = hub(*arguments)
    assert result.code == 2
    one_line(result, "--help")


def test_a_plain_secret_is_refused_and_not_repeated(hub: Hub, deployment: Path) -> None:
    edit(CONNECTOR, "# token: secret ", "token: secret #")
    add = ("connection", "add", "second", "--connector", "shop")
    result = hub(*add, "--set", "token=hunter2")
    one_line(result, "token", "env:NAME")
    assert "hunter2" not in result.err + result.out
    result = hub(*add, "--set", "hunter2-is-a-secret-that-lost-its-name")
    assert "lost-its-name" not in result.err


def test_a_connection_name_taken_twice_is_refused(hub: Hub, deployment: Path) -> None:
    one_line(hub("connection", "add", "shop", "--connector", "shop"), "already")


def test_adding_a_connection_keeps_comments_and_order(hub: Hub, deployment: Path) -> None:
    before = Path("connections.yaml").read_text(encoding="utf-8")
    url = "base_url=https://erp.example.com"
    assert hub("connection", "add", "two", "--connector", "shop", "--set", url).code == 0
    after = Path("connections.yaml").read_text(encoding="utf-8")
    assert after.startswith(before.rstrip())
    names = [row["name"] for row in hub("connection", "list", "--json").json]
    assert names == ["shop", "two"]


def test_a_connection_without_its_settings_is_not_written(hub: Hub, deployment: Path) -> None:
    before = Path("connections.yaml").read_text(encoding="utf-8")
    one_line(hub("connection", "add", "my_crm", "--connector", "crm"), "base_url")
    one_line(
        hub("connection", "add", "crm", "--connector", "crm", "--set", "base_uri=x"), "base_url"
    )
    assert Path("connections.yaml").read_text(encoding="utf-8") == before


# --- a source that misbehaves -----------------------------------------------------------------


def failed_run(hub: Hub, *words: str) -> None:
    result = hub("flow", "run", "shop_items", "--json")
    one_line(result, *words)
    run = result.json
    assert run["state"] == "failed"
    assert run["error"]["message"]
    counts = hub("records", "count", "shop_item", "--json").json
    assert counts == {"entity": "shop_item", "count": 0}
    assert run["counts"]["written"] == 0


def test_an_unreachable_host_fails_the_run_and_can_be_resumed(
    hub: Hub, deployment: Path, shop: Shop
) -> None:
    shop.stop()
    failed_run(hub, "not reachable", "shop")
    with Shop() as again:
        edit(CONNECTOR, shop.url, again.url)
        result = hub("flow", "run", "shop_items", "--json")
    assert result.code == 0, result.err
    assert result.json["counts"]["written"] == again.total


def test_html_in_a_200_fails_the_run(hub: Hub, deployment: Path, shop: Shop) -> None:
    shop.misbehave(Fault.HTML_200, times=None)
    failed_run(hub, "text/html")


def test_gbk_where_utf8_was_promised_fails_the_run(hub: Hub, deployment: Path, shop: Shop) -> None:
    shop.misbehave(Fault.GBK_JSON, times=None)
    failed_run(hub, "utf-8")


def test_an_error_code_in_a_200_fails_the_run(hub: Hub, deployment: Path, shop: Shop) -> None:
    shop.alter("/items", "replace_body", times=None, body={"error": "quota"})
    failed_run(hub, "shop")


def test_a_dry_run_of_a_broken_source_is_one_line_too(
    hub: Hub, deployment: Path, shop: Shop
) -> None:
    shop.misbehave(Fault.HTML_200, times=None)
    one_line(hub("flow", "run", "shop_items", "--dry-run"), "text/html")
    one_line(hub("connector", "check", "shop"), "1 of 3 checks")


# --- as a process -----------------------------------------------------------------------------


def test_messages_follow_the_language_of_the_deployment(hub: Hub, deployment: Path) -> None:
    edit("hub.toml", 'language = "en"', 'language = "zh"')
    result = hub_process("flow", "run", "无此流程", HUB_LANG="")
    assert result.code == 1
    assert result.err.startswith("错误：找不到流程 无此流程")
    assert result.err.count("\n") == 1


def test_a_surprise_is_one_line_unless_debugging(hub: Hub, deployment: Path) -> None:
    Path(".hub/api.token").unlink()
    Path("hub.db").unlink()
    Path("hub.db").write_bytes(b"this is no database at all, but it is long enough to look at it")
    for wal in Path().glob("hub.db-*"):
        wal.unlink()
    result = hub_process("runs")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "HUB_DEBUG=1" in result.err or "hub.db" in result.err


def test_an_argument_that_is_not_utf_8_is_wrong_usage(hub: Hub, deployment: Path) -> None:
    for words in (["dead-letters", "list", "--flow", "\udcff"], ["flow", "run", "\udcfe"]):
        found = hub(*words)
        assert found.code == 2
        assert found.err == "error: argument ? is not UTF-8; write it in UTF-8\n"


def test_a_number_or_time_beyond_the_store_is_answered_plainly(hub: Hub, deployment: Path) -> None:
    found = hub("runs", "show", "9" * 24)
    assert (found.code, found.err) == (
        1,
        f"error: run {'9' * 24} not found; `hub runs` lists them\n",
    )
    found = hub("dead-letters", "list", "--since", "999999999999999999d")
    assert found.code == 1
    assert found.err.startswith("error: since 999999999999999999d is no time; ")
