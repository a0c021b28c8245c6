"""`hub telemetry query|archive|restore`, alone and beside a server; the same over the API."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import httpx
import pytest

from hub.engine.deployment import open_deployment
from hub.store.telemetry.database import open_telemetry
from hub.store.telemetry.devices import Latest, set_latest
from hub.telemetry.calendar import Zones
from tests.cli.conftest import Hub, Result, edit
from tests.cli.test_serve import serving
from tests.telemetry.rig import DAY, HOUR, Rig

DAYS = 3
FIRST = "2026-01-05"
START = 1_767_571_200_000
BUCKETS = ("--every", "6h", "--agg", "p95,mean")
RANGE = ("--from", FIRST + "T00:00:00Z", "--to", "2026-01-08T00:00:00Z")


@pytest.fixture
def filled(deployment: Path) -> Path:
    store = open_telemetry(open_deployment(deployment).telemetry_url)
    desk = Rig(store, Zones("Asia/Shanghai"))
    try:
        for metric in ("vib", "temp"):
            series = desk.series("p/1", metric)
            ts = range(START, START + DAYS * DAY, HOUR // 2)
            desk.write(series, ts, [number / 8 for number in range(len(ts))])
            with store.transaction() as connection:
                set_latest(connection, [Latest(series, ts[-1], 17.875, ts[-1])])
        desk.roll_up()
    finally:
        store.close()
    return deployment


def rows(result: Result) -> list[list[str]]:
    assert result.code == 0, result.err
    return list(csv.reader(io.StringIO(result.out)))


def test_readings_are_exported_as_csv_and_json(hub: Hub, filled: Path) -> None:
    found = rows(hub("telemetry", "query", "p/1", "vib", *RANGE, "--csv"))
    assert found[0] == ["time", "gateway", "device", "metric", "value"]
    assert found[1] == ["2026-01-05T00:00:00.000Z", "", "p/1", "vib", "0.0"]
    assert len(found) == 1 + DAYS * 48
    (series,) = hub("telemetry", "query", "p/1", "vib", *RANGE, "--json").json["series"]
    assert series["ts"][0] == START
    assert series["value"] == [number / 8 for number in range(DAYS * 48)]


def test_buckets_are_shown_per_metric(hub: Hub, filled: Path) -> None:
    command = ("telemetry", "query", "p/1", "vib", "temp", *RANGE, "--every", "1d")
    found = rows(hub(*command, "--agg", "count,max", "--csv"))
    assert found[0][-2:] == ["count", "max"]
    assert [row[4] for row in found[1:]] == ["32", "48", "48", "16"] * 2
    shown = hub(*command)
    assert shown.code == 0
    assert "2026-01-04T16:00:00.000Z" in shown.out


def test_the_table_stops_and_says_so(hub: Hub, filled: Path) -> None:
    shown = hub("telemetry", "query", "p/1", "vib", *RANGE, "--limit", "5")
    assert shown.out.count("p/1") == 5
    assert "--limit" in shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["p-1", "vib"],
        ["p/1", "vibe"],
        ["p/1", "vib", "--every", "1y"],
        ["p/1", "vib", "--every", "1h", "--agg", "avg"],
        ["p/1", "vib", "--from", "tomorrow"],
        ["p/1", "vib", "--from", "2026-01-08", "--to", "2026-01-07"],
        ["p/1", "vib", "--from", "2026-01-01", "--to", "2026-03-01", "--every", "1s"],
    ],
)
def test_what_cannot_be_answered_is_one_error_line(
    hub: Hub, filled: Path, arguments: list[str]
) -> None:
    refused = hub("telemetry", "query", *arguments)
    assert refused.code == 1
    assert len(refused.errors) == 1
    assert "Traceback" not in refused.err


def test_beside_a_server_the_answers_are_the_same(hub: Hub, filled: Path) -> None:
    commands = [
        ("telemetry", "query", "p/1", "vib", *RANGE, "--csv"),
        ("telemetry", "query", "p/1", "vib", *RANGE, "--json"),
        ("telemetry", "query", "p/1", "vib", *RANGE, *BUCKETS, "--json"),
        ("telemetry", "query", "p/1", "nothing", *RANGE),
    ]
    alone = [hub(*command) for command in commands]
    with serving(filled) as (_process, url):
        assert [hub(*command) for command in commands] == alone
        token = (filled / ".hub" / "api.token").read_text().strip()
        with httpx.Client(base_url=f"{url}/v1/telemetry", trust_env=False) as client:
            assert client.get("/latest").status_code == 401
            client.headers["Authorization"] = f"Bearer {token}"
            latest = client.get("/latest").json()["series"]
            assert [(one["metric"], one["value"]) for one in latest] == [
                ("temp", 17.875), ("vib", 17.875),
            ]  # fmt: skip
            asked = {"device": "p/1", "metric": ["vib", "temp"], "from": START, "to": START + DAY}
            found = client.get("/series", params={**asked, "every": "12h", "agg": "max,p99"}).json()
            assert [len(one["p99"]) for one in found["series"]] == [3, 3]
            chart = client.get("/readings", params={**asked, "max_points": 10}).json()
            assert all(len(one["ts"]) <= 10 for one in chart["series"])
            page = client.get("/readings", params={**asked, "limit": 7}).json()["series"][0]
            assert page["next"] == START + 7 * HOUR // 2
            many = client.get("/series", params={**asked, "to": START + 90 * DAY, "every": "1s"})
            assert many.status_code == 422
            assert many.json()["code"] == "telemetry.too_many_points"
            assert "every" in many.json()["detail"]
            assert client.get("/readings", params={**asked, "limit": 0}).status_code == 422
            assert client.get("/latest", params={"device": "none"}).status_code == 404


def test_old_days_are_archived_and_restored_beside_a_server(hub: Hub, filled: Path) -> None:
    edit("hub.toml", "[mqtt]", 'archive = "old"\n\n[mqtt]')
    ask = ("telemetry", "query", "p/1", "vib", "temp", *RANGE, "--json")
    before = hub(*ask).json
    days = hub("telemetry", "archive", "--dry-run", "--keep-days", "30", "--json").json
    old = [{"day": f"2026-01-0{5 + day}", "readings": 96} for day in range(DAYS)]
    assert days == old[: len(days)] == old
    with serving(filled):
        done = hub("telemetry", "archive", "--keep-days", "30", "--json")
        assert done.code == 0, done.err
        assert (done.json["days"], done.json["files"]) == (3, 3)
        assert hub(*ask).json["series"][0]["ts"] == []
        whole = hub("telemetry", "query", "p/1", "vib", *RANGE, "--every", "1d", "--csv")
        assert len(rows(whole)) == 1 + 4
        restored = hub("telemetry", "restore", "--from", FIRST, "--to", "2026-01-06", "--json")
        assert restored.json["written"] == restored.json["readings"] == 2 * 96
        hub("telemetry", "restore", "--from", FIRST, "--to", "2026-01-07")
        assert hub(*ask).json == before


def test_without_an_archive_the_commands_say_where_to_name_one(hub: Hub, filled: Path) -> None:
    for command in (("archive",), ("restore", "--from", FIRST, "--to", FIRST)):
        refused = hub("telemetry", *command)
        assert refused.code == 1
        assert "hub.toml" in refused.err
    edit("hub.toml", "[mqtt]", 'archive = "old"\n\n[mqtt]')
    assert hub("telemetry", "restore", "--from", FIRST, "--to", FIRST).code == 1
    assert hub("telemetry", "restore", "--from", "then", "--to", FIRST).code == 2


def test_a_long_export_goes_page_by_page(
    hub: Hub, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.cli.telemetry_queries._PAGE", 10)
    found = rows(hub("telemetry", "query", "p/1", "vib", "temp", *RANGE, "--csv"))
    assert len(found) == 1 + 2 * DAYS * 48
    assert len({tuple(row) for row in found}) == len(found)
