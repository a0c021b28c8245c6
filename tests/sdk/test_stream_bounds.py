"""What changed since the last read, windows of time, and a second call per row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.sdk.errors import ConfigError, HubError
from hub.sdk.session import Session
from hub.sdk.testing import FakeClock, FakeServer, Response
from tests.sdk.shop import (
    KINDS,
    NUMBER,
    Shop,
    ids,
    read_all,
    stream,
)

OpenSession = Callable[..., Session]


@pytest.fixture
def shop(fake: FakeServer) -> Shop:
    return Shop(fake)


# --- time bounds ------------------------------------------------------------------------------

INCREMENTAL = {
    "param": "since",
    "until_param": "until",
    "format": "%Y-%m-%d %H:%M:%S",
    "zone": "Asia/Shanghai",
    "overlap": "10m",
}


def test_an_incremental_read_starts_before_the_last_one(
    shop: Shop, open_session: OpenSession
) -> None:
    session = open_session(streams=stream(NUMBER, incremental=INCREMENTAL))
    read_all(session, since=datetime(2025, 1, 5, 16, 0, tzinfo=UTC))
    assert {(r.query["since"], r.query["until"]) for r in shop.fake.requests} == {
        ("2025-01-05 23:50:00", "2025-01-06 09:00:00")
    }


def test_the_bounds_of_an_interrupted_read_stay(
    shop: Shop, open_session: OpenSession, clock: FakeClock
) -> None:
    session = open_session(streams=stream(NUMBER, incremental=INCREMENTAL))
    since = datetime(2025, 1, 5, 16, 0, tzinfo=UTC)
    first = next(iter(session.stream("items").read(None, since)))
    clock.advance(3600)
    read_all(session, first.cursor, since + timedelta(hours=5))
    assert len({(r.query["since"], r.query["until"]) for r in shop.fake.requests}) == 1


def test_a_first_read_names_no_start(shop: Shop, open_session: OpenSession) -> None:
    read_all(open_session(streams=stream(NUMBER, incremental=INCREMENTAL)))
    assert "since" not in shop.fake.requests[0].query


@pytest.mark.parametrize(("form", "value"), [("unix", "1736125200"), ("unix_ms", "1736125200000")])
def test_times_may_be_counted_in_seconds(
    shop: Shop, open_session: OpenSession, form: str, value: str
) -> None:
    incremental = {"param": "since", "format": form}
    session = open_session(streams=stream(NUMBER, incremental=incremental))
    read_all(session, since=datetime(2025, 1, 6, 1, tzinfo=UTC))
    assert shop.fake.requests[0].query["since"] == value


def window(inner: Mapping[str, Any], start: str = "2025-01-01") -> dict[str, Any]:
    return {
        "kind": "window",
        "from_param": "from",
        "to_param": "to",
        "step": "1d",
        "start": start,
        "format": "%Y-%m-%d %H:%M",
        "zone": "Asia/Shanghai",
        "inner": inner,
    }


INNER = [kind for kind in KINDS if not kind.startswith("link")]


@settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    kind=st.sampled_from(INNER),
    hours=st.lists(st.integers(0, 5 * 24 + 8), max_size=12, unique=True),
)
def test_windows_read_every_row_once_and_restart_anywhere(
    open_session: OpenSession, fake: FakeServer, kind: str, hours: list[int]
) -> None:
    shop = Shop(fake)
    start = datetime(2025, 1, 1)  # noqa: DTZ001 (the vendor's local time)
    shop.rows = [
        {"id": n, "at": (start + timedelta(hours=hour)).strftime("%Y-%m-%d %H:%M")}
        for n, hour in enumerate(sorted(hours))
    ]
    parts = stream(window(KINDS[kind]))
    whole = read_all(open_session(streams=parts))
    assert ids(whole) == list(range(len(hours)))
    for number, page in enumerate(whole[:-1]):
        cursor = json.loads(json.dumps(page.cursor))
        rest = read_all(open_session(streams=parts), cursor)
        assert ids(whole[: number + 1]) + ids(rest) == list(range(len(hours)))


def test_the_first_window_starts_at_the_watermark(shop: Shop, open_session: OpenSession) -> None:
    shop.rows = []
    session = open_session(streams=stream(window(NUMBER)))
    read_all(session, since=datetime(2025, 1, 5, 1, tzinfo=UTC))
    assert [(r.query["from"], r.query["to"]) for r in shop.fake.requests] == [
        ("2025-01-05 09:00", "2025-01-06 09:00")
    ]


def test_the_first_window_may_be_a_span_before_now(shop: Shop, open_session: OpenSession) -> None:
    shop.rows = []
    read_all(open_session(streams=stream(window(NUMBER, start="2d"))))
    assert shop.fake.requests[0].query["from"] == "2025-01-04 09:00"


@pytest.mark.parametrize("start", ["yesterday", "30days", "2024-13-01"])
def test_a_start_that_is_no_date_is_refused_with_the_manifest(
    shop: Shop, open_session: OpenSession, start: str
) -> None:
    with pytest.raises(ConfigError, match="span such as 30d"):
        open_session(streams=stream(window(NUMBER, start=start)))


# --- detail -----------------------------------------------------------------------------------

DETAIL = {"request": {"get": "/items/{id}"}, "data": "item"}


def test_each_row_is_replaced_by_its_detail_in_order(shop: Shop, open_session: OpenSession) -> None:
    shop.fake.route(
        "GET",
        "/items/{id}",
        lambda request: Response(json={"code": 0, "item": {"id": int(request.params["id"])}}),
    )
    pages = read_all(open_session(streams=stream(NUMBER, detail=DETAIL)))
    assert ids(pages) == list(range(7))
    assert shop.fake.count("/items/3") == 1


@pytest.mark.parametrize("answer", [{"code": 204}, {"code": 0}, {"code": 0, "item": [1, 2]}])
def test_a_missing_detail_is_loud(
    shop: Shop, open_session: OpenSession, answer: dict[str, Any]
) -> None:
    shop.fake.route("GET", "/items/{id}", lambda _: Response(json=answer))
    with pytest.raises(HubError) as caught:
        read_all(open_session(streams=stream(NUMBER, detail=DETAIL)))
    assert caught.value.code == "read.no_detail"
