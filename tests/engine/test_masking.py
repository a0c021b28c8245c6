"""What is marked stands as `***` wherever people look; what is stored and sent stays whole."""

from __future__ import annotations

import json

import pytest

from hub.engine.masking import MASK, MaskBook, merge_masked
from hub.engine.operations import LocalOperations
from hub.sdk.errors import ConfigError
from tests.engine.conftest import Rig
from tests.engine.letter_rig import FLOW, ME, replay_one, spoil

CANARY = "13812345678901"


def _flow(rig: Rig, more: str = "") -> None:
    rig.write_flow(
        FLOW,
        f"flow: {FLOW}\nfrom: {{connection: u8, stream: material}}\n"
        "mapping:\n  key: [code]\n  fields:\n    code: code\n"
        "    mobile: {from: name, type: int, masked: true}\n"
        f"    subject: code\n{more}to: {{connection: crm, sink: customer}}\n",
    )


def _everything(rig: Rig) -> str:
    with rig.open() as hub:
        ops = LocalOperations(hub)
        rows = ops.dead_letters({"state": "all"}, 100)["items"]
        shown = [rows, [ops.dead_letter(one["id"]) for one in rows], ops.audit({}, 100)]
        shown += [ops.replays(100)]
        return json.dumps(shown, default=str, ensure_ascii=False)


def test_a_marked_value_is_hidden_in_payload_value_and_message(embedded: Rig) -> None:
    _flow(embedded)
    spoil(embedded, 30, name="1")
    (code,) = spoil(embedded, name=f"tel {CANARY}")
    embedded.run(FLOW)
    (letter,) = embedded.letters()
    assert letter["source_key"] == code
    assert (letter["value"], letter["payload"]["name"]) == ("***", "***")
    assert letter["reason"]["en"].startswith("mobile: ")
    assert "mobile" in letter["reason"]["zh"]
    assert CANARY not in _everything(embedded)


def test_what_was_left_masked_in_an_edit_is_what_it_was(embedded: Rig) -> None:
    _flow(embedded, "    size: {from: memo, type: int}\n")
    spoil(embedded, 30, name="1", memo=1)
    (code,) = spoil(embedded, name=CANARY, memo="many")
    embedded.run(FLOW)
    (letter,) = embedded.letters()
    payload = {**letter["payload"], "memo": 3}
    with embedded.open() as hub:
        assert replay_one(hub, letter["id"], edit=payload)["state"] == "resolved"
    found = embedded.crm.find("customer", code)
    assert found is not None
    assert (found["mobile"], found["size"]) == (int(CANARY), 3)
    assert CANARY not in _everything(embedded)


def test_the_words_of_the_target_do_not_give_it_away(embedded: Rig) -> None:
    _flow(embedded)
    spoil(embedded, 30, name="1")
    embedded.write_flow(
        FLOW,
        f"flow: {FLOW}\nfrom: {{connection: u8, stream: material}}\n"
        "mapping:\n  key: [code]\n  fields:\n    code: code\n"
        "    REJECT_FIELD: {from: name, masked: true}\n"
        "to: {connection: crm, sink: customer}\n",
    )
    spoil(embedded, name=f"REJECT {CANARY}")
    embedded.run(FLOW)
    (letter,) = embedded.letters()
    assert letter["kind"] == "delivery"
    assert letter["payload"]["REJECT_FIELD"] == "***"
    assert CANARY not in _everything(embedded)


@pytest.mark.parametrize("field", ["password", "access_token", "api_key", "登录密码"])
def test_a_name_that_speaks_of_a_secret_needs_no_mark(embedded: Rig, field: str) -> None:
    _flow(embedded)
    spoil(embedded, 30, name="1")
    spoil(embedded, name="no number", **{field: CANARY})
    embedded.run(FLOW)
    (letter,) = embedded.letters()
    assert letter["payload"][field] == "***"
    assert CANARY not in _everything(embedded)


def test_a_secret_of_a_connection_is_hidden_wherever_it_turns_up(embedded: Rig) -> None:
    _flow(embedded)
    secret = (embedded.folder / "crm.secret").read_text(encoding="utf-8")
    spoil(embedded, 30, name="1")
    spoil(embedded, name="x", memo=f"use {secret} to log in")
    embedded.run(FLOW)
    assert secret not in _everything(embedded)


def test_a_connector_may_mark_fields_of_a_stream_and_of_a_sink(embedded: Rig) -> None:
    _flow(embedded)
    spoil(embedded, 30, name="1")
    spoil(embedded, name="no number", memo=CANARY)
    embedded.run(FLOW)
    with embedded.open() as hub:
        streams = hub.discovery.get("u8").manifest.streams
        streams["material"] = streams["material"].model_copy(update={"masked": ["memo"]})
        (letter,) = LocalOperations(hub).dead_letters({}, 10)["items"]
        sinks = hub.discovery.get("crm").manifest.sinks
        sinks["customer"] = sinks["customer"].model_copy(update={"masked": ["subject"]})
        assert ("subject",) in MaskBook(hub).of(FLOW).target
    assert letter["payload"]["memo"] == "***"
    assert CANARY not in str(letter)


def test_when_the_flow_is_gone_everything_is_hidden(embedded: Rig) -> None:
    _flow(embedded)
    spoil(embedded, name=CANARY + "x")
    embedded.run(FLOW)
    (embedded.folder / "mappings" / "flows" / f"{FLOW}.yaml").unlink()
    assert embedded.letters()
    assert set(embedded.letters()[0]["payload"].values()) <= {"***", None}
    assert CANARY not in _everything(embedded)


def test_an_edit_never_reaches_the_audit(embedded: Rig) -> None:
    _flow(embedded)
    spoil(embedded, 30, name="1")
    spoil(embedded, name="none")
    embedded.run(FLOW)
    (letter,) = embedded.letters()
    with embedded.open() as hub:
        replay_one(hub, letter["id"], set={"name": CANARY})
        entries = LocalOperations(hub).audit({}, 10)["items"]
    assert entries[0]["actor"] == ME
    assert entries[0]["details"]["fields"] == ["name"]
    assert CANARY not in _everything(embedded)


A, B = {"sku": "A", "pin": "1111"}, {"sku": "B", "pin": "2222"}
A_SHOWN, B_SHOWN = {"sku": "A", "pin": MASK}, {"sku": "B", "pin": MASK}


@pytest.mark.parametrize(
    ("edited", "meant"),
    [
        ([B_SHOWN], [B]),
        ([B_SHOWN, A_SHOWN], [B, A]),
        ([A_SHOWN, {"sku": "X", "pin": MASK}], [A, {"sku": "X", "pin": "2222"}]),
        ([{"sku": "N", "pin": "3"}, A_SHOWN, B_SHOWN], [{"sku": "N", "pin": "3"}, A, B]),
    ],
)
def test_what_is_masked_in_a_list_stays_with_its_item(edited: object, meant: object) -> None:
    assert merge_masked(edited, [A, B]) == meant


def test_a_secret_masked_inside_a_text_stays_what_it_was() -> None:
    original = {"note": "token s3cret, twice s3cret"}
    assert merge_masked({"note": "token ***, twice ***"}, original) == original
    many = {"note": "***a" * 5_000}
    assert merge_masked(many, {"note": "a" * 9_999}) == many
    changed = {"note": "no token ***"}
    assert merge_masked(changed, original) == changed


@pytest.mark.parametrize("edited", [[{"sku": "X", "pin": MASK}], [MASK]])
def test_a_mask_that_may_stand_for_several_values_is_refused(edited: object) -> None:
    original = [A, B] if edited != [MASK] else ["1111", "2222"]
    with pytest.raises(ConfigError) as caught:
        merge_masked(edited, original)
    assert caught.value.code == "dead_letter.edit_masked"
