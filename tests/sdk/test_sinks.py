"""Writing: one receipt per record, and never a guess."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.sdk.errors import AuthError, ConfigError, ContractBroken, TransientError
from hub.sdk.records import Op, Outcome, Write
from hub.sdk.session import Session
from hub.sdk.sinks import SinkWriter
from hub.sdk.testing import FakeClock, FakeServer, Fault, Request, Response

OpenSession = Callable[..., Session]

BATCH = {
    "safety": "upsert",
    "key": "ref",
    "batch": 4,
    "request": {"post": "/bulk", "body": {"records": "@records"}},
    "receipts": {
        "items": "results",
        "key": "ref",
        "ok": {"path": "ok", "in": [True]},
        "id": "id",
        "code": "code",
        "reason": "why",
        "errors": [{"match": {"code": "^BUSY$"}, "as": "retry"}, {"else": "reject"}],
    },
}
ONE = {
    "safety": "look_up",
    "key": "ref",
    "request": {"post": "/orders"},
    "update": {"put": "/orders/{target_id}"},
    "delete": {"delete": "/orders/{target_id}"},
    "id": "id",
    "find": {
        "request": {"get": "/orders", "params": {"ref": "{key}"}},
        "data": "rows",
        "match": "ref",
        "id": "id",
    },
}


class Target:
    """Keeps what is written; `answers` replaces the answer for a key."""

    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        self.kept: dict[str, Any] = {}
        self.spoilt: set[str] = set()
        self.answers: dict[str, list[dict[str, Any]]] = {}
        fake.route("POST", "/orders", self.add)
        fake.route("GET", "/orders", self.find)
        fake.route("PUT", "/orders/{id}", self.change)
        fake.route("DELETE", "/orders/{id}", self.drop)
        fake.route("POST", "/bulk", self.bulk)

    def add(self, request: Request) -> Response:
        record = request.json()
        if record["ref"] in self.spoilt:
            return Response(status=400, json={"code": 12, "msg": "客户编码不存在"})
        if record["ref"] in self.kept:
            return Response(status=409, json={"code": 9, "msg": "exists"})
        self.kept[record["ref"]] = record
        return Response(json={"code": 0, "id": 100 + len(self.kept)})

    def change(self, request: Request) -> Response:
        self.kept[request.params["id"]] = request.json()
        return Response(status=204, body=b"")

    def drop(self, request: Request) -> Response:
        return Response(status=404, json={"code": 4, "msg": "no such order"})

    def find(self, request: Request) -> Response:
        rows = [{"ref": key, "id": f"id-{key}"} for key in self.kept]
        return Response(json={"code": 0, "rows": rows})

    def bulk(self, request: Request) -> Response:
        records = request.json()["records"]
        if any(record["ref"] in self.spoilt for record in records):
            return Response(status=422, json={"code": 12, "msg": "one is bad"})
        results: list[dict[str, Any]] = []
        for record in records:
            key = record["ref"]
            good = [{"ref": key, "ok": True, "id": len(key)}]
            results += self.answers.get(key, good)
        return Response(json={"code": 0, "results": results})


@pytest.fixture
def target(fake: FakeServer) -> Target:
    return Target(fake)


Sink = Callable[..., SinkWriter]


@pytest.fixture
def sink(target: Target, open_session: OpenSession) -> Sink:
    """Opens a sink; keyword arguments change its declaration."""

    def make(declared: dict[str, Any] = ONE, folder: Path = Path("nowhere"), **changes: Any) -> Any:
        sinks = {"orders": {k: v for k, v in {**declared, **changes}.items() if v is not ...}}
        return open_session(folder=folder, sinks=sinks).sink("orders")

    return make


def writes(*keys: str) -> list[Write]:
    return [
        Write(key, {"ref": key, "n": n}, idempotency_key=f"{key}-v1") for n, key in enumerate(keys)
    ]


def outcomes(sink: SinkWriter, todo: list[Write]) -> list[Outcome]:
    receipts = sink.write(todo)
    assert [receipt.key for receipt in receipts] == [write.key for write in todo]
    return [receipt.outcome for receipt in receipts]


W, X, R, U = Outcome.WRITTEN, Outcome.REJECTED, Outcome.RETRY, Outcome.UNKNOWN

# --- one record per call ----------------------------------------------------------------------


def test_a_written_record_brings_its_target_id(sink: Sink) -> None:
    receipt = sink().write(writes("A"))[0]
    assert (receipt.outcome, receipt.target_id) == (W, "101")


def test_our_key_is_added_where_the_data_lacks_it(sink: Sink, target: Target) -> None:
    sink().write([Write("A", {"n": 1})])
    assert target.kept == {"A": {"n": 1, "ref": "A"}}


def test_a_known_target_id_is_updated(sink: Sink, target: Target) -> None:
    receipt = sink().write([Write("A", {"n": 2}, target_id="5/6")])[0]
    assert (receipt.outcome, receipt.target_id) == (W, "5/6")
    assert target.kept == {"5/6": {"n": 2, "ref": "A"}}


def test_a_refused_record_does_not_stop_the_next(sink: Sink, target: Target) -> None:
    target.spoilt = {"B"}
    receipts = sink().write(writes("A", "B", "C"))
    assert [receipt.outcome for receipt in receipts] == [W, X, W]
    assert receipts[1].code == "12"
    assert "客户编码不存在" in (receipts[1].reason or "")


def test_a_server_error_is_unknown_and_the_next_record_is_tried(sink: Sink, target: Target) -> None:
    target.fake.misbehave(Fault.STATUS_AFTER, "/orders", after=1)
    assert outcomes(sink(), writes("A", "B", "C")) == [W, U, W]
    assert set(target.kept) == {"A", "B", "C"}


def test_after_a_lost_answer_the_rest_waits(sink: Sink, target: Target) -> None:
    target.fake.misbehave(Fault.LOST_ANSWER, "/orders", after=1)
    assert outcomes(sink(), writes("A", "B", "C")) == [W, U, R]
    assert set(target.kept) == {"A", "B"}


def test_a_throttled_first_write_is_raised(sink: Sink, target: Target) -> None:
    target.fake.misbehave(Fault.TOO_MANY_REQUESTS, "/orders", retry_after=9)
    with pytest.raises(TransientError) as caught:
        sink().write(writes("A", "B"))
    assert caught.value.retry_after == 9


def test_a_throttled_later_write_leaves_the_rest_for_another_try(
    sink: Sink, target: Target
) -> None:
    target.fake.misbehave(Fault.TOO_MANY_REQUESTS, "/orders", after=1, retry_after=9)
    receipts = sink().write(writes("A", "B", "C"))
    assert [receipt.outcome for receipt in receipts] == [W, R, R]
    assert receipts[1].retry_after == 9
    assert target.fake.count("/orders") == 2


def test_a_refused_login_is_raised(sink: Sink, target: Target) -> None:
    target.fake.misbehave(Fault.STATUS, "/orders", status=401)
    with pytest.raises(AuthError):
        sink().write(writes("A"))


def test_the_idempotency_key_travels_in_its_header(sink: Sink, target: Target) -> None:
    sink(safety="idempotency_key", idempotency_header="X-Once").write(writes("A"))
    assert target.fake.requests[0].headers["x-once"] == "A-v1"


def test_a_field_of_the_record_never_stands_in_for_a_setting(
    sink: Sink, target: Target, canary: str
) -> None:
    request = {"post": "/orders", "body": {"ref": "{key}", "s": "{secret}", "m": "{memo}"}}
    sink(request=request).write([Write("A", {"secret": "mine", "memo": "x", "key": "B"})])
    assert target.kept == {"A": {"ref": "A", "s": canary, "m": "x"}}


def test_a_record_that_lacks_a_needed_field_is_refused(sink: Sink, target: Target) -> None:
    writer = sink(request={"post": "/orders", "body": {"ref": "{ref}", "m": "{memo}"}})
    receipts = writer.write([Write("A", {"ref": "A"}), Write("B", {"ref": "B", "memo": 1})])
    assert [receipt.outcome for receipt in receipts] == [X, W]
    assert "memo" in (receipts[0].reason or "")


def test_a_record_that_is_no_valid_text_is_refused(sink: Sink) -> None:
    assert outcomes(sink(), [Write("A", {"ref": "\ud800"}), *writes("B")]) == [X, W]


# --- duplicates and deletions -----------------------------------------------------------------


def test_an_order_that_is_already_there_is_adopted(sink: Sink, target: Target) -> None:
    target.kept["A"] = {}
    receipt = sink(update=...).write(writes("A"))[0]
    assert (receipt.outcome, receipt.target_id) == (W, "id-A")
    assert receipt.details == {"adopted": True}


def test_an_adopted_order_is_brought_up_to_date_where_it_can_be(sink: Sink, target: Target) -> None:
    target.kept["A"] = {}
    receipt = sink().write(writes("A"))[0]
    assert (receipt.outcome, receipt.target_id) == (W, "id-A")
    assert target.kept["id-A"] == {"ref": "A", "n": 0}


def test_a_duplicate_that_cannot_be_found_is_refused(sink: Sink, target: Target) -> None:
    target.kept["A"] = {}
    target.fake.alter("/orders", lambda body, _: {**body, "rows": []}, method="GET")
    assert outcomes(sink(), writes("A")) == [X]
    assert outcomes(sink(find=...), writes("A")) == [X]


def test_a_duplicate_that_cannot_be_looked_up_now_is_unknown(sink: Sink, target: Target) -> None:
    target.kept["A"] = {}
    target.fake.misbehave(Fault.STATUS, "/orders", method="GET", times=None)
    assert outcomes(sink(), writes("A")) == [U]


def test_a_conflict_of_an_idempotency_key_is_still_running(sink: Sink, target: Target) -> None:
    target.kept["A"] = {}
    assert outcomes(sink(safety="idempotency_key"), writes("A")) == [R]


def test_deleting_what_is_gone_has_had_its_effect(sink: Sink) -> None:
    assert outcomes(sink(), [Write("A", {}, op=Op.DELETE, target_id="7")]) == [W]


def test_deleting_without_a_target_id_is_refused(sink: Sink) -> None:
    assert outcomes(sink(), [Write("A", {}, op=Op.DELETE)]) == [X]


@pytest.mark.parametrize("dots", [".", ".."])
def test_a_target_id_cannot_climb_up_the_path(sink: Sink, target: Target, dots: str) -> None:
    assert outcomes(sink(), [Write("A", {}, op=Op.DELETE, target_id=dots)]) == [X]
    assert target.fake.requests == []


def test_a_sink_without_delete_says_so(sink: Sink) -> None:
    with pytest.raises(ConfigError, match="delete: ignore"):
        sink(delete=...).write([Write("A", {}, op=Op.DELETE, target_id="7")])


def test_a_sink_may_deactivate_instead(sink: Sink, target: Target) -> None:
    off = {"put": "/orders/{target_id}", "body": {"active": False}}
    writer = sink(delete=..., deactivate=off)
    assert outcomes(writer, [Write("A", {"n": 1}, op=Op.DELETE, target_id="7")]) == [W]
    assert target.kept == {"7": {"active": False}}


# --- looking up -------------------------------------------------------------------------------


def test_find_gives_the_id_of_the_exact_key(sink: Sink, target: Target) -> None:
    target.kept = {"A": 1, "A1": 2}
    writer = sink()
    assert (writer.find("A"), writer.find("B")) == ("id-A", None)


def test_two_hits_are_ambiguous(sink: Sink, target: Target) -> None:
    rows = [{"ref": "A", "id": 1}, {"ref": "A", "id": 2}]
    target.fake.alter("/orders", lambda body, _: {**body, "rows": rows}, times=1)
    with pytest.raises(ContractBroken) as caught:
        sink().find("A")
    assert caught.value.code == "sink.ambiguous"


@pytest.mark.parametrize("rows", [None, "x", 5])
def test_a_find_answer_in_another_shape_is_loud(sink: Sink, target: Target, rows: Any) -> None:
    target.fake.alter("/orders", lambda body, _: {**body, "rows": rows})
    with pytest.raises(ContractBroken):
        sink().find("A")


def test_find_may_be_a_hook(sink: Sink, target: Target, tmp_path: Path) -> None:
    target.kept = {"A": 1}
    (tmp_path / "hooks.py").write_text(
        "from hub.sdk.manifest import Request\n\n"
        "def find_order(call, config, key):\n"
        "    rows = call(Request(get='/orders'), {'key': key}).body['rows']\n"
        "    return next((row['id'] for row in rows if row['ref'] == key), None)\n"
    )
    writer = sink(folder=tmp_path, find="hooks.find_order")
    assert (writer.find("A"), writer.find("B")) == ("id-A", None)


def test_a_sink_without_find_says_so(sink: Sink) -> None:
    writer = sink(find=...)
    assert not writer.can_find
    with pytest.raises(ConfigError):
        writer.find("A")


# --- queued writes ----------------------------------------------------------------------------

POLL = {"url": "url", "wait": "ping_after", "tries": 4}


def queue(target: Target, asks: int, last: dict[str, Any]) -> None:
    """Writes are queued; the result comes after `asks` questions."""
    left = [asks]

    def result(request: Request) -> Response:
        left[0] -= 1
        return Response(json=last if left[0] <= 0 else queued())

    def queued() -> dict[str, Any]:
        return {"code": 0, "url": f"{target.fake.url}/result?id=1", "ping_after": 3}

    target.fake.route("POST", "/orders", lambda _: Response(json=queued()))
    target.fake.route("GET", "/result", result)


def test_a_queued_write_is_asked_for_until_it_is_done(
    sink: Sink, target: Target, clock: FakeClock
) -> None:
    queue(target, 3, {"code": 0, "id": "SO-9"})
    receipt = sink(poll=POLL).write(writes("A"))[0]
    assert (receipt.outcome, receipt.target_id) == (W, "SO-9")
    assert clock.slept == [3, 3, 3]


def test_a_queued_write_that_fails_is_refused(sink: Sink, target: Target) -> None:
    queue(target, 1, {"code": 12, "msg": "期间已结账"})
    receipt = sink(poll=POLL).write(writes("A"))[0]
    assert receipt.outcome is X
    assert "期间已结账" in (receipt.reason or "")


def test_a_queued_write_that_never_ends_is_unknown(sink: Sink, target: Target) -> None:
    queue(target, 99, {})
    assert outcomes(sink(poll=POLL), writes("A")) == [U]
    assert target.fake.count("/result") == 4


def test_a_result_on_another_host_is_not_asked_for(sink: Sink, target: Target) -> None:
    answer = {"code": 0, "url": "http://169.254.169.254/result"}
    target.fake.route("POST", "/orders", lambda _: Response(json=answer))
    assert outcomes(sink(poll=POLL), writes("A")) == [U]


# --- batches ----------------------------------------------------------------------------------


def test_a_batch_answer_is_read_per_record(sink: Sink, target: Target) -> None:
    bad = {"ref": "B", "ok": False, "code": "BAD", "why": "no such item"}
    target.answers = {
        "B": [bad],
        "C": [],
        "D": [{"ref": "D", "ok": False, "code": "BUSY"}],
        "E": [{"ref": "E", "ok": True}, {"ref": "E", "ok": False, "code": "BAD"}],
        "F": [{"ref": "other", "ok": True}, "noise", {"ref": "F", "ok": True, "id": 6}],
    }
    receipts = sink(BATCH).write(writes("A", "B", "C", "D", "E", "F"))
    assert [receipt.outcome for receipt in receipts] == [W, X, U, R, X, W]
    assert (receipts[1].code, receipts[1].reason) == ("BAD", "no such item")
    assert receipts[5].target_id == "6"
    assert target.fake.count("/bulk") == 2


def test_a_batch_refused_as_a_whole_is_split_until_the_bad_record_is_alone(
    sink: Sink, target: Target
) -> None:
    target.spoilt = {"C"}
    assert outcomes(sink(BATCH), writes("A", "B", "C", "D")) == [W, W, X, W]


def test_a_lost_batch_answer_is_unknown_for_each_record(sink: Sink, target: Target) -> None:
    target.fake.misbehave(Fault.LOST_ANSWER, "/bulk")
    assert outcomes(sink(BATCH), writes("A", "B", "C", "D", "E")) == [U, U, U, U, R]


@pytest.mark.parametrize("results", [None, {}, "x", []])
def test_a_batch_answer_without_results_is_unknown(
    sink: Sink, target: Target, results: Any
) -> None:
    target.fake.alter("/bulk", lambda body, _: {**body, "results": results})
    assert outcomes(sink(BATCH), writes("A", "B")) == [U, U]


def test_deletions_between_batches_keep_their_order(sink: Sink, target: Target) -> None:
    delete = {"delete": "/orders/{target_id}"}
    todo = [*writes("A", "B"), Write("A", {}, op=Op.DELETE, target_id="1"), *writes("C")]
    assert outcomes(sink(BATCH, delete=delete), todo) == [W, W, W, W]
    assert [(r.method, r.path) for r in target.fake.requests] == [
        ("POST", "/bulk"),
        ("DELETE", "/orders/1"),
        ("POST", "/bulk"),
    ]


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    items=st.lists(
        st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {
                    "ref": st.sampled_from(["A", "B", "Z", 5, None]),
                    "ok": st.sampled_from([True, False, "yes", 1]),
                }
            ),
        ),
        max_size=6,
    )
)
def test_only_an_explicit_success_counts_as_written(
    open_session: OpenSession, fake: FakeServer, items: list[Any]
) -> None:
    fake.route("POST", "/bulk", lambda _: Response(json={"code": 0, "results": items}))
    receipts = open_session(sinks={"orders": BATCH}).sink("orders").write(writes("A", "B"))
    for receipt in receipts:
        mine = [item for item in items if item and item["ref"] == receipt.key]
        written = bool(mine) and all(item["ok"] is True for item in mine)
        assert (receipt.outcome is W) is written
        assert (receipt.outcome is U) is (not mine)
