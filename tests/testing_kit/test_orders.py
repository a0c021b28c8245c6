"""Which requests an order hits: place, method, how often, after how many, by what chance."""

from __future__ import annotations

import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.sdk.testing import FakeServer, Fault, Request, Response
from hub.sdk.testing.faults import HANDLED, OPTIONS, Schedule, misbehaviour
from hub.sdk.testing.ways import Drip, End, Honest, Send, script


def request(path: str = "/a/b", method: str = "GET", route: str = "") -> Request:
    return Request(method, path, {}, {}, b"", 0.0, target=path, route=route)


def hits(schedule: Schedule[str], count: int, path: str = "/a/b", method: str = "GET") -> list[int]:
    """Which of `count` equal requests are hit."""
    return [n for n in range(count) if schedule.take(request(path, method), only_first=True)]


@pytest.mark.parametrize(
    ("wanted", "path", "hit"),
    [
        (None, "/a/b", True),
        ("/a/b", "/a/b", True),
        ("/a", "/a/b", False),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", True),
        ("*/b", "/a/b", True),
        ("/a/*", "/A/b", False),
        ("/a/{name}", "/a/b", True),
        ("/a/[b]*", "/a/b", True),
        ("/a/[b]", "/a/b", False),
    ],
)
def test_a_place_is_a_path_a_route_or_a_pattern_with_a_star(
    wanted: str | None, path: str, hit: bool
) -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("x", wanted, None, 1, 0)
    found = schedule.take(request(path, route="/a/{name}"), only_first=True)
    assert bool(found) is hit


def test_a_method_is_told_in_any_case() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("x", None, "post", None, 0)
    assert hits(schedule, 2) == []
    assert hits(schedule, 2, method="POST") == [0, 1]


def test_so_many_pass_before_so_many_are_hit() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("x", None, None, 2, 3)
    assert hits(schedule, 8) == [3, 4]
    assert hits(schedule, 8) == []


def test_the_first_order_goes_first_and_does_not_use_up_the_next() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", None, None, 1, 0)
    schedule.add("b", "/a/*", None, 1, 0)
    assert schedule.take(request(), only_first=True) == ["a"]
    assert schedule.take(request(), only_first=True) == ["b"]
    assert schedule.take(request(), only_first=True) == []


def test_all_orders_hit_where_all_are_asked_for() -> None:
    schedule: Schedule[str] = Schedule()
    for name in "abc":
        schedule.add(name, None, None, 1, 1 if name == "b" else 0)
    assert schedule.take(request(), only_first=False) == ["a", "c"]
    assert schedule.take(request(), only_first=False) == ["b"]


@given(seed=st.integers(), chance=st.floats(0.05, 0.95))
def test_the_same_seed_gives_the_same_chances(seed: int, chance: float) -> None:
    runs = []
    for _ in range(2):
        schedule: Schedule[str] = Schedule(seed)
        schedule.add("x", None, None, None, 0, chance)
        runs.append(hits(schedule, 60))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_a_chance_is_the_share_that_is_hit(chance: float) -> None:
    schedule: Schedule[str] = Schedule(1)
    schedule.add("x", None, None, None, 0, chance)
    assert abs(len(hits(schedule, 2000)) / 2000 - chance) < 0.05


def test_requests_that_chance_spared_are_not_counted_among_the_times() -> None:
    schedule: Schedule[str] = Schedule(1)
    schedule.add("x", None, None, 3, 2, 0.2)
    found = hits(schedule, 500)
    assert len(found) == 3
    assert found[0] >= 2


def test_what_was_ordered_can_be_forgotten() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("x", None, None, None, 0)
    schedule.clear()
    assert hits(schedule, 3) == []


@pytest.mark.parametrize(
    "wrong",
    [{"times": 0}, {"times": -1}, {"after": -1}, {"chance": 0}, {"chance": -0.1}, {"chance": 1.1}],
)
def test_an_order_that_can_never_happen_is_refused(wrong: dict[str, float]) -> None:
    schedule: Schedule[str] = Schedule()
    values = {"times": 1, "after": 0, "chance": 1.0, **wrong}
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        schedule.add("x", None, None, values["times"], values["after"], values["chance"])  # type: ignore[arg-type]


# --- what is done -----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_has_options_and_a_way(fault: Fault) -> None:
    act = misbehaviour(fault, {})
    assert dict(act.options) == dict(OPTIONS[fault])
    answer = Response(json={"name": "上海"}) if fault in HANDLED else Response()
    steps = script(act, request(), answer)
    assert steps
    assert [step for step in steps[:-1] if isinstance(step, End)] == []


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_no_way_gives_a_body_where_http_allows_none(fault: Fault, method: str, status: int) -> None:
    broken_on_purpose = {Fault.GARBAGE, Fault.CUT_CHUNK}
    answer = Response(status, json={"a": 1})
    if fault in broken_on_purpose or (method == "GET" and fault not in HANDLED):
        return
    options = {"status": status} if fault is Fault.STATUS_AFTER else {}
    for step in script(misbehaviour(fault, options), request(method=method), answer):
        if isinstance(step, Send):
            _head, _, body = step.data.partition(b"\r\n\r\n")
            assert body == b"" or (fault is Fault.DUPLICATE_ANSWER and body.startswith(b"HTTP/"))
        if isinstance(step, Drip):
            assert step.data == b"" or step.data.endswith(b"\r\n\r\n")


def test_a_bomb_is_made_when_it_is_ordered_and_answers_at_once() -> None:
    with FakeServer() as server:
        server.route("GET", "/x", lambda _: Response(json=1))
        server.misbehave(Fault.GZIP_BOMB, inflated=150_000_000)
        began = time.monotonic()
        with httpx.stream("GET", server.url + "/x", trust_env=False) as answer:
            assert answer.headers["content-encoding"] == "gzip"
        assert time.monotonic() - began < 0.3


def test_a_slow_body_keeps_its_rate_in_whatever_pieces() -> None:
    for rate in (3, 200, 1_000_000):
        _, drip = script(
            misbehaviour(Fault.SLOW_BODY, {"rate": rate}), request(), Response(body=b"x" * 500)
        )
        assert isinstance(drip, Drip)
        assert b"".join(drip.pieces()) == b"x" * 500
        assert drip.size / drip.interval == pytest.approx(rate)


def test_the_right_answer_is_a_step_of_its_own() -> None:
    steps = script(misbehaviour(Fault.DELAY, {"seconds": 2}), request(), Response())
    assert steps[-1] is Honest.ANSWER
