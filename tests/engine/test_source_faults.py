"""Whatever a source does wrong, a run ends complete or loud, never silently short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.u8.fake import FakeU8
from hub.sdk.testing import Fault, Request
from hub.store.runs import RunState
from tests.engine.conftest import Rig

FLOW = "u8_customers_to_crm"
LIST = "/api/customer/batch_get"
CUSTOMERS = 450

Break = Callable[[FakeU8], None]


def _fault(fault: Fault, **options: Any) -> Break:
    return lambda u8: u8.misbehave(fault, LIST, after=1, **options)


def _alter(name: str, *, after: int = 1, times: int = 1, **options: Any) -> Break:
    return lambda u8: u8.alter(LIST, name, after=after, times=times, **options)


COMPLETE: dict[str, Break] = {
    "429 with Retry-After": _fault(Fault.TOO_MANY_REQUESTS, retry_after=1),
    "429 without Retry-After": _fault(Fault.TOO_MANY_REQUESTS),
    "503": _fault(Fault.STATUS, status=503),
    "connection reset": _fault(Fault.RESET),
    "closed without an answer": _fault(Fault.EARLY_CLOSE),
    "cut body": _fault(Fault.CUT_BODY),
    "cut chunk": _fault(Fault.CUT_CHUNK),
    "garbage": _fault(Fault.GARBAGE),
    "throttle code in a 200": _alter("throttle"),
    "expired token in a 200": _alter("expired_token"),
    "agent offline": _alter("agent_offline"),
    "token expires in the middle": lambda u8: u8.alter(LIST, "expired_token", after=2),
    "a row inserted between pages": lambda u8: u8.drift("customer", "insert", 1),
    "a row deleted between pages": lambda u8: u8.drift("customer", "delete", 1),
}
LOUD: dict[str, Break] = {
    "one empty page": _alter("empty_page"),
    "the page before once more": _alter("repeat_previous", after=0, times=2),
    "another page than asked for": _alter("wrong_page"),
    "wrong total": _alter("wrong_total", after=0, times=9),
    "GBK": _fault(Fault.GBK_JSON),
    "HTML in a 200": _fault(Fault.HTML_200),
    "empty body": _fault(Fault.EMPTY_BODY, times=9),
    "a row that is no object": _alter("bad_row", at="customer"),
    "redirect": _fault(Fault.REDIRECT_LOOP),
    "200 MB behind gzip": _fault(Fault.GZIP_BOMB),
    "2 MB header": _fault(Fault.HUGE_HEADER, times=9),
    "an error code in a 200": _alter("not_authorised"),
    "a lost data path": _alter("drop", at="customer"),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_a_fault_that_passes_is_waited_out(embedded: Rig, name: str) -> None:
    COMPLETE[name](embedded.u8)
    run = embedded.run(FLOW, seconds=60)
    assert run.state == RunState.DONE, run.error_text
    _assert_complete(embedded)


@pytest.mark.parametrize("name", LOUD)
def test_a_read_that_cannot_be_proven_complete_ends_loud_and_can_be_run_again(
    embedded: Rig, name: str
) -> None:
    LOUD[name](embedded.u8)
    failed = embedded.run(FLOW, seconds=60)
    assert failed.state == RunState.FAILED
    assert failed.error_text
    with embedded.open() as hub, hub.store.reading() as connection:
        from hub.store.runs import watermark

        version = hub.catalogue.flow(FLOW).version
        assert watermark(connection, FLOW, version) is None, "marked done although it failed"
    embedded.u8.behave()
    again = embedded.run(FLOW)
    assert again.state == RunState.DONE, again.error_text
    _assert_complete(embedded)


def test_a_source_that_stays_silent_fails_the_run_and_the_next_one_goes_on_behind_the_last_page(
    embedded: Rig,
) -> None:
    embedded.connections["u8"]["limits"] |= {"tries": 2, "deadline": "0.5s"}
    embedded.write_connections()
    embedded.u8.misbehave(Fault.SILENCE, LIST, after=2, times=9)
    failed = embedded.run(FLOW)
    assert (failed.state, failed.resumable, failed.page_no) == (RunState.FAILED, True, 2)
    embedded.u8.behave()
    embedded.u8.forget()
    again = embedded.run(FLOW)
    assert again.id == failed.id
    assert embedded.u8.count(LIST) == 1
    _assert_complete(embedded)


def test_a_source_that_never_stands_still_ends_loud_after_three_passes(embedded: Rig) -> None:
    embedded.u8.alter(LIST, _one_more_on_page_one, times=99)
    run = embedded.run(FLOW, seconds=60)
    assert (run.state, run.error_code) == (RunState.FAILED, "run.count_mismatch")
    assert embedded.u8.count(LIST) == 3 * 3
    embedded.u8.behave()
    again = embedded.run(FLOW)
    assert again.state == RunState.DONE
    _assert_complete(embedded)


def test_staged_rows_of_a_disturbed_read_are_read_afresh(embedded: Rig) -> None:
    embedded.u8.drift("currentstock", "delete", 1)
    run = embedded.run("u8_stock_to_crm")
    assert run.state == RunState.DONE, run.error_text
    rows = embedded.u8.ledgers["1"].stock.values()
    keys = {(row["whcode"], row["invcode"].strip()) for row in rows}
    assert run.counts["grouped"] == len(keys) == len(embedded.crm.tables["stock"].rows)


def test_an_unreachable_host_fails_with_one_clear_line(embedded: Rig) -> None:
    embedded.connections["u8"]["config"]["base_url"] = "http://127.0.0.1:9"
    embedded.write_connections()
    run = embedded.run(FLOW)
    assert run.state == RunState.FAILED
    assert run.error_text is not None
    assert "127.0.0.1:9" in run.error_text
    assert "\n" not in run.error_text


def test_no_secret_appears_in_the_error_of_a_run(embedded: Rig) -> None:
    secret = str(embedded.u8.config()["app_secret"])
    embedded.u8.alter(
        "/system/token", "replace_body", times=9, body={"errcode": "1", "errmsg": secret}
    )
    run = embedded.run(FLOW)
    assert run.error_text is not None
    assert secret not in run.error_text


def _one_more_on_page_one(body: Any, request: Request) -> Any:
    return body if request.query["page_index"] != "1" else {**body, "row_count": str(CUSTOMERS + 1)}


def _assert_complete(rig: Rig) -> None:
    """Every customer that U8 has now is in the CRM, and none was created twice."""
    in_u8 = set(rig.u8.ledgers["1"].customers)
    effects = rig.crm.effects_of("customer")
    assert in_u8 <= set(effects)
    assert rig.crm.duplicates("customer") == []
    assert set(effects.values()) == {1}
